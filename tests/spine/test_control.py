"""Pausing and resuming by hand: a gate before every dispatch, frame by frame, on both databases (F6, H6).

Would have survived prefect#20388 and #17822, where a pause does not pause, and hatchet#4128, where a parked task timed
out.
"""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from app.wiring import open_flex
from contracts.access import DEFAULT_TENANT, LOCAL, Principal
from contracts.errors import Forbidden, InvalidRunState, RunNotFound
from service.control import Control
from service.rights import may_audit, may_control, may_edit_plan, may_withdraw
from tests.spine.running import Service, call, edge, envelope, of, plan, serving, settings_for
from tests.spine.sse import Frame, Reader, payload, shapes

OPENING = ["start", "plan_generated"]
CHAIN = plan(call("a", "held", "x"), call("b", "noop", of("a")))
WELL = {"node_id": "a", "kind": "ask", "prompt": {"question": "Well?"}}


async def asked(service: Service, run_id: str, what: str, status: int = 200, **body: Any) -> dict[str, Any]:
    """Pause or resume, expecting this status."""
    answer = await service.client.post(f"/api/v1/runs/{run_id}/{what}", json=body)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def run_of(reader: Reader) -> str:
    """The run that the stream is about."""
    return str((await reader.until("start")).whole["run_id"])


def waits(frames: list[Frame]) -> list[list[str]]:
    """What each ``run_waiting`` waited for."""
    return [frame.payload["waiting_on"] for frame in frames if frame.type == "run_waiting"]


async def test_what_runs_ends_and_nothing_else_begins(service: Service) -> None:
    """F6: pause, what runs ends, the run waits on ``paused``; who, why and when can be read; resume goes on."""
    async with service.stream(envelope(CHAIN)) as reader:
        run_id = await run_of(reader)
        await service.abilities.arrived("x").wait()
        found = await asked(service, run_id, "pause", reason="the customer called")
        assert found == {"run_id": run_id, "status": "running", "waiting_on": []}
        service.abilities.gate("x").set()
        await reader.until("run_waiting")
        detail = await service.detail(run_id)
        assert (detail["status"], detail["waiting_on"]) == ("waiting", ["paused"])
        assert (detail["paused"]["by"], detail["paused"]["reason"]) == ("user:local", "the customer called")
        assert service.calls == ["held"]
        assert (await asked(service, run_id, "resume"))["status"] in ("running", "completed")
        frames = await reader.rest()
    assert shapes(frames) == [
        *OPENING, "node_start:a", "node_complete:a", "run_waiting", "run_resumed", "node_start:b", "node_complete:b",
        "complete",
    ]  # fmt: skip
    payload(frames, "run_waiting", waiting_on=["paused"], prompt_ids=[], wake_at=None)
    payload(frames, "run_resumed", cause="resume")
    assert (await service.detail(run_id))["paused"] is None
    assert service.calls == ["held", "noop"]


async def test_no_attempt_is_repeated_while_paused(service: Service) -> None:
    """F6, prefect#20388: a retry is a dispatch too; it comes after ``resume``, and the run waits without a backoff."""
    async with service.stream(envelope(plan(call("a", "stumbles", "x")))) as reader:
        run_id = await run_of(reader)
        await service.abilities.arrived("x").wait()
        await asked(service, run_id, "pause")
        service.abilities.gate("x").set()
        await reader.until("run_waiting")
        assert service.calls == ["stumbles"]
        await asked(service, run_id, "resume")
        frames = await reader.rest()
    assert shapes(frames) == [
        *OPENING, "node_start:a", "node_retry:a", "run_waiting", "run_resumed", "node_start:a", "node_complete:a",
        "complete",
    ]  # fmt: skip
    assert [frame.payload["attempt"] for frame in frames if frame.type == "node_start"] == [1, 2]


async def test_a_paused_run_does_not_end(service: Service) -> None:
    """A run whose last node ended while it was paused completes when it is resumed, not behind anybody's back."""
    async with service.stream(envelope(plan(call("a", "held", "x")))) as reader:
        run_id = await run_of(reader)
        await service.abilities.arrived("x").wait()
        await asked(service, run_id, "pause")
        service.abilities.gate("x").set()
        await reader.until("run_waiting")
        await asked(service, run_id, "resume")
        frames = await reader.rest()
    assert shapes(frames)[2:] == ["node_start:a", "node_complete:a", "run_waiting", "run_resumed", "complete"]


