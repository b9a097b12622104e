"""A plan under construction: what every check and every rule works on before it is sealed."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache
from typing import Any

from pydantic import ValidationError

from contracts.answer import answer_schema
from contracts.capability import CapabilitySpec
from contracts.envelope import TaskEnvelope
from contracts.errors import ErrorItem, PlanInvalid
from contracts.plan import (
    ERROR_ENTRY,
    Binding,
    Edge,
    Estimate,
    Finding,
    Goal,
    KindSpec,
    KindTable,
    OutputMap,
    PlanGraph,
    PlanNode,
)
from contracts.scopes import lacking
from contracts.wire import Wire, read_model
from planner.gates import GatePlace, place_of
from planner.held import held_flows
from planner.index import CatalogueIndex
from planner.schemas import Schema, part
from planner.sources import Available, available
from planner.ungated import ungated


@dataclass(frozen=True, slots=True)
class PlanLimits:
    """What a plan may be, and how much a search may look at (``max_states``, ``max_goals``).

    ``max_fan_out`` is how many edges may leave one node, ``max_depth`` nodes of the longest path, ``max_seconds``,
    ``max_tokens`` and ``max_cost`` what the plan is expected to take without waiting for people; None: no limit.
    """

    max_nodes: int = 20_000
    max_edges: int = 100_000
    max_fan_out: int | None = None
    max_depth: int | None = None
    max_seconds: float | None = None
    max_tokens: int | None = None
    max_cost: float | None = None
    max_states: int = 20_000
    max_goals: int = 200


@dataclass(frozen=True)
class Scene:
    """Everything a plan is made for and from."""

    envelope: TaskEnvelope
    index: CatalogueIndex
    kinds: KindTable
    limits: PlanLimits
    without: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    depth: int = 0
    """how many plans stand around this one"""
    present: PlanGraph | None = None
    """the plan that this one takes the place of"""
    completed: frozenset[str] = frozenset()
    """nodes of the run that have run; their names stay theirs"""

    @cached_property
    def available(self) -> Available:
        """Return what the envelope holds (R3)."""
        return available(self.envelope, self.index)

    @cached_property
    def answer(self) -> Schema:
        """Return the schema of the whole answer."""
        facets = {facet.name: facet.schema for facet in self.index.catalogue.facets}
        return answer_schema(self.envelope.contract, facets)

    @cached_property
    def done(self) -> Mapping[str, PlanNode | None]:
        """Return the nodes that have run, as they were before gates came; None for one of an earlier plan."""
        known = {} if self.present is None else ungated(self.present, self.kinds).by_id
        return {name: known.get(name) for name in self.completed}

    @cached_property
    def gates(self) -> Mapping[GatePlace, str]:
        """Return the gates of the present plan: policy, place and target → node."""
        nodes = [] if self.present is None else self.present.nodes
        return {place_of(node): node.node_id for node in nodes if "guards" in node.own}

    def lacking(self, spec: CapabilitySpec) -> list[str]:
        """Return the scopes that a capability requires and this run was not granted (W4)."""
        scopes = self.index.scopes
        return lacking(scopes.get((spec.capability_id, spec.version), ()), self.envelope.granted) if scopes else []

    @cached_property
    def held(self) -> Mapping[str, Mapping[str, Any]]:
        """Return the fields of the nodes that run stored flows in the present plan, by capability."""
        return held_flows(self.present, self.index)

    @cached_property
    def forbidden(self) -> frozenset[str]:
        """Return the capabilities that must not be used."""
        return frozenset(self.envelope.policies.planner.selection.forbid) | self.without


@dataclass(slots=True)
class Unit:
    """A node, or the node inside a map, with what is known about it. ``pointer`` leads to it in the plan's JSON."""

    node: PlanNode
    pointer: str
    place: int
    kind: KindSpec | None = None
    own: Any = None
    spec: CapabilitySpec | None = None
    item: str | None = None
    """the parameter that gets the item, inside a map"""
    problems: list[ErrorItem] = field(default_factory=list)

    def finding(self, layer: Any, code: str, message: str, below: str = "", fix: str | None = None) -> Finding:
        """Return an error about this node."""
        return Finding(
            layer=layer, code=code, message=message, pointer=self.pointer + below, node_id=self.node.node_id, fix=fix
        )


