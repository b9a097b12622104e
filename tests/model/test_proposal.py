"""What a model said, read as a plan: any JSON gives findings or a plan that holds (F4, F5)."""

from __future__ import annotations

from copy import deepcopy
from functools import reduce
from operator import getitem
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.envelope import TaskEnvelope, read_envelope
from contracts.plan import PlanGraph
from contracts.ports import Commission, Planned, Reconsider, Unplannable
from engine.compiled import compile_plan
from engine.kinds import BY_NAME
from planner.model import ModelWriter
from tests.planner.worlds import EXAMPLE_A, EXAMPLE_B, TEXT, TEXTS, World, ask, business, cap, policies, topology, want

NEW = Commission()


def writer(world: World) -> ModelWriter:
    return ModelWriter(world.planner)


def node(node_id: str, capability: str, /, **inputs: Any) -> dict[str, Any]:
    bound = {name: value if isinstance(value, dict) else {"from": value} for name, value in inputs.items()}
    return {"node_id": node_id, "kind": "call", "capability_id": capability, "inputs": bound, "rationale": "because"}


def reply(*nodes: dict[str, Any], **output: Any) -> dict[str, Any]:
    """A reply; ``output`` maps the answer's members to nodes or bindings."""
    places = {f"/{name}": to if isinstance(to, dict) else {"node_id": to} for name, to in output.items()}
    return {"nodes": list(nodes), "edges": [], "output": {"mode": "map", "map": places}}


COPY = node("posts", "copy.template", profile="/context/bundles/0/payload", channel="/inputs/channel")
NOTES = reply(
    node("parsed", "log.parse", log_text="/inputs/log_text"),
    node("grouped", "records.group", change_records={"node_id": "parsed"}),
    node("written", "notes.write", change_groups={"node_id": "grouped"}),
    version={"from": "/inputs/version"},
    summary={"node_id": "written", "pointer": "/release_summary"},
    sections={"node_id": "written", "pointer": "/release_sections"},
)


def plan_of(world: World, envelope: TaskEnvelope, said: Any, commission: Commission = NEW) -> PlanGraph:
    answer = writer(world).read(said, envelope, commission)
    assert isinstance(answer, Planned), answer
    return answer.plan


def codes(world: World, envelope: TaskEnvelope, said: Any, commission: Commission = NEW) -> list[str]:
    answer = writer(world).read(said, envelope, commission)
    assert isinstance(answer, Unplannable), answer
    return [finding.code for finding in answer.findings if finding.severity == "error"]


# --- good replies ----------------------------------------------------------------------------------------------------


def test_a_reply_becomes_the_plan_that_the_search_would_have_written() -> None:
    """F4: versions, effects, contracts, counts and gates are the service's; the rationale is the model's."""
    plan = plan_of(business(), read_envelope(EXAMPLE_A), reply(COPY, variants="posts"))
    assert plan.strategy == "model"
    posts, gate = plan.nodes
    assert (posts.capability_version, posts.max_attempts, posts.fallback) == ("1.0.0", 3, "hitl")
    assert posts.rationale == ["because"]
    assert posts.inputs["count"].value == 2
    assert posts.output is not None
    assert isinstance(posts.output.schema_, dict)
    assert (posts.output.schema_["minItems"], posts.output.schema_["maxItems"]) == (2, 2)
    assert (gate.node_id, gate.own["guards"]) == ("sign_off", "output")
    assert [(goal.pointer, goal.facet, goal.verdict) for goal in plan.goals] == [("/variants", "copy_variants", "may")]


def test_a_plan_of_three_nodes_in_order() -> None:
    plan = plan_of(business(), read_envelope(EXAMPLE_B), NOTES)
    assert [(edge.from_, edge.to) for edge in plan.edges] == [("parsed", "grouped"), ("grouped", "written")]


def test_a_reply_inside_an_object_called_plan_is_understood() -> None:
    assert len(plan_of(business(), read_envelope(EXAMPLE_B), {"plan": NOTES, "thoughts": "…"}).nodes) == 3


