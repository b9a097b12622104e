"""The two worked examples of wire §6, to the letter, and the tests it names under «No switch»."""

from __future__ import annotations

import ast
import copy
import json
from pathlib import Path
from typing import Any

import pytest

import planner
from contracts.capability import CapabilitySpec, Facet, Param
from contracts.composition import compose
from contracts.envelope import read_envelope
from contracts.plan import plan_wire
from contracts.schema import compile_schema
from tests.planner.worlds import (
    BUSINESS,
    EXAMPLE_A,
    EXAMPLE_B,
    MAKERS,
    NAMES,
    OFFLINE,
    TEXT,
    World,
    ask,
    business,
    cap,
    obj,
    want,
)

A_ON_THE_WIRE = {
    "plan_version": 1,
    "strategy": "search",
    "nodes": [
        {
            "node_id": "copy_variants",
            "kind": "call",
            "capability_id": "copy.template",
            "capability_version": "1.0.0",
            "inputs": {
                "profile": {"from": "/context/bundles/0/payload"},
                "channel": {"from": "/inputs/channel"},
                "audience": {"from": "/inputs/audience"},
                "tone": {"from": "/inputs/tone"},
                "count": {"value": 2},
            },
            "output": {"facet": "copy_variants", "schema": {"type": "array", "minItems": 2, "maxItems": 2}},
            "max_attempts": 3,
            "timeout_seconds": 60,
            "fallback": "hitl",
            "effects": "none",
            "rationale": ["alias of /variants; only producer"],
        },
        {"node_id": "sign_off", "kind": "ask", "policy_id": "sign_off", "guards": "output"},
    ],
    "edges": [{"from": "copy_variants", "to": "sign_off", "condition": None}],
    "output": {"mode": "map", "map": {"/variants": {"node_id": "copy_variants", "pointer": ""}}},
    "goals": [
        {
            "pointer": "/variants",
            "facet": "copy_variants",
            "verdict": "may",
            "unproved": ["/items/properties/body/minLength"],
        }
    ],
    "unused_inputs": ["/inputs/goal"],
    "estimate": {"cost": 0, "tokens": 0, "latency_ms": 20},
    "findings": [],
}


def test_example_a_on_the_wire() -> None:
    """F4, wire §3: the plan of the example, field for field."""
    shown = plan_wire(business().plan(read_envelope(EXAMPLE_A)))
    assert len(shown.pop("plan_hash")) == 64
    assert shown == A_ON_THE_WIRE


def test_example_a_without_its_bundle() -> None:
    """R9: the refusal names the facet, the way to it, and a remedy."""
    (finding,) = business().refuse(read_envelope({**EXAMPLE_A, "context": {}}))
    assert (finding.code, finding.pointer, finding.severity) == ("missing_facet", "/variants", "error")
    assert "company_profile" in finding.message
    assert "copy.template" in finding.message
    assert finding.fix is not None
    assert "company_profile" in finding.fix


def test_example_b() -> None:
    """R2, R4: three nodes; the version comes from the input, summary and sections from one node."""
    plan = business().plan(read_envelope(EXAMPLE_B))
    assert [node.capability_id for node in plan.nodes] == ["log.parse", "records.group", "notes.write"]
    assert [(edge.from_, edge.to) for edge in plan.edges] == [
        ("change_records", "change_groups"),
        ("change_groups", "release_sections"),
    ]
    shown = plan_wire(plan)["output"]["map"]
    assert shown == {
        "/version": {"from": "/inputs/version"},
        "/summary": {"node_id": "release_sections", "pointer": "/release_summary"},
        "/sections": {"node_id": "release_sections", "pointer": "/release_sections"},
    }
    outputs = {"release_sections": {"release_summary": "s", "release_sections": [{"title": "t", "items": ["i"]}]}}
    answer = compose(
        plan.output,
        lambda bound: "2.1" if bound.node_id is None else outputs[bound.node_id][bound.pointer.removeprefix("/")],
    )
    assert compile_schema(EXAMPLE_B["output_contract"]["schema"]).is_valid(answer)


def test_example_b_with_a_profile() -> None:
    """R4: the same alias on another facet would only add a node: dropped, and the profile is unused."""
    plan = business().plan(read_envelope(EXAMPLE_B | {"context": EXAMPLE_A["context"]}))
    assert [node.capability_id for node in plan.nodes] == ["log.parse", "records.group", "notes.write"]
    assert plan.unused_inputs == ["/context/bundles/0/payload"]


def _with_highlights() -> dict[str, Any]:
    asked = copy.deepcopy(EXAMPLE_B)
    asked["output_contract"]["schema"]["required"].append("highlights")
    asked["output_contract"]["schema"]["properties"]["highlights"] = NAMES
    return asked


def test_example_b_with_highlights_offline() -> None:
    """R7: nobody can write it, and the remedy is the operator's."""
    (finding,) = business().refuse(read_envelope(_with_highlights()))
    assert (finding.code, finding.pointer, finding.fix) == ("no_structurer", "/highlights", OFFLINE["model.structure"])


