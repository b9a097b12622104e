"""The real store on SQLite, one file in memory per simulation, and the line between a process and its database.

Reads run inline instead of in threads, so that a seed decides what comes first. A *near* database answers at once, as
SQLite does; a *far* one is as a server is: reads, begins of transactions and commits take time on the way, may fail on
the way there, and a commit may be done although its answer was lost.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import sqlite3
import tempfile
from asyncio import Future
from collections import deque
from contextlib import closing
from functools import cache
from pathlib import Path
from types import TracebackType
from typing import Any, Generic, TypeVar

from contracts.errors import StoreUnavailable
from contracts.ports import Clock, CrashPoints
from store.connect import Database
from store.journal import BIRTH_SECONDS
from store.journal_pile import Pile
from store.journal_sqlite import SqliteJournal
from store.migrate import upgrade
from store.rows import Birth, Born, RunWrite, Written
from store.sqlite import SqliteStore
from store.statement import Row, Statement
from store.unit import Opening, Reader, Unit

T = TypeVar("T")
R = TypeVar("R", bound=Reader)

CHANGES = {
    "runs": ("run_id", ("status", "worker", "epoch", "last_seq", "inbox", "wake_at")),
    "nodes": ("run_id || '/' || NEW.node_id", ("status", "attempt", "generation", "output_json")),
    "prompts": ("prompt_id", ("status", "decision_json")),
}
"""What the file itself notes of every UPDATE, in the update's own transaction: table → key, columns."""


def _watch(connection: sqlite3.Connection) -> None:
    """Have the database note every change, so that no code of the product can change a row unseen."""
    for table, (key, names) in CHANGES.items():
        before = ", ".join(f"old_{name}" for name in names)
        after = ", ".join(f"new_{name}" for name in names)
        values = ", ".join([*(f"OLD.{name}" for name in names), *(f"NEW.{name}" for name in names)])
        connection.execute(f"CREATE TABLE changes_of_{table} (n INTEGER PRIMARY KEY, key, {before}, {after})")
        connection.execute(
            f"CREATE TRIGGER note_{table} AFTER UPDATE ON {table} BEGIN"
            f" INSERT INTO changes_of_{table} VALUES (NULL, NEW.{key}, {values}); END"
        )


def memory() -> Path | None:
    """A directory that lives in memory, where there is one."""
    shared = Path("/dev/shm")  # noqa: S108  # only a place for directories with names of their own
    return shared if shared.is_dir() else None


@cache
def template() -> bytes:
    """A migrated and watched database as bytes; made once per process."""
    with tempfile.TemporaryDirectory(dir=memory()) as place:
        path = Path(place) / "template.db"
        upgrade(f"sqlite+aiosqlite:///{path}")
        with closing(sqlite3.connect(path, isolation_level=None)) as connection:
            _watch(connection)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return path.read_bytes()


class File:
    """One simulation's database file, and a connection that looks past the service."""

    def __init__(self) -> None:
        self._place = tempfile.mkdtemp(prefix="simulation-", dir=memory())
        self.path = Path(self._place) / "flex.db"
        self.path.write_bytes(template())
        self.raw = sqlite3.connect(self.path, isolation_level=None)

    def rows(self, sql: str, *params: Any) -> list[tuple[Any, ...]]:
        """Read rows; the statement is the test's own."""
        return self.raw.execute(sql, params).fetchall()

    def close(self) -> None:
        self.raw.close()
        shutil.rmtree(self._place)


class Line:
    """The way between one process and the database. ``far``: it takes time. ``down``: nothing gets through."""

    def __init__(self, chance: random.Random, *, far: bool) -> None:
        self._chance, self.far = chance, far
        self.down = False
        self.lossy = 0.0
        """how often an answer is lost on the way back"""

    def seconds(self) -> float:
        """How long one way takes this time."""
        draw = self._chance.random()
        return draw * 0.004 if draw < 0.95 else draw * 0.2

    async def there(self) -> None:
        """Travel to the database."""
        if self.far:
            await asyncio.sleep(self.seconds())
            if self.down:
                raise StoreUnavailable

    async def back(self) -> None:
        """Travel back with the answer of a commit."""
        if self.far:
            await asyncio.sleep(self.seconds())
            if self.down or self._chance.random() < self.lossy:
                raise StoreUnavailable

    def busy(self) -> bool:
        """Say whether the write lock cannot be had just now."""
        return self.down or (self.lossy > 0 and self._chance.random() < self.lossy)


