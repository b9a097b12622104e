"""Verifying a chain of audit records on the database, piece by piece (H9); files: ``service/exported.py``."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from contracts.errors import BadQuery, ErrorItem
from hitl.chain import RADIUS, START, Broken, Item, explain, item_of, walk
from store import audit_reads as reads
from store.audit import Mark
from store.audit_reads import Ends
from store.connect import Database

BATCH: Final = 500


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found. ``next_seq`` is where to go on when not everything was looked at, null at the end.

    ``head`` is where the chain is said to end; in a file, the last record that held.
    """

    checked: int
    head: Mark | None
    broken: Broken | None
    next_seq: int | None = None


def unseen(_hash: str) -> None:
    """Take no note of a hash that held."""


class ChainCheck:
    """One look through a tenant's chain on the database; live sealing and retention do not disturb it."""

    def __init__(self, database: Database, tenant: str, see: Callable[[str], None] = unseen) -> None:
        """``see`` is told the hash of every place that held."""
        self._database, self._tenant, self._see = database, tenant, see
        self._checked = 0
        self._start = self._mark = START
        self._trusted = True

    async def verify(self, from_seq: int | None = None, most: int | None = None) -> Verdict:
        """Check from record ``from_seq`` (the beginning without it) to the end, ``most`` records at most.

        Raises BadQuery when ``from_seq`` is behind the end; StoreUnavailable.
        """
        ends = await reads.ends(self._database, self._tenant)
        broken = await self._begin(ends, from_seq)
        if broken is None:
            broken = await self._walk(_last(ends), most)
        if broken is None and self._mark.seq < _last(ends):
            return Verdict(self._checked, ends.head, None, self._mark.seq + 1)
        return Verdict(self._checked, ends.head, broken or self._end(ends))

    async def _begin(self, ends: Ends, from_seq: int | None) -> Broken | None:
        """Stand where the look begins; say so if that place is missing."""
        begins = ends.begins or START
        if from_seq is None or from_seq <= begins.seq + 1:
            self._stand(begins, trusted=True)
            return None
        if from_seq > max(_last(ends), 0 if ends.head is None else ends.head.seq) + 1:
            message = "The chain does not go that far."
            raise BadQuery(message, errors=[ErrorItem("/from_seq", "not_a_number_in_range", message)])
        mark = await reads.mark_at(self._database, self._tenant, from_seq - 1)
        if mark is None:
            return Broken(from_seq - 1, "missing", f"Record {from_seq - 1} is missing.")
        self._stand(mark, trusted=False)
        return None

    def _stand(self, mark: Mark, *, trusted: bool) -> None:
        self._start = self._mark = mark
        self._trusted = trusted
        self._see(mark.hash)

    async def _walk(self, last: int, most: int | None) -> Broken | None:
        while self._mark.seq < last and (most is None or self._checked < most):
            room = BATCH if most is None else min(BATCH, most - self._checked)
            items = await self._items(self._mark.seq, last, room)
            before = self._mark.seq
            self._mark, bad = walk(self._mark, items, self._see)
            self._checked += self._mark.seq - before
            if bad is None and items:
                continue
            pruned = (await reads.ends(self._database, self._tenant)).begins
            if pruned is not None and pruned.seq > self._mark.seq:
                # Retention has taken what was to be read next.
                self._stand(pruned, trusted=True)
                continue
            if not items:
                return Broken(self._mark.seq + 1, "missing", f"Record {self._mark.seq + 1} is missing.")
            return explain(
                self._mark,
                await self._items(self._mark.seq, last, RADIUS),
                trusted=self._trusted and self._mark == self._start,
            )
        return None

    async def _items(self, seq: int, last: int, most: int) -> list[Item]:
        return [item_of(row) for row in await reads.after(self._database, self._tenant, seq, last, most)]

    def _end(self, ends: Ends) -> Broken | None:
        """Compare where the look ended with where the chain is said to end."""
        head, mark = ends.head, self._mark
        if head is None:
            return None if mark == START else Broken(mark.seq, "missing", "The head of the chain is missing.")
        if head.seq > mark.seq:
            return Broken(mark.seq + 1, "missing", f"The chain ends at {mark.seq}, its head says {head.seq}.")
        if head.seq < mark.seq:
            return Broken(head.seq + 1, "inserted", f"The chain ends at {mark.seq}, its head says {head.seq}.")
        if head.hash != mark.hash:
            return Broken(mark.seq, "changed", f"Record {mark.seq} is not the one that the head was written with.")
        return None


def _last(ends: Ends) -> int:
    return ends.last_seq or 0
