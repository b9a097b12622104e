"""PostgreSQL: a pool of asyncpg connections for units and reads, and the journal's own connection."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any, Final, TypeAlias, cast

import asyncpg
from asyncpg import exceptions
from asyncpg.pool import PoolConnectionProxy
from sqlalchemy.engine import make_url

from contracts.errors import StoreUnavailable
from contracts.ports import Clock, CrashPoints
from store.dialect import JOURNAL_SESSION, SESSION
from store.statement import Row, Statement
from store.unit import Places, Reader, Refused, Unit

ACQUIRE_SECONDS: Final = 10.0
COMMAND_SECONDS: Final = 60.0
CONNECT_SECONDS: Final = 10.0

# Quoted: these are generic in asyncpg's stubs only.
Borrowed: TypeAlias = "PoolConnectionProxy[asyncpg.Record]"
Connection: TypeAlias = "asyncpg.Connection[asyncpg.Record]"

REFUSALS: Final = (
    exceptions.IntegrityConstraintViolationError,
    exceptions.DataError,
    exceptions.ProgramLimitExceededError,
)
AWAY: Final = (
    OSError,
    TimeoutError,
    exceptions.PostgresConnectionError,
    exceptions.OperatorInterventionError,
    exceptions.InsufficientResourcesError,
    exceptions.TransactionRollbackError,
    exceptions.ReadOnlySQLTransactionError,
    exceptions.PostgresSystemError,
    exceptions.LockNotAvailableError,
    exceptions.InternalClientError,
    exceptions.IdleInTransactionSessionTimeoutError,
)


def translated(error: Exception, *, closed: bool) -> Exception:
    """Return what the store raises for a driver's error; ``closed`` says that the connection is gone."""
    # A value that the driver cannot encode is an InterfaceError and a ValueError at once.
    if isinstance(error, REFUSALS) or (isinstance(error, exceptions.InterfaceError) and isinstance(error, ValueError)):
        return Refused(str(error))
    if isinstance(error, AWAY) or (closed and isinstance(error, exceptions.InterfaceError)):
        return StoreUnavailable(f"The database did not answer: {type(error).__name__} {error}".strip())
    return error


def is_gone(connection: Borrowed | Connection) -> bool:
    """Say whether a connection has ended; the pool takes an ended one back by itself, and then it answers nothing."""
    try:
        return connection.is_closed()
    except exceptions.InterfaceError:
        return True


def end(connection: Borrowed) -> None:
    """End a connection at once, unless it has ended by itself."""
    if not is_gone(connection):
        connection.terminate()


async def _keep(_connection: Any) -> None:
    """Leave a returned connection as it is: nothing here changes a session, and a reset is a round trip."""


class PostgresStore:
    """The connections of one process to one database."""

    def __init__(self, url: str, *, clock: Clock, crash: CrashPoints, pool_size: int) -> None:
        """Keep the settings; ``start`` connects."""
        self._dsn: Final = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
        self._size: Final = pool_size
        self._pool: asyncpg.Pool[asyncpg.Record] | None = None
        self.clock: Final = clock
        self.crash: Final = crash

    async def start(self) -> None:
        """Connect; raise ``StoreUnavailable`` if the server does not answer."""
        try:
            self._pool = await asyncpg.create_pool(
                self._dsn,
                min_size=0,
                max_size=self._size,
                reset=_keep,
                timeout=CONNECT_SECONDS,
                command_timeout=COMMAND_SECONDS,
                server_settings=dict(SESSION),
            )
        except AWAY as error:
            raise translated(error, closed=True) from error
        await self.give_back(await self.borrow())

    async def close(self) -> None:
        """Close every connection."""
        if self._pool is not None:
            try:
                await asyncio.wait_for(self._pool.close(), ACQUIRE_SECONDS)
            except AWAY:
                self._pool.terminate()
            self._pool = None

    async def connect(self) -> Connection:
        """Return a new connection for the journal; raise ``StoreUnavailable``."""
        try:
            return await asyncpg.connect(
                self._dsn,
                timeout=CONNECT_SECONDS,
                command_timeout=COMMAND_SECONDS,
                server_settings=dict(JOURNAL_SESSION),
                statement_cache_size=200,
            )
        except AWAY as error:
            raise translated(error, closed=True) from error

    def unit(self, name: str | None) -> PostgresUnit:
        """Return a write transaction, not yet begun."""
        return PostgresUnit(self, Places(self.crash, name))

    def reader(self) -> PostgresReading:
        """Return a reader over a pooled connection."""
        return PostgresReading(self)

    async def borrow(self) -> Borrowed:
        """Take a connection from the pool."""
        if self._pool is None:
            raise RuntimeError("the database is not open")
        try:
            return await self._pool.acquire(timeout=ACQUIRE_SECONDS)
        except (*AWAY, exceptions.InterfaceError) as error:
            raise translated(error, closed=True) from error

    async def give_back(self, connection: Borrowed) -> None:
        """Return a connection to the pool."""
        if self._pool is None:
            end(connection)
            return
        try:
            await self._pool.release(connection)
        except (*AWAY, exceptions.InterfaceError):
            # It is broken and will not be lent again; what was asked of it has been answered already.
            end(connection)


