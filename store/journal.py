"""The journal: group commit of transitions and births, one flusher per process (design §4).

What is appended together is committed together; a future resolves after the commit, never before.
"""

from __future__ import annotations

import asyncio
from asyncio import Future
from typing import Final

from contracts.errors import StoreUnavailable
from store.connect import Database
from store.journal_pile import Fenced, Pile, WriteRefused
from store.journal_postgres import PostgresJournal
from store.journal_sqlite import SqliteJournal
from store.postgres import PostgresStore
from store.rows import Birth, Born, RunWrite, Written

__all__ = ["Fenced", "Journal", "WriteRefused"]

BIRTH_SECONDS: Final = 5.0
"""How long a birth may wait for a database that is away before its caller is told."""


class Journal:
    """Takes appends from the holder of a run and writes them in batches under each run's fence.

    A :class:`~store.rows.RunWrite` or :class:`~store.rows.Birth` that was handed in belongs to the journal: hand in
    rows that nobody changes afterwards. Errors on the future of a write: :class:`Fenced`, :class:`WriteRefused`; while
    the database is away it is kept and tried again. Of a birth: ``WriteRefused``, and ``StoreUnavailable`` after
    ``birth_seconds`` with nothing written. A birth that was on its way when the connection broke is not given up: it
    waits until it can be read back. After :meth:`close` whatever could not be written gets ``StoreUnavailable``.
    """

    def __init__(self, database: Database, *, birth_seconds: float = BIRTH_SECONDS) -> None:
        """Prepare; :meth:`start` begins to write."""
        self._clock: Final = database.clock
        self._pile: Final = Pile()
        self._open = False
        backend = database.backend
        self._flusher: Final[PostgresJournal | SqliteJournal] = (
            PostgresJournal(backend, self._pile, birth_seconds)
            if isinstance(backend, PostgresStore)
            else SqliteJournal(backend, self._pile, birth_seconds)
        )

    async def start(self) -> None:
        """Begin to write; raise ``StoreUnavailable`` if the database does not answer."""
        await self._flusher.start()
        self._open = True

    async def close(self) -> None:
        """Write what is left and stop."""
        self._open = False
        await self._flusher.close()

    def append(self, write: RunWrite) -> Future[Written]:
        """Commit one or more transitions of a run that this process holds."""
        written: Future[Written] = asyncio.get_running_loop().create_future()
        if not self._open:
            written.set_exception(StoreUnavailable("The journal is closed."))
            return written
        self._pile.add_write(write, written, self._clock.monotonic())
        self._flusher.wake()
        return written

    def birth(self, birth: Birth) -> Future[Born]:
        """Accept a run: its row, envelope, key and first transition, all or nothing."""
        born: Future[Born] = asyncio.get_running_loop().create_future()
        if not self._open:
            born.set_exception(StoreUnavailable("The journal is closed."))
            return born
        self._pile.add_birth(birth, born, self._clock.monotonic())
        self._flusher.wake()
        return born
