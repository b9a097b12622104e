"""What retention needs of the database (P6): policies, trees that may go, and their tombstones.

A run's row is deleted in the transaction that writes its tombstone: from then on nobody can read it any more. What
else it has is deleted afterwards (``store/emptying.py``).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final

import sqlalchemy as sa

from contracts.lifecycle import RUN_TERMINAL
from store import tables as t
from store.connect import Database
from store.dialect import id_list, ids_among, insert_into
from store.rows import RunRow
from store.statement import Statement, number, text
from store.tombstones import TombstoneRow
from store.unit import Reader, Unit


@dataclass(frozen=True, slots=True)
class PolicyRow:
    """How long a tenant keeps things, in days; null keeps them for ever."""

    tenant: str
    runs_days: int | None
    audit_days: int | None
    updated_by: str
    updated_at: int
    conversations_days: int | None = None
    documents_days: int | None = None
    memory_days: int | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The root of a tree that ended; a place in the order in which trees are looked at."""

    ended_at: int
    run_id: str


@dataclass(frozen=True, slots=True)
class Remains:
    """What a run's history summary is made of.

    ``counts`` maps statuses of its nodes to how many there are; ``last_frame`` is the data of its terminal frame.
    """

    run: RunRow
    envelope_json: str | None
    counts: dict[str, int]
    prompts: int
    last_frame: bytes | None


FIRST: Final = Ended(-1, "")

_R: Final = t.runs.c
_ENDED: Final = t.among(_R.status, RUN_TERMINAL)
_P: Final = t.retention_policies
_POLICY: Final = Statement(sa.select(_P).where(_P.c.tenant == text("tenant")))


def _put(dialect: str) -> Any:
    made = insert_into(dialect, _P).values(
        {column.name: sa.bindparam(column.name, type_=column.type, required=True) for column in _P.c}
    )
    changed = {column.name: made.excluded[column.name] for column in _P.c if column.name != "tenant"}
    return made.on_conflict_do_update(index_elements=["tenant"], set_=changed)


_PUT: Final = Statement(_put)

_child: Final = t.runs.alias("child")
# A child that has not ended, or that ended later, keeps its whole tree.
_KEPT: Final = sa.exists().where(
    _child.c.root_run_id == _R.run_id,
    _child.c.parent_run_id.is_not(None),
    sa.or_(
        ~t.among(_child.c.status, RUN_TERMINAL), _child.c.ended_at.is_(None), _child.c.ended_at >= number("before_ms")
    ),
)
_TREES: Final = Statement(
    sa.select(_R.ended_at, _R.run_id)
    .where(_R.tenant == text("tenant"), _R.parent_run_id.is_(None), _R.ended_at.is_not(None), _ENDED)
    .where(_R.ended_at < number("before_ms"))
    .where(sa.tuple_(_R.ended_at, _R.run_id) > sa.tuple_(number("after_at"), text("after_id")))
    .where(~_KEPT)
    .order_by(_R.ended_at, _R.run_id)
    .limit(number("most"))
)
_CHILDREN: Final = Statement(
    lambda dialect: (
        sa.select(_R.run_id)
        .where(ids_among(dialect, _R.root_run_id, "roots"), _R.root_run_id.is_not(None), _R.parent_run_id.is_not(None))
        .where(_R.tenant == text("tenant"))
        .order_by(_R.run_id)
        .limit(number("most"))
    )
)
_RUNS: Final = Statement(
    lambda dialect: (
        sa.select(t.runs, t.envelopes.c.envelope_json, t.events.c.data)
        .outerjoin(t.envelopes, t.envelopes.c.run_id == _R.run_id)
        .outerjoin(t.events, sa.and_(t.events.c.run_id == _R.run_id, t.events.c.seq == _R.last_seq))
        .where(ids_among(dialect, _R.run_id, "ids"))
    )
)
_NODES: Final = Statement(
    lambda dialect: (
        sa.select(t.nodes.c.run_id, t.nodes.c.status, sa.func.count())
        .where(ids_among(dialect, t.nodes.c.run_id, "ids"))
        .group_by(t.nodes.c.run_id, t.nodes.c.status)
    )
)
_PROMPTS: Final = Statement(
    lambda dialect: (
        sa.select(t.prompts.c.run_id, sa.func.count())
        .where(ids_among(dialect, t.prompts.c.run_id, "ids"))
        .group_by(t.prompts.c.run_id)
    )
)
_BURY: Final = Statement(
    lambda dialect: (
        insert_into(dialect, t.tombstones)
        .values({column.name: sa.bindparam(column.name, type_=column.type, required=True) for column in t.tombstones.c})
        .on_conflict_do_nothing(index_elements=["run_id"])
    )
)


