"""Retention and audit never read a whole table: every statement reaches its rows by an index (P6)."""

import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from types import ModuleType
from typing import Any

import asyncpg

from store import audit, audit_reads, emptying, kept, leases, leftovers, retention, tenants, tombstones
from store.dialect import id_list
from store.statement import Statement

MODULES = (audit, audit_reads, emptying, kept, leases, leftovers, retention, tenants, tombstones)
SMALL = {"audit_heads", "audit_checkpoints", "retention_policies", "leases", "workers"}
"""A row per tenant or process."""
GROW = """
INSERT INTO runs (run_id, tenant, principal, status, waiting_on_json, epoch, last_seq, inbox, seen, plan_version,
    correlation_id, objective, contract_hash, ledger_json, created_at, ended_at, root_run_id, parent_run_id)
  SELECT 'run_' || n, 't' || n % 5, 'user:ana', 'completed', '[]', 1, 3, 0, 0, 1, 'c', 'o', 'h', '{}', n, n,
    CASE WHEN n % 4 = 0 THEN 'run_' || n - 1 END, CASE WHEN n % 4 = 0 THEN 'run_' || n - 1 END
  FROM generate_series(1, 20000) AS n;
INSERT INTO events SELECT 'run_' || n % 20000, n / 20000 + 1, 'log', NULL, '\\x00' FROM generate_series(0, 59999) AS n;
INSERT INTO nodes (run_id, node_id, kind, status, attempt, generation)
  SELECT 'run_' || n % 20000, 'n' || n / 20000, 'call', 'completed', 1, 0 FROM generate_series(0, 39999) AS n;
INSERT INTO envelopes SELECT 'run_' || n, '{}' FROM generate_series(1, 20000) AS n;
INSERT INTO signals (run_id, signal_id, kind, payload_json, created_at, outcome)
  SELECT 'run_' || n, 1, 'cancel', '{}', 1, 'late' FROM generate_series(1, 20000) AS n;
INSERT INTO run_plans SELECT 'run_' || n, 1, 't' || n % 5, 'h', 'd' || n, 'a', 'r', 1
  FROM generate_series(1, 20000) AS n;
INSERT INTO plans SELECT 't' || n % 5, 'd' || n, '{}' FROM generate_series(1, 20000) AS n;
INSERT INTO prompts (prompt_id, run_id, tenant, kind, status, question, proposed_json, answer_schema_json,
    actions_json, assignees_json, quorum, plan_version, bound_hash, on_timeout, created_at)
  SELECT 'p' || n, 'run_' || n, 't', 'approval', 'settled', '', '', '', '', '', 1, 1, '', 'wait', 1
  FROM generate_series(1, 20000) AS n;
INSERT INTO decisions SELECT 'd' || n, 'p' || n, 'run_' || n, 't', 'approve', NULL, NULL, 'user:ana', 1, 'http', true
  FROM generate_series(1, 20000) AS n;
INSERT INTO notifications SELECT 'n' || n, 't', 'p' || n, 'run_' || n, 'k', 'r', 1, NULL, 1, n, NULL
  FROM generate_series(1, 20000) AS n;
INSERT INTO review_links SELECT 'l' || n, 't', 'p' || n, 's', '[]', '[]', 1, NULL FROM generate_series(1, 20000) AS n;
INSERT INTO document_waits SELECT 't', 's', 'd' || n, 'run_' || n, 1 FROM generate_series(1, 20000) AS n;
INSERT INTO tombstones SELECT 'gone_' || n, 't' || n % 5, n, n, n, '{}' FROM generate_series(1, 20000) AS n;
INSERT INTO history (run_id, tenant, principal, status, way, trigger, objective, preview, words, created_at, ended_at,
    duration_ms, waited_ms, asks, tokens, cost)
  SELECT 'gone_' || n, 't' || n % 5, 'user:ana', 'completed', 'planned', 'api', '', '', '', n, n, 1, 0, 0, 0, 0
  FROM generate_series(1, 20000) AS n;
INSERT INTO pruned_prompts SELECT 'gone_' || n, 'gone_' || n FROM generate_series(1, 20000) AS n;
INSERT INTO audit_records SELECT 'a' || n, 't' || n % 5, n, 'kind', 'user:ana', 'run_' || n, 'p' || n, '{}', n / 5,
    '', ''
  FROM generate_series(1, 20000) AS n;
INSERT INTO conversations SELECT 'v' || n, 't' || n % 5, 'user:ana', '', '{}', 2, n, n
  FROM generate_series(1, 20000) AS n;
INSERT INTO conversation_messages SELECT 'm' || n, 't' || n % 5, 'v' || n, 1, NULL, 'assistant', NULL, 'run_' || n,
    NULL, NULL, n
  FROM generate_series(1, 20000) AS n;
INSERT INTO documents SELECT 't' || n % 5, 's' || n, 'd', 1, 1, n FROM generate_series(1, 20000) AS n;
INSERT INTO document_versions SELECT 't' || n % 5, 's' || n, 'd', 1, 'text/plain', 1, '', 'ready', NULL, 1, 0,
    'user:ana', n, 'x', ''
  FROM generate_series(1, 20000) AS n;
INSERT INTO memory_entries SELECT 't' || n % 5, 'agent', 'a' || n % 9, 's' || n % 99, 'k' || n, '1', n, n, n, NULL,
    NULL, NULL, 'user:ana'
  FROM generate_series(1, 20000) AS n;
INSERT INTO memory_scopes SELECT 't' || n % 5, 'agent', 'a' || n % 9, 's' || n, n, 1, n
  FROM generate_series(1, 20000) AS n;
ANALYZE;
"""


