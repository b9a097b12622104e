"""Which tenants there are: found by jumping through an index, one look per tenant, never by reading a table."""

from __future__ import annotations

from typing import Any, Final

import sqlalchemy as sa

from store.connect import Database
from store.conversation_tables import conversations
from store.document_tables import documents
from store.memory_tables import memory_scopes
from store.statement import Statement, text
from store.tables import audit_heads, audit_records, runs, tombstones


def _next(table: sa.Table) -> Statement:
    column: sa.ColumnElement[Any] = table.c.tenant
    return Statement(sa.select(column).where(column > text("after")).order_by(column).limit(1))


_WITH_RUNS: Final = (_next(runs), _next(tombstones))
_WITH_RECORDS: Final = (_next(audit_heads), _next(audit_records))
_WITH_KEPT: Final = (_next(conversations), _next(documents), _next(memory_scopes))


async def _found(database: Database, statements: tuple[Statement, ...]) -> set[str]:
    found: set[str] = set()
    async with database.reader() as reader:
        for statement in statements:
            place = ""
            while (row := await reader.fetch_one(statement, after=place)) is not None:
                place = str(row[0])
                found.add(place)
    return found


async def with_runs(database: Database) -> list[str]:
    """Return every tenant that has runs or what is left of them."""
    return sorted(await _found(database, _WITH_RUNS))


async def with_records(database: Database) -> list[str]:
    """Return every tenant that has audit records or a chain."""
    return sorted(await _found(database, _WITH_RECORDS))


async def with_kept(database: Database) -> list[str]:
    """Return every tenant that has conversations, documents or memory."""
    return sorted(await _found(database, _WITH_KEPT))
