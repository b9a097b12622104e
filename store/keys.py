"""Keys that the service signs with, made on first use and shared by every process of a database."""

from __future__ import annotations

from typing import Final

import sqlalchemy as sa

from store.connect import Database
from store.dialect import insert_into
from store.statement import Statement, number, text
from store.tables import signing_keys

_GET: Final = Statement(sa.select(signing_keys.c.secret).where(signing_keys.c.purpose == text("purpose")))
_NEW: Final = {"purpose": text("of"), "secret": text("secret"), "created_at": number("now_ms")}
_PUT: Final = Statement(
    lambda dialect: insert_into(dialect, signing_keys).values(_NEW).on_conflict_do_nothing(index_elements=["purpose"])
)


async def signing_key(database: Database, purpose: str, fresh: str, now_ms: int) -> str:
    """Return the key of a purpose; ``fresh`` becomes it when there is none yet, whoever comes first.

    Raises ``StoreUnavailable``.
    """
    async with database.unit() as unit:
        row = await unit.fetch_one(_GET, purpose=purpose)
        if row is None:
            await unit.execute(_PUT, of=purpose, secret=fresh, now_ms=now_ms)
            row = await unit.fetch_one(_GET, purpose=purpose)
    if row is None:
        raise AssertionError("a key that was just written is there")
    return str(row[0])
