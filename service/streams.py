"""Watching a run: which frames a viewer gets, when there is nothing left to send, and how a stream ends early (F9)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import Final

import orjson

from contracts.access import Principal
from contracts.errors import ServerBusy
from contracts.events import Frame, RunWaiting, StreamEnd, encode
from contracts.lifecycle import RUN_TERMINAL, RunStatus, WaitingOn
from contracts.ports import Clock
from events.feed import Feed
from service.gone import gone_or_missing
from store.connect import Database
from store.events import events_after
from store.rows import RunRow
from store.runs import run_row

_STAYS: Final = frozenset({WaitingOn.HITL.value, WaitingOn.DOCUMENTS.value, WaitingOn.PAUSED.value})
"""What a run waits for that does not come by itself: whoever waits for its end is told at once."""


@dataclass(frozen=True, slots=True)
class EventPage:
    """Frames as JSON bytes, the number to ask for next, and whether the terminal frame has been read."""

    items: list[bytes]
    next_after: int
    terminal: bool


class Stream:
    """One viewer's stream of one run. Attaches to the feed when it is first read, detaches when it is closed."""

    def __init__(self, streams: Streams, tenant: str, run_id: str, correlation_id: str, after: int) -> None:
        """Remember what to follow; nothing is held before :meth:`batches` runs."""
        self._streams = streams
        self._tenant = tenant
        self._after = after
        self.clock = streams.clock
        self.run_id = run_id
        self.correlation_id = correlation_id
        self.over = False
        """Whether the terminal frame was handed out."""

    async def batches(self) -> AsyncGenerator[list[Frame], None]:
        """Yield frames in order as they come, several at once when several are there; end after the terminal one.

        When the process drains, it ends early with ``over`` still False.
        """
        streams = self._streams
        watch = streams.feed.watch(self._tenant, self.run_id, self._after)
        streams.open_streams += 1
        try:
            while batch := await watch.batch():
                self.over = watch.over
                yield batch
        finally:
            streams.open_streams -= 1
            watch.close()

    def ending(self, reason: str) -> Frame:
        """Return the ``stream_end`` frame that closes this stream early (``draining`` or ``slow_viewer``)."""
        data = encode(
            StreamEnd(reason),
            seq=None,
            at_ms=self.clock.now_ms(),
            run_id=self.run_id,
            correlation_id=self.correlation_id,
            node_id=None,
        )
        return Frame(None, StreamEnd.type, data)


class Streams:
    """The use cases of watching. ``max_streams`` bounds the streams of this process (503 beyond)."""

    def __init__(self, database: Database, feed: Feed, clock: Clock, *, max_streams: int = 10_000) -> None:
        """Take what is needed; ``open_streams`` is how many are attached now."""
        self._database = database
        self._max_streams = max_streams
        self.feed = feed
        self.clock = clock
        self.open_streams = 0

    def check_staying(self) -> None:
        """Raise :class:`ServerBusy` when this process is going down."""
        if self.feed.closing:
            raise ServerBusy("This process is going down; connect again.", retry_after=1)

    def admit(self) -> None:
        """Raise :class:`ServerBusy` when this process serves as many streams as it may, or is going down."""
        self.check_staying()
        if self.open_streams >= self._max_streams:
            raise ServerBusy("This process serves as many streams as it may.", retry_after=2)

    def born(self, principal: Principal, run_id: str, correlation_id: str, after: int = 0) -> Stream:
        """Return the stream of a run that this caller has just started: nothing to check."""
        return Stream(self, principal.tenant, run_id, correlation_id, after)

    async def attach(self, principal: Principal, run_id: str, after: int) -> Stream | None:
        """Return a stream of what follows ``after``; None when that is at or past the terminal frame.

        A number beyond the log counts as its end. Raises ``RunNotFound``, ``RunPruned``, :class:`ServerBusy`.
        """
        self.admit()
        row = await self._row(principal, run_id)
        if _ended(row) and after >= row.last_seq:
            return None
        return Stream(self, principal.tenant, run_id, row.correlation_id, min(after, row.last_seq))

    async def page(self, principal: Principal, run_id: str, after: int, limit: int) -> EventPage | None:
        """Return at most ``limit`` committed frames after ``after``; None at or past the terminal frame.

        Raises ``RunNotFound``, ``RunPruned``.
        """
        row = await self._row(principal, run_id)
        if _ended(row) and after >= row.last_seq:
            return None
        after = min(after, row.last_seq)
        rows = await events_after(self._database, principal.tenant, run_id, after, limit)
        frames = [Frame(event.seq, event.type, event.data) for event in rows]
        return EventPage(
            items=[frame.data for frame in frames],
            next_after=rows[-1].seq if rows else after,
            terminal=bool(frames) and frames[-1].terminal,
        )

    async def settled(self, principal: Principal, run_id: str, seconds: float) -> None:
        """Wait until the run ended or waits for what does not come by itself (:func:`stays`), ``seconds`` at most."""
        watch = self.feed.watch(principal.tenant, run_id, 0)
        try:
            async with asyncio.timeout(seconds):
                while batch := await watch.batch():
                    if batch[-1].terminal or stays(batch[-1]):
                        return
        except TimeoutError:
            return
        finally:
            watch.close()

    async def _row(self, principal: Principal, run_id: str) -> RunRow:
        row = await run_row(self._database, principal.tenant, run_id)
        if row is None:
            raise await gone_or_missing(self._database, principal.tenant, run_id)
        return row


def stays(frame: Frame) -> bool:
    """Say whether a frame tells that the run waits for people, documents, or somebody who lets it go on."""
    if frame.type != RunWaiting.type:
        return False
    return not _STAYS.isdisjoint(orjson.loads(frame.data)["payload"]["waiting_on"])


def _ended(row: RunRow) -> bool:
    return RunStatus(row.status) in RUN_TERMINAL
