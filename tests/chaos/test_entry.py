"""The test entry does what it is ordered to, so that a scenario without violations means something."""

import time

import pytest

from tests.chaos.arena import Arena
from tests.chaos.control import Control
from tests.chaos.wire import Answer, Broken, request
from tests.durability.auditor import query
from tests.durability.plans import ask, call, chain
from tests.durability.waiting import until

pytestmark = pytest.mark.chaos
SECONDS = 8.0


async def begin(arena: Arena, key: str, patience: float = 5.0) -> Answer:
    """Send a run to the first process."""
    headers = {"Idempotency-Key": key}
    body = chain(call("first"), ask(), call("last"))
    return await request(arena.bases[0], "POST", "/api/v1/runs", body=body, headers=headers, patience=patience)


async def test_a_clock_is_wrong_by_what_was_ordered(sqlite_arena: Arena) -> None:
    await sqlite_arena.prepare()
    sqlite_arena.members[0].order(Control(offset_ms=-60_000))

    async def is_wrong() -> bool:
        run_id = (await begin(sqlite_arena, f"clock-{time.time_ns()}")).json["run_id"]
        rows = await query(sqlite_arena.url, f"SELECT created_at FROM runs WHERE run_id = '{run_id}'")
        return bool(abs(rows[0][0] + 60_000 - time.time() * 1_000) < 5_000)

    await until(is_wrong, SECONDS, "a run that was begun a minute ago")
    sqlite_arena.order(Control())


async def test_nudges_are_lost(sqlite_arena: Arena) -> None:
    """All of them: a cancel is read by a look at the mailbox (design §4)."""
    await sqlite_arena.prepare()
    sqlite_arena.order(Control(lost=1.0, seed="all"))
    await until(lambda: all(member.counts.seed == "all" for member in sqlite_arena.members), SECONDS, "obedience")
    passed = sum(member.counts.passed for member in sqlite_arena.members)
    run_id = (await begin(sqlite_arena, f"lost-{time.time_ns()}")).json["run_id"]

    await request(sqlite_arena.bases[0], "POST", f"/api/v1/runs/{run_id}/cancel", body={})

    async def is_cancelled() -> bool:
        return bool(
            await query(sqlite_arena.url, f"SELECT 1 FROM runs WHERE run_id = '{run_id}' AND status = 'cancelled'")
        )

    await until(is_cancelled, SECONDS, "the cancelled run")
    await until(lambda: any(member.counts.lost for member in sqlite_arena.members), SECONDS, "a lost nudge")
    assert sum(member.counts.passed for member in sqlite_arena.members) == passed
    sqlite_arena.order(Control())


async def test_a_database_may_not_grow(sqlite_arena: Arena) -> None:
    """Where no disk can be filled; what was refused is taken when there is room again, once."""
    await sqlite_arena.prepare()
    sqlite_arena.order(Control(full=True))
    key = f"full-{time.time_ns()}"

    async def is_refused() -> bool:
        try:
            await begin(sqlite_arena, f"{key}-{time.time_ns()}", patience=0.3)
        except Broken:
            return True
        return False

    await until(is_refused, SECONDS, "a run that nobody accepts")
    sqlite_arena.order(Control())
    answer = await begin(sqlite_arena, key)
    assert answer.status == 202
    assert (await begin(sqlite_arena, key)).json["run_id"] == answer.json["run_id"]
