"""Puts the rooms together: the only place that chooses who fills in a port (house rule 6, F16)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from app.backlog import Backlog
from app.health import ServiceHealth
from app.metrics import ServiceMetrics
from app.registered import RegisteredLook
from app.settings import Settings
from app.system import KillAt, NoCrash, SystemClock, SystemIds, SystemRandom, calm_collector
from capabilities.directory import LiveDirectory
from capabilities.egress import egress_policy
from capabilities.openai_model import ModelSettings, OpenAIModel
from capabilities.registry import Registry
from capabilities.world import World
from contracts.ports import Clock, CrashPoints, Nudge
from engine.kinds import kind_table
from engine.rescue import Rescue
from engine.shell import Shell
from engine.worker import Worker, WorkerLimits
from events.feed import Feed
from events.local import LocalNudge
from events.postgres import PostgresNudge
from events.watch import Limits
from hitl.desk import Desk
from hitl.sweep import Sweep
from planner.draft import PlanLimits
from planner.planner import SearchPlanner
from routes.doors import Access, Doors, HttpLimits
from routes.stream import Pace
from service.capabilities import Capabilities
from service.intake import admit
from service.plans import Plans
from service.prompts import Prompts
from service.reads import Reads
from service.registrations import Registrations
from service.runs import Runs
from service.streams import Streams
from store.connect import Database
from store.journal import Journal
from store.migrate import upgrade


@dataclass(slots=True)
class Flex:
    """Everything that is open in one process."""

    doors: Doors
    worker: Worker
    health: ServiceHealth
    feed: Feed
    registry: Registry
    registrations: Registrations
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
    return ModelSettings(
        settings.model_base_url, settings.model, key, settings.model_price_in, settings.model_price_out
    )


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
        world = build_world(settings)
        if isinstance(world.model, OpenAIModel):
            stack.push_async_callback(world.model.aclose)
        flex = _assemble(settings, world, database, journal, nudge)
        await flex.registrations.look()
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
    settings: Settings, world: World, database: Database, journal: Journal, nudge: LocalNudge | PostgresNudge
) -> Flex:
    registry = build_registry(settings, world)
    directory = LiveDirectory(registry, world.egress, database.clock)
    limits = Limits(settings.viewer_frames, settings.viewer_bytes)
    feed = Feed(database, limits=limits, tick_seconds=settings.feed_tick_seconds)
    planner = SearchPlanner(directory, kind_table(), PlanLimits(settings.max_plan_nodes, settings.max_plan_edges))
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
    )
    worker = Worker(shell, WorkerLimits(runs=settings.max_active_runs, lease_seconds=settings.lease_seconds))
    nudge.attach(lambda run_id, _worker: worker.wake(run_id), feed.announced)
    health = ServiceHealth(database)
    registrations = Registrations(database, directory)
    doors = _doors(settings, worker, nudge, health, registrations)
    return Flex(doors, worker, health, feed, registry, registrations)


def _doors(
    settings: Settings, worker: Worker, nudge: Nudge, health: ServiceHealth, registrations: Registrations
) -> Doors:
    shell = worker.shell
    database, clock = shell.database, shell.clock
    desk = Desk(database, clock, shell.ids, nudge)
    metrics = ServiceMetrics()
    shell.feed.observe(metrics.frames)
    streams = Streams(database, shell.feed, clock, max_streams=settings.max_streams)
    backlog = Backlog(database, settings.max_backlog)
    metrics.watch("runs_active", "Runs in the memory of this process.", lambda: worker.held)
    metrics.watch("streams_open", "Open streams.", lambda: streams.open_streams)
    metrics.watch("backlog_runs", "Runs that wait for a process, as last looked at.", lambda: backlog.size)
    return Doors(
        runs=Runs(worker),
        reads=Reads(database, clock),
        prompts=Prompts(database, desk, clock),
        streams=streams,
        plans=Plans(shell.planner, lambda body: admit(body, shell.directory).envelope),
        capabilities=Capabilities(shell.directory),
        registrations=registrations,
        intake=backlog,
        health=health,
        metrics=metrics,
        ids=shell.ids,
        pace=Pace(settings.heartbeat_seconds, settings.slow_viewer_seconds),
        limits=HttpLimits(settings.body_bytes, settings.wait_seconds),
        access=Access(settings.known_hosts, frozenset(settings.cors_origins)),
        config={"ui_run_popup": settings.ui_run_popup, "body_bytes": settings.body_bytes},
        version=version("flex"),
    )


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
    sweep = Sweep(database, shell.clock, shell.ids, nudge)
    loop = asyncio.get_running_loop()
    flex._background.append(loop.create_task(sweep.run()))
    if isinstance(flex.doors.intake, Backlog):
        flex._background.append(loop.create_task(flex.doors.intake.run()))
    flex._background.append(loop.create_task(RegisteredLook(flex.registrations).run()))
    stack.push_async_callback(_end_background, flex)


async def _end_background(flex: Flex) -> None:
    flex.feed.close()
    for task in flex._background:
        task.cancel()
    await asyncio.gather(*flex._background, return_exceptions=True)
