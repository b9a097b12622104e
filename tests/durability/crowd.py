"""Many runs at once whose branches all ask people: what each case asks, and two workers that walk them in here."""

from __future__ import annotations

import asyncio
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

import orjson
import sqlalchemy as sa

from app.system import SystemClock, SystemIds
from contracts.access import LOCAL
from contracts.capability import Ask, Bundle, CallContext, Capability, CapabilitySpec, Catalogue, Facet
from contracts.errors import StoreUnavailable
from contracts.prompts import DecisionInput, PromptSpec
from engine.worker import Worker, WorkerLimits
from hitl.desk import Decided, Desk
from service.runs import Runs
from store.connect import Database
from store.events import events_after
from store.journal import Journal
from store.statement import Statement, number, text
from store.tables import runs as runs_table
from tests.durability.inside import Lossy, shell_of

SECONDS = 60.0
LOOK_SECONDS = 0.1
NUMBER = {"type": "integer"}
_LOSE = Statement(
    sa.update(runs_table)
    .where(runs_table.c.run_id == text("at"), runs_table.c.worker.is_not(None))
    .values(worker=None, epoch=runs_table.c.epoch + 1, wake_at=number("now_ms"))
)
"""What burying a worker does, to one of its runs"""


@dataclass(frozen=True)
class Case:
    """A run: what each branch asks by, and what happens in which order.

    ``branches``: ``ask`` (an ask node behind a held call) or ``inside`` (a capability that asks when it is let go).
    ``steps``: ``("open", n)`` lets branch n ask; ``("answer", n)`` answers it; ``("crash", zombie)`` takes the run away
    from its holder without goodbye, who forgets it or (a zombie) does not notice; ``("deaf", n)`` loses every nudge of
    answer n.
    """

    branches: tuple[str, ...]
    steps: tuple[tuple[str, int], ...]


class Stage:
    """What the capabilities of all runs share: gates, and how often each body began."""

    def __init__(self) -> None:
        self.gates: dict[tuple[str, str], asyncio.Event] = defaultdict(asyncio.Event)
        self.began: Counter[tuple[str, str]] = Counter()
        self.resumed: dict[tuple[str, str], list[Any]] = defaultdict(list)


class Held:
    """Does not end before its gate is open."""

    def __init__(self, stage: Stage) -> None:
        self.spec = CapabilitySpec("crowd.held", produces=("crowd_any",))
        self._stage = stage

    async def run(self, bundle: Bundle, context: CallContext) -> Any:
        await self._stage.gates[context.run_id, context.node_id.removeprefix("h")].wait()
        return None

    async def resume(self, bundle: Bundle, context: CallContext, state: Any, answer: Any) -> Any:
        raise NotImplementedError


class Asking:
    """Asks from inside its work, once its gate is open; goes on with what it had then."""

    def __init__(self, stage: Stage, name: str) -> None:
        self.spec = CapabilitySpec(name, produces=("crowd_any",))
        self._stage = stage

    async def run(self, bundle: Bundle, context: CallContext) -> Any:
        self._stage.began[context.run_id, context.node_id] += 1
        await self._stage.gates[context.run_id, context.node_id.removeprefix("a")].wait()
        spec = PromptSpec(question=f"{self.spec.capability_id}?", answer_schema=NUMBER)
        return Ask(spec, state={"of": context.node_id})

    async def resume(self, bundle: Bundle, context: CallContext, state: Any, answer: Any) -> Any:
        assert state == {"of": context.node_id}
        self._stage.resumed[context.run_id, context.node_id].append(answer)
        return answer


class Directory:
    """The held call, and a capability of its own for every branch that asks from inside."""

    def __init__(self, stage: Stage) -> None:
        known: list[Capability] = [Held(stage), *(Asking(stage, f"crowd.asks{number}") for number in range(6))]
        self._known = {each.spec.capability_id: each for each in known}
        facets = (Facet("crowd_any", True),)
        self._catalogue = Catalogue(facets, tuple(each.spec for each in known), frozenset(self._known))

    def catalogue(self) -> Catalogue:
        return self._catalogue

    def find(self, capability_id: str, version: str | None = None) -> Capability | None:
        return self._known.get(capability_id)


def envelope(case: Case) -> dict[str, Any]:
    """The branches side by side; the answer is an object of their outputs."""
    nodes: list[dict[str, Any]] = []
    edges = []
    for place, sort in enumerate(case.branches):
        name = f"a{place}"
        if sort == "inside":
            nodes.append({"node_id": name, "kind": "call", "capability_id": f"crowd.asks{place}"})
        else:
            nodes.append({"node_id": f"h{place}", "kind": "call", "capability_id": "crowd.held"})
            prompt = {"question": f"{name}?", "answer_schema": NUMBER}
            nodes.append({"node_id": name, "kind": "ask", "prompt": prompt})
            edges.append({"from": f"h{place}", "to": name})
    output = {f"/a{place}": {"node_id": f"a{place}", "pointer": ""} for place in range(len(case.branches))}
    plan = {"nodes": nodes, "edges": edges, "output": {"mode": "map", "map": output}}
    return {"objective": "Ask", "output_contract": {"schema": True}, "workflow": {"plan": plan}}


class Ears(Lossy):
    """Nudges that arrive, or are lost for a run; whoever waits for a run's frames hears of them."""

    def __init__(self) -> None:
        super().__init__()
        self.deaf_to: set[str] = set()
        self.heard: dict[str, asyncio.Event] = defaultdict(asyncio.Event)

    def run(self, run_id: str, worker: str | None) -> None:
        if run_id not in self.deaf_to:
            super().run(run_id, worker)

    def events(self, run_id: str, seq: int) -> None:
        self.heard[run_id].set()


