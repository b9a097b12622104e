"""Runs written through the journal, frame by frame, as a holder would."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from contracts.access import DEFAULT_TENANT
from contracts.events import Cancelled, Complete, Event, Failed, Frame, Log, RunWaiting, Start, encode
from store.connect import Database
from store.journal import Journal
from store.rows import Birth, EventRow, RunRow, RunWrite

AT = 1_767_603_600_000
_numbers = itertools.count(1)


class Wall:
    """The real clock."""

    def now_ms(self) -> int:
        return int(time.time() * 1_000)

    def monotonic(self) -> float:
        return time.monotonic()


class LoggedRun:
    """A run whose log grows by what the test says."""

    def __init__(self, journal: Journal, tenant: str = DEFAULT_TENANT) -> None:
        self._journal = journal
        self.tenant = tenant
        self.run_id = f"run_{next(_numbers):06}"
        self.seq = 0
        self.frames: list[Frame] = []

    def _event(self, event: Event) -> EventRow:
        self.seq += 1
        data = encode(event, seq=self.seq, at_ms=AT, run_id=self.run_id, correlation_id="cid-01", node_id=None)
        self.frames.append(Frame(self.seq, event.type, data))
        return EventRow(self.seq, event.type, None, data)

    async def born(self) -> list[Frame]:
        """Commit the run with its first frame."""
        rows = [self._event(Start("Something", "hash", {"events": "…"}))]
        run = RunRow(
            run_id=self.run_id, tenant=self.tenant, principal="user:local", status="running", waiting_on_json="[]",
            worker="wrk_1", epoch=1, last_seq=1, inbox=0, seen=0, wake_at=None, plan_version=1, plan_hash=None,
            correlation_id="cid-01", objective="Something", contract_hash="hash", ledger_json="{}", created_at=AT,
            started_at=AT,
        )  # fmt: skip
        await self._journal.birth(Birth(run, "{}", self._write(0, rows, "running")))
        return self.frames[-1:]

    async def grow(self, *events: Event) -> list[Frame]:
        """Commit more frames; a terminal one ends the run."""
        before = self.seq
        rows = [self._event(event) for event in events]
        status = {Complete: "completed", Failed: "failed", Cancelled: "cancelled", RunWaiting: "waiting"}.get(
            type(events[-1]), "running"
        )
        await self._journal.append(self._write(before, rows, status))
        return self.frames[before:]

    async def log(self, text: str) -> list[Frame]:
        """Commit one ``log`` frame."""
        return await self.grow(Log("info", text))

    async def end(self, output: object = None) -> list[Frame]:
        """Commit the terminal frame."""
        return await self.grow(Complete(output, 1, 0, {"tokens": 0, "cost": 0}))

    def _write(self, before: int, rows: list[EventRow], status: str) -> RunWrite:
        return RunWrite(
            run_id=self.run_id, tenant=self.tenant, epoch=1, before_seq=before, after_seq=self.seq, status=status,
            started_at=AT, ended_at=AT + 1 if status in ("completed", "failed", "cancelled") else None, events=rows,
        )  # fmt: skip


@asynccontextmanager
async def open_log(url: str) -> AsyncIterator[tuple[Database, Journal]]:
    """A database with a journal that writes."""
    database = await Database.open(url, clock=Wall())
    journal = Journal(database)
    await journal.start()
    try:
        yield database, journal
    finally:
        await journal.close()
        await database.close()


async def until(condition: Callable[[], bool], *, turns: int = 5_000) -> None:
    """Let the loop turn until ``condition`` holds."""
    for _ in range(turns):
        if condition():
            return
        await asyncio.sleep(0.001)
    raise AssertionError("it never came true")
