"""Memory as rows (R5): read by anybody of the tenant, written by doors here and by runs in the journal.

Whoever writes locks the scope's row first, so a revision is given once, and a compare-and-set sees what is there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import sqlalchemy as sa

from contracts.memory import Remembered, Scope
from store.connect import Database
from store.dialect import insert_into
from store.keyset import Page, decode, page_of
from store.memory_sheet import ScopeState
from store.memory_tables import memory_entries as entries
from store.memory_tables import memory_scopes as scopes
from store.statement import Row, Statement, number, text
from store.unit import Unit


@dataclass(frozen=True, slots=True)
class EntryRow:
    """An entry, and who wrote it: a run's node in an attempt, or a person."""

    tenant: str
    kind: str
    owner: str
    story: str
    key: str
    value_json: str
    revision: int
    created_at: int
    updated_at: int
    run_id: str | None = None
    node_id: str | None = None
    attempt: int | None = None
    person: str | None = None


@dataclass(frozen=True, slots=True)
class ScopeRow:
    """A scope in a list."""

    kind: str
    owner: str
    story: str
    entries: int
    updated_at: int


ENTRY: Final = tuple(column.name for column in entries.columns)
SCOPE: Final = ("tenant", "kind", "owner", "story")


def _here(table: sa.Table) -> tuple[sa.ColumnElement[bool], ...]:
    return tuple(table.c[name] == text(f"of_{name}") for name in SCOPE)


def at(tenant: str, scope: Scope) -> dict[str, str]:
    """Return the parameters that name a scope in the statements below."""
    return {"of_tenant": tenant, "of_kind": scope.kind, "of_owner": scope.owner, "of_story": scope.story}


def _given(table: sa.Table) -> dict[str, sa.BindParameter[Any]]:
    return {column.name: sa.bindparam(column.name, type_=column.type, required=True) for column in table.columns}


LOCK: Final = Statement(
    lambda dialect: (
        insert_into(dialect, scopes)
        .values(_given(scopes))
        # Nothing changes; but the row is there from now on, and locked.
        .on_conflict_do_update(index_elements=list(SCOPE), set_={"updated_at": scopes.c.updated_at})
        .returning(scopes.c.revision, scopes.c.entries, scopes.c.updated_at)
    )
)
SCOPE_WRITTEN: Final = Statement(
    sa.update(scopes)
    .where(*_here(scopes))
    .values(revision=number("revision"), entries=number("entries"), updated_at=number("updated_at"))
)
REVISION: Final = Statement(sa.select(entries.c.revision).where(*_here(entries), entries.c.key == text("which")))
PUT: Final = Statement(
    lambda dialect: (made := insert_into(dialect, entries).values(_given(entries))).on_conflict_do_update(
        index_elements=[*SCOPE, "key"],
        set_={name: made.excluded[name] for name in ENTRY if name not in (*SCOPE, "key", "created_at")},
    )
)
DELETE: Final = Statement(sa.delete(entries).where(*_here(entries), entries.c.key == text("which")))
_EMPTY: Final = Statement(sa.delete(entries).where(*_here(entries)))
_GET: Final = Statement(sa.select(entries).where(*_here(entries), entries.c.key == text("which")))
_PAGE: Final = Statement(
    sa.select(entries)
    .where(
        *_here(entries),
        entries.c.key > text("after"),
        sa.func.substr(entries.c.key, 1, sa.bindparam("size", type_=sa.Integer, required=True)) == text("prefix"),
    )
    .order_by(entries.c.key)
    .limit(number("most"))
)
_NEWEST: Final = Statement(
    sa.select(entries.c.key, entries.c.value_json, entries.c.revision, entries.c.updated_at)
    .where(*_here(entries), entries.c.revision < number("before"))
    .order_by(entries.c.revision.desc())
    .limit(number("most"))
)
_SCOPES: Final = Statement(
    sa.select(scopes.c.kind, scopes.c.owner, scopes.c.story, scopes.c.entries, scopes.c.updated_at)
    .where(
        scopes.c.tenant == text("of_tenant"),
        scopes.c.entries > 0,
        sa.tuple_(scopes.c.kind, scopes.c.owner, scopes.c.story)
        > sa.tuple_(text("of_kind"), text("of_owner"), text("of_story")),
    )
    .order_by(scopes.c.kind, scopes.c.owner, scopes.c.story)
    .limit(number("most"))
)
_BATCH: Final = 100
_BEGIN: Final = 2**62


async def lock(unit: Unit, tenant: str, scope: Scope, now_ms: int) -> ScopeState:
    """Return a scope's row, which nobody else changes until the commit; it is made if it is not there."""
    given = {"tenant": tenant, "kind": scope.kind, "owner": scope.owner, "story": scope.story}
    rows = await unit.fetch(LOCK, **given, revision=0, entries=0, updated_at=now_ms)
    return ScopeState(*rows[0])


