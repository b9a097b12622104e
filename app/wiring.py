"""Puts the rooms together: the only place that chooses who fills in a port (house rule 6, F16)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from importlib.metadata import version
from typing import Any

from app.agents import AgentsLook, open_agents
from app.backlog import Backlog
from app.health import ServiceHealth
from app.keeping import keep_of_settings
from app.metrics import ServiceMetrics
from app.offers import OffersLook
from app.registered import RegisteredLook
from app.settings import Settings
from app.system import HmacSigner, KillAt, NoCrash, SystemClock, SystemIds, SystemRandom, calm_collector, fresh_key
from app.upkeep import start_upkeep
from capabilities.directory import LiveDirectory
from capabilities.egress import egress_policy
from capabilities.openai_model import ModelSettings, OpenAIModel
from capabilities.registry import Registry
from capabilities.world import World
from contracts.envelope import TaskEnvelope
from contracts.memory import MemoryLimits
from contracts.ports import Clock, CrashPoints, Nudge, Signer
from engine.addresses import Addresses
from engine.drafting import Drafting
from engine.kinds import kind_table
from engine.rescue import Rescue
from engine.shell import Shell
from engine.worker import Worker, WorkerLimits
from events.feed import Feed
from events.local import LocalNudge
from events.postgres import PostgresNudge
from events.watch import Limits
from hitl.desk import Desk
from hitl.hands import Hands
from hitl.links import Links
from hitl.messenger import AppriseMessenger, check_address
from hitl.notify import Notices, Sender
from hitl.sweep import Sweep
from planner.draft import PlanLimits
from planner.model import ModelWriter
from planner.planner import SearchPlanner
from routes.doors import Access, Doors, HttpLimits
from routes.stream import Pace
from service.agents import Agents
from service.audit import Audit
from service.batches import Batches
from service.callbacks import Callbacks
from service.capabilities import Capabilities
from service.chats import ChatDefaults, Chats
from service.completions import Completions
from service.control import Control
from service.conversations import Conversations
from service.documents import Documents
from service.editing import Editing
from service.executing import Executing
from service.executions import Executions
from service.flows import Flows
from service.handing import Handing
from service.intake import admit
from service.lineage import Lineages
from service.memory import Memory
from service.offering import Offering, Shelf
from service.plans import Plans
from service.prompts import Prompts
from service.reads import Reads
from service.registrations import Registrations
from service.retention import Retention
from service.review import Reviews
from service.runs import Runs
from service.story_runs import StoryRuns
from service.streams import Streams
from service.templates import Templates
from service.verdicts import Verdicts
from store.connect import Database
from store.journal import Journal
from store.keys import signing_key
from store.migrate import upgrade
from stories.extraction import Extractor
from stories.search import StorySearch


@dataclass(slots=True)
class Flex:
    """Everything that is open in one process."""

    doors: Doors
    worker: Worker
    health: ServiceHealth
    feed: Feed
    registry: Registry
    registrations: Registrations
    signer: Signer
    offering: Offering
    _background: list[asyncio.Task[Any]] = field(default_factory=list)

    def begin_drain(self) -> None:
        """Be not ready, end the streams, take no new runs."""
        self.health.draining = True
        self.worker.draining = True
        self.feed.close()

    async def drain(self, seconds: float) -> None:
        """Let attempts end, ``seconds`` at most, and give back the rest."""
        await self.worker.drain(seconds)


def build_world(settings: Settings) -> World:
    """Return what built-in capabilities are given: where requests may go, and the model if one is configured."""
    model = _model_settings(settings)
    return World(
        model=None if model is None else OpenAIModel(model),
        model_price_in=settings.model_price_in,
        model_price_out=settings.model_price_out,
        model_prices=_prices(settings),
        egress=egress_policy(",".join(settings.egress_allow)),
    )


def build_registry(settings: Settings, world: World) -> Registry:
    """Return what this process can do by itself: built-ins, files and plug-ins."""
    registry = Registry(world)
    for path in settings.capabilities:
        registry.load_file(path)
    registry.load_entry_points()
    return registry


def _model_settings(settings: Settings) -> ModelSettings | None:
    if settings.model_base_url is None or settings.model is None:
        return None
    key = "" if settings.model_api_key is None else settings.model_api_key.get_secret_value()
    prices = (settings.model_price_in, settings.model_price_out, _prices(settings))
    return ModelSettings(settings.model_base_url, settings.model, key, *prices)


def _prices(settings: Settings) -> dict[str, tuple[float, float]]:
    return {name: (price.in_, price.out) for name, price in settings.model_prices.items()}


def crash_points(settings: Settings) -> CrashPoints:
    """Return the armed crash point of a test, or none."""
    return KillAt(settings.crash_at) if settings.crash_at else NoCrash()


@asynccontextmanager
async def open_flex(settings: Settings, *, work: bool = True, clock: Clock | None = None) -> AsyncIterator[Flex]:
    """Open one process: migrated, wired and, with ``work``, walking runs; closed in order at the end.

    ``clock`` is this machine's unless a test hands in another. Raises ``StoreUnavailable`` when the database does not
    answer.
    """
    await asyncio.to_thread(upgrade, settings.database_url)
    async with AsyncExitStack() as stack:
        database = await Database.open(
            settings.database_url,
            clock=clock or SystemClock(),
            crash=crash_points(settings),
            synchronous=settings.synchronous,
            pool_size=settings.database_pool,
        )
        stack.push_async_callback(database.close)
        journal = Journal(database)
        await journal.start()
        stack.push_async_callback(journal.close)
        nudge = await _nudge(settings, database, SystemIds().new("prc"), stack)
        world = replace(build_world(settings), documents=StorySearch(database))
        if isinstance(world.model, OpenAIModel):
            stack.push_async_callback(world.model.aclose)
        signer = HmacSigner(await signing_key(database, "outside", fresh_key(), database.clock.now_ms()))
        flex = _assemble(settings, world, database, journal, nudge, signer)
        await flex.registrations.look()
        await flex.offering.look()
        if work:
            await _start_work(flex, settings, stack)
        await _start_background(flex, settings, database, nudge, stack)
        calm_collector()
        yield flex


async def _nudge(
    settings: Settings, database: Database, sender: str, stack: AsyncExitStack
) -> LocalNudge | PostgresNudge:
    if database.dialect == "sqlite":
        return LocalNudge()
    nudge = PostgresNudge(settings.database_url, sender)
    await nudge.start()
    stack.push_async_callback(nudge.close)
    return nudge


def _assemble(
    settings: Settings,
    world: World,
    database: Database,
    journal: Journal,
    nudge: LocalNudge | PostgresNudge,
    signer: Signer,
) -> Flex:
    registry = build_registry(settings, world)
    directory = LiveDirectory(registry, world.egress, database.clock)
    limits = Limits(settings.viewer_frames, settings.viewer_bytes)
    feed = Feed(database, limits=limits, tick_seconds=settings.feed_tick_seconds)
    shelf = Shelf()
    planner = SearchPlanner(directory, kind_table(), _plan_limits(settings), shelf)
    offering = Offering(database, planner, shelf)
    agents = open_agents(settings, world, registry, directory, planner, database)
    shell = Shell(
        database=database,
        journal=journal,
        feed=feed,
        directory=directory,
        planner=planner,
        clock=database.clock,
        ids=SystemIds(),
        random=SystemRandom(),
        crash=database.crash,
        nudge=nudge,
        addresses=Addresses(signer, settings.public_url),
        drafting=Drafting(ModelWriter(planner), world.model, settings.planner_strategy),
        notifies=bool(settings.notify),
        memory_limits=memory_limits(settings),
        document_characters=settings.document_characters,
    )
    worker = Worker(shell, WorkerLimits(runs=settings.max_active_runs, lease_seconds=settings.lease_seconds))
    nudge.attach(lambda run_id, _worker: worker.wake(run_id), feed.announced)
    health = ServiceHealth(database)
    registrations = Registrations(database, directory)
    notices = Notices(shell.ids, shell.clock, address_book(settings))
    links = _links(settings, database, signer)
    doors = _doors(settings, worker, nudge, health, registrations, links, notices, agents, offering)
    return Flex(doors, worker, health, feed, registry, registrations, signer, offering)


def _would_admit(shell: Shell, offering: Offering) -> Callable[[Any, str], TaskEnvelope]:
    """Return what reads a tenant's body as a submission would."""
    models = shell.drafting.model is not None
    return lambda body, tenant: admit(body, shell.directory, models=models, own=offering.at_hand(tenant)).envelope