def test_what_is_not_the_models_to_say_is_not_taken_from_it() -> None:
    """F5: attempts, times, effects, versions and fallbacks are policy."""
    bold = COPY | {
        "max_attempts": 20, "timeout_seconds": 9_999, "effects": "once", "fallback": "replan",
        "capability_version": "9",
    }  # fmt: skip
    said = reply(bold, variants="posts") | {"plan_hash": "x", "strategy": "search", "goals": 7}
    plan = plan_of(business(), read_envelope(EXAMPLE_A), said)
    posts = plan.nodes[0]
    assert (posts.max_attempts, posts.timeout_seconds, posts.effects) == (3, 60.0, "none")
    assert (posts.fallback, posts.capability_version, plan.strategy) == ("hitl", "1.0.0", "model")


def test_a_generic_node_is_given_the_shape_of_what_it_fills() -> None:
    """F4: the structuring node's contract is the caller's own schema, one part or several."""
    world = business(model=True)
    envelope = ask(want(title=TEXT, points={"type": "array", "items": TEXT}))
    both = node("all", "model.structure", objective="/objective") | {"kind": "structure"}
    places = {"title": {"node_id": "all", "pointer": "/title"}, "points": {"node_id": "all", "pointer": "/points"}}
    plan = plan_of(world, envelope, reply(both, **places))
    output = plan.nodes[0].output
    assert output is not None
    assert output.schema_ == want(title=TEXT, points={"type": "array", "items": TEXT}) | {"additionalProperties": False}
    assert {goal.verdict for goal in plan.goals} == {"fits"}


# --- refused replies -------------------------------------------------------------------------------------------------


def test_the_selection_binds_the_model() -> None:
    """F5: require, forbid and topology hold whoever writes the plan."""
    world, said = business(), reply(COPY, variants="posts")
    base = EXAMPLE_A | {"policies": {}}
    forbidden = read_envelope(base | {"policies": policies(forbid=["copy.template"])})
    assert codes(world, forbidden, said) == ["capability_forbidden"]
    required = read_envelope(base | {"policies": policies(require=["company.summarise"])})
    assert codes(world, required, said) == ["require_unmet"]
    tight = read_envelope(EXAMPLE_B | {"policies": topology(max_nodes=2)})
    assert codes(world, tight, NOTES) == ["max_nodes"]
    kinds = read_envelope(EXAMPLE_B | {"policies": topology(forbidden_kinds=["call"])})
    assert set(codes(world, kinds, NOTES)) == {"forbidden_kind"}


def test_what_failed_before_is_not_used_again() -> None:
    again = Commission(Reconsider(2, frozenset({"copy.template"})))
    assert codes(business(), read_envelope(EXAMPLE_A), reply(COPY, variants="posts"), again) == ["capability_forbidden"]


def test_people_are_not_planned_unless_the_envelope_says_so() -> None:
    """F5, `selection.humans`: neither a capability that people do nor a question of its own."""
    human = cap("human.provide", (), generic=True, requires=("people",))
    world = World(TEXTS, [cap("to.beta", "beta", "alpha"), human])
    envelope = ask(want(beta=TEXT))
    by_call = reply(node("asked", "human.provide"), beta="asked")
    by_kind = reply({"node_id": "asked", "kind": "ask", "prompt": {"kind": "question", "question": "?"}}, beta="asked")
    assert codes(world, envelope, by_call) == ["people_not_allowed"]
    assert codes(world, envelope, by_kind) == ["people_not_allowed"]
    allowed = ask(want(beta=TEXT), policies=policies(humans="last_resort"))
    assert len(plan_of(world, allowed, by_call).nodes) == 1


def test_the_answer_is_never_written_into_the_plan() -> None:
    """F4: an answer is made by capabilities or taken from the task; a model that answers itself is refused."""
    said = reply(COPY, variants={"value": [{"headline": "a", "body": "b" * 30, "callToAction": "c"}] * 2})
    assert "literal_output" in codes(business(), read_envelope(EXAMPLE_A), said)


