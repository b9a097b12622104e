"""What a model is told: bounded, and without the gates that the service puts in (F4, H5)."""

from __future__ import annotations

from itertools import combinations
from typing import Any

import orjson
import pytest

from contracts.envelope import read_envelope
from contracts.plan import PlanGraph, plan_wire
from contracts.ports import Brief, Commission, Planned, Reconsider, Unplannable
from engine.kinds import kind_table
from planner.briefing import MAX_CAPABILITIES
from planner.model import ModelWriter
from planner.ungated import ungated
from tests.model.scripted import quoted
from tests.planner.worlds import EXAMPLE_A, EXAMPLE_B, TEXT, TEXTS, World, ask, business, cap, policies, used, want

RULES: dict[str, dict[str, Any]] = {
    "look": {"id": "look", "when": "plan"},
    "first": {"id": "first", "when": "before", "selector": {"node_id": "grouped"}},
    "second": {"id": "second", "when": "before", "selector": {"node_id": "grouped"}},
    "over": {"id": "over", "when": "before", "selector": {"kind": "map"}},
    "way": {"id": "way", "when": "before", "selector": {"node_id": "shape"}},
    "then": {"id": "then", "when": "after", "selector": {"node_id": "grouped"}},
    "too": {"id": "too", "when": "after", "selector": {"node_id": "grouped"}},
    "written": {"id": "written", "when": "after", "selector": {"node_id": "written"}},
    "last": {"id": "last", "when": "output"},
}


def node(node_id: str, kind: str, **more: Any) -> dict[str, Any]:
    return {"node_id": node_id, "kind": kind, **more}


def bound(node_id: str, pointer: str = "") -> dict[str, str]:
    return {"node_id": node_id, "pointer": pointer}


EACH = {"kind": "transform", "expression": "x", "inputs": {"y": bound("grouped")}}
PLAN: dict[str, Any] = {
    "nodes": [
        node("parsed", "call", capability_id="log.parse", inputs={"log_text": {"from": "/inputs/log_text"}}),
        node("grouped", "call", capability_id="records.group", inputs={"change_records": bound("parsed")}),
        node("written", "call", capability_id="notes.write", inputs={"change_groups": bound("grouped")}),
        node("way", "branch", condition='nodes["grouped"].size() > 0', then="shape", **{"else": ["each"]}),
        node("shape", "transform", expression="x", inputs={"x": bound("grouped", "/a")}),
        node("each", "map", over=bound("parsed"), node=EACH, **{"as": "x"}),
    ],
    "edges": [{"from": "grouped", "to": "written", "condition": 'nodes["grouped"].size() > 1'}],
    "output": {
        "map": {
            "/version": {"from": "/inputs/version"},
            "/summary": bound("written", "/release_summary"),
            "/sections": bound("written", "/release_sections"),
        }
    },
}


def checked(*rules: str) -> PlanGraph:
    envelope = read_envelope(EXAMPLE_B | {"policies": {"hitl": [RULES[name] for name in rules]}})
    answer = business().planner.check(PLAN, envelope)
    assert isinstance(answer, Planned), answer
    return answer.plan


def meaning(plan: PlanGraph) -> tuple[Any, ...]:
    """What a plan does, without the order in which its edges are listed."""
    shown = plan_wire(plan)
    nodes = {each["node_id"]: each | {"fallback": None} for each in shown["nodes"]}
    edges = {(edge["from"], edge["to"], edge["condition"]) for edge in shown["edges"]}
    return nodes, edges, shown["output"]


@pytest.mark.parametrize("rules", [names for many in (1, 2, 3) for names in combinations(RULES, many)])
def test_taking_the_gates_out_gives_the_plan_before_they_were_put_in(rules: tuple[str, ...]) -> None:
    """A model is shown what it wrote, so what it writes again is gated again."""
    assert meaning(ungated(checked(*rules), kind_table())) == meaning(checked())


