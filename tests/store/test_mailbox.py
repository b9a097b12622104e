"""The mailbox: a signal is never lost, whatever comes between leaving, releasing and claiming (design §4)."""

import asyncio
from dataclasses import dataclass

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.lifecycle import RUN_TERMINAL
from store import runs, signals, watch, workers
from store.connect import Database
from store.journal import Fenced, Journal
from store.rows import RunRow
from tests.store.making import NOW, TENANT, birth, born, new_id, now_of, write

ACTIONS = (
    "leave",
    "leave",
    "write",
    "read",
    "release",
    "release",
    "answer",
    "claim",
    "claim_due",
    "bury",
    "disown",
    "end",
)


@dataclass
class Holder:
    """What a process knows of the run that it holds."""

    worker: str
    epoch: int
    seq: int
    seen: int


async def leave(database: Database, run_id: str) -> signals.Left | None:
    async with database.unit("signal") as unit:
        return await signals.leave(unit, run_id, TENANT, "poke", "{}", NOW)


async def taken(database: Database, run_id: str, worker: str) -> Holder:
    loaded = await runs.load(database, run_id, worker)
    assert loaded is not None
    return Holder(worker, loaded.run.epoch, loaded.run.last_seq, loaded.run.inbox)


class Story:
    """One run, one possible holder, one step after the other."""

    def __init__(self, database: Database, journal: Journal, run_id: str) -> None:
        self.database, self.journal, self.run_id = database, journal, run_id
        self.holder: Holder | None = Holder("w1", 1, 2, 0)
        self.lost: Holder | None = None

    async def act(self, action: str) -> None:
        if action == "leave":
            await leave(self.database, self.run_id)
        elif action in ("claim", "claim_due"):
            await self.claim(action)
        elif action in ("bury", "disown"):
            await self.lose(action)
        elif self.holder is not None:
            await self.write(action, self.holder)

    async def claim(self, how: str) -> None:
        if how == "claim":
            got = await runs.claim(self.database, self.run_id, "w2")
        else:
            got = (self.run_id, TENANT) in await runs.claim_due(self.database, "w2", NOW, 1_000)
        if got:
            self.holder = await taken(self.database, self.run_id, "w2")

    async def lose(self, how: str) -> None:
        if self.holder is None:
            return
        self.lost, self.holder = self.holder, None
        if how == "bury":
            await workers.bury(self.database, self.lost.worker, NOW)
        else:
            await runs.disown(self.database, self.lost.worker)

    async def write(self, action: str, holder: Holder) -> None:
        answered: list[tuple[int, str]] = []
        if action in ("read", "answer"):
            found = await signals.signals_after(self.database, self.run_id)
            holder.seen = max([holder.seen, *(signal.signal_id for signal in found)])
            answered = [(signal.signal_id, "applied") for signal in found] if action == "answer" else []
        written = await self.journal.append(
            write(
                self.run_id,
                holder.seq,
                epoch=holder.epoch,
                seen=holder.seen,
                answered=answered,
                status="completed" if action == "end" else "waiting",
                release=action == "release",
            )
        )
        holder.seq += 1
        if written.released:
            self.holder = None

    async def zombie(self) -> None:
        """Whoever lost the run cannot write it any more."""
        if self.lost is not None:
            try:
                await self.journal.append(write(self.run_id, self.lost.seq, epoch=self.lost.epoch))
            except Fenced:
                return
            raise AssertionError("a lost lease wrote")


def is_safe(row: RunRow, pending: list[int]) -> bool:
    """An unread signal has an owner or is due; an ended run has none."""
    if row.status in RUN_TERMINAL:
        return not pending
    unread = [number for number in pending if number > row.seen]
    return not unread or row.worker is not None or (row.wake_at is not None and row.wake_at <= NOW)


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.sampled_from(ACTIONS), min_size=3, max_size=14))
async def test_a_signal_is_never_lost(database: Database, journal: Journal, actions: list[str]) -> None:
    story = Story(database, journal, await born(journal))
    for action in actions:
        await story.act(action)
        await story.zombie()
        pending = [signal.signal_id for signal in await signals.signals_after(database, story.run_id)]
        assert is_safe(await now_of(database, story.run_id), pending), action


async def test_signals_and_releases_at_the_same_moment(database: Database, journal: Journal) -> None:
    """The inbox is bumped and the lease given up under one row lock: either the release sees it, or the run is due."""
    ids = [await born(journal) for _ in range(40)]
    releases = [journal.append(write(run_id, 2, status="waiting", release=True)) for run_id in ids]
    left = await asyncio.gather(*(leave(database, run_id) for run_id in ids))
    written = await asyncio.gather(*releases)
    for run_id, mail, done in zip(ids, left, written, strict=True):
        row = await now_of(database, run_id)
        assert mail is not None
        assert (row.worker is None) == done.released
        assert is_safe(row, [1])


