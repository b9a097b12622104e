"""Runs: claiming, loading and giving them up (engine), and reading them (doors).

What the engine calls takes no tenant: a worker serves all of them. What doors call always does.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import Any, Final

import sqlalchemy as sa

from contracts.lifecycle import RunStatus
from store import tables as t
from store.connect import Database
from store.dialect import id_list, ids_among, skip_locked
from store.keyset import Page, decode, page_of
from store.rows import LoadedRun, NodeRow, PlanRow, PromptRow, RunRow, SignalRow
from store.statement import Row, Statement, number, text
from store.unit import Reader

_PLAN_COLUMNS: Final = (
    t.run_plans.c.version,
    t.run_plans.c.plan_hash,
    t.plans.c.plan_json,
    t.run_plans.c.author,
    t.run_plans.c.reason,
    t.run_plans.c.created_at,
)
_HAS_PLAN: Final = sa.and_(t.plans.c.tenant == t.run_plans.c.tenant, t.plans.c.document == t.run_plans.c.document)
_IN_ITS_PLAN: Final = sa.and_(t.run_plans.c.run_id == t.runs.c.run_id, t.run_plans.c.version == t.runs.c.plan_version)
_MINE: Final = (t.runs.c.run_id == text("run_id"), t.runs.c.tenant == text("tenant"))
_RUN_WIDTH: Final = len(fields(RunRow))
_PLAN_WIDTH: Final = len(_PLAN_COLUMNS)

_CLAIM: Final = Statement(
    sa.update(t.runs)
    .where(t.runs.c.run_id == text("at"), t.runs.c.worker.is_(None), t.RUN_IS_ACTIVE)
    .values(worker=text("by"), epoch=t.runs.c.epoch + 1)
    .returning(t.runs.c.run_id)
)


_DUE: Final = (
    t.runs.c.worker.is_(None),
    t.runs.c.wake_at <= number("now_ms"),
    t.runs.c.wake_at.is_not(None),
    t.RUN_IS_ACTIVE,
)


def _claim_due(dialect: str) -> sa.Update:
    return _claim(dialect, sa.select(t.runs.c.run_id).where(*_DUE).order_by(t.runs.c.wake_at).limit(number("most")))


def _claim_these(dialect: str) -> sa.Update:
    return _claim(dialect, sa.select(t.runs.c.run_id).where(ids_among(dialect, t.runs.c.run_id, "ids"), *_DUE))


def _claim(dialect: str, due: sa.Select[Any]) -> sa.Update:
    # A CTE, because a subquery may be run again per row and then lock more than its limit.
    chosen = skip_locked(dialect, due).cte("due")
    return (
        sa.update(t.runs)
        .where(t.runs.c.run_id.in_(sa.select(chosen.c.run_id)))
        .where(t.runs.c.worker.is_(None))
        .values(worker=text("by"), epoch=t.runs.c.epoch + 1)
        .returning(t.runs.c.run_id, t.runs.c.tenant)
    )


_CLAIM_DUE: Final = Statement(_claim_due)
_CLAIM_THESE: Final = Statement(_claim_these)
_DISOWN: Final = Statement(
    sa.update(t.runs)
    .where(t.runs.c.worker == text("of"))
    .values(worker=None, epoch=t.runs.c.epoch + 1, wake_at=number("now_ms"))
)
_HEAD: Final = Statement(
    sa.select(t.runs, t.envelopes.c.envelope_json, *_PLAN_COLUMNS)
    .join(t.envelopes, t.envelopes.c.run_id == t.runs.c.run_id)
    .outerjoin(t.run_plans, _IN_ITS_PLAN)
    .outerjoin(t.plans, _HAS_PLAN)
    .where(t.runs.c.run_id == text("run_id"), t.runs.c.worker == text("worker"))
)
_NODE_COLUMNS: Final = [column for column in t.nodes.c if column.name != "run_id"]
_NODES_OF: Final = Statement(sa.select(*_NODE_COLUMNS).where(t.nodes.c.run_id == text("run_id")))
_PROMPTS_OF: Final = Statement(
    sa.select(t.prompts)
    .where(t.prompts.c.run_id == text("run_id"))
    .order_by(t.prompts.c.created_at, t.prompts.c.prompt_id)
)
_SIGNALS_OF: Final = Statement(
    sa.select(t.signals)
    .where(t.signals.c.run_id == text("run_id"), t.signals.c.outcome.is_(None))
    .order_by(t.signals.c.signal_id)
)

_RUN: Final = Statement(sa.select(t.runs).where(*_MINE))
_ENVELOPE: Final = Statement(
    sa.select(t.envelopes.c.envelope_json).join(t.runs, t.runs.c.run_id == t.envelopes.c.run_id).where(*_MINE)
)
_PLAN: Final = Statement(
    sa.select(*_PLAN_COLUMNS)
    .join(t.runs, t.runs.c.run_id == t.run_plans.c.run_id)
    .join(t.plans, _HAS_PLAN)
    .where(*_MINE, t.run_plans.c.version == sa.func.coalesce(number("version"), t.runs.c.plan_version))
)
_PLANS: Final = Statement(
    sa.select(*_PLAN_COLUMNS)
    .join(t.runs, t.runs.c.run_id == t.run_plans.c.run_id)
    .join(t.plans, _HAS_PLAN)
    .where(*_MINE, t.run_plans.c.version < number("before"))
    .order_by(t.run_plans.c.version.desc())
    .limit(number("most"))
)
_NODES: Final = Statement(
    sa.select(*_NODE_COLUMNS)
    .join(t.runs, t.runs.c.run_id == t.nodes.c.run_id)
    .where(*_MINE)
    .order_by(t.nodes.c.started_at.asc().nulls_last(), t.nodes.c.node_id)
)
_NODE: Final = Statement(
    sa.select(*_NODE_COLUMNS)
    .join(t.runs, t.runs.c.run_id == t.nodes.c.run_id)
    .where(*_MINE, t.nodes.c.node_id == text("node_id"))
)
_BEFORE: Final = sa.tuple_(t.runs.c.created_at, t.runs.c.run_id) < sa.tuple_(number("at"), text("last"))
_PAGE: Final = Statement(
    sa.select(t.runs)
    .where(t.runs.c.tenant == text("tenant"), _BEFORE)
    .order_by(t.runs.c.created_at.desc(), t.runs.c.run_id.desc())
    .limit(number("most"))
)
_PAGE_OF_STATUS: Final = Statement(
    sa.select(t.runs)
    .where(t.runs.c.tenant == text("tenant"), _BEFORE, t.runs.c.status == text("status"))
    .order_by(t.runs.c.created_at.desc(), t.runs.c.run_id.desc())
    .limit(number("most"))
)
_BACKLOG: Final = Statement(
    sa.select(sa.func.count()).select_from(
        sa.select(t.runs.c.run_id)
        .where(t.runs.c.worker.is_(None), t.runs.c.wake_at.is_not(None), t.runs.c.wake_at <= number("now_ms"))
        .limit(number("most"))
        .subquery()
    )
)


# --- engine ----------------------------------------------------------------------------------------------------------


async def claim(database: Database, run_id: str, worker: str) -> bool:
    """Take an unowned, unended run for ``worker`` (epoch + 1); False: somebody has it, or it ended. Takes no tenant."""
    return bool(await database.alone(_CLAIM, "claim", at=run_id, by=worker))


async def claim_due(database: Database, worker: str, now_ms: int, limit: int) -> list[tuple[str, str]]:
    """Take up to ``limit`` unowned runs whose ``wake_at`` has come, as ``(run_id, tenant)``. Takes no tenant."""
    async with database.unit() as unit:
        claimed = [(row[0], row[1]) for row in await unit.fetch(_CLAIM_DUE, by=worker, now_ms=now_ms, most=limit)]
    if claimed:
        database.crash.reach("claim.after_commit")
    return claimed


async def claim_these(database: Database, run_ids: Sequence[str], worker: str, now_ms: int) -> list[str]:
    """Take those of these runs that nobody holds and whose ``wake_at`` has come (epoch + 1). Takes no tenant."""
    ids = id_list(database.dialect, run_ids)
    async with database.unit() as unit:
        claimed = [row[0] for row in await unit.fetch(_CLAIM_THESE, by=worker, now_ms=now_ms, ids=ids)]
    if claimed:
        database.crash.reach("claim.after_commit")
    return claimed


async def disown(database: Database, worker: str) -> int:
    """Give up every run that ``worker`` holds (epoch + 1, due at once); returns how many. Takes no tenant."""
    async with database.unit() as unit:
        return await unit.execute(_DISOWN, of=worker, now_ms=database.clock.now_ms())


async def load(database: Database, run_id: str, worker: str) -> LoadedRun | None:
    """Return everything of a run that ``worker`` has just claimed; None if it does not hold it. Takes no tenant.

    ``signals`` are the pending ones, ``prompts`` all of the run's. ``run.inbox`` covers every signal that is returned.
    """
    async with database.near() as reader:
        head = await reader.fetch_one(_HEAD, run_id=run_id, worker=worker)
        if head is None:
            return None
        nodes = [NodeRow(*row) for row in await reader.fetch(_NODES_OF, run_id=run_id)]
        prompts = [PromptRow(*row) for row in await reader.fetch(_PROMPTS_OF, run_id=run_id)]
        signals = [SignalRow(row[1], row[0], *row[2:]) for row in await reader.fetch(_SIGNALS_OF, run_id=run_id)]
    run = RunRow(*head[:_RUN_WIDTH])
    if signals:
        # One may have come between the two statements.
        run.inbox = max(run.inbox, signals[-1].signal_id)
    plan = PlanRow(*head[_RUN_WIDTH + 1 :]) if head[_RUN_WIDTH + 1] is not None else None
    return LoadedRun(run, head[_RUN_WIDTH], plan, nodes, prompts, signals)


# --- doors -----------------------------------------------------------------------------------------------------------


async def run_row(database: Database, tenant: str, run_id: str) -> RunRow | None:
    """Return a run."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_RUN, tenant=tenant, run_id=run_id)
        return None if row is None else RunRow(*row)


