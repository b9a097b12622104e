"""Streams that lose nothing (F9; wire §4), attaching again, waiting, and ``run.resume`` (H10), on both databases."""

from __future__ import annotations

import asyncio
from typing import Any

from tests.spine.running import PATIENCE, Service, call, envelope, of, plan, serving
from tests.spine.sse import shapes

CHAIN = plan(
    call("a", "held", "a"), call("b", "held", "b"), call("c", "noop", of("b")), edges=[{"from": "a", "to": "b"}]
)
ASK = plan({"node_id": "p", "kind": "ask", "prompt": {"question": "P?"}})


def let_go(service: Service, *names: str) -> None:
    for name in names:
        service.abilities.gate(name).set()


async def test_the_stream_goes_on_where_a_viewer_stopped(service: Service) -> None:
    """F9: ``Last-Event-ID`` in the middle of a run gives exactly what is missing, then what comes.

    Would have survived ag-ui#2105, A2A#1986 (not resumable) and NVIDIA aiq#272.
    """
    async with service.stream(envelope(CHAIN)) as reader:
        run_id = (await reader.until("start")).whole["run_id"]
        last = await reader.until("node_start", "a")
    let_go(service, "a")
    async with service.watch(run_id, last_event_id=str(last.id)) as again:
        first = await again.frame()
        assert first is not None
        assert first.id == (last.id or 0) + 1
        let_go(service, "b")
        rest = await again.rest()
    whole = await service.log(run_id)
    assert [frame.whole for frame in reader.frames + rest] == [frame.whole for frame in whole]
    assert [frame.id for frame in whole] == list(range(1, len(whole) + 1))
    for after, header in ((3, "5"), (5, "3")):
        async with service.watch(run_id, after, last_event_id=header) as late:
            assert [frame.id for frame in await late.rest()] == [frame.id for frame in whole][5:]


async def test_nothing_is_left_after_the_end(service: Service) -> None:
    """Wire §4: at or past the terminal frame the answer is 204, as a stream and as JSON."""
    frames = await service.run(envelope(plan(call("a", "noop", 1))))
    run_id, end = frames[0].whole["run_id"], frames[-1].id
    for after in (end, 10**9):
        for accept in ("text/event-stream", "application/json"):
            headers = {"Accept": accept, "Last-Event-ID": str(after)}
            found = await service.client.get(f"/api/v1/runs/{run_id}/events", headers=headers)
            assert (found.status_code, found.content) == (204, b"")


async def test_two_viewers_see_the_same_frames(service: Service) -> None:
    """F9: one log, a cursor per viewer. Would have survived hermes-agent PR#32431: viewers steal events."""
    async with service.stream(envelope(CHAIN)) as one:
        run_id = (await one.until("start")).whole["run_id"]
        await one.until("node_start", "a")
        async with service.watch(run_id) as two:
            await two.until("node_start", "a")
            let_go(service, "a", "b")
            first, second = await asyncio.gather(one.rest(), two.rest())
    assert [frame.whole for frame in first] == [frame.whole for frame in second]


async def test_the_run_goes_on_without_its_viewer(service: Service) -> None:
    """F9: a client that leaves ends its stream, never the run."""
    async with service.stream(envelope(CHAIN)) as reader:
        run_id = (await reader.until("start")).whole["run_id"]
        await reader.until("node_start", "a")
    let_go(service, "a", "b")
    assert (await service.follow(run_id))[-1].type == "complete"


async def test_heartbeats_are_comments(database_url: str) -> None:
    """F9: a heartbeat has no id. Trap: control frames consumed ids. ``retry: 2000`` comes first."""
    async with serving(database_url, heartbeat_seconds=0.02) as service, service.stream(envelope(CHAIN)) as reader:
        await reader.until("node_start", "a")
        for _ in range(3):
            await reader.comment()
        let_go(service, "a", "b")
        frames = await reader.rest()
    assert reader.retry == "2000"
    assert [frame.id for frame in frames] == list(range(1, len(frames) + 1))


