"""Who runs which flow: nodes of flows' newest versions and of templates, and runs whose plan the planner made (W2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from store.connect import Database
from store.flow_tables import flow_usages
from store.statement import Statement, number, text
from store.tables import runs
from store.unit import Unit


@dataclass(frozen=True, slots=True)
class UseRow:
    """A node of a flow or a template (``user_kind``) that runs a flow as a subflow or a tool (``via``).

    ``version`` null: the newest when it runs.
    """

    user_id: str
    node_id: str
    flow_id: str
    via: str
    tenant: str
    user_kind: str
    version: int | None


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """A run whose plan uses a flow that the planner found, and the child run that its node began."""

    run_id: str
    node_id: str
    child_run_id: str
    status: str
    created_at: int


_USE: Final = tuple(column.name for column in flow_usages.columns)
_ADD: Final = Statement(sa.insert(flow_usages).values({name: sa.bindparam(name, required=True) for name in _USE}))
_REMOVE: Final = Statement(
    sa.delete(flow_usages).where(flow_usages.c.tenant == text("of"), flow_usages.c.user_id == text("user"))
)
_USERS: Final = Statement(
    sa.select(flow_usages)
    .where(flow_usages.c.tenant == text("of"), flow_usages.c.flow_id == text("flow"))
    .order_by(flow_usages.c.user_kind, flow_usages.c.user_id, flow_usages.c.node_id, flow_usages.c.via)
    .limit(number("most"))
)

_PLANNED: Final = Statement(
    sa.select(runs.c.parent_run_id, runs.c.parent_node_id, runs.c.run_id, runs.c.status, runs.c.created_at)
    .where(runs.c.tenant == text("of"), runs.c.flow_id == text("flow"), runs.c.parent_run_id.is_not(None))
    .order_by(runs.c.created_at.desc(), runs.c.run_id.desc())
    .limit(number("most"))
)


async def note(unit: Unit, tenant: str, user_id: str, uses: Sequence[UseRow]) -> None:
    """Write which flows a flow or a template uses, in place of those that it used before."""
    await unit.execute(_REMOVE, of=tenant, user=user_id)
    for use in uses:
        await unit.execute(_ADD, **{name: getattr(use, name) for name in _USE})


async def users(database: Database, tenant: str, flow_id: str, limit: int) -> list[UseRow]:
    """Return who runs a flow, at most ``limit`` nodes."""
    async with database.reader() as reader:
        return [UseRow(*row) for row in await reader.fetch(_USERS, of=tenant, flow=flow_id, most=limit)]


async def planned(database: Database, tenant: str, flow_id: str, limit: int) -> list[PlannedRow]:
    """Return the newest runs whose planner found a flow; those that retention took are gone."""
    async with database.reader() as reader:
        return [PlannedRow(*row) for row in await reader.fetch(_PLANNED, of=tenant, flow=flow_id, most=limit)]
