"""What nothing refers to any more: plans, workers that died, messages that were sent (P6). All tenants."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from store import tables as t
from store.connect import Database
from store.dialect import delete_some, id_list, ids_among
from store.statement import Statement, number, text
from store.unit import Unit


@dataclass(frozen=True, slots=True)
class PlanKey:
    """A stored plan; a place in the order in which plans are looked at."""

    tenant: str
    document: str


FIRST: Final = PlanKey("", "")

_near: Final = (
    sa.select(t.plans.c.tenant, t.plans.c.document)
    .where(sa.tuple_(t.plans.c.tenant, t.plans.c.document) > sa.tuple_(text("tenant"), text("document")))
    .order_by(t.plans.c.tenant, t.plans.c.document)
    .limit(number("most"))
    .subquery()
)
_LOOK: Final = Statement(
    sa.select(
        _near.c.tenant,
        _near.c.document,
        sa.exists().where(t.run_plans.c.document == _near.c.document, t.run_plans.c.tenant == _near.c.tenant),
    ).order_by(_near.c.tenant, _near.c.document)
)
_USED: Final = sa.exists().where(t.run_plans.c.document == t.plans.c.document, t.run_plans.c.tenant == t.plans.c.tenant)
_DROP_PLANS: Final = Statement(
    lambda dialect: (
        sa.delete(t.plans)
        .where(t.plans.c.tenant == text("of"), ids_among(dialect, t.plans.c.document, "ids"))
        .where(~_USED)
    )
)
# A run that is just being accepted found its plan stored and will refer to it: nobody may accept one while we look.
_HOLD: Final = Statement(sa.text("LOCK TABLE run_plans IN SHARE ROW EXCLUSIVE MODE NOWAIT"))


def _dead(some: sa.FromClause) -> sa.ColumnElement[bool]:
    holds = sa.exists().where(t.runs.c.worker.is_not(None), t.runs.c.worker == some.c.worker_id)
    return sa.and_(some.c.beat_at < number("before_ms"), ~holds)


def _was_sent(some: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(some.c.sent_at.is_not(None), some.c.sent_at < number("before_ms"))


_DROP_WORKERS: Final = Statement(lambda dialect: delete_some(dialect, t.workers, _dead, number("most")))
_DROP_SENT: Final = Statement(lambda dialect: delete_some(dialect, t.notifications, _was_sent, number("most")))


async def unused_plans(database: Database, after: PlanKey, limit: int) -> tuple[list[PlanKey], PlanKey | None]:
    """Look at up to ``limit`` plans behind ``after``; return those no run refers to, and where to go on (None: end)."""
    async with database.reader() as reader:
        rows = await reader.fetch(_LOOK, tenant=after.tenant, document=after.document, most=limit)
    unused = [PlanKey(row[0], row[1]) for row in rows if not row[2]]
    return unused, PlanKey(rows[-1][0], rows[-1][1]) if len(rows) == limit else None


async def drop_plans(unit: Unit, tenant: str, documents: Sequence[str]) -> int:
    """Delete those of these plans that no run refers to now; return how many.

    Raises ``StoreUnavailable`` when runs are being accepted at this very moment: try again.
    """
    if unit.dialect == "postgresql":
        await unit.fetch(_HOLD)
    return await unit.execute(_DROP_PLANS, of=tenant, ids=id_list(unit.dialect, documents))


async def drop_workers(unit: Unit, before_ms: int, most: int) -> int:
    """Delete workers whose last beat is older than ``before_ms`` and that hold nothing; return how many."""
    return await unit.execute(_DROP_WORKERS, before_ms=before_ms, most=most)


async def drop_sent(unit: Unit, before_ms: int, most: int) -> int:
    """Delete messages that were sent before ``before_ms``; return how many."""
    return await unit.execute(_DROP_SENT, before_ms=before_ms, most=most)
