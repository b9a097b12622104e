"""A plan made ready to walk: every lookup that a step needs, done once per plan and shared by its runs (design §4).

Compiled plans are immutable and cached by plan hash, so a thousand runs of one plan hold one copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from contracts.expressions import CompiledCondition, compile_cel
from contracts.plan import Binding, Edge, PlanGraph, PlanNode
from contracts.wire import Wire
from engine.kinds.base import Kind


@dataclass(frozen=True, slots=True)
class Way:
    """An edge seen from its start: where it leads, and when it is taken (a condition, or a side of a branch)."""

    to: str
    condition: CompiledCondition | None = None
    side: bool | None = None
    counts: bool = True
    """whether taking it makes the target run; an edge that only brings data does not overrule one that decides"""

    @property
    def decides(self) -> bool:
        """Say whether it may be refused although its start completed."""
        return self.condition is not None or self.side is not None


@dataclass(frozen=True, slots=True)
class Step:
    """A node of the plan with its kind, the kind's own fields, and the ways out of it."""

    node: PlanNode
    kind: Kind
    own: Any
    ways: tuple[Way, ...]
    indegree: int
    max_attempts: int
    timeout_seconds: float
    guards: str | None = None
    """what a gate guards: ``plan`` | ``before`` | ``after`` | ``output``"""
    reads: tuple[str, ...] | None = ()
    """nodes whose outputs the kind's own condition reads; None means any"""

    @property
    def node_id(self) -> str:
        """Return the node's id."""
        return self.node.node_id

    @property
    def recorded(self) -> bool:
        """Say whether the ways taken must be recorded, because conditions could read differently later."""
        return any(way.condition is not None for way in self.ways)


@dataclass(frozen=True, slots=True)
class CompiledPlan:
    """The plan, its steps by id, and where to start."""

    graph: PlanGraph
    steps: Mapping[str, Step]
    roots: tuple[str, ...]
    output_gates: tuple[str, ...]
    guarded: Mapping[str, str] = field(default_factory=dict)
    """target node → the gate that approves its inputs (H5)"""


def compile_plan(graph: PlanGraph, kinds: Mapping[str, Kind], attempts: int, timeout: float) -> CompiledPlan:
    """Return the plan ready to walk; ``attempts`` and ``timeout`` (seconds) are the envelope's defaults.

    The plan must have passed validation: unknown kinds or edges are programming errors here.
    """
    outgoing: dict[str, list[Edge]] = {node.node_id: [] for node in graph.nodes}
    indegree = dict.fromkeys(outgoing, 0)
    for edge in graph.edges:
        outgoing[edge.from_].append(edge)
        indegree[edge.to] += 1
    steps = {
        node.node_id: compile_step(node, kinds, attempts, timeout, outgoing[node.node_id], indegree[node.node_id])
        for node in graph.nodes
    }
    return CompiledPlan(
        graph=graph,
        steps=_weighed(steps),
        roots=tuple(node_id for node_id, count in indegree.items() if count == 0),
        output_gates=tuple(node.node_id for node in graph.nodes if node.own.get("guards") == "output"),
        guarded={node.own["target"]: node.node_id for node in graph.nodes if node.own.get("guards") == "before"},
    )


def _weighed(steps: dict[str, Step]) -> dict[str, Step]:
    """Let conditions and sides alone decide about the nodes they lead to; a join takes every way in alike."""
    decided = {way.to for step in steps.values() for way in step.ways if way.decides}
    decided -= {node_id for node_id in decided if steps[node_id].kind.spec.name == "join"}
    weighed = {}
    for step in steps.values():
        if any(way.to in decided and not way.decides for way in step.ways):
            ways = (replace(way, counts=way.decides or way.to not in decided) for way in step.ways)
            weighed[step.node_id] = replace(step, ways=tuple(ways))
    return {**steps, **weighed}


def compile_step(
    node: PlanNode,
    kinds: Mapping[str, Kind],
    attempts: int,
    timeout: float,
    edges: Sequence[Edge] = (),
    indegree: int = 0,
) -> Step:
    """Return one node ready to walk; map items are compiled alone, without edges."""
    kind = kinds[node.kind]
    own = kind.spec.fields.model_validate(node.own)
    sides = _sides(own)
    return Step(
        node=node,
        kind=kind,
        own=own,
        ways=tuple(
            Way(edge.to, compile_cel(edge.condition) if edge.condition else None, sides.get(edge.to)) for edge in edges
        ),
        indegree=indegree,
        max_attempts=node.max_attempts or attempts,
        timeout_seconds=node.timeout_seconds or timeout,
        guards=getattr(own, "guards", None),
        reads=_reads(own),
    )


def _reads(own: Wire) -> tuple[str, ...] | None:
    """Return the nodes that the kind's own condition mentions; a computed name could be any."""
    condition = getattr(own, "condition", None)
    return () if condition is None else tuple(sorted(compile_cel(condition).names)) or None


def _sides(own: Wire) -> dict[str, bool]:
    """Return which side of a branch leads to which node; empty for every other kind."""
    sides: dict[str, bool] = {}
    for name, side in (("then", True), ("else_", False)):
        targets = getattr(own, name, None) or []
        for target in [targets] if isinstance(targets, str) else targets:
            sides[target] = side
    return sides


def item_node(parent: PlanNode, inner: PlanNode, index: int, parameter: str, item: Any) -> PlanNode:
    """Return the node that runs for one item of a map: ``name[index]`` with the item bound to ``parameter``."""
    inputs = {**inner.inputs, parameter: Binding(value=item)}
    return inner.model_copy(update={"node_id": f"{parent.node_id}[{index}]", "inputs": inputs})