async def test_a_pause_while_people_are_asked(service: Service) -> None:
    """H6: the wait is said again with its new set; the decision is taken, and what it releases waits for ``resume``."""
    async with service.stream(envelope(plan(WELL, call("b", "noop", of("a"))))) as reader:
        prompt = (await reader.until("hitl_request")).payload["prompt"]
        await reader.until("run_waiting")
        found = await asked(service, prompt["run_id"], "pause")
        assert (found["status"], found["waiting_on"]) == ("waiting", ["hitl", "paused"])
        await asked(service, prompt["run_id"], "pause", reason="again changes nothing")
        await service.decided(prompt, "answer", answer="yes")
        while (await reader.until("run_waiting")).payload["waiting_on"] != ["paused"]:
            pass
        assert service.calls == []
        await asked(service, prompt["run_id"], "resume")
        frames = await reader.rest()
    assert shapes(frames) == [
        *OPENING, "node_start:a", "hitl_request:a", "run_waiting", "run_waiting", "hitl_resolved:a", "run_resumed",
        "node_complete:a", "run_waiting", "run_resumed", "node_start:b", "node_complete:b", "complete",
    ]  # fmt: skip
    assert waits(frames) == [["hitl"], ["hitl", "paused"], ["paused"]]
    causes = [frame.payload["cause"] for frame in frames if frame.type == "run_resumed"]
    assert causes == ["decision", "resume"]


async def test_a_resume_while_people_are_asked(service: Service) -> None:
    """The pause ends, the question stays: the run waits on."""
    async with service.stream(envelope(plan(WELL))) as reader:
        prompt = (await reader.until("hitl_request")).payload["prompt"]
        await asked(service, prompt["run_id"], "pause")
        found = await asked(service, prompt["run_id"], "resume")
        assert (found["status"], found["waiting_on"]) == ("waiting", ["hitl"])
        await service.decided(prompt, "answer", answer="yes")
        frames = await reader.rest()
    assert waits(frames) == [["hitl"], ["hitl", "paused"], ["hitl"]]
    assert shapes(frames)[-4:] == ["hitl_resolved:a", "run_resumed", "node_complete:a", "complete"]


async def test_other_branches_end_and_stop(service: Service) -> None:
    """F6: two branches run when the pause comes; both end, neither goes on."""
    two = plan(
        call("a", "held", "x"), call("b", "held", "y"), call("c", "noop", of("a")), call("d", "noop", of("b")),
        output={"/c": {"node_id": "c", "pointer": ""}, "/d": {"node_id": "d", "pointer": ""}},
    )  # fmt: skip
    async with service.stream(envelope(two)) as reader:
        run_id = await run_of(reader)
        for name in "xy":
            await service.abilities.arrived(name).wait()
        await asked(service, run_id, "pause")
        service.abilities.gate("x").set()
        await reader.until("node_complete", "a")
        assert (await service.detail(run_id))["status"] == "running"
        service.abilities.gate("y").set()
        await reader.until("run_waiting")
        await asked(service, run_id, "resume")
        frames = await reader.rest()
    held = ["node_start:a", "node_start:b", "node_complete:a", "node_complete:b"]
    assert shapes(frames)[: len(OPENING) + 6] == [*OPENING, *held, "run_waiting", "run_resumed"]
    assert service.calls == ["held", "held", "noop", "noop"]


async def test_a_failure_while_paused_ends_the_run(service: Service) -> None:
    """What runs may end badly, too: a failure is not held back."""
    async with service.stream(envelope(plan(call("a", "stumbles", "x", max_attempts=1)))) as reader:
        run_id = await run_of(reader)
        await service.abilities.arrived("x").wait()
        await asked(service, run_id, "pause")
        service.abilities.gate("x").set()
        frames = await reader.rest()
    assert shapes(frames)[2:] == ["node_start:a", "node_error:a", "failed"]


async def test_a_paused_run_can_be_cancelled(service: Service) -> None:
    """Cancel reaches a run that nobody holds."""
    async with service.stream(envelope(plan(WELL))) as reader:
        run_id = (await reader.until("run_waiting")).whole["run_id"]
        await asked(service, run_id, "pause")
        assert (await asked(service, run_id, "cancel", 202, reason="enough")) == {
            "run_id": run_id,
            "status": "cancelling",
        }
        frames = await reader.rest()
    assert shapes(frames)[-2:] == ["run_waiting", "cancelled"]


