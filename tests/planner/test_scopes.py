"""Scopes that capabilities require, in plans that are searched for and plans that were written (W4)."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.capability import Facet
from contracts.descent import child_envelope
from contracts.envelope import TaskEnvelope, granting_json, kept_envelope, read_envelope
from contracts.errors import EnvelopeInvalid
from contracts.plan import Finding
from contracts.ports import Planned, Unplannable
from contracts.scopes import lacking, refused_nodes
from tests.planner.worlds import TEXT, World, ask, cap, want

WORLD = World(
    [Facet("text", TEXT), Facet("note", TEXT), Facet("sale", TEXT), Facet("talk", TEXT)],
    [
        cap("crm.note", "note", "text", scopes=("crm:write",), quality=1.0),
        cap("own.note", "note", "text", cost=9.0, latency_ms=5_000),
        cap("crm.sale", "sale", "text", scopes=("crm:write", "money"), version="2.0.0"),
        cap("crm.sale", "sale", "text", version="1.0.0"),
        cap("agent.clerk", "talk", "text", tools=("own.note", "crm.note", "agent.chief")),
        cap("agent.chief", "talk", "text", tools=("agent.clerk", "crm.sale")),
    ],
)
CALL: dict[str, Any] = {
    "node_id": "n", "kind": "call", "capability_id": "crm.note", "inputs": {"text": {"value": "x"}},
}  # fmt: skip
SALE: dict[str, Any] = {**CALL, "capability_id": "crm.sale"}
INNER = {"nodes": [CALL], "edges": [], "output": {"map": {"": {"node_id": "n"}}}}
MAP = {
    "node_id": "n", "kind": "map", "over": {"value": ["x"]}, "as": "text",
    "node": {"kind": "call", "capability_id": "crm.note"},
}  # fmt: skip
SUBFLOW = {"node_id": "n", "kind": "subflow", "inputs": {}, "plan": INNER}
CHAT = {"node_id": "n", "kind": "chat", "inputs": {"messages": {"value": []}}, "tools": ["own.note", "crm.note"]}


def submitted(node: dict[str, Any], *scopes: str) -> list[Finding]:
    """The findings about scopes of a plan of one node, submitted by somebody who was granted these."""
    plan = {"nodes": [node], "edges": [], "output": {"map": {"": {"node_id": "n"}}}}
    answer = WORLD.planner.check(plan, ask(True).granting(frozenset(scopes)), at="/workflow/plan")
    found = answer.plan.findings if isinstance(answer, Planned) else answer.findings
    return [each for each in found if each.code == "scope_missing"]


@pytest.mark.parametrize(
    ("node", "below"),
    [
        (CALL, "/capability_id"),
        (SALE, "/capability_id"),
        ({**SALE, "capability_version": "2.0.0"}, "/capability_id"),
        (MAP, "/node/capability_id"),
        (SUBFLOW, "/plan/nodes/0/capability_id"),
        (CHAT, "/tools/1"),
        ({**CALL, "capability_id": "agent.clerk"}, "/capability_id"),
        ({**CALL, "capability_id": "agent.chief"}, "/capability_id"),
    ],
)
def test_what_needs_a_scope_is_refused_where_it_stands(node: dict[str, Any], below: str) -> None:
    """W4: an error of the layer security, with pointer, node and a way out; with the scopes there is none."""
    (found,) = submitted(node, "crm:read")
    assert (found.layer, found.severity) == ("security", "error")
    assert found.node_id in ("n", "item")
    assert found.pointer == f"/workflow/plan/nodes/0{below}"
    assert "crm:write" in found.message
    assert found.fix is not None
    assert submitted(node, "crm:write", "money") == []


def test_all_of_them_are_needed_and_only_by_the_version_that_requires_them() -> None:
    """W4: one of two is not enough; a version that requires none may be called by everybody."""
    (found,) = submitted(SALE, "crm:write")
    assert "money" in found.message
    assert "crm:write" not in found.message
    assert submitted({**SALE, "capability_version": "1.0.0"}) == []


def chosen(envelope: TaskEnvelope) -> list[str | None]:
    return [node.capability_id for node in WORLD.plan(envelope).nodes]


def test_the_search_chooses_what_the_caller_may_use() -> None:
    """W4: another producer is taken; answers for one caller are not given to another."""
    asked = ask(want(note=TEXT), inputs={"text": "x"})
    for _ in range(2):
        assert chosen(asked.granting(frozenset())) == ["own.note"]
        assert chosen(asked.granting(frozenset({"crm:write"}))) == ["crm.note"]
        assert chosen(asked) == ["crm.note"]


def test_where_nothing_else_would_do_the_refusal_names_the_scope() -> None:
    """W4, F4: the diagnosis says which scope of which capability is missing."""
    asked = ask(want(sale=TEXT), inputs={"text": "x"}).granting(frozenset({"crm:write"}))
    answer = WORLD.planner.plan(asked)
    assert isinstance(answer, Unplannable)
    assert {(each.layer, each.code, each.pointer) for each in answer.findings} >= {
        ("security", "scope_missing", "/sale"),
        ("capability", "missing_facet", "/sale"),
    }
    told = next(each for each in answer.findings if each.code == "scope_missing")
    assert "crm.sale" in told.message
    assert "money" in told.message
    assert chosen(asked.granting(frozenset({"crm:write", "money"}))) == ["crm.sale"]


def test_a_child_may_use_what_its_parent_may() -> None:
    """W4: what was granted goes with the envelope, through the store and into child runs; no caller can write it."""
    parent = ask(True).granting(frozenset({"b", "a"}))
    own = {"objective": "x", "output_contract": {"schema": True}}
    assert kept_envelope(child_envelope(parent, own)).granted == frozenset({"a", "b"})
    assert "granted_scopes" not in child_envelope(ask(True), own)
    kept = granting_json(parent.model_dump(mode="json"), parent.granted)
    assert kept["granted_scopes"] == ["a", "b"]
    assert kept_envelope(kept).granted == frozenset({"a", "b"})
    assert kept_envelope(granting_json(kept, None)).granted is None
    with pytest.raises(EnvelopeInvalid):
        read_envelope(kept)


@pytest.mark.parametrize("node", [CALL, SALE, MAP, SUBFLOW, CHAT, {**CHAT, "tools": [], "flows": [{"plan": INNER}]}])
def test_a_kept_plan_is_looked_through(node: dict[str, Any]) -> None:
    """W4: who goes on with another's run is held to the whole plan, plans inside it included."""
    plan = {"nodes": [node]}
    (found,) = refused_nodes(plan, WORLD.now, frozenset(), "/plan")
    assert (found.code, found.pointer.startswith("/plan/nodes/0")) == ("scope_missing", True)
    assert refused_nodes(plan, WORLD.now, frozenset({"crm:write", "money"})) == []
    assert refused_nodes(plan, WORLD.now, None) == []
    assert refused_nodes(plan, WORLD.now, frozenset(), left_out={0}) == []
    assert lacking(("a", "b"), frozenset({"a"})) == ["b"]