async def put(unit: Unit, row: EntryRow, state: ScopeState) -> None:
    """Write an entry over and what its scope has become. The scope is locked."""
    await unit.execute(PUT, **{name: getattr(row, name) for name in ENTRY})
    await write_scope(unit, row.tenant, Scope(row.kind, row.owner, row.story), state)


async def delete(unit: Unit, tenant: str, scope: Scope, key: str, state: ScopeState) -> None:
    """Forget an entry. The scope is locked."""
    await unit.execute(DELETE, **at(tenant, scope), which=key)
    await write_scope(unit, tenant, scope, state)


async def empty(unit: Unit, tenant: str, scope: Scope, state: ScopeState) -> int:
    """Forget every entry of a scope; returns how many there were. The scope is locked."""
    gone = await unit.execute(_EMPTY, **at(tenant, scope))
    await write_scope(unit, tenant, scope, state)
    return gone


async def write_scope(unit: Unit, tenant: str, scope: Scope, state: ScopeState) -> None:
    """Write what a scope has become. It is locked."""
    await unit.execute(
        SCOPE_WRITTEN, **at(tenant, scope), revision=state.revision, entries=state.entries, updated_at=state.updated_at
    )


async def locked_entry(unit: Unit, tenant: str, scope: Scope, key: str) -> EntryRow | None:
    """Return an entry of a locked scope."""
    rows = await unit.fetch(_GET, **at(tenant, scope), which=key)
    return EntryRow(*rows[0]) if rows else None


async def entry(database: Database, tenant: str, scope: Scope, key: str) -> EntryRow | None:
    """Return an entry."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_GET, **at(tenant, scope), which=key)
        return None if row is None else EntryRow(*row)


async def page(
    database: Database, tenant: str, scope: Scope, *, prefix: str, limit: int, cursor: str | None
) -> Page[EntryRow]:
    """Return a page of a scope's entries by key; raises ``BadQuery`` for a foreign cursor."""
    _, after = decode(cursor)
    rows = await _by_key(database, tenant, scope, prefix, after, limit + 1)
    return page_of(rows, limit, lambda row: (0, row.key))


async def _by_key(database: Database, tenant: str, scope: Scope, prefix: str, after: str, most: int) -> list[EntryRow]:
    async with database.reader() as reader:
        found = await reader.fetch(_PAGE, **at(tenant, scope), prefix=prefix, size=len(prefix), after=after, most=most)
        return [EntryRow(*row) for row in found]


async def scope_page(database: Database, tenant: str, *, limit: int, cursor: str | None) -> Page[ScopeRow]:
    """Return a page of the tenant's scopes that hold something, by name; raises ``BadQuery`` for a foreign cursor."""
    _, after = decode(cursor)
    kind, owner, story = [*after.split("/"), "", "", ""][:3]
    async with database.reader() as reader:
        found = await reader.fetch(
            _SCOPES, of_tenant=tenant, of_kind=kind, of_owner=owner, of_story=story, most=limit + 1
        )
    rows = [ScopeRow(*row) for row in found]
    return page_of(rows, limit, lambda row: (0, f"{row.kind}/{row.owner}/{row.story}"))


class MemoryRows:
    """How a running node reads (``contracts.memory.MemoryReader``)."""

    def __init__(self, database: Database) -> None:
        """Read from this database."""
        self._database = database

    async def get(self, tenant: str, scope: Scope, key: str) -> Remembered | None:
        """Return one entry."""
        row = await entry(self._database, tenant, scope, key)
        return None if row is None else Remembered(key, orjson.loads(row.value_json), row.revision, row.updated_at)

    async def newest(self, tenant: str, scope: Scope, most_bytes: int) -> tuple[list[Remembered], bool]:
        """Return what was written last, up to so many bytes of JSON, and whether that is all there is."""
        found: list[Remembered] = []
        before, left = _BEGIN, most_bytes
        async with self._database.reader() as reader:
            while True:
                rows: Sequence[Row] = await reader.fetch(_NEWEST, **at(tenant, scope), before=before, most=_BATCH)
                for key, value_json, revision, updated_at in rows:
                    left -= len(value_json.encode())
                    if left < 0:
                        return found, False
                    found.append(Remembered(key, orjson.loads(value_json), revision, updated_at))
                if len(rows) < _BATCH:
                    return found, True
                before = rows[-1][2]

    async def keys(self, tenant: str, scope: Scope, prefix: str, most: int) -> list[Remembered]:
        """Return entries by key, without their values."""
        rows = await _by_key(self._database, tenant, scope, prefix, "", most)
        return [Remembered(row.key, None, row.revision, row.updated_at) for row in rows]
