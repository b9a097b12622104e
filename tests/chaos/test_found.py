"""What chaos found once, each as a scenario of its own that happens every time."""

import asyncio
import random

import pytest

from tests.chaos.arena import Arena
from tests.chaos.crowd import Crowd, Followed
from tests.chaos.load import Glance, Spec
from tests.chaos.members import Member
from tests.durability.auditor import query
from tests.durability.plans import Json, call, chain
from tests.durability.waiting import until

pytestmark = pytest.mark.chaos
ENOUGH_SECONDS = 8.0


def spec(name: str, envelope: Json) -> Spec:
    """A run that one viewer follows to its end, begun at the first process."""
    key = f"{name}-{random.random()}"  # an arena is used by many tests
    return Spec(key, name, envelope | {"correlation_id": key}, streamed=False, glances=(Glance(0, 0.0, ()),))


async def begun(arena: Arena, what: Spec) -> tuple[Crowd, Followed]:
    """Let it arrive."""
    await arena.prepare()
    crowd = Crowd(arena.bases, random.Random(1), arena.ledger)
    await crowd.arrive([what], 0.0)
    return crowd, crowd.followed[0]


async def is_at(arena: Arena, followed: Followed, frame: str) -> bool:
    """Whether the run's log has such a frame."""
    ids = "', '".join(followed.run_ids)
    return bool(await query(arena.url, f"SELECT seq FROM events WHERE type = '{frame}' AND run_id IN ('{ids}')"))


async def test_a_run_in_backoff_goes_on_elsewhere(sqlite_arena: Arena) -> None:
    """Its holder dies while the next attempt is not due yet: whoever takes it over has to wake it up (F6, F10)."""
    arena = sqlite_arena
    first = call("again", "idempotent")
    first["inputs"] = {"fails": {"value": 1}}
    retry = {"max_attempts": 2, "base_ms": 700, "max_ms": 700}
    crowd, followed = await begun(arena, spec("backoff", chain(first, call("last"), retry=retry)))
    await until(lambda: is_at(arena, followed, "node_retry"), ENOUGH_SECONDS, "the first attempt failed")
    victim = await holder(arena, followed)
    victim.kill()
    await crowd.settle(ENOUGH_SECONDS)
    assert followed.done, "the run never went on"
    assert await is_at(arena, followed, "complete")


async def holder(arena: Arena, followed: Followed) -> Member:
    """The process that holds the run."""
    (run_id,) = followed.run_ids
    names = f"SELECT w.by FROM runs r JOIN chaos_workers w ON w.worker_id = r.worker WHERE r.run_id = '{run_id}'"
    name = (await query(arena.url, names))[0][0]
    return next(member for member in arena.members if member.name == name)


async def test_a_process_cut_off_within_a_transaction_keeps_no_locks(postgresql_arena: Arena) -> None:
    """It beats, and is parted from the database between the statement and its commit: others bury it all the same.

    Its lock on its own heartbeat would else keep them waiting for as long as the connection lives.
    """
    arena = postgresql_arena
    await arena.prepare()
    member = next(each for each in arena.members if each.name in arena.proxies)
    proxy = arena.proxies[member.name]
    proxy.part_inside("workers")
    try:
        await until(lambda: proxy.parted, ENOUGH_SECONDS, "a beat")
        worker = f"SELECT worker_id FROM chaos_workers WHERE by = '{member.name}' AND what = 'came' ORDER BY n DESC"
        (worker_id, *_) = (row[0] for row in await query(arena.url, worker))

        async def is_buried() -> bool:
            return not await query(arena.url, f"SELECT 1 FROM workers WHERE worker_id = '{worker_id}'")

        await until(is_buried, ENOUGH_SECONDS, "its burial")
    finally:
        proxy.join()
    await until(member.answers, ENOUGH_SECONDS, "it is back")
    await asyncio.gather(*(each.ready() for each in arena.members))
