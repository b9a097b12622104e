"""Gates: where policies ask people, in the exact shape (R8, H5, H6)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.capability import Facet
from contracts.plan import PlanGraph, plan_wire
from contracts.ports import Planned, Unplannable
from tests.planner.worlds import NAMES, TEXT, World, ask, cap, want

WORLD = World(
    [Facet("text", TEXT), Facet("texts", NAMES)],
    [cap("up", "text", "text"), cap("send", "text", "text", effects="once"), cap("list", "texts", "text")],
)


def call(name: str, source: str, capability: str = "up", **rest: Any) -> dict[str, Any]:
    bound = {"from": source} if source.startswith("/") else {"node_id": source}
    return {"node_id": name, "kind": "call", "capability_id": capability, "inputs": {"text": bound}, **rest}


DIAMOND = {
    "nodes": [call("a", "/inputs/text"), call("b", "a", "send"), call("c", "a"), call("d", "b")],
    "edges": [{"from": "a", "to": "b", "condition": "nodes.a == 'X'"}, {"from": "c", "to": "d"}],
    "output": {"map": {"/t": {"node_id": "d"}, "/u": {"node_id": "b"}}},
}


def check(plan: dict[str, Any], *rules: dict[str, Any]) -> Planned | Unplannable:
    return WORLD.planner.check(
        plan, ask(want(t=TEXT), inputs={"text": "x", "list": ["x"]}, policies={"hitl": list(rules)})
    )


def gated(plan: dict[str, Any], *rules: dict[str, Any]) -> PlanGraph:
    answer = check(plan, *rules)
    assert isinstance(answer, Planned), answer
    return answer.plan


def ways(plan: PlanGraph) -> set[tuple[str, str]]:
    return {(edge.from_, edge.to) for edge in plan.edges}


def shown(plan: PlanGraph, node_id: str) -> dict[str, Any]:
    return next(dict(node) for node in plan_wire(plan)["nodes"] if node["node_id"] == node_id)


def test_before_shows_the_inputs_and_hands_them_on() -> None:
    plan = gated(DIAMOND, {"id": "g", "when": "before", "selector": {"node_id": "b"}})
    assert shown(plan, "g") == {
        "node_id": "g",
        "kind": "ask",
        "policy_id": "g",
        "guards": "before",
        "target": "b",
        "inputs": {"text": {"node_id": "a", "pointer": ""}},
    }
    assert shown(plan, "b")["inputs"] == {"text": {"node_id": "g", "pointer": "/text"}}
    assert ways(plan) == {("a", "g"), ("g", "b"), ("a", "c"), ("b", "d"), ("c", "d")}
    assert next(edge.condition for edge in plan.edges if edge.to == "g") == "nodes.a == 'X'"


def test_after_is_what_every_consumer_reads() -> None:
    plan = gated(DIAMOND, {"id": "g", "when": "after", "selector": {"effects": "once"}})
    assert shown(plan, "g")["inputs"] == {"proposed": {"node_id": "b", "pointer": ""}}
    assert shown(plan, "d")["inputs"] == {"text": {"node_id": "g", "pointer": ""}}
    assert plan.output.map["/u"].node_id == "g"
    assert ways(plan) == {("a", "b"), ("b", "g"), ("g", "d"), ("a", "c"), ("c", "d")}


def test_after_changes_what_conditions_read() -> None:
    """A condition on what was approved sees the approved value, not the proposed one."""
    plan = gated(DIAMOND, {"id": "g", "when": "after", "selector": {"node_id": "a"}})
    assert [edge.condition for edge in plan.edges if edge.to == "b"] == ["nodes[\"g\"] == 'X'"]


def test_several_targets_get_numbered_gates() -> None:
    """Without a selector every call is meant; ids are the rule's, then with a number."""
    plan = gated(DIAMOND, {"id": "c", "when": "before"})
    gates = {node.node_id: node.own["target"] for node in plan.nodes if node.kind == "ask"}
    assert gates == {"c_2": "a", "c_3": "b", "c_4": "c", "c_5": "d"}