def brief(world: World, envelope: Any, commission: Commission = Commission()) -> list[dict[str, str]]:  # noqa: B008  # frozen
    told = ModelWriter(world.planner).brief(read_envelope(envelope), commission)
    assert isinstance(told, Brief), told
    return [dict(message) for message in told.messages]


def test_the_present_plan_is_shown_as_a_model_would_have_written_it() -> None:
    """Without gates, versions, effects and contracts that the service fills in; what ran is named."""
    present = checked("look", "first")
    again = Commission(Reconsider(2, frozenset({"log.parse"}), ("shorter",), present, frozenset({"parsed", "look"})))
    messages = brief(business(), EXAMPLE_B, again)
    shown = quoted("plan", messages)
    assert [each["node_id"] for each in shown["nodes"]] == [each["node_id"] for each in PLAN["nodes"]]
    assert not {"effects", "capability_version", "max_attempts"} & set(shown["nodes"][0])
    assert "These nodes have run: parsed." in messages[-1]["content"]
    assert "must not be used again: log.parse" in messages[-1]["content"]
    assert quoted("notes", messages)["notes"] == ["shorter"]


def test_a_large_catalogue_is_cut_to_what_matters() -> None:
    """Bounded whatever is registered: what is required and what leads to the goal stays."""
    makers = [cap(f"other.{number:03}", "beta", "gamma") for number in range(300)]
    chain = [cap("z.first", "gamma", "alpha"), cap("z.last", "delta", "gamma"), cap("z.wished", "beta", "alpha")]
    world = World(TEXTS, [*makers, *chain])
    envelope = {"objective": "x", "inputs": {"alpha": "a"}, "output_contract": {"schema": want(delta=TEXT)}}
    shown = quoted("catalogue", brief(world, envelope | {"policies": policies(require=["z.wished"])}))
    names = [entry["capability_id"] for entry in shown["capabilities"]]
    assert len(names) == MAX_CAPABILITIES
    assert {"z.first", "z.last", "z.wished"} <= set(names)


def test_long_schemas_are_cut_and_a_task_too_long_is_no_task_for_a_model() -> None:
    wide = want(**{f"field_{number}": {"type": "string", "description": "d" * 100} for number in range(100)})
    world = business()
    messages = brief(world, EXAMPLE_A | {"inputs": {**EXAMPLE_A["inputs"], "wide": {"x": "y" * 9_000}}})
    given = {entry["name"]: entry for entry in quoted("task", messages)["given"]}
    assert given["wide"]["members"] == {"x": "string"}
    long = EXAMPLE_A | {"constraints": {"text": "z" * 400_000}, "output_contract": {"schema": wide}}
    refused = ModelWriter(world.planner).brief(read_envelope(long), Commission())
    assert isinstance(refused, Unplannable)
    assert [finding.code for finding in refused.findings] == ["too_long_for_model"]


def test_the_reply_that_is_asked_for_is_a_plan() -> None:
    """Structured output: the schema names the kinds that may be used, and takes what the search writes."""
    envelope = read_envelope(EXAMPLE_B)
    told = ModelWriter(business().planner).brief(envelope, Commission())
    assert isinstance(told, Brief)
    kinds = told.schema["properties"]["nodes"]["items"]["properties"]["kind"]["enum"]
    assert "ask" not in kinds
    assert "subflow" not in kinds
    assert {"call", "map", "transform"} <= set(kinds)
    assert orjson.dumps(told.schema)


def test_what_is_wrong_with_the_envelope_is_found_before_a_model_is_asked() -> None:
    world = business()
    conflict = ask(
        EXAMPLE_A["output_contract"]["schema"],
        inputs=EXAMPLE_A["inputs"],
        policies={"planner": {"topology": {"variant_count": 7}}},
    )
    told = ModelWriter(world.planner).brief(conflict, Commission())
    assert isinstance(told, Unplannable)
    assert [finding.code for finding in told.findings] == ["variant_count_conflict"]
    assert used(world.plan(read_envelope(EXAMPLE_A)))
