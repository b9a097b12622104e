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
    on_error: bool = False
    """it is taken when its start has failed, and then only"""
    counts: bool = True
    """whether taking it makes the target run; an edge that only brings data does not overrule one that decides"""

    @property
    def decides(self) -> bool:
        """Say whether it may be refused although its start completed."""
        return self.condition is not None or self.side is not None or self.on_error


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
    node_id: str = field(init=False)
    once: bool = field(init=False)
    """whether an attempt does something that must not be repeated; a map itself only unfolds"""
    first_is_enough: bool = field(init=False)
    """whether it is a join that runs as soon as one way in was taken"""
    recorded: bool = field(init=False)
    """whether the ways taken must be recorded, because conditions could read differently later"""
    handled: str | None = field(init=False)
    """the node that this one stands in for when it has failed"""
    completed_ways: tuple[tuple[Way, bool], ...] | None = field(init=False)
    """its ways, and whether each is taken once it completed; None: its output or a condition decides"""

    def __post_init__(self) -> None:
        """Work out once per plan what every run asks of every node."""
        recorded = any(way.condition is not None for way in self.ways)
        decided = recorded or any(way.side is not None for way in self.ways)
        for name, value in (
            ("node_id", self.node.node_id),
            ("once", self.node.effects == "once" and not self.kind.pure),
            ("first_is_enough", self.kind.spec.name == "join" and self.own.wait == "any"),
            ("recorded", recorded),
            ("handled", self.kind.spec.handles(self.own)),
            ("completed_ways", None if decided else tuple((way, not way.on_error) for way in self.ways)),
        ):
            object.__setattr__(self, name, value)


@dataclass(frozen=True, slots=True)
class CompiledPlan:
    """The plan, its steps by id, and where to start."""

    graph: PlanGraph
    steps: Mapping[str, Step]
    roots: tuple[str, ...]
    output_gates: tuple[str, ...]
    guarded: Mapping[str, str] = field(default_factory=dict)
    """target node → the gate that has the last word on its inputs (H5)"""
    plan_gates: tuple[str, ...] = ()
    """the gates that review the plan itself"""
    facets: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """facet → the nodes whose output it is, or is a part of, in the plan's order"""
    losers: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """join for the first → the nodes that lead to nothing but it, in the plan's order"""
    loses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """node → the joins it is a loser of"""
    handlers: Mapping[str, str] = field(default_factory=dict)
    """node → the node that stands in for it when it has failed"""


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
    handlers = _handlers(steps)
    losers = _losers(graph, steps)
    loses: dict[str, tuple[str, ...]] = {}
    for join, nodes in losers.items():
        for node_id in nodes:
            loses[node_id] = (*loses.get(node_id, ()), join)
    return CompiledPlan(
        graph=graph,
        steps=_weighed(steps),
        losers=losers,
        loses=loses,
        roots=tuple(node_id for node_id, count in indegree.items() if count == 0),
        output_gates=tuple(node.node_id for node in graph.nodes if node.own.get("guards") == "output"),
        guarded=_guarded(graph),
        plan_gates=tuple(node.node_id for node in graph.nodes if node.own.get("guards") == "plan"),
        facets=_facets(graph),
        handlers=handlers,
    )


def _handlers(steps: dict[str, Step]) -> dict[str, str]:
    """Return target → handler, and make the way from the one to the other one that a failure takes."""
    found = {}
    for step in list(steps.values()):
        target = step.handled
        if target is not None:
            found[target] = step.node_id
            start = steps[target]
            ways = (replace(way, on_error=way.on_error or way.to == step.node_id) for way in start.ways)
            steps[target] = replace(start, ways=tuple(ways))
    return found


def _guarded(graph: PlanGraph) -> dict[str, str]:
    """Return target → gate; of several gates before one node the last one, which leads to it, has the last word."""
    targets = {node.node_id: node.own["target"] for node in graph.nodes if node.own.get("guards") == "before"}
    return {edge.to: edge.from_ for edge in graph.edges if targets.get(edge.from_) == edge.to}


def _facets(graph: PlanGraph) -> dict[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for node in graph.nodes:
        if node.output is not None:
            for facet in [node.output.facet] if node.output.facet is not None else node.output.facets or []:
                found[facet] = (*found.get(facet, ()), node.node_id)
    return found


def _losers(graph: PlanGraph, steps: Mapping[str, Step]) -> dict[str, tuple[str, ...]]:
    """Return, per join that takes the first, the nodes before it whose output nothing else can ever use."""
    joins = [step.node_id for step in steps.values() if step.first_is_enough]
    if not joins:
        return {}
    before: dict[str, list[str]] = {node_id: [] for node_id in steps}
    for edge in graph.edges:
        before[edge.to].append(edge.from_)
    answers = {bound.node_id for bound in graph.output.map.values()}
    found = {}
    for join in joins:
        elsewhere: dict[str, int] = {}
        line, inside = [join], set()
        while line:
            for node_id in before[line.pop()]:
                elsewhere[node_id] = elsewhere.get(node_id, len(steps[node_id].ways)) - 1
                if elsewhere[node_id] == 0 and node_id not in answers and not _must_ask(steps[node_id], join):
                    inside.add(node_id)
                    line.append(node_id)
        found[join] = tuple(node_id for node_id in steps if node_id in inside)
    return found


def _must_ask(step: Step, join: str) -> bool:
    """Say whether a gate is needed although the join has its first: it reviews the plan, or guards the join itself."""
    return step.guards == "plan" or (step.guards == "before" and step.own.target == join)


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


def item_node(parent: PlanNode, inner: PlanNode, index: int, parameter: str | None, item: Any) -> PlanNode:
    """Return the node that runs for one item: ``name[index]`` with the item bound to ``parameter``, if there is one."""
    inputs = inner.inputs if parameter is None else {**inner.inputs, parameter: Binding(value=item)}
    return inner.model_copy(update={"node_id": f"{parent.node_id}[{index}]", "inputs": inputs})
