"""Plans inside plans: checked, completed and estimated with the plan around them (F6, W4)."""

from __future__ import annotations

from typing import Any

from contracts.descent import MAX_DEPTH
from contracts.plan import PlanGraph
from tests.planner.worlds import TEXT, World, ask, cap, want
from tests.planner.worlds import TEXTS as FACETS

WORLD = World(
    FACETS,
    [
        cap("to.beta", "beta", "alpha", cost=2.0, latency_ms=30),
        cap("to.gamma", "gamma", "beta", cost=1.0, latency_ms=5, effects="once"),
    ],
)


def whole(*nodes: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A plan; its last node is the answer."""
    last = {"": {"node_id": nodes[-1]["node_id"]}}
    return {"nodes": list(nodes), "edges": [], "output": {"mode": "map", "map": last}} | more


def call(name: str, node_id: str = "n", **inputs: Any) -> dict[str, Any]:
    return {"node_id": node_id, "kind": "call", "capability_id": name, "inputs": inputs}


def sub(plan: Any, **more: Any) -> dict[str, Any]:
    return {"node_id": "s", "kind": "subflow", "plan": plan} | more


def submitted(plan: Any, contract: Any = True, **rest: Any) -> PlanGraph:
    return WORLD.plan(ask(contract, workflow={"plan": plan}, **rest))


def inner_of(plan: PlanGraph) -> PlanGraph:
    """The plan inside the first node, as it will run."""
    return PlanGraph.model_validate(plan.nodes[0].own["plan"])


def test_the_inner_plan_is_completed() -> None:
    """F6: versions, contracts, attempts and edges are filled in, so that a child run needs no planner."""
    inner = whole(call("to.beta", "a", alpha={"from": "/inputs/x"}), call("to.gamma", "b", beta={"node_id": "a"}))
    made = inner_of(submitted(whole(sub(inner, inputs={"x": {"value": "hi"}}))))
    first, second = made.nodes
    assert (first.capability_version, first.timeout_seconds, second.effects) == ("1.0.0", 60.0, "once")
    assert [(edge.from_, edge.to) for edge in made.edges] == [("a", "b")]
    assert made.plan_hash == made.sealed().plan_hash != ""


def test_missing_inputs_are_bound_inside_too() -> None:
    """F6: a required parameter that the inner plan leaves out is found among the child's inputs, by its facet."""
    made = inner_of(submitted(whole(sub(whole(call("to.beta")), inputs={"alpha": {"value": "hi"}}))))
    assert made.nodes[0].inputs["alpha"].from_ == "/inputs/alpha"


def test_the_same_plan_is_the_same() -> None:
    """W4: checking what was completed changes nothing; the hash covers what runs inside."""
    plan = whole(sub(whole(call("to.beta", alpha={"value": "hi"}))))
    made = submitted(plan)
    again = submitted(made.model_dump(mode="json", exclude_none=True))
    assert again.plan_hash == made.plan_hash
    other = submitted(whole(sub(whole(call("to.beta", alpha={"value": "ho"})))))
    assert other.plan_hash != made.plan_hash


def test_what_is_inside_counts() -> None:
    """F4: the estimate of a plan includes what its subflows will take."""
    inner = whole(call("to.beta", "a", alpha={"value": "x"}), call("to.gamma", "b", beta={"node_id": "a"}))
    made = submitted(whole(sub(inner)))
    assert (made.estimate.cost, made.estimate.latency_ms) == (3.0, 35)


def test_an_answer_that_cannot_fit_is_found_inside() -> None:
    """W4: the node's contract, and the caller's where the node is the answer, is what the inner plan must give."""
    plan = whole(sub(whole(call("to.beta", alpha={"value": "x"}))))
    (found,) = WORLD.refuse(ask({"type": "integer"}, workflow={"plan": plan}))
    assert (found.code, found.pointer, found.node_id) == (
        "output_clash", "/workflow/plan/nodes/0/plan/output/map/", "s",
    )  # fmt: skip
    asked = want(note=TEXT)
    plan = whole(sub(whole(call("to.beta", alpha={"value": "x"})), output={"schema": asked}))
    (found,) = WORLD.refuse(ask(True, workflow={"plan": plan}))
    assert found.code == "output_clash"


def test_what_only_the_run_knows_is_no_fault() -> None:
    """W4: the value of a node, of an item, and what lies below it: nothing is held against it before it is there."""
    inner = whole(call("to.beta", alpha={"from": "/inputs/x/deep/0"}))
    mapped = {"node_id": "m", "kind": "map", "over": {"value": [1]}, "as": "x", "node": sub(inner)}
    assert not submitted(whole(mapped)).findings
    over = {"node_id": "n", "kind": "map", "over": {"from": "/inputs/x"}, "as": "alpha",
            "node": {"kind": "call", "capability_id": "to.beta"}}  # fmt: skip
    made = {"node_id": "first", "kind": "transform", "expression": "[1]"}
    assert not submitted(whole(made, sub(whole(over), inputs={"x": {"node_id": "first"}}))).findings


def test_forbidden_capabilities_are_forbidden_inside() -> None:
    """F5: what the envelope forbids holds for every plan of the run's tree."""
    plan = whole(sub(whole(sub(whole(call("to.gamma", beta={"value": "x"}))))))
    policies = {"planner": {"selection": {"forbid": ["to.gamma"]}}}
    (found,) = WORLD.refuse(ask(True, workflow={"plan": plan}, policies=policies))
    assert found.code == "capability_forbidden"
    assert found.pointer == "/workflow/plan/nodes/0/plan/nodes/0/plan/nodes/0/capability_id"


def test_a_gate_that_would_ask_inside_is_told() -> None:
    """H5: gates are about one plan; that one does not ask inside a subflow is said before anything runs."""
    hitl = [{"id": "sign", "when": "before", "selector": {"capability_id": "to.gamma"}}]
    deep = whole(sub(whole(call("to.gamma", beta={"value": "x"}))))
    for inner in (deep["nodes"][0]["plan"], deep):
        made = submitted(whole(sub(inner)), policies={"hitl": hitl})
        told = {finding.code: finding for finding in made.findings}["gate_not_inherited"]
        assert (told.pointer, told.severity) == ("/workflow/plan/nodes/0/plan", "warning")
    harmless = whole(sub(whole(call("to.beta", alpha={"value": "x"}))))
    codes = [finding.code for finding in submitted(harmless, policies={"hitl": hitl}).findings]
    assert codes == ["selector_matches_nothing"]


def test_a_subflow_does_what_is_done_inside_it() -> None:
    """Design §4, effects: a policy that asks before what must not be repeated asks before the subflow."""
    hitl = [{"id": "sign", "when": "before", "selector": {"effects": "once"}}]
    inner = whole(sub(whole(call("to.gamma", beta={"from": "/inputs/x"})), inputs={"x": {"from": "/inputs/x"}}))
    made = submitted(whole(sub(inner, inputs={"x": {"value": "x"}})), policies={"hitl": hitl})
    assert made.by_id["s"].effects == "once"
    assert made.by_id["sign"].own["target"] == "s"
    assert made.findings == []
    mapped = {
        "node_id": "m",
        "kind": "map",
        "over": {"value": ["a"]},
        "as": "x",
        "node": inner["nodes"][0] | {"inputs": {}},
    }
    assert submitted(whole(mapped), policies={"hitl": hitl}).by_id["sign"].own["target"] == "m"


def test_gates_leave_the_inner_plan_alone() -> None:
    """R8: a gate after ``n`` re-routes who reads it, and nobody inside a plan that has an ``n`` of its own."""
    inner = whole(call("to.beta", "n", alpha={"from": "/inputs/x"}), call("to.gamma", "b", beta={"node_id": "n"}))
    hitl = [{"id": "look", "when": "after", "selector": {"node_id": "n"}}]
    plan = whole(call("to.beta", "n", alpha={"value": "x"}), sub(inner, inputs={"x": {"node_id": "n"}}))
    made = submitted(plan, policies={"hitl": hitl})
    node = made.by_id["s"]
    assert node.inputs["x"].node_id == "look"
    assert node.own["plan"]["nodes"][1]["inputs"]["beta"]["node_id"] == "n"


def test_loops_promise_what_they_make() -> None:
    """F6: the last output, or the list; a gate before a loop shows what it begins with."""
    loop = {"node_id": "l", "kind": "loop", "as": "alpha", "initial": {"value": "x"}, "max_iterations": 2,
            "until": "true", "node": {"kind": "call", "capability_id": "to.beta"}}  # fmt: skip
    last = submitted(whole(loop)).nodes[0].output
    assert last is not None
    assert last.schema_ == TEXT
    listed = submitted(whole(loop | {"collect": True})).nodes[0].output
    assert listed is not None
    assert listed.schema_ == {"type": "array", "items": TEXT}
    hitl = [{"id": "first", "when": "before", "selector": {"kind": "loop"}}]
    made = submitted(whole(loop), policies={"hitl": hitl})
    assert made.by_id["first"].inputs["initial"].value == "x"
    assert made.by_id["l"].own["initial"] == {"node_id": "first", "pointer": "/initial"}


def test_conditions_of_loops_follow_gates() -> None:
    """R8: a condition that reads a node with a gate after it reads what the gate passed on."""
    loop = {"node_id": "l", "kind": "loop", "max_iterations": 2, "until": "nodes.n == nodes.l.output",
            "node": {"kind": "transform", "expression": "1"}}  # fmt: skip
    hitl = [{"id": "look", "when": "after", "selector": {"node_id": "n"}}]
    made = submitted(whole(call("to.beta", "n", alpha={"value": "x"}), loop), policies={"hitl": hitl})
    assert made.by_id["l"].own["until"] == 'nodes["look"] == nodes.l.output'
    assert ("look", "l") in {(edge.from_, edge.to) for edge in made.edges}


def test_nesting_is_bounded() -> None:
    """F6: eight plans inside one another, and not one more."""
    plan = whole(call("to.beta", alpha={"value": "x"}))
    for _ in range(MAX_DEPTH):
        plan = whole(sub(plan))
    assert submitted(plan).findings == []
    (found,) = WORLD.refuse(ask(True, workflow={"plan": whole(sub(plan))}))
    assert found.code == "too_deep"
