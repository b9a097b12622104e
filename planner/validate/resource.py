"""Layer 4, resource: nodes, edges, depth, kinds, and the estimate against the limits (W4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from contracts.plan import Estimate, Finding
from planner.draft import Draft
from planner.index import PEOPLE

_TOPOLOGY: Final = "/policies/planner/topology"


def size(draft: Draft) -> Iterator[Finding]:
    """More nodes or edges than this service takes."""
    limits = draft.scene.limits
    for name, count, most in (
        ("nodes", len(draft.units), limits.max_nodes),
        ("edges", len(draft.edges), limits.max_edges),
    ):
        if count > most:
            message = f"The plan has {count:,} {name}; this service takes {most:,}."
            yield Finding(layer="resource", code=f"too_many_{name}", message=message, pointer=f"{draft.at}/{name}")


def width(draft: Draft) -> Iterator[Finding]:
    """A node that more edges leave than this service takes."""
    most = draft.scene.limits.max_fan_out
    for place, ways in enumerate(draft.onward):
        if most is not None and len(ways) > most:
            message = f"{len(ways):,} edges leave this node; this service takes {most:,}."
            yield draft.units[place].finding("resource", "too_wide", message, fix="Use a map, or steps in between.")


def length(draft: Draft) -> Iterator[Finding]:
    """A longer path than this service takes."""
    most = draft.scene.limits.max_depth
    if most is not None and len(draft.units) > most and (deep := draft.longest()[0]) > most:
        message = f"The longest path has {deep:,} nodes; this service takes {most:,}."
        yield Finding(layer="resource", code="too_long", message=message, pointer=draft.at)


def _over_limits(draft: Draft, expected: Estimate, seconds: float) -> Iterator[Finding]:
    limits = draft.scene.limits
    rows: tuple[tuple[str, str, float, float | None], ...] = (
        ("too_slow", "seconds", seconds, limits.max_seconds),
        ("too_many_tokens", "tokens", expected.tokens, limits.max_tokens),
        ("too_expensive", "of cost", expected.cost, limits.max_cost),
    )
    for code, what, amount, most in rows:
        if most is not None and amount > most:
            message = f"The plan is expected to take {amount:g} {what}; this service takes {most:g}."
            yield Finding(layer="resource", code=code, message=message, pointer=draft.at)


def _asks_people(draft: Draft) -> bool:
    return any(PEOPLE in unit.spec.requires for unit in draft.everyone() if unit.spec is not None)


def topology(draft: Draft) -> Iterator[Finding]:
    """More nodes, or a longer path, than the envelope allows. Gates are not counted."""
    asked = draft.scene.envelope.policies.planner.topology
    count = sum("guards" not in unit.node.own for unit in draft.units)
    if asked.max_nodes is not None and count > asked.max_nodes:
        message = f"The plan needs {count:,} nodes; {asked.max_nodes:,} are allowed."
        yield Finding(layer="resource", code="max_nodes", message=message, pointer=f"{_TOPOLOGY}/max_nodes")
    if asked.max_depth is not None:
        depth = draft.longest()[0]
        if depth > asked.max_depth:
            message = f"The longest path has {depth:,} nodes; {asked.max_depth:,} are allowed."
            yield Finding(layer="resource", code="max_depth", message=message, pointer=f"{_TOPOLOGY}/max_depth")


def kinds(draft: Draft) -> Iterator[Finding]:
    """A kind that the envelope forbids, or one that it requires and the plan lacks. Gates are not counted."""
    asked = draft.scene.envelope.policies.planner.topology
    if not asked.forbidden_kinds and not asked.required_kinds:
        return
    used = set()
    for unit in draft.everyone():
        if "guards" in unit.node.own:
            continue
        used.add(unit.node.kind)
        if unit.node.kind in asked.forbidden_kinds:
            yield unit.finding("resource", "forbidden_kind", f"The kind {unit.node.kind!r} is forbidden here.", "/kind")
    for place, name in enumerate(asked.required_kinds):
        if name not in used:
            pointer = f"{_TOPOLOGY}/required_kinds/{place}"
            message = f"The plan has no {name!r} node, and one is required."
            yield Finding(layer="resource", code="required_kind", message=message, pointer=pointer)


def estimate(draft: Draft) -> Iterator[Finding]:
    """A plan that is expected to take more than this service takes, or (a warning) than its budget or its time."""
    policies = draft.scene.envelope.policies
    expected = draft.estimate()
    # Waiting for people is not time that the run spends.
    seconds = 0 if _asks_people(draft) else expected.latency_ms / 1_000
    yield from _over_limits(draft, expected, seconds)
    rows: tuple[tuple[str, float, float | None, str], ...] = (
        ("cost", expected.cost, policies.budget.cost, "/policies/budget/cost"),
        ("tokens", expected.tokens, policies.budget.tokens, "/policies/budget/tokens"),
        ("seconds", seconds, policies.timeouts.run_seconds, "/policies/timeouts/run_seconds"),
    )
    for name, amount, most, pointer in rows:
        if most is not None and amount > most:
            message = f"The plan is expected to take {amount:g} {name}; {most:g} are allowed."
            yield Finding(layer="resource", code="over_estimate", severity="warning", message=message, pointer=pointer)


CHECKS: Final = (size, width, length, topology, kinds, estimate)
