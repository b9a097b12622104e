"""The stream on the wire, byte for byte (wire §4; F1, F9)."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import httpx2
import orjson
import pytest

from contracts.events import sse
from routes.stream import Pace
from tests.events.runs_in_log import LoggedRun, until
from tests.routes.serving import ENVELOPE, Serving, serving


@pytest.fixture
async def served(sqlite_url: str) -> AsyncIterator[Serving]:
    async with serving(sqlite_url) as found:
        yield found


async def collect(response: httpx2.Response, into: bytearray) -> None:
    async for chunk in response.aiter_raw():
        into += chunk


def without_heartbeats(text: bytes) -> bytes:
    return text.replace(b": \n\n", b"")


async def test_a_new_run_is_streamed_to_its_end(served: Serving) -> None:
    """F1: headers name the run; `retry` first; one id and one data line per frame, nothing else."""
    got = bytearray()
    async with served.client.stream(
        "POST", "/api/v1/flex/run.stream", json={**ENVELOPE, "correlation_id": "mine"}
    ) as response:
        run = served.runs.born[0]
        assert response.status_code == 200
        assert response.headers["content-type"] == "text/event-stream"
        assert response.headers["x-run-id"] == run.run_id
        assert response.headers["x-correlation-id"] == "mine"
        assert response.headers["location"] == f"/api/v1/runs/{run.run_id}"
        assert response.headers["cache-control"] == "no-store"
        assert response.headers["x-accel-buffering"] == "no"
        served.feed.publish(run.run_id, await run.log("one\ntwo"))
        served.feed.publish(run.run_id, await run.end({"done": True}))
        await collect(response, got)
    assert without_heartbeats(bytes(got)) == b"retry: 2000\n\n" + b"".join(sse(frame) for frame in run.frames)
    assert b"event:" not in got


async def test_attaching_again_starts_after_the_larger_number(served: Serving) -> None:
    """Wire §4: `after` and Last-Event-ID: the larger counts; at the terminal frame and past it: 204."""
    run = await served.run()
    await run.log("two")
    await run.log("three")
    await run.end()
    url = f"/api/v1/runs/{run.run_id}/events"
    whole = await served.client.get(url)
    assert whole.content == b"retry: 2000\n\n" + b"".join(sse(frame) for frame in run.frames)
    part = await served.client.get(url, params={"after": 1}, headers={"Last-Event-ID": "3"})
    assert part.content == b"retry: 2000\n\n" + sse(run.frames[3])
    assert (await served.client.get(url, params={"after": 2}, headers={"Last-Event-ID": "1"})).content.count(
        b"id: "
    ) == 2
    for accept in ("text/event-stream", "application/json"):
        for after in (4, 5, 10**17):
            ended = await served.client.get(url, params={"after": after}, headers={"Accept": accept})
            assert (ended.status_code, ended.content) == (204, b"")


async def test_frames_as_json(served: Serving) -> None:
    """Wire §4: the same frames as one document, page by page."""
    run = await served.run()
    await run.log("two")
    url, accept = f"/api/v1/runs/{run.run_id}/events", {"Accept": "application/json"}
    page = (await served.client.get(url, headers=accept)).json()
    assert page == {"items": [orjson.loads(frame.data) for frame in run.frames], "next_after": 2, "terminal": False}
    assert (await served.client.get(url, headers=accept, params={"after": 2})).json() == {
        "items": [],
        "next_after": 2,
        "terminal": False,
    }
    await run.end()
    first = (await served.client.get(url, headers=accept, params={"limit": 2})).json()
    assert (len(first["items"]), first["next_after"], first["terminal"]) == (2, 2, False)
    last = (await served.client.get(url, headers=accept, params={"after": 2})).json()
    assert (len(last["items"]), last["next_after"], last["terminal"]) == (1, 3, True)


async def test_a_known_key_attaches(served: Serving) -> None:
    """F2, wire §4: equal body: the same run, by the rules of its events; another body: 422."""
    url, key = "/api/v1/flex/run.stream", {"Idempotency-Key": "k-1"}
    async with served.client.stream("POST", url, json=ENVELOPE, headers=key) as first:
        run_id = first.headers["x-run-id"]
    run = served.runs.born[0]
    await run.log("two")
    await run.end()
    again = await served.client.post(url, json=ENVELOPE, headers={**key, "Last-Event-ID": "1"})
    assert again.headers["x-run-id"] == run_id
    assert again.content == b"retry: 2000\n\n" + b"".join(sse(frame) for frame in run.frames[1:])
    assert (await served.client.post(url, json=ENVELOPE, headers={**key, "Last-Event-ID": "3"})).status_code == 204
    other = await served.client.post(url, json={**ENVELOPE, "objective": "Else"}, headers=key)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len(served.runs.born) == 1


async def test_last_event_id_needs_a_key(served: Serving) -> None:
    """Wire §4: a POST that an EventSource library repeats without a key must not start the run again."""
    refused = await served.client.post("/api/v1/flex/run.stream", json=ENVELOPE, headers={"Last-Event-ID": "3"})
    assert (refused.status_code, refused.json()["code"]) == (400, "reattach_with_get")
    assert served.runs.born == []


async def test_heartbeats_are_comments(sqlite_url: str) -> None:
    """F9: a waiting stream is kept open by comments that consume no id."""
    got = bytearray()
    async with serving(sqlite_url, pace=Pace(heartbeat_seconds=0.02)) as served:
        run = await served.run()
        await heartbeats(served, run, got)
    assert without_heartbeats(bytes(got)) == b"retry: 2000\n\n" + sse(run.frames[1])


async def heartbeats(served: Serving, run: LoggedRun, got: bytearray) -> None:
    async with served.client.stream("GET", f"/api/v1/runs/{run.run_id}/events", params={"after": 1}) as response:
        reading = asyncio.create_task(collect(response, got))
        await until(lambda: got.count(b": \n\n") >= 2)
        served.feed.publish(run.run_id, await run.end())
        await reading


async def test_draining_says_so(served: Serving) -> None:
    """Wire §4: a stream that closes early says why, with a null id and no id line; new ones get 503."""
    run = await served.run()
    got = bytearray()
    async with served.client.stream("GET", f"/api/v1/runs/{run.run_id}/events") as response:
        reading = asyncio.create_task(collect(response, got))
        await until(lambda: b"id: 1" in got)
        served.feed.close()
        await reading
    last = without_heartbeats(bytes(got)).split(b"\n\n")[-2]
    assert last.startswith(b"data: ")
    frame = orjson.loads(last[6:])
    assert list(frame) == ["type", "id", "timestamp", "correlation_id", "run_id", "node_id", "payload"]
    assert (frame["type"], frame["id"], frame["payload"]) == ("stream_end", None, {"reason": "draining"})
    busy = await served.client.get(f"/api/v1/runs/{run.run_id}/events")
    assert (busy.status_code, busy.headers["retry-after"]) == (503, "1")


async def test_a_client_that_leaves_only_ends_its_stream(served: Serving) -> None:
    """F9: the run goes on, and the viewer's place is free again."""
    async with served.client.stream("POST", "/api/v1/flex/run.stream", json=ENVELOPE) as response:
        assert response.status_code == 200
        await until(lambda: served.feed.viewers == 1)
    await until(lambda: served.feed.viewers == 0)
    assert served.doors.streams.open_streams == 0
    run = served.runs.born[0]
    await run.end()
    assert (await served.client.get(f"/api/v1/runs/{run.run_id}")).json()["status"] == "completed"