async def test_what_cannot_be_done_is_refused(service: Service) -> None:
    """P3: 404, 409 and 422 with their codes; nothing is left behind."""
    run_id = await service.start(envelope(plan(WELL)))
    await service.asked(run_id)
    assert (await asked(service, run_id, "resume", 409))["code"] == "invalid_run_state"
    assert (await asked(service, "run_nowhere", "pause", 404))["code"] == "run_not_found"
    wrong = await asked(service, run_id, "pause", 422, reasons="x")
    assert wrong["errors"][0]["pointer"] == "/reasons"
    assert (await asked(service, run_id, "resume", 422, by="me"))["errors"][0]["code"] == "unknown_field"
    await service.client.post(f"/api/v1/runs/{run_id}/cancel")
    await service.follow(run_id)
    for what in ("pause", "resume", "cancel"):
        refused = await asked(service, run_id, what, 409)
        assert (refused["code"], refused["run_status"]) == ("invalid_run_state", "cancelled")


async def test_everything_done_to_a_run_leaves_a_record(service: Service) -> None:
    """H9: pause, resume and cancel are in the audit log with who and why, in the transaction of the signal."""
    run_id = await service.start(envelope(plan(WELL)))
    await service.asked(run_id)
    await asked(service, run_id, "pause", reason="lunch")
    await asked(service, run_id, "resume")
    await asked(service, run_id, "cancel", 202, reason="enough")
    records = (await service.client.get("/api/v1/audit", params={"run_id": run_id})).json()["items"]
    kept = {record["kind"]: (record["actor"], record["body"].get("reason")) for record in records}
    assert kept["run.paused"] == ("user:local", "lunch")
    assert kept["run.resumed"] == ("user:local", None)
    assert kept["run.cancelled"] == ("user:local", "enough")


async def test_only_some_may(service: Service) -> None:
    """P2: who started it, operators and admins; another tenant does not even find it."""
    control = Control(service.flex.worker.shell)
    run_id = await service.start(envelope(plan(WELL)))
    await service.asked(run_id)
    for roles in (frozenset[str](), frozenset({"submitter"}), frozenset({"builder"})):
        with pytest.raises(Forbidden):
            await control.pause(Principal("user:ben", roles=roles), run_id)
        with pytest.raises(Forbidden):
            await control.cancel(Principal("user:ben", roles=roles), run_id)
    with pytest.raises(RunNotFound):
        await control.pause(Principal("user:ana", "elsewhere", frozenset({"admin"})), run_id)
    assert (await control.pause(Principal("user:ben", roles=frozenset({"operator"})), run_id)).outcome == "applied"
    assert (await control.resume(Principal("user:local"), run_id)).outcome == "applied"
    with pytest.raises(InvalidRunState):
        await control.resume(Principal("user:local"), run_id)


def test_rights_are_in_one_place() -> None:
    """P2: the table of who may do what."""
    roles = ("submitter", "operator", "builder", "admin")
    people = {role: Principal("user:ben", DEFAULT_TENANT, frozenset({role})) for role in roles}
    ana = Principal("user:ana")
    table = {
        may_control: {"operator", "admin"},
        may_edit_plan: {"operator", "builder", "admin"},
        may_withdraw: {"admin"},
    }
    for may, allowed in table.items():
        assert may(ana, "user:ana")
        assert {role for role in roles if may(people[role], "user:ana")} == allowed
    assert {role for role in roles if may_audit(people[role])} == {"operator", "admin"}


async def test_the_other_process_is_asked(database_url: str) -> None:
    """Design §4, mailbox: pause and resume reach the holder from any process, and the door hears what became of it."""
    async with serving(database_url) as holder, holder.stream(envelope(CHAIN)) as reader:
        abilities = holder.abilities
        run_id = await run_of(reader)
        await abilities.arrived("x").wait()
        async with serving(database_url) as other:
            await _until_answered(other, run_id, "pause")
            assert holder.flex.worker.held == 1
            abilities.gate("x").set()
            await reader.until("run_waiting")
            await _until_answered(other, run_id, "resume")
            frames = await reader.rest()
    assert shapes(frames)[2:6] == ["node_start:a", "node_complete:a", "run_waiting", "run_resumed"]


