"""The journal: fences, merging, refusal, keys, ends (F2, F9, F10)."""

import asyncio
from typing import Any

import pytest

from contracts.errors import StoreUnavailable
from contracts.lifecycle import NODE_MOVES, NODE_TERMINAL, RUN_ACTIVE, RUN_TERMINAL, NodeStatus, RunStatus
from store import events, prompts, runs, signals, workers
from store.connect import Database
from store.journal import Fenced, Journal, WriteRefused
from store.rows import Written
from tests.store.making import (
    DAY_MS,
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
    seqs,
    write,
)  # fmt: skip


async def test_a_birth_is_whole(database: Database, journal: Journal) -> None:
    """F1, F10: the run, its envelope, its plan, its nodes and its first frames are there together."""
    run_id = await born(journal, plan=plan(), nodes={"a": node("a", inputs_json='{"x":1}')})
    row = await now_of(database, run_id)
    assert (row.status, row.worker, row.epoch, row.last_seq, row.inbox, row.created_at) == (
        "running",
        "w1",
        1,
        2,
        0,
        NOW,
    )
    assert await runs.envelope(database, TENANT, run_id) == '{"objective":"Write"}'
    assert await runs.plan_row(database, TENANT, run_id) == plan()
    assert await runs.node_rows(database, TENANT, run_id) == [node("a", inputs_json='{"x":1}')]
    assert await events.events_after(database, TENANT, run_id, 0, 10) == [event(1), event(2)]


async def test_a_queued_run_is_due_at_once(database: Database, journal: Journal) -> None:
    run_id = await born(journal, worker=None, status="queued")
    assert (await now_of(database, run_id)).wake_at == NOW
    assert await runs.claim_due(database, "w2", NOW, 10) == [(run_id, TENANT)]


async def test_equal_plans_are_stored_once_and_unequal_ones_apart(database: Database, journal: Journal) -> None:
    """Two plans that run alike (one hash) but read differently keep their own texts."""
    first, second, third = plan(text='{"a":1}'), plan(text='{"a":2}'), plan(text='{"a":1}')
    ids = [await born(journal, plan=made) for made in (first, second, third)]
    assert [await runs.plan_row(database, TENANT, run_id) for run_id in ids] == [first, second, third]


async def test_appends_of_one_tick_are_one_commit(database: Database, journal: Journal, crash: Recorder) -> None:
    """Design §4: transitions of a run that wait together are merged; the last word wins, every event stays."""
    run_id = await born(journal)
    crash.seen.clear()
    appended = [
        journal.append(write(run_id, 2, nodes={"a": node("a", "running")}, ledger_json='{"n":1}', started_at=5)),
        journal.append(write(run_id, 3, nodes={"a": node("a", "completed"), "b": node("b")}, ledger_json='{"n":2}')),
        journal.append(
            write(run_id, 4, 2, status="waiting", waiting_on_json='["hitl"]', wake_at=NOW + 9, release=True)
        ),
    ]
    assert await asyncio.gather(*appended) == [Written(True, 0)] * 3
    assert crash.seen.count("journal.after_commit") == 1
    row = await now_of(database, run_id)
    assert (row.last_seq, row.status, row.ledger_json, row.started_at) == (6, "waiting", "{}", 5)
    assert (row.worker, row.wake_at) == (None, NOW + 9)
    assert await runs.node_rows(database, TENANT, run_id) == [node("a", "completed"), node("b")]
    assert seqs(await events.events_after(database, TENANT, run_id, 0, 10)) == [1, 2, 3, 4, 5, 6]


async def test_writes_that_follow_a_birth_in_its_batch_are_merged_into_it(database: Database, journal: Journal) -> None:
    run_id = new_id()
    accepted = journal.birth(birth(run_id))
    going_on = journal.append(write(run_id, 2, nodes={"a": node("a")}))
    assert (await accepted).run_id == run_id
    assert await going_on == Written(False, 0)
    assert (await now_of(database, run_id)).last_seq == 3


async def test_merged_plan_versions_are_all_kept(database: Database, journal: Journal) -> None:
    run_id = await born(journal, plan=plan())
    await asyncio.gather(
        journal.append(write(run_id, 2, plan=plan(2, '{"v":2}'), plan_version=2)),
        journal.append(write(run_id, 3, plan=plan(3, '{"v":3}'), plan_version=3)),
    )
    assert await runs.plan_row(database, TENANT, run_id) == plan(3, '{"v":3}')
    assert await runs.plan_row(database, TENANT, run_id, 2) == plan(2, '{"v":2}')


