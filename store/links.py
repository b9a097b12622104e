"""Review links as rows (H8): whom a link was sent to, and whether it was used."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from store import tables as t
from store.connect import Database
from store.dialect import insert_into
from store.statement import Statement, number, text
from store.unit import Unit

_L: Final = t.review_links.c
_GIVEN: Final = tuple(column.name for column in t.review_links.c)


@dataclass(slots=True)
class LinkRow:
    """A link: it lets its holder decide one prompt, once, as ``subject`` with these roles and groups."""

    link_id: str
    tenant: str
    prompt_id: str
    subject: str
    roles_json: str
    groups_json: str
    expires_at: int
    used_at: int | None = None


_ADD: Final = Statement(
    lambda dialect: (
        insert_into(dialect, t.review_links)
        .values({name: sa.bindparam(name, type_=_L[name].type, required=True) for name in _GIVEN})
        .on_conflict_do_nothing(index_elements=["link_id"])
    )
)
_GET: Final = Statement(sa.select(t.review_links).where(_L.link_id == text("link_id")))
_USE: Final = Statement(
    sa.update(t.review_links)
    .where(_L.link_id == text("which"), _L.used_at.is_(None), _L.expires_at > number("now_ms"))
    .values(used_at=number("now_ms"))
)


async def add(unit: Unit, row: LinkRow) -> None:
    """Store a link; one that is there already stays as it is."""
    await unit.execute(_ADD, **{name: getattr(row, name) for name in _GIVEN})


async def get(database: Database, link_id: str) -> LinkRow | None:
    """Return a link. It takes no tenant: its signature was checked, and the tenant stands in the row."""
    async with database.near() as reader:
        row = await reader.fetch_one(_GET, link_id=link_id)
        return None if row is None else LinkRow(*row)


async def use(unit: Unit, link_id: str, now_ms: int) -> bool:
    """Use a link up; False when it was used before or has expired."""
    return await unit.execute(_USE, which=link_id, now_ms=now_ms) == 1