def test_a_value_of_the_task_must_fit_the_contract() -> None:
    envelope = read_envelope(EXAMPLE_B | {"inputs": {"log_text": "x", "version": 21}})
    assert codes(business(), envelope, NOTES) == ["output_clash"]


def test_a_part_of_the_answer_is_mapped_once() -> None:
    said = reply(COPY, variants="posts")
    said["output"]["map"][""] = {"node_id": "posts"}
    assert codes(business(), read_envelope(EXAMPLE_A), said) == ["overlapping_output"]


def test_a_part_that_is_missing_or_cannot_fit_is_found() -> None:
    world, envelope = business(), read_envelope(EXAMPLE_B)
    less = {**NOTES, "output": {"map": {"/version": {"from": "/inputs/version"}}}}
    assert codes(world, envelope, less) == ["unmapped_output", "unmapped_output"]
    wrong = reply(*NOTES["nodes"], version={"from": "/inputs/version"}, summary="parsed", sections="parsed")
    assert set(codes(world, envelope, wrong)) == {"output_clash"}


def test_a_schema_that_cannot_be_used_is_found_before_it_could_break_a_run() -> None:
    for schema in ({"type": 3}, {"$ref": "https://example.com/x"}, {"pattern": "("}):
        said = reply(COPY | {"output": {"schema": schema}}, variants="posts")
        assert codes(business(), read_envelope(EXAMPLE_A), said) == ["bad_schema"]


@pytest.mark.parametrize(
    ("said", "code"),
    [
        ({"nodes": [{"node_id": "a\x00", "kind": "call"}]}, "bad_text"),
        ({"nodes": ["\ud800"]}, "bad_text"),
        ({"nodes": [2**70]}, "bad_text"),
        (None, "model_type"),
        ([], "model_type"),
        ("a plan", "model_type"),
        ({}, "required"),
        ({"nodes": [], "output": {"map": {}}}, "too_short"),
    ],
)
def test_what_no_plan_could_be(said: Any, code: str) -> None:
    """F9: what no frame could carry and no database could keep is refused like any other bad reply."""
    assert code in codes(business(), read_envelope(EXAMPLE_B), said)


def test_findings_are_short_whatever_names_were_made_up() -> None:
    """F9: a rejected plan is a frame, so what it says of a reply is bounded."""
    said = reply(node("a" * 60, "b" * 127), **{"c" * 100_000: "a" * 60})
    answer = writer(business()).read(said, read_envelope(EXAMPLE_B), NEW)
    assert isinstance(answer, Unplannable)
    assert max(len(finding.message) + len(finding.pointer) for finding in answer.findings) <= 1_000


def test_depth_is_bounded() -> None:
    deep: Any = []
    for _ in range(400):
        deep = [deep]
    said = reply(node("a", "log.parse", log_text={"value": deep}))
    assert codes(business(), read_envelope(EXAMPLE_B), said) == ["too_deep"]


# --- on top of a plan ------------------------------------------------------------------------------------------------


def test_a_completed_node_that_is_repeated_stays_as_it_ran() -> None:
    """design §4, plan edits: a model need not copy every word of a node that has run."""
    world, envelope = business(), read_envelope(EXAMPLE_B)
    present = plan_of(world, envelope, NOTES)
    loose = node("parsed", "log.parse", log_text={"value": "other text"})
    again = reply(loose, *NOTES["nodes"][1:]) | {"output": NOTES["output"]}
    commission = Commission(Reconsider(2, present=present, completed=frozenset({"parsed"})))
    plan = plan_of(world, envelope, again, commission)
    assert plan.by_id["parsed"] == present.by_id["parsed"]


# --- anything --------------------------------------------------------------------------------------------------------

