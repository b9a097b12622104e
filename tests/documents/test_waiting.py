"""Waiting for documents: no put is lost, wherever it falls, and a waiting run is like every other one (R1, R4)."""

from __future__ import annotations

import asyncio
import random
from typing import Any

from tests.documents.making import flow_of, put, run, stored, waits_for
from tests.spine.running import Service, call, envelope, plan, serving
from tests.spine.sse import payload, shapes
from tests.spine.waits import soon

OPENING = ["start", "plan_generated"]
DONE = ["node_start:a", "node_complete:a", "complete"]


def needs(*documents: str, **more: Any) -> dict[str, Any]:
    """An envelope of one node that needs documents of the story `spring`."""
    context = {"story_id": "spring", "documents": list(documents), **more.pop("context", {})}
    return envelope(plan(call("a", "noop", 1)), context=context, **more)


async def test_it_survives_the_process_that_accepted_it(database_url: str) -> None:
    """H1, R1: two documents come to two processes; whoever is there goes on."""
    async with serving(database_url) as first:
        run_id = await first.start(needs("one", "two"))
        await stored(first, "spring", "one")
    async with serving(database_url) as second:
        await waits_for(second, run_id, ["two"])
        await stored(second, "spring", "two")
        assert shapes(await second.follow(run_id)) == [*OPENING, "run_waiting", "run_resumed", *DONE]


async def test_it_is_cancelled_while_it_waits(service: Service) -> None:
    """R1: a document that comes afterwards wakes nothing."""
    run_id = await service.start(needs("one"))
    await service.client.post(f"/api/v1/runs/{run_id}/cancel")
    assert shapes(await service.follow(run_id)) == [*OPENING, "run_waiting", "cancelled"]
    await stored(service, "spring", "one")
    assert (await service.detail(run_id))["status"] == "cancelled"
    assert service.calls == []


async def test_its_wall_time_goes_on_while_it_waits(service: Service) -> None:
    """F5: nobody waits for a document for ever who said how long."""
    frames = await service.run(needs("one", policies={"budget": {"wall_seconds": 0.3}}))
    assert shapes(frames) == [*OPENING, "run_waiting", "failed"]
    payload(frames, "failed", code="deadline_exceeded", retryable=True)


async def test_waiting_is_not_work(service: Service) -> None:
    """F5: `run_seconds` counts work only, also of a run that begins with a wait."""
    run_id = await service.start(needs("one", policies={"timeouts": {"run_seconds": 0.5, "node_seconds": 0.5}}))
    late = (await service.detail(run_id))["created_at"]
    async with asyncio.timeout(5):
        while (await service.detail(run_id))["waited_ms"] < 700:  # noqa: ASYNC110  # no frame says it
            await asyncio.sleep(0.05)
    await stored(service, "spring", "one")
    end = payload(await service.follow(run_id), "complete")
    assert end["waited_ms"] >= 700
    assert end["duration_ms"] < 500
    detail = await service.detail(run_id)
    assert detail["started_at"] > late
    assert (detail["waited_ms"], detail["duration_ms"]) == (end["waited_ms"], end["duration_ms"])


async def test_it_is_paused_while_it_waits(service: Service) -> None:
    """F6: documents that come during a pause start nothing; the end of the pause does."""
    run_id = await service.start(needs("one"))
    paused = await service.client.post(f"/api/v1/runs/{run_id}/pause", json={})
    assert (paused.status_code, paused.json()["waiting_on"]) == (200, ["documents", "paused"])
    await stored(service, "spring", "one")
    await waits_for(service, run_id, None)
    assert service.calls == []
    await service.client.post(f"/api/v1/runs/{run_id}/resume", json={})
    assert shapes(await service.follow(run_id)) == [
        *OPENING, "run_waiting", "run_waiting", "run_resumed", "run_waiting", "run_resumed", *DONE
    ]  # fmt: skip


async def test_a_scheduled_run_waits_for_both(service: Service) -> None:
    """F5, R1: it begins when its time has come and its documents have, whichever is later."""
    early = await service.start(needs("one", start_at=soon(0.5)))
    late = await service.start(needs("two", start_at=soon(0.3)))
    assert (await service.detail(early))["waiting_on"] == ["documents", "timer"]
    await stored(service, "spring", "one")
    assert (await service.follow(early))[-1].type == "complete"
    async with service.watch(late) as reader:
        while (await reader.until("run_waiting")).payload["waiting_on"] != ["documents"]:
            pass
        await stored(service, "spring", "two")
        assert (await reader.rest())[-1].type == "complete"


