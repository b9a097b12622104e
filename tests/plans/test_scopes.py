"""Scopes through every door: who may have runs call what, decided when a run is accepted (W4, P2)."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from contracts.access import Principal
from tests.flows.making import published
from tests.plans.steering import served
from tests.registrations.running import acting_as, declaration
from tests.spine.running import Service, envelope, plan
from tests.spine.sse import payload

GUARDED = Path(__file__).with_name("guarded.py")
EVERY_ROLE = frozenset({"submitter", "operator", "builder", "admin"})
ANA = Principal("user:ana", roles=EVERY_ROLE, scopes=frozenset({"books:write"}))
BEN = Principal("user:ben", roles=EVERY_ROLE)
ENTER: dict[str, Any] = {
    "node_id": "b", "kind": "call", "capability_id": "books.enter", "inputs": {"entry": {"value": "1"}},
}  # fmt: skip
INSIDE = plan({"node_id": "s", "kind": "subflow", "inputs": {}, "plan": plan(ENTER)})
SEARCHED = envelope(
    schema={"type": "object", "required": ["plans_booked"], "properties": {"plans_booked": {"type": "string"}}},
    inputs={"plans_entry": "7"},
)


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    """A served process with the books."""
    async with served(database_url, GUARDED, egress_allow=("127.0.0.1",)) as running:
        yield running


def refusals(answer: httpx2.Response) -> list[tuple[str, str]]:
    assert (answer.status_code, answer.json()["code"]) == (422, "plan_invalid"), answer.text
    return [(item["pointer"], item["code"]) for item in answer.json()["errors"]]


async def test_each_way_to_say_what_to_run_asks_for_the_scope(service: Service) -> None:
    """W4: custom graph, stored flow, template and plan of the search alike; who has the scope runs them all."""
    flow_id = await published(service, {"name": "Book", "plan": plan(ENTER)})
    template = {"name": "Book", "flow": {"name": "Book", "plan": plan(ENTER)}}
    made = await service.client.post("/api/v1/templates", json=template)
    assert made.status_code == 201, made.text
    template_id = made.json()["template_id"]
    bodies: list[Any] = [
        envelope(plan(ENTER)),
        {**envelope(), "workflow": {"flow_id": flow_id}},
        {**envelope(), "workflow": {"template_id": template_id}},
        envelope(INSIDE),
    ]
    below = ["", "", "", "/plan/nodes/0"]
    async with acting_as(service, BEN) as ben, acting_as(service, ANA) as ana:
        for body, inside in zip(bodies, below, strict=True):
            refused = await ben.post("/api/v1/runs", json=body)
            assert refusals(refused) == [(f"/workflow/plan/nodes/0{inside}/capability_id", "scope_missing")]
            done = await ana.post("/api/v1/runs", json=body, headers={"Prefer": "wait=10"})
            assert (done.status_code, done.json()["status"]) == (200, "completed"), done.text
        for who, answer in ((ben, "drafted 7"), (ana, "booked 7")):
            done = await who.post("/api/v1/runs", json=SEARCHED, headers={"Prefer": "wait=10"})
            assert done.json()["output"] == {"plans_booked": answer}
        for who, expected in ((ben, ["scope_missing"]), (ana, [])):
            custom = {"workflow_type": "custom", "plan": plan(ENTER)}
            for path, body in (("workflows/validate", custom), (f"templates/{template_id}/validate", None)):
                said = (await who.post(f"/api/v1/{path}", json=body)).json()
                security = said["validation"]["security"]
                assert [each["code"] for each in security["errors"]] == expected, path
                assert (said["valid"], security["valid"]) == (not expected, not expected)
            dry = (await who.post("/api/v1/plans", json=envelope(plan(ENTER)))).json()
            assert [each["code"] for each in dry["findings"] if each["layer"] == "security"] == expected
    run = await service.run(envelope(plan(ENTER)))
    assert payload(run, "complete")["output"] == "booked 1"


async def test_a_right_is_frozen_and_whoever_goes_on_has_his_own(service: Service) -> None:
    """W4: a run keeps the right it was accepted with; a retry or fork is held to who asks for it."""
    registered: Any = service.flex.registry.find("books.enter")
    books: Any = sys.modules[registered.function.__module__]
    books.open_books[0] = False
    async with acting_as(service, BEN) as ben, acting_as(service, ANA) as ana:
        failed = await ana.post("/api/v1/runs", json=envelope(INSIDE), headers={"Prefer": "wait=10"})
        assert failed.json()["status"] == "failed"
        at = f"/api/v1/runs/{failed.json()['run_id']}"
        books.open_books[0] = True
        expected = [("/plan/nodes/0/plan/nodes/0/capability_id", "scope_missing")]
        assert refusals(await ben.post(f"{at}/retry")) == expected
        assert refusals(await ben.post(f"{at}/fork", json={"node_id": "s"})) == expected
        again = await ana.post(f"{at}/retry")
        assert again.status_code == 202, again.text
        frames = await service.follow(again.json()["run_id"])
        assert payload(frames, "complete")["output"] == "booked 1"
        free = await ana.post("/api/v1/runs", json=envelope(plan({**ENTER, "capability_id": "books.draft"})))
        his = await ben.post(f"/api/v1/runs/{free.json()['run_id']}/fork", json={"node_id": "b"})
        assert his.status_code == 202, his.text
        await service.follow(his.json()["run_id"])
        wider = await ana.post(f"/api/v1/runs/{his.json()['run_id']}/fork", json={"node_id": "b"})
        assert wider.status_code == 202


async def test_nobody_edits_into_a_run_what_he_may_not_do(service: Service) -> None:
    """W4: neither what its caller may not, nor what the editor may not; what stands there already is left alone."""
    ask = {"node_id": "p", "kind": "ask", "prompt": {"question": "P?"}}
    order = [{"from": "p", "to": "b"}]
    with_it, without = plan(ask, ENTER, edges=order), plan(ask, {**ENTER, "capability_id": "books.draft"}, edges=order)
    review = {"hitl": [{"id": "look", "when": "plan"}]}
    async with acting_as(service, BEN) as ben, acting_as(service, ANA) as ana:
        for owner, before, editor, status in (
            (ana, without, ben, 422),
            (ben, without, ana, 422),
            (ana, with_it, ben, 200),
            (ana, without, ana, 200),
        ):
            run_id = (await owner.post("/api/v1/runs", json=envelope(before))).json()["run_id"]
            await service.asked(run_id)
            after = {**with_it, "nodes": [*with_it["nodes"], {"node_id": "v", "kind": "variable", "default": 1}]}
            body = {"base_version": 1, "plan": after, "reason": "x"}
            answer = await editor.patch(f"/api/v1/runs/{run_id}/plan", json=body)
            assert answer.status_code == status, answer.text
            if status == 422:
                assert ("/plan/nodes/1/capability_id", "scope_missing") in refusals(answer)
        inside = plan({"node_id": "s", "kind": "subflow", "inputs": {}, "plan": plan(ask)})
        for owner, status in ((ben, 422), (ana, 200)):
            parent = (await owner.post("/api/v1/runs", json=envelope(inside))).json()["run_id"]
            async with service.watch(parent) as reader:
                await reader.until("run_waiting")
                child = str(payload(reader.frames, "node_start")["child_run_id"])
            await service.asked(child)
            body = {"base_version": 1, "plan": with_it, "reason": "x"}
            answer = await ana.patch(f"/api/v1/runs/{child}/plan", json=body)
            assert answer.status_code == status, "a child run may use what its parent may"
        started = await ana.post("/api/v1/runs", json=envelope(without, policies=review))
        (prompt,) = await service.asked(started.json()["run_id"])
        decision = {"action": "edit", "answer": with_it}
        url = f"/api/v1/prompts/{prompt['prompt_id']}/decisions"
        refused = await ben.post(url, json=decision)
        assert refused.status_code == 422, refused.text
        assert ("/answer/nodes/1/capability_id", "scope_missing") in [
            (item["pointer"], item["code"]) for item in refused.json()["errors"]
        ]
        assert (await ana.post(url, json=decision)).status_code == 200


async def test_scopes_are_shown_and_checked(service: Service) -> None:
    """W4: a caller sees its scopes, a list of capabilities what they require; a registration may require some."""
    async with acting_as(service, ANA) as ana:
        assert (await ana.get("/api/v1/me")).json()["scopes"] == ["books:write"]
    assert (await service.client.get("/api/v1/me")).json()["scopes"] == ["*"]
    listed = (await service.client.get("/api/v1/capabilities?limit=100")).json()["items"]
    assert {each["capability_id"]: each["scopes"] for each in listed}["books.enter"] == ["books:write"]
    body = declaration("http://127.0.0.1:9/", scopes=["crm:write"])
    answer = await service.client.post("/api/v1/capabilities", json=body)
    assert (answer.status_code, answer.json()["scopes"]) == (201, ["crm:write"])
    assert (await service.client.post("/api/v1/capabilities", json=body)).status_code == 200
    other = await service.client.post("/api/v1/capabilities", json={**body, "scopes": []})
    assert other.status_code == 409, other.text
    for wrong in (["*"], ["a b"], [""], "crm:write"):
        refused = await service.client.post("/api/v1/capabilities", json={**body, "version": "2", "scopes": wrong})
        assert (refused.status_code, refused.json()["code"]) == (422, "registration_invalid")
    mine = await service.client.post("/api/v1/runs", json={**envelope(plan(ENTER)), "granted_scopes": ["*"]})
    assert (mine.status_code, mine.json()["errors"][0]["code"]) == (422, "unknown_field")
