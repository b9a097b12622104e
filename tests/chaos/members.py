"""The processes of a scenario: the real service behind a test entry, killed, stopped and drained by its own pid."""

import asyncio
import os
import signal
import sys
import time
from pathlib import Path

import httpx2

from tests.chaos.control import Control, Counts
from tests.durability.service import START_SECONDS, STEPS, Service, World
from tests.durability.waiting import until

STOP_SECONDS = 30.0


class Member(Service):
    """One service with a name. ``url`` is how it reaches the database."""

    def __init__(self, world: World, name: str, url: str, **env: str) -> None:
        self.name = name
        self.control = world.place / f"control-{name}.json"
        self.counts_path = world.place / f"counts-{name}.json"
        self.pids: list[int] = []
        super().__init__(world, **env)
        self._env |= {
            "FLEX_DATABASE_URL": url,
            "FLEX_PORT": str(self.port),
            "FLEX_CAPABILITIES": str(STEPS),
            "CHAOS_NAME": name,
            "CHAOS_CONTROL": str(self.control),
            "CHAOS_COUNTS": str(self.counts_path),
        }

    def _command(self) -> list[str]:
        return [sys.executable, "-m", "tests.chaos.entry"]

    def launch(self, crash_at: str | None = None) -> None:
        """Start the process; returns at once."""
        super().launch(crash_at)
        self.pids.append(self.pid)

    def order(self, orders: Control) -> None:
        """Give it new orders; it reads them within moments."""
        orders.write(self.control)

    @property
    def counts(self) -> Counts:
        return Counts.read(self.counts_path)

    async def up(self) -> bool:
        """Wait until it is ready; False when it died before (an armed point may be reached while it starts)."""

        async def settled() -> bool:
            return not self.alive or await self.answers()

        await until(settled, START_SECONDS, f"{self.name} is ready or dead")
        return self.alive

    async def answers(self) -> bool:
        """Say whether it is ready now."""
        try:
            async with httpx2.AsyncClient(base_url=self.base, timeout=2) as client:
                return (await client.get("/readyz")).status_code == 200
        except httpx2.TransportError:
            return False

    async def died(self, seconds: float) -> float | None:
        """Wait for its end, so long at most; return the wall time of it in ms, None while it lives."""
        assert self._process is not None
        if self._process.poll() is not None:
            return time.time() * 1_000
        handle = os.pidfd_open(self.pid)
        ended = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_reader(handle, ended.set)
        try:
            await asyncio.wait_for(ended.wait(), seconds)
        except TimeoutError:
            return None
        finally:
            loop.remove_reader(handle)
            os.close(handle)
        at = time.time() * 1_000
        self._process.wait(10)
        return at

    async def stop(self) -> None:
        """SIGTERM, and wait until it is gone."""
        if self.alive:
            self.send(signal.SIGTERM)
            if await self.died(STOP_SECONDS) is None:
                self.kill()
                raise AssertionError(f"{self.name} did not stop within {STOP_SECONDS:g} s\n{self.said()}")


def log_of(members: list[Member]) -> str:
    """The end of what they logged."""
    return "\n".join(f"--- {member.name}\n{member.said()}" for member in members)


def fresh(place: Path) -> Path:
    """Make a directory that is not there."""
    place.mkdir(parents=True)
    return place
