"""``Database``: the one object through which a process reaches its database (P1)."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy.engine import make_url

from contracts.ports import Clock, CrashPoints
from store.postgres import PostgresStore
from store.sqlite import SqliteStore
from store.statement import Row, Statement
from store.unit import Opening, Places, Quiet, Reader, Unit

POOL_SIZE: Final = 10
READERS: Final = 3


class Database:
    """A connected database, SQLite or PostgreSQL; everything above sees no difference."""

    def __init__(self, backend: SqliteStore | PostgresStore) -> None:
        """Wrap a started backend; use :meth:`open`."""
        self.backend: Final = backend
        self.clock: Final = backend.clock
        self.crash: Final = backend.crash
        self.dialect: Final = "sqlite" if isinstance(backend, SqliteStore) else "postgresql"

    @classmethod
    async def open(
        cls,
        url: str,
        *,
        clock: Clock,
        crash: CrashPoints | None = None,
        synchronous: str = "FULL",
        pool_size: int = POOL_SIZE,
        readers: int = READERS,
    ) -> Database:
        """Connect to ``sqlite+aiosqlite:///PATH`` or ``postgresql+asyncpg://…``.

        ``synchronous`` is SQLite's (``FULL``: every commit survives a power cut); ``pool_size`` is PostgreSQL's,
        ``readers`` SQLite's number of reading connections. Raises ``StoreUnavailable`` when the database does not
        answer and ``ValueError`` for another kind of URL.
        """
        parsed = make_url(url)
        points = Quiet() if crash is None else crash
        backend: SqliteStore | PostgresStore
        match parsed.drivername:
            case "sqlite+aiosqlite":
                backend = SqliteStore(
                    parsed.database or "", clock=clock, crash=points, synchronous=synchronous, readers=readers
                )
            case "postgresql+asyncpg":
                backend = PostgresStore(url, clock=clock, crash=points, pool_size=pool_size)
            case other:
                raise ValueError(f"unknown kind of database: {other}")
        await backend.start()
        return cls(backend)

    async def close(self) -> None:
        """Close every connection; close journals first."""
        await self.backend.close()

    def unit(self, name: str | None = None) -> Opening[Unit]:
        """Return one write transaction; ``name`` says which crash points it passes (``decide``, ``signal``)."""
        return self.backend.unit(name)

    async def alone(self, statement: Statement, name: str | None = None, **params: Any) -> list[Row]:
        """Run one statement that writes as its own transaction; return its rows.

        PostgreSQL commits it by itself, which spares two round trips. ``name`` is as for :meth:`unit`; only the points
        around the whole can be reached.
        """
        if isinstance(self.backend, SqliteStore):
            async with self.unit(name) as unit:
                return await unit.fetch(statement, **params)
        places = Places(self.crash, name)
        async with self.reader() as connection:
            rows = await connection.fetch(statement, **params)
        places.reach("after_commit")
        return rows

    def reader(self) -> Opening[Reader]:
        """Return something to read with, outside of a transaction."""
        return self.backend.reader()

    def near(self) -> Opening[Reader]:
        """Return a reader for short reads by key on the hot path (on SQLite inline, without a thread)."""
        if isinstance(self.backend, SqliteStore):
            return self.backend.near()
        return self.backend.reader()
