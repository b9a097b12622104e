"""A database, two processes on it and everything that faults need: opened once, used by one scenario or several."""

import asyncio
import secrets
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from store.migrate import upgrade
from tests.chaos import disk, history
from tests.chaos.control import Control
from tests.chaos.members import Member, fresh, log_of
from tests.chaos.people import Ledger
from tests.chaos.proxy import Proxy
from tests.chaos.recovery import Mark
from tests.chaos.talks import instruct
from tests.durability.auditor import query
from tests.durability.service import World
from tests.durability.waiting import until
from tests.model.scripted import Script, model_server
from tests.postgres import HOST, PostgresServer, postgres_server

NAMES = ("one", "two")
AT_REST = (
    "SELECT count(*) FROM runs WHERE status NOT IN ('completed', 'failed', 'cancelled')"
    " AND NOT (status = 'waiting' AND worker IS NULL AND inbox = seen)"
)


@dataclass(frozen=True)
class Wish:
    """What a scenario needs of its arena.

    ``proxied`` names the processes that reach PostgreSQL through a proxy; ``on_small_disk`` puts a SQLite file on a
    disk of its own, or prepares PostgreSQL to refuse writes.
    """

    database: str
    lease_seconds: float
    proxied: tuple[str, ...] = ()
    on_small_disk: bool = False


@dataclass
class Arena:
    """An open one. What happens in it is noted in ``marks`` and ``stalls`` by the faults."""

    wish: Wish
    world: World
    url: str
    """the database, for the harness"""
    members: list[Member]
    proxies: dict[str, Proxy] = field(default_factory=dict)
    server: PostgresServer | None = None
    full_disk: disk.FullDisk | None = None
    marks: list[Mark] = field(default_factory=list)
    stalls: list[history.Stall] = field(default_factory=list)
    _prepared: bool = False

    @property
    def bases(self) -> list[str]:
        return [member.base for member in self.members]

    @property
    def ledger(self) -> Ledger:
        return Ledger(self.world.effects)

    async def prepare(self) -> None:
        """Make the database ready, once, and all processes."""
        if not self._prepared:
            self._prepared = True
            await asyncio.to_thread(upgrade, self.url)
            await history.install(self.url)
            if self.wish.on_small_disk and self.server is not None:
                await disk.install(self.url)
        await self.start()

    async def start(self) -> None:
        """Start every process that does not run, and wait until all are ready."""
        for member in self.members:
            if not member.alive:
                member.launch()
        await asyncio.gather(*(member.ready() for member in self.members))

    def mark(self, member: Member | None = None, at: float | None = None, *, elsewhere: bool = True) -> None:
        """A fault begins, now or at this wall time (ms), for this process or for all.

        ``elsewhere``: the runs of this process move on only when another owner has taken them.
        """
        now = time.time() * 1_000
        process = None if member is None else member.name
        self.marks.append(Mark(now if at is None else at, process, process is not None and elsewhere))

    def order(self, orders: Control) -> None:
        """Give all processes the same orders."""
        for member in self.members:
            member.order(orders)

    async def at_rest(self, seconds: float) -> bool:
        """Wait until no run can move any more; False when some still could after so many seconds."""

        async def nothing_moves() -> bool:
            rows = await query(self.url, AT_REST)
            return bool(rows[0][0] == 0)

        try:
            await until(nothing_moves, seconds, "all runs at rest")
        except AssertionError:
            return False
        return True

    def said(self) -> str:
        """The end of what the processes logged."""
        return log_of(self.members)

    def close(self) -> None:
        """Kill what still runs."""
        for member in self.members:
            member.__exit__()


@contextmanager
def arena(wish: Wish, place: Path, server: PostgresServer | None = None) -> Iterator[Arena]:
    """Open one; nothing of it is left afterwards but the files in ``place``. ``server``: one that may be shaken."""
    with ExitStack() as stack:
        if wish.database == "sqlite":
            opened = _on_sqlite(wish, place, stack)
        else:
            opened = _on_postgresql(wish, place, stack, server)
        stack.callback(opened.close)
        yield opened


def _settings(wish: Wish, stack: ExitStack) -> dict[str, str]:
    """Settings of the processes, with a model of the arena's own that always says the same."""
    script = Script(stack.enter_context(model_server()), "chaos")
    stack.callback(script.close)
    instruct(script)
    return {
        **script.environment,
        "FLEX_LEASE_SECONDS": str(wish.lease_seconds),
        "FLEX_HEARTBEAT_SECONDS": "1",
        "FLEX_FEED_TICK_SECONDS": "0.25",
        "FLEX_LOG_LEVEL": "info",
    }


def _on_sqlite(wish: Wish, place: Path, stack: ExitStack) -> Arena:
    mounted = wish.on_small_disk and disk.may_mount()
    home = stack.enter_context(disk.small_disk()) if mounted else place
    url = f"sqlite+aiosqlite:///{home / 'flex.db'}"
    world = World(url, fresh(place / "world"))
    settings = _settings(wish, stack)
    members = [Member(world, name, url, **settings) for name in NAMES]
    return Arena(wish, world, url, members, full_disk=disk.FullDisk(home) if mounted else None)


def _on_postgresql(wish: Wish, place: Path, stack: ExitStack, server: PostgresServer | None) -> Arena:
    server = server or stack.enter_context(postgres_server(in_memory=True))
    database, password = f"chaos_{secrets.token_hex(4)}", secrets.token_urlsafe(18)
    server.create_database(database)
    world = World(server.url(database), fresh(place / "world"))
    proxies, members, settings = {}, [], _settings(wish, stack)
    for name in NAMES:
        role = f"{name}_{database}"
        # Each process is a role of its own, so that the database knows who writes.
        server.sql(f"CREATE ROLE {role} SUPERUSER LOGIN PASSWORD '{password}'")
        port = server.port
        if name in wish.proxied:
            proxies[name] = stack.enter_context(Proxy(server.port, name))
            port = proxies[name].port
        url = f"postgresql+asyncpg://{role}:{password}@{HOST}:{port}/{database}"
        members.append(Member(world, role, url, **settings))
    by_role = {member.name: proxies[name] for member, name in zip(members, NAMES, strict=True) if name in proxies}
    return Arena(wish, world, server.url(database), members, by_role, server)
