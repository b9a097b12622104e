"""The live feed: committed frames to every viewer of a run, in order and without a gap (F9).

The event log is the truth. What is published here only saves viewers from reading it: a viewer takes a frame only when
its number is the next one, and reads the log whenever it is not, or when its bounded buffer is full. So a lost, doubled
or late publication costs a query, never a frame.

Cost: nothing for a run that nobody watches; one encoded ``bytes`` object shared by all viewers of a run; one query per
tick and process over all watched runs, not one per viewer.
"""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog

from contracts.errors import StoreUnavailable
from contracts.events import Frame
from events.watch import Limits, Reader, Watch
from store.connect import Database
from store.events import events_after, last_seqs

_log = structlog.get_logger(__name__)

NEWBORN: Final = 256
"""Births whose first frames are kept for their first viewer, who then need not wait for the database."""


@dataclass(slots=True)
class _Topic:
    """A watched run of this process: its viewers, the highest number heard of, and whether the log is being read.

    Viewers keep the order in which they came, so that who hears first does not hang on addresses in memory.
    """

    tenant: str
    watches: dict[Watch, None] = field(default_factory=dict)
    head: int = 0
    pulling: bool = False


class Feed:
    """Hands committed frames to the viewers of this process.

    ``tick_seconds`` is how often the logs of all watched runs are looked at, for nudges that were lost.
    """

    def __init__(self, database: Database, *, limits: Limits | None = None, tick_seconds: float = 1.0) -> None:
        """Start with no viewer; the ticker runs only while there is one."""
        self._database = database
        self._limits = limits or Limits()
        self._tick_seconds = tick_seconds
        self._topics: dict[str, _Topic] = {}
        self._newborn: OrderedDict[str, tuple[Frame, ...]] = OrderedDict()
        self._ticker: asyncio.Task[None] | None = None
        self._pulls: set[asyncio.Task[None]] = set()
        self._observer: Callable[[Sequence[Frame]], None] | None = None
        self.closing = False

    @property
    def viewers(self) -> int:
        """Return how many viewers are attached now."""
        return sum(len(topic.watches) for topic in self._topics.values())

    def observe(self, observer: Callable[[Sequence[Frame]], None]) -> None:
        """Name who else hears of every frame that this process committed (metrics)."""
        self._observer = observer

    def publish(self, run_id: str, frames: Sequence[Frame]) -> None:
        """Hand out frames that are committed, in order. Called by the run's holder right after its commit."""
        topic = self._topics.get(run_id)
        if topic is not None:
            for watch in topic.watches:
                watch.offer(frames)
        elif frames and frames[0].seq == 1:
            self._newborn[run_id] = tuple(frames)
            if len(self._newborn) > NEWBORN:
                self._newborn.popitem(last=False)
        if self._observer is not None:
            self._observer(frames)

    def ended(self, run_id: str) -> None:
        """Take the holder's word that it lets go of the run; what is kept for its first viewer is dropped."""
        self._newborn.pop(run_id, None)

    def publish_ephemeral(self, run_id: str, frame: Frame) -> None:
        """Hand a frame without a number (``node_delta``) to the viewers that are up to date; nobody else gets it."""
        topic = self._topics.get(run_id)
        if topic is not None:
            for watch in topic.watches:
                watch.offer((frame,))

    def announced(self, run_id: str, seq: int) -> None:
        """Take another process's word that the run's log ends at ``seq`` now; it is read once for all its viewers."""
        topic = self._topics.get(run_id)
        if topic is None or (seq <= topic.head and topic.pulling):
            return
        topic.head = max(topic.head, seq)
        if not topic.pulling and _lagging(topic):
            topic.pulling = True
            task = asyncio.get_running_loop().create_task(self._pull(run_id, topic))
            self._pulls.add(task)
            task.add_done_callback(self._pulls.discard)

    def watch(self, tenant: str, run_id: str, after: int) -> Watch:
        """Attach a viewer that has everything up to ``after``. The caller has checked that the run is the tenant's."""
        topic = self._topics.get(run_id)
        if topic is None:
            topic = self._topics[run_id] = _Topic(tenant)
        watch = Watch(
            _reader(self._database, tenant, run_id), after, self._limits, lambda gone: self._detach(run_id, gone)
        )
        watch.seed(self._newborn.pop(run_id, ()))
        topic.watches[watch] = None
        if self.closing:
            watch.stop()
        elif self._ticker is None:
            self._ticker = asyncio.get_running_loop().create_task(self._ticks())
        return watch

    async def follow(self, tenant: str, run_id: str, after: int) -> AsyncIterator[Frame]:
        """Yield committed frames after ``after`` in order without a gap, live ones included, up to the terminal one.

        It ends early, without a terminal frame, only when the feed is closed.
        """
        watch = self.watch(tenant, run_id, after)
        try:
            while batch := await watch.batch():
                for frame in batch:
                    yield frame
        finally:
            watch.close()

    async def tick(self) -> None:
        """Look once at the logs of all watched runs, for what no nudge told."""
        asked = dict(self._topics)
        try:
            heads = await last_seqs(self._database, list(asked))
        except StoreUnavailable:
            _log.warning("feed_tick_failed", watched=len(self._topics))
            return
        for run_id, seq in heads.items():
            self.announced(run_id, seq)
        for run_id in asked.keys() - heads.keys():
            # Retention has pruned it under its viewers: the rest of its frames will never come.
            for watch in tuple(asked[run_id].watches):
                watch.stop()
        for topic in self._topics.values():
            for watch in topic.watches:
                watch.retry()

    def close(self) -> None:
        """Let every viewer end after what it already has (drain); publishing goes on to cost nothing."""
        self.closing = True
        for topic in self._topics.values():
            for watch in topic.watches:
                watch.stop()
        for task in (self._ticker, *self._pulls):
            if task is not None:
                task.cancel()
        self._ticker = None

    def _detach(self, run_id: str, watch: Watch) -> None:
        topic = self._topics.get(run_id)
        if topic is not None:
            topic.watches.pop(watch, None)
            if not topic.watches:
                del self._topics[run_id]

    async def _ticks(self) -> None:
        while self._topics:
            await asyncio.sleep(self._tick_seconds)
            await self.tick()
        self._ticker = None

    async def _pull(self, run_id: str, topic: _Topic) -> None:
        read = _reader(self._database, topic.tenant, run_id)
        try:
            while lagging := _lagging(topic):
                frames = await read(min(watch.tail for watch in lagging), self._limits.page)
                if not frames:
                    topic.head = 0  # the word was wrong, or the run is gone
                    return
                for watch in tuple(topic.watches):
                    watch.offer(frames)
        except StoreUnavailable:
            _log.warning("feed_read_failed", run_id=run_id)  # the next tick tries again
        finally:
            topic.pulling = False


def _lagging(topic: _Topic) -> list[Watch]:
    return [watch for watch in topic.watches if watch.live and watch.tail < topic.head]


def _reader(database: Database, tenant: str, run_id: str) -> Reader:
    async def read(after: int, limit: int) -> list[Frame]:
        rows = await events_after(database, tenant, run_id, after, limit)
        return [Frame(row.seq, row.type, row.data) for row in rows]

    return read
