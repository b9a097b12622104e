"""Finding and claiming what is due, now and soon: an index look, however many runs wait (H1, conductor-oss#795)."""

from __future__ import annotations

import asyncio
import re

from store import runs, watch
from store.connect import Database
from store.journal import Journal
from store.statement import Statement
from tests.durability.auditor import query
from tests.store.making import NOW, born, new_id, now_of

MANY = 2_000


async def waiting(journal: Journal, wake_at: int | None, *, worker: str | None = None) -> str:
    """A run that waits until then; null is for ever."""
    return await born(journal, worker=worker, status="waiting", wake_at=wake_at)


async def test_what_is_due_soon_comes_in_its_order(database: Database, journal: Journal) -> None:
    """What a look finds: unowned runs, not later than asked, soonest first, bounded; and those of who looks."""
    late, soon = await waiting(journal, NOW + 900), await waiting(journal, NOW + 10)
    await waiting(journal, None)
    now = await waiting(journal, NOW)
    await waiting(journal, NOW + 1_001)
    mine = await waiting(journal, NOW + 20, worker="w1")
    found = await watch.look(database, "w1", NOW + 1_000, 10)
    assert found.due == [(now, NOW), (soon, NOW + 10), (late, NOW + 900)]
    assert found.held == [(mine, 0)]
    assert (await watch.look(database, "w2", NOW + 1_000, 1)) == watch.Seen(found.beats, [], [(now, NOW)])


async def test_only_what_is_due_is_claimed_on_time(database: Database, journal: Journal) -> None:
    """Several processes ring for the same runs: one gets each, and none gets a run that has a later time by now."""
    due, later = await waiting(journal, NOW - 1), await waiting(journal, NOW + 1)
    other, ended = await waiting(journal, NOW - 1), await born(journal, status="completed")
    ids = [due, later, ended, new_id()]
    claims = await asyncio.gather(*(runs.claim_these(database, ids, worker, NOW) for worker in ("w1", "w2", "w3")))
    assert sorted(run_id for claimed in claims for run_id in claimed) == [due]
    row = await now_of(database, due)
    assert (row.epoch, row.worker in ("w1", "w2", "w3")) == (2, True)
    assert [(await now_of(database, run_id)).worker for run_id in (later, other, ended)] == [None, None, None]


async def test_waiting_runs_cost_an_index_look(database_url: str, database: Database, journal: Journal) -> None:
    """H1: neither the look nor the claim of due runs reads runs that wait for people or for another day."""
    await asyncio.gather(*(waiting(journal, None) for _ in range(MANY)))
    await asyncio.gather(*(waiting(journal, NOW + 1_000_000 + number) for number in range(MANY // 10)))
    if database.dialect == "postgresql":
        await query(database_url, "ANALYZE runs")
    for statement in (watch._LOOK, runs._CLAIM_DUE):
        plan = await explained(database_url, database.dialect, statement)
        assert "ix_runs_due" in plan, plan
        assert "SCAN runs" not in plan, plan
        assert "Seq Scan on runs" not in plan, plan


async def explained(url: str, dialect: str, statement: Statement) -> str:
    """How the database would run it, with times around now."""
    form = statement.postgresql if dialect == "postgresql" else statement.sqlite
    text = re.sub(r"\$\d+::(TEXT|VARCHAR)", "'w1'", form.sql)
    text = re.sub(r"\$\d+(::[A-Z]+)?|\?", str(NOW), text)
    prefix = "EXPLAIN" if dialect == "postgresql" else "EXPLAIN QUERY PLAN"
    return "\n".join(str(row) for row in await query(url, f"{prefix} {text}"))
