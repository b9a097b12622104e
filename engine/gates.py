"""What a gate shows and asks: a policy's rule made into a prompt for one place of the plan (H2, H3, H5)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from contracts.capability import CapabilityDirectory, identity
from contracts.envelope import HitlRule
from contracts.plan import PlanNode, plan_wire
from contracts.prompts import PromptKind, PromptPolicy, PromptSpec
from engine.approvals import digest
from engine.contract import RunContracts
from engine.kinds import BY_NAME
from engine.outputs import approved_output
from engine.state import NodeState, RunState

MAX_QUESTION: Final = 4_000


@dataclass(frozen=True, slots=True)
class Question:
    """A gate's prompt; ``covers`` and ``shown_as`` are what its approval binds when it guards a node's inputs (H5)."""

    spec: PromptSpec
    covers: str | None = None
    shown_as: str | None = None


def gate_question(
    state: RunState, node: NodeState, inputs: Mapping[str, Any], contracts: RunContracts, directory: CapabilityDirectory
) -> Question:
    """Return what a gate asks; one that asks again says why, and shows what would run now."""
    own = node.step.own
    rule = next(rule for rule in state.envelope.policies.gates() if rule.id == own.policy_id)
    why = state.ledger.again.get(node.node_id)
    if own.guards == "output":
        return Question(_spec(rule, approved_output(state, node.node_id), contracts.caller.schema, why))
    if own.guards == "plan":
        return Question(_spec(rule, plan_wire(state.plan.graph), {"type": "object"}, why))
    target = state.plan.steps[own.target]
    if own.guards == "after":
        return Question(_spec(rule, inputs.get("proposed"), contracts.of(target, state.plan).shown, why))
    shown = dict(inputs) if node.offered is None else node.offered
    version = _version(state, target.node)
    spec = _spec(rule, shown, inputs_schema(target.node, directory, version), why)
    return Question(spec, digest(state, own.target, shown), shown_as(target.node, directory, version))


def _version(state: RunState, node: PlanNode) -> str | None:
    """Return the capability version that a node runs with now."""
    begun = state.nodes.get(node.node_id)
    return (begun.version if begun is not None else None) or node.capability_version


def shown_as(node: PlanNode, directory: CapabilityDirectory, version: str | None) -> str | None:
    """Return what stands behind the capability of a node, or of the node inside it; None while nothing does."""
    spec = BY_NAME[node.kind].spec
    inner = spec.inner(spec.fields.model_validate(node.own)) if "node" in node.own else None
    called = inner or node
    name = called.capability_id
    if name is None:
        return None
    capability = directory.find(name, version if inner is None else inner.capability_version)
    return None if capability is None else identity(capability)


def _spec(rule: HitlRule, proposed: Any, schema: Any, why: str | None) -> PromptSpec:
    """Return the rule's prompt; an ``answer_schema`` is only needed by actions that carry an answer."""
    kind = rule.prompt_kind()
    policy = {name: getattr(rule, name) for name in PromptPolicy.model_fields if name in rule.model_fields_set}
    return PromptSpec(
        kind=kind,
        question=rule.question if why is None else f"{rule.question}\n\n{why}"[:MAX_QUESTION],
        proposed=proposed,
        answer_schema=schema if kind is not PromptKind.PLAN_REVIEW else {"type": "object"},
        policy_id=rule.id,
        **policy,
    )


def inputs_schema(node: PlanNode, directory: CapabilityDirectory, version: str | None = None) -> dict[str, Any]:
    """Return the JSON Schema of a node's bound inputs, from the facets of its capability's parameters."""
    fed = BY_NAME[node.kind].spec.fed
    if fed is not None:
        given = {fed: {"type": "array"} if node.kind == "map" else True} if fed in node.own else {}
        return {"type": "object", "properties": given, "required": list(given), "additionalProperties": False}
    catalogue = directory.catalogue()
    facets = {facet.name: facet.schema for facet in catalogue.facets}
    specs = [spec for spec in catalogue.capabilities if spec.capability_id == node.capability_id]
    spec = next((spec for spec in specs if spec.version == version), next(iter(specs), None))
    consumes = spec.consumes if spec is not None else {}
    properties = {name: facets.get(consumes[name].facet, True) if name in consumes else True for name in node.inputs}
    required = [name for name in node.inputs if name not in consumes or consumes[name].required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}
