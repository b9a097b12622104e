"""Idempotency keys: written with the birth of a run (``store/journal.py``), read and swept here (F2)."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from store.connect import Database
from store.dialect import row_address, skip_locked
from store.statement import Statement, number, text
from store.tables import idempotency_keys as keys

_FIND: Final = Statement(
    sa.select(keys.c.run_id, keys.c.fingerprint).where(
        keys.c.tenant == text("tenant"),
        keys.c.principal == text("principal"),
        keys.c.key == text("key"),
        keys.c.expires_at > number("now_ms"),
    )
)


def _sweep(dialect: str) -> sa.Delete:
    address = row_address(dialect, keys)
    old = sa.select(address.label("address")).where(keys.c.expires_at <= number("now_ms")).limit(number("most"))
    chosen = skip_locked(dialect, old).cte("old")
    return sa.delete(keys).where(address.in_(sa.select(*chosen.c)))


_SWEEP: Final = Statement(_sweep)


async def find(database: Database, tenant: str, principal: str, key: str, now_ms: int) -> tuple[str, str] | None:
    """Return ``(run_id, fingerprint)`` of a key that has not expired."""
    async with database.near() as reader:
        row = await reader.fetch_one(_FIND, tenant=tenant, principal=principal, key=key, now_ms=now_ms)
        return None if row is None else (row[0], row[1])


async def sweep(database: Database, now_ms: int, limit: int = 1_000) -> int:
    """Delete up to ``limit`` expired keys; returns how many. All tenants."""
    async with database.unit() as unit:
        return await unit.execute(_SWEEP, now_ms=now_ms, most=limit)