async def test_a_slow_viewer_is_let_go_and_delays_nobody(sqlite_url: str) -> None:
    """F9: a viewer that takes nothing is dropped; its memory is bounded; another one gets everything at once."""
    async with serving(sqlite_url, pace=Pace(heartbeat_seconds=30, slow_seconds=0.1)) as served:
        run = await served.run()
        url = f"/api/v1/runs/{run.run_id}/events"
        reader, writer = await asyncio.open_connection(
            served.client.base_url.host, served.client.base_url.port, limit=1
        )
        writer.write(f"GET {url} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        await until(lambda: served.feed.viewers == 1)
        reader._transport.pause_reading()  # type: ignore[attr-defined]  # stop taking bytes from the socket
        for _ in range(60):
            served.feed.publish(run.run_id, await run.log("x" * 400_000))
        await until(lambda: served.feed.viewers == 0)
        served.feed.publish(run.run_id, await run.end())
        other = await served.client.get(url, params={"after": 60})
        assert other.content.count(b"id: ") == 2
        writer.close()


async def test_too_many_streams(served: Serving) -> None:
    """Preamble of every stream: past the limit 503 with Retry-After, before the body is read."""
    served.doors.streams._max_streams = 0
    run = await served.run()
    for response in (
        await served.client.get(f"/api/v1/runs/{run.run_id}/events"),
        await served.client.post(
            "/api/v1/flex/run.stream", content=b"not json", headers={"Content-Type": "application/json"}
        ),
    ):
        assert (response.status_code, response.json()["code"], response.headers["retry-after"]) == (
            503,
            "server_busy",
            "2",
        )


async def test_resume_streams_what_follows(served: Serving) -> None:
    """H10: after the decision come the frames after it; 202 and the run by Accept."""
    run = await served.run()
    await run.log("before")
    served.prompts.resumed.run_id, served.prompts.resumed.after = run.run_id, 2
    await run.end()
    streamed = await served.client.post("/api/v1/flex/run.resume", json={"run_id": run.run_id})
    assert streamed.content == b"retry: 2000\n\n" + sse(run.frames[2])
    plain = await served.client.post("/api/v1/flex/run.resume", json={}, headers={"Accept": "application/json"})
    assert (plain.status_code, plain.json()["run_id"], plain.headers["x-run-id"]) == (202, run.run_id, run.run_id)


async def test_prefer_wait(served: Serving) -> None:
    """Design §6: `Prefer: wait=N` answers 200 with the run once it ended, else 202."""

    async def end_it() -> None:
        await until(lambda: len(served.runs.born) == 1)
        served.feed.publish(served.runs.born[0].run_id, await served.runs.born[0].end({"a": 1}))

    ending = asyncio.create_task(end_it())
    done = await served.client.post("/api/v1/runs", json=ENVELOPE, headers={"Prefer": "respond-async, wait=5"})
    await ending
    detail: dict[str, Any] = done.json()
    assert (done.status_code, detail["status"], detail["output"]) == (200, "completed", {"a": 1})
    assert done.headers["preference-applied"] == "wait=5"
    began = time.monotonic()
    early = await served.client.post("/api/v1/runs", json=ENVELOPE, headers={"Prefer": "wait=0"})
    assert (early.status_code, early.json()["status"]) == (202, "running")
    assert time.monotonic() - began < 4
    plain = await served.client.post("/api/v1/runs", json=ENVELOPE)
    assert (plain.status_code, plain.json()["status"]) == (202, "queued")
    assert plain.json()["links"]["events"] == f"{plain.headers['location']}/events"
