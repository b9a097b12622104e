"""What a worker looks at again and again, in one read: who beats, what is its own, what is due (design §4, H1).

One statement, because an idle process costs what its looks cost, and those cost mostly round trips. No part of it
reads more than an index holds for it, however many runs wait. Nothing here takes a tenant.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa

from store import tables as t
from store.connect import Database
from store.statement import Statement, number, text

NEVER: Final = -1
"""The beat of an owner that has no row: buried, and it claimed a run afterwards."""


@dataclass(frozen=True, slots=True)
class Beat:
    """A worker as the others see it; compare ``beat`` with what was seen before, never with a clock."""

    worker_id: str
    beat: int


@dataclass(slots=True)
class Seen:
    """What one look found.

    ``beats``: every worker, and owners of runs without a row. ``held``: the runs of the worker that looks, as
    ``(run_id, inbox)``. ``due``: unowned runs that are due until the time asked for, as ``(run_id, wake_at)``, the
    soonest first.
    """

    beats: list[Beat] = field(default_factory=list)
    held: list[tuple[str, int]] = field(default_factory=list)
    due: list[tuple[str, int]] = field(default_factory=list)


def _part(name: str, key: sa.ColumnElement[str], value: sa.ColumnElement[int]) -> sa.Select[str, str, int]:
    return sa.select(sa.literal_column(f"'{name}'", sa.Text), key, value)


_GHOSTS: Final = (
    _part("beat", t.runs.c.worker, sa.literal_column(str(NEVER), sa.BigInteger))
    .where(t.runs.c.worker.is_not(None), ~sa.exists().where(t.workers.c.worker_id == t.runs.c.worker))
    .distinct()
)
_DUE: Final = (
    sa.select(t.runs.c.run_id, t.runs.c.wake_at)
    .where(t.runs.c.worker.is_(None), t.runs.c.wake_at.is_not(None), t.runs.c.wake_at <= number("until_ms"))
    .order_by(t.runs.c.wake_at)
    .limit(number("most"))
    .subquery()
)
_LOOK: Final = Statement(
    sa.union_all(
        _part("beat", t.workers.c.worker_id, t.workers.c.beat),
        _GHOSTS,
        _part("held", t.runs.c.run_id, t.runs.c.inbox).where(t.runs.c.worker == text("of")),
        _part("due", _DUE.c.run_id, _DUE.c.wake_at),
    )
)


async def look(database: Database, worker_id: str, until_ms: int, most: int) -> Seen:
    """Return what ``worker_id`` has to know now; at most ``most`` runs that are due."""
    async with database.near() as reader:
        rows = await reader.fetch(_LOOK, of=worker_id, until_ms=until_ms, most=most)
    seen = Seen()
    for what, key, value in rows:
        if what == "beat":
            seen.beats.append(Beat(key, value))
        else:
            (seen.held if what == "held" else seen.due).append((key, value))
    # A union promises no order.
    seen.due.sort(key=lambda each: each[1])
    return seen