def statements() -> Iterator[tuple[str, Statement]]:
    """Every statement of these modules, by name."""
    for module in MODULES:
        yield from _of(module)
    for names in (frozenset[str](), frozenset({"run_id"}), frozenset({"prompt_id"}), frozenset({"kind", "actor"})):
        yield f"page {sorted(names)}", audit_reads._page(names)
        yield f"after {sorted(names)}", audit_reads._after(names)


def _of(module: ModuleType) -> Iterator[tuple[str, Statement]]:
    for name, value in vars(module).items():
        for key, each in value.items() if isinstance(value, dict) else [("", value)]:
            for statement in each if isinstance(each, tuple) else [each]:
                if isinstance(statement, Statement) and statement is not leftovers._HOLD:
                    yield f"{module.__name__}.{name} {key}", statement


def given(dialect: str, statement: Statement) -> list[Any]:
    """Values for every parameter; PostgreSQL's text says of which type each is."""
    types = dict(re.findall(r"\$(\d+)::(\w+(?:\[\])?)", statement.postgresql.sql))
    kinds = {name: types[str(place)] for place, name in enumerate(statement.postgresql._order, 1)}
    chosen = {"TEXT[]": id_list(dialect, ["run_1", "p1"]), "VARCHAR": "t1", "TEXT": "t1"}
    values = {name: chosen.get(kinds[name], 7) for name in statement.postgresql._required}
    compiled = statement.sqlite if dialect == "sqlite" else statement.postgresql
    return compiled.bind(values)


def test_on_sqlite(sqlite_url: str) -> None:
    """P6: nothing but small tables, values that were given and partial indexes of what is left to do is scanned."""
    looked = 0
    with closing(sqlite3.connect(sqlite_url.removeprefix("sqlite+aiosqlite:///"))) as connection:
        for name, statement in statements():
            sql = statement.sqlite.sql
            lines = [row[3] for row in connection.execute(f"EXPLAIN QUERY PLAN {sql}", given("sqlite", statement))]
            scans = [line for line in lines if line.startswith("SCAN") and not _harmless(name, line)]
            assert not scans, (name, lines)
            looked += 1
    assert looked > 50


def _harmless(name: str, line: str) -> bool:
    words = line.split()
    left_to_do = any(part in line for part in ("ix_tombstones_emptying", "ix_audit_records_unsealed"))
    ours = {"CONSTANT", "anon_1", "anon_2", "anon_3", "anon_4", "json_each", "window", "doomed"}
    if words[1] == "doomed":
        return "_DROP_WORKERS" in name
    return left_to_do or words[1] in ours | SMALL or "VIRTUAL TABLE" in line


async def test_on_postgresql(postgres_url: str) -> None:
    """P6: planned with statistics of tables of 20,000 rows and more, no plan reads one of them from end to end."""
    connection = await asyncpg.connect(postgres_url.replace("postgresql+asyncpg", "postgresql"))
    try:
        await connection.execute(GROW)
        for name, statement in statements():
            rows = await connection.fetch(f"EXPLAIN {statement.postgresql.sql}", *given("postgresql", statement))
            scanned = {table for row in rows for table in re.findall(r"Seq Scan on (\w+)", row[0])}
            assert scanned <= SMALL, (name, rows)
    finally:
        await connection.close()