@pytest.mark.parametrize(
    "stale", [{"epoch": 2}, {"epoch": 0}, {"before_seq": 1, "after_seq": 3}, {"before_seq": 3, "after_seq": 4}]
)
async def test_a_write_with_another_fence_changes_nothing(
    database: Database, journal: Journal, stale: dict[str, Any]
) -> None:
    """F10: neither another epoch nor another last event passes; the others of the batch do."""
    run_id, other = await born(journal), await born(journal)
    before = await now_of(database, run_id)
    bad = journal.append(write(run_id, 2, nodes={"a": node("a")}, **stale))
    good = journal.append(write(other, 2))
    with pytest.raises(Fenced):
        await bad
    assert (await good).released is False
    assert await now_of(database, run_id) == before
    assert await runs.node_rows(database, TENANT, run_id) == []
    assert seqs(await events.events_after(database, TENANT, run_id, 0, 10)) == [1, 2]


async def test_a_buried_worker_writes_nothing(database: Database, journal: Journal) -> None:
    """F10: a zombie's commit matches no fence, before and after the run was claimed by another."""
    await workers.enlist(database, "w1", NOW)
    run_id = await born(journal)
    assert await workers.bury(database, "w1", NOW + 5) == [run_id]
    with pytest.raises(Fenced):
        await journal.append(write(run_id, 2))
    assert await runs.claim(database, run_id, "w2")
    with pytest.raises(Fenced):
        await journal.append(write(run_id, 2))
    assert (await journal.append(write(run_id, 2, epoch=3))).released is False


async def test_a_released_run_is_not_written_by_its_last_holder(journal: Journal) -> None:
    run_id = await born(journal)
    assert (await journal.append(write(run_id, 2, status="waiting", release=True))).released
    with pytest.raises(Fenced):
        await journal.append(write(run_id, 3))


async def test_a_release_is_refused_while_the_inbox_has_moved(database: Database, journal: Journal) -> None:
    """Design §4: the rest is written either way, and the holder reads on."""
    run_id = await born(journal)
    async with database.unit("signal") as unit:
        assert (left := await signals.leave(unit, run_id, TENANT, "cancel", "{}", NOW)) is not None
    assert (left.signal_id, left.worker) == (1, "w1")
    assert await journal.append(write(run_id, 2, status="waiting", release=True)) == Written(False, 1)
    assert (await now_of(database, run_id)).status == "waiting"
    assert await journal.append(write(run_id, 3, 0, status="waiting", release=True, seen=1)) == Written(True, 1)


async def test_a_refused_write_leaves_the_rest_of_its_batch_alone(database: Database, journal: Journal) -> None:
    """Design §4: a batch is halved until the offender is found; it fails typed."""
    ids = [await born(journal) for _ in range(7)]
    writes = [write(run_id, 2, nodes={"a": node("a", "nonsense" if run_id == ids[3] else "running")}) for run_id in ids]
    results = await asyncio.gather(*(journal.append(one) for one in writes), return_exceptions=True)
    assert [type(result) for result in results] == [WriteRefused if n == 3 else Written for n in range(7)]
    assert [(await now_of(database, run_id)).last_seq for run_id in ids] == [2 if n == 3 else 3 for n in range(7)]


async def test_numbers_beyond_64_bits_are_refused(journal: Journal) -> None:
    run_id = await born(journal)
    with pytest.raises(WriteRefused):
        await journal.append(write(run_id, 2, wake_at=2**70))
    assert (await journal.append(write(run_id, 2, wake_at=2**62))).inbox == 0


async def test_a_run_id_is_born_once(database: Database, journal: Journal) -> None:
    run_id = await born(journal)
    with pytest.raises(WriteRefused):
        await journal.birth(birth(run_id))
    assert (await now_of(database, run_id)).last_seq == 2