def _note_prompts(dialect: str) -> Any:
    theirs = sa.select(t.prompts.c.prompt_id, t.prompts.c.run_id).where(ids_among(dialect, t.prompts.c.run_id, "ids"))
    made = insert_into(dialect, t.pruned_prompts).from_select(["prompt_id", "run_id"], theirs)
    return made.on_conflict_do_nothing(index_elements=["prompt_id"])


_NOTE_PROMPTS: Final = Statement(_note_prompts)
_UNLIST: Final = Statement(
    lambda dialect: (
        sa.delete(t.runs)
        .where(ids_among(dialect, _R.run_id, "ids"), _R.tenant == text("tenant"))
        .where(_ENDED, _R.ended_at < number("before_ms"))
    )
)


async def policy_of(reader: Reader, tenant: str) -> PolicyRow | None:
    """Return the tenant's own policy; None: it has none, the settings count."""
    row = await reader.fetch_one(_POLICY, tenant=tenant)
    return None if row is None else PolicyRow(*row)


async def put_policy(unit: Unit, row: PolicyRow) -> None:
    """Store the tenant's policy."""
    await unit.execute(_PUT, **{part.name: getattr(row, part.name) for part in fields(PolicyRow)})


async def ended_trees(
    database: Database, tenant: str, before_ms: int, after: Ended = FIRST, *, limit: int
) -> list[Ended]:
    """Return roots of trees in which every run ended before ``before_ms``, the one that ended first first."""
    given = {"tenant": tenant, "before_ms": before_ms, "after_at": after.ended_at, "after_id": after.run_id}
    async with database.reader() as reader:
        return [Ended(*row) for row in await reader.fetch(_TREES, **given, most=limit)]


async def children_of(database: Database, tenant: str, roots: Sequence[str], limit: int) -> list[str]:
    """Return up to ``limit`` runs below these roots, at any depth."""
    async with database.reader() as reader:
        rows = await reader.fetch(_CHILDREN, tenant=tenant, roots=id_list(database.dialect, roots), most=limit)
        return [row[0] for row in rows]


async def remains_of(database: Database, run_ids: Sequence[str]) -> list[Remains]:
    """Return what summaries are made of, for the runs that are still there. They have ended: nothing changes."""
    ids = id_list(database.dialect, run_ids)
    async with database.reader() as reader:
        rows = await reader.fetch(_RUNS, ids=ids)
        counts: dict[str, dict[str, int]] = {}
        for run_id, status, many in await reader.fetch(_NODES, ids=ids):
            counts.setdefault(run_id, {})[status] = many
        asked = {row[0]: row[1] for row in await reader.fetch(_PROMPTS, ids=ids)}
    width = len(fields(RunRow))
    return [
        Remains(RunRow(*row[:width]), row[width], counts.get(row[0], {}), asked.get(row[0], 0), row[width + 1])
        for row in rows
    ]


async def bury(unit: Unit, tenant: str, stones: Sequence[TombstoneRow], before_ms: int) -> bool:
    """Write tombstones and delete the rows of these runs; False: some were not there, or have not ended long ago.

    After False the unit must be undone.
    """
    for stone in stones:
        await unit.execute(_BURY, **{part.name: getattr(stone, part.name) for part in fields(TombstoneRow)})
    ids = id_list(unit.dialect, [stone.run_id for stone in stones])
    await unit.execute(_NOTE_PROMPTS, ids=ids)
    return await unit.execute(_UNLIST, ids=ids, tenant=tenant, before_ms=before_ms) == len(stones)
