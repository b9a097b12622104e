"""What a gate shows and asks: a policy's rule made into a prompt for one place of the plan (H2, H3, H5)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contracts.capability import CapabilityDirectory
from contracts.envelope import HitlRule
from contracts.plan import PlanNode, plan_wire
from contracts.prompts import PromptKind, PromptSpec
from engine.asking import bound_hash
from engine.contract import RunContracts
from engine.outputs import approved_output
from engine.state import NodeState, RunState


def gate_spec(
    state: RunState, node: NodeState, inputs: Mapping[str, Any], contracts: RunContracts, directory: CapabilityDirectory
) -> tuple[PromptSpec, str | None]:
    """Return the prompt of a gate and, when it guards a node, the hash that its approval binds."""
    own = node.step.own
    rule = next(rule for rule in state.envelope.policies.gates() if rule.id == own.policy_id)
    if own.guards == "output":
        return _spec(rule, approved_output(state, node.node_id), contracts.caller.schema), None
    if own.guards == "plan":
        return _spec(rule, plan_wire(state.plan.graph), {"type": "object"}), None
    target = state.plan.steps[own.target]
    if own.guards == "after":
        return _spec(rule, inputs.get("proposed"), contracts.of(target, state.plan).shown), None
    shown = dict(inputs)
    return _spec(rule, shown, inputs_schema(target.node, directory)), bound_hash(shown, target.node)


def _spec(rule: HitlRule, proposed: Any, schema: Any) -> PromptSpec:
    """Return the rule's prompt; an ``answer_schema`` is only needed by actions that carry an answer."""
    kind = rule.prompt_kind()
    return PromptSpec(
        kind=kind,
        question=rule.question,
        proposed=proposed,
        answer_schema=schema if kind is not PromptKind.PLAN_REVIEW else {"type": "object"},
        assignees=rule.assignees,
        quorum=rule.quorum,
        due_seconds=rule.due_seconds,
        on_timeout=rule.on_timeout,
        policy_id=rule.id,
    )


def inputs_schema(node: PlanNode, directory: CapabilityDirectory) -> dict[str, Any]:
    """Return the JSON Schema of a node's bound inputs, from the facets of its capability's parameters."""
    if node.kind == "map":
        over = {"over": {"type": "array"}}
        return {"type": "object", "properties": over, "required": ["over"], "additionalProperties": False}
    catalogue = directory.catalogue()
    facets = {facet.name: facet.schema for facet in catalogue.facets}
    spec = next((spec for spec in catalogue.capabilities if spec.capability_id == node.capability_id), None)
    consumes = spec.consumes if spec is not None else {}
    properties = {name: facets.get(consumes[name].facet, True) if name in consumes else True for name in node.inputs}
    required = [name for name in node.inputs if name not in consumes or consumes[name].required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
