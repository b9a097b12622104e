"""Child runs and mail between runs: in the transaction of the run that sends them, under its fence (design §4)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from store import audit_reads, events, runs, signals
from store.audit import AuditRow
from store.connect import Database
from store.journal import Fenced, Journal, WriteRefused
from store.journal_session import Session
from store.rows import Birth, MailRow, SignalRow
from tests.store.making import (
    NOW,
    TENANT,
    Hands,
    Recorder,
    birth,
    born,
    event,
    new_id,
    node,
    now_of,
    plan,
    prompt,
    write,
)  # fmt: skip

ROUNDS = 60


def child(run_id: str, **more: Any) -> Birth:
    """A child run as it is born: queued, nobody's, with its plan and its first frames."""
    return birth(run_id, worker=None, status="queued", **({"plan": plan()} | more))


def letter(run_id: str, kind: str = "cancel", *, tenant: str = TENANT, at: int = NOW, text: str = "{}") -> MailRow:
    return MailRow(run_id, tenant, kind, text, at)


async def mailbox(database: Database, run_id: str) -> list[SignalRow]:
    return await signals.signals_after(database, run_id)


async def test_a_child_is_born_and_mail_is_left_with_the_write(
    database: Database, journal: Journal, crash: Recorder
) -> None:
    """Design §4: it is whole (row, envelope, plan, frames), nobody's and due; the addressee is due and has mail."""
    parent, other, new = await born(journal), await born(journal), new_id()
    crash.seen.clear()
    sent = letter(other, "child", at=NOW + 3, text='{"x":1}')
    written = await journal.append(write(parent, 2, spawned=[child(new)], mail=[sent]))
    assert (written.released, written.inbox) == (False, 0)
    row = await now_of(database, new)
    assert (row.status, row.worker, row.wake_at, row.epoch, row.last_seq) == ("queued", None, NOW, 1, 2)
    assert await runs.envelope(database, TENANT, new) == '{"objective":"Write"}'
    assert await runs.plan_row(database, TENANT, new) == plan()
    assert await events.events_after(database, TENANT, new, 0, 10) == [event(1), event(2)]
    assert await mailbox(database, other) == [SignalRow(1, other, "child", '{"x":1}', NOW + 3)]
    addressee = await now_of(database, other)
    assert (addressee.inbox, addressee.wake_at, addressee.last_seq) == (1, NOW + 3, 2)
    assert await runs.claim_due(database, "w2", NOW, 10) == [(new, TENANT)]
    assert crash.seen[:3] == ["journal.begin", "journal.before_commit", "journal.after_commit"]
    assert "release.after_commit" not in crash.seen


async def test_lineage_is_stored_with_the_birth(database: Database, journal: Journal) -> None:
    parent, new = await born(journal), new_id()
    made = child(new)
    made.run.root_run_id, made.run.parent_run_id, made.run.parent_node_id = parent, parent, "sub[2]"
    made.run.parent_generation = 4
    await journal.append(write(parent, 2, spawned=[made]))
    row = await now_of(database, new)
    assert (row.root_run_id, row.parent_run_id, row.parent_node_id, row.parent_generation) == (
        parent, parent, "sub[2]", 4,
    )  # fmt: skip


async def test_mail_wakes_its_addressee_no_later_than_it_would(database: Database, journal: Journal) -> None:
    """As store/signals.py: an earlier timer stays, a later one moves to now."""
    sender, soon, late = await born(journal), await born(journal), await born(journal)
    await journal.append(write(soon, 2, status="waiting", wake_at=NOW - 5, release=True))
    await journal.append(write(late, 2, status="waiting", wake_at=NOW + 50, release=True))
    await journal.append(write(sender, 2, mail=[letter(soon, at=NOW + 7), letter(late, at=NOW + 7)]))
    assert [(await now_of(database, run_id)).wake_at for run_id in (soon, late)] == [NOW - 5, NOW + 7]


@pytest.mark.parametrize("stale", [{"epoch": 2}, {"before_seq": 1, "after_seq": 3}])
async def test_a_fenced_write_neither_spawns_nor_mails(
    database: Database, journal: Journal, stale: dict[str, Any]
) -> None:
    """F10: a zombie has no children and says nothing; the others of its batch do."""
    zombie, alive, addressee = await born(journal), await born(journal), await born(journal)
    lost, made = new_id(), new_id()
    bad = journal.append(write(zombie, 2, **stale, spawned=[child(lost)], mail=[letter(addressee)]))
    good = journal.append(write(alive, 2, spawned=[child(made)], mail=[letter(addressee, "child")]))
    with pytest.raises(Fenced):
        await bad
    assert not (await good).released
    assert await runs.run_row(database, TENANT, lost) is None
    assert (await now_of(database, made)).status == "queued"
    assert [row.kind for row in await mailbox(database, addressee)] == ["child"]


