"""A write that another one overtakes between the last look and the commit: nothing is stored, nothing is lost (R5)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from app.system import SystemClock
from contracts.memory import Scope
from store import memory
from store.connect import Database
from store.memory import EntryRow
from tests.durability.waiting import until
from tests.memory.running import SCOPE, abilities, asked, keep, node, put, read, remembering
from tests.spine.running import PATIENCE, Service, edge
from tests.spine.sse import Frame


@asynccontextmanager
async def elsewhere(service: Service, key: str, value: str) -> AsyncIterator[None]:
    """Another process writes the key: it holds the scope while the block runs, and commits at its end."""
    database = await Database.open(service.settings.database_url, clock=SystemClock())
    scope = Scope("shared", "brand")
    try:
        async with database.unit() as unit:
            state = await memory.lock(unit, "default", scope, 1)
            found = await memory.locked_entry(unit, "default", scope, key)
            many = state.entries + (found is None)
            row = EntryRow("default", "shared", "brand", "", key, value, state.revision + 1, 1, 1, person="user:ben")
            await memory.put(unit, row, replace(state, revision=state.revision + 1, entries=many))
            yield
    finally:
        await database.close()


def saving(service: Service) -> int:
    """How many writes this process has been given to remember and has not stored yet."""
    walkers = service.flex.worker._walkers.values()
    drafts = (draft for walker in walkers for draft in (*walker._saving, walker._draft))
    return sum(len(draft.memory) for draft in drafts if draft is not None)


def of(frames: list[Frame], kind: str, node_id: str) -> list[dict[str, Any]]:
    return [frame.payload for frame in frames if frame.type == kind and frame.node_id == node_id]


async def test_a_write_overtaken_at_its_commit_is_tried_again(service: Service) -> None:
    """The last look passed; the lock did not: the transition is refused as a whole, its frame was never sent."""
    body = abilities(service)
    body.gate("counts")
    await put(service, "n", 1)
    nodes = (node("counts", "count", SCOPE), keep("after"))
    async with service.stream(asked(*nodes, edges=[edge("counts", "after")])) as reader:
        await body.arrived("counts").wait()
        async with elsewhere(service, "n", "100"):
            body.gate("counts").set()
            await until(lambda: saving(service) == 1, PATIENCE, "the journal")
        frames = await reader.rest()
    assert frames[-1].payload["output"] == {SCOPE: {"n": 101}}
    assert [payload["code"] for payload in of(frames, "node_retry", "counts")] == ["memory_conflict"]
    assert [payload["attempt"] for payload in of(frames, "node_complete", "counts")] == [2]
    log = await service.log(frames[0].payload["links"]["events"].split("/")[4])
    assert [frame.id for frame in log] == list(range(1, len(log) + 1))
    entry = await read(service, "n")
    assert entry is not None
    assert (entry["value"], entry["revision"]) == (101, 3)


async def test_what_goes_on_beside_it_goes_on(service: Service) -> None:
    """A call that must not be repeated, and one that ended meanwhile, are neither repeated nor asked about."""
    body = abilities(service)
    for name in ("counts", "sends", "held"):
        body.gate(name)
    await put(service, "n", 1)
    nodes = (
        node("counts", "count", SCOPE), node("sends", "sends", "x"), keep("held", set={"h": 1}, then="hold"),
        {"node_id": "all", "kind": "join", "inputs": {name: {"node_id": name} for name in ("counts", "sends", "held")}},
    )  # fmt: skip
    async with service.stream(asked(*nodes)) as reader:
        for name in ("counts", "sends", "held"):
            await body.arrived(name).wait()
        async with elsewhere(service, "n", "100"):
            body.gate("counts").set()
            body.gate("held").set()
            await until(lambda: saving(service) == 2, PATIENCE, "the journal")
        await reader.until("node_retry")
        body.gate("sends").set()
        frames = await reader.rest()
    output = frames[-1].payload["output"]
    assert (output["counts"], output["sends"]) == (101, "sent")
    begun = [name for name, _ in body.CALLS if name in ("counts", "sends", "held")]
    assert sorted(begun) == ["counts", "counts", "held", "sends"]
    assert not [frame for frame in frames if frame.type == "hitl_request"]
    entry = await read(service, "h")
    assert entry is not None
    assert entry["written_by"]["attempt"] == 1


async def test_a_call_that_must_not_be_repeated_is_asked_about(service: Service) -> None:
    """Design §4: it happened, and what it wanted remembered came too late: only people know what to do."""
    body = abilities(service)
    body.gate("sends")
    run_id = await service.start(asked(node("sends", "sends", {"scope": SCOPE, "expected": 0})))
    await body.arrived("sends").wait()
    async with elsewhere(service, "sent", "1"):
        body.gate("sends").set()
        await until(lambda: saving(service) == 1, PATIENCE, "the journal")
    (prompt,) = await service.asked(run_id)
    assert prompt["kind"] == "effect_check"
    await service.decided(prompt, "happened")
    assert (await service.follow(run_id))[-1].type == "complete"
    assert [name for name, _ in body.CALLS] == ["sends"]


async def test_a_scope_that_fills_up_meanwhile_fails_the_node(database_url: str) -> None:
    async with remembering(database_url, memory_keys=1) as service:
        body = abilities(service)
        body.gate("a")
        async with service.stream(asked(keep("a", set={"k": 1}, then="hold"))) as reader:
            await body.arrived("a").wait()
            async with elsewhere(service, "other", "1"):
                body.gate("a").set()
                await until(lambda: saving(service) == 1, PATIENCE, "the journal")
            frames = await reader.rest()
        (error,) = of(frames, "node_error", "a")
        assert (error["code"], frames[-1].payload["code"]) == ("memory_full", "node_failed")
        assert await read(service, "k") is None


async def test_others_in_the_same_batch_are_stored(service: Service) -> None:
    """A refused write is its run's own trouble."""
    body = abilities(service)
    names = [f"n{at}" for at in range(6)]
    for name in ("late", *names):
        body.gate(name)
    await put(service, "n", 1)
    runs = [asked(keep(name, set={name: 1}, then="hold")) for name in names]
    ids = [await service.start(body_) for body_ in runs]
    body.gate("late")
    late = await service.start(asked(node("late", "count", SCOPE)))
    for name in ("late", *names):
        await body.arrived(name).wait()
    async with elsewhere(service, "n", "100"):
        for name in ("late", *names):
            body.gate(name).set()
        await until(lambda: saving(service) == 7, PATIENCE, "the journal")
    for run_id in (*ids, late):
        assert (await service.follow(run_id))[-1].type == "complete"
    assert sorted(body.CALLS) == sorted([("late", 1), ("late", 2), *((name, 1) for name in names)])
    for name in names:
        assert await read(service, name) is not None
