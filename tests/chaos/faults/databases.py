"""The database goes away, answers into the void, is full, or is busy with somebody else."""

import asyncio
import time
from contextlib import suppress

from tests.chaos import disk
from tests.chaos.control import Control
from tests.chaos.faults.base import POSTGRESQL, SQLITE, Fault, Shake
from tests.chaos.faults.locks import held, locked
from tests.chaos.history import Stall
from tests.chaos.proxy import Proxy
from tests.durability.waiting import until
from tests.postgres import PostgresServer

PATIENCE_SECONDS = 15.0
INSIDE = ("workers", "runs")
LOCKED = ("runs", "events", "nodes", "prompts", "signals", "workers")


class Outage(Shake):
    """PostgreSQL is stopped or crashes, stays away for up to five seconds and comes back."""

    async def strike(self, seconds: float) -> None:
        await self.within(seconds)
        server = self._server()
        self.arena.mark()
        how = self.chance.choice(("fast", "immediate", "crash"))
        self.notes.append(how)
        # In this very thread: the server lives as long as the thread that started it.
        if how == "crash":
            server.kill()
        else:
            server.stop("fast" if how == "fast" else "immediate")
        await asyncio.sleep(self.span(0.2, 5.0))
        server.start()
        self.injected += 1

    def _server(self) -> PostgresServer:
        assert self.arena.server is not None, "an outage needs a server"
        return self.arena.server


class Cut(Shake):
    """Connections are cut while a commit is on its way: before the server, or before the answer reaches the client."""

    TIMES = 6

    async def strike(self, seconds: float) -> None:
        for _ in range(self.TIMES):
            await asyncio.sleep(seconds / self.TIMES)
            self.chance.choice(list(self.arena.proxies.values())).arm(self.chance.randint(1, 2))

    async def end(self) -> None:
        for member in self.arena.members:
            if (proxy := self.arena.proxies.get(member.name)) is not None:
                proxy.arm(0)
                for at in proxy.cut_at:
                    self.arena.mark(member, at, elsewhere=False)
                self.injected += len(proxy.cut_at)
                proxy.cut_at.clear()


class FullDisk(Shake):
    """Nothing can be written for a while: real ENOSPC under SQLite, refused statements and commits on PostgreSQL."""

    _tried = 0

    async def strike(self, seconds: float) -> None:
        await self.within(seconds)
        self.arena.mark()
        before = await self._refused()
        await self._fill()
        await asyncio.sleep(self.span(0.3, 1.5 * self.arena.wish.lease_seconds))
        await self.end()
        self.injected += await self._refused() > before

    async def end(self) -> None:
        if self.arena.server is not None:
            await disk.refuse(self.arena.url, "")
        elif self.arena.full_disk is not None:
            self.arena.full_disk.free()
        else:
            self.arena.order(Control())

    async def _fill(self) -> None:
        if self.arena.server is not None:
            await disk.refuse(self.arena.url, self.chance.choice(("statement", "commit")))
        elif self.arena.full_disk is not None:
            self.arena.full_disk.fill()
            self._tried += self.arena.full_disk.is_full()
        else:
            self.arena.order(Control(full=True))
            self._tried += 1

    async def _refused(self) -> int:
        """How often a write was refused: the services' on PostgreSQL, on SQLite our own."""
        if self.arena.server is not None:
            return await disk.refused(self.arena.url)
        return self._tried


class Busy(Shake):
    """Somebody else holds locks: SQLite's write lock, or rows and tables of PostgreSQL."""

    async def strike(self, seconds: float) -> None:
        for _ in range(2):
            await asyncio.sleep(self.chance.uniform(0.05, 0.2) * seconds)
            length = self.span(0.1, 2.0)
            self.arena.mark()
            url = self.arena.url
            async with held(url) if self.arena.server is None else locked(url, self._statement()):
                await asyncio.sleep(length)
            self.injected += 1

    def _statement(self) -> str:
        """Some runs under way, or a whole table."""
        rows = "SELECT run_id FROM runs WHERE ended_at IS NULL ORDER BY run_id LIMIT 30 FOR UPDATE"
        mode = self.chance.choice(("EXCLUSIVE", "ACCESS EXCLUSIVE"))
        return self.chance.choice((rows, f"LOCK TABLE {self.chance.choice(LOCKED)} IN {mode} MODE"))


class Partition(Shake):
    """One process cannot reach the database for longer than its lease, and what it wrote arrives late or never."""

    async def strike(self, seconds: float) -> None:
        await self.within(seconds)
        member = self.chance.choice([each for each in self.arena.members if each.name in self.arena.proxies])
        proxy = self.arena.proxies[member.name]
        how = await self._part(proxy)
        since = time.time() * 1_000
        self.arena.mark(member, since)
        try:
            await self.given_up(member, self.arena.wish.lease_seconds + PATIENCE_SECONDS)
            await asyncio.sleep(self.chance.uniform(0.0, 0.5))
        finally:
            proxy.join()
            self.arena.stalls.append(Stall(member.name, since, time.time() * 1_000))
        self.notes.append(f"{member.name} {how} for {time.time() - since / 1_000:.1f} s")
        self.injected += 1

    async def _part(self, proxy: Proxy) -> str:
        """At any moment, noticeably or not, or in the middle of a transaction whose locks stay behind."""
        table = self.chance.choice((*INSIDE, "", ""))
        if table:
            proxy.part_inside(table)
            with suppress(AssertionError):  # no such transaction came: part them anywhere
                await until(lambda: proxy.parted, self.arena.wish.lease_seconds, "a transaction to part")
                return f"parted within a transaction on {table}"
        silently = self.chance.random() < 0.7
        proxy.part(silently=silently)
        return "parted silently" if silently else "parted by resets"


DATABASES = (
    Fault("outage", "PostgreSQL stopped or crashed, away up to 5 s", Outage, 100, (5.0, 20.0), (POSTGRESQL,)),
    Fault("cut", "connections cut during COMMIT", Cut, 100, (4.0, 5.0), (POSTGRESQL,), proxied=True),
    Fault(
        "partition", "one process cut off from PostgreSQL beyond its lease", Partition, 70, (3.5, 4.5), (POSTGRESQL,),
        proxied=True,
    ),
    Fault("disk", "disk full: every write refused for a while", FullDisk, 100, (4.0, 6.0), on_small_disk=True),
    Fault("busy", "an outsider holds locks", Busy, 100, (4.0, 6.0), (SQLITE, POSTGRESQL)),
)  # fmt: skip