async def _until_answered(service: Service, run_id: str, what: str) -> None:
    """Ask; without nudges between processes the answer may take a look of the holder's, and then it is 202."""
    answer: httpx2.Response = await service.client.post(f"/api/v1/runs/{run_id}/{what}", json={})
    assert answer.status_code in (200, 202), answer.text


async def test_a_paused_run_is_resumed_after_a_restart(database_url: str) -> None:
    """H1: a pause is a row. Another process resumes what the first one was asked to hold."""
    async with serving(database_url) as first, first.stream(envelope(CHAIN)) as reader:
        run_id = await run_of(reader)
        await first.abilities.arrived("x").wait()
        await asked(first, run_id, "pause", reason="over night")
        first.abilities.gate("x").set()
        await reader.until("run_waiting")
    async with serving(database_url) as second:
        assert (await second.detail(run_id))["paused"]["reason"] == "over night"
        assert second.flex.worker.held == 0
        await asked(second, run_id, "resume")
        frames = await second.follow(run_id)
    assert shapes(frames)[-4:] == ["run_resumed", "node_start:b", "node_complete:b", "complete"]


async def test_many_pauses_and_resumes_at_once(service: Service) -> None:
    """One writer: whatever order the signals come in, each is answered and the frames take turns."""
    run_id = await service.start(envelope(plan(WELL, call("b", "noop", of("a")), edges=[edge("a", "b")])))
    prompt = (await service.asked(run_id))[0]
    posts = [service.client.post(f"/api/v1/runs/{run_id}/{what}", json={}) for what in ["pause", "resume"] * 6]
    answers = await asyncio.gather(*posts)
    assert {answer.status_code for answer in answers} <= {200, 409}
    await service.decided(prompt, "answer", answer=1)
    if (await service.detail(run_id))["paused"] is not None:
        await asked(service, run_id, "resume")
    frames = await service.follow(run_id)
    assert frames[-1].type == "complete"
    assert service.calls == ["noop"]


async def test_run_resume_ends_a_pause(service: Service) -> None:
    """H10: ``run.resume`` without a decision ends a pause when nobody is asked; else the question comes first."""
    async with service.stream(envelope(plan(WELL, call("b", "noop", of("a"))))) as reader:
        prompt = (await reader.until("hitl_request")).payload["prompt"]
        await asked(service, prompt["run_id"], "pause")
        body = {"run_id": prompt["run_id"]}
        needed = await service.client.post("/api/v1/flex/run.resume", json=body)
        assert (needed.status_code, needed.json()["code"]) == (400, "human_payload_required")
        await service.decided(prompt, "answer", answer=1)
        while (await reader.until("run_waiting")).payload["waiting_on"] != ["paused"]:
            pass
        resumed = await service.client.post(
            "/api/v1/flex/run.resume", json=body, headers={"Accept": "application/json"}
        )
        assert resumed.status_code == 202, resumed.text
        frames = await reader.rest()
    assert shapes(frames)[-4:] == ["run_resumed", "node_start:b", "node_complete:b", "complete"]


async def test_nobody_is_there_to_answer(database_url: str) -> None:
    """Design §4: the door does not wait for ever; what was asked is done once somebody carries out the run."""
    async with open_flex(settings_for(database_url), work=False) as gateway:
        accepted = await gateway.doors.runs.submit(
            envelope(plan(call("a", "noop", 1))), LOCAL, key=None, correlation_id=None
        )
        control = Control(gateway.worker.shell)
        found = await control.ask(
            LOCAL, accepted.run_id, "pause", {"by": "user:local", "reason": None}, "run.paused", seconds=0.1
        )
        assert (found.answered, found.wire()["status"]) == (False, "queued")
    async with serving(database_url) as service:
        async with service.watch(accepted.run_id) as reader:
            await reader.until("run_waiting")
        assert service.calls == []
        await asked(service, accepted.run_id, "resume")
        frames = await service.follow(accepted.run_id)
    assert shapes(frames) == [
        *OPENING, "run_waiting", "run_resumed", "node_start:a", "node_complete:a", "complete"
    ]  # fmt: skip
