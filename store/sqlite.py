"""SQLite: one write connection used inline, and a few read-only ones in threads.

An inline commit costs less than handing it to a thread, and because nothing is awaited between BEGIN and COMMIT no
other coroutine can come between them. Only another process can hold the write lock; then we wait outside of the
transaction, a bounded time.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Final
from urllib.parse import quote

import aiosqlite

from contracts.errors import StoreUnavailable
from contracts.ports import Clock, CrashPoints
from store.statement import Row, Statement
from store.unit import Places, Reader, Refused, Unit

BUSY_MS: Final = 10
"""How long SQLite itself may block the event loop for another process's lock."""
AGAIN_SECONDS: Final = 0.005
PATIENCE_SECONDS: Final = 5.0
SYNCHRONOUS: Final = ("OFF", "NORMAL", "FULL", "EXTRA")
UNSTORABLE: Final = (OverflowError, UnicodeEncodeError)
"""What the driver raises for a number beyond 64 bits and for text with half of a surrogate pair."""
_BUSY: Final = frozenset({sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED})


def is_busy(error: sqlite3.Error) -> bool:
    """Say whether another process held the lock."""
    code: int = getattr(error, "sqlite_errorcode", 0)
    return code & 0xFF in _BUSY


def translated(error: Exception) -> Exception:
    """Return what the store raises for a driver's error."""
    # InterfaceError, ProgrammingError: a value of a type that SQLite has no column for.
    if isinstance(error, (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, *UNSTORABLE)):
        return Refused(str(error))
    if isinstance(error, sqlite3.ProgrammingError) and "binding" in str(error):
        return Refused(str(error))
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.ProgrammingError):
        return StoreUnavailable(f"The database did not answer: {error}")
    return error


class SqliteStore:
    """The connections of one process to one file."""

    def __init__(self, path: str, *, clock: Clock, crash: CrashPoints, synchronous: str, readers: int) -> None:
        """Connect the writer; raise ``StoreUnavailable`` if the file cannot be opened."""
        if path in ("", ":memory:"):
            raise ValueError("readers need a file: sqlite+aiosqlite:///PATH")
        if synchronous.upper() not in SYNCHRONOUS:
            raise ValueError(f"synchronous is one of {', '.join(SYNCHRONOUS)}")
        self.path: Final = Path(path).absolute()
        self.clock: Final = clock
        self.crash: Final = crash
        self._synchronous: Final = synchronous.upper()
        self._wanted: Final = readers
        self._readers: list[aiosqlite.Connection] = []
        self._free: asyncio.Queue[aiosqlite.Connection] = asyncio.Queue()
        self._inside: str | None = None
        self.writer: Final = self._connect()

    async def start(self) -> None:
        """Connect the readers."""
        uri = f"file:{quote(str(self.path))}?mode=ro"
        for _ in range(self._wanted):
            reader = await aiosqlite.connect(uri, uri=True, isolation_level=None, cached_statements=256)
            self._readers.append(reader)
            self._free.put_nowait(reader)

    async def close(self) -> None:
        """Close every connection."""
        for reader in self._readers:
            await reader.close()
        self._readers.clear()
        self.writer.close()

    def unit(self, name: str | None) -> SqliteUnit:
        """Return a write transaction, not yet begun."""
        return SqliteUnit(self, Places(self.crash, name))

    def reader(self) -> SqliteReading:
        """Return a reader over one of the read-only connections."""
        return SqliteReading(self._free)

    def near(self) -> SqliteNear:
        """Return a reader over the write connection: inline, sees every commit of this process at once."""
        return SqliteNear(self)

    def begin(self, who: str) -> None:
        """Begin a write transaction for ``who``; ``sqlite3.OperationalError`` (busy) if another process writes."""
        if self._inside is not None:
            raise RuntimeError(f"{who}: {self._inside} is open; inside a unit only the unit may be awaited")
        self.writer.execute("BEGIN IMMEDIATE")
        self._inside = who

    def commit(self) -> None:
        """Commit; what was begun stays open if that fails."""
        self.writer.execute("COMMIT")
        self._inside = None

    def rollback(self) -> None:
        """Undo everything since ``begin``."""
        self._inside = None
        # Some errors (a full disk) have already rolled back.
        if self.writer.in_transaction:
            self.writer.execute("ROLLBACK")

    def run(self, statement: Statement, params: dict[str, Any]) -> sqlite3.Cursor:
        """Run one statement inline; errors are translated."""
        compiled = statement.sqlite
        try:
            return self.writer.execute(compiled.sql, compiled.bind(params))
        except (sqlite3.Error, *UNSTORABLE) as error:
            raise translated(error) from error

    def _connect(self) -> sqlite3.Connection:
        try:
            writer = sqlite3.connect(self.path, isolation_level=None, timeout=5.0, cached_statements=256)
            for pragma in ("journal_mode=WAL", f"synchronous={self._synchronous}", f"busy_timeout={BUSY_MS}"):
                with closing(writer.execute(f"PRAGMA {pragma}")) as cursor:
                    cursor.fetchall()
        except sqlite3.Error as error:
            raise StoreUnavailable(f"The database {self.path} cannot be opened: {error}") from error
        return writer


