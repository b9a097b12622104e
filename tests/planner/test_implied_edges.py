"""Edges that nobody wrote: what reads a node's output runs after it, conditions included (wire §5a, F6)."""

from typing import Any

from contracts.plan import PlanGraph
from tests.planner.test_findings import codes, good, plan_of, submit


def ways(plan: PlanGraph) -> set[tuple[str, str]]:
    return {(edge.from_, edge.to) for edge in plan.edges}


def choosing(condition: str, edges: list[dict[str, Any]]) -> dict[str, Any]:
    """`a`, a branch `side` that has no other tie to it, and `b` on its then side."""
    plan = good()
    plan["nodes"].append({"node_id": "side", "kind": "branch", "condition": condition, "then": "b"})
    plan["edges"] = edges
    return plan


def test_a_branch_runs_after_every_node_that_its_condition_mentions() -> None:
    """Without the edge the condition would be read before there is anything to read."""
    plan = plan_of(submit(choosing("nodes.a == 'x'", [])))
    assert {("a", "side"), ("side", "b"), ("a", "b")} == ways(plan)


def test_an_edges_condition_waits_for_what_it_mentions() -> None:
    plan = good()
    plan["nodes"].append({"node_id": "first", "kind": "join"})
    plan["edges"] = [{"from": "a", "to": "b", "condition": "nodes.first == nodes.a"}]
    assert ("first", "a") in ways(plan_of(submit(plan)))


def test_a_condition_that_reads_what_comes_after_it_is_a_cycle() -> None:
    assert "cycle" in codes(submit(choosing("nodes.b == 'x'", [])))
