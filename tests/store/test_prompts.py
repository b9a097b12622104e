"""Prompts, decisions, pages and keys (H1-H7, P3)."""

import asyncio
from typing import Any

import pytest

from contracts.errors import BadQuery
from contracts.lifecycle import PROMPT_TERMINAL, PromptStatus, RunStatus
from store import events, idempotency, prompt_timers, prompts, runs
from store.connect import Database
from store.journal import Journal
from store.rows import DecisionRow, PromptRow
from store.unit import Refused
from tests.store.making import DAY_MS, NOW, TENANT, born, new_id, prompt, seqs, write


async def raised(journal: Journal, *rows: PromptRow, **more: Any) -> list[PromptRow]:
    """Raise prompts in a run of their own, or one with these fields."""
    run_id = await born(journal, tenant=rows[0].tenant) if rows else await born(journal)
    asked = list(rows) or [prompt(run_id, **more)]
    for row in asked:
        row.run_id = run_id
    await journal.append(write(run_id, 2, prompts=asked))
    return asked


def decision(row: PromptRow, by: str = "user:ana", **more: Any) -> DecisionRow:
    values: dict[str, Any] = {
        "answer_json": None,
        "comment": None,
        "decided_by": by,
        "decided_at": NOW,
        "channel": "http",
    } | more
    return DecisionRow(new_id("dec"), row.prompt_id, row.run_id, row.tenant, "approve", **values)


async def test_a_prompt_comes_back_as_it_was_raised(database: Database, journal: Journal) -> None:
    (row,) = await raised(
        journal, due_at=NOW + 5, on_timeout="reject", policy_id="sign_off", proposed_json='{"a":"ä"}', quorum=2
    )
    assert await prompts.get(database, TENANT, row.prompt_id) == row
    assert await prompts.open_of_run(database, TENANT, row.run_id) == [row]
    assert (await prompt_timers.look(database, NOW + 5)).ends
    assert not (await prompt_timers.look(database, NOW + 4)).ends


async def test_another_tenant_sees_nothing(database: Database, journal: Journal) -> None:
    """P2: every query takes the tenant."""
    (row,) = await raised(journal)
    assert await prompts.get(database, "other", row.prompt_id) is None
    assert await prompts.open_of_run(database, "other", row.run_id) == []
    assert (await prompts.page(database, "other", limit=10)).rows == []
    assert await prompts.votes_of(database, "other", row.prompt_id) == []
    assert await runs.run_row(database, "other", row.run_id) is None
    assert await runs.envelope(database, "other", row.run_id) is None
    assert await runs.node_rows(database, "other", row.run_id) == []
    assert await events.events_after(database, "other", row.run_id, 0, 10) == []
    async with database.unit() as unit:
        assert await prompts.lock(unit, "other", row.prompt_id) is None
        assert not await prompts.settle(unit, "other", row.prompt_id, "{}", NOW)
        assert not await prompts.withdraw(unit, "other", row.prompt_id, NOW)
        assert not await prompts.claim(unit, "other", row.prompt_id, "user:eve")


@pytest.mark.parametrize("before", sorted(PromptStatus))
@pytest.mark.parametrize("move", ["settle", "withdraw", "claim", "expire"])
async def test_prompts_move_only_from_open(
    database: Database, journal: Journal, before: PromptStatus, move: str
) -> None:
    """H4, H5 of the table: whatever the move, an ended prompt stays as it is."""
    (row,) = await raised(journal, status=str(before), due_at=NOW, on_timeout="reject")
    async with database.unit() as unit:
        if move == "settle":
            moved = await prompts.settle(unit, TENANT, row.prompt_id, '{"action":"approve"}', NOW + 1)
        elif move == "withdraw":
            moved = await prompts.withdraw(unit, TENANT, row.prompt_id, NOW + 1)
        elif move == "claim":
            moved = await prompts.claim(unit, TENANT, row.prompt_id, "user:ana")
        else:
            moved = bool(await prompt_timers.expire_due(unit, NOW + 1, 10))
    assert moved == (before not in PROMPT_TERMINAL)
    stored = await prompts.get(database, TENANT, row.prompt_id)
    assert stored is not None
    expected = {"settle": "settled", "withdraw": "withdrawn", "claim": "open", "expire": "expired"}[move]
    assert stored == row if not moved else stored.status == expected


async def test_only_what_is_due_and_does_not_wait_expires(database: Database, journal: Journal) -> None:
    """H3: `on_timeout: wait` never expires; what is returned is in the order of the runs."""
    due = [(await raised(journal, due_at=NOW - 1, on_timeout="reject"))[0] for _ in range(3)]
    await raised(journal, due_at=NOW - 1, on_timeout="wait")
    await raised(journal, due_at=NOW + 1, on_timeout="fail")
    await raised(journal, on_timeout="approve")
    async with database.unit() as unit:
        expired = await prompt_timers.expire_due(unit, NOW, 2)
        rest = await prompt_timers.expire_due(unit, NOW, 10)
    assert [row.run_id for row in expired] == sorted(row.run_id for row in expired)
    assert sorted(row.prompt_id for row in (*expired, *rest)) == [row.prompt_id for row in due]
    assert {(row.status, row.settled_at) for row in (*expired, *rest)} == {("expired", NOW)}