async def test_a_child_that_is_there_already_is_not_born_twice(database: Database, journal: Journal) -> None:
    """A parent that is replayed spawns the same id again: the first birth stands, and the write is taken."""
    parent, new = await born(journal), new_id()
    await journal.append(write(parent, 2, spawned=[child(new)]))
    assert await runs.claim(database, new, "w2")
    before = await now_of(database, new)
    other = child(new, plan=plan(text='{"other":1}'), nodes={"a": node("a")})
    written = await journal.append(write(parent, 3, nodes={"s": node("s", "waiting")}, spawned=[other]))
    assert not written.released
    assert await now_of(database, new) == before
    assert await runs.plan_row(database, TENANT, new) == plan()
    assert await runs.node_rows(database, TENANT, new) == []
    assert (await now_of(database, parent)).last_seq == 4


async def test_mail_to_the_ended_and_to_strangers_is_dropped(database: Database, journal: Journal) -> None:
    """An ended run, another tenant's, and one that never was: nothing is left, and the write is taken."""
    sender, ended, foreign = await born(journal), await born(journal), await born(journal, tenant="other")
    await journal.append(write(ended, 2, status="completed"))
    await journal.append(write(sender, 2, mail=[letter(ended), letter(foreign), letter("run_nobody")]))
    assert (await now_of(database, sender)).last_seq == 3
    assert (await now_of(database, ended)).inbox == 0
    assert (await now_of(database, foreign, "other")).inbox == 0
    for run_id in (ended, foreign, "run_nobody"):
        assert await mailbox(database, run_id) == []


async def test_merged_writes_send_everything_in_order(database: Database, journal: Journal, crash: Recorder) -> None:
    """Transitions that wait together are one commit: every child is born, every letter gets the next number."""
    parent, addressee = await born(journal), await born(journal)
    async with database.unit("signal") as unit:
        assert await signals.leave(unit, addressee, TENANT, "pause", "{}", NOW) is not None
    crash.seen.clear()
    children = [new_id() for _ in range(3)]
    await asyncio.gather(
        journal.append(write(parent, 2, spawned=[child(children[0])], mail=[letter(addressee, "a")])),
        journal.append(write(parent, 3, mail=[letter(addressee, "b"), letter(addressee, "c")])),
        journal.append(write(parent, 4, spawned=[child(new) for new in children[1:]], status="waiting", release=True)),
    )
    assert crash.seen.count("journal.after_commit") == 1
    pending = [(row.signal_id, row.kind) for row in await mailbox(database, addressee)]
    assert pending == [(1, "pause"), (2, "a"), (3, "b"), (4, "c")]
    assert (await now_of(database, addressee)).inbox == 4
    assert [(await now_of(database, new)).status for new in children] == ["queued"] * 3
    assert (await now_of(database, parent)).worker is None


async def test_what_reaches_out_may_be_merged_into_a_birth(database: Database, journal: Journal) -> None:
    """A run that spawns and mails before its own birth is written: all of it is."""
    run_id, addressee, new = new_id(), await born(journal), new_id()
    accepted = journal.birth(birth(run_id))
    first = journal.append(write(run_id, 2, spawned=[child(new)], mail=[letter(addressee)]))
    second = journal.append(write(run_id, 3, status="waiting"))
    assert (await accepted).run_id == run_id
    await asyncio.gather(first, second)
    assert (await now_of(database, run_id)).last_seq == 4
    assert (await now_of(database, new)).status == "queued"
    assert len(await mailbox(database, addressee)) == 1


async def test_a_child_that_is_spawned_and_called_off_in_one_write_gets_the_mail(
    database: Database, journal: Journal
) -> None:
    """Born and cancelled in transitions that were merged: it is born, and the cancel waits for it."""
    parent, new = await born(journal), new_id()
    await asyncio.gather(
        journal.append(write(parent, 2, spawned=[child(new)])),
        journal.append(write(parent, 3, status="cancelled", mail=[letter(new)])),
    )
    assert [row.kind for row in await mailbox(database, new)] == ["cancel"]
    assert (await now_of(database, new)).inbox == 1


async def test_two_ends_of_one_batch_drop_each_others_mail(database: Database, journal: Journal) -> None:
    """A parent and its child end in the same commit: nothing pends in an ended run."""
    parent, new = await born(journal), await born(journal)
    mine = prompt(new)
    await journal.append(write(new, 2, prompts=[mine], status="waiting"))
    await asyncio.gather(
        journal.append(write(parent, 2, status="failed", mail=[letter(new)])),
        journal.append(write(new, 3, status="completed", mail=[letter(parent, "child")], withdrawn=[mine.prompt_id])),
    )
    for run_id in (parent, new):
        assert [row for row in await mailbox(database, run_id) if row.outcome is None] == []
        row = await now_of(database, run_id)
        assert (row.worker, row.wake_at) == (None, None)


