"""The journal on SQLite: what was appended in one tick of the loop is one inline transaction at its end."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Sequence
from typing import Final

from contracts.errors import StoreUnavailable
from store import dialect, document_dialect
from store.journal_columns import (
    DOCUMENT,
    Contents,
    birth_row,
    document_came,
    fence_row,
    key_row,
    offspring,
    record_rows,
)
from store.journal_pile import Entry, Fenced, Pile, WriteRefused
from store.journal_points import Points
from store.memory_journal import SqliteMemory
from store.memory_sheet import MemoryRefused
from store.rows import WaitRow
from store.sqlite import AGAIN_SECONDS, UNSTORABLE, SqliteStore, is_busy, translated
from store.unit import Refused

BATCH: Final = 2_000


class SqliteJournal:
    """Flushes the pile inline; while another process writes, it tries again on a later tick."""

    def __init__(self, store: SqliteStore, pile: Pile, birth_seconds: float) -> None:
        self._store, self._pile = store, pile
        self._birth_seconds = birth_seconds
        self._planned: asyncio.Handle | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._rest: list[Entry] = []

    async def start(self) -> None:
        """Begin to take."""
        self._loop = asyncio.get_running_loop()
        if len(self._pile):
            self.wake()

    def wake(self) -> None:
        """Flush at the end of this tick."""
        if self._planned is None and self._loop is not None:
            self._planned = self._loop.call_soon(self._flush)

    async def close(self) -> None:
        """Write what is left, if the database lets us within the time that births have."""
        deadline = self._store.clock.monotonic() + self._birth_seconds
        while (self._rest or len(self._pile)) and self._store.clock.monotonic() < deadline:
            self._flush()
            await asyncio.sleep(AGAIN_SECONDS if self._rest else 0)
        if self._planned is not None:
            self._planned.cancel()
        for entry in (*self._rest, *self._pile.take(len(self._pile))):
            entry.failed(StoreUnavailable())
        self._loop = None

    def _flush(self) -> None:
        self._planned = None
        batch = self._rest or self._pile.take(BATCH)
        self._rest = []
        try:
            self._write(batch)
        except StoreUnavailable as error:
            self._rest = [entry for entry in batch if not entry.settled]
            self._give_up_births(error)
            if self._loop is not None and self._planned is None:
                self._planned = self._loop.call_later(AGAIN_SECONDS, self._flush)
            return
        if len(self._pile):
            self.wake()

    def _give_up_births(self, error: StoreUnavailable) -> None:
        too_old = self._store.clock.monotonic() - self._birth_seconds
        for entry in [entry for entry in self._rest if entry.birth is not None and entry.since <= too_old]:
            entry.failed(error)
        self._rest = [entry for entry in self._rest if not entry.settled]

    def _write(self, entries: Sequence[Entry]) -> None:
        """Write all in one transaction; halve a batch whose data is refused."""
        if not entries:
            return
        try:
            self._transaction(entries)
        except Refused as error:
            if len(entries) == 1:
                entries[0].failed(WriteRefused(str(error)))
                return
            middle = len(entries) // 2
            self._write(entries[:middle])
            self._write(entries[middle:])

    def _transaction(self, entries: Sequence[Entry]) -> None:
        store, points = self._store, Points(self._store.crash, entries)
        try:
            store.begin("the journal")
        except sqlite3.Error as error:
            raise (StoreUnavailable() if is_busy(error) else translated(error)) from error
        try:
            points.begin()
            outcome = Batch(store).write(entries)
            points.before_commit()
            store.commit()
        except (sqlite3.Error, *UNSTORABLE) as error:
            store.rollback()
            raise translated(error) from error
        except BaseException:
            store.rollback()
            raise
        points.after_commit(any(released for released, _ in outcome.passed.values()))
        outcome.tell(entries)


class Outcome:
    """What became of each entry of a transaction: passed, or its key belongs to another run, or fenced."""

    def __init__(self) -> None:
        self.passed: dict[int, tuple[bool, int]] = {}
        self.existing: dict[int, tuple[str, str]] = {}
        self.unkept: dict[int, MemoryRefused] = {}

    def tell(self, entries: Sequence[Entry]) -> None:
        """Resolve the futures, after the commit."""
        for entry in entries:
            if (written := self.passed.get(id(entry))) is not None:
                entry.passed(*written)
            elif (other := self.existing.get(id(entry))) is not None:
                entry.existing(*other)
            elif (why := self.unkept.get(id(entry))) is not None:
                entry.failed(why)
            else:
                entry.failed(Fenced(entry.run_id))


class Batch:
    """The statements of one transaction."""

    def __init__(self, store: SqliteStore) -> None:
        self._run = store.writer.execute
        self._many = store.writer.executemany
        self._now = store.clock.now_ms()
        self._outcome = Outcome()
        self._memory = SqliteMemory(store, self._now)

    def write(self, entries: Sequence[Entry]) -> Outcome:
        """Write the entries that pass; nobody is told yet."""
        contents = Contents()
        for entry in entries:
            if self._birth(entry) if entry.birth is not None else self._remember(entry):
                contents.add(entry, self._now)
                self._spawn(entry, contents)
        self._contents(contents)
        for entry in entries:
            if id(entry) in self._outcome.passed:
                self._mail(entry)
        for entry in entries:
            if entry.terminal and (written := self._outcome.passed.get(id(entry))) is not None:
                if written[1]:  # somebody left it a signal
                    self._run(dialect.LITE_LATE, (entry.run_id,))
                self._run(dialect.LITE_WITHDRAW_ALL, (self._now, entry.run_id))
        return self._outcome

    def _birth(self, entry: Entry) -> bool:
        birth = entry.birth
        if birth is None:
            raise TypeError("not a birth")
        if birth.key is not None and not self._run(dialect.LITE_KEY, (*key_row(birth), self._now)).rowcount:
            who = (birth.run.tenant, birth.run.principal, birth.key)
            run_id, fingerprint = self._run(dialect.LITE_READ_KEY, who).fetchone()
            self._outcome.existing[id(entry)] = (run_id, fingerprint)
            return False
        row = birth_row(entry, birth)
        self._run(dialect.LITE_BIRTH, row)
        self._run(dialect.LITE_ENVELOPE, (entry.run_id, birth.envelope_json))
        if birth.records:
            self._many(dialect.LITE_RECORD, record_rows(birth))
        for wait in sorted(birth.waits):
            self._wait(wait)
        self._outcome.passed[id(entry)] = (row[5] is None, birth.run.inbox)
        return True

    def _remember(self, entry: Entry) -> bool:
        """Let an entry pass its fence and write its memory, or nothing of it at all."""
        if not entry.write.memory:
            return self._fence(entry)
        try:
            staged = self._memory.stage(entry)
        except MemoryRefused as why:
            self._outcome.unkept[id(entry)] = why
            return False
        if passes := self._fence(entry):
            self._memory.keep(staged)
        return passes

    def _wait(self, wait: WaitRow) -> None:
        """Let a new run wait for a document; one that is there by now is told to it at once."""
        at = wait.created_at
        head = self._run(document_dialect.LITE_HEAD, (wait.tenant, wait.story_id, wait.document_id, at)).fetchone()
        if not head[1]:
            self._run(document_dialect.LITE_WAIT, (wait.tenant, wait.story_id, wait.document_id, wait.run_id, at))
            return
        bumped = self._run(dialect.LITE_BUMP, (at, wait.run_id, wait.tenant)).fetchone()
        if bumped is not None:
            told = document_came(wait.document_id, head[0])
            self._run(dialect.LITE_SIGNAL, (wait.run_id, bumped[0], DOCUMENT, told, at))

    def _fence(self, entry: Entry) -> bool:
        found = self._run(dialect.LITE_FENCE, fence_row(entry)).fetchall()
        if not found:
            return False
        self._outcome.passed[id(entry)] = (found[0][0] is None, found[0][1])
        write = entry.write
        if write.forgotten:
            self._many(dialect.LITE_FORGET, [(entry.run_id, node_id) for node_id in write.forgotten])
        if write.withdrawn:
            self._many(dialect.LITE_WITHDRAW, [(self._now, entry.run_id, prompt_id) for prompt_id in write.withdrawn])
        return True

    def _spawn(self, entry: Entry, contents: Contents) -> None:
        """Let the entry's child runs be born; one that is there already was born by an earlier life of its parent."""
        for child in offspring(entry) if entry.write.spawned else ():
            if child.birth is not None and self._run(dialect.LITE_SPAWN, birth_row(child, child.birth)).rowcount:
                self._run(dialect.LITE_ENVELOPE, (child.run_id, child.birth.envelope_json))
                contents.add(child, self._now)

    def _mail(self, entry: Entry) -> None:
        """Leave what the run says to others; what has ended gets no mail."""
        for letter in entry.write.mail:
            at = (letter.created_at, letter.run_id, letter.tenant)
            bumped = self._run(dialect.LITE_BUMP, at).fetchone()
            if bumped is not None:
                given = (letter.run_id, bumped[0], letter.kind, letter.payload_json, letter.created_at)
                self._run(dialect.LITE_SIGNAL, given)

    def _contents(self, contents: Contents) -> None:
        for sql, rows in (
            (dialect.LITE_NODE, contents.nodes),
            (dialect.LITE_EVENT, contents.events),
            (dialect.LITE_PROMPT, contents.prompts),
            (dialect.LITE_PLAN, contents.plan_rows()),
            (dialect.LITE_VERSION, contents.versions),
            (dialect.LITE_HISTORY, contents.history),
            (dialect.LITE_ANSWER, [(outcome, run_id, signal_id) for run_id, signal_id, outcome in contents.answered]),
        ):
            if rows:
                self._many(sql, rows)