@dataclass
class Draft:
    """Nodes, edges and output, readable by id and in topological order."""

    scene: Scene
    at: str
    units: list[Unit]
    output: OutputMap
    edges: list[Edge] = field(default_factory=list)
    inner: dict[int, Unit] = field(default_factory=dict)
    goals: list[Goal] = field(default_factory=list)
    derived: list[Finding] = field(default_factory=list)
    """findings made while missing parts were derived"""

    @cached_property
    def by_id(self) -> Mapping[str, int]:
        """Return the place of each node id (the first one wins)."""
        places: dict[str, int] = {}
        for place, unit in enumerate(self.units):
            places.setdefault(unit.node.node_id, place)
        return places

    @cached_property
    def onward(self) -> list[list[int]]:
        """Return the places each node leads to; edges that dangle are left out."""
        ways: list[list[int]] = [[] for _ in self.units]
        for edge in self.edges:
            start, end = self.by_id.get(edge.from_), self.by_id.get(edge.to)
            if start is not None and end is not None:
                ways[start].append(end)
        return ways

    @cached_property
    def order(self) -> list[int]:
        """Return the places in topological order; what a cycle holds back is missing."""
        waiting = [0] * len(self.units)
        for ends in self.onward:
            for end in ends:
                waiting[end] += 1
        order = [place for place, count in enumerate(waiting) if count == 0]
        for place in order:
            for end in self.onward[place]:
                waiting[end] -= 1
                if waiting[end] == 0:
                    order.append(end)
        return order

    def everyone(self) -> Iterator[Unit]:
        """Yield every node, each followed by the node inside it."""
        for place, unit in enumerate(self.units):
            yield unit
            if place in self.inner:
                yield self.inner[place]

    def promised(self, bound: Binding) -> Schema:
        """Return the schema that a binding to a node promises; True when nothing is promised."""
        place = self.by_id.get(bound.node_id or "")
        output = None if place is None else self.units[place].node.output
        if output is None or output.schema_ is None:
            return True
        if self.units[place or 0].node.fallback == "continue":
            # It may be an error entry, so nothing is proved.
            return {"anyOf": [output.schema_, ERROR_ENTRY]} if bound.pointer == "" else True
        try:
            return part(output.schema_, bound.pointer)
        except KeyError:
            return False

    def longest(self) -> tuple[int, int]:
        """Return the nodes and the milliseconds along the longest path (of each its own)."""
        depth, until = [1] * len(self.units), [latency(self, place) for place in range(len(self.units))]
        for place in self.order:
            for end in self.onward[place]:
                depth[end] = max(depth[end], depth[place] + 1)
                until[end] = max(until[end], until[place] + latency(self, end))
        return max(depth, default=0), max(until, default=0)

    def estimate(self) -> Estimate:
        """Return what the plan will take; a map counts its inner node once."""
        specs = [unit.spec for unit in self.everyone() if unit.spec is not None]
        inside = [expected_inside(unit) for unit in self.everyone()]
        cost = sum(spec.cost for spec in specs) + sum(one.cost for one in inside)
        tokens = sum(spec.tokens for spec in specs) + sum(one.tokens for one in inside)
        return Estimate(cost=float(cost), tokens=tokens, latency_ms=self.longest()[1])


def handlers_of(draft: Draft) -> dict[str, str]:
    """Return target → the (first) node that stands in for it when it has failed."""
    found: dict[str, str] = {}
    for unit in draft.units:
        target = None if unit.kind is None or unit.own is None else unit.kind.handles(unit.own)
        if target is not None:
            found.setdefault(target, unit.node.node_id)
    return found


def expected_inside(unit: Unit) -> Estimate:
    """Return what the plan inside a node will take, as it was estimated when that was checked."""
    told = unit.spec is not None  # what it takes is the capability's to say, and counted there
    inside = None if told or unit.kind is None or unit.own is None else unit.kind.subplan(unit.own)
    given = inside.get("estimate") if isinstance(inside, Mapping) else None
    return _NOTHING if given is None else Estimate.model_validate(given)


_NOTHING = Estimate()


def latency(draft: Draft, place: int) -> int:
    """Return the milliseconds that a node is expected to take."""
    unit = draft.inner.get(place, draft.units[place])
    return unit.spec.latency_ms if unit.spec is not None else expected_inside(unit).latency_ms


def unit_of(scene: Scene, node: PlanNode, pointer: str, place: int) -> Unit:
    """Read a node: its kind, the kind's own fields, its capability. Problems are kept in the unit, never raised."""
    unit = Unit(node, pointer, place, scene.kinds.get(node.kind))
    if unit.kind is not None:
        try:
            fields = unit.kind.fields
            unit.own = read_model(fields, node.own, PlanInvalid, pointer) if node.own else _no_fields(fields)
        except PlanInvalid as refused:
            problems = [replace(item, pointer=pointer + item.pointer) for item in refused.errors]
            unit.problems.extend(refused.errors if node.own else problems)
    unit.spec = spec_of(scene.index, node)
    return unit


@lru_cache(maxsize=256)
def _no_fields(fields: type[Wire]) -> Wire:
    """Read a kind's own fields of a node that gives none; most nodes of a long plan are alike."""
    return read_model(fields, {}, PlanInvalid)


def spec_of(index: CatalogueIndex, node: PlanNode) -> CapabilitySpec | None:
    """Return the spec a node calls: the pinned version, or the newest; None when there is none."""
    specs = index.versions.get(node.capability_id or "", [])
    if node.capability_version is None:
        return specs[0] if specs else None
    return next((spec for spec in specs if spec.version == node.capability_version), None)


def inner_of(scene: Scene, unit: Unit) -> Unit | None:
    """Return the node inside a node (the body of a map), read like any other; None when there is none."""
    if unit.kind is None or unit.own is None:
        return None
    try:
        node = unit.kind.inner(unit.own)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        path = "".join(f"/{name}" for name in first["loc"])
        unit.problems.append(ErrorItem(f"{unit.pointer}/node{path}", "inner_node_invalid", first["msg"]))
        return None
    if node is None:
        return None
    inner = unit_of(scene, node, f"{unit.pointer}/node", unit.place)
    starved = unit.kind.fed is not None and getattr(unit.own, unit.kind.fed) is None
    inner.item = None if starved else getattr(unit.own, "as_", None)
    return inner