# --- lifecycle -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", sorted(RunStatus))
@pytest.mark.parametrize("before", sorted(RUN_TERMINAL))
async def test_an_ended_run_never_changes(
    database: Database, journal: Journal, before: RunStatus, after: RunStatus
) -> None:
    """Design §3: a terminal state is final, for its holder and for everybody else."""
    run_id = await born(journal)
    await journal.append(write(run_id, 2, status=before, ended_at=NOW, wake_at=NOW + 1))
    row = await now_of(database, run_id)
    assert (row.status, row.worker, row.wake_at) == (before, None, None)
    with pytest.raises(Fenced):
        await journal.append(write(run_id, 3, status=after))
    async with database.unit("signal") as unit:
        assert await signals.leave(unit, run_id, TENANT, "cancel", "{}", NOW) is None
    assert not await runs.claim(database, run_id, "w2")
    assert await now_of(database, run_id) == row


@pytest.mark.parametrize("before", sorted(RUN_ACTIVE))
async def test_a_live_run_moves_on_and_takes_mail(database: Database, journal: Journal, before: RunStatus) -> None:
    for after in sorted(RunStatus):
        run_id = await born(journal, status=before)
        async with database.unit("signal") as unit:
            assert await signals.leave(unit, run_id, TENANT, "poke", "{}", NOW) is not None
        await journal.append(write(run_id, 2, status=after))
        assert (await now_of(database, run_id)).status == after


@pytest.mark.parametrize("after", sorted(set(NodeStatus) - {NodeStatus.PENDING}))
@pytest.mark.parametrize("before", sorted(set(NodeStatus) - {NodeStatus.PENDING}))
async def test_a_final_node_is_never_reopened(
    database: Database, journal: Journal, before: NodeStatus, after: NodeStatus
) -> None:
    """Design §3. A batch may hold several moves, so what is refused is what no sequence of moves allows."""
    run_id = await born(journal, nodes={"a": node("a", before)})
    writing = journal.append(write(run_id, 2, nodes={"a": node("a", after)}))
    if before in NODE_TERMINAL:
        assert not NODE_MOVES[before]
        with pytest.raises(WriteRefused):
            await writing
        assert (await now_of(database, run_id)).last_seq == 2
    else:
        await writing
    (row,) = await runs.node_rows(database, TENANT, run_id)
    assert row.status == (before if before in NODE_TERMINAL else after)


async def test_a_pending_node_has_no_row(journal: Journal) -> None:
    run_id = await born(journal)
    with pytest.raises(WriteRefused):
        await journal.append(write(run_id, 2, nodes={"a": node("a", "pending")}))


async def test_forgotten_nodes_go_and_may_come_back(database: Database, journal: Journal) -> None:
    run_id = await born(journal, nodes={"a": node("a", "failed"), "b": node("b")})
    await journal.append(write(run_id, 2, forgotten=["a", "b"], nodes={"a": node("a", "ready", generation=1)}))
    assert await runs.node_rows(database, TENANT, run_id) == [node("a", "ready", generation=1)]


# --- mail and prompts at the end -------------------------------------------------------------------------------------


async def test_an_end_answers_every_signal_and_closes_every_prompt(
    database: Database, journal: Journal, clock: Hands
) -> None:
    """Design §4: seen or unseen, parked or new, nothing stays pending; what the holder answered keeps its outcome."""
    run_id = await born(journal)
    mine = prompt(run_id)
    await journal.append(write(run_id, 2, prompts=[mine]))
    for _ in range(3):
        async with database.unit("signal") as unit:
            await signals.leave(unit, run_id, TENANT, "poke", "{}", NOW)
    clock.ms += 7
    await journal.append(write(run_id, 3, status="cancelled", seen=2, answered=[(1, "applied")]))
    outcomes = [await signals.signal(database, TENANT, run_id, number) for number in (1, 2, 3)]
    assert [signal and signal.outcome for signal in outcomes] == ["applied", "late", "late"]
    closed = await prompts.get(database, TENANT, mine.prompt_id)
    assert closed is not None
    assert (closed.status, closed.settled_at) == ("withdrawn", NOW + 7)


async def test_a_plain_end_answers_parked_signals_too(database: Database, journal: Journal) -> None:
    run_id = await born(journal)
    for _ in range(2):
        async with database.unit("signal") as unit:
            await signals.leave(unit, run_id, TENANT, "poke", "{}", NOW)
    await journal.append(write(run_id, 2, status="completed", seen=2, answered=[(2, "superseded")]))
    outcomes = [await signals.signal(database, TENANT, run_id, number) for number in (1, 2)]
    assert [signal and signal.outcome for signal in outcomes] == ["late", "superseded"]