async def run_page(
    database: Database, tenant: str, *, limit: int, cursor: str | None = None, status: RunStatus | None = None
) -> Page[RunRow]:
    """Return runs, newest first; raise ``BadQuery`` for a cursor that is not ours."""
    at, last = decode(cursor)
    async with database.reader() as reader:
        rows = await _page(reader, tenant, at, last, limit + 1, status)
    return page_of([RunRow(*row) for row in rows], limit, lambda run: (run.created_at, run.run_id))


async def _page(reader: Reader, tenant: str, at: int, last: str, most: int, status: RunStatus | None) -> Sequence[Row]:
    if status is None:
        return await reader.fetch(_PAGE, tenant=tenant, at=at, last=last, most=most)
    return await reader.fetch(_PAGE_OF_STATUS, tenant=tenant, at=at, last=last, most=most, status=str(status))


async def envelope(database: Database, tenant: str, run_id: str) -> str | None:
    """Return the envelope (JSON) that a run was accepted with."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_ENVELOPE, tenant=tenant, run_id=run_id)
        return None if row is None else str(row[0])


async def plan_row(database: Database, tenant: str, run_id: str, version: int | None = None) -> PlanRow | None:
    """Return a version of the run's plan, the present one without ``version``."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_PLAN, tenant=tenant, run_id=run_id, version=version)
        return None if row is None else PlanRow(*row)


