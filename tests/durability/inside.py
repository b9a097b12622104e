"""Workers in this process, without their loops: a test decides who looks, claims, beats and buries, and when."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from app.system import NoCrash, SystemClock, SystemIds, SystemRandom
from contracts.access import LOCAL
from contracts.capability import (
    Bundle,
    CallContext,
    Capability,
    CapabilityDirectory,
    CapabilitySpec,
    Catalogue,
    Effects,
    Facet,
)
from contracts.errors import FlexError
from engine.kinds import kind_table
from engine.rescue import Rescue
from engine.shell import Shell
from engine.worker import Worker, WorkerLimits
from events.feed import Feed
from hitl.desk import Desk
from planner.planner import SearchPlanner
from service.prompts import Prompts
from service.runs import Runs
from store import workers
from store.connect import Database
from store.journal import Journal
from store.runs import run_row

STEP = Facet("step", {"type": ["object", "null"]})


class Step:
    """A capability that lets the loop turn once; it does not end while ``gate`` is closed."""

    def __init__(self, name: str, gate: asyncio.Event, effects: Effects) -> None:
        self.spec = CapabilitySpec(name, produces=("step",), effects=effects, in_process=effects == "none")
        self.begun = 0
        self._gate = gate

    async def run(self, bundle: Bundle, context: CallContext) -> dict[str, Any]:
        self.begun += 1
        await asyncio.sleep(0)
        await self._gate.wait()
        return {"by": context.node_id}

    async def resume(self, bundle: Bundle, context: CallContext, state: Any, answer: Any) -> Any:
        raise NotImplementedError


class Directory:
    """Steps under the names that the plans of this folder use; their gate is open unless a test closes it."""

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.gate.set()
        effects: tuple[Effects, ...] = ("none", "idempotent", "once")
        self.steps = {f"step.{each}": Step(f"step.{each}", self.gate, each) for each in effects}
        self._catalogue = Catalogue((STEP,), tuple(step.spec for step in self.steps.values()), frozenset(self.steps))

    def catalogue(self) -> Catalogue:
        return self._catalogue

    def find(self, capability_id: str, version: str | None = None) -> Capability | None:
        return self.steps.get(capability_id)


class Skipping(SystemClock):
    """This machine's clock, which a test may put forward: what a process sees that slept."""

    def __init__(self) -> None:
        self.skipped = 0.0

    def monotonic(self) -> float:
        return super().monotonic() + self.skipped


class Lossy:
    """Nudges that arrive at once, or never."""

    def __init__(self) -> None:
        self.workers: list[Worker] = []
        self.deaf = False

    def run(self, run_id: str, worker: str | None) -> None:
        if not self.deaf:
            for one in self.workers:
                one.wake(run_id)

    def events(self, run_id: str, seq: int) -> None:
        """Nobody watches."""


@dataclass
class Inside:
    """Two workers on one database, each with a journal of its own, and the use cases over the first."""

    workers: list[Worker]
    clocks: list[Skipping]
    nudge: Lossy
    runs: Runs
    prompts: Prompts
    database: Database
    database_url: str
    directory: Directory

    async def prompt_of(self, run_id: str) -> str | None:
        """The open prompt of the run."""
        items = (await self.prompts.list(LOCAL, run_id=run_id))["items"]
        return items[0]["prompt_id"] if items else None

    async def decide(self, prompt_id: str, action: str) -> bool:
        """Decide; False when it was refused."""
        try:
            await self.prompts.decide(LOCAL, prompt_id, {"action": action})
        except FlexError:
            return False
        return True

    async def cancel(self, run_id: str) -> bool:
        """Ask for the end; False when it was refused."""
        try:
            await self.runs.cancel(LOCAL, run_id)
        except FlexError:
            return False
        return True

    async def bury(self, number: int) -> None:
        """Take a worker's runs away, as an observer does who thinks it dead; it is not."""
        worker = self.workers[number]
        await workers.bury(self.database, worker.worker_id, worker.shell.clock.now_ms())

    async def look(self, number: int) -> None:
        """One round of the worker's loops."""
        worker = self.workers[number]
        await worker.beat()
        await Rescue(worker).look()

    async def status(self, run_id: str) -> str:
        row = await run_row(self.database, LOCAL.tenant, run_id)
        assert row is not None
        return row.status


def shell_of(database: Database, journal: Journal, nudge: Lossy, directory: CapabilityDirectory) -> Shell:
    return Shell(
        database=database, journal=journal, feed=Feed(database), directory=directory,
        planner=SearchPlanner(directory, kind_table()), clock=database.clock, ids=SystemIds(), random=SystemRandom(),
        crash=NoCrash(), nudge=nudge,
    )  # fmt: skip


LEASE_SECONDS = 60.0


@asynccontextmanager
async def inside(url: str, *, runs: int = 1_000) -> AsyncIterator[Inside]:
    """Open everything; close it in order."""
    nudge = Lossy()
    clocks = [Skipping(), Skipping()]
    databases = [await Database.open(url, clock=clock) for clock in clocks]
    journals = [Journal(database) for database in databases]
    for journal in journals:
        await journal.start()
    directory = Directory()
    shells = [
        shell_of(database, journal, nudge, directory) for database, journal in zip(databases, journals, strict=True)
    ]
    nudge.workers = [Worker(shell, WorkerLimits(runs=runs, lease_seconds=LEASE_SECONDS)) for shell in shells]
    for worker in nudge.workers:
        await worker.start()
    desk = Desk(databases[0], SystemClock(), SystemIds(), nudge)
    prompts = Prompts(databases[0], desk, SystemClock())
    try:
        yield Inside(nudge.workers, clocks, nudge, Runs(nudge.workers[0]), prompts, databases[0], url, directory)
    finally:
        for worker in nudge.workers:
            if not worker.drained:
                await worker.drain(1)
        for journal in journals:
            await journal.close()
        for database in databases:
            await database.close()