async def test_a_prompt_raised_and_dropped_in_one_batch_is_stored_withdrawn(
    database: Database, journal: Journal
) -> None:
    run_id = await born(journal)
    asked, ended = prompt(run_id), prompt(run_id)
    await asyncio.gather(
        journal.append(write(run_id, 2, prompts=[asked, ended])),
        journal.append(write(run_id, 3, withdrawn=[asked.prompt_id])),
        journal.append(write(run_id, 4, status="failed")),
    )
    rows = [await prompts.get(database, TENANT, one.prompt_id) for one in (asked, ended)]
    assert [row and row.status for row in rows] == ["withdrawn", "withdrawn"]


async def test_withdrawn_prompts_are_closed_and_others_stay(database: Database, journal: Journal) -> None:
    run_id = await born(journal)
    gone, stays = prompt(run_id), prompt(run_id)
    await journal.append(write(run_id, 2, prompts=[gone, stays]))
    await journal.append(write(run_id, 3, withdrawn=[gone.prompt_id]))
    assert await prompts.open_of_run(database, TENANT, run_id) == [stays]


# --- idempotency keys ------------------------------------------------------------------------------------------------


async def test_a_key_gives_the_first_run(database: Database, journal: Journal) -> None:
    """F2: the fingerprint of the first body comes back, so that another body can be refused."""
    first = await born(journal, key="k")
    second = await journal.birth(birth(new_id(), key="k"))
    assert (second.run_id, second.existing, second.fingerprint) == (first, True, f"print of {first}")
    assert (await runs.run_page(database, TENANT, limit=10)).rows == [await now_of(database, first)]


async def test_what_follows_a_birth_that_was_there_already_is_void(journal: Journal) -> None:
    await born(journal, key="k")
    run_id = new_id()
    again, going_on = journal.birth(birth(run_id, key="k")), journal.append(write(run_id, 2))
    assert (await again).existing
    with pytest.raises(Fenced):
        await going_on


async def test_keys_are_of_a_tenant_and_an_expired_one_is_free(
    database: Database, journal: Journal, clock: Hands
) -> None:
    first = await born(journal, key="k")
    assert await born(journal, key="k", tenant="other") != first
    clock.ms += DAY_MS
    assert await born(journal, key="k") != first


@pytest.mark.parametrize("name", [None, "run_chosen_beforehand"])
async def test_a_hundred_births_with_one_key_are_one_run(database_url: str, clock: Hands, name: str | None) -> None:
    """F2, from two processes' worth of journals at once; also when the run's name was chosen before (W6)."""
    databases = [await Database.open(database_url, clock=clock) for _ in range(2)]
    journals = [Journal(database) for database in databases]
    for one in journals:
        await one.start()
    answers = await asyncio.gather(*(journals[n % 2].birth(birth(name or new_id(), key="k")) for n in range(100)))
    assert len({answer.run_id for answer in answers}) == 1
    assert [answer.existing for answer in answers].count(False) == 1
    assert len({answer.fingerprint for answer in answers if answer.existing}) == 1
    assert len((await runs.run_page(databases[0], TENANT, limit=10)).rows) == 1
    for one in journals:
        await one.close()
    for database in databases:
        await database.close()


# --- crash points and closing ----------------------------------------------------------------------------------------


async def test_crash_points_come_in_their_order(database: Database, journal: Journal, crash: Recorder) -> None:
    run_id = await born(journal)
    assert crash.seen == ["accept.begin", "accept.before_commit", "accept.after_commit"]
    crash.seen.clear()
    await journal.append(write(run_id, 2, status="waiting", release=True))
    assert crash.seen == ["journal.begin", "journal.before_commit", "journal.after_commit", "release.after_commit"]
    crash.seen.clear()
    assert await runs.claim(database, run_id, "w2")
    assert crash.seen == ["claim.after_commit"]
    crash.seen.clear()
    await journal.append(write(run_id, 3, epoch=2, status="completed"))
    ends = ["finish.before_commit", "journal.after_commit", "finish.after_commit", "release.after_commit"]
    assert crash.seen == ["journal.begin", "journal.before_commit", *ends]


async def test_closing_writes_what_waits_and_refuses_what_comes_later(database: Database) -> None:
    journal = Journal(database)
    await journal.start()
    run_id = new_id()
    accepted = journal.birth(birth(run_id))
    await journal.close()
    assert (await accepted).run_id == run_id
    for late in (journal.append(write(run_id, 2)), journal.birth(birth(new_id()))):
        with pytest.raises(StoreUnavailable):
            await late