async def test_without_and_refused(service: Service) -> None:
    """R4: `on_missing_doc` skip begins without it, error refuses with a pointer; else it is waited for."""
    await stored(service, "spring", "one")
    frames = await service.run(needs("one", "two", context={"on_missing_doc": "skip"}))
    assert shapes(frames) == [*OPENING, *DONE]
    refused = await service.client.post("/api/v1/runs", json=needs("one", "two", context={"onMissingDoc": "error"}))
    assert refused.status_code == 422
    (item,) = refused.json()["errors"]
    assert (item["pointer"], item["code"]) == ("/context/documents/1", "document_missing")
    nowhere = await service.client.post("/api/v1/runs", json=needs("one", context={"story_id": None}))
    assert [(item["pointer"], item["code"]) for item in nowhere.json()["errors"]] == [("/context/story_id", "required")]
    assert len((await service.client.get("/api/v1/runs")).json()["items"]) == 1


async def test_a_flow_says_what_happens_without(service: Service) -> None:
    """R4: its setting holds where the caller says nothing."""
    flow_id = await flow_of(service, "terms", settings={"on_missing_doc": "skip"})
    assert (await run(service, flow_id, story_id="spring")).json()["result"] == "done"
    body = {"context": {"story_id": "spring", "on_missing_doc": "error"}}
    answer = await service.client.post(f"/api/v1/flows/{flow_id}/run", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "document_missing")


async def test_retrying_a_cancelled_run_waits_for_the_same(service: Service) -> None:
    """F6: a fork needs what its origin needed."""
    first = await service.start(needs("one"))
    await service.client.post(f"/api/v1/runs/{first}/cancel")
    await service.follow(first)
    forked = await service.client.post(f"/api/v1/runs/{first}/retry", json={})
    run_id = forked.json()["run_id"]
    async with service.watch(run_id) as reader:
        assert (await reader.until("run_waiting")).payload["waiting_on"] == ["documents"]
        assert service.calls == []
        await stored(service, "spring", "one")
        assert (await reader.rest())[-1].type == "complete"


async def test_many_puts_and_waits_at_once_lose_none(service: Service) -> None:
    """R1: puts fall before, into and after the births of those who wait for them; every run ends, on its own story.

    Would have survived inngest#1433: there, an event that came before the wait was lost.
    """
    chance = random.Random(7)
    names = [f"d{number}" for number in range(6)]
    for round_ in range(4):
        stories = [f"s{round_}-{number}" for number in range(3)]
        wanted = [(story, chance.sample(names, chance.randint(1, 4))) for story in stories for _ in range(8)]
        work = [_start(service, story, needed) for story, needed in wanted]
        puts = [put(service, story, name, f"{story} {name}") for story in stories for name in names]
        jobs: list[Any] = [*work, *puts]
        chance.shuffle(jobs)
        run_ids = [found for found in await asyncio.gather(*jobs) if isinstance(found, str)]
        assert len(run_ids) == len(wanted)
        ends = await asyncio.gather(*(service.follow(run_id) for run_id in run_ids))
        assert {frames[-1].type for frames in ends} == {"complete"}
        assert all([frame.type for frame in frames].count("run_resumed") <= 1 for frames in ends)


async def test_two_processes_share_a_story(postgres_url: str) -> None:
    """P1: one process accepts what waits, the other takes the puts, at the same time."""
    async with serving(postgres_url) as one, serving(postgres_url) as two:
        jobs: list[Any] = []
        for number in range(24):
            jobs += [_start(one if number % 2 else two, f"s{number}", ["a", "b"])]
            jobs += [put(two if number % 2 else one, f"s{number}", name) for name in "ab"]
        found = await asyncio.gather(*jobs)
        ends = await asyncio.gather(*(one.follow(each) for each in found if isinstance(each, str)))
        assert [frames[-1].type for frames in ends] == ["complete"] * 24


async def _start(service: Service, story_id: str, documents: list[str]) -> str:
    context = {"story_id": story_id, "documents": documents}
    return await service.start(envelope(plan(call("a", "noop", story_id)), context=context))
