"""The HTTP doors over a real store, feed and server; only the use cases that write runs are the test's own."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, fields
from typing import Any

import httpx2
import uvicorn

from app.health import ServiceHealth
from app.metrics import ServiceMetrics
from app.serve import Server
from app.system import HmacSigner, NoCrash, SystemRandom
from capabilities.registry import Registry
from contracts.access import Principal
from contracts.capability import CapabilitySpec, Catalogue, Facet, Param
from contracts.envelope import TaskEnvelope, read_envelope
from contracts.errors import CapabilityNotFound, Forbidden, IdempotencyKeyReused, RunNotFound
from contracts.memory import MemoryLimits
from contracts.plan import Finding, PlanGraph
from contracts.ports import Planned, Reconsider, Unplannable
from engine.shell import Shell
from events.feed import Feed
from events.local import LocalNudge
from hitl.desk import Desk
from hitl.hands import Hands
from hitl.links import Links
from routes.app import build
from routes.doors import Access, Doors, HttpLimits
from routes.stream import Pace
from service.agents import Agents
from service.audit import Audit
from service.batches import Batches
from service.callbacks import Callbacks
from service.capabilities import Capabilities
from service.chats import Chats
from service.completions import Completions
from service.control import Control
from service.conversations import Conversations
from service.documents import Documents
from service.editing import Editing
from service.executing import Executing
from service.executions import Executions
from service.flows import Flows
from service.handing import Handing
from service.lineage import Lineages
from service.memory import Memory
from service.plans import Plans
from service.reads import Reads
from service.retention import Keep, Retention
from service.review import Reviews
from service.story_runs import StoryRuns
from service.streams import Streams
from service.templates import Templates
from service.verdicts import Verdicts
from store.connect import Database
from store.journal import Journal
from stories.extraction import Extractor
from tests.events.runs_in_log import LoggedRun, Wall, open_log

ENVELOPE = {"objective": "Do it", "output_contract": {"mode": "freeform"}}


@dataclass
class Accepted:
    run_id: str
    correlation_id: str
    created: bool


@dataclass
class Resumed:
    run_id: str
    after: int


class TestRuns:
    """Accepts what is read as an envelope by writing a run with one frame; remembers keys."""

    __test__ = False

    def __init__(self, journal: Journal, feed: Feed) -> None:
        self._journal, self._feed = journal, feed
        self.by_key: dict[str, tuple[Any, LoggedRun]] = {}
        self.born: list[LoggedRun] = []
        self.reasons: list[str | None] = []

    async def submit(
        self,
        body: Any,
        principal: Principal,
        *,
        key: str | None,
        correlation_id: str | None,
        trigger: str = "api",
        way: str | None = None,
        run_id: str | None = None,
    ) -> Accepted:
        if isinstance(body, dict) and body.get("objective") == "break":
            raise ZeroDivisionError("a secret detail")
        read_envelope(body)
        if key in self.by_key:
            earlier, run = self.by_key[key]
            if earlier != body:
                raise IdempotencyKeyReused
            return Accepted(run.run_id, "cid-01", created=False)
        run = LoggedRun(self._journal, principal.tenant)
        self._feed.publish(run.run_id, await run.born())
        self.born.append(run)
        if key is not None:
            self.by_key[key] = (body, run)
        return Accepted(run.run_id, body.get("correlation_id") or correlation_id or "cid-01", created=True)

    async def cancel(self, principal: Principal, run_id: str, reason: str | None) -> dict[str, Any]:
        if run_id not in {run.run_id for run in self.born}:
            raise RunNotFound
        self.reasons.append(reason)
        return {"run_id": run_id, "status": "running"}


class TestPrompts:
    """Answers with what it was asked."""

    __test__ = False

    def __init__(self) -> None:
        self.resumed = Resumed("", 0)

    async def list(self, principal: Principal, **asked: Any) -> dict[str, Any]:
        return {"items": [], "next_cursor": None, "asked": asked}

    async def get(self, principal: Principal, prompt_id: str) -> dict[str, Any]:
        return {"prompt_id": prompt_id}

    async def decide(self, principal: Principal, prompt_id: str, body: Any, channel: str = "http") -> dict[str, Any]:
        return {"decision": body, "prompt": {"status": "settled"}, "run": {"status": "running"}, "channel": channel}

    async def resume(self, principal: Principal, body: Any) -> Resumed:
        return self.resumed


class TestDirectory:
    """Two capabilities, one of them inactive."""

    __test__ = False

    def catalogue(self) -> Catalogue:
        facets = (Facet("b", {"type": "string"}), Facet("a", True))
        specs = (
            CapabilitySpec("two", consumes={"x": Param("a")}, produces=("b",)),
            CapabilitySpec("one", produces=("a",)),
        )
        return Catalogue(facets, specs, frozenset({"two"}), {"one": "set FLEX_MODEL_URL"})

    def find(self, capability_id: str, version: str | None = None) -> None:
        return None


class TestRegistrations:
    """Takes nothing."""

    __test__ = False

    async def register(self, principal: Principal, body: Any) -> tuple[dict[str, Any], bool]:
        raise Forbidden

    async def heartbeat(self, principal: Principal, capability_id: str, version: str | None) -> None:
        raise CapabilityNotFound

    async def remove(self, principal: Principal, capability_id: str, version: str | None) -> None:
        raise CapabilityNotFound


class TestPlanner:
    """Never has a plan."""

    __test__ = False

    def plan(self, envelope: TaskEnvelope, reconsider: Reconsider | None = None) -> Planned | Unplannable:
        return Unplannable((Finding(layer="capability", code="missing_facet", message="Nothing makes it."),))

    def check(
        self, plan: Any, envelope: TaskEnvelope, at: str = "", present: PlanGraph | None = None, tenant: str = ""
    ) -> Planned | Unplannable:
        return self.plan(envelope)


@dataclass
class Backlog:
    full: bool = False

    def busy(self) -> bool:
        return self.full


class Counting:
    """Ids in order."""

    def __init__(self) -> None:
        self._last = 0

    def new(self, prefix: str) -> str:
        self._last += 1
        return f"{prefix}_{self._last}"


@dataclass
class Parts:
    """What stands behind a served application."""

    database: Database
    journal: Journal
    feed: Feed
    runs: TestRuns
    prompts: TestPrompts
    backlog: Backlog
    health: ServiceHealth


@dataclass(kw_only=True)
class Serving(Parts):
    """A served application and everything behind it."""

    client: httpx2.AsyncClient
    doors: Doors

    async def run(self, tenant: str = "default") -> LoggedRun:
        """A committed and published run with one frame."""
        made = LoggedRun(self.journal, tenant)
        self.feed.publish(made.run_id, await made.born())
        return made


def doors_over(parts: Parts, **changes: Any) -> Doors:
    clock = Wall()
    verdicts = Verdicts(TestPlanner(), parts.database)
    flows = Flows(parts.database, clock, Counting(), verdicts)
    templates = Templates(parts.database, clock, Counting(), verdicts, flows)
    filled: dict[str, Any] = {
        "runs": parts.runs,
        "reads": Reads(parts.database, clock),
        "prompts": parts.prompts,
        "handing": Handing(parts.database, Hands(parts.database, clock, Counting(), LocalNudge())),
        "batches": Batches(parts.database, Desk(parts.database, clock, Counting(), LocalNudge())),
        "control": Control(_shell(parts, clock)),
        "editing": Editing(_shell(parts, clock), Control(_shell(parts, clock))),
        "lineages": Lineages(_shell(parts, clock)),
        "callbacks": Callbacks(_shell(parts, clock)),
        "streams": Streams(parts.database, parts.feed, clock),
        "plans": Plans(TestPlanner(), lambda body, _tenant: read_envelope(body)),
        "capabilities": Capabilities(TestDirectory()),
        "agents": Agents(None, Registry(), Verdicts(TestPlanner(), parts.database)),
        "registrations": TestRegistrations(),
        "executions": Executions(parts.database, clock, Reads(parts.database, clock)),
        "flows": flows,
        "templates": templates,
        "executing": Executing(
            parts.database, flows, templates, Reads(parts.database, clock), TestPlanner(), Chats(flows)
        ),
        "memory": Memory(parts.database, clock, Counting(), MemoryLimits()),
        "documents": Documents(parts.database, clock, LocalNudge(), Extractor()),
        "story_runs": StoryRuns(parts.database, parts.runs, flows, parts.feed),
        "completions": Completions(Chats(flows), flows),
        "conversations": Conversations(parts.database, clock, Counting(), Chats(flows), parts.runs),
        "reviews": Reviews(
            parts.database,
            Desk(parts.database, clock, Counting(), LocalNudge()),
            Links(parts.database, clock, HmacSigner("k" * 43), 60_000),
        ),
        "audit": Audit(parts.database),
        "retention": Retention(parts.database, clock, Counting(), Keep(365, 3_650)),
        "intake": parts.backlog,
        "health": parts.health,
        "ids": Counting(),
        "pace": Pace(heartbeat_seconds=30),
        "limits": HttpLimits(body_bytes=4_096, document_bytes=8_192, wait_seconds=5),
        "access": Access(frozenset({"flex.example"}), frozenset({"https://app.example"})),
        "config": {"ui_run_popup": True},
        "version": "0.1.0",
    }
    return Doors(**{**filled, **changes})


def _shell(parts: Parts, clock: Wall) -> Shell:
    """What use cases share with walkers; nobody walks here."""
    return Shell(
        parts.database, parts.journal, parts.feed, TestDirectory(), TestPlanner(), clock, Counting(), SystemRandom(),
        NoCrash(), LocalNudge(),
    )  # fmt: skip


@asynccontextmanager
async def serving(url: str, **changes: Any) -> AsyncIterator[Serving]:
    """Serve over HTTP on a free port until the block ends."""
    async with open_log(url) as (database, journal):
        feed, metrics = Feed(database, tick_seconds=0.05), ServiceMetrics()
        feed.observe(metrics.frames)
        runs, health = TestRuns(journal, feed), ServiceHealth(database)
        parts = Parts(database, journal, feed, runs, TestPrompts(), Backlog(), health)
        doors = doors_over(parts, **{"metrics": metrics, **changes})
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        config = uvicorn.Config(
            build(doors), port=0, lifespan="off", log_config=None, loop="none", ws="none", timeout_graceful_shutdown=5
        )
        server = Server(config, feed.close, port.set_result)
        task = asyncio.create_task(server.serve())
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{await port}", timeout=10) as client:
            yield Serving(
                **{part.name: getattr(parts, part.name) for part in fields(Parts)}, client=client, doors=doors
            )
        server.should_exit = True
        await task
