"""``flex serve`` with a skewed clock and unreliable nudges: python -m tests.chaos.entry.

Everything else is the product: settings from the environment, its wiring, its server. ``CHAOS_NAME`` is the process's
name in the tables that the harness adds, ``CHAOS_CONTROL`` the file of its orders, ``CHAOS_COUNTS`` where it counts.
"""

import asyncio
import os
import random
import sqlite3
import threading
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from app.serve import run
from app.settings import Settings
from app.system import SystemClock
from app.wiring import Flex, open_flex
from events.local import LocalNudge, OnEvents, OnRun
from events.postgres import PostgresNudge
from tests.chaos.control import Control, Counts

LOOK_SECONDS = 0.02


class SkewedClock(SystemClock):
    """This machine's clock, wrong by what the orders say; monotonic time is right, as it is on a real machine."""

    def __init__(self) -> None:
        self.offset_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.offset_ms


class Scrambler:
    """Stands before whoever is nudged: loses, doubles and delays as ordered."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.orders = Control()
        self._chance = random.Random()

    def obey(self, orders: Control) -> None:
        """Take new orders."""
        if orders.seed != self.orders.seed:
            self._chance = random.Random(orders.seed)
        self.orders, self.counts.seed = orders, orders.seed

    def before(self, told: Callable[..., None]) -> Callable[..., None]:
        """Return what is called in place of ``told``."""

        def arrive(*args: Any) -> None:
            orders, counts = self.orders, self.counts
            if self._chance.random() < orders.lost:
                counts.lost += 1
                return
            times = 2 if self._chance.random() < orders.doubled else 1
            counts.doubled += times - 1
            counts.passed += 1
            for _ in range(times):
                delay = self._chance.random() * orders.late_ms / 1_000
                if delay:
                    counts.late += 1
                    asyncio.get_running_loop().call_later(delay, told, *args)
                else:
                    told(*args)

        return arrive


def scramble(scrambler: Scrambler) -> None:
    """Put the scrambler before everybody who attaches to the nudges of this process."""
    for nudge in (LocalNudge, PostgresNudge):
        setattr(nudge, "attach", _attaching(nudge.attach, scrambler))  # noqa: B010 - mypy refuses the assignment


def _attaching(real: Callable[..., None], scrambler: Scrambler) -> Callable[..., None]:
    def attach(self: Any, on_run: OnRun, on_events: OnEvents | None = None) -> None:
        real(self, scrambler.before(on_run), None if on_events is None else scrambler.before(on_events))

    return attach


class Sqlite:
    """The SQLite connections of this process: they tell its name to the harness's triggers, and may be kept small."""

    def __init__(self, name: str) -> None:
        self._name, self._connect = name, sqlite3.connect
        self._writers: list[sqlite3.Connection] = []
        self._full = False
        setattr(sqlite3, "connect", self.connect)  # noqa: B010 - mypy refuses the assignment

    def connect(self, *args: Any, **more: Any) -> sqlite3.Connection:
        """Stand in for ``sqlite3.connect``."""
        connection: sqlite3.Connection = self._connect(*args, **more)
        connection.create_function("chaos_process", 0, lambda: self._name)
        # The product writes on the loop's thread only; its readers have threads of their own.
        if threading.current_thread() is threading.main_thread():
            self._writers.append(connection)
        return connection

    def keep(self, *, full: bool) -> None:
        """Let the database grow no further, or again."""
        if full == self._full:
            return
        self._full = full
        for writer in self._writers:
            # It never goes below what is there.
            writer.execute(f"PRAGMA max_page_count = {1 if full else 1_073_741_823}").fetchall()


def main() -> None:
    """Serve until SIGTERM."""
    control, counts = Path(os.environ["CHAOS_CONTROL"]), Path(os.environ["CHAOS_COUNTS"])
    clock, scrambler = SkewedClock(), Scrambler()
    sqlite = Sqlite(os.environ["CHAOS_NAME"])
    scramble(scrambler)

    def obey() -> None:
        orders = Control.read(control)
        clock.offset_ms = orders.offset_ms
        scrambler.obey(orders)
        sqlite.keep(full=orders.full)

    async def look() -> None:
        while True:
            obey()
            scrambler.counts.write(counts)
            await asyncio.sleep(LOOK_SECONDS)

    @asynccontextmanager
    async def opener(settings: Settings) -> AsyncIterator[Flex]:
        obey()
        looking = asyncio.get_running_loop().create_task(look())
        try:
            async with open_flex(settings, clock=clock) as flex:
                yield flex
        finally:
            looking.cancel()

    run(Settings(), opener)


if __name__ == "__main__":
    main()
