"""Audit records as rows (H9): written with what they record, then numbered and chained, in the end pruned.

Writing waits for nobody: a record gets its number later, from whoever seals (``hitl/sealing.py``). The chain's order is
the order of sealing, so a record that commits late takes its place behind those that were sealed before it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson
import sqlalchemy as sa

from store.connect import Database
from store.dialect import insert_into, skip_locked
from store.statement import Row, Statement, number, text
from store.tables import audit_checkpoints as checkpoints
from store.tables import audit_heads as heads
from store.tables import audit_records as records
from store.unit import Reader, Unit


@dataclass(slots=True)
class AuditRow:
    """Who did what (H9). ``body_json`` is a JSON object with what the kind needs; ``at`` is ms since the epoch."""

    record_id: str
    tenant: str
    at: int
    kind: str
    actor: str
    run_id: str | None
    prompt_id: str | None
    body_json: str


@dataclass(slots=True)
class SealedRow(AuditRow):
    """A record with its place in the tenant's chain; all three are null until it is sealed."""

    seq: int | None
    previous: str | None
    hash: str | None


@dataclass(frozen=True, slots=True)
class Mark:
    """A place in a chain: the record's number and its hash."""

    seq: int
    hash: str


_R: Final = records.c
_GIVEN: Final = ("record_id", "tenant", "at", "kind", "actor", "run_id", "prompt_id", "body_json")
_ADD: Final = Statement(
    sa.insert(records).values({name: sa.bindparam(name, type_=_R[name].type, required=True) for name in _GIVEN})
)
# With its limit the partial index answers this from its first entry.
_WAITING: Final = Statement(
    sa.select(_R.tenant).where(_R.seq.is_(None), _R.tenant > text("after")).order_by(_R.tenant, _R.at).limit(1)
)
_UNSEALED: Final = Statement(
    sa.select(records)
    .where(_R.tenant == text("tenant"), _R.seq.is_(None))
    .order_by(_R.at, _R.record_id)
    .limit(number("most"))
)
_FIRST_HEAD: Final = Statement(
    lambda dialect: (
        insert_into(dialect, heads)
        .values(tenant=text("tenant"), seq=0, hash=text("genesis"))
        .on_conflict_do_nothing(index_elements=["tenant"])
    )
)
_HEAD: Final = sa.select(heads.c.seq, heads.c.hash).where(heads.c.tenant == text("tenant"))
_TAKE_HEAD: Final = Statement(lambda dialect: skip_locked(dialect, _HEAD))
_SEAL: Final = Statement(
    sa.update(records)
    .where(_R.record_id == text("of"), _R.seq.is_(None))
    .values(
        body_json=text("body"),
        seq=number("place"),
        previous=sa.bindparam("before", type_=sa.Text, required=True),
        hash=sa.bindparam("sealed", type_=sa.Text, required=True),
    )
)
_MOVE_HEAD: Final = Statement(
    sa.update(heads).where(heads.c.tenant == text("of")).values(seq=number("place"), hash=text("sealed"))
)
_OLDEST: Final = Statement(
    sa.select(_R.seq, _R.at, _R.hash)
    .where(_R.tenant == text("tenant"), _R.seq.is_not(None))
    .order_by(_R.seq)
    .limit(number("most"))
)
_CHECK: Final = Statement(
    lambda dialect: (
        insert_into(dialect, checkpoints)
        .values(tenant=text("tenant"), seq=number("place"), hash=text("sealed"), at=number("now_ms"))
        .on_conflict_do_nothing(index_elements=["tenant", "seq"])
    )
)
_UNCHECK: Final = Statement(
    sa.delete(checkpoints).where(checkpoints.c.tenant == text("of"), checkpoints.c.seq < number("below"))
)
_FORGET: Final = Statement(sa.delete(records).where(_R.tenant == text("of"), _R.seq <= number("upto")))


def canonical_body(body_json: str) -> str:
    """Return a body as it is stored and hashed: an object with sorted keys and no spaces. Raises ``ValueError``."""
    body = orjson.loads(body_json)
    if not isinstance(body, dict):
        raise ValueError("the body of an audit record is a JSON object")
    return orjson.dumps(body, option=orjson.OPT_SORT_KEYS).decode()


async def add(unit: Unit, row: AuditRow) -> None:
    """Write a record in the unit of what it records.

    Raises ``Refused`` when the ``record_id`` is taken and ``ValueError`` when the body is no JSON object.
    """
    given = {name: getattr(row, name) for name in _GIVEN}
    await unit.execute(_ADD, **given | {"body_json": canonical_body(row.body_json)})


# --- sealing ---------------------------------------------------------------------------------------------------------


async def waiting_tenant(database: Database, after: str = "") -> str | None:
    """Return the first tenant behind ``after`` with a record to seal: the cheap look of a sealer. All tenants."""
    async with database.near() as reader:
        row = await reader.fetch_one(_WAITING, after=after)
        return None if row is None else str(row[0])


async def take_head(unit: Unit, tenant: str, genesis: str) -> Mark | None:
    """Return where the tenant's chain ends and keep other sealers away until the commit; None: one is at it."""
    await unit.execute(_FIRST_HEAD, tenant=tenant, genesis=genesis)
    row = await unit.fetch_one(_TAKE_HEAD, tenant=tenant)
    return None if row is None else Mark(row[0], row[1])


async def unsealed(reader: Reader, tenant: str, limit: int) -> list[SealedRow]:
    """Return the tenant's records that wait to be sealed, in the order in which they are to be."""
    return [SealedRow(*row) for row in await reader.fetch(_UNSEALED, tenant=tenant, most=limit)]


async def seal(unit: Unit, row: SealedRow) -> None:
    """Write a record's place. Take the head first. Raises ``RuntimeError`` when it is sealed already."""
    given = {"of": row.record_id, "body": row.body_json, "place": row.seq, "before": row.previous, "sealed": row.hash}
    if await unit.execute(_SEAL, **given) != 1:
        raise RuntimeError(f"audit record {row.record_id} was sealed without its head")


async def move_head(unit: Unit, tenant: str, head: Mark) -> None:
    """Write where the tenant's chain ends now. Take the head first."""
    await unit.execute(_MOVE_HEAD, of=tenant, place=head.seq, sealed=head.hash)


# --- pruning ---------------------------------------------------------------------------------------------------------


async def prune_prefix(unit: Unit, tenant: str, before_ms: int, now_ms: int, limit: int) -> int:
    """Delete up to ``limit`` sealed records from the chain's beginning, all older than ``before_ms``; return how many.

    A checkpoint says where the chain goes on; earlier checkpoints are dropped. A record in between that is younger
    stops it: what is left is always the chain's end, without a gap (P6).
    """
    last: Row | None = None
    for row in await unit.fetch(_OLDEST, tenant=tenant, most=limit):
        if row[1] >= before_ms:
            break
        last = row
    if last is None:
        return 0
    await unit.execute(_CHECK, tenant=tenant, place=last[0], sealed=last[2], now_ms=now_ms)
    await unit.execute(_UNCHECK, of=tenant, below=last[0])
    return await unit.execute(_FORGET, of=tenant, upto=last[0])
