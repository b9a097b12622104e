"""Every finding code of a submitted plan: one plan that has it, and the same plan mended (W4)."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.capability import Facet
from contracts.plan import Finding, PlanGraph, plan_wire
from contracts.ports import Planned, Unplannable
from planner.draft import PlanLimits
from tests.planner.worlds import NAMES, TEXT, World, ask, cap, obj, want

WORLD = World(
    [
        Facet("text", TEXT),
        Facet("number", {"type": "integer"}),
        Facet("texts", NAMES, list_of="text"),
        Facet("pair", obj({"a": TEXT, "b_c": TEXT})),
    ],
    [
        cap("up", "text", "text", latency_ms=10, cost=0.5, tokens=3),
        cap("length", "number", "text", version="1.9.0"),
        cap("length", "number", "text", version="1.10.0"),
        cap("both", ("text", "number")),
        cap("pairs", "pair"),
        cap("idle", "number", effects="once"),
        cap("off", "text"),
        cap("many", "texts", "text", batch=True),
        cap("free", "text", generic=True),
        cap("needs", "text", "pair"),
        cap(
            "strict", "text", "text", literals={"text": lambda text: ("no_shouting", "Quiet!") if text == "A" else None}
        ),
    ],
    {"off": "switch it on"},
    PlanLimits(max_nodes=5, max_edges=6),
)
SHOUTED = ("no_shouting", "Quiet!")
Change = Callable[[dict[str, Any]], None]


def good() -> dict[str, Any]:
    return {
        "nodes": [
            {"node_id": "a", "kind": "call", "capability_id": "up", "inputs": {"text": {"from": "/inputs/text"}}},
            {"node_id": "b", "kind": "call", "capability_id": "up", "inputs": {"text": {"node_id": "a"}}},
        ],
        "edges": [{"from": "a", "to": "b"}],
        "output": {"map": {"/t": {"node_id": "b"}}},
    }


def submit(plan: Any, contract: Any = None, world: World = WORLD, **rest: Any) -> Planned | Unplannable:
    schema = want(t=TEXT) if contract is None else contract
    return world.planner.check(
        plan, ask(schema, **{"inputs": {"text": "x", "list": ["x"]}, **rest}), at="/workflow/plan"
    )


def codes(answer: Planned | Unplannable) -> dict[str, Finding]:
    found = answer.plan.findings if isinstance(answer, Planned) else answer.findings
    return {finding.code: finding for finding in found}


def plan_of(answer: Planned | Unplannable) -> PlanGraph:
    assert isinstance(answer, Planned), answer
    return answer.plan


def node(number: int, **changes: Any) -> Change:
    return lambda plan: plan["nodes"][number].update(changes)


def more(**extra: Any) -> Change:
    return lambda plan: plan["nodes"].append(extra)


def edge(**extra: Any) -> Change:
    return lambda plan: plan["edges"].append(extra)


def mapped(**bound: Any) -> Change:
    return lambda plan: plan["output"].update(map=bound)


def each(*changes: Change) -> Change:
    return lambda plan: [change(plan) for change in changes].clear()


BRANCH = {"node_id": "c", "kind": "branch", "then": "b"}
MAP: dict[str, Any] = {
    "node_id": "c",
    "kind": "map",
    "over": {"from": "/inputs/list"},
    "as": "text",
    "node": {"kind": "call", "capability_id": "up"},
}
UP: dict[str, Any] = {"kind": "call", "capability_id": "up"}
HANDLER: dict[str, Any] = {
    "node_id": "h",
    "kind": "error_handler",
    "handles": "a",
    "node": {"kind": "variable", "default": "x"},
}
MEMORY: dict[str, Any] = {"node_id": "c", "kind": "memory", "op": "get", "scope": "shared:s", "key": "k"}
ERRORS: tuple[tuple[str, str, Change], ...] = (
    ("required", "/workflow/plan/nodes/0/kind", lambda plan: plan["nodes"][0].pop("kind")),
    ("too_short", "/workflow/plan/nodes", lambda plan: plan.update(nodes=[])),
    ("unknown_field", "/workflow/plan/extra", lambda plan: plan.update(extra=1)),
    (
        "ambiguous_binding",
        "/workflow/plan/nodes/0/inputs/text",
        node(0, inputs={"text": {"from": "/objective", "value": 1}}),
    ),
    ("duplicate_id", "/workflow/plan/nodes/1/node_id", node(1, node_id="a")),
    ("unknown_kind", "/workflow/plan/nodes/0/kind", node(0, kind="nope")),
    ("unknown_field", "/workflow/plan/nodes/0/colour", node(0, colour="red")),
    ("dangling_edge", "/workflow/plan/edges/1/to", edge(**{"from": "b", "to": "z"})),
    ("dangling_reference", "/workflow/plan/nodes/1/inputs/text", node(1, inputs={"text": {"node_id": "z"}})),
    ("dangling_reference", "/workflow/plan/output/map/~1t", mapped(**{"/t": {"node_id": "z"}})),
    ("dangling_reference", "/workflow/plan/nodes/2", more(**{**BRANCH, "condition": "true", "then": "z"})),
    ("dangling_input", "/workflow/plan/nodes/0/inputs/text", node(0, inputs={"text": {"from": "/inputs/none"}})),
    ("dangling_input", "/workflow/plan/output/map/~1t", mapped(**{"/t": {"from": "/inputs/none"}})),
    ("bad_pointer", "/workflow/plan/output/map/t", mapped(**{"/t": {"node_id": "b"}, "t": {"node_id": "b"}})),
    ("cycle", "/workflow/plan/nodes/0", edge(**{"from": "b", "to": "a"})),
    ("unreachable", "/workflow/plan/nodes/1", edge(**{"from": "a", "to": "a"})),
    ("no_terminal", "/workflow/plan/edges", edge(**{"from": "b", "to": "a"})),
    ("overlapping_output", "/workflow/plan/output/map/~1t", mapped(**{"/t": {"node_id": "b"}, "": {"node_id": "a"}})),
    ("bad_schema", "/workflow/plan/nodes/0/output/schema", node(0, output={"schema": {"type": "strin"}})),
    ("bad_schema", "/workflow/plan/nodes/0/output/schema", node(0, output={"schema": {"$ref": "https://x.example/s"}})),
    (
        "bad_schema",
        "/workflow/plan/nodes/2/node/output/schema",
        more(**{**MAP, "node": {**MAP["node"], "output": {"schema": {"required": "all"}}}}),
    ),
    ("unmapped_output", "/workflow/plan/output/map", mapped(**{"/u": {"node_id": "b"}})),
    (
        "bad_expression",
        "/workflow/plan/edges/0/condition",
        lambda plan: plan["edges"][0].update(condition="nodes.a =="),
    ),
    ("bad_expression", "/workflow/plan/nodes/2/expression", more(node_id="c", kind="transform", expression="a[")),
    (
        "unknown_node",
        "/workflow/plan/edges/0/condition",
        lambda plan: plan["edges"][0].update(condition="nodes.z == 'x'"),
    ),
    ("unknown_node", "/workflow/plan/nodes/2/condition", more(**{**BRANCH, "condition": 'nodes["z"].x'})),
    ("unknown_policy", "/workflow/plan/nodes/2/policy_id", more(node_id="c", kind="ask", policy_id="nope")),
    ("ambiguous_ask", "/workflow/plan/nodes/2", more(node_id="c", kind="ask")),
    ("inner_node_invalid", "/workflow/plan/nodes/2/node/kind", more(**{**MAP, "node": {"capability_id": "up"}})),
    (
        "inner_node_invalid",
        "/workflow/plan/nodes/2/node/kind",
        more(**{**MAP, "node": {"kind": "branch", "condition": "true", "then": "b"}}),
    ),
    ("not_a_list", "/workflow/plan/nodes/2/over", more(**{**MAP, "over": {"from": "/inputs/text"}})),
    ("not_a_list", "/workflow/plan/nodes/2/over", more(**{**MAP, "over": {"node_id": "a"}})),
    ("capability_missing", "/workflow/plan/nodes/0", lambda plan: plan["nodes"][0].pop("capability_id")),
    ("unknown_capability", "/workflow/plan/nodes/0/capability_id", node(0, capability_id="nope")),
    ("capability_inactive", "/workflow/plan/nodes/0/capability_id", node(0, capability_id="off")),
    ("version_missing", "/workflow/plan/nodes/0/capability_version", node(0, capability_version="9.0.0")),
    ("missing_param", "/workflow/plan/nodes/0/inputs", node(0, capability_id="needs", inputs={})),
    (
        "unknown_param",
        "/workflow/plan/nodes/0/inputs/extra",
        lambda plan: plan["nodes"][0]["inputs"].update(extra={"value": 1}),
    ),
    ("incompatible_binding", "/workflow/plan/nodes/0/inputs/text", node(0, inputs={"text": {"value": 1}})),
    ("incompatible_binding", "/workflow/plan/nodes/1/inputs/text", node(0, capability_id="length")),
    ("input_mismatch", "/workflow/plan/nodes/0/inputs/text", node(0, inputs={"text": {"from": "/inputs/list"}})),
    ("output_clash", "/workflow/plan/output/map/~1t", node(1, capability_id="length")),
    ("too_many_nodes", "/workflow/plan/nodes", each(*(more(node_id=f"n{n}", kind="join") for n in range(4)))),
    (
        "too_many_edges",
        "/workflow/plan/edges",
        each(*(edge(**{"from": "a", "to": "b", "condition": f"{n} == 1"}) for n in range(7))),
    ),
    ("handler_twice", "/workflow/plan/nodes/3/handles", each(*(more(**{**HANDLER, "node_id": n}) for n in "hi"))),
    ("handler_misplaced", "/workflow/plan/nodes/3/handles", each(more(**MAP), more(**{**HANDLER, "handles": "c"}))),
    ("dangling_reference", "/workflow/plan/nodes/2", more(**{**HANDLER, "handles": "z"})),
    ("cycle", "/workflow/plan/nodes/1", more(**{**HANDLER, "node": {**UP, "inputs": {"text": {"node_id": "b"}}}})),
    (
        "start_not_first",
        "/workflow/plan/nodes/2",
        each(more(node_id="c", kind="start"), edge(**{"from": "b", "to": "c"})),
    ),
    ("start_twice", "/workflow/plan/nodes/3", each(*(more(node_id=n, kind="start") for n in "cd"))),
    ("end_not_last", "/workflow/plan/nodes/2", each(more(node_id="c", kind="end"), edge(**{"from": "c", "to": "a"}))),
    ("input_missing", "/workflow/plan/nodes/2/inputs", more(node_id="c", kind="variable")),
    ("unknown_input", "/workflow/plan/nodes/2/inputs", more(node_id="c", kind="start", inputs={"x": {"value": 1}})),
    ("memory_scope_unnamed", "/workflow/plan/nodes/2/scope", more(**MEMORY)),
    ("ambiguous_key", "/workflow/plan/nodes/2/key", more(**{**MEMORY, "inputs": {"key": {"value": "k"}}})),
    (
        "gate_bypassed",
        "/workflow/plan/nodes/2",
        more(node_id="g", kind="ask", policy_id="p", guards="before", target="b"),
    ),
)


@pytest.mark.parametrize(("code", "pointer", "change"), ERRORS, ids=[f"{row[0]}-{n}" for n, row in enumerate(ERRORS)])
def test_a_fault_is_found_where_it_is(code: str, pointer: str, change: Change) -> None:
    plan = good()
    change(plan)
    answer = submit(plan)
    assert isinstance(answer, Unplannable)
    assert any(finding.code == code and finding.pointer == pointer for finding in answer.findings), answer.findings
    assert all(finding.message and finding.severity == "error" for finding in answer.findings if finding.code == code)


def test_the_plan_without_a_fault_is_taken() -> None:
    """The other half of the table above: unchanged, the plan has no finding at all."""
    assert codes(submit(good())) == {}


LIMITS: tuple[tuple[str, str, PlanLimits, PlanLimits], ...] = (
    ("too_wide", "/workflow/plan/nodes/0", PlanLimits(max_fan_out=0), PlanLimits(max_fan_out=1)),
    ("too_long", "/workflow/plan", PlanLimits(max_depth=1), PlanLimits(max_depth=2)),
    ("too_slow", "/workflow/plan", PlanLimits(max_seconds=0.019), PlanLimits(max_seconds=0.02)),
    ("too_many_tokens", "/workflow/plan", PlanLimits(max_tokens=5), PlanLimits(max_tokens=6)),
    ("too_expensive", "/workflow/plan", PlanLimits(max_cost=0.9), PlanLimits(max_cost=1.0)),
    ("too_many_nodes", "/workflow/plan/nodes", PlanLimits(max_nodes=1), PlanLimits(max_nodes=2)),
    ("too_many_edges", "/workflow/plan/edges", PlanLimits(max_edges=0), PlanLimits(max_edges=1)),
)


@pytest.mark.parametrize(("code", "pointer", "narrow", "wide"), LIMITS, ids=[row[0] for row in LIMITS])
def test_a_plan_over_a_limit_is_refused_and_one_at_it_is_not(
    code: str, pointer: str, narrow: PlanLimits, wide: PlanLimits
) -> None:
    """W4: the limits of the service, whatever the envelope allows."""
    specs = [cap("up", "text", "text", latency_ms=10, cost=0.5, tokens=3)]
    found = codes(submit(good(), world=World([Facet("text", TEXT)], specs, limits=narrow)))
    assert (found[code].layer, found[code].severity, found[code].pointer) == ("resource", "error", pointer)
    assert codes(submit(good(), world=World([Facet("text", TEXT)], specs, limits=wide))) == {}


def test_a_literal_that_its_capability_refuses_is_found_before_it_runs() -> None:
    """W4: egress, templates and expressions; only what the plan writes down can be judged."""
    plan = good()
    plan["nodes"][0] |= {"capability_id": "strict", "inputs": {"text": {"value": "A"}}}
    found = codes(submit(plan))["no_shouting"]
    assert (found.layer, found.pointer) == ("security", "/workflow/plan/nodes/0/inputs/text")
    plan["nodes"][0]["inputs"]["text"]["value"] = "a"
    assert codes(submit(plan)) == {}
    plan["nodes"][0]["inputs"]["text"] = {"from": "/inputs/text"}
    assert codes(submit(plan)) == {}


def test_what_names_and_stands_in_is_taken() -> None:
    """W5: the kinds of the table above, used as they are meant: no finding, and the edges that they imply."""
    plan = good()
    plan["nodes"] += [HANDLER, {**MEMORY, "node_id": "m"}]
    answer = submit(plan, context={"memory": ["shared:s"]})
    assert codes(answer) == {}
    assert {(edge.from_, edge.to) for edge in plan_of(answer).edges} == {("a", "b"), ("a", "h"), ("h", "b")}
    plan = good()
    plan["nodes"] += [
        {"node_id": "s", "kind": "start"},
        {"node_id": "v", "kind": "variable", "inputs": {"value": {"node_id": "s", "pointer": "/text"}}},
        {"node_id": "e", "kind": "end", "inputs": {"v": {"node_id": "v"}}},
    ]
    assert codes(submit(plan)) == {}


POLICIES: tuple[tuple[str, dict[str, Any], dict[str, Any], bool], ...] = (
    ("capability_forbidden", {"selection": {"forbid": ["up"]}}, {"selection": {"forbid": ["off"]}}, True),
    ("require_unmet", {"selection": {"require": ["length"]}}, {"selection": {"require": ["up"]}}, True),
    ("unknown_capability", {"selection": {"avoid": ["nope"]}}, {"selection": {"avoid": ["off"]}}, True),
    ("max_nodes", {"topology": {"max_nodes": 1}}, {"topology": {"max_nodes": 2}}, True),
    ("max_depth", {"topology": {"max_depth": 1}}, {"topology": {"max_depth": 2}}, True),
    ("forbidden_kind", {"topology": {"forbidden_kinds": ["call"]}}, {"topology": {"forbidden_kinds": ["map"]}}, True),
    ("required_kind", {"topology": {"required_kinds": ["map"]}}, {"topology": {"required_kinds": ["call"]}}, True),
)


@pytest.mark.parametrize(("code", "bad", "fine", "refused"), POLICIES, ids=[row[0] for row in POLICIES])
def test_what_the_envelope_bounds(code: str, bad: dict[str, Any], fine: dict[str, Any], refused: bool) -> None:
    """F5: limits and selection hold for submitted plans too."""
    answer = submit(good(), policies={"planner": bad})
    assert isinstance(answer, Unplannable) is refused
    assert code in codes(answer)
    assert code not in codes(submit(good(), policies={"planner": fine}))


@pytest.mark.parametrize(
    "bad", [{"budget": {"cost": 0.9}}, {"budget": {"tokens": 5}}, {"timeouts": {"run_seconds": 0.01}}]
)
def test_an_estimate_over_the_budget_is_a_warning(bad: dict[str, Any]) -> None:
    answer = submit(good(), policies=bad)
    assert isinstance(answer, Planned)
    assert codes(answer)["over_estimate"].severity == "warning"


def test_an_idle_node_is_a_warning_and_an_effect_is_not() -> None:
    for name, idle in (("up", True), ("idle", False)):
        plan = good()
        plan["nodes"].append({"node_id": "c", "kind": "call", "capability_id": name})
        assert ("idle_node" in codes(submit(plan))) is idle


@pytest.mark.parametrize(
    ("literal", "secret"),
    [
        ("sk-abcdefghijklmnopqrstuvwx", True),
        ("-----BEGIN RSA PRIVATE KEY-----", True),
        ({"list": [{"password": "hunter2"}]}, True),
        ("Bearer abcdefghijklmnop1234", True),
        ("a plain sentence about passwords", False),
        ({"password": None}, False),
    ],
)
def test_a_secret_in_plain_text_is_a_warning(literal: Any, secret: bool) -> None:
    plan = good()
    plan["nodes"].append({"node_id": "c", "kind": "join", "inputs": {"x": {"value": literal}}})
    found = codes(submit(plan))
    assert ("secret_literal" in found) is secret
    assert not secret or found["secret_literal"].severity == "warning"


def test_an_optional_input_that_is_not_there_is_a_warning() -> None:
    world = World([Facet("text", TEXT)], [cap("say", "text", "text?")])
    plan = {
        "nodes": [{"node_id": "a", "kind": "call", "capability_id": "say", "inputs": {"text": {"from": "/inputs/no"}}}],
        "edges": [],
    }
    answer = submit({**plan, "output": {"map": {"/t": {"node_id": "a"}}}}, world=world)
    assert isinstance(answer, Planned)
    assert codes(answer)["dangling_input"].severity == "warning"


def test_an_answer_part_that_the_contract_forbids() -> None:
    plan = good()
    plan["output"]["map"]["/more"] = {"node_id": "a"}
    closed = {**want(t=TEXT), "additionalProperties": False}
    assert "output_not_asked" in codes(submit(plan, closed))
    assert "output_not_asked" not in codes(submit(plan))


@pytest.mark.parametrize("contract", [{"mode": "freeform"}, {"type": "string"}, {"type": "array"}])
def test_one_value_is_mapped_whole(contract: dict[str, Any]) -> None:
    plan = good()
    assert "unmapped_output" in codes(submit(plan, contract))
    plan["output"]["map"] = {"": {"node_id": "b"}}
    assert "unmapped_output" not in codes(submit(plan, contract))


def test_what_is_left_out_is_derived() -> None:
    """Wire §5a: versions, effects, contracts, attempts, times, inputs and implied edges."""
    plan = {
        "nodes": [
            {"node_id": "a", "kind": "call", "capability_id": "up", "effects": "once"},
            {"node_id": "b", "kind": "call", "capability_id": "length", "max_attempts": 7},
            {"node_id": "c", "kind": "call", "capability_id": "many", "inputs": {"text": {"node_id": "a"}}},
        ],
        "edges": [{"from": "a", "to": "b"}],
        "output": {"map": {"/t": {"node_id": "a"}, "/n": {"node_id": "b"}, "/m": {"node_id": "c"}}},
        "plan_hash": "something old",
        "strategy": "search",
        "estimate": {"cost": 99},
        "findings": [{"anything": 1}],
    }
    made = plan_of(submit(plan, policies={"retry": {"max_attempts": 2}, "timeouts": {"node_seconds": 9}}))
    a, b, c = made.nodes
    assert (a.capability_version, a.effects, a.max_attempts, a.timeout_seconds) == ("1.0.0", "none", 2, 9)
    assert (b.capability_version, b.max_attempts) == ("1.10.0", 7)
    shown = plan_wire(made)["nodes"]
    assert shown[0]["inputs"] == {"text": {"from": "/inputs/text"}}
    assert shown[1]["inputs"] == {"text": {"node_id": "a", "pointer": ""}}
    assert shown[2]["inputs"]["count"] == {"value": 1}
    assert c.output is not None
    assert (c.output.facet, c.output.schema_) == ("texts", NAMES)
    assert [(edge.from_, edge.to) for edge in made.edges] == [("a", "b"), ("a", "c")]
    assert (made.strategy, made.estimate.cost, len(made.plan_hash)) == ("submitted", 0.5, 64)
    assert made.unused_inputs == ["/inputs/list"]


def test_a_branch_leads_to_its_targets_and_a_map_gets_its_item() -> None:
    plan = good()
    plan["nodes"][1]["inputs"] = {"text": {"from": "/inputs/text"}}
    plan["nodes"] += [{**BRANCH, "condition": "nodes.a == 'X'"}, {**copy.deepcopy(MAP), "node_id": "m"}]
    plan["edges"] = [{"from": "a", "to": "c"}]
    made = plan_of(submit(plan))
    assert [(edge.from_, edge.to) for edge in made.edges] == [("a", "c"), ("c", "b")]
    inner = made.by_id["m"].own["node"]
    assert inner["capability_version"] == "1.0.0"
    assert made.by_id["m"].output is not None
    assert made.by_id["m"].output.schema_ == {"type": "array", "items": TEXT}


def test_adapters_are_put_into_the_output_map() -> None:
    plan = {
        "nodes": [{"node_id": "p", "kind": "call", "capability_id": "pairs"}],
        "edges": [],
        "output": {"map": {"/t": {"node_id": "p"}}},
    }
    made = plan_of(submit(plan, want(t=obj({"a": TEXT, "bC": TEXT}))))
    assert plan_wire(made)["output"]["map"]["/t"]["adapt"] == [{"op": "rename", "at": "", "names": {"b_c": "bC"}}]
    assert made.goals[0].verdict == "fits"


def test_several_products_are_read_by_name() -> None:
    plan = {
        "nodes": [{"node_id": "p", "kind": "call", "capability_id": "both"}],
        "edges": [],
        "output": {"map": {"/t": {"node_id": "p", "pointer": "/text"}, "/n": {"node_id": "p", "pointer": "/number"}}},
    }
    made = plan_of(submit(plan, want(t=TEXT, n={"type": "integer"})))
    assert [(goal.facet, goal.verdict) for goal in made.goals] == [("text", "fits"), ("number", "fits")]
    assert "output_clash" in codes(submit(plan, want(t=TEXT, n=TEXT)))


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.text(max_size=5),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["nodes", "edges", "output", "map", "node_id", "kind", "x"]), inner, max_size=3
            )
        ),
        max_leaves=8,
    )
)
def test_any_json_is_answered_with_findings(plan: Any) -> None:
    """Nothing that is posted raises."""
    answer = submit(plan)
    assert isinstance(answer, Unplannable)
    assert answer.findings


def test_a_workflow_plan_is_checked_by_plan() -> None:
    envelope = ask(want(t=TEXT), inputs={"text": "x"}, workflow={"plan": good()})
    answer = WORLD.planner.plan(envelope)
    assert plan_of(answer) == plan_of(WORLD.planner.check(good(), envelope, at="/workflow/plan"))


def _chain(length: int) -> dict[str, Any]:
    nodes = [
        {
            "node_id": f"n{n}",
            "kind": "call",
            "capability_id": "up",
            "inputs": {"text": {"node_id": f"n{n - 1}"} if n else {"from": "/inputs/text"}},
        }
        for n in range(length)
    ]
    edges = [{"from": f"n{n}", "to": f"n{n + 1}"} for n in range(length - 1)]
    return {"nodes": nodes, "edges": edges, "output": {"map": {"/t": {"node_id": f"n{length - 1}"}}}}


def test_a_long_chain_is_checked_in_linear_time() -> None:
    """W4: ten times the nodes cost about ten times the time, and a known plan costs next to nothing."""
    world = World(WORLD.now.facets, WORLD.now.capabilities)

    def seconds(length: int) -> float:
        best = 9.0
        for take in range(5):
            start = time.perf_counter()
            assert isinstance(submit(_chain(length), world=world, objective=f"take {take}"), Planned)
            best = min(best, time.perf_counter() - start)
        return best

    short, long = seconds(300), seconds(3_000)
    assert long < 40 * short
    again = time.perf_counter()
    submit(_chain(3_000), world=world, objective="take 0")
    assert time.perf_counter() - again < long
