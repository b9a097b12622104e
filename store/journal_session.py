"""One connection of the PostgreSQL journal: how a batch becomes statements, and what their rows mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

import asyncpg
from asyncpg import exceptions
from asyncpg.prepared_stmt import PreparedStatement

from contracts.errors import StoreUnavailable
from store import dialect, document_dialect
from store.journal_columns import DOCUMENT, Rows, document_came, offspring, parts_of, wait_rows
from store.journal_pile import Entry, Fenced, WriteRefused, reaches_out
from store.journal_points import Points
from store.memory_journal import PostgresMemory
from store.memory_sheet import MemoryRefused
from store.postgres import AWAY, Connection, PostgresStore, is_gone, translated
from store.unit import Refused

CLOSE_SECONDS: Final = 2.0


class Session:
    """A connection with its prepared statements; dropped after any failure of the connection."""

    def __init__(self, store: PostgresStore, connection: Connection) -> None:
        self._store, self._connection = store, connection
        self._prepared: dict[str, PreparedStatement[asyncpg.Record]] = {}

    async def close(self) -> None:
        """Disconnect."""
        try:
            await self._connection.close(timeout=CLOSE_SECONDS)
        except (*AWAY, exceptions.InterfaceError):
            self._connection.terminate()

    async def write(self, entries: Sequence[Entry]) -> None:
        """Settle every entry, except births that must be tried again.

        Raises:
            StoreUnavailable: the connection is lost; entries that may be in are marked uncertain.
        """
        await self._halving([entry for entry in entries if not _takes_care(entry)], careful=False)
        rest = [entry for entry in entries if not entry.settled and (entry.birth is None or _takes_care(entry))]
        await self._halving(rest, careful=True)

    async def read_back(self, entries: Sequence[Entry]) -> None:
        """Settle those that turn out to be committed: their last event is in, under their own epoch."""
        if not entries:
            return
        rows = await self._fetch(dialect.PG_READ_BACK, [entry.run_id for entry in entries])
        found = {row[0]: row for row in rows}
        for entry in entries:
            row = found.get(entry.run_id)
            if row is None or _is_of_another(entry, row):
                continue
            if row[1] == entry.write.epoch and row[2] == entry.write.after_seq:
                _pass(entry, row[3], row[4])

    async def _halving(self, entries: Sequence[Entry], *, careful: bool) -> None:
        """Write all at once; halve a batch whose data is refused."""
        if not entries:
            return
        try:
            await (self._carefully(entries) if careful else self._plainly(entries))
        except Refused as error:
            if len(entries) == 1:
                entries[0].failed(WriteRefused(str(error)))
                return
            middle = len(entries) // 2
            await self._halving(entries[:middle], careful=careful)
            await self._halving(entries[middle:], careful=careful)

    async def _plainly(self, entries: Sequence[Entry]) -> None:
        points = Points(self._store.crash, entries)
        points.begin()
        parts = parts_of(entries, self._store.clock.now_ms())
        points.before_commit()
        if is_gone(self._connection):
            # Nothing is sent, so there is nothing to doubt: births may be given up.
            raise StoreUnavailable
        try:
            passed = await self._group(parts, careful=False)
        except StoreUnavailable:
            _doubt(entries)
            raise
        points.after_commit(any(released for released, _ in passed.values()))
        await self._tell(entries, passed, ends_again=True)

    async def _carefully(self, entries: Sequence[Entry]) -> None:
        """Write in a transaction: close prompts, delete nodes, answer the signals of runs that end, mail other runs."""
        points, now = Points(self._store.crash, entries), self._store.clock.now_ms()
        await self._fetch("BEGIN")
        try:
            points.begin()
            passed, unkept = await self._in_transaction(entries, now)
            points.before_commit()
        except Refused:
            await self._fetch("ROLLBACK")
            raise
        try:
            await self._fetch("COMMIT")
        except StoreUnavailable:
            _doubt(entries)
            raise
        points.after_commit(any(released for released, _ in passed.values()))
        for entry in entries:
            if entry.run_id in unkept:
                entry.failed(unkept[entry.run_id])
        await self._tell([entry for entry in entries if not entry.settled], passed, ends_again=False)

    async def _in_transaction(
        self, entries: Sequence[Entry], now: int
    ) -> tuple[dict[str, tuple[bool, int]], dict[str, MemoryRefused]]:
        """Return the runs that passed, and those whose memory could not be written: nothing of theirs is stored."""
        ends = [entry.run_id for entry in entries if entry.terminal]
        withdrawn = [prompt_id for entry in entries for prompt_id in entry.write.withdrawn]
        await self._fetch(dialect.PG_LOCK_PROMPTS, ends, withdrawn)
        waits = wait_rows(entries)
        if waits:
            heads = {wait[:3]: (*wait[:3], now) for wait in waits}
            await self._fetch(document_dialect.PG_HEADS, *dialect.rows_in_columns(list(heads.values()), 4))
        addressed = {letter.run_id for entry in entries for letter in entry.write.mail}
        if addressed:
            concerned = addressed | {entry.run_id for entry in entries}
            await self._fetch(dialect.PG_LOCK_FAMILY, sorted(concerned))
        fence = [(entry.run_id, entry.write.epoch, entry.write.before_seq) for entry in entries if entry.birth is None]
        held = {row[0] for row in await self._fetch(dialect.PG_LOCK_RUNS, *dialect.rows_in_columns(fence, 3))}
        mine = [entry for entry in entries if entry.birth is not None or entry.run_id in held]
        if not mine:
            return {}, {}
        remembering = PostgresMemory(self._fetch, now)
        unkept = await remembering.settle(mine)
        mine = [entry for entry in mine if entry.run_id not in unkept]
        passed = await self._store_all(mine, now) if mine else {}
        await remembering.write()
        return passed, unkept

    async def _store_all(self, mine: Sequence[Entry], now: int) -> dict[str, tuple[bool, int]]:
        """Write these runs, whose rows are locked; return those that passed."""
        parts = parts_of(mine, now)
        gone = [(entry.run_id, node_id) for entry in mine for node_id in entry.write.forgotten]
        if gone:
            await self._fetch(dialect.PG_FORGET, *dialect.rows_in_columns(gone, 2))
        passed = await self._group(parts, careful=True)
        # A birth whose key belongs to an earlier run did not pass, and has no children.
        mine = [entry for entry in mine if entry.run_id in passed]
        children = [child for entry in mine for child in offspring(entry)]
        if children:
            await self._group(parts_of(children, now), careful=True)
        await self._wait(mine)
        await self._mail(mine)
        ended = [entry.run_id for entry in mine if entry.terminal]
        withdrawn = [prompt_id for entry in mine for prompt_id in entry.write.withdrawn]
        # A statement of its own: its snapshot is newer than the lock, so it sees every signal that was ever left.
        await self._fetch(dialect.PG_LATE, ended)
        await self._fetch(dialect.PG_WITHDRAW, ended, withdrawn, now)
        return passed

    async def _wait(self, entries: Sequence[Entry]) -> None:
        """Let new runs wait for documents, whose heads are locked; what has come meanwhile is told to them at once."""
        waits = wait_rows(entries)
        if not waits:
            return
        came = await self._fetch(document_dialect.PG_WAIT, *dialect.rows_in_columns(waits, 5))
        told = [(row[0], row[1], DOCUMENT, document_came(row[2], row[3]), row[4]) for row in came]
        if told:
            await self._fetch(dialect.PG_MAIL, *dialect.rows_in_columns(told, 5))

    async def _mail(self, entries: Sequence[Entry]) -> None:
        """Leave what these runs say to others; the rows of all of them are locked. What has ended gets no mail."""
        letters = [
            (letter.run_id, letter.tenant, letter.kind, letter.payload_json, letter.created_at)
            for entry in entries
            for letter in entry.write.mail
        ]
        if letters:
            await self._fetch(dialect.PG_MAIL, *dialect.rows_in_columns(letters, 5))

    async def _tell(
        self, entries: Sequence[Entry], passed: Mapping[str, tuple[bool, int]], *, ends_again: bool
    ) -> None:
        """Resolve the futures. An end that did not pass the plain way is left for the careful one."""
        doubtful: list[Entry] = []
        births: list[Entry] = []
        for entry in entries:
            if (written := passed.get(entry.run_id)) is not None:
                _pass(entry, *written)
            elif entry.birth is not None:
                births.append(entry)
            elif entry.terminal and ends_again:
                continue
            elif entry.uncertain:
                doubtful.append(entry)
            else:
                entry.failed(Fenced(entry.run_id))
        await self.read_back(doubtful)
        for entry in doubtful:
            if not entry.settled:
                entry.failed(Fenced(entry.run_id))
        await self._tell_births(births)

    async def _tell_births(self, entries: Sequence[Entry]) -> None:
        """Say what stands in the way of these births: an earlier run of their key, or they themselves."""
        keyed = [
            (entry.run_id, entry.birth.run.tenant, entry.birth.run.principal, entry.birth.key)
            for entry in entries
            if entry.birth is not None and entry.birth.key is not None
        ]
        rows = await self._fetch(dialect.PG_READ_KEYS, *dialect.rows_in_columns(keyed, 4)) if keyed else []
        owners = {row[0]: (row[1], row[2]) for row in rows}
        for entry in entries:
            run_id, fingerprint = owners.get(entry.run_id, (entry.run_id, ""))
            # A name that was chosen beforehand may have been borne elsewhere, under the same key.
            if run_id != entry.run_id or (entry.run_id in owners and not entry.uncertain):
                entry.existing(run_id, fingerprint)
                for follower in entry.followers:
                    follower.existing(run_id, fingerprint)
        rest = [entry for entry in entries if not entry.settled]
        themselves = [entry.run_id for entry in rest if entry.uncertain]
        found = {row[0]: row for row in await self._fetch(dialect.PG_READ_BACK, themselves)} if themselves else {}
        for entry in rest:
            row = found.get(entry.run_id)
            keyed_elsewhere = entry.birth is not None and entry.birth.key is not None and entry.run_id not in owners
            if row is not None and _is_of_another(entry, row):
                for each in (entry, *entry.followers):
                    each.existing(*owners.get(entry.run_id, (entry.run_id, "")))
            elif row is not None:
                _pass(entry, row[3], row[4], again=row[1:3] != (entry.write.epoch, entry.write.after_seq))
            elif not keyed_elsewhere and not entry.uncertain:
                entry.failed(WriteRefused(f"the run {entry.run_id} exists already"))
            # Else its key has just been removed: it is simply tried again.

    async def _group(self, parts: Mapping[str, Rows], *, careful: bool) -> dict[str, tuple[bool, int]]:
        args: list[Any] = []
        for part, rows in parts.items():
            args += dialect.rows_in_columns(rows, len(dialect.PARTS[part]))
        rows_back = await self._fetch(dialect.group_statement(frozenset(parts), careful=careful), *args)
        return {row[0]: (row[1], row[2]) for row in rows_back}

    async def _fetch(self, sql: str, *args: Any) -> list[asyncpg.Record]:
        try:
            prepared = self._prepared.get(sql)
            if prepared is None:
                prepared = self._prepared[sql] = await self._connection.prepare(sql)
            return await prepared.fetch(*args)
        except (exceptions.PostgresError, exceptions.InterfaceError, *AWAY) as error:
            raise translated(error, closed=is_gone(self._connection)) from error


def _takes_care(entry: Entry) -> bool:
    write = entry.write
    if entry.birth is not None and entry.birth.waits:
        return True
    return reaches_out(write) or (entry.birth is None and bool(write.forgotten or write.withdrawn or write.memory))


def _is_of_another(entry: Entry, row: asyncpg.Record) -> bool:
    """Say whether a run of this name, as it is read back, was borne by another process.

    Then this one must not walk it as well, nor show the frames that it would have begun with. By now the run may have
    been let go, or be somebody else's: when it was accepted, and under which correlation id, does not change.
    """
    if entry.birth is None:
        return False
    own, epoch, worker = entry.birth.run, row[1], row[5]
    if (row[6], row[7]) != (own.created_at, own.correlation_id):
        return True
    return epoch == entry.write.epoch and worker is not None and own.worker is not None and worker != own.worker


def _doubt(entries: Sequence[Entry]) -> None:
    for entry in entries:
        entry.uncertain = True


def _pass(entry: Entry, released: bool, inbox: int, *, again: bool = False) -> None:
    """Settle an entry that is in; ``again`` says that the run has been claimed anew since its birth."""
    if again:
        entry.born_elsewhere()
    else:
        entry.passed(released, inbox)
    if entry.birth is not None:
        for follower in entry.followers:
            follower.existing(entry.run_id, entry.birth.fingerprint)
