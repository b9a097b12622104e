"""No statement about documents reads a whole table, however many there are (P3, R4)."""

from __future__ import annotations

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing

import asyncpg

from store import documents, passages
from store.statement import Statement
from tests.retention.test_indexes import GROW, given

GROWN = (
    "INSERT INTO documents SELECT 't' || n % 5, 's' || n % 400, 'd' || n, 1, 1, 1 FROM generate_series(1, 20000) AS n;"
    "INSERT INTO document_versions SELECT 't' || n % 5, 's' || n % 400, 'd' || n % 20000, n / 20000 + 1, 'text/plain',"
    " 1, 'x', 'ready', NULL, 1, 0, 'user:ana', 1, 'x', '\\x00' FROM generate_series(0, 39999) AS n;"
    "INSERT INTO passages (tenant, story_id, document_id, version, place, start, text, words) SELECT 't' || n % 5,"
    " 's' || n % 400, 'd' || n % 20000, 1, n / 20000, 0, 'x', 'word' || n % 3000 FROM generate_series(0, 39999) AS n;"
    "ANALYZE;"
)


def statements() -> Iterator[tuple[str, Statement]]:
    """Every statement that looks for something."""
    for module in (documents, passages):
        for name, value in vars(module).items():
            if isinstance(value, Statement) and name not in ("_LOCK", "_ADD", "_ADD_PASSAGES"):
                yield f"{module.__name__}.{name}", value


def test_on_sqlite(sqlite_url: str) -> None:
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite+aiosqlite:///"))) as connection:
        for name, statement in statements():
            plan = connection.execute(f"EXPLAIN QUERY PLAN {statement.sqlite.sql}", given("sqlite", statement))
            lines = [row[3] for row in plan]
            scans = [line for line in lines if line.startswith("SCAN") and not _harmless(line)]
            assert not scans, (name, lines)


def _harmless(line: str) -> bool:
    """An index of words is asked by its own means; a list of ids is the caller's."""
    return "VIRTUAL TABLE" in line or line.split()[1] in ("json_each", "anon_1")


async def test_on_postgresql(postgres_url: str) -> None:
    connection = await asyncpg.connect(postgres_url.replace("postgresql+asyncpg", "postgresql"))
    try:
        await connection.execute(GROW)
        await connection.execute(GROWN)
        for name, statement in statements():
            rows = await connection.fetch(f"EXPLAIN {statement.postgresql.sql}", *_given(statement))
            assert not re.findall(r"Seq Scan on (\w+)", str(rows)), (name, rows)
    finally:
        await connection.close()


def _given(statement: Statement) -> list[object]:
    """Values for every parameter; a search is written as PostgreSQL reads it."""
    values = zip(statement.postgresql._order, given("postgresql", statement), strict=True)
    return ["'word7'" if name == "match" else value for name, value in values]