async def test_data_that_is_refused_in_a_child_is_its_parents_and_nobody_elses(
    database: Database, journal: Journal
) -> None:
    """A batch is halved until the offender is found; neither it nor its children are written."""
    parents = [await born(journal) for _ in range(5)]
    children = [new_id() for _ in parents]
    made = [child(new) for new in children]
    made[2].run.created_at = 2**70
    writes = [journal.append(write(parent, 2, spawned=[one])) for parent, one in zip(parents, made, strict=True)]
    results = await asyncio.gather(*writes, return_exceptions=True)
    assert [isinstance(result, WriteRefused) for result in results] == [False, False, True, False, False]
    there = [await runs.run_row(database, TENANT, new) is not None for new in children]
    assert there == [True, True, False, True, True]
    assert (await now_of(database, parents[2])).last_seq == 2


async def test_who_reaches_out_to_nobody_pays_nothing(
    postgres_url: str, clock: Hands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A batch without births of children and without mail is still one statement (design §4, journal)."""
    said: list[str] = []
    fetch = Session._fetch

    async def counted(self: Session, sql: str, *args: Any) -> Any:
        said.append(sql)
        return await fetch(self, sql, *args)

    database = await Database.open(postgres_url, clock=clock)
    journal = Journal(database)
    await journal.start()
    ids = [await born(journal) for _ in range(4)]
    monkeypatch.setattr(Session, "_fetch", counted)
    await asyncio.gather(*(journal.append(write(run_id, 2, status="completed")) for run_id in ids))
    assert len(said) == 1
    await journal.close()
    await database.close()


async def test_two_runs_that_mail_each_other_all_the_time_never_block(database_url: str, clock: Hands) -> None:
    """Two processes, each holding two runs, mail the other's from all of them while doors leave signals too."""
    databases = [await Database.open(database_url, clock=clock) for _ in range(2)]
    journals = [Journal(database) for database in databases]
    for one in journals:
        await one.start()
    ids = [await born(journals[0], run_id=f"run_{name}") for name in ("a", "b", "c", "d")]
    # Each side holds one run that sorts before the other side's and one after: both orders of locking are wanted.
    mine = {0: (ids[0], ids[3]), 1: (ids[1], ids[2])}

    async def correspond(side: int) -> None:
        for turn in range(ROUNDS):
            to = mine[1 - side][:: 1 if turn % 2 else -1]
            letters = [letter(run_id, f"from {side}") for run_id in to]
            await asyncio.gather(
                *(journals[side].append(write(run_id, 2 + turn, mail=list(letters))) for run_id in mine[side])
            )

    async def call() -> None:
        for turn in range(ROUNDS):
            async with databases[turn % 2].unit("signal") as unit:
                assert await signals.leave(unit, ids[turn % 4], TENANT, "door", "{}", NOW) is not None

    async with asyncio.timeout(30):
        await asyncio.gather(correspond(0), correspond(1), call())
    for place, run_id in enumerate(ids):
        pending = await mailbox(databases[0], run_id)
        expected = 2 * ROUNDS + sum(turn % 4 == place for turn in range(ROUNDS))
        assert [row.signal_id for row in pending] == list(range(1, expected + 1))
        row = await now_of(databases[0], run_id)
        assert (row.inbox, row.last_seq) == (expected, 2 + ROUNDS)
    for one in journals:
        await one.close()
    for database in databases:
        await database.close()


async def test_audit_records_are_written_with_the_birth_they_are_about(database: Database, journal: Journal) -> None:
    """H9: who forked a run is in the transaction of the fork; a birth that was there already leaves no record."""
    first, again = birth(new_id(), key="k"), birth(new_id(), key="k")
    for made in (first, again):
        made.records = [_record(made.run.run_id)]
    assert not (await journal.birth(first)).existing
    assert (await journal.birth(again)).existing
    page = await audit_reads.page(database, TENANT, {}, limit=10, cursor=None)
    assert [(row.kind, row.actor, row.run_id, row.seq) for row in page.rows] == [
        ("run.forked", "user:ana", "run_origin", None)
    ]


def _record(run_id: str) -> AuditRow:
    return AuditRow(new_id("aud"), TENANT, NOW, "run.forked", "user:ana", "run_origin", None, f'{{"to":"{run_id}"}}')


async def test_a_birth_may_bring_its_children_along(database: Database, journal: Journal) -> None:
    """A fork is born with the child runs that go on in it, and theirs; its key gives it, or the earlier run, alone."""
    ids = [new_id() for _ in range(6)]
    for root, middle, leaf in (ids[:3], ids[3:]):
        made = birth(root, worker=None, status="queued", key="k")
        inner = child(middle)
        inner.write.spawned = [child(leaf)]
        made.write.spawned = [inner]
        made.records = [_record(root)]
        born_as = await journal.birth(made)
        assert (born_as.run_id, born_as.existing) == (ids[0], root != ids[0])
    rows = [await runs.run_row(database, TENANT, run_id) for run_id in ids]
    assert [row is not None and row.status for row in rows] == ["queued"] * 3 + [False] * 3
    assert await runs.plan_row(database, TENANT, ids[2]) == plan()
