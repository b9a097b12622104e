"""Flows: drafts that are written over under a revision, and versions that never change (W2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from store.connect import Database
from store.dialect import id_list, ids_among, locking
from store.flow_tables import flow_versions, flows
from store.keyset import Page, decode, page_of
from store.statement import Statement, number, text
from store.unit import Unit


@dataclass(frozen=True, slots=True)
class FlowRow:
    """A flow and its draft; ``published`` is its newest version, null before the first."""

    flow_id: str
    tenant: str
    name: str
    description: str
    draft_json: str
    revision: int
    published: int | None
    created_by: str
    created_at: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A published version; ``digest`` is the hash of its canonical JSON."""

    flow_id: str
    version: int
    tenant: str
    document_json: str
    digest: str
    author: str
    note: str
    created_at: int


_FLOW: Final = tuple(column.name for column in flows.columns)
_VERSION: Final = tuple(column.name for column in flow_versions.columns)
_MINE: Final = (flows.c.tenant == text("of"), flows.c.flow_id == text("flow"))


def _given(names: Sequence[str]) -> dict[str, sa.BindParameter[object]]:
    return {name: sa.bindparam(name, required=True) for name in names}


_ADD: Final = Statement(sa.insert(flows).values(_given(_FLOW)))
_GET: Final = Statement(sa.select(flows).where(*_MINE))
_LOCK: Final = Statement(lambda dialect: locking(dialect, sa.select(flows).where(*_MINE)))
_THERE: Final = Statement(
    lambda dialect: sa.select(flows.c.flow_id).where(
        flows.c.tenant == text("of"), ids_among(dialect, flows.c.flow_id, "ids")
    )
)
_SAVE: Final = Statement(
    sa.update(flows)
    .where(*_MINE, flows.c.revision == number("expected"))
    .values(
        name=text("name"),
        description=text("description"),
        draft_json=text("draft_json"),
        revision=flows.c.revision + 1,
        updated_at=number("now_ms"),
    )
)
_PUBLISHED: Final = Statement(
    sa.update(flows)
    .where(*_MINE)
    .values(published=number("version"), revision=flows.c.revision + 1, updated_at=number("now_ms"))
)
_REMOVE: Final = Statement(sa.delete(flows).where(*_MINE))
_REMOVE_VERSIONS: Final = Statement(
    sa.delete(flow_versions).where(flow_versions.c.tenant == text("of"), flow_versions.c.flow_id == text("flow"))
)
_PAGE: Final = Statement(
    sa.select(flows)
    .where(
        flows.c.tenant == text("of"),
        sa.tuple_(flows.c.created_at, flows.c.flow_id) < sa.tuple_(number("at"), text("name")),
    )
    .order_by(flows.c.created_at.desc(), flows.c.flow_id.desc())
    .limit(number("most"))
)
_ADD_VERSION: Final = Statement(sa.insert(flow_versions).values(_given(_VERSION)))
_GET_VERSION: Final = Statement(
    sa.select(flow_versions).where(
        flow_versions.c.tenant == text("of"),
        flow_versions.c.flow_id == text("flow"),
        flow_versions.c.version == number("version"),
    )
)
_NEWEST: Final = Statement(
    sa.select(flow_versions)
    .where(flow_versions.c.tenant == text("of"), flow_versions.c.flow_id == text("flow"))
    .order_by(flow_versions.c.version.desc())
    .limit(1)
)
_VERSIONS: Final = Statement(
    sa.select(flow_versions)
    .where(
        flow_versions.c.tenant == text("of"),
        flow_versions.c.flow_id == text("flow"),
        flow_versions.c.version < number("before"),
    )
    .order_by(flow_versions.c.version.desc())
    .limit(number("most"))
)


async def add(unit: Unit, row: FlowRow) -> None:
    """Store a new flow; ``Refused`` when its id is taken."""
    await unit.execute(_ADD, **{name: getattr(row, name) for name in _FLOW})


async def get(database: Database, tenant: str, flow_id: str) -> FlowRow | None:
    """Return a flow of the tenant."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_GET, of=tenant, flow=flow_id)
        return None if row is None else FlowRow(*row)


async def lock(unit: Unit, tenant: str, flow_id: str) -> FlowRow | None:
    """Return a flow of the tenant, which nobody else changes until the commit."""
    rows = await unit.fetch(_LOCK, of=tenant, flow=flow_id)
    return FlowRow(*rows[0]) if rows else None


async def page(database: Database, tenant: str, *, limit: int, cursor: str | None) -> Page[FlowRow]:
    """Return a page of the tenant's flows, newest first; raises ``BadQuery`` for a foreign cursor."""
    at, name = decode(cursor)
    async with database.reader() as reader:
        rows = [FlowRow(*row) for row in await reader.fetch(_PAGE, of=tenant, at=at, name=name, most=limit + 1)]
    return page_of(rows, limit, lambda row: (row.created_at, row.flow_id))


async def save(unit: Unit, row: FlowRow, expected: int, now_ms: int) -> bool:
    """Write the draft over; False: it is not at revision ``expected`` any more."""
    changed = await unit.execute(
        _SAVE, of=row.tenant, flow=row.flow_id, expected=expected, name=row.name, description=row.description,
        draft_json=row.draft_json, now_ms=now_ms,
    )  # fmt: skip
    return changed == 1


async def publish(unit: Unit, row: VersionRow, now_ms: int) -> None:
    """Store a version and make it the newest. The flow is locked."""
    await unit.execute(_ADD_VERSION, **{name: getattr(row, name) for name in _VERSION})
    await unit.execute(_PUBLISHED, of=row.tenant, flow=row.flow_id, version=row.version, now_ms=now_ms)


async def remove(unit: Unit, tenant: str, flow_id: str) -> None:
    """Delete a flow with its versions. Runs keep the plans they have."""
    await unit.execute(_REMOVE_VERSIONS, of=tenant, flow=flow_id)
    await unit.execute(_REMOVE, of=tenant, flow=flow_id)


async def those_there(database: Database, tenant: str, flow_ids: Sequence[str]) -> frozenset[str]:
    """Return which of these flows exist."""
    if not flow_ids:
        return frozenset()
    async with database.reader() as reader:
        rows = await reader.fetch(_THERE, of=tenant, ids=id_list(database.dialect, flow_ids))
    return frozenset(row[0] for row in rows)


async def version(database: Database, tenant: str, flow_id: str, number_: int | None) -> VersionRow | None:
    """Return a published version, the newest without a number."""
    async with database.reader() as reader:
        if number_ is None:
            row = await reader.fetch_one(_NEWEST, of=tenant, flow=flow_id)
        else:
            row = await reader.fetch_one(_GET_VERSION, of=tenant, flow=flow_id, version=number_)
        return None if row is None else VersionRow(*row)


async def newest(unit: Unit, tenant: str, flow_id: str) -> VersionRow | None:
    """Return the newest published version, inside a transaction."""
    rows = await unit.fetch(_NEWEST, of=tenant, flow=flow_id)
    return VersionRow(*rows[0]) if rows else None


async def versions(database: Database, tenant: str, flow_id: str, *, before: int, limit: int) -> list[VersionRow]:
    """Return up to ``limit`` versions below ``before``, newest first."""
    async with database.reader() as reader:
        rows = await reader.fetch(_VERSIONS, of=tenant, flow=flow_id, before=before, most=limit)
        return [VersionRow(*row) for row in rows]