class PostgresReading(Reader):
    """Reads on a borrowed connection, without a transaction."""

    __slots__ = ("_connection", "_store")

    def __init__(self, store: PostgresStore) -> None:
        self._store = store
        self._connection: Borrowed | None = None

    async def fetch(self, statement: Statement, **params: Any) -> list[Row]:
        """Run the statement and return its rows."""
        compiled = statement.postgresql
        connection = self._opened()
        try:
            rows = await connection.fetch(compiled.sql, *compiled.bind(params))
        except (exceptions.PostgresError, exceptions.InterfaceError, *AWAY) as error:
            raise translated(error, closed=is_gone(connection)) from error
        return cast("list[Row]", rows)

    async def __aenter__(self) -> PostgresReading:
        """Borrow a connection."""
        self._connection = await self._store.borrow()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back."""
        connection, self._connection = self._opened(), None
        await self._store.give_back(connection)

    def _opened(self) -> Borrowed:
        if self._connection is None:
            raise RuntimeError("not open")
        return self._connection


class PostgresUnit(Unit):
    """One write transaction on a borrowed connection."""

    dialect = "postgresql"
    __slots__ = ("_connection", "_places", "_store")

    def __init__(self, store: PostgresStore, places: Places) -> None:
        self._store, self._places = store, places
        self._connection: Borrowed | None = None

    async def fetch(self, statement: Statement, **params: Any) -> list[Row]:
        """Run the statement and return its rows."""
        compiled = statement.postgresql
        connection = self._opened()
        try:
            rows = await connection.fetch(compiled.sql, *compiled.bind(params))
        except (exceptions.PostgresError, exceptions.InterfaceError, *AWAY) as error:
            raise translated(error, closed=is_gone(connection)) from error
        return cast("list[Row]", rows)

    async def execute(self, statement: Statement, **params: Any) -> int:
        """Run the statement and return the number of rows it changed."""
        compiled = statement.postgresql
        tag = await self._say(compiled.sql, *compiled.bind(params))
        return int(tag.rpartition(" ")[2])

    async def __aenter__(self) -> PostgresUnit:
        """Borrow a connection and begin."""
        self._connection = await self._store.borrow()
        try:
            await self._say("BEGIN")
            self._places.reach("begin")
        except BaseException:
            await self._abandon()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit, or roll back after an exception."""
        if error is not None:
            await self._roll_back()
            return
        try:
            self._places.reach("before_commit")
            await self._say("COMMIT")
        except BaseException:
            await self._abandon()
            raise
        connection, self._connection = self._opened(), None
        await self._store.give_back(connection)
        self._places.reach("after_commit")

    async def _say(self, sql: str, *args: Any) -> str:
        connection = self._opened()
        try:
            return str(await connection.execute(sql, *args))
        except (exceptions.PostgresError, exceptions.InterfaceError, *AWAY) as error:
            raise translated(error, closed=is_gone(connection)) from error

    async def _roll_back(self) -> None:
        try:
            await self._say("ROLLBACK")
        except (StoreUnavailable, exceptions.InterfaceError):
            # The server rolls back by itself when the connection ends; the caller's own error goes on.
            await self._abandon()
            return
        connection, self._connection = self._opened(), None
        await self._store.give_back(connection)

    async def _abandon(self) -> None:
        """End the connection: the server undoes what it had begun."""
        connection, self._connection = self._connection, None
        if connection is not None:
            end(connection)
            await self._store.give_back(connection)

    def _opened(self) -> Borrowed:
        if self._connection is None:
            raise RuntimeError("not open")
        return self._connection
