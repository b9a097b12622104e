"""The stored flows that a run's plan has: a new plan for the run goes on with the versions that the run began with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from contracts.plan import PlanGraph, PlanNode
from planner.index import CatalogueIndex


def held_flows(present: PlanGraph | None, index: CatalogueIndex) -> Mapping[str, Mapping[str, Any]]:
    """Return capability → the fields of the node that runs it in the present plan.

    Only where that takes and gives what the capability takes and gives now; else the new version is other work.
    """
    if present is None or not index.flows:
        return {}
    found: dict[str, dict[str, Any]] = {}
    for node in _flows(present):
        spec = index.active.get(node.capability_id or "")
        if spec is not None and node.inputs.keys() <= spec.consumes.keys() and _gives(node) == list(spec.produces):
            own: dict[str, Any] = {name: value for name, value in node.own.items() if name in ("plan", "objective")}
            found[spec.capability_id] = {**own, "capability_version": node.capability_version, "effects": node.effects}
    return found


def _gives(node: PlanNode) -> list[str]:
    output = node.output
    if output is None:
        return []
    return output.facets or ([] if output.facet is None else [output.facet])


def _flows(plan: PlanGraph) -> Iterator[PlanNode]:
    for node in plan.nodes:
        inner = node.own.get("node")
        if isinstance(inner, dict) and inner.get("plan") is not None:
            yield PlanNode.model_validate({"node_id": node.node_id, **inner})
        elif node.capability_id is not None and node.own.get("plan") is not None:
            yield node
