"""Scheduled starts and the wall-clock budget, frame by frame, on both databases (F5, H1)."""

from __future__ import annotations

from datetime import datetime, timedelta

from tests.spine.running import Service, call, envelope, plan, serving
from tests.spine.sse import only, payload, shapes
from tests.spine.waits import OPENING, SLACK_MS, at, soon


async def test_a_scheduled_run_begins_at_its_time(service: Service) -> None:
    """Accepted and planned now, begun then; the wait is waiting, not work."""
    policies = {"timeouts": {"run_seconds": 1.0, "node_seconds": 1.0}}
    run_id = await service.start(envelope(plan(call("a", "noop", 1)), start_at=soon(1.2), policies=policies))
    detail = await service.detail(run_id)
    assert (detail["status"], detail["waiting_on"], detail["started_at"]) == ("waiting", ["timer"], None)
    assert service.flex.worker.held == 0
    frames = await service.follow(run_id)
    assert shapes(frames) == [
        *OPENING, "run_waiting", "run_resumed", "node_start:a", "node_complete:a", "complete"
    ]  # fmt: skip
    wakes = payload(frames, "run_waiting", waiting_on=["timer"])["wake_at"]
    payload(frames, "run_resumed", cause="timer")
    late = (at(only(frames, "node_start")) - datetime.fromisoformat(wakes)) / timedelta(milliseconds=1)
    assert 0 <= late <= SLACK_MS
    end = payload(frames, "complete")
    assert end["waited_ms"] >= 1_000
    assert end["duration_ms"] <= SLACK_MS
    detail = await service.detail(run_id)
    assert detail["started_at"] >= wakes
    assert (detail["waited_ms"], detail["duration_ms"]) == (end["waited_ms"], end["duration_ms"])


async def test_any_process_begins_a_scheduled_run(database_url: str) -> None:
    """H1: the process that accepted it need not live."""
    async with serving(database_url) as first:
        run_id = await first.start(envelope(plan(call("a", "noop", 1)), start_at=soon(0.6)))
    async with serving(database_url) as second:
        assert (await second.follow(run_id))[-1].type == "complete"


async def test_a_start_in_the_past_is_now(service: Service) -> None:
    """A past time starts at once, without a wait."""
    frames = await service.run(envelope(plan(call("a", "noop", 1)), start_at="2020-01-05T09:00:00Z"))
    assert shapes(frames) == [*OPENING, "node_start:a", "node_complete:a", "complete"]


async def test_a_scheduled_run_is_cancelled(service: Service) -> None:
    """Before its time, without having begun."""
    run_id = await service.start(envelope(plan(call("a", "noop", 1)), start_at=soon(3_600)))
    await service.client.post(f"/api/v1/runs/{run_id}/cancel")
    frames = await service.follow(run_id)
    assert shapes(frames) == [*OPENING, "run_waiting", "cancelled"]
    assert service.calls == []


async def test_a_scheduled_run_is_paused_before_its_time(service: Service) -> None:
    """Its time comes while it is paused: it begins when it is resumed."""
    run_id = await service.start(envelope(plan(call("a", "noop", 1)), start_at=soon(0.4)))
    paused = await service.client.post(f"/api/v1/runs/{run_id}/pause", json={})
    assert (paused.status_code, paused.json()["waiting_on"]) == (200, ["timer", "paused"])
    async with service.watch(run_id) as reader:
        while (await reader.until("run_waiting")).payload["waiting_on"] != ["paused"]:
            pass
        assert service.calls == []
        await service.client.post(f"/api/v1/runs/{run_id}/resume", json={})
        frames = await reader.rest()
    assert shapes(frames) == [
        *OPENING, "run_waiting", "run_waiting", "run_resumed", "run_waiting", "run_resumed", "node_start:a",
        "node_complete:a", "complete",
    ]  # fmt: skip


async def test_a_start_that_cannot_be(sqlite_url: str) -> None:
    """422 ``bad_time`` with its pointer; no run is left behind."""
    async with serving(sqlite_url) as service:
        for bad in ("2026-01-05T09:00:00", "tomorrow", "", "2026-13-05T09:00:00Z", "2926-01-05T09:00:00Z"):
            answer = await service.client.post("/api/v1/runs", json=envelope(plan(call("a", "noop", 1)), startAt=bad))
            assert answer.status_code == 422, answer.text
            found = [(item["pointer"], item["code"]) for item in answer.json()["errors"]]
            assert found == [("/start_at", "bad_time")], bad
        assert (await service.client.get("/api/v1/runs")).json()["items"] == []


async def test_the_wall_time_of_a_run_is_over_while_it_waits(service: Service) -> None:
    """F5: ``budget.wall_seconds`` counts waiting too; people's time is not endless."""
    question = {"node_id": "a", "kind": "ask", "prompt": {"question": "Well?"}}
    policies = {"budget": {"wall_seconds": 0.4}}
    frames = await service.run(envelope(plan(question), policies=policies))
    assert shapes(frames) == [*OPENING, "node_start:a", "hitl_request:a", "run_waiting", "failed"]
    assert payload(frames, "run_waiting", waiting_on=["hitl"])["wake_at"] is not None
    payload(frames, "failed", code="deadline_exceeded", retryable=True)
    assert (await service.client.get("/api/v1/prompts")).json()["items"] == []


async def test_the_wall_time_of_a_run_is_over_while_it_works(service: Service) -> None:
    """F5: and while it works."""
    policies = {"budget": {"wall_seconds": 0.3}}
    frames = await service.run(envelope(plan(call("a", "held", "x")), policies=policies))
    assert shapes(frames) == [*OPENING, "node_start:a", "failed"]
    payload(frames, "failed", code="deadline_exceeded")


async def test_the_wall_time_of_a_scheduled_run_begins_with_it(service: Service) -> None:
    """The time before a scheduled start is nobody's."""
    policies = {"budget": {"wall_seconds": 0.5}}
    start = soon(0.8)
    frames = await service.run(envelope(plan(call("a", "noop", 1)), start_at=start, policies=policies))
    assert frames[-1].type == "complete"