def memory_limits(settings: Settings) -> MemoryLimits:
    """Return how much is remembered."""
    return MemoryLimits(settings.memory_value_bytes, settings.memory_keys, settings.memory_read_bytes)


def _watch(metrics: ServiceMetrics, worker: Worker, streams: Streams, backlog: Backlog) -> None:
    """Measure what is held now."""
    metrics.watch("runs_active", "Runs in the memory of this process.", lambda: worker.held)
    metrics.watch("streams_open", "Open streams.", lambda: streams.open_streams)
    metrics.watch("backlog_runs", "Runs that wait for a process, as last looked at.", lambda: backlog.size)


def chat_defaults(settings: Settings) -> ChatDefaults:
    """Return what a chat has that does not say otherwise."""
    return ChatDefaults(settings.chat_tools, settings.chat_instructions, settings.chat_rounds, settings.chat_approve)


def _links(settings: Settings, database: Database, signer: Signer) -> Links:
    return Links(database, database.clock, signer, round(settings.link_hours * 3_600_000))


def address_book(settings: Settings) -> dict[str, list[str]]:
    """Return recipient → addresses; raises ``ValueError`` for an address nobody can be reached at."""
    book = {who: [address.get_secret_value() for address in addresses] for who, addresses in settings.notify.items()}
    for addresses in book.values():
        for address in addresses:
            check_address(address)
    return book


def _plan_limits(settings: Settings) -> PlanLimits:
    return PlanLimits(
        settings.max_plan_nodes,
        settings.max_plan_edges,
        max_fan_out=settings.max_plan_fan_out,
        max_depth=settings.max_plan_depth,
        max_seconds=settings.max_plan_seconds,
        max_tokens=settings.max_plan_tokens,
        max_cost=settings.max_plan_cost,
    )


