"""One simulated process: the real worker, rescue, sweep, desk and doors' use cases, wired as ``app/wiring.py`` does."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeVar, cast

from app.system import HmacSigner
from contracts.errors import StoreUnavailable
from contracts.events import Frame
from contracts.ports import Ids, MessageUnsent
from engine.addresses import Addresses
from engine.rescue import Rescue
from engine.shell import Shell
from engine.worker import Worker, WorkerLimits
from events.feed import Feed
from hitl.desk import Desk
from hitl.hands import Hands
from hitl.links import Links
from hitl.notify import Notices, Sender
from hitl.sweep import Sweep
from service.callbacks import Callbacks
from service.control import Control
from service.editing import Editing
from service.lineage import Lineages
from service.runs import Runs
from store.journal import Journal
from tests.simulation import abilities
from tests.simulation.database import FarJournal, File, Line, LineDatabase, SharedFile
from tests.simulation.loop import Killed, Lane, SimulatedLoop
from tests.simulation.ports import ArmedPoints, Chance, ProcessClock

T = TypeVar("T")
SIGNER: Final = HmacSigner("the same key in every simulated process")


class Unreachable(Exception):
    """The process died, or its answer was lost: nobody knows whether it did what it was asked."""


@dataclass(frozen=True)
class Rates:
    """How nudges fare: lost, sent twice, and at most how late (virtual seconds)."""

    lost: float = 0.0
    twice: float = 0.0
    late: float = 0.0


@dataclass
class Setting:
    """What all processes of a simulation share."""

    loop: SimulatedLoop
    file: File
    ids: Ids
    chance: random.Random
    rates: Rates
    limits: WorkerLimits
    ledger: abilities.Ledger
    post: Post
    book: Mapping[str, Sequence[str]]
    far: bool
    tell: Callable[..., None]
    heard: Callable[[str, Sequence[Frame]], None]
    """(worker, frames that were just published)"""
    sweep_seconds: float = 1.0


class Post:
    """The outside that messages go to: it takes its time, and now and then it takes nothing."""

    def __init__(self, chance: random.Random, loop: SimulatedLoop) -> None:
        self._chance, self._loop = chance, loop
        self.failing = 0.2
        self.delivered: list[tuple[float, str, str]] = []
        """(when, address, title)"""

    async def send(self, address: str, title: str, body: str) -> None:
        await asyncio.sleep(self._chance.random() * 0.1)
        if self._chance.random() < self.failing:
            raise MessageUnsent("The mailbox is full.")
        self.delivered.append((self._loop.time(), address, title))


class Mesh:
    """Nudges between processes; what the rates of the simulation do to them is legal: any may be lost."""

    def __init__(self, setting: Setting) -> None:
        self._setting = setting
        self.processes: list[Process] = []

    def send(self, sender: Process, deliver: Callable[[Process], None]) -> None:
        """Tell every process, the sender itself included."""
        chance, rates = self._setting.chance, self._setting.rates
        for process in self.processes:
            if process.lane.dead or chance.random() < rates.lost:
                continue
            for _ in range(2 if chance.random() < rates.twice else 1):
                if process is sender and chance.random() < 0.5:
                    deliver(process)
                else:
                    self._later(process, deliver, chance.random() * rates.late)

    def _later(self, process: Process, deliver: Callable[[Process], None], seconds: float) -> None:
        self._setting.loop.call_later(seconds, deliver, process, context=process.lane.context)


class ProcessNudge:
    """The ``Nudge`` port of one process."""

    def __init__(self, mesh: Mesh, process: Process) -> None:
        self._mesh, self._process = mesh, process

    def run(self, run_id: str, worker: str | None) -> None:
        if not self._process.lane.dead:
            self._mesh.send(self._process, lambda process: process.woken(run_id))

    def events(self, run_id: str, seq: int) -> None:
        if not self._process.lane.dead:
            self._mesh.send(self._process, lambda process: process.announced(run_id, seq))


class Process:
    """A process from its start to its death. It is never restarted: what comes after it is another one."""

    def __init__(self, name: str, setting: Setting, mesh: Mesh, skew: float) -> None:
        self.name, self.setting = name, setting
        self.lane: Lane = setting.loop.lane(name)
        self.lane.context.run(abilities.LEDGER.set, setting.ledger)
        self.clock = ProcessClock(setting.loop, skew)
        self.points = ArmedPoints()
        self.line = Line(setting.chance, far=setting.far)
        self.ready = False
        self.died_of = ""
        self._requests: dict[int, asyncio.Future[Any]] = {}
        self._asked = 0
        mesh.processes.append(self)
        self.nudge = ProcessNudge(mesh, self)
        self.database: LineDatabase | None = None
        self._stopping = asyncio.Event()
        setting.loop.create_task(self._live(), context=self.lane.context)

    # --- its life ----------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        backend = SharedFile(self.setting.file.path, self.line, self.clock, self.points)
        self.database = database = LineDatabase(backend, self.line)
        journal = cast("Journal", FarJournal(backend, self.line)) if self.setting.far else Journal(database)
        await journal.start()
        self._wire(database, journal)
        while True:
            try:
                await self.worker.start()
                break
            except StoreUnavailable:
                await asyncio.sleep(0.2)  # a real process would end here, and whoever runs it start it again
        rescue = Rescue(self.worker)
        rescue.start()
        loop, seconds = asyncio.get_running_loop(), self.setting.sweep_seconds
        background = [loop.create_task(self.sweep.run(seconds))]
        if self.setting.book:
            background.append(loop.create_task(self.sender.run(seconds)))
        self.ready = True
        await self._stopping.wait()
        await self._leave(rescue, background, journal)

    def _wire(self, database: LineDatabase, journal: Journal) -> None:
        setting = self.setting
        self.feed = Feed(database)
        shell = Shell(
            database=database, journal=journal, feed=self.feed, directory=abilities.registry(),
            planner=abilities.planner(), clock=self.clock, ids=setting.ids, random=Chance(setting.chance),
            crash=self.points, nudge=self.nudge, addresses=Addresses(SIGNER),
            notifies=bool(setting.book),
        )  # fmt: skip
        self.worker = Worker(shell, setting.limits)
        self.feed.observe(lambda frames: setting.heard(self.worker.worker_id, frames))
        self.addresses = shell.addresses
        self.control = Control(shell)
        self.editing = Editing(shell, self.control)
        self.desk = Desk(database, self.clock, setting.ids, self.nudge, self.editing.review)
        self.callbacks = Callbacks(shell)
        self.lineages = Lineages(shell)
        book = setting.book
        notices = Notices(setting.ids, self.clock, book)
        self.hands = Hands(database, self.clock, setting.ids, self.nudge, tell=notices)
        self.sweep = Sweep(database, self.clock, setting.ids, self.nudge, tell=notices)
        links = Links(database, self.clock, SIGNER, 86_400_000)
        self.sender = Sender(database, self.clock, setting.post, links, book, "http://flex.test")
        self.runs = Runs(self.worker)

    async def _leave(self, rescue: Rescue, background: list[asyncio.Task[None]], journal: Journal) -> None:
        """Stop as a process does that is asked to."""
        self.worker.draining = True
        self.feed.close()
        await self.worker.drain(0.5)
        await rescue.stop()
        for task in background:
            task.cancel()
        await asyncio.gather(*background, return_exceptions=True)
        await journal.close()
        self._gone("left")

    def stop(self) -> None:
        """Ask it to stop: attempts may end, the rest is given back."""
        self.ready = False
        self._stopping.set()

    def kill(self, why: str) -> None:
        """Kill it at once, as ``kill -9`` does; its memory and what it was about to do are gone."""
        if not self.lane.dead:
            self._gone(why)

    def _gone(self, why: str) -> None:
        self.ready, self.died_of = False, why
        self.setting.tell("dies", self.name, why)
        self.setting.loop.kill(self.lane)
        # Its connection is closed once whatever runs now has come to an end: the file rolls back what was open.
        self.setting.loop.call_soon(self._buried, context=self.setting.loop.outside.context)

    def _buried(self) -> None:
        if self.database is not None:
            self.database.backend.writer.close()  # type: ignore[union-attr]  # always SQLite here
            self.database = None
        for answer in self._requests.values():
            if not answer.done():
                answer.set_exception(Unreachable())
        self._requests.clear()

    def die_at(self, point: str) -> None:
        """Die in the middle of whatever runs; a crash point calls this."""
        self.kill(f"at {point}")
        raise Killed(point)

    # --- what others do to it ----------------------------------------------------------------------------------------

    def woken(self, run_id: str) -> None:
        if self.ready:
            self.worker.wake(run_id)

    def announced(self, run_id: str, seq: int) -> None:
        if self.ready:
            self.feed.announced(run_id, seq)

    async def asked(self, work: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Have it serve a request from outside. Raises what that raises, and :class:`Unreachable`."""
        if not self.ready:
            raise Unreachable
        loop = self.setting.loop
        answer: asyncio.Future[T] = loop.create_future()
        self._asked += 1
        number = self._asked
        self._requests[number] = answer
        context = self.lane.context.copy()
        loop.create_task(self._serve(work, answer), context=context)
        try:
            return await answer
        finally:
            self._requests.pop(number, None)

    async def _serve(self, work: Callable[[], Coroutine[Any, Any, T]], answer: asyncio.Future[T]) -> None:
        try:
            result = await work()
        except Exception as error:  # noqa: BLE001  # whatever the use case raises is the caller's to see
            if not answer.done():
                answer.set_exception(error)
        else:
            if not answer.done():
                answer.set_result(result)
