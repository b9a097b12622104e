"""The inputs of a node written by hand: a plan with literal values in their place (docs/decisions/0006, forks)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contracts.capability import CapabilitySpec, Catalogue
from contracts.errors import ErrorItem, ForkInvalid
from contracts.plan import Binding, PlanGraph, PlanNode
from contracts.schema import compile_schema
from contracts.wire import pointer_of
from engine.kinds import BY_NAME

COUNT = "count"
"""What a batch capability takes besides its parameters."""


def with_inputs(
    graph: PlanGraph, node_id: str, inputs: Mapping[str, Any], catalogue: Catalogue
) -> tuple[PlanGraph, set[str]]:
    """Return the plan's next version in which these inputs of a node are these values, and the nodes that changed.

    A gate before the node is asked about what would run, so the values are its inputs; gates on the plan are about all
    of it. Both count as changed. Raises ``ForkInvalid`` (``/inputs/<name>``) for an input that the node does not take
    and for a value that does not fit.
    """
    node = graph.by_id[node_id]
    findings = [item for name, value in inputs.items() for item in _findings(node, name, value, catalogue)]
    if findings:
        raise ForkInvalid("The inputs do not fit what the node takes.", errors=findings)
    nodes = graph.by_id.copy()
    changed = {node.node_id for node in graph.nodes if node.own.get("guards") == "plan"}
    for name, value in inputs.items():
        place = _place(nodes, node_id, name)
        nodes[place] = _with_literal(nodes[place], name, value)
        changed.add(place)
    members = {name: getattr(graph, name) for name in PlanGraph.model_fields}
    members |= {"nodes": list(nodes.values()), "plan_version": graph.plan_version + 1}
    return PlanGraph.model_construct(**members).sealed(), changed


def _findings(node: PlanNode, name: str, value: Any, catalogue: Catalogue) -> list[ErrorItem]:
    at, fed = pointer_of(["inputs", name]), BY_NAME[node.kind].spec.fed
    if fed is not None:
        return [] if name == fed else [ErrorItem(at, "unknown_param", f"It takes {fed}.")]
    spec = _spec(node, catalogue)
    if spec is None or spec.generic or not spec.consumes or (spec.batch and name == COUNT):
        return []
    param = spec.consumes.get(name)
    if param is None:
        message = f"{spec.capability_id!r} takes no {name!r}; it takes {', '.join(sorted(spec.consumes))}."
        return [ErrorItem(at, "unknown_param", message)]
    schema = next((facet.schema for facet in catalogue.facets if facet.name == param.facet), True)
    found = compile_schema(dict(schema) if isinstance(schema, Mapping) else schema).explain(value)
    return [ErrorItem(at + item.pointer, item.keyword, item.message) for item in found]


def _spec(node: PlanNode, catalogue: Catalogue) -> CapabilitySpec | None:
    known = (spec for spec in catalogue.capabilities if spec.capability_id == node.capability_id)
    return next((spec for spec in known if node.capability_version in (None, spec.version)), None)


def _place(nodes: Mapping[str, PlanNode], node_id: str, name: str) -> str:
    """Return the node whose input is written: the first of the gates that pass it on, or the node itself."""
    place = node_id
    while True:
        bound = _binding(nodes[place], name)
        gate = None if bound is None else nodes.get(bound.node_id or "")
        if gate is None or gate.own.get("guards") != "before" or gate.own.get("target") != node_id:
            return place
        place = gate.node_id


def _binding(node: PlanNode, name: str) -> Binding | None:
    if name in node.inputs:
        return node.inputs[name]
    given = node.own.get(name) if BY_NAME[node.kind].spec.fed == name else None
    return None if given is None else Binding.model_validate(given)


def _with_literal(node: PlanNode, name: str, value: Any) -> PlanNode:
    if BY_NAME[node.kind].spec.fed == name:
        return node.model_copy(update={name: {"value": value}})
    return node.model_copy(update={"inputs": {**node.inputs, name: Binding(value=value)}})
