"""Where runs come from and what came of them: parents, children, forks; and a run as a fork begins from it (F6)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from store import tables as t
from store.connect import Database
from store.rows import NodeRow, PlanRow, RunRow
from store.runs import envelope, node_rows, plan_row, run_row
from store.statement import Statement, number, text

MOST: Final = 100
"""How many children and forks of a run are told."""
_AGAIN: Final = 5


@dataclass(frozen=True, slots=True)
class Relative:
    """A run that came of another: at which node, and where it stands."""

    run_id: str
    node_id: str | None
    status: str


_ORDER: Final = (t.runs.c.created_at, t.runs.c.run_id)
_CHILDREN: Final = Statement(
    sa.select(t.runs.c.run_id, t.runs.c.parent_node_id, t.runs.c.status)
    .where(t.runs.c.parent_run_id == text("of"), t.runs.c.tenant == text("tenant"))
    .order_by(*_ORDER)
    .limit(number("most"))
)
_LAST: Final = Statement(
    sa.select(t.runs.c.parent_node_id, t.runs.c.run_id)
    .where(t.runs.c.parent_run_id == text("of"), t.runs.c.tenant == text("tenant"))
    .order_by(t.runs.c.parent_generation, *_ORDER)
)
_FORKS: Final = Statement(
    sa.select(t.runs.c.run_id, t.runs.c.origin_node_id, t.runs.c.status)
    .where(t.runs.c.origin_run_id == text("of"), t.runs.c.tenant == text("tenant"))
    .order_by(*_ORDER)
    .limit(number("most"))
)


async def children_of(database: Database, tenant: str, run_id: str) -> list[Relative]:
    """Return the child runs of a run, oldest first, at most :data:`MOST`."""
    async with database.reader() as reader:
        rows = await reader.fetch(_CHILDREN, of=run_id, tenant=tenant, most=MOST)
        return [Relative(*row) for row in rows]


async def last_children(database: Database, tenant: str, run_id: str) -> dict[str, str]:
    """Return the child run that each node began last, by node."""
    async with database.reader() as reader:
        return {row[0]: row[1] for row in await reader.fetch(_LAST, of=run_id, tenant=tenant)}


async def forks_of(database: Database, tenant: str, run_id: str) -> list[Relative]:
    """Return the forks of a run, oldest first, at most :data:`MOST`."""
    async with database.reader() as reader:
        return [Relative(*row) for row in await reader.fetch(_FORKS, of=run_id, tenant=tenant, most=MOST)]


async def origin(
    database: Database, tenant: str, run_id: str
) -> tuple[RunRow, str, PlanRow | None, list[NodeRow]] | None:
    """Return a run with its envelope, present plan and nodes, all of one moment; None: there is no such run.

    A run that goes on may get another version of its plan in between: then everything is read again.
    """
    for _ in range(_AGAIN):
        row = await run_row(database, tenant, run_id)
        given = await envelope(database, tenant, run_id)
        if row is None or given is None:
            return None
        plan = await plan_row(database, tenant, run_id, row.plan_version)
        nodes = await node_rows(database, tenant, run_id)
        now = await run_row(database, tenant, run_id)
        if now is not None and now.plan_version == row.plan_version:
            return row, given, plan, nodes
    return None