class SqliteUnit(Unit):
    """One write transaction on the write connection; its awaits never suspend."""

    dialect = "sqlite"
    __slots__ = ("_places", "_store")

    def __init__(self, store: SqliteStore, places: Places) -> None:
        self._store, self._places = store, places

    async def fetch(self, statement: Statement, **params: Any) -> list[Row]:
        """Run the statement and return its rows."""
        return self._store.run(statement, params).fetchall()

    async def execute(self, statement: Statement, **params: Any) -> int:
        """Run the statement and return the number of rows it changed."""
        count = self._store.run(statement, params).rowcount
        if count < 0:
            # The driver does not count for statements that begin with WITH.
            (count,) = self._store.writer.execute("SELECT changes()").fetchone()
        return count

    async def __aenter__(self) -> SqliteUnit:
        """Begin; wait for another process a bounded time."""
        store = self._store
        deadline = store.clock.monotonic() + PATIENCE_SECONDS
        while True:
            try:
                store.begin("a unit")
                break
            except sqlite3.Error as error:
                if not is_busy(error) or store.clock.monotonic() > deadline:
                    raise translated(error) from error
            await asyncio.sleep(AGAIN_SECONDS)
        self._reach_or_undo("begin")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Commit, or roll back after an exception."""
        if error is not None:
            self._store.rollback()
            return
        self._reach_or_undo("before_commit")
        try:
            self._store.commit()
        except sqlite3.Error as failure:
            self._store.rollback()
            raise translated(failure) from failure
        self._places.reach("after_commit")

    def _reach_or_undo(self, place: str) -> None:
        try:
            self._places.reach(place)
        except BaseException:
            self._store.rollback()
            raise


class SqliteNear(Reader):
    """Short reads by key on the write connection."""

    __slots__ = ("_store",)

    def __init__(self, store: SqliteStore) -> None:
        self._store = store

    async def fetch(self, statement: Statement, **params: Any) -> list[Row]:
        """Run the statement and return its rows."""
        return self._store.run(statement, params).fetchall()

    async def __aenter__(self) -> SqliteNear:
        """Nothing to begin."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to end."""


class SqliteReading(Reader):
    """Reads on a borrowed read-only connection."""

    __slots__ = ("_connection", "_free")

    def __init__(self, free: asyncio.Queue[aiosqlite.Connection]) -> None:
        self._free = free
        self._connection: aiosqlite.Connection | None = None

    async def fetch(self, statement: Statement, **params: Any) -> list[Row]:
        """Run the statement and return its rows."""
        if self._connection is None:
            raise RuntimeError("the reader is not open")
        compiled = statement.sqlite
        try:
            rows: Sequence[Row] = list(await self._connection.execute_fetchall(compiled.sql, compiled.bind(params)))
        except (sqlite3.Error, *UNSTORABLE) as error:
            raise translated(error) from error
        return list(rows)

    async def __aenter__(self) -> SqliteReading:
        """Borrow a connection."""
        self._connection = await self._free.get()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Give it back."""
        if self._connection is not None:
            self._free.put_nowait(self._connection)
            self._connection = None