def test_example_b_with_highlights_and_a_model() -> None:
    """R7: one node reads both release facets."""
    plan = business(model=True).plan(read_envelope(_with_highlights()))
    node = plan.by_id["highlights"]
    assert (node.kind, node.capability_id, len(plan.nodes)) == ("structure", "model.structure", 4)
    assert sorted(node.inputs) == ["release_sections", "release_summary"]
    assert node.output is not None
    assert node.output.schema_ == NAMES


@pytest.mark.parametrize(
    ("example", "removed", "facet"),
    [
        (EXAMPLE_A, "copy.template", "copy_variants"),
        (EXAMPLE_B, "log.parse", "change_records"),
        (EXAMPLE_B, "records.group", "change_groups"),
        (EXAMPLE_B, "notes.write", "release_sections"),
    ],
)
def test_without_its_only_producer_there_is_no_plan(example: dict[str, Any], removed: str, facet: str) -> None:
    """No switch: whatever is removed, the refusal names its facet."""
    findings = business().without(removed).refuse(read_envelope(example))
    assert any(finding.code == "missing_facet" and facet in finding.message for finding in findings)


def _renamed(text: str) -> str:
    return "q" + text[::-1].replace(".", "_")


def test_renaming_everything_gives_the_same_graph() -> None:
    """No switch: names are data. Facets, capabilities and the envelope's keys are renamed together."""
    facets = [
        Facet(
            _renamed(facet.name),
            facet.schema,
            tuple(_renamed(alias) for alias in facet.aliases),
            facet.description,
            facet.list_of and _renamed(facet.list_of),
        )
        for facet in BUSINESS
    ]
    specs = [
        CapabilitySpec(
            _renamed(spec.capability_id),
            consumes={name: Param(_renamed(param.facet), param.required) for name, param in spec.consumes.items()},
            produces=tuple(_renamed(facet) for facet in spec.produces),
            generic=spec.generic,
            batch=spec.batch,
            latency_ms=spec.latency_ms,
        )
        for spec in MAKERS
    ]
    other = World(facets, specs, {_renamed("model.structure"): "off"})
    for example in (EXAMPLE_A, EXAMPLE_B):
        plan = business().plan(read_envelope(example))
        changed = other.plan(read_envelope(_renamed_envelope(example)))
        assert [node.capability_id and _renamed(node.capability_id) for node in plan.nodes] == [
            node.capability_id for node in changed.nodes
        ]
        names = {old.node_id: new.node_id for old, new in zip(plan.nodes, changed.nodes, strict=True)}
        assert [(names[edge.from_], names[edge.to]) for edge in plan.edges] == [(e.from_, e.to) for e in changed.edges]
        assert [(goal.verdict, goal.unproved) for goal in plan.goals] == [
            (g.verdict, g.unproved) for g in changed.goals
        ]


def _renamed_envelope(example: dict[str, Any]) -> dict[str, Any]:
    shown = copy.deepcopy(example)
    shown["inputs"] = {_renamed(key): value for key, value in shown["inputs"].items()}
    for bundle in shown.get("context", {}).get("bundles", []):
        bundle["type"] = _renamed(bundle["type"])
    schema = shown["output_contract"]["schema"]
    schema["required"] = [_renamed(name) for name in schema["required"]]
    schema["properties"] = {_renamed(name): at for name, at in schema["properties"].items()}
    return shown


def test_an_unseen_domain_plans_from_its_own_facets_and_capabilities() -> None:
    """No switch: a hospital's catalogue, of which nothing here has ever heard."""
    triage = obj({"urgency": {"enum": ["low", "high"]}, "reason": TEXT})
    world = World(
        [
            Facet("symptom_report", TEXT),
            Facet("vital_signs", obj({"pulse": {"type": "integer"}})),
            Facet("triage_level", triage, ("triage",)),
            Facet("bed_assignment", obj({"ward": TEXT}), ("bed",)),
        ],
        [
            cap("vitals.read", "vital_signs", "symptom_report"),
            cap("triage.assess", "triage_level", "symptom_report vital_signs"),
            cap("beds.assign", "bed_assignment", "triage_level", effects="once"),
        ],
    )
    plan = world.plan(ask(want(triage=triage, bed=obj({"ward": TEXT})), inputs={"symptomReport": "cough"}))
    assert [node.capability_id for node in plan.nodes] == ["vitals.read", "triage.assess", "beds.assign"]
    assert plan.by_id["bed_assignment"].effects == "once"
    assert [goal.verdict for goal in plan.goals] == ["fits", "fits"]


def test_no_facet_and_no_capability_is_named_in_the_planner() -> None:
    """No switch: the string literals of the planner's code hold no name of a catalogue."""
    names = {facet.name for facet in BUSINESS} - {"channel", "audience", "tone"}
    names |= {spec.capability_id for spec in MAKERS}
    for path in Path(planner.__path__[0]).rglob("*.py"):
        literals = {
            n.value
            for n in ast.walk(ast.parse(path.read_text()))
            if isinstance(n, ast.Constant) and isinstance(n.value, str)
        }
        assert not literals & names, path


def test_the_same_question_gets_the_same_plan() -> None:
    """Deterministic: two planners, one plan to the byte; an equal question is answered from memory."""
    first, second = business(), business()
    one, other = (world.plan(read_envelope(json.loads(json.dumps(EXAMPLE_A)))) for world in (first, second))
    assert one.wire == other.wire
    assert first.plan(read_envelope(EXAMPLE_A)) is one