async def plan_page(
    database: Database, tenant: str, run_id: str, *, limit: int, cursor: str | None = None
) -> Page[PlanRow]:
    """Return the versions of a run's plan, newest first; raise ``BadQuery`` for a cursor that is not ours."""
    before, _ = decode(cursor)
    async with database.reader() as reader:
        rows = await reader.fetch(_PLANS, tenant=tenant, run_id=run_id, before=before, most=limit + 1)
    return page_of([PlanRow(*row) for row in rows], limit, lambda plan: (plan.version, "version"))


async def node_rows(database: Database, tenant: str, run_id: str) -> list[NodeRow]:
    """Return the nodes of a run that have left ``pending``, in the order in which they started."""
    async with database.reader() as reader:
        return [NodeRow(*row) for row in await reader.fetch(_NODES, tenant=tenant, run_id=run_id)]


async def node_row(database: Database, tenant: str, run_id: str, node_id: str) -> NodeRow | None:
    """Return one node of a run."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_NODE, tenant=tenant, run_id=run_id, node_id=node_id)
        return None if row is None else NodeRow(*row)


async def backlog(database: Database, now_ms: int, cap: int = 10_000) -> int:
    """Return how many due runs nobody holds, counted up to ``cap`` (F12). All tenants."""
    async with database.near() as reader:
        row = await reader.fetch_one(_BACKLOG, now_ms=now_ms, most=cap)
        return 0 if row is None else int(row[0])
