"""The process that walks runs: room, births, claims, and leaving in good order (design §4 and §5).

A worker is one row that is beaten; whoever sees it unbeaten for a full lease, on their own monotonic clock, takes its
runs away (``engine/rescue.py``). A worker that could not beat for a lease drops everything and takes a new id: its
commits would match no fence any more.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

import structlog

from contracts.errors import StoreUnavailable
from contracts.ids import WORKER
from contracts.lifecycle import RunStatus
from engine.alarms import Alarms
from engine.birth import Newborn, Order, conceive
from engine.leftover import Leftovers
from engine.revive import machine_of, under_way
from engine.shell import Shell
from engine.signals import Begin, Broken, Recovered, Tick
from engine.state import RunState
from engine.texts import provide
from engine.waiting import next_wake
from engine.walker import Walker
from store import runs, watch, workers
from store.rows import Born, LoadedRun
from store.watch import Seen

_log = structlog.get_logger("flex.engine")
ALARMS_PER_LOOK = 2_000
"""How many runs one look sets exact alarms for; the next look sees to the rest."""
MENDS = 2
"""How often a run that broke is read again by itself; afterwards it is left to the log and the next process."""


@dataclass(frozen=True, slots=True)
class WorkerLimits:
    """How much one process takes on, and how it keeps its lease. Seconds."""

    runs: int = 1_000
    lease_seconds: float = 10.0
    look_seconds: float = 1.0
    claim_batch: int = 50

    @property
    def look_every(self) -> float:
        """Return the seconds between two looks."""
        return min(self.look_seconds, self.lease_seconds / 4)

    @property
    def ahead_ms(self) -> int:
        """Return how far ahead exact alarms are set: over the next look, even one that comes late."""
        return round(2_000 * self.look_every)


class Worker:
    """Walks runs in this process."""

    def __init__(self, shell: Shell, limits: WorkerLimits) -> None:
        """Wire it; nothing happens before :meth:`start`."""
        self.shell, self.limits = shell, limits
        self.worker_id = ""
        self.draining = False
        self.drained = False
        self.left = False
        self._walkers: dict[str, Walker] = {}
        self._claiming: set[str] = set()
        self._taking: set[str] = set()
        self._overtaken: set[str] = set()
        self._woken: set[str] = set()
        self._expected: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._beaten_at = shell.clock.monotonic()
        self._idle = asyncio.Event()
        self._ended: list[Callable[[str], None]] = []
        self._breaks: dict[str, int] = {}
        self._leftovers = Leftovers()
        self._turned_away = False
        self.alarms = Alarms(shell.clock, self._due)
        shell.lease_holds = self.lease_holds

    # --- what others ask ---------------------------------------------------------------------------------------------

    @property
    def held(self) -> int:
        """Return how many runs are in memory."""
        return len(self._walkers)

    @property
    def has_room(self) -> bool:
        """Say whether another run may be taken."""
        return (
            self.worker_id != ""
            and not self.draining
            and self.lease_holds()
            and self.held + len(self._claiming) < self.limits.runs
        )

    def lease_holds(self) -> bool:
        """Say whether this worker was beaten less than a lease ago; asked before every dispatch."""
        return self.shell.clock.monotonic() - self._beaten_at < self.limits.lease_seconds

    async def accept(self, order: Order) -> Born:
        """Make a run durable and, with room, start it here. Raises ``StoreUnavailable`` when nothing was written."""
        now_ms = self.shell.clock.now_ms()
        self._turned_away = self._turned_away or not self.has_room
        newborn = conceive(order, self.shell, self.worker_id if self.has_room else None, now_ms)
        self._expected.add(order.run_id)
        try:
            born = await self.shell.journal.birth(newborn.birth)
            if not born.existing:
                self._born(order, newborn)
        finally:
            self._expected.discard(order.run_id)
            self._wake_again(order.run_id)
        return born

    def _born(self, order: Order, newborn: Newborn) -> None:
        self.shell.feed.publish(order.run_id, newborn.frames)
        self.shell.nudge.events(order.run_id, len(newborn.frames))
        if newborn.machine is None or newborn.transition is None:
            return
        if newborn.birth.run.worker is None:
            if newborn.machine.state.status is RunStatus.QUEUED:
                self.shell.nudge.run(order.run_id, None)
            self._expect_again(newborn.machine.state)
            return
        if newborn.birth.run.worker != self.worker_id:
            self._give_back(newborn.birth.run.worker)
            return
        walker = Walker(newborn.machine, self.shell, self._gone)
        self._walkers[order.run_id] = walker
        if self.drained:
            walker.drain()
        else:
            walker.begin(newborn.transition)

    def wake(self, run_id: str) -> None:
        """A signal was left for a run: read its mailbox if it is held here, else try to claim it."""
        walker = self._walkers.get(run_id)
        if walker is not None:
            walker.mail.look()
        elif run_id in self._claiming or run_id in self._expected:
            self._woken.add(run_id)
        elif self.has_room:
            self._claiming.add(run_id)
            self.spawn(self._claim(run_id))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Run a coroutine as one of the worker's own tasks."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    # --- claiming ----------------------------------------------------------------------------------------------------

    async def _claim(self, run_id: str) -> None:
        name = self.worker_id
        try:
            claimed = await runs.claim(self.shell.database, run_id, name)
        except StoreUnavailable:
            _log.warning("claim_failed", run_id=run_id)
            claimed = False
        self._claiming.discard(run_id)
        if claimed:
            self._give_back(name)
            await self._take(run_id)
        self._wake_again(run_id)

    def _give_back(self, name: str) -> None:
        """Let go of what was born or claimed under a name that this worker lost before the answer came."""
        if name != self.worker_id:
            self.spawn(self._disown(name))

    async def _disown(self, name: str) -> None:
        try:
            await runs.disown(self.shell.database, name)
        except StoreUnavailable:
            _log.warning("disown_failed", worker=name)  # an owner without a row is buried after a lease (rescue.py)

    def _wake_again(self, run_id: str) -> None:
        """Heed a nudge that came while the run was on its way into memory."""
        if run_id in self._woken:
            self._woken.discard(run_id)
            self.wake(run_id)

    async def claim_due(self) -> int:
        """Claim what is unowned and due, as far as there is room; return how many were claimed."""
        room = min(self.limits.claim_batch, self.limits.runs - self.held - len(self._claiming))
        if room <= 0 or not self.has_room:
            return 0
        now_ms, name = self.shell.clock.now_ms(), self.worker_id
        claimed = [run_id for run_id, _ in await runs.claim_due(self.shell.database, name, now_ms, room)]
        self._give_back(name)
        self._expected.update(claimed)
        for run_id in claimed:
            await self._take(run_id)
        return len(claimed)

    async def look(self) -> Seen:
        """Return what there is to see, in one read. Raises ``StoreUnavailable``.

        Without room one due run is enough to know of: the next run to end makes room for it.
        """
        most = ALARMS_PER_LOOK if self.has_room else 1
        until_ms = self.shell.clock.now_ms() + self.limits.ahead_ms
        return await watch.look(self.shell.database, self.worker_id, until_ms, most)

    async def heed(self, seen: Seen) -> None:
        """Act on what was seen of this worker's own runs and of what is due. Raises ``StoreUnavailable``."""
        await self._reconcile(seen.held)
        await self._see_to(seen.due)

    async def _see_to(self, due: Sequence[tuple[str, int]]) -> None:
        """Claim what is due, and set exact alarms for what becomes due before the look after the next."""
        if self.draining or not self.lease_holds():
            return
        now_ms = self.shell.clock.now_ms()
        for run_id, at_ms in due:
            if at_ms > now_ms:
                self.alarms.set(run_id, at_ms)
        if due and due[0][1] <= now_ms:
            self._turned_away = self._turned_away or not self.has_room
            await self.claim_all_due()

    def _expect_again(self, state: RunState) -> None:
        """Set an alarm for a run that waits for a time soon; later ones are found by a look."""
        wake = next_wake(state) if state.status is RunStatus.WAITING else None
        if wake is not None and wake <= self.shell.clock.now_ms() + self.limits.ahead_ms and not self.draining:
            self.alarms.set(state.run_id, wake)

    def _due(self, run_ids: Sequence[str]) -> None:
        if self.draining:
            return
        self.spawn(self._claim_on_time(run_ids))

    async def _claim_on_time(self, run_ids: Sequence[str]) -> None:
        """Claim runs whose time has come, as far as there is room; somebody else may have been faster."""
        room = self.limits.runs - self.held - len(self._claiming) if self.has_room else 0
        self._turned_away = self._turned_away or room < len(run_ids)
        if room <= 0:
            return
        now_ms, name = self.shell.clock.now_ms(), self.worker_id
        try:
            claimed = await runs.claim_these(self.shell.database, run_ids[:room], name, now_ms)
        except StoreUnavailable:
            _log.warning("claim_failed", runs=len(run_ids))
            return
        self._give_back(name)
        self._expected.update(claimed)
        for run_id in claimed:
            await self._take(run_id)

    async def _reconcile(self, held: Sequence[tuple[str, int]]) -> None:
        """Read mail that no nudge told of, and go on with runs that are this worker's but in nobody's memory.

        A claim whose answer was lost, or a run that could not be read when it was claimed, would else stay with a
        worker that lives and does nothing for it.
        """
        if not self.lease_holds():
            return
        strays = []
        for run_id, inbox in held:
            walker = self._walkers.get(run_id)
            if walker is None:
                strays.append(run_id)
            elif inbox > walker.state.seen:
                walker.mail.look()
        known = self._walkers.keys() | self._claiming | self._expected
        for run_id in strays:
            if run_id not in known and self._breaks.get(run_id, 0) <= MENDS:
                await self._take(run_id)

    async def _claim_queued(self) -> None:
        """Fill the room that an ended run left."""
        try:
            self._turned_away = await self.claim_due() > 0
        except StoreUnavailable:
            _log.warning("claim_failed")

    async def claim_all_due(self) -> None:
        """Claim batch after batch until one is not full."""
        claimed = self.limits.claim_batch
        while claimed == self.limits.claim_batch:
            claimed = await self.claim_due()

    async def _take(self, run_id: str) -> None:
        """Load a run that this worker has claimed and go on with it; what fails is tried again by the next look.

        A claim whose answer is on its way looks like a stray to :meth:`reconcile`: one of the two takes the run.
        """
        if run_id in self._taking:
            return
        self._taking.add(run_id)
        self._claiming.add(run_id)
        try:
            loaded = await self._load(run_id)
            if loaded is not None and loaded.run.worker == self.worker_id and not self.drained:
                self._hold(run_id, loaded)
        except StoreUnavailable:
            _log.warning("run_unread", run_id=run_id)
        except Exception:  # noqa: BLE001  # a run that cannot be read must not keep others from going on; the log has it
            self._breaks[run_id] = self._breaks.get(run_id, 0) + 1
            _log.exception("run_unreadable", run_id=run_id, times=self._breaks[run_id])
        finally:
            self._taking.discard(run_id)
            self._overtaken.discard(run_id)
            self._claiming.discard(run_id)
            self._expected.discard(run_id)
        self._wake_again(run_id)

    async def _load(self, run_id: str) -> LoadedRun | None:
        """Read a run as one commit left it: once more, if a walker of this process let go of it meanwhile."""
        while True:
            self._overtaken.discard(run_id)
            loaded = await runs.load(self.shell.database, run_id, self.worker_id)
            if loaded is not None:
                await provide(self.shell, loaded)
            if run_id not in self._overtaken:
                return loaded

    def _hold(self, run_id: str, loaded: LoadedRun) -> None:
        """Walk a loaded run, unless this very claim of it is walked already."""
        earlier = self._walkers.get(run_id)
        if earlier is not None:
            if earlier.state.epoch >= loaded.run.epoch:
                return
            earlier.drop("fenced")
        walker = Walker(machine_of(loaded, self.shell), self.shell, self._gone)
        self._walkers[run_id] = walker
        if self._breaks.get(run_id, 0) > 0:
            walker.signal(Broken("The run met an internal error; the log says why."))
            return
        self._go_on(walker, loaded)

    def _go_on(self, walker: Walker, loaded: LoadedRun) -> None:
        """Read what was left for the run and let it move; one that waited moves by its signals and timers alone.

        An answer that came before the end of its time wins over the timer, however late both are looked at.
        """
        lost, asked = under_way(walker.state), walker.state.ledger.asked
        left = self._leftovers.take_up(walker)
        lost = left.not_lost(lost)
        if loaded.signals:
            walker.mail.take(loaded.signals)
        if walker.state.status is RunStatus.WAITING:
            walker.signal(Tick())
        elif walker.state.ended_at is None:
            begun = walker.state.nodes or loaded.run.status == RunStatus.PLANNING
            for signal in left.ends(walker.state):
                walker.signal(signal)
            asked_here = walker.state.ledger.asked is not asked
            walker.signal(Recovered(lost, asked_here) if begun else Begin())

    def _gone(self, walker: Walker, why: str) -> None:
        run_id = walker.state.run_id
        if self._walkers.get(run_id) is walker:
            del self._walkers[run_id]
        if run_id in self._taking:
            self._overtaken.add(run_id)
        if why == "ended":
            self._breaks.pop(run_id, None)
            self.shell.feed.ended(run_id)
        if why == "broken":
            self._mend(run_id)
        if self._leftovers.keep(walker) and not self.drained:
            self._expected.add(run_id)
            self.spawn(self._take(run_id))
        if why == "released":
            self._expect_again(walker.state)
        if why == "fenced" or (why == "released" and walker.mail.asked):
            # A signal may have been left for the walker that is leaving: nobody else was told of it.
            self.wake(run_id)
        if not self._walkers:
            self._idle.set()
        if self._turned_away and self.has_room:
            self._turned_away = False
            self.spawn(self._claim_queued())

    def _mend(self, run_id: str) -> None:
        """Read the run again and end it as ``internal``; when even that breaks, leave it to the log and a rescue."""
        self._breaks[run_id] = self._breaks.get(run_id, 0) + 1
        if self._breaks[run_id] <= MENDS and not self.draining:
            self._expected.add(run_id)
            self.spawn(self._take(run_id))
        else:
            _log.error("run_abandoned", run_id=run_id)

    # --- life --------------------------------------------------------------------------------------------------------

    async def beat(self) -> None:
        """Renew the lease; the local lease runs from before the write was sent.

        A lease that ran out before the answer came is lost, even if nobody took the runs: what was to be dispatched
        meanwhile was not, and only reading the runs again finds it.
        """
        asked_at = self.shell.clock.monotonic()
        lives = await workers.beat(self.shell.database, self.worker_id, self.shell.clock.now_ms())
        if lives and self.lease_holds():
            self._beaten_at = asked_at
        else:
            await self.lose()

    async def enlist(self) -> None:
        """Register under a new name."""
        asked_at = self.shell.clock.monotonic()
        worker_id = self.shell.ids.new(WORKER)
        await workers.enlist(self.shell.database, worker_id, self.shell.clock.now_ms())
        self.worker_id, self._beaten_at = worker_id, asked_at

    async def start(self) -> None:
        """Register, then claim what is due; ``engine/rescue.py`` does the rest for as long as the process lives."""
        await self.enlist()
        await self.heed(await self.look())

    async def lose(self) -> None:
        """The lease was lost: drop every run without a write and go on under a new name.

        The old name is buried, so that its runs can be claimed at once by anybody. It is given up before that: a
        claim or a birth that is on its way under it commits before the burial, or finds itself renamed and gives back.
        """
        lost = self.worker_id
        if self._beaten_at > -math.inf:
            _log.warning("lease_lost", worker=lost, runs=self.held)
        self._beaten_at = -math.inf
        self._drop_all()
        if not self.drained:
            await self.enlist()
            self._drop_all()
        await workers.bury(self.shell.database, lost, self.shell.clock.now_ms())

    def _drop_all(self) -> None:
        for walker in list(self._walkers.values()):
            walker.drop("fenced")
        self._leftovers.drop()

    async def drain(self, seconds: float) -> None:
        """Stop taking runs, let attempts end for ``seconds`` at most, give the rest back, release everything."""
        self.draining = self.drained = True
        self.alarms.clear()
        deadline = self.shell.clock.monotonic() + seconds
        for walker in list(self._walkers.values()):
            walker.hold()
        attempts = [task for walker in self._walkers.values() for task in walker.attempts()]
        if attempts:
            await asyncio.wait(attempts, timeout=max(0.0, deadline - self.shell.clock.monotonic()))
        for walker in list(self._walkers.values()):
            walker.drain()
        try:
            async with asyncio.timeout(max(2.0, seconds)):
                while self._walkers:
                    self._idle.clear()
                    await self._idle.wait()
        except TimeoutError:
            _log.error("drain_incomplete", runs=self.held)
        self._leftovers.drop()
        for task in list(self._tasks):
            task.cancel()
        try:
            await workers.bury(self.shell.database, self.worker_id, self.shell.clock.now_ms())
        except StoreUnavailable:
            _log.warning("farewell_unheard", worker=self.worker_id)
        self.left = True
