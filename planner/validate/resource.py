"""Layer 4, resource: nodes, edges, depth, kinds, and the estimate against the limits (W4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from contracts.plan import Finding
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
    """A plan that is expected to spend more than its budget or its time."""
    policies = draft.scene.envelope.policies
    expected = draft.estimate()
    # Waiting for people is not time that the run spends.
    asks = any(PEOPLE in unit.spec.requires for unit in draft.everyone() if unit.spec is not None)
    rows: tuple[tuple[str, float, float | None, str], ...] = (
        ("cost", expected.cost, policies.budget.cost, "/policies/budget/cost"),
        ("tokens", expected.tokens, policies.budget.tokens, "/policies/budget/tokens"),
        (
            "seconds",
            0 if asks else expected.latency_ms / 1_000,
            policies.timeouts.run_seconds,
            "/policies/timeouts/run_seconds",
        ),
    )
    for name, amount, most, pointer in rows:
        if most is not None and amount > most:
            message = f"The plan is expected to take {amount:g} {name}; {most:g} are allowed."
            yield Finding(layer="resource", code="over_estimate", severity="warning", message=message, pointer=pointer)


CHECKS: Final = (size, topology, kinds, estimate)
