"""The mailbox of a run: anybody leaves a signal, only the holder answers it (design §1.1, §4)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from store.connect import Database
from store.dialect import least
from store.rows import SignalRow
from store.statement import Statement, number, text
from store.tables import RUN_IS_ACTIVE, runs, signals
from store.unit import Unit


@dataclass(frozen=True, slots=True)
class Left:
    """A signal that was left: its number in the run's inbox, and the worker to nudge (None: nobody holds the run)."""

    signal_id: int
    worker: str | None


def _bump(dialect: str) -> sa.Update:
    now = number("now_ms")
    return (
        sa.update(runs)
        .where(runs.c.run_id == text("at"), runs.c.tenant == text("of"))
        .where(RUN_IS_ACTIVE)
        .values(inbox=runs.c.inbox + 1, wake_at=least(dialect, sa.func.coalesce(runs.c.wake_at, now), now))
        .returning(runs.c.inbox, runs.c.worker)
    )


_BUMP: Final = Statement(_bump)


def _bump_and_insert(dialect: str) -> sa.Update | sa.Insert:
    """On PostgreSQL both in one statement, which spares a round trip; SQLite knows no such statement."""
    bump = _bump(dialect)
    if dialect == "sqlite":
        return bump
    bumped = bump.cte("bumped")
    values = sa.select(text("at"), bumped.c.inbox, text("kind"), text("payload_json"), number("now_ms"))
    insert = sa.insert(signals).from_select(["run_id", "signal_id", "kind", "payload_json", "created_at"], values)
    return insert.returning(signals.c.signal_id, sa.select(bumped.c.worker).scalar_subquery())


_BUMP_AND_INSERT: Final = Statement(_bump_and_insert)
_GIVEN: Final = ("run_id", "signal_id", "kind", "payload_json", "created_at")
_INSERT: Final = Statement(sa.insert(signals).values({name: sa.bindparam(name, required=True) for name in _GIVEN}))
_PENDING: Final = Statement(
    sa.select(signals)
    .where(signals.c.run_id == text("run_id"))
    .where(signals.c.signal_id > number("after"), signals.c.outcome.is_(None))
    .order_by(signals.c.signal_id)
)
_PENDING_OF: Final = Statement(
    sa.select(signals)
    .join(runs, runs.c.run_id == signals.c.run_id)
    .where(runs.c.tenant == text("tenant"), signals.c.run_id == text("run_id"))
    .where(signals.c.outcome.is_(None), signals.c.kind == text("kind"))
    .order_by(signals.c.signal_id)
)
_ONE: Final = Statement(
    sa.select(signals)
    .join(runs, runs.c.run_id == signals.c.run_id)
    .where(runs.c.tenant == text("tenant"), signals.c.run_id == text("run_id"))
    .where(signals.c.signal_id == number("signal_id"))
)


async def leave(unit: Unit, run_id: str, tenant: str, kind: str, payload_json: str, now_ms: int) -> Left | None:
    """Leave a signal and make the run due; None: there is no such run, or it has ended (the door reads which).

    Nudge ``Left.worker`` after the commit.
    """
    given = {"at": run_id, "of": tenant, "now_ms": now_ms}
    if unit.dialect == "postgresql":
        left = await unit.fetch_one(_BUMP_AND_INSERT, kind=kind, payload_json=payload_json, **given)
        return None if left is None else Left(left[0], left[1])
    bumped = await unit.fetch_one(_BUMP, **given)
    if bumped is None:
        return None
    signal_id, worker = bumped[0], bumped[1]
    await unit.execute(
        _INSERT, run_id=run_id, signal_id=signal_id, kind=kind, payload_json=payload_json, created_at=now_ms
    )
    return Left(signal_id, worker)


async def signals_after(database: Database, run_id: str, after: int = 0) -> list[SignalRow]:
    """Return the run's pending signals numbered above ``after``, in order. For the holder: takes no tenant."""
    async with database.near() as reader:
        return [SignalRow(row[1], row[0], *row[2:]) for row in await reader.fetch(_PENDING, run_id=run_id, after=after)]


async def pending_of(database: Database, tenant: str, run_id: str, kind: str) -> list[SignalRow]:
    """Return the run's unanswered signals of a kind, in order."""
    async with database.near() as reader:
        rows = await reader.fetch(_PENDING_OF, tenant=tenant, run_id=run_id, kind=kind)
        return [SignalRow(row[1], row[0], *row[2:]) for row in rows]


async def signal(database: Database, tenant: str, run_id: str, signal_id: int) -> SignalRow | None:
    """Return one signal, to see whether it has its outcome yet."""
    async with database.near() as reader:
        row = await reader.fetch_one(_ONE, tenant=tenant, run_id=run_id, signal_id=signal_id)
        return None if row is None else SignalRow(row[1], row[0], *row[2:])