@dataclass
class Crowd:
    """Two workers on one database, and the people."""

    workers: list[Worker]
    ears: Ears
    stage: Stage
    runs: Runs
    desk: Desk
    database: Database
    room: asyncio.Semaphore = field(default_factory=lambda: asyncio.Semaphore(20))

    async def until(self, played: Played, there: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        """Wait for a frame of the run, reading on when told of something new, and now and then by itself.

        Who took the run away from its holder may have kept it from telling what it had committed.
        """
        heard = self.ears.heard[played.run_id]
        async with asyncio.timeout(SECONDS):
            while True:
                found = next((frame for frame in played.frames if there(frame)), None)
                if found is not None:
                    return found
                with suppress(TimeoutError):
                    await asyncio.wait_for(heard.wait(), 5 * LOOK_SECONDS)
                heard.clear()
                rows = await events_after(self.database, LOCAL.tenant, played.run_id, len(played.frames), 1_000)
                played.frames += [orjson.loads(row.data) for row in rows]

    async def lose(self, run_id: str, *, zombie: bool) -> None:
        """Take a run away from its holder without goodbye; the other one goes on with it.

        It is taken away before it is forgotten: a holder that forgot what is still its own takes it up again by
        itself, which would count as one death more.
        """
        holders = [worker for worker in self.workers if run_id in worker._walkers]
        walkers = [worker._walkers[run_id] for worker in holders]
        async with self.database.unit() as unit:
            await unit.execute(_LOSE, at=run_id, now_ms=self.database.clock.now_ms())
        if not zombie:
            for walker in walkers:
                walker.drop("lost")
        for worker in self.workers:
            if worker not in holders:
                worker.wake(run_id)

    async def look(self) -> None:
        """What every process does by itself, again and again: find what no nudge told of."""
        while True:
            await asyncio.sleep(LOOK_SECONDS)
            for worker in self.workers:
                with suppress(StoreUnavailable):
                    await worker.heed(await worker.look())

    async def play(self, case: Case) -> Played:
        """Run one case to its end; only so many at once as there are connections for."""
        async with self.room:
            return await self._play(case)

    async def _play(self, case: Case) -> Played:
        accepted = await self.runs.submit(envelope(case), LOCAL)
        played = Played(case, accepted.run_id)
        for what, which in case.steps:
            await self._step(played, what, which)
        played.last = await self.until(played, lambda frame: frame["type"] in ("complete", "failed", "cancelled"))
        return played

    async def _step(self, played: Played, what: str, which: int) -> None:
        run_id = played.run_id
        match what:
            case "open":
                self.stage.gates[run_id, str(which)].set()
            case "crash":
                await self.lose(run_id, zombie=bool(which))
            case "deaf":
                self.ears.deaf_to.add(run_id)
                await self._answer(played, which)
                self.ears.deaf_to.discard(run_id)
            case _:
                await self._answer(played, which)

    async def _answer(self, played: Played, branch: int) -> None:
        node_id = f"a{branch}"
        asked = await self.until(played, lambda frame: frame["type"] == "hitl_request" and frame["node_id"] == node_id)
        prompt_id = asked["payload"]["prompt"]["prompt_id"]
        played.prompts[node_id] = prompt_id
        played.began[node_id] = self.stage.began[played.run_id, node_id]
        said = DecisionInput(action="answer", answer=branch + 100)
        decided = await self._decide(prompt_id, said)
        if branch % 3 == 0:
            # A client that is not sure sends it again.
            assert (await self._decide(prompt_id, said)).decision == decided.decision

    async def _decide(self, prompt_id: str, said: DecisionInput) -> Decided:
        while True:
            with suppress(StoreUnavailable):
                return await self.desk.decide(LOCAL, prompt_id, said, "http")


@dataclass
class Played:
    """What became of a case."""

    case: Case
    run_id: str
    prompts: dict[str, str] = field(default_factory=dict)
    began: dict[str, int] = field(default_factory=dict)
    """how often the body of a branch had begun when its prompt was seen"""
    frames: list[dict[str, Any]] = field(default_factory=list)
    last: dict[str, Any] = field(default_factory=dict)

    def of(self, kind: str) -> list[dict[str, Any]]:
        """The frames of one type."""
        return [frame for frame in self.frames if frame["type"] == kind]


@asynccontextmanager
async def crowd(url: str) -> AsyncIterator[Crowd]:
    """Open everything; close it in order."""
    ears, stage = Ears(), Stage()
    databases = [await Database.open(url, clock=SystemClock(), synchronous="OFF") for _ in range(2)]
    journals = [Journal(database) for database in databases]
    for journal in journals:
        await journal.start()
    directory = Directory(stage)
    pairs = zip(databases, journals, strict=True)
    shells = [shell_of(database, journal, ears, directory) for database, journal in pairs]
    ears.workers = [Worker(shell, WorkerLimits(runs=1_000, lease_seconds=600)) for shell in shells]
    for worker in ears.workers:
        await worker.start()
    desk = Desk(databases[0], SystemClock(), SystemIds(), ears)
    people = Crowd(ears.workers, ears, stage, Runs(ears.workers[0]), desk, databases[0])
    looking = asyncio.create_task(people.look())
    try:
        yield people
    finally:
        looking.cancel()
        await asyncio.gather(looking, return_exceptions=True)
        for worker in ears.workers:
            await worker.drain(1)
        for journal in journals:
            await journal.close()
        for database in databases:
            await database.close()
