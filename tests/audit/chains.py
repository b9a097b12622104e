"""Chains of records for tests, and what somebody with the database in hand may do to them."""

import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import orjson
import sqlalchemy as sa

from hitl.chain import digest, item_of
from hitl.sealing import Sealer
from service.verifying import ChainCheck, Verdict
from store import audit
from store.audit import AuditRow, SealedRow
from store.audit_reads import after
from store.connect import Database
from store.statement import Statement
from store.tables import audit_heads, audit_records
from tests.store.making import NOW, Hands

_numbers = itertools.count(1)
R = audit_records.c


def record(tenant: str = "default", at: int = NOW, **more: Any) -> AuditRow:
    """One person's decision."""
    values: dict[str, Any] = {
        "record_id": f"aud_{next(_numbers):08}", "tenant": tenant, "at": at, "kind": "prompt.decided",
        "actor": "user:ana", "run_id": "run_1", "prompt_id": "prm_1",
        "body_json": orjson.dumps({"action": "approve", "why": "fine, ünd more", "waited_ms": 12.5}).decode(),
    }  # fmt: skip
    return AuditRow(**(values | more))


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[Database]:
    """The database, for one example."""
    database = await Database.open(url, clock=Hands(), pool_size=3, readers=1)
    try:
        yield database
    finally:
        await database.close()


async def added(database: Database, *rows: AuditRow) -> None:
    async with database.unit() as unit:
        for row in rows:
            await audit.add(unit, row)


async def chained(database: Database, tenant: str, many: int) -> list[SealedRow]:
    """A sealed chain of so many records, a millisecond apart."""
    await added(database, *(record(tenant, NOW + number) for number in range(many)))
    await Sealer(database, batch=5).tick()
    return await rows_of(database, tenant)


async def rows_of(database: Database, tenant: str) -> list[SealedRow]:
    return await after(database, tenant, 0, 2**62, 10_000)


async def verdict(database: Database, tenant: str) -> Verdict:
    return await ChainCheck(database, tenant).verify()


async def do(database: Database, *constructs: Any) -> None:
    """Do something to the tables that nobody of ours would."""
    async with database.unit() as unit:
        for construct in constructs:
            await unit.execute(Statement(construct))


def change(record: str, **values: Any) -> Any:
    return sa.update(audit_records).where(R.record_id == record).values(**values)


def forged(row: SealedRow, **values: Any) -> dict[str, Any]:
    """The columns of a record with a hash that fits them, as somebody who can compute SHA-256 writes them."""
    made = {column.name: getattr(row, column.name) for column in audit_records.c} | values
    return made | {"hash": digest(item_of(SealedRow(**made)))}


def head(tenant: str, **values: Any) -> Any:
    return sa.update(audit_heads).where(audit_heads.c.tenant == tenant).values(**values)


async def renumber(database: Database, rows: list[SealedRow], by: int) -> None:
    """Move records along the chain, one after the other so that no number is taken twice on the way."""
    ordered = sorted(rows, key=lambda row: row.seq or 0, reverse=by > 0)
    await do(database, *(change(row.record_id, seq=(row.seq or 0) + by) for row in ordered))
