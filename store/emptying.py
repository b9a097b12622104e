"""Deleting what pruned runs have left behind their tombstones, a bounded number of rows per transaction (P6)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import sqlalchemy as sa

from store import tables as t
from store.connect import Database
from store.dialect import delete_some, id_list, ids_among
from store.document_tables import document_waits
from store.history_tables import history
from store.statement import Statement, number, text
from store.unit import Unit

OF_RUNS: Final = (t.events, t.nodes, t.signals, t.run_plans, t.envelopes, document_waits)
OF_PROMPTS: Final = (t.decisions, t.notifications, t.review_links)

_UNEMPTIED: Final = Statement(
    sa.select(t.tombstones.c.run_id)
    .where(t.tombstones.c.emptied_at.is_(None))
    .order_by(t.tombstones.c.run_id)
    .limit(number("most"))
)
_PROMPTS: Final = Statement(
    lambda dialect: (
        sa.select(t.prompts.c.prompt_id).where(ids_among(dialect, t.prompts.c.run_id, "ids")).limit(number("most"))
    )
)


def _deleting(table: sa.Table, column: str) -> Statement:
    def construct(dialect: str) -> sa.Delete:
        return delete_some(dialect, table, lambda some: ids_among(dialect, some.c[column], "ids"), number("most"))

    return Statement(construct)


_BY_RUN: Final = {table.name: _deleting(table, "run_id") for table in OF_RUNS}
_BY_PROMPT: Final = {table.name: _deleting(table, "prompt_id") for table in (*OF_PROMPTS, t.prompts)}
_EMPTIED: Final = Statement(
    lambda dialect: (
        sa.update(t.tombstones)
        .where(ids_among(dialect, t.tombstones.c.run_id, "ids"), t.tombstones.c.emptied_at.is_(None))
        .values(emptied_at=number("now_ms"))
    )
)


def _counting(table: sa.Table) -> Statement:
    def construct(dialect: str) -> sa.Select[Any]:
        return sa.select(sa.func.count()).select_from(table).where(ids_among(dialect, table.c.run_id, "ids"))

    return Statement(construct)


_COUNT: Final = {table.name: _counting(table) for table in (*OF_RUNS, t.prompts)}


async def unemptied(database: Database, limit: int) -> list[str]:
    """Return up to ``limit`` pruned runs of which more is left than their tombstone. All tenants."""
    async with database.reader() as reader:
        return [row[0] for row in await reader.fetch(_UNEMPTIED, most=limit)]


async def empty_some(unit: Unit, run_ids: Sequence[str], now_ms: int, most: int) -> tuple[dict[str, int], bool]:
    """Delete up to ``most`` rows per table of these pruned runs; return what went, and whether nothing is left.

    With nothing left their tombstones say so. What belongs to a prompt goes before the prompt by which it is found.
    """
    ids = id_list(unit.dialect, run_ids)
    gone = {name: await unit.execute(statement, ids=ids, most=most) for name, statement in _BY_RUN.items()}
    more = any(many == most for many in gone.values())
    prompts = [row[0] for row in await unit.fetch(_PROMPTS, ids=ids, most=most)]
    if prompts:
        these = id_list(unit.dialect, prompts)
        for table in OF_PROMPTS:
            gone[table.name] = await unit.execute(_BY_PROMPT[table.name], ids=these, most=most)
        left = any(gone[table.name] == most for table in OF_PROMPTS)
        if not left:
            gone[t.prompts.name] = await unit.execute(_BY_PROMPT[t.prompts.name], ids=these, most=most)
        more = more or left or len(prompts) == most
    if not more:
        await unit.execute(_EMPTIED, ids=ids, now_ms=now_ms)
    return gone, not more


async def count_rows(database: Database, run_ids: Sequence[str]) -> dict[str, int]:
    """Return how many rows these runs have, by table: what pruning them would delete."""
    ids = id_list(database.dialect, run_ids)
    found: dict[str, int] = {}
    async with database.reader() as reader:
        for name, statement in _COUNT.items():
            row = await reader.fetch_one(statement, ids=ids)
            found[name] = 0 if row is None else int(row[0])
    return found


_OLD_STONES: Final = Statement(
    sa.select(t.tombstones.c.run_id)
    .where(t.tombstones.c.tenant == text("tenant"), t.tombstones.c.pruned_at < number("before_ms"))
    .where(t.tombstones.c.emptied_at.is_not(None))
    .order_by(t.tombstones.c.pruned_at)
    .limit(number("most"))
)
_DROP_STONES: Final = Statement(
    lambda dialect: sa.delete(t.tombstones).where(ids_among(dialect, t.tombstones.c.run_id, "ids"))
)
_DROP_PROMPTS: Final = _deleting(t.pruned_prompts, "run_id")
_DROP_HISTORY: Final = Statement(lambda dialect: sa.delete(history).where(ids_among(dialect, history.c.run_id, "ids")))


async def drop_stones(unit: Unit, tenant: str, before_ms: int, most: int) -> tuple[int, bool]:
    """Delete up to ``most`` tombstones written before ``before_ms``, what they know of prompts, and their history.

    Returns how many, and whether there may be more.
    """
    run_ids = [row[0] for row in await unit.fetch(_OLD_STONES, tenant=tenant, before_ms=before_ms, most=most)]
    if not run_ids:
        return 0, False
    ids = id_list(unit.dialect, run_ids)
    if await unit.execute(_DROP_PROMPTS, ids=ids, most=most) == most:
        return 0, True
    await unit.execute(_DROP_HISTORY, ids=ids)
    return await unit.execute(_DROP_STONES, ids=ids), len(run_ids) == most
