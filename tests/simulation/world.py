"""One simulation: what a seed means, from the drawing of plans, people and faults to the audit at the end."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import structlog

from contracts.events import Frame
from contracts.log_context import merge_under_way
from contracts.ports import CRASH_POINTS
from engine.worker import WorkerLimits
from tests.simulation import abilities
from tests.simulation.clients import Clients
from tests.simulation.database import File
from tests.simulation.faults import KINDS, Faults
from tests.simulation.loop import LANE, SimulatedLoop, Stuck
from tests.simulation.operators import Operators
from tests.simulation.outside import Client, Outside
from tests.simulation.partners import Partners
from tests.simulation.plans import random_envelope
from tests.simulation.ports import CountedIds
from tests.simulation.process import Mesh, Post, Process, Rates, Setting

BOOK = {"role:operator": ["desk"], "user:ana": ["ana", "ana too"], "role:admin": ["chief"]}
SURPRISES = frozenset({
    "machine_broke", "look_broke", "run_unreadable", "write_refused", "write_failed", "run_abandoned",
})  # fmt: skip
"""Lines of the product's log that say that something it did not expect has happened."""


@dataclass(frozen=True)
class Scenario:
    """What a seed draws before anything happens."""

    seed: int
    processes: int
    far: bool
    rates: Rates
    trouble: int
    """how many faults, each of one of ``kinds``"""
    until: float
    """when faults stop (virtual seconds)"""
    skewed: bool
    """whether wall clocks differ and jump"""
    room: int
    """how many runs a process takes"""
    bodies: tuple[dict[str, Any], ...]
    kinds: tuple[str, ...] = KINDS
    points: tuple[str, ...] = CRASH_POINTS
    book: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """``points`` are where processes are killed or frozen, ``book`` who is told of prompts, and where"""

    @classmethod
    def draw(cls, seed: int) -> Scenario:
        """Return the scenario of a seed."""
        chance = random.Random(f"scenario {seed}")
        calm = chance.random() < 0.15
        drawn = Rates(chance.choice([0, 0.1, 0.6]), chance.choice([0, 0.2]), chance.choice([0.01, 0.2]))
        return cls(
            seed=seed,
            processes=chance.choice([1, 2, 2, 3]),
            far=chance.random() < 0.5,
            rates=Rates() if calm else drawn,
            trouble=0 if calm else chance.choice([0, 1, 2, 3, 4]),
            until=chance.choice([4.0, 8.0, 12.0]),
            book=BOOK if chance.random() < 0.2 else {},
            room=chance.choice([1, 2, 1_000, 1_000]),
            skewed=not calm and chance.random() < 0.3,
            bodies=tuple(random_envelope(chance) for _ in range(chance.choice([1, 1, 2, 3]))),
        )


@dataclass
class Result:
    """What is left of a simulation, for the auditor and for people."""

    scenario: Scenario
    trace: list[str]
    stuck: str | None = None
    surprises: list[str] = field(default_factory=list)
    seconds: float = 0.0
    callbacks: int = 0
    digest: str = ""


@dataclass(frozen=True)
class Pace:
    """How often processes look, how long a lease lasts, and when nothing moves any more (virtual seconds)."""

    lease_seconds: float = 4.0
    look_seconds: float = 1.0
    patience: float = 45.0