def test_two_rules_about_one_node_ask_in_their_order() -> None:
    rules = [
        {"id": f"g{n}", "when": when, "selector": {"node_id": "b"}}
        for n, when in enumerate(["before", "before", "after", "after"])
    ]
    plan = gated(DIAMOND, *rules)
    assert {("a", "g0"), ("g0", "g1"), ("g1", "b"), ("b", "g2"), ("g2", "g3"), ("g3", "d")} <= ways(plan)
    assert shown(plan, "g1")["inputs"] == {"text": {"node_id": "g0", "pointer": "/text"}}
    assert shown(plan, "g3")["inputs"] == {"proposed": {"node_id": "g2", "pointer": ""}}
    assert shown(plan, "d")["inputs"] == {"text": {"node_id": "g3", "pointer": ""}}


def test_output_gates_follow_every_sink_and_chain() -> None:
    plan = gated(
        {
            **DIAMOND,
            "output": {"map": {"/t": {"node_id": "c"}, "/u": {"node_id": "d"}}},
            "nodes": [*DIAMOND["nodes"], call("e", "a", "send")],
        },
        {"id": "one", "when": "output"},
        {"id": "two", "when": "output"},
    )
    assert {("d", "one"), ("e", "one"), ("one", "two")} <= ways(plan)
    assert shown(plan, "one") == {"node_id": "one", "kind": "ask", "policy_id": "one", "guards": "output"}


def test_plan_gates_come_before_every_root_in_order() -> None:
    plan = gated(
        DIAMOND,
        {"id": "one", "when": "plan"},
        {"id": "two", "when": "plan"},
        {"id": "g", "when": "before", "selector": {"node_id": "a"}},
    )
    assert {("one", "two"), ("two", "g"), ("g", "a")} <= ways(plan)


def test_the_short_form_is_one_output_gate() -> None:
    """Wire §2: ``requires_hitl_approval``."""
    envelope = ask(want(t=TEXT), inputs={"text": "x"}, policies={"requires_hitl_approval": True})
    answer = WORLD.planner.check(DIAMOND, envelope)
    assert isinstance(answer, Planned)
    assert answer.plan.nodes[-1].own == {"policy_id": "output_approval", "guards": "output"}


def test_a_selector_that_matches_nothing_is_told() -> None:
    plan = gated(DIAMOND, {"id": "g", "when": "after", "selector": {"node_id": "a", "capability_id": "send"}})
    assert [(finding.code, finding.severity) for finding in plan.findings] == [("selector_matches_nothing", "warning")]
    assert gated(DIAMOND, {"id": "g", "when": "after", "selector": {"kind": "call"}}).findings == []


def test_a_rule_about_the_node_inside_a_map_guards_the_map() -> None:
    inner = {"kind": "call", "capability_id": "send"}
    many = {"node_id": "m", "kind": "map", "over": {"node_id": "l"}, "as": "text", "node": inner}
    plan = {
        "nodes": [call("l", "/inputs/text", "list"), many],
        "edges": [],
        "output": {"map": {"/t": {"node_id": "m", "pointer": "/0"}}},
    }
    made = gated(plan, {"id": "g", "when": "before", "selector": {"effects": "once"}})
    assert shown(made, "g")["inputs"] == {"over": {"node_id": "l", "pointer": ""}}
    assert shown(made, "m")["over"] == {"node_id": "g", "pointer": "/over"}
    after = gated(plan, {"id": "g", "when": "after", "selector": {"node_id": "l"}})
    assert shown(after, "m")["over"]["node_id"] == "g"


BRANCHED = {
    "nodes": [
        call("a", "/inputs/text"),
        {"node_id": "x", "kind": "branch", "condition": "nodes.a == 'X'", "then": ["b"]},
        call("b", "a"),
    ],
    "edges": [{"from": "a", "to": "x"}],
    "output": {"map": {"/t": {"node_id": "b"}}},
}


