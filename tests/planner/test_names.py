"""Names in a plan that takes another one's place in a run: what has run keeps its name, gates keep theirs (F5, H5)."""

from __future__ import annotations

from typing import Any

from contracts.capability import Facet
from contracts.plan import PlanGraph, definition, plan_wire
from contracts.ports import Planned, Reconsider
from tests.planner.worlds import TEXT, World, ask, cap, want

WORLD = World(
    [Facet("start", TEXT), Facet("middle", TEXT), Facet("end", TEXT)],
    [
        cap("one.middle", "middle", "start", cost=1.0),
        cap("two.middle", "middle", "start", cost=2.0),
        cap("one.end", "end", "middle"),
    ],
)
RULES = [
    {"id": "gate", "when": "before", "selector": {"kind": "call"}},
    {"id": "look", "when": "after", "selector": {"node_id": "middle"}},
    {"id": "last", "when": "output"},
]


def asked(*rules: Any) -> Any:
    """An end is wanted; by these rules people are asked on the way."""
    return ask(want(end=TEXT), inputs={"start": "s"}, policies={"hitl": list(rules)})


def names(plan: PlanGraph) -> dict[tuple[str, str | None], str]:
    """Where each gate stands, and its name."""
    return {
        (node.own["policy_id"], node.own.get("target")): node.node_id for node in plan.nodes if "guards" in node.own
    }


def test_the_same_work_keeps_its_name() -> None:
    """F5: what has run is used again, also behind gates; nothing is done twice because a plan was made again."""
    envelope = asked(*RULES)
    first = WORLD.plan(envelope)
    done = frozenset({"middle", names(first)["gate", "middle"]})
    again = WORLD.plan(envelope, Reconsider(2, present=first, completed=done))
    assert [node.node_id for node in again.nodes] == [node.node_id for node in first.nodes]
    for name in done:
        assert definition(again.by_id[name]) == definition(first.by_id[name])


def test_other_work_gets_another_name() -> None:
    """F5: a completed node never changes; who takes its place stands beside it."""
    for rules in ((), RULES):
        envelope = asked(*rules)
        first = WORLD.plan(envelope)
        done = frozenset({"middle", *(name for (_, target), name in names(first).items() if target == "middle")})
        again = WORLD.plan(envelope, Reconsider(2, frozenset({"one.middle"}), present=first, completed=done))
        assert done.isdisjoint(again.by_id)
        assert again.by_id["middle_2"].capability_id == "two.middle"
        assert {bound.node_id for bound in again.output.map.values()} <= again.by_id.keys()


def test_a_name_of_an_earlier_plan_stays_taken() -> None:
    """F5: the run has a node of that name although the present plan has none."""
    present = WORLD.plan(ask(want(middle=TEXT), inputs={"start": "s"}))
    again = WORLD.plan(asked(), Reconsider(3, present=present, completed=frozenset({"end"})))
    assert [node.node_id for node in again.nodes] == ["middle", "end_2"]


def test_gates_keep_their_names_when_a_plan_is_edited() -> None:
    """H5: the gate before a node is the same gate although the one before it is gone, and the plan came without any."""
    rule = {"id": "gate", "when": "before", "selector": {"kind": "call"}}
    both: dict[str, Any] = {
        "nodes": [
            {"node_id": name, "kind": "call", "capability_id": "one.middle"} for name in ("a", "b")
        ],
        "edges": [],
        "output": {"mode": "map", "map": {"/end": {"node_id": "b", "pointer": ""}}},
    }  # fmt: skip
    envelope = asked(rule)
    first = WORLD.planner.check(both, envelope)
    assert isinstance(first, Planned)
    held = names(first.plan)
    assert held == {("gate", "a"): "gate", ("gate", "b"): "gate_2"}
    alone = {**both, "nodes": both["nodes"][1:]}
    for sent in (alone, plan_wire(first.plan)):
        answer = WORLD.planner.check(sent, envelope, "", first.plan)
        assert isinstance(answer, Planned)
        assert names(answer.plan)["gate", "b"] == "gate_2"
    fresh = WORLD.planner.check(alone, envelope)
    assert isinstance(fresh, Planned)
    assert names(fresh.plan) == {("gate", "b"): "gate"}
