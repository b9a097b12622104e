"""Flows by what people call them (R1)."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from store.connect import Database
from store.flow_tables import flows
from store.statement import Statement, number, text

_EXISTS: Final = Statement(
    sa.select(flows.c.flow_id).where(flows.c.tenant == text("of"), flows.c.flow_id == text("id"))
)
_PUBLISHED: Final = Statement(
    sa.select(flows.c.flow_id)
    .where(flows.c.tenant == text("of"), flows.c.name == text("name"), flows.c.published.is_not(None))
    .order_by(flows.c.created_at, flows.c.flow_id)
    .limit(number("most"))
)
_DRAFTED: Final = Statement(
    sa.select(flows.c.flow_id).where(flows.c.tenant == text("of"), flows.c.name == text("name")).limit(1)
)


async def exists(database: Database, tenant: str, flow_id: str) -> bool:
    """Say whether the tenant has a flow of this id."""
    async with database.reader() as reader:
        return await reader.fetch_one(_EXISTS, of=tenant, id=flow_id) is not None


async def published(database: Database, tenant: str, name: str, limit: int) -> list[str]:
    """Return up to ``limit`` flows of this name that have a published version, oldest first."""
    async with database.reader() as reader:
        return [row[0] for row in await reader.fetch(_PUBLISHED, of=tenant, name=name, most=limit)]


async def drafted(database: Database, tenant: str, name: str) -> bool:
    """Say whether there is a flow of this name at all."""
    async with database.reader() as reader:
        return await reader.fetch_one(_DRAFTED, of=tenant, name=name) is not None
