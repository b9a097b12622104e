"""An oracle of its own for the order of a plan: what may start, and what must be skipped, read from the log (F6)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from tests.simulation.evidence import Evidence, Json, RunEvidence

CONDITION = re.compile(r'nodes\["(\w+)"\]\.ok')
"""The only condition that simulated plans put on edges."""
OWN_REASONS = ("condition_false", "upstream_skipped")


@dataclass(frozen=True)
class Way:
    """One edge into a node: whence, on which side of a branch, under a condition or not."""

    start: str
    side: bool | None
    conditional: bool

    @property
    def decides(self) -> bool:
        return self.conditional or self.side is not None


@dataclass
class Map:
    """What a plan says of the ways into each node."""

    ways: dict[str, list[Way]] = field(default_factory=dict)
    first_is_enough: set[str] = field(default_factory=set)

    @classmethod
    def of(cls, plan: Json) -> Map:
        """Read a plan as it stands in a frame."""
        found = cls(first_is_enough={node["node_id"] for node in plan["nodes"] if node.get("wait") == "any"})
        kinds = {node["node_id"]: node["kind"] for node in plan["nodes"]}
        sides = {
            (node["node_id"], target): side
            for node in plan["nodes"]
            for name, side in (("then", True), ("else", False), ("else_", False))
            for target in node.get(name, ())
        }
        for edge in plan["edges"]:
            side = sides.get((edge["from"], edge["to"]))
            way = Way(edge["from"], side, edge["condition"] is not None)
            found.ways.setdefault(edge["to"], []).append(way)
        for node_id, ways in found.ways.items():
            if kinds[node_id] != "join" and any(way.decides for way in ways):
                found.ways[node_id] = [way for way in ways if way.decides]
        found.all = {edge["to"]: set() for edge in plan["edges"]}
        for edge in plan["edges"]:
            found.all[edge["to"]].add(edge["from"])
        return found

    all: dict[str, set[str]] = field(default_factory=dict)
    """node → everything it comes after, whether that decides about it or only brings data"""


def check(evidence: Evidence) -> Iterator[str]:
    """Yield every node that started too early, or although nothing led to it, or was skipped although something did."""
    for run in evidence.runs.values():
        for fault in _walk(run):
            yield f"{run.run_id}: {fault}"


def _walk(run: RunEvidence) -> Iterator[str]:
    plan, ended, outputs = Map(), dict[str, str](), dict[str, Json]()
    for frame in run.frames:
        kind, node_id = frame["type"], frame["node_id"]
        if kind in ("plan_generated", "plan_updated"):
            plan = Map.of(frame["payload"]["plan"])
        elif node_id in plan.ways and kind in ("node_start", "node_skipped") and not frame["payload"].get("resumed"):
            yield from _judged(frame, plan, ended, outputs)
        if kind in ("node_complete", "node_skipped"):
            ended[node_id] = kind
            outputs[node_id] = frame["payload"].get("output")


def _judged(frame: Json, plan: Map, ended: dict[str, str], outputs: dict[str, Json]) -> Iterator[str]:
    node_id = frame["node_id"]
    taken = [_taken(way, ended, outputs) for way in plan.ways[node_id]]
    missing = sorted(plan.all[node_id] - ended.keys())
    if frame["type"] == "node_start":
        if missing and node_id not in plan.first_is_enough:
            yield f"{node_id} started (frame {frame['id']}) before {missing} ended"
        if not any(taken):
            yield f"{node_id} started (frame {frame['id']}) and no way leads to it"
    elif frame["payload"]["reason"] in OWN_REASONS and (missing or any(taken)):
        yield f"{node_id} was skipped (frame {frame['id']}), {missing} had not ended, ways taken: {taken}"


def _taken(way: Way, ended: dict[str, str], outputs: dict[str, Json]) -> bool:
    if ended.get(way.start) != "node_complete":
        return False
    output = outputs[way.start]
    if way.side is not None and output["taken"] is not way.side:
        return False
    return not way.conditional or bool(output.get("ok", True))