class World:
    """One simulation under way."""

    def __init__(self, scenario: Scenario, pace: Pace | None = None) -> None:
        self.scenario, self._pace = scenario, pace or Pace()
        self.loop = SimulatedLoop(random.Random(f"schedule {scenario.seed}"))
        self.file = File()
        self.trace: list[str] = []
        self.surprises: list[str] = []
        self.spoken: list[tuple[str, bytes]] = []
        chance = random.Random(f"world {scenario.seed}")
        self.ledger = abilities.Ledger(chance, self.loop)
        self.post = Post(chance, self.loop)
        self.setting = Setting(
            loop=self.loop,
            file=self.file,
            ids=CountedIds(),
            chance=chance,
            rates=scenario.rates,
            limits=WorkerLimits(scenario.room, self._pace.lease_seconds, self._pace.look_seconds),
            ledger=self.ledger,
            post=self.post,
            book=scenario.book,
            far=scenario.far,
            tell=self.tell,
            heard=self.heard,
            sweep_seconds=self._pace.look_seconds,
        )
        self.mesh = Mesh(self.setting)
        people = random.Random(f"people {scenario.seed}")
        self.outside = Outside(people, self.file, self.ledger, self.living, self.tell)
        self.operators, self.clients = Operators(self.outside), Clients(self.outside)
        self.partners = Partners(self.outside)
        self.faults = Faults(random.Random(f"faults {scenario.seed}"), self)

    def tell(self, what: str, *more: Any) -> None:
        """Add a line to the trace."""
        self.trace.append(f"{self.loop.time():.6f} {what} {' '.join(map(str, more))}")

    def heard(self, worker: str, frames: Sequence[Frame]) -> None:
        """Note what a process says, and let those outside who watch hear of it."""
        context = self.loop.outside.context
        for frame in frames:
            self.spoken.append((worker, frame.data))
            if frame.type == "hitl_request":
                self.loop.call_later(self.setting.chance.random() * 0.02, self.operators.hurry, context=context)
            elif frame.type in ("plan_generated", "node_start") and b'"wait"' in frame.data:
                self.loop.call_soon(self.partners.heard, frame, context=context)

    def living(self) -> list[Process]:
        """Return the processes that take requests."""
        return [process for process in self.mesh.processes if process.ready]

    def open_process(self) -> Process:
        """Start another process."""
        name = f"p{len(self.mesh.processes)}"
        skew = self.setting.chance.uniform(-1.5, 1.5) if self.scenario.skewed else 0.0
        self.tell("starts", name)
        return Process(name, self.setting, self.mesh, skew)

    # --- running -----------------------------------------------------------------------------------------------------

    def run(self) -> Result:
        """Run it to the end and return what is left; call :meth:`close` when the file is no longer needed."""
        stuck: str | None = None
        try:
            with self._logged():
                self.loop.run(self._main())
        except Stuck as error:
            stuck = str(error)
        surprises = [*self.surprises, *self.loop.surprises, *self.loop.broken_tasks()]
        return Result(self.scenario, self.trace, stuck, surprises, self.loop.time(), self.loop.callbacks)

    def close(self) -> None:
        """Let go of everything."""
        self.loop.retire()
        for process in self.mesh.processes:
            if process.database is not None:
                process.database.backend.writer.close()  # type: ignore[union-attr]  # always SQLite here
        self.file.close()

    async def _main(self) -> None:
        for _ in range(self.scenario.processes):
            self.open_process()
        loop = asyncio.get_running_loop()
        outside = [loop.create_task(self.operators.work())]
        chance = random.Random(f"clients {self.scenario.seed}")
        for number, body in enumerate(self.scenario.bodies):
            self.clients.begin(Client(f"key-{number}", body, chance.random() * 2))
        await self.faults.run()
        self.outside.hasty = True
        outside += [loop.create_task(self.clients.relieve()), loop.create_task(self.partners.relieve())]
        await self._settle()
        for task in outside:
            task.cancel()

    async def _settle(self) -> None:
        """Wait until every run has ended and everybody outside is content; raise ``Stuck`` when nothing moves."""
        sql = "SELECT count(*) FILTER (WHERE ended_at IS NULL), sum(last_seq) FROM runs"
        moved, written = self.loop.time(), -1
        while True:
            ((active, now),) = self.file.rows(sql)
            if not active and self.outside.idle():
                return
            if now != written:
                moved, written = self.loop.time(), now
            if self.loop.time() > moved + self._pace.patience:
                left = self.file.rows("SELECT run_id, status, worker, wake_at FROM runs WHERE ended_at IS NULL")
                raise Stuck(
                    f"for {self._pace.patience:g} quiet seconds nothing was written: {left or 'people still wait'}"
                )
            await asyncio.sleep(0.5)

    @contextmanager
    def _logged(self) -> Iterator[None]:
        """Take the product's log: every line into the trace, surprises apart."""
        before = structlog.get_config()
        structlog.configure(
            processors=[structlog.contextvars.merge_contextvars, merge_under_way, self._line],
            wrapper_class=structlog.make_filtering_bound_logger(20),
            cache_logger_on_first_use=False,
        )
        try:
            yield
        finally:
            structlog.configure(**before)

    def _line(self, _logger: Any, name: str, event: Any) -> Any:
        process = LANE.get(self.loop.outside).name
        said = {key: event[key] for key in ("run_id", "node_id", "worker", "code") if key in event}
        self.tell("log", process, name, event["event"], said)
        if event["event"] == "worker_buried":
            self.loop.call_soon(self.faults.noticed, event["worker"], context=self.loop.outside.context)
        if event["event"] in SURPRISES:
            error = structlog.processors.format_exc_info(None, name, dict(event)).get("exception", "")
            self.surprises.append(f"{process}: {event['event']} {said} {error}")
        raise structlog.DropEvent