_BOTH = {"kind": "structure"} | node("all", "model.structure", told={"node_id": "posts"}, wish="/objective")
_EACH = {
    "node_id": "each", "kind": "map", "over": {"node_id": "posts", "pointer": ""}, "as": "profile",
    "node": {"kind": "call", "capability_id": "company.summarise", "output": {"schema": {"type": "string"}}},
}  # fmt: skip
_WAY = {"node_id": "way", "kind": "branch", "condition": "nodes.posts.size() > 1", "then": "each", "else": ["all"]}
_SHAPE = {"node_id": "shape", "kind": "transform", "inputs": {"x": {"node_id": "posts"}}, "expression": "x[0]"}
_ASK = {"node_id": "ask", "kind": "ask", "prompt": {"kind": "question", "question": "Which?", "answer_schema": {}}}
_GOOD = [
    reply(COPY, variants="posts"),
    reply(COPY, _BOTH, variants={"node_id": "all", "pointer": "/variants"}),
    reply(COPY, _EACH, _SHAPE, variants="posts")
    | {"edges": [{"from": "each", "to": "shape", "condition": "nodes.posts[0].headline == 'x'"}]},
    reply(COPY, _EACH, _BOTH, _WAY, variants="posts"),
    reply(COPY | {"output": {"facet": "copy_variants", "schema": {"type": "array", "items": {}}}}, variants="posts"),
    reply(COPY, _ASK, variants="posts"),
]
_WORDS = st.sampled_from(
    ["posts", "all", "each", "sign_off", "nobody", "", "/variants", "/inputs/channel", "/", "~", "map", "call", "/x/0"]
)
_JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=4), _WORDS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
)
_PARTS = st.sampled_from([
    {"type": "array"}, {"type": 3}, {"$ref": "#"}, {"enum": []}, {"properties": []}, {"required": "x"}, True, False,
    {"from": "/inputs/channel"}, {"from": "/nothing"}, {"node_id": "posts", "pointer": "/0/x"}, {"value": [1]}, [], {},
])  # fmt: skip


def _places(value: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    pairs = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [path, *(found for key, item in pairs for found in _places(item, (*path, key)))] if pairs else [path]


@st.composite
def _damaged(draw: st.DrawFn) -> Any:
    """A good reply with up to three places replaced, removed or added."""
    said = deepcopy(draw(st.sampled_from(_GOOD)))
    for _ in range(draw(st.integers(0, 3))):
        *above, last = draw(st.sampled_from([path for path in _places(said) if path]))
        at = reduce(getitem, above, said)
        match draw(st.sampled_from(["replace", "drop", "add", "twice"])):
            case "drop":
                del at[last]
            case "twice" if isinstance(at, list):
                at.append(deepcopy(at[last]))
            case "add" if isinstance(at, dict):
                at[draw(_WORDS)] = deepcopy(draw(st.one_of(_PARTS, _JSON)))
            case _:
                at[last] = deepcopy(draw(st.one_of(_PARTS, _WORDS, _JSON)))
    return said


_WRITER = writer(business(model=True))
_ENVELOPE = read_envelope(EXAMPLE_A)
_PRESENT = plan_of(business(), _ENVELOPE, reply(COPY, variants="posts"))


@settings(max_examples=300, deadline=None)
@given(st.one_of(_damaged(), _damaged(), _JSON))
def test_whatever_a_model_says_gives_a_plan_or_findings(said: Any) -> None:
    """F4, F8: never an exception, and a plan that comes out has its gate and can be stored and shown."""
    again = Commission(Reconsider(2, notes=("less",), present=_PRESENT, completed=frozenset({"posts"})))
    for commission in (NEW, again):
        answer = _WRITER.read(said, _ENVELOPE, commission)
        if isinstance(answer, Planned):
            assert any(node.own.get("guards") == "output" for node in answer.plan.nodes), "the gate is missing"
            assert PlanGraph.model_validate(orjson.loads(answer.plan.wire)).plan_hash == answer.plan.plan_hash
            assert compile_plan(answer.plan, BY_NAME, 3, 60.0).roots
        else:
            assert any(finding.severity == "error" for finding in answer.findings)
