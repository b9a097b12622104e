"""The flows that declare themselves capabilities, and how processes notice that they changed (W2)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import sqlalchemy as sa

from store.connect import Database
from store.dialect import insert_into
from store.flow_tables import flow_capabilities as capabilities
from store.flow_tables import flow_offer_changes as changes
from store.flow_tables import flow_versions as versions
from store.statement import Statement, number, text
from store.unit import Unit


def _touch(dialect: str) -> Any:
    made = insert_into(dialect, changes).values(tenant=text("tenant"), changes=1)
    return made.on_conflict_do_update(index_elements=["tenant"], set_={"changes": changes.c.changes + 1})


def _offer(dialect: str) -> Any:
    made = insert_into(dialect, capabilities).values(
        flow_id=text("flow"), tenant=text("tenant"), version=number("version")
    )
    return made.on_conflict_do_update(index_elements=["flow_id"], set_={"version": number("version")})


_TOUCH: Final = Statement(_touch)
_OFFER: Final = Statement(_offer)
_WITHDRAW: Final = Statement(
    sa.delete(capabilities).where(capabilities.c.tenant == text("tenant"), capabilities.c.flow_id == text("flow"))
)
# Any flow may stand inside one that is a capability.
_STIR: Final = Statement(
    sa.update(changes).where(changes.c.tenant == text("tenant")).values(changes=changes.c.changes + 1)
)
_COUNT: Final = Statement(sa.select(changes.c.changes).where(changes.c.tenant == text("tenant")))
_PULSE: Final = Statement(sa.select(sa.func.coalesce(sa.func.sum(changes.c.changes), 0)))
_COUNTS: Final = Statement(sa.select(changes.c.tenant, changes.c.changes))
_OFFERED: Final = Statement(
    sa.select(versions.c.flow_id, versions.c.version, versions.c.document_json)
    .join(
        capabilities,
        sa.and_(capabilities.c.flow_id == versions.c.flow_id, capabilities.c.version == versions.c.version),
    )
    .where(capabilities.c.tenant == text("tenant"), versions.c.tenant == text("tenant"))
    .order_by(versions.c.flow_id)
)


async def published(unit: Unit, tenant: str, flow_id: str, version: int, *, offered: bool) -> None:
    """Note that a version was published, and whether it is a capability."""
    if offered:
        await unit.execute(_OFFER, tenant=tenant, flow=flow_id, version=version)
        await unit.execute(_TOUCH, tenant=tenant)
    else:
        await removed(unit, tenant, flow_id)


async def removed(unit: Unit, tenant: str, flow_id: str) -> None:
    """Note that a flow is no capability any more; a tenant that never had one is left alone."""
    await unit.execute(_WITHDRAW, tenant=tenant, flow=flow_id)
    await unit.execute(_STIR, tenant=tenant)


async def pulse(database: Database) -> int:
    """Return a number that rises with every change of any tenant; looked at every second."""
    async with database.near() as reader:
        row = await reader.fetch_one(_PULSE)
        return 0 if row is None else int(row[0])


async def counts(database: Database) -> Mapping[str, int]:
    """Return tenant → how often its offers changed, of those that ever had one."""
    async with database.near() as reader:
        return {row[0]: int(row[1]) for row in await reader.fetch(_COUNTS)}


async def count(database: Database, tenant: str) -> int:
    """Return how often a tenant's offers changed."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_COUNT, tenant=tenant)
        return 0 if row is None else int(row[0])


async def offered(database: Database, tenant: str) -> list[tuple[str, int, str]]:
    """Return (flow, version, document) of the flows that are capabilities, by id."""
    async with database.reader() as reader:
        return [(row[0], int(row[1]), row[2]) for row in await reader.fetch(_OFFERED, tenant=tenant)]