async def test_an_idempotency_key_attaches_to_the_same_run(service: Service) -> None:
    """F2: the same key and body is the same run; another body is refused. Would have survived aegra#501."""
    body = envelope(CHAIN)
    key = {"Idempotency-Key": "key-1"}
    async with service.stream(body, **key) as one:
        run_id = (await one.until("start")).whole["run_id"]
        last = await one.until("node_start", "a")
        async with service.stream(body, **key, **{"Last-Event-ID": str(last.id)}) as two:
            let_go(service, "a", "b")
            first, second = await asyncio.gather(one.rest(), two.rest())
    assert [frame.whole for frame in first[3:]] == [frame.whole for frame in second]
    assert {frame.whole["run_id"] for frame in second} == {run_id}
    assert service.calls == ["held", "held", "noop"]
    other = await service.client.post("/api/v1/runs", json=body | {"objective": "Another"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    ended = await service.client.post(
        "/api/v1/flex/run.stream", json=body, headers=key | {"Last-Event-ID": str(first[-1].id)}
    )
    assert ended.status_code == 204
    bare = await service.client.post("/api/v1/flex/run.stream", json=body, headers={"Last-Event-ID": "1"})
    assert (bare.status_code, bare.json()["code"]) == (400, "reattach_with_get")


async def test_one_key_at_the_same_moment_makes_one_run(service: Service) -> None:
    """F2: forty equal submissions with one key, at once, on both databases: one run."""
    body = envelope(plan(call("a", "noop", 1)))
    asked = [service.client.post("/api/v1/runs", json=body, headers={"Idempotency-Key": "same"}) for _ in range(40)]
    answers = await asyncio.gather(*asked)
    assert {answer.status_code for answer in answers} == {202}
    (run_id,) = {answer.json()["run_id"] for answer in answers}
    assert (await service.follow(run_id))[-1].type == "complete"
    assert service.calls == ["noop"]


async def test_prefer_wait(service: Service) -> None:
    """Design §6: ``Prefer: wait`` answers with the end, or with where the run stands when it waits for people."""
    body = envelope(plan(call("a", "noop", 5)))
    ended = await service.client.post("/api/v1/runs", json=body, headers={"Prefer": "wait=5"})
    assert ended.status_code == 200
    assert (ended.json()["status"], ended.json()["output"]) == ("completed", 5)
    assert ended.headers["Preference-Applied"] == "wait=5"
    waits = await service.client.post("/api/v1/runs", json=envelope(ASK), headers={"Prefer": "wait=5"})
    assert waits.status_code == 202
    assert (waits.json()["status"], waits.json()["waiting_on"]) == ("waiting", ["hitl"])
    assert [prompt["question"] for prompt in waits.json()["open_prompts"]] == ["P?"]
    slow = await service.client.post("/api/v1/runs", json=envelope(CHAIN), headers={"Prefer": "wait=0"})
    assert (slow.status_code, slow.json()["status"]) == (202, "running")


async def test_resume_streams_what_follows_the_decision(service: Service) -> None:
    """H10: the same decide, then the frames after it and nothing twice; 202 JSON by ``Accept``."""
    run_id = await service.start(envelope(ASK))
    (prompt,) = await service.asked(run_id)
    before = await service.log(run_id)
    body = {
        "run_id": run_id, "expected_plan_version": 1, "prompt_id": prompt["prompt_id"],
        "decision": {"action": "answer", "answer": "yes"},
    }  # fmt: skip
    answer = await service.client.post("/api/v1/flex/run.resume", json=body)
    assert answer.status_code == 200
    ids = [int(line.removeprefix("id: ")) for line in answer.text.splitlines() if line.startswith("id: ")]
    whole = await service.log(run_id)
    assert ids == [frame.id for frame in whole][len(before) :]
    assert shapes(whole)[-4:] == ["hitl_resolved:p", "run_resumed", "node_complete:p", "complete"]
    other = await service.start(envelope(ASK))
    (prompt,) = await service.asked(other)
    body |= {"run_id": other, "prompt_id": prompt["prompt_id"]}
    quick = await service.client.post("/api/v1/flex/run.resume", json=body, headers={"Accept": "application/json"})
    assert (quick.status_code, quick.json()["run_id"]) == (202, other)
    assert (await service.follow(other))[-1].type == "complete"


async def test_resume_says_why_not(service: Service) -> None:
    """H10: run_not_found 404, human_payload_required 400, stale_plan_version 409, invalid_run_state 409.

    Trap: an unanswered prompt never resumes.
    """

    async def resume(**body: Any) -> tuple[int, str]:
        answer = await service.client.post("/api/v1/flex/run.resume", json=body)
        return answer.status_code, answer.json()["code"]

    run_id = await service.start(envelope(ASK))
    (prompt,) = await service.asked(run_id)
    yes = {"prompt_id": prompt["prompt_id"], "decision": {"action": "answer", "answer": 1}}
    assert await resume(run_id="run_nowhere", **yes) == (404, "run_not_found")
    assert await resume(run_id=run_id) == (400, "human_payload_required")
    assert await resume(run_id=run_id, prompt_id=prompt["prompt_id"]) == (400, "human_payload_required")
    assert await resume(run_id=run_id, expected_plan_version=2, **yes) == (409, "stale_plan_version")
    assert (await service.detail(run_id))["status"] == "waiting"
    assert await resume(run_id=run_id, **yes | {"decision": {"action": "approve"}}) == (403, "action_not_allowed")
    await service.decided(prompt, "answer", answer=1)
    await service.follow(run_id)
    assert await resume(run_id=run_id, **yes) == (409, "invalid_run_state")


async def test_a_draining_process_ends_streams_and_the_next_one_goes_on(database_url: str) -> None:
    """P5, F10: ``stream_end`` says so; the attempt is given back and goes on elsewhere, ids without a gap.

    Would have survived agent-framework#2276 and adk-python#6198: restarts instead of resuming.
    """
    async with serving(database_url) as first, first.stream(envelope(CHAIN)) as reader:
        run_id = (await reader.until("start")).whole["run_id"]
        await reader.until("node_start", "a")
        first.server.should_exit = True
        frames = await reader.rest()
        assert frames[-1].type == "stream_end"
        assert frames[-1].payload == {"reason": "draining"}
    async with serving(database_url) as second:
        let_go(second, "a", "b")
        async with asyncio.timeout(PATIENCE):
            whole = await second.follow(run_id)
        assert second.calls == ["held", "held", "noop"]
    starts = [
        (frame.node_id, frame.payload["attempt"], frame.payload["resumed"])
        for frame in whole
        if frame.type == "node_start"
    ]
    assert starts[:2] == [("a", 1, False), ("a", 1, True)]
    assert whole[-1].type == "complete"


async def test_more_runs_than_room_wait_in_the_queue(database_url: str) -> None:
    """F12, design §4: a run without room is queued, and begins when another one ends."""
    async with serving(database_url, max_active_runs=1) as service:
        first = await service.start(envelope(CHAIN))
        await service.abilities.arrived("a").wait()
        second = await service.start(envelope(plan(call("a", "noop", 2))))
        assert (await service.detail(second))["status"] == "queued"
        let_go(service, "a", "b")
        assert (await service.follow(first))[-1].type == "complete"
        assert (await service.follow(second))[-1].type == "complete"
