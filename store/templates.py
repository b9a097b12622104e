"""Templates of a tenant: written over under a revision (W3)."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Final

import sqlalchemy as sa

from store.connect import Database
from store.dialect import locking
from store.keyset import FIRST
from store.statement import Statement, number, text
from store.template_tables import templates
from store.unit import Unit


@dataclass(frozen=True, slots=True)
class TemplateRow:
    """A template; ``document_json`` is its ``contracts.templates.TemplateDocument``."""

    template_id: str
    tenant: str
    name: str
    category: str
    document_json: str
    revision: int
    created_by: str
    created_at: int
    updated_at: int


_NAMES: Final = tuple(each.name for each in fields(TemplateRow))
_MINE: Final = (templates.c.tenant == text("of"), templates.c.template_id == text("template"))
_ADD: Final = Statement(sa.insert(templates).values({name: sa.bindparam(name, required=True) for name in _NAMES}))
_GET: Final = Statement(sa.select(templates).where(*_MINE))
_LOCK: Final = Statement(lambda dialect: locking(dialect, sa.select(templates).where(*_MINE)))
_SAVE: Final = Statement(
    sa.update(templates)
    .where(*_MINE)
    .values(
        name=text("name"),
        category=text("category"),
        document_json=text("document_json"),
        revision=templates.c.revision + 1,
        updated_at=number("updated_at"),
    )
)
_REMOVE: Final = Statement(sa.delete(templates).where(*_MINE))
_BEFORE: Final = sa.tuple_(templates.c.created_at, templates.c.template_id) < sa.tuple_(number("at"), text("last"))
_PAGE: Final = Statement(
    sa.select(templates)
    .where(templates.c.tenant == text("of"), _BEFORE)
    .order_by(templates.c.created_at.desc(), templates.c.template_id.desc())
    .limit(number("most"))
)


async def add(unit: Unit, row: TemplateRow) -> None:
    """Store a new template."""
    await unit.execute(_ADD, **{name: getattr(row, name) for name in _NAMES})


async def get(database: Database, tenant: str, template_id: str) -> TemplateRow | None:
    """Return a template."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_GET, of=tenant, template=template_id)
    return None if row is None else TemplateRow(*row)


async def lock(unit: Unit, tenant: str, template_id: str) -> TemplateRow | None:
    """Return a template and keep others from writing it until the commit."""
    row = await unit.fetch_one(_LOCK, of=tenant, template=template_id)
    return None if row is None else TemplateRow(*row)


async def save(unit: Unit, row: TemplateRow) -> None:
    """Write a template over; its revision rises by one."""
    await unit.execute(
        _SAVE, of=row.tenant, template=row.template_id, name=row.name, category=row.category,
        document_json=row.document_json, updated_at=row.updated_at,
    )  # fmt: skip


async def remove(unit: Unit, tenant: str, template_id: str) -> None:
    """Delete a template; its executions stay."""
    await unit.execute(_REMOVE, of=tenant, template=template_id)


async def newest(database: Database, tenant: str, at: tuple[int, str] = FIRST, most: int = 50) -> list[TemplateRow]:
    """Return up to ``most`` templates behind ``(created_at, template_id)``, newest first."""
    async with database.reader() as reader:
        rows = await reader.fetch(_PAGE, of=tenant, at=at[0], last=at[1], most=most)
    return [TemplateRow(*row) for row in rows]
