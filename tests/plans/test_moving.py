"""Approvals and rules while the world moves: processes stop, capabilities are registered anew, rights are asked for."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.access import DEFAULT_TENANT, Principal
from tests.capabilities.web import serving as serving_web
from tests.plans.steering import asked_of, edited, own_abilities, rule, served
from tests.registrations.running import ENVELOPE, NAME, acting_as, declaration, register, says
from tests.registrations.running import serving as serving_registered
from tests.spine.running import Service, call, edge, envelope, of, plan
from tests.spine.sse import payload, shapes


async def test_a_capability_that_was_registered_anew_is_approved_anew(database_url: str) -> None:
    """H5: the same id and version at another address is not what was approved; nothing is called until it is."""
    hitl = [{"id": "gate", "when": "before"}]
    body = {**ENVELOPE, "policies": {**ENVELOPE["policies"], "hitl": hitl}}  # type: ignore[dict-item]  # it is one
    async with (
        serving_web(says({"output": {"sky": "old"}})) as old,
        serving_web(says({"output": {"sky": "new"}})) as new,
        serving_registered(database_url) as service,
    ):
        await register(service, declaration(old.url))
        async with service.stream(body) as reader:
            prompt = await asked_of(reader, "gate")
            run_id = prompt["run_id"]
            assert (await service.client.post(f"/api/v1/runs/{run_id}/pause", json={})).status_code == 200
            await service.decided(prompt, "approve")
            await reader.until("node_complete", "gate")
            gone = await service.client.delete(f"/api/v1/capabilities/{NAME}")
            assert gone.status_code == 204, gone.text
            await register(service, declaration(new.url))
            assert (await service.client.post(f"/api/v1/runs/{run_id}/resume", json={})).status_code == 200
            again = (await reader.until("hitl_request", "gate")).payload["prompt"]
            await reader.until("run_waiting")
            assert (len(old.asked), len(new.asked)) == (0, 0)
            assert again["proposed"] == prompt["proposed"]
            await service.decided(again, "approve")
            frames = await reader.rest()
    place = [frame.type for frame in frames].index("plan_generated")
    node = frames[-2].node_id
    assert shapes(frames)[place + 1 :][-10:] == [
        f"node_start:{node}", "node_start:gate", "hitl_request:gate", "run_waiting", "hitl_resolved:gate",
        "run_resumed", "node_complete:gate", f"node_start:{node}", f"node_complete:{node}", "complete",
    ]  # fmt: skip
    payload(frames, "complete", output={"outlook": {"sky": "new"}})


async def test_what_a_rule_holds_stays_held_through_a_restart(database_url: str) -> None:
    """F10, H6: another process reads from the rows what waits, and goes on when people have answered."""
    steps = plan(call("a", "noop", 1), call("b", "noop", of("a")))
    asks = rule("r", {"type": "on_node_complete", "selector": {"node_id": "a"}}, "hitl")
    async with served(database_url) as first:
        run_id = await first.start(envelope(steps, policies={"runtime": [asks]}))
        (prompt,) = await first.asked(run_id)
    async with served(database_url) as second, second.watch(run_id) as reader:
        assert second.calls == []
        await reader.until("run_waiting")
        await second.decided(prompt, "approve")
        frames = await reader.rest()
        assert second.calls == ["noop"]
    assert shapes(frames)[-4:] == ["node_complete:r.1", "node_start:b", "node_complete:b", "complete"]


async def test_what_is_edited_stays_edited_through_a_restart(database_url: str) -> None:
    """F10: the new version is what another process goes on with; its review is still to be answered."""
    ask = {"node_id": "p", "kind": "ask", "prompt": {"question": "P?"}}
    before = plan(ask, call("b", "noop", 2), edges=[edge("p", "b")])
    after = plan(ask, call("b", "noop", 3), edges=[edge("p", "b")])
    body = envelope(before, policies={"hitl": [{"id": "gate", "when": "plan"}]})
    async with served(database_url) as first, first.stream(body) as reader:
        gate = await asked_of(reader, "gate")
        run_id = gate["run_id"]
        await first.decided(gate, "approve")
        question = await asked_of(reader, "p")
        await edited(first, run_id, after, 1)
        again = await asked_of(reader, "gate")
    async with served(database_url) as second, second.watch(run_id) as reader:
        await second.decided(question, "answer", answer=1)
        await reader.until("node_complete", "p")
        await reader.until("run_waiting")
        assert second.calls == []
        await second.decided(again, "approve")
        frames = await reader.rest()
    payload(frames, "complete", output=3)


@pytest.mark.parametrize(("roles", "status"), [({"submitter"}, 403), ({"builder"}, 200), ({"operator"}, 200)])
async def test_who_may_edit_a_plan(sqlite_service: Service, roles: set[str], status: int) -> None:
    """P2: who started the run, builders, operators and admins; others are told so before anything is read."""
    ask = {"node_id": "p", "kind": "ask", "prompt": {"question": "P?"}}
    before, after = (plan(ask, call("b", "noop", value), edges=[edge("p", "b")]) for value in (2, 3))
    run_id = await sqlite_service.start(envelope(before))
    await sqlite_service.asked(run_id)
    body: dict[str, Any] = {"base_version": 1, "plan": after, "reason": "x"}
    caller = Principal("user:ben", DEFAULT_TENANT, frozenset(roles))
    async with acting_as(sqlite_service, caller) as client:
        response = await client.patch(f"/api/v1/runs/{run_id}/plan", json=body if status == 200 else {})
        assert response.status_code == status, response.text
        if status == 200:
            listed = (await client.get(f"/api/v1/runs/{run_id}/plan/versions")).json()["items"]
            assert listed[0]["author"] == "user:ben"


async def test_another_tenant_sees_nothing(sqlite_service: Service) -> None:
    """P2: another tenant's run is not found, whatever is asked of it."""
    steps = plan({"node_id": "p", "kind": "ask", "prompt": {"question": "P?"}})
    run_id = await sqlite_service.start(envelope(steps, policies={"runtime": [rule("r", "manual", "emit")]}))
    stranger = Principal("user:ben", "elsewhere", frozenset({"admin"}))
    async with acting_as(sqlite_service, stranger) as client:
        base = f"/api/v1/runs/{run_id}"
        for response in (
            await client.patch(f"{base}/plan", json={"base_version": 1, "plan": steps, "reason": "x"}),
            await client.get(f"{base}/plan/versions"),
            await client.post(f"{base}/policies/r/trigger", json={}),
        ):
            assert (response.status_code, response.json()["code"]) == (404, "run_not_found")


async def test_a_fork_with_other_inputs_is_approved_anew(service: Service) -> None:
    """H5: an approval is of these inputs; a fork that runs with others is shown with them first."""
    hitl = [{"id": "gate", "when": "before", "selector": {"node_id": "t"}}]
    step = {**call("t", "noop", "draft"), "capability_id": "plans.noted"}
    called = own_abilities(service).CALLED
    called.clear()
    async with service.stream(envelope(plan(step), policies={"hitl": hitl})) as reader:
        first = await asked_of(reader, "gate")
        await service.decided(first, "approve")
        await reader.rest()
    body = {"node_id": "t", "inputs": {"value": "other"}}
    forked = await service.client.post(f"/api/v1/runs/{first['run_id']}/fork", json=body)
    assert forked.status_code in (200, 201, 202), forked.text
    async with service.watch(forked.json()["run_id"]) as reader:
        again = await asked_of(reader, "gate")
        assert again["proposed"] == {"value": "other"}
        assert [given for _, given in called] == [{"value": "draft"}]
        await service.decided(again, "approve")
        await reader.rest()
    assert [given for _, given in called] == [{"value": "draft"}, {"value": "other"}]
