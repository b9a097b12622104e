"""The log of a run: read after a place, never changed (F9). Only the journal writes it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import sqlalchemy as sa

from store.connect import Database
from store.dialect import id_list, ids_among
from store.rows import EventRow
from store.statement import Statement, number, text
from store.tables import events, runs

_AFTER: Final = Statement(
    sa.select(events.c.seq, events.c.type, events.c.node_id, events.c.data)
    .join(runs, runs.c.run_id == events.c.run_id)
    .where(runs.c.tenant == text("tenant"), runs.c.run_id == text("run_id"), events.c.run_id == text("run_id"))
    .where(events.c.seq > number("after"))
    .order_by(events.c.seq)
    .limit(number("most"))
)
_LAST: Final = Statement(
    lambda dialect: sa.select(runs.c.run_id, runs.c.last_seq).where(ids_among(dialect, runs.c.run_id, "ids"))
)


async def events_after(database: Database, tenant: str, run_id: str, after: int, limit: int) -> list[EventRow]:
    """Return up to ``limit`` events with ``seq > after``, in order; none for a run of another tenant."""
    async with database.reader() as reader:
        rows = await reader.fetch(_AFTER, tenant=tenant, run_id=run_id, after=after, most=limit)
        return [EventRow(*row) for row in rows]


async def last_seqs(database: Database, run_ids: Sequence[str]) -> dict[str, int]:
    """Return the last ``seq`` of each run that is there: one query for everything that is watched. Takes no tenant."""
    if not run_ids:
        return {}
    async with database.reader() as reader:
        return {row[0]: row[1] for row in await reader.fetch(_LAST, ids=id_list(database.dialect, run_ids))}