async def test_signals_and_ends_at_the_same_moment(database: Database, journal: Journal) -> None:
    """Either the signal is refused (409) or the end answers it; none stays pending."""
    ids = [await born(journal) for _ in range(40)]
    ends = [journal.append(write(run_id, 2, status="completed")) for run_id in ids]
    left = await asyncio.gather(*(leave(database, run_id) for run_id in ids))
    await asyncio.gather(*ends)
    for run_id, mail in zip(ids, left, strict=True):
        stored = await signals.signal(database, TENANT, run_id, 1)
        assert (mail is None) == (stored is None)
        assert stored is None or stored.outcome == "late"


async def test_signals_are_numbered_per_run_and_read_in_order(database: Database, journal: Journal) -> None:
    run_id = await born(journal)
    numbers = [mail.signal_id for mail in await asyncio.gather(*(leave(database, run_id) for _ in range(20))) if mail]
    assert sorted(numbers) == list(range(1, 21))
    assert [signal.signal_id for signal in await signals.signals_after(database, run_id)] == list(range(1, 21))
    assert [signal.signal_id for signal in await signals.signals_after(database, run_id, 18)] == [19, 20]


async def test_a_signal_for_nobody_is_refused(database: Database, journal: Journal) -> None:
    """No such run, or another tenant's: the door reads which."""
    run_id = await born(journal)
    async with database.unit("signal") as unit:
        assert await signals.leave(unit, "run_unknown", TENANT, "poke", "{}", NOW) is None
        assert await signals.leave(unit, run_id, "other", "poke", "{}", NOW) is None
    assert (await now_of(database, run_id)).inbox == 0


async def test_a_signal_brings_a_timer_forward_and_never_back(database: Database, journal: Journal) -> None:
    far, due = new_id(), new_id()
    await journal.birth(birth(far, worker=None, status="waiting", wake_at=NOW + 99))
    await journal.birth(birth(due, worker=None, status="waiting", wake_at=NOW - 99))
    for run_id in (far, due):
        assert await leave(database, run_id) == signals.Left(1, None)
    assert (await now_of(database, far)).wake_at == NOW
    assert (await now_of(database, due)).wake_at == NOW - 99


async def test_a_loaded_run_is_complete(database: Database, journal: Journal) -> None:
    run_id = await born(journal, worker=None, status="queued")
    await leave(database, run_id)
    assert await runs.load(database, run_id, "w2") is None
    assert await runs.claim(database, run_id, "w2")
    assert not await runs.claim(database, run_id, "w3")
    loaded = await runs.load(database, run_id, "w2")
    assert loaded is not None
    assert (loaded.run.epoch, loaded.run.worker, loaded.run.inbox) == (2, "w2", 1)
    assert [signal.kind for signal in loaded.signals] == ["poke"]
    assert (loaded.plan, loaded.nodes, loaded.prompts) == (None, [], [])


async def test_claims_share_what_is_due(database: Database, journal: Journal) -> None:
    """SKIP LOCKED: two claimers never get the same run, and the oldest due run goes first."""
    ids = [await born(journal, worker=None, status="queued", created_at=NOW - 20 + number) for number in range(20)]
    later = await born(journal, worker=None, status="waiting", wake_at=NOW + 1)
    assert await runs.backlog(database, NOW) == 20
    first, second = await asyncio.gather(runs.claim_due(database, "a", NOW, 8), runs.claim_due(database, "b", NOW, 8))
    got = [run_id for run_id, _ in (*first, *second)]
    assert sorted(got) == ids[:16]
    assert len(await runs.claim_due(database, "a", NOW, 100)) == 4
    assert await runs.claim_due(database, "a", NOW, 100) == []
    assert await runs.claim_due(database, "a", NOW + 1, 100) == [(later, TENANT)]


async def test_workers_beat_and_are_buried(database: Database, journal: Journal) -> None:
    for worker in ("w1", "w2"):
        await workers.enlist(database, worker, NOW)
    assert await workers.beat(database, "w1", NOW + 1)
    seen = await watch.look(database, "w1", NOW, 1)
    assert sorted(seen.beats, key=lambda one: one.worker_id) == [watch.Beat("w1", 1), watch.Beat("w2", 0)]
    mine, ended = await born(journal), await born(journal)
    await journal.append(write(ended, 2, status="completed"))
    assert await workers.bury(database, "w1", NOW + 5) == [mine]
    row = await now_of(database, mine)
    assert (row.worker, row.epoch, row.wake_at) == (None, 2, NOW + 5)
    assert not await workers.beat(database, "w1", NOW + 6)
    assert await workers.bury(database, "w1", NOW + 7) == []


async def test_an_owner_without_a_row_is_seen(database: Database, journal: Journal) -> None:
    """A worker that claimed after its burial holds runs that nobody else would ever find."""
    await born(journal, worker="ghost")
    seen = await watch.look(database, "w1", NOW, 1)
    assert seen == watch.Seen(beats=[watch.Beat("ghost", watch.NEVER)])