def _doors(
    settings: Settings,
    worker: Worker,
    nudge: Nudge,
    health: ServiceHealth,
    registrations: Registrations,
    links: Links,
    notices: Notices,
    agents: Agents,
    offering: Offering,
) -> Doors:
    shell = worker.shell
    database, clock, control = shell.database, shell.clock, Control(shell)
    editing = Editing(shell, control)
    desk = Desk(database, clock, shell.ids, nudge, editing.review)
    runs = Runs(worker, agents, offering)
    metrics = ServiceMetrics()
    shell.feed.observe(metrics.frames)
    streams = Streams(database, shell.feed, clock, max_streams=settings.max_streams)
    backlog = Backlog(database, settings.max_backlog)
    _watch(metrics, worker, streams, backlog)
    reads = Reads(database, clock, shell.addresses)
    verdicts = Verdicts(shell.planner, database, offering)
    flows = Flows(database, clock, shell.ids, verdicts, agents, offering)
    templates = Templates(database, clock, shell.ids, verdicts, flows)
    chats = Chats(flows, chat_defaults(settings))
    return Doors(
        runs=runs,
        reads=reads,
        executions=Executions(database, clock, reads, agents),
        prompts=Prompts(database, desk, clock, Control(shell)),
        handing=Handing(database, Hands(database, clock, shell.ids, nudge, tell=notices)),
        batches=Batches(database, desk),
        control=control,
        callbacks=Callbacks(shell),
        lineages=Lineages(shell),
        editing=editing,
        streams=streams,
        plans=Plans(shell.planner, _would_admit(shell, offering), shell.drafting, offering),
        capabilities=Capabilities(shell.directory, offering),
        agents=agents,
        registrations=registrations,
        flows=flows,
        templates=templates,
        executing=Executing(database, flows, templates, reads, shell.planner, chats),
        memory=Memory(database, clock, shell.ids, memory_limits(settings)),
        documents=Documents(database, clock, nudge, Extractor(), versions_kept=settings.document_versions),
        story_runs=StoryRuns(database, runs, flows, shell.feed, agents),
        completions=Completions(chats, flows),
        conversations=Conversations(database, clock, shell.ids, chats, runs),
        reviews=Reviews(database, desk, links),
        audit=Audit(database),
        retention=Retention(database, clock, shell.ids, keep_of_settings(settings)),
        intake=backlog,
        health=health,
        metrics=metrics,
        ids=shell.ids,
        version=version("flex"),
        **_bounds(settings),
    )


def _bounds(settings: Settings) -> dict[str, Any]:
    """Return what the doors bound, and whom they let in."""
    return {
        "pace": Pace(settings.heartbeat_seconds, settings.slow_viewer_seconds),
        "limits": HttpLimits(settings.body_bytes, settings.document_bytes, settings.wait_seconds),
        "access": Access(settings.known_hosts, frozenset(settings.cors_origins)),
        "config": {"ui_run_popup": settings.ui_run_popup, "body_bytes": settings.body_bytes},
    }


async def _start_work(flex: Flex, settings: Settings, stack: AsyncExitStack) -> None:
    """Begin to walk runs; at the end of the process whatever is held is given back."""
    await flex.worker.start()
    rescue = Rescue(flex.worker)
    rescue.start()
    stack.push_async_callback(_end_work, flex, rescue, settings.drain_seconds)


async def _end_work(flex: Flex, rescue: Rescue, seconds: float) -> None:
    if not flex.worker.drained:
        await flex.worker.drain(seconds)
    await rescue.stop()


async def _start_background(
    flex: Flex, settings: Settings, database: Database, nudge: Nudge, stack: AsyncExitStack
) -> None:
    """Begin what runs beside requests: prompts expire, the backlog and the registrations are looked at."""
    shell = flex.worker.shell
    book = address_book(settings)
    notices = Notices(shell.ids, shell.clock, book)
    sweep = Sweep(database, shell.clock, shell.ids, nudge, tell=notices)
    loop = asyncio.get_running_loop()
    flex._background.append(loop.create_task(sweep.run()))
    if book:
        links = _links(settings, database, flex.signer)
        sender = Sender(database, shell.clock, AppriseMessenger(), links, book, settings.public_url)
        flex._background.append(loop.create_task(sender.run()))
    if isinstance(flex.doors.intake, Backlog):
        flex._background.append(loop.create_task(flex.doors.intake.run()))
    flex._background.append(loop.create_task(RegisteredLook(flex.registrations).run()))
    flex._background.append(loop.create_task(OffersLook(flex.offering).run()))
    if settings.agents_dir is not None and settings.agents_reload:
        flex._background.append(loop.create_task(AgentsLook(flex.doors.agents).run()))
    flex._background.extend(start_upkeep(settings, database, shell.ids, flex.doors.metrics))
    stack.push_async_callback(_end_background, flex)


async def _end_background(flex: Flex) -> None:
    flex.feed.close()
    for task in flex._background:
        task.cancel()
    await asyncio.gather(*flex._background, return_exceptions=True)