def test_a_branch_leads_to_the_gate_before_its_target() -> None:
    plan = gated(BRANCHED, {"id": "g", "when": "before", "selector": {"node_id": "b"}})
    assert shown(plan, "x")["then"] == ["g"]
    assert {("x", "g"), ("g", "b")} <= ways(plan)
    plan = gated(BRANCHED, {"id": "g", "when": "after", "selector": {"node_id": "a"}})
    assert shown(plan, "x")["condition"] == "nodes[\"g\"] == 'X'"


def test_nothing_can_be_asked_after_a_branch() -> None:
    answer = check(BRANCHED, {"id": "g", "when": "after", "selector": {"node_id": "x"}})
    assert isinstance(answer, Unplannable)
    assert [finding.code for finding in answer.findings] == ["gate_unplaceable"]


RULES = st.lists(
    st.tuples(st.sampled_from(["plan", "before", "after", "output"]), st.sampled_from([None, "a", "b", "c", "d"])),
    max_size=4,
)


@given(RULES)
def test_gates_are_added_once(rules: list[tuple[str, str | None]]) -> None:
    """A plan that already has its gates comes back as it is, whatever the rules."""
    written = [
        {"id": f"g{n}", "when": when, "selector": {"node_id": name} if name and when in ("before", "after") else None}
        for n, (when, name) in enumerate(rules)
    ]
    first = gated(DIAMOND, *written)
    second = gated(plan_wire(first), *written)
    assert second.plan_hash == first.plan_hash


@given(RULES)
def test_every_way_to_a_target_goes_through_its_gate(rules: list[tuple[str, str | None]]) -> None:
    """H5: whatever the rules, no node starts and no output is read around a gate."""
    written = [
        {"id": f"g{n}", "when": when, "selector": {"node_id": name} if name and when in ("before", "after") else None}
        for n, (when, name) in enumerate(rules)
    ]
    plan = gated(DIAMOND, *written)
    for gate in (node for node in plan.nodes if node.kind == "ask"):
        target = gate.own.get("target")
        guard = {node.node_id for node in plan.nodes if node.own.get("guards") == gate.own["guards"]}
        if gate.own["guards"] == "before":
            assert {edge.from_ for edge in plan.edges if edge.to == target} <= guard
        if gate.own["guards"] == "after":
            assert {edge.to for edge in plan.edges if edge.from_ == target} <= guard
            readers = {node.node_id for node in plan.nodes for bound in node.inputs.values() if bound.node_id == target}
            assert readers <= guard
            assert target not in {bound.node_id for bound in plan.output.map.values()}


@pytest.mark.parametrize(
    ("guards", "extra", "edges"),
    [
        ("before", {"target": "b"}, []),
        ("after", {"target": "b"}, [{"from": "b", "to": "g"}]),
        ("output", {}, []),
        ("plan", {}, []),
    ],
)
def test_a_gate_that_something_goes_around_is_refused(
    guards: str, extra: dict[str, Any], edges: list[dict[str, Any]]
) -> None:
    """A submitted plan cannot bring its own, idle gate."""
    fake = {"node_id": "g", "kind": "ask", "policy_id": "g", "guards": guards, **extra}
    plan = {**DIAMOND, "nodes": [*DIAMOND["nodes"], fake], "edges": [*DIAMOND["edges"], *edges]}
    if guards in ("output", "plan"):
        plan["edges"] = [
            *DIAMOND["edges"],
            {"from": "c", "to": "g"} if guards == "output" else {"from": "g", "to": "c"},
        ]
    answer = check(plan, {"id": "g", "when": guards, "selector": None})
    assert isinstance(answer, Unplannable)
    assert "gate_bypassed" in {finding.code for finding in answer.findings}
