"""The journal on PostgreSQL: one connection of its own, one statement per batch.

A batch that needs rows to be deleted or prompts to be closed takes the careful way: a transaction of a few set-wise
statements, locking prompts before runs as everybody does. A connection that is lost in a commit leaves entries
``uncertain``: they are read back, and a repeated one whose fence fails is read back again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final

from contracts.errors import StoreUnavailable
from store.journal_pile import Entry, Pile
from store.journal_session import Session
from store.postgres import PostgresStore

BATCH: Final = 500
BACKOFF_SECONDS: Final = (0.02, 0.05, 0.1, 0.2, 0.5)
CLOSE_SECONDS: Final = 10.0


class PostgresJournal:
    """Takes the pile in batches; keeps a batch and tries again while the server is away."""

    def __init__(self, store: PostgresStore, pile: Pile, birth_seconds: float) -> None:
        self._store, self._pile, self._birth_seconds = store, pile, birth_seconds
        self._ready = asyncio.Event()
        self._closing = False
        self._task: asyncio.Task[None] | None = None
        self._session: Session | None = None
        self._batch: list[Entry] = []

    async def start(self) -> None:
        """Connect and begin to take."""
        self._session = Session(self._store, await self._store.connect())
        self._task = asyncio.create_task(self._take(), name="journal")

    def wake(self) -> None:
        """Something was added."""
        self._ready.set()

    async def close(self) -> None:
        """Write what is left, a bounded time, and disconnect."""
        self._closing = True
        self._ready.set()
        if self._task is not None:
            await asyncio.wait([self._task], timeout=CLOSE_SECONDS)
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        for entry in (*self._batch, *self._pile.take(len(self._pile))):
            if not entry.settled:
                entry.failed(StoreUnavailable("The journal was closed before the database answered."))
        await self._disconnect()

    async def _disconnect(self) -> None:
        session, self._session = self._session, None
        if session is not None:
            await session.close()

    async def _take(self) -> None:
        while True:
            if not len(self._pile):
                if self._closing:
                    return
                self._ready.clear()
                await self._ready.wait()
                continue
            self._batch = self._pile.take(BATCH)
            await self._insist()
            self._batch = []

    async def _insist(self) -> None:
        """Try until every entry of the batch is settled."""
        tries = 0
        while self._batch:
            try:
                await self._attempt()
                tries = 0
            except StoreUnavailable as error:
                await self._disconnect()
                self._give_up_births(error)
                await asyncio.sleep(BACKOFF_SECONDS[min(tries, len(BACKOFF_SECONDS) - 1)])
                tries += 1
            except Exception as error:  # noqa: BLE001 - a bug: everybody who waits is told, and the journal goes on
                await self._disconnect()
                for entry in self._batch:
                    if not entry.settled:
                        entry.failed(error)
            self._batch = [entry for entry in self._batch if not entry.settled]

    async def _attempt(self) -> None:
        if self._session is None:
            self._session = Session(self._store, await self._store.connect())
            await self._session.read_back([entry for entry in self._batch if entry.uncertain and entry.birth is None])
        await self._session.write(_leaders([entry for entry in self._batch if not entry.settled]))

    def _give_up_births(self, error: StoreUnavailable) -> None:
        """Fail births that waited too long and surely are not in."""
        too_old = self._store.clock.monotonic() - self._birth_seconds
        mine = [entry for entry in self._batch if _hopeless(entry, too_old)]
        waiting = [entry for entry in self._pile if _hopeless(entry, too_old)]
        self._pile.remove(waiting)
        for entry in (*mine, *waiting):
            entry.failed(error)


def _hopeless(entry: Entry, too_old: float) -> bool:
    return entry.birth is not None and not entry.uncertain and not entry.settled and entry.since <= too_old


def _leaders(entries: Sequence[Entry]) -> list[Entry]:
    """Return the entries with one birth per idempotency key; the others of that key follow it."""
    leaders: list[Entry] = []
    by_key: dict[tuple[str, str, str], Entry] = {}
    for entry in entries:
        entry.followers = []
        if entry.birth is None or entry.birth.key is None:
            leaders.append(entry)
            continue
        key = (entry.birth.run.tenant, entry.birth.run.principal, entry.birth.key)
        leader = by_key.setdefault(key, entry)
        (leaders if leader is entry else leader.followers).append(entry)
    return leaders