async def test_a_person_has_one_voice_and_a_prompt_one_winner(database: Database, journal: Journal) -> None:
    """H4: the database itself refuses a second one."""
    (row,) = await raised(journal, quorum=2)
    first, second = decision(row), decision(row, "user:bo", winning=True, comment="fine", answer_json='{"a":1}')
    for one in (first, second):
        async with database.unit() as unit:
            await prompts.add_decision(unit, one)
    for bad in (decision(row), decision(row, "user:cy", winning=True)):
        with pytest.raises(Refused):
            async with database.unit() as unit:
                await prompts.add_decision(unit, bad)
    assert await prompts.votes_of(database, TENANT, row.prompt_id) == [first, second]


async def test_deciding_is_one_after_the_other(database: Database, journal: Journal) -> None:
    """H4: exactly once, from many at the same moment."""
    (row,) = await raised(journal)

    async def decide(number: int) -> bool:
        async with database.unit("decide") as unit:
            locked = await prompts.lock(unit, TENANT, row.prompt_id)
            if locked is None or locked.status != PromptStatus.OPEN:
                return False
            await prompts.add_decision(unit, decision(row, f"user:{number}", winning=True))
            return await prompts.settle(unit, TENANT, row.prompt_id, "{}", NOW)

    assert sorted(await asyncio.gather(*(decide(number) for number in range(8)))) == [False] * 7 + [True]


async def test_views(database: Database, journal: Journal) -> None:
    """H7: mine, unassigned, overdue, done."""
    free, mine, late, done = [(await raised(journal, created_at=NOW + n))[0] for n in range(4)]
    (late_row,) = await raised(journal, created_at=NOW + 5, due_at=NOW + 6)
    async with database.unit() as unit:
        assert await prompts.claim(unit, TENANT, mine.prompt_id, "user:ana")
        assert await prompts.claim(unit, TENANT, late.prompt_id, "user:bo")
        assert await prompts.settle(unit, TENANT, done.prompt_id, "{}", NOW)

    async def ids(**view: Any) -> list[str]:
        return [row.prompt_id for row in (await prompts.page(database, TENANT, limit=10, **view)).rows]

    assert await ids() == [late_row.prompt_id, late.prompt_id, mine.prompt_id, free.prompt_id]
    assert await ids(view="mine", viewer="user:ana") == [mine.prompt_id]
    assert await ids(view="unassigned") == [late_row.prompt_id, free.prompt_id]
    assert await ids(view="overdue", now_ms=NOW + 7) == [late_row.prompt_id]
    assert await ids(view="overdue", now_ms=NOW + 6) == []
    assert await ids(view="done") == [done.prompt_id]
    assert await ids(view="done", run_id=free.run_id) == []
    assert await ids(run_id=free.run_id) == [free.prompt_id]


async def test_pages_are_whole_and_in_order(database: Database, journal: Journal) -> None:
    """P3: every row once, newest first, also where times are equal."""
    ids = [await born(journal, created_at=NOW + number // 3) for number in range(10)]
    failed = ids[4]
    await journal.append(write(failed, 2, status="failed"))
    seen: list[str] = []
    cursor = None
    while True:
        page = await runs.run_page(database, TENANT, limit=4, cursor=cursor)
        seen += [row.run_id for row in page.rows]
        cursor = page.next_cursor
        if cursor is None:
            break
    assert seen == ids[::-1]
    by_status = await runs.run_page(database, TENANT, limit=4, status=RunStatus.FAILED)
    assert ([row.run_id for row in by_status.rows], by_status.next_cursor) == ([failed], None)


@pytest.mark.parametrize(
    "cursor", ["", "x", "!!!!", "MTIz", "LTEuYQ", "MS4A", "ä", "OTk5OTk5OTk5OTk5OTk5OTk5OTk5OTk5LmE"]
)
async def test_a_cursor_that_is_not_ours_is_refused(database: Database, cursor: str) -> None:
    with pytest.raises(BadQuery):
        await runs.run_page(database, TENANT, limit=1, cursor=cursor)


async def test_the_log_is_read_after_a_place(database: Database, journal: Journal) -> None:
    """F9."""
    run_id, other = await born(journal), await born(journal)
    await journal.append(write(run_id, 2, 5))
    assert seqs(await events.events_after(database, TENANT, run_id, 2, 3)) == [3, 4, 5]
    assert seqs(await events.events_after(database, TENANT, run_id, 7, 3)) == []
    assert await events.last_seqs(database, [run_id, other, "run_unknown"]) == {run_id: 7, other: 2}
    assert await events.last_seqs(database, []) == {}


async def test_keys_are_found_until_they_expire_and_swept_in_bounds(database: Database, journal: Journal) -> None:
    """F2: kept at least a day; nothing grows for ever (P6)."""
    ids = [await born(journal, key=f"k{number}") for number in range(5)]
    assert await idempotency.find(database, TENANT, "user:ana", "k0", NOW) == (ids[0], f"print of {ids[0]}")
    assert await idempotency.find(database, "other", "user:ana", "k0", NOW) is None
    assert await idempotency.find(database, TENANT, "user:ana", "k0", NOW + DAY_MS) is None
    assert await idempotency.sweep(database, NOW) == 0
    assert [await idempotency.sweep(database, NOW + DAY_MS, 3) for _ in range(3)] == [3, 2, 0]
