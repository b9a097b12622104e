"""Capabilities that were registered while the service runs, and how others notice that they changed (F15)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from store.connect import Database
from store.dialect import insert_into
from store.statement import Statement, number, text
from store.tables import registration_changes as changes
from store.tables import registrations
from store.unit import Reader, Unit


@dataclass(frozen=True, slots=True)
class RegistrationRow:
    """One registered version of a capability. ``beats`` counts its heartbeats, ``beat_at`` is the last (ms)."""

    tenant: str
    capability_id: str
    version: str
    created_by: str
    created_at: int
    beats: int
    beat_at: int
    declaration_json: str


@dataclass(frozen=True, slots=True)
class Pulse:
    """Two counters: ``changes`` rises with each registration and deletion, ``beats`` also with each heartbeat."""

    changes: int
    beats: int


def _touch(dialect: str) -> Any:
    made = insert_into(dialect, changes).values(tenant=text("tenant"), changes=1)
    more = {"changes": changes.c.changes + 1}
    return made.on_conflict_do_update(index_elements=["tenant"], set_=more).returning(changes.c.changes)


_GIVEN: Final = tuple(column.name for column in registrations.columns)
_TOUCH: Final = Statement(_touch)
_ALL: Final = Statement(
    sa.select(registrations)
    .where(registrations.c.tenant == text("tenant"))
    .order_by(registrations.c.capability_id, registrations.c.version)
)
_ADD: Final = Statement(sa.insert(registrations).values({name: sa.bindparam(name, required=True) for name in _GIVEN}))
_MINE: Final = (registrations.c.tenant == text("of"), registrations.c.capability_id == text("name"))
_VERSION: Final = sa.or_(text("which") == "", registrations.c.version == text("which"))
_BEAT: Final = Statement(
    sa.update(registrations)
    .where(*_MINE, _VERSION)
    .values(beats=registrations.c.beats + 1, beat_at=number("now_ms"))
    .returning(registrations.c.version)
)
_REMOVE: Final = Statement(sa.delete(registrations).where(*_MINE, _VERSION))
_PULSE: Final = Statement(
    sa.select(
        sa.select(sa.func.coalesce(sa.func.sum(changes.c.changes), 0))
        .where(changes.c.tenant == text("tenant"))
        .scalar_subquery(),
        sa.select(sa.func.coalesce(sa.func.sum(registrations.c.beats), 0))
        .where(registrations.c.tenant == text("tenant"))
        .scalar_subquery(),
    )
)
_BEATS: Final = Statement(
    sa.select(registrations.c.capability_id, registrations.c.version, registrations.c.beat_at).where(
        registrations.c.tenant == text("tenant")
    )
)


async def touch(unit: Unit, tenant: str) -> None:
    """Say that the tenant's registrations change, and keep everybody else from changing them until the commit.

    Comes first in a unit: what is read after it cannot change any more, so contradictions are found.
    """
    await unit.fetch(_TOUCH, tenant=tenant)


async def all_of(reader: Reader, tenant: str) -> list[RegistrationRow]:
    """Return the tenant's registrations by id and version."""
    return [RegistrationRow(*row) for row in await reader.fetch(_ALL, tenant=tenant)]


async def add(unit: Unit, row: RegistrationRow) -> None:
    """Store a registration; ``Refused`` when its id and version are taken."""
    await unit.execute(_ADD, **{name: getattr(row, name) for name in _GIVEN})


async def beat(unit: Unit, tenant: str, capability_id: str, version: str | None, now_ms: int) -> list[str]:
    """Note a heartbeat of one version, or of all without one; returns the versions."""
    rows = await unit.fetch(_BEAT, of=tenant, name=capability_id, which=version or "", now_ms=now_ms)
    return [row[0] for row in rows]


async def remove(unit: Unit, tenant: str, capability_id: str, version: str | None) -> int:
    """Delete one version, or all without one; returns how many."""
    return await unit.execute(_REMOVE, of=tenant, name=capability_id, which=version or "")


async def pulse(database: Database, tenant: str) -> Pulse:
    """Return the counters; looked at every second, so it reads one row and a sum over short ones."""
    async with database.near() as reader:
        row = await reader.fetch_one(_PULSE, tenant=tenant)
        return Pulse(0, 0) if row is None else Pulse(int(row[0]), int(row[1]))


async def beats(database: Database, tenant: str) -> Mapping[tuple[str, str], int]:
    """Return (capability_id, version) → last heartbeat."""
    async with database.near() as reader:
        return {(row[0], row[1]): row[2] for row in await reader.fetch(_BEATS, tenant=tenant)}
