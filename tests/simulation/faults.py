"""Faults: kills at named points and anywhere, pauses beyond the lease, outages, clock jumps, orderly restarts."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any, Final, Protocol

from tests.simulation.loop import SimulatedLoop
from tests.simulation.process import Process

KINDS: Final = (
    "kill_at", "kill_at", "kill_at", "freeze_at", "freeze_at", "kill", "pause", "pause", "zombie", "zombie", "outage",
    "stop", "lossy", "jump",
)  # fmt: skip


class Victim(Protocol):
    """What faults need of a simulation."""

    def living(self) -> list[Process]: ...
    def open_process(self) -> Process: ...
    def tell(self, what: str, *more: object) -> None: ...

    @property
    def scenario(self) -> Plan: ...
    @property
    def loop(self) -> SimulatedLoop: ...


class Plan(Protocol):
    """What faults need to know of the scenario."""

    @property
    def trouble(self) -> int: ...
    @property
    def kinds(self) -> tuple[str, ...]: ...
    @property
    def points(self) -> tuple[str, ...]: ...
    @property
    def until(self) -> float: ...
    @property
    def skewed(self) -> bool: ...
    @property
    def processes(self) -> int: ...


class Faults:
    """Does harm until its time is over, then sees to it that somebody lives and nothing is held back any more."""

    def __init__(self, chance: random.Random, world: Victim) -> None:
        self._chance, self._world = chance, world
        self._healing: list[asyncio.Task[None]] = []
        self._buried: dict[str, asyncio.Event] = {}

    async def run(self) -> None:
        """Do what the scenario says; afterwards nothing is wrong any more except what the harm has left behind."""
        plan, chance = self._world.scenario, self._chance
        times = sorted(chance.random() * plan.until for _ in range(plan.trouble))
        now = 0.0
        for at in times:
            await asyncio.sleep(at - now)
            now = at
            self._harm(chance.choice(plan.kinds))
        await asyncio.sleep(plan.until - now)
        for process in self._world.living():
            process.points.disarm()
            process.line.lossy = 0.0
        for task in self._healing:
            await task
        if not self._world.living():
            self._world.open_process()

    def _harm(self, kind: str) -> None:
        living, chance = self._world.living(), self._chance
        if not living:
            return
        victim = chance.choice(living)
        point, times = chance.choice(self._world.scenario.points), chance.choice([1, 1, 2, 5])
        self._world.tell(kind, victim.name, *((point, times) if kind.endswith("_at") else ()))
        match kind:
            case "kill_at":
                victim.points.arm(point, times, lambda: victim.die_at(point))
                self._heal(self._replace(victim))
            case "freeze_at":
                seconds = chance.random() * 9
                sleeps = chance.random() < 0.5
                victim.points.arm(
                    point, times,
                    lambda: self._heal(self._sleep_through(victim) if sleeps else self._pause(victim, seconds)),
                )  # fmt: skip
            case "kill":
                victim.kill("killed")
                self._heal(self._replace(victim))
            case "stop":
                victim.stop()
                self._heal(self._replace(victim))
            case "pause":
                self._heal(self._pause(victim, chance.random() * 3))
            case "zombie":
                self._heal(self._sleep_through(victim) if chance.random() < 0.6 else self._pause(victim, 9.0))
            case "outage":
                self._heal(self._outage(living if chance.random() < 0.5 else [victim], chance.random() * 3))
            case "lossy":
                victim.line.lossy = 0.1
            case "jump":
                if self._world.scenario.skewed:
                    victim.clock.skew += chance.choice([-30.0, -2.0, 2.0, 30.0])

    def _heal(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something outside of all processes, also when one of them comes by here."""
        loop = self._world.loop
        self._healing.append(loop.create_task(work, context=loop.outside.context.copy()))

    async def _replace(self, victim: Process) -> None:
        """Start another process some time after this one died, unless others are enough."""
        waits = self._chance.random() * 6
        while not victim.lane.dead and waits > 0:
            await asyncio.sleep(0.25)
            waits -= 0.25
        await asyncio.sleep(self._chance.random() * 2)
        if victim.lane.dead and len(self._world.living()) < self._world.scenario.processes:
            self._world.open_process()

    async def _pause(self, victim: Process, seconds: float) -> None:
        """Stop the process as SIGSTOP does, and let it go on as if nothing had been."""
        victim.lane.paused = True
        await asyncio.sleep(seconds)
        victim.lane.paused = False
        self._world.tell("goes on", victim.name)

    async def _sleep_through(self, victim: Process) -> None:
        """Stop the process, and let it go on in the very moment in which others have taken what it held."""
        victim.lane.paused = True
        buried = self._buried[victim.worker.worker_id] = asyncio.Event()
        try:
            async with asyncio.timeout(10.0):
                await buried.wait()
        except TimeoutError:
            self._world.tell("nobody missed", victim.name)
        await asyncio.sleep(self._chance.random() * 0.03)
        victim.lane.paused = False
        self._world.tell("wakes up", victim.name)

    def noticed(self, worker: str) -> None:
        """Hear that a worker was buried by another one."""
        if worker in self._buried:
            self._buried[worker].set()

    async def _outage(self, victims: list[Process], seconds: float) -> None:
        for victim in victims:
            victim.line.down = True
        await asyncio.sleep(seconds)
        for victim in victims:
            victim.line.down = False