class SharedFile(SqliteStore):
    """The store's own connection, without reader threads; the lock is sometimes somebody else's."""

    def __init__(self, path: Path, line: Line, clock: Clock, crash: CrashPoints) -> None:
        super().__init__(str(path), clock=clock, crash=crash, synchronous="OFF", readers=0)
        self._line = line

    def begin(self, who: str) -> None:
        if self._line.busy():
            error = sqlite3.OperationalError("database is locked")
            error.sqlite_errorcode = sqlite3.SQLITE_BUSY
            raise error
        super().begin(who)


class LineDatabase(Database):
    """The real ``Database`` at the other end of a line."""

    def __init__(self, backend: SharedFile, line: Line) -> None:
        super().__init__(backend)
        self.line = line

    def unit(self, name: str | None = None) -> Opening[Unit]:
        return _FarUnit(super().unit(name), self.line) if self.line.far else super().unit(name)

    def reader(self) -> Opening[Reader]:
        return self.near()

    def near(self) -> Opening[Reader]:
        return _FarReader(super().near(), self.line) if self.line.far else super().near()


class _Far(Generic[R]):
    def __init__(self, opening: Opening[R], line: Line) -> None:
        self._opening, self._line = opening, line


class _FarUnit(_Far[Unit]):
    async def __aenter__(self) -> Unit:
        await self._line.there()
        return await self._opening.__aenter__()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> bool | None:
        held = await self._opening.__aexit__(kind, error, trace)
        if error is None:
            await self._line.back()
        return held


class _FarReader(_Far[Reader], Reader):
    """Every statement travels, and sees what is committed when it arrives."""

    async def fetch(self, statement: Statement, **params: Any) -> list[Row]:
        await self._line.there()
        reader = await self._opening.__aenter__()
        return await reader.fetch(statement, **params)

    async def __aenter__(self) -> Reader:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Nothing to end."""


class _FarFlusher(SqliteJournal):
    """A batch is sent, and the next one only when the answer to the last one is there."""

    def __init__(self, store: SharedFile, pile: Pile, line: Line, journal: FarJournal) -> None:
        super().__init__(store, pile, BIRTH_SECONDS)
        self._line, self._journal = line, journal
        self._answering = False

    def wake(self) -> None:
        if not self._answering and self._planned is None and self._loop is not None:
            self._planned = self._loop.call_later(self._line.seconds(), self._flush)

    def _flush(self) -> None:
        self._answering = True
        super()._flush()
        if self._loop is not None:
            self._loop.call_later(self._line.seconds(), self._answer)

    def _answer(self) -> None:
        self._answering = False
        self._journal.tell()
        if len(self._pile):
            self.wake()


class FarJournal:
    """Does what ``store.journal.Journal`` promises, over a line."""

    def __init__(self, store: SharedFile, line: Line) -> None:
        self._pile = Pile()
        self._clock = store.clock
        self._flusher = _FarFlusher(store, self._pile, line, self)
        self._asked: deque[tuple[Future[Any], Future[Any]]] = deque()
        self._open = False

    async def start(self) -> None:
        await self._flusher.start()
        self._open = True

    async def close(self) -> None:
        self._open = False
        await self._flusher.close()
        self.tell()

    def append(self, write: RunWrite) -> Future[Written]:
        written, told = self._ask()
        if self._open:
            self._pile.add_write(write, written, self._clock.monotonic())
            self._flusher.wake()
        else:
            told.set_exception(StoreUnavailable("The journal is closed."))
        return told

    def birth(self, birth: Birth) -> Future[Born]:
        born, told = self._ask()
        if self._open:
            self._pile.add_birth(birth, born, self._clock.monotonic())
            self._flusher.wake()
        else:
            told.set_exception(StoreUnavailable("The journal is closed."))
        return told

    def tell(self) -> None:
        """Hand on the answers that have come, in the order in which they were asked for."""
        waiting: deque[tuple[Future[Any], Future[Any]]] = deque()
        for known, told in self._asked:
            if not known.done():
                waiting.append((known, told))
            elif not told.done():
                error = known.exception()
                if error is None:
                    told.set_result(known.result())
                else:
                    told.set_exception(error)
        self._asked = waiting

    def _ask(self) -> tuple[Future[Any], Future[Any]]:
        loop = asyncio.get_running_loop()
        pair = (loop.create_future(), loop.create_future())
        self._asked.append(pair)
        return pair
