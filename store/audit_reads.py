"""Reading audit records: pages for people, the chain in its order for verifiers and exports (H9)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import sqlalchemy as sa

from store.audit import Mark, SealedRow
from store.connect import Database
from store.keyset import Page, decode, encode
from store.statement import Statement, number, text
from store.tables import audit_checkpoints as checkpoints
from store.tables import audit_heads as heads
from store.tables import audit_records as records

FILTERS: Final = ("run_id", "prompt_id", "kind", "actor")
WINDOW: Final = 1_000
"""How many records one request looks through for rare kinds and actors, which have no index."""
MOST_WAITING: Final = 10_000


@dataclass(frozen=True, slots=True)
class Ends:
    """Where a tenant's chain begins and ends, read at once.

    ``head`` is where the sealer says that it ends, ``last_seq`` the greatest number that there is, ``begins`` the
    checkpoint behind which records go on. Null where there is none.
    """

    head: Mark | None
    last_seq: int | None
    begins: Mark | None


_R: Final = records.c
_OF_TENANT: Final = _R.tenant == text("tenant")
_BEFORE: Final = sa.tuple_(_R.at, _R.record_id) < sa.tuple_(number("at"), text("last"))
_AT: Final = Statement(sa.select(_R.hash).where(_OF_TENANT, _R.seq.is_not(None), _R.seq == number("place")))
_HEAD_OF: Final = sa.select(heads).where(heads.c.tenant == text("tenant")).subquery()
_LAST: Final = sa.select(sa.func.max(_R.seq)).where(_OF_TENANT, _R.seq.is_not(None)).scalar_subquery()
_BEGINS: Final = (
    sa.select(checkpoints)
    .where(checkpoints.c.tenant == text("tenant"))
    .order_by(checkpoints.c.seq.desc())
    .limit(1)
    .subquery()
)
# One statement sees one state, however busy the sealer and retention are.
_ENDS: Final = Statement(
    sa.select(_HEAD_OF.c.seq, _HEAD_OF.c.hash, _LAST, _BEGINS.c.seq, _BEGINS.c.hash)
    .select_from(sa.select(sa.literal_column("1").label("one")).subquery())
    .outerjoin(_HEAD_OF, sa.true())
    .outerjoin(_BEGINS, sa.true())
)
_OLD: Final = Statement(
    sa.select(sa.func.count()).where(_OF_TENANT, _R.at < number("before_ms"), _R.seq.is_not(None)).select_from(records)
)
_WAITING: Final = Statement(
    sa.select(sa.func.count()).select_from(
        sa.select(_R.record_id).where(_OF_TENANT, _R.seq.is_(None)).limit(number("most")).subquery()
    )
)


def _chosen(names: frozenset[str]) -> list[sa.ColumnElement[bool]]:
    return [_R[name] == text(name) for name in FILTERS if name in names]


@cache
def _page(names: frozenset[str]) -> Statement:
    """Return the statement of a page; without an index for what is asked it looks at a window only."""
    if names & {"run_id", "prompt_id"} or not names:
        query = sa.select(records).where(_OF_TENANT, _BEFORE, *_chosen(names))
        return Statement(query.order_by(_R.at.desc(), _R.record_id.desc()).limit(number("most")))
    near = sa.select(records).where(_OF_TENANT, _BEFORE).order_by(_R.at.desc(), _R.record_id.desc()).limit(WINDOW)
    window = near.subquery()
    found = sa.select(window).where(*(window.c[name] == text(name) for name in FILTERS if name in names))
    return Statement(found.order_by(window.c.at.desc(), window.c.record_id.desc()).limit(number("most")))


_WINDOW_END: Final = Statement(
    sa.select(_R.at, _R.record_id)
    .where(_OF_TENANT, _BEFORE)
    .order_by(_R.at.desc(), _R.record_id.desc())
    .offset(WINDOW - 1)
    .limit(1)
)


@cache
def _after(names: frozenset[str]) -> Statement:
    query = sa.select(records).where(_OF_TENANT, _R.seq.is_not(None), *_chosen(names))
    query = query.where(_R.seq > number("after"), _R.seq <= number("upto"))
    return Statement(query.order_by(_R.seq).limit(number("most")))


async def page(
    database: Database, tenant: str, chosen: Mapping[str, str], *, limit: int, cursor: str | None
) -> Page[SealedRow]:
    """Return records, newest first, sealed or not; ``chosen`` maps some of :data:`FILTERS` to the value wanted.

    A page by kind or actor alone may be shorter than ``limit`` and still have a next one. Raises ``BadQuery`` for a
    cursor that is not ours.
    """
    names = frozenset(chosen)
    at, last = decode(cursor)
    place: dict[str, Any] = {"tenant": tenant, "at": at, "last": last}
    async with database.reader() as reader:
        rows = [SealedRow(*row) for row in await reader.fetch(_page(names), **place, **chosen, most=limit + 1)]
        if len(rows) > limit:
            return Page(rows[:limit], encode(rows[limit - 1].at, rows[limit - 1].record_id))
        if not names or names & {"run_id", "prompt_id"}:
            return Page(rows, None)
        end = await reader.fetch_one(_WINDOW_END, **place)
    return Page(rows, None if end is None else encode(end[0], end[1]))


async def after(
    database: Database, tenant: str, seq: int, upto: int, limit: int, chosen: Mapping[str, str] | None = None
) -> list[SealedRow]:
    """Return up to ``limit`` sealed records, numbered ``seq + 1`` to ``upto``, in order; only those ``chosen``."""
    wanted = chosen or {}
    async with database.reader() as reader:
        rows = await reader.fetch(_after(frozenset(wanted)), tenant=tenant, after=seq, upto=upto, most=limit, **wanted)
        return [SealedRow(*row) for row in rows]


async def mark_at(database: Database, tenant: str, seq: int) -> Mark | None:
    """Return the record numbered ``seq`` as a place to go on from."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_AT, tenant=tenant, place=seq)
        return None if row is None else Mark(seq, row[0])


async def ends(database: Database, tenant: str) -> Ends:
    """Return where the tenant's chain begins and ends."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_ENDS, tenant=tenant)
    if row is None:
        return Ends(None, None, None)
    head = None if row[0] is None else Mark(row[0], row[1])
    return Ends(head, row[2], None if row[3] is None else Mark(row[3], row[4]))


async def waiting(database: Database, tenant: str) -> int:
    """Return how many records wait to be sealed, counted up to 10,000."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_WAITING, tenant=tenant, most=MOST_WAITING)
        return 0 if row is None else int(row[0])


async def count_before(database: Database, tenant: str, before_ms: int) -> int:
    """Return how many sealed records are older than ``before_ms``."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_OLD, tenant=tenant, before_ms=before_ms)
        return 0 if row is None else int(row[0])
