"""Nudges between processes on one PostgreSQL: LISTEN/NOTIFY, coalesced, sent after the commit they speak of.

A payload is JSON: ``[sender, [[run id, worker or null], …]]`` on ``flex_runs`` and ``[sender, [[run id, seq], …]]`` on
``flex_events``, always under 8,000 bytes. Any of them may be lost.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any, Final

import orjson
import structlog

from events.local import OnEvents, OnRun
from store.notify import PAYLOAD_BYTES, Notifier

_log = structlog.get_logger(__name__)

RUNS: Final = "flex_runs"
EVENTS: Final = "flex_events"


class PostgresNudge:
    """The ``Nudge`` port over LISTEN/NOTIFY.

    This process is told at once and without the database; the others by batches that are sent one after the other, the
    next when the last one is through and ``pace_seconds`` have passed, so that a busy process sends few and full ones.
    ``sender`` is this process's name: its own notifications are not taken back in.
    """

    def __init__(self, url: str, sender: str, *, pace_seconds: float = 0.005) -> None:
        """Prepare; nothing is sent before :meth:`start`."""
        self._sender = sender
        self._pace_seconds = pace_seconds
        self._notifier = Notifier(url, (RUNS, EVENTS), self._received)
        self._runs: dict[str, str | None] = {}
        self._events: dict[str, int] = {}
        self._waiting = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._on_run: OnRun | None = None
        self._on_events: OnEvents | None = None

    def attach(self, on_run: OnRun, on_events: OnEvents | None = None) -> None:
        """Name who is told: of signals (also this process's own), of events (only other processes')."""
        self._on_run, self._on_events = on_run, on_events

    async def start(self) -> None:
        """Connect, listen and begin to send."""
        await self._notifier.start()
        self._task = asyncio.get_running_loop().create_task(self._send())

    async def close(self) -> None:
        """Stop; what was not sent is lost, as any nudge may be."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None
        await self._notifier.close()

    def run(self, run_id: str, worker: str | None) -> None:
        """Tell this process now and the others with the next batch."""
        self._runs[run_id] = worker
        self._waiting.set()
        if self._on_run is not None:
            self._on_run(run_id, worker)

    def events(self, run_id: str, seq: int) -> None:
        """Tell the others with the next batch; of one run only the highest number."""
        if seq > self._events.get(run_id, 0):
            self._events[run_id] = seq
            self._waiting.set()

    async def _send(self) -> None:
        while True:
            await self._waiting.wait()
            self._waiting.clear()
            runs, self._runs = self._runs, {}
            events, self._events = self._events, {}
            for channel, items in ((RUNS, list(runs.items())), (EVENTS, list(events.items()))):
                for payload in batches(self._sender, items):
                    await self._notifier.send(channel, payload)
            await asyncio.sleep(self._pace_seconds)

    def _received(self, channel: str, payload: str) -> None:
        try:
            sender, items = orjson.loads(payload)
            if sender == self._sender:
                return
            self._dispatch(channel, items)
        except (ValueError, TypeError) as error:
            # Anybody may NOTIFY on these channels; a hint that cannot be read is as good as a lost one.
            _log.warning("nudge_unreadable", channel=channel, error=str(error))

    def _dispatch(self, channel: str, items: list[Any]) -> None:
        if channel == RUNS and self._on_run is not None:
            for run_id, worker in items:
                self._on_run(str(run_id), worker if worker is None else str(worker))
        elif channel == EVENTS and self._on_events is not None:
            for run_id, seq in items:
                self._on_events(str(run_id), int(seq))


def batches(sender: str, items: list[tuple[str, Any]]) -> Iterator[str]:
    """Cut items into payloads of less than ``PAYLOAD_BYTES`` bytes, in order."""
    room = PAYLOAD_BYTES - len(sender) - 8
    chunk: list[bytes] = []
    size = 0
    head = b"[" + orjson.dumps(sender) + b",["
    for item in items:
        encoded = orjson.dumps(item)
        if chunk and size + len(encoded) + 1 > room:
            yield (head + b",".join(chunk) + b"]]").decode()
            chunk, size = [], 0
        chunk.append(encoded)
        size += len(encoded) + 1
    if chunk:
        yield (head + b",".join(chunk) + b"]]").decode()
