"""Prompts and decisions as rows (H1-H7): raised by the journal, decided by hitl, one guarded UPDATE per move."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import astuple
from typing import Any, Final, Literal

import sqlalchemy as sa

from contracts.lifecycle import PROMPT_TERMINAL, PromptStatus
from store import tables as t
from store.connect import Database
from store.dialect import locking, skip_locked
from store.keyset import Page, decode, page_of
from store.rows import DecisionRow, PromptRow
from store.statement import Row, Statement, number, text
from store.unit import Unit

View = Literal["open", "done", "mine", "unassigned", "overdue"]
"""``open``: every open one. ``done``: every ended one. Open ones too: ``mine`` claimed by the viewer, ``unassigned``
claimed by nobody, ``overdue`` past their due time."""

_P: Final = t.prompts.c
_THIS: Final = (_P.prompt_id == text("prompt_id"), _P.tenant == text("tenant"))
_OPEN: Final = _P.status == sa.literal_column(f"'{PromptStatus.OPEN}'")
_AT: Final = (_P.prompt_id == text("at"), _P.tenant == text("of"), _OPEN)

_GET: Final = Statement(sa.select(t.prompts).where(*_THIS))
_LOCK: Final = Statement(lambda dialect: locking(dialect, sa.select(t.prompts).where(*_THIS)))
_OF_RUN: Final = Statement(
    sa.select(t.prompts)
    .where(_P.run_id == text("run_id"), _P.tenant == text("tenant"), _OPEN)
    .order_by(_P.created_at, _P.prompt_id)
)
_SETTLE: Final = Statement(
    sa.update(t.prompts)
    .where(*_AT)
    .values(
        status=str(PromptStatus.SETTLED),
        settled_at=number("now_ms"),
        decision_json=sa.bindparam("decision", type_=sa.Text, required=True),
    )
)
_WITHDRAW: Final = Statement(
    sa.update(t.prompts).where(*_AT).values(status=str(PromptStatus.WITHDRAWN), settled_at=number("now_ms"))
)
_CLAIM: Final = Statement(
    sa.update(t.prompts).where(*_AT).values(claimed_by=sa.bindparam("by", type_=sa.Text, required=True))
)
_ADD: Final = Statement(
    sa.insert(t.decisions).values({c.name: sa.bindparam(c.name, type_=c.type, required=True) for c in t.decisions.c})
)
_VOTES: Final = Statement(
    sa.select(t.decisions)
    .where(t.decisions.c.prompt_id == text("prompt_id"), t.decisions.c.tenant == text("tenant"))
    .order_by(t.decisions.c.decided_at, t.decisions.c.decision_id)
)
_DUE: Final = (
    sa.select(_P.prompt_id)
    .where(_OPEN, _P.due_at.is_not(None), _P.due_at <= number("now_ms"))
    .where(_P.on_timeout != sa.literal_column("'wait'"))
)
_ANY_DUE: Final = Statement(_DUE.limit(1))


def _expire(dialect: str) -> sa.Update:
    due = _DUE.order_by(_P.due_at).limit(number("most"))
    # A CTE, because a subquery may be run again per row and then lock more than its limit.
    chosen = skip_locked(dialect, due).cte("due")
    return (
        sa.update(t.prompts)
        .where(_P.prompt_id.in_(sa.select(chosen.c.prompt_id)), _OPEN)
        .values(status=str(PromptStatus.EXPIRED), settled_at=number("now_ms"))
        .returning(*t.prompts.c)
    )


_EXPIRE: Final = Statement(_expire)

_BEFORE: Final = sa.tuple_(_P.created_at, _P.prompt_id) < sa.tuple_(number("at"), text("last"))
_VIEWS: Final[Mapping[View, tuple[sa.ColumnElement[bool], ...]]] = {
    "open": (_OPEN,),
    "done": (t.among(_P.status, PROMPT_TERMINAL),),
    "mine": (_OPEN, _P.claimed_by == text("viewer")),
    "unassigned": (_OPEN, _P.claimed_by.is_(None)),
    "overdue": (_OPEN, _P.due_at < number("now_ms")),
}


def _page(*conditions: sa.ColumnElement[bool]) -> Statement:
    return Statement(
        sa.select(t.prompts)
        .where(_P.tenant == text("tenant"), _BEFORE, *conditions)
        .order_by(_P.created_at.desc(), _P.prompt_id.desc())
        .limit(number("most"))
    )


_PAGES: Final = {view: _page(*conditions) for view, conditions in _VIEWS.items()}
_PAGES_OF_RUN: Final = {view: _page(*conditions, _P.run_id == text("run_id")) for view, conditions in _VIEWS.items()}


# --- deciding (hitl) -------------------------------------------------------------------------------------------------


async def lock(unit: Unit, tenant: str, prompt_id: str) -> PromptRow | None:
    """Return a prompt and keep others from deciding it until the unit ends. Lock prompts before leaving signals."""
    row = await unit.fetch_one(_LOCK, prompt_id=prompt_id, tenant=tenant)
    return None if row is None else PromptRow(*row)


async def add_decision(unit: Unit, decision: DecisionRow) -> None:
    """Store a person's say; ``Refused`` when that person has spoken already or another decision has won."""
    await unit.execute(_ADD, **dict(zip(_DECISION_COLUMNS, astuple(decision), strict=True)))


async def votes(unit: Unit, tenant: str, prompt_id: str) -> list[DecisionRow]:
    """Return what people have said so far, in order."""
    return [_decision(row) for row in await unit.fetch(_VOTES, tenant=tenant, prompt_id=prompt_id)]


async def settle(unit: Unit, tenant: str, prompt_id: str, decision_json: str, now_ms: int) -> bool:
    """Move an open prompt to ``settled``; False: it is not open any more."""
    return await unit.execute(_SETTLE, at=prompt_id, of=tenant, decision=decision_json, now_ms=now_ms) == 1


async def withdraw(unit: Unit, tenant: str, prompt_id: str, now_ms: int) -> bool:
    """Move an open prompt to ``withdrawn``; False: it is not open any more."""
    return await unit.execute(_WITHDRAW, at=prompt_id, of=tenant, now_ms=now_ms) == 1


async def claim(unit: Unit, tenant: str, prompt_id: str, claimed_by: str | None) -> bool:
    """Assign an open prompt to somebody, or (None) to nobody; False: it is not open. Lock it first."""
    return await unit.execute(_CLAIM, at=prompt_id, of=tenant, by=claimed_by) == 1


async def expire_due(unit: Unit, now_ms: int, limit: int) -> list[PromptRow]:
    """Move up to ``limit`` open prompts past their due time to ``expired`` and return them, in the order of their runs.

    Prompts that wait for ever (``on_timeout: wait``) and ones that somebody is deciding right now are left alone.
    All tenants. Leave the signals in the order of the list: everybody locks runs in id order.
    """
    rows = [PromptRow(*row) for row in await unit.fetch(_EXPIRE, now_ms=now_ms, most=limit)]
    return sorted(rows, key=lambda prompt: (prompt.run_id, prompt.prompt_id))


# --- reading ---------------------------------------------------------------------------------------------------------


async def get(database: Database, tenant: str, prompt_id: str) -> PromptRow | None:
    """Return a prompt."""
    async with database.near() as reader:
        row = await reader.fetch_one(_GET, prompt_id=prompt_id, tenant=tenant)
        return None if row is None else PromptRow(*row)


async def open_of_run(database: Database, tenant: str, run_id: str) -> list[PromptRow]:
    """Return a run's open prompts, oldest first."""
    async with database.near() as reader:
        return [PromptRow(*row) for row in await reader.fetch(_OF_RUN, run_id=run_id, tenant=tenant)]


async def votes_of(database: Database, tenant: str, prompt_id: str) -> list[DecisionRow]:
    """Return what people have said about a prompt, in order."""
    async with database.near() as reader:
        return [_decision(row) for row in await reader.fetch(_VOTES, tenant=tenant, prompt_id=prompt_id)]


async def page(
    database: Database,
    tenant: str,
    *,
    view: View = "open",
    limit: int,
    cursor: str | None = None,
    run_id: str | None = None,
    viewer: str = "",
    now_ms: int = 0,
) -> Page[PromptRow]:
    """Return prompts, newest first; ``viewer`` is for ``mine``, ``now_ms`` for ``overdue``.

    Raises ``BadQuery`` for a cursor that is not ours.
    """
    at, last = decode(cursor)
    params: dict[str, Any] = {"tenant": tenant, "at": at, "last": last, "most": limit + 1}
    if view == "mine":
        params["viewer"] = viewer
    if view == "overdue":
        params["now_ms"] = now_ms
    if run_id is not None:
        params["run_id"] = run_id
    async with database.reader() as reader:
        rows = await reader.fetch((_PAGES if run_id is None else _PAGES_OF_RUN)[view], **params)
    return page_of([PromptRow(*row) for row in rows], limit, lambda prompt: (prompt.created_at, prompt.prompt_id))


async def any_due(database: Database, now_ms: int) -> bool:
    """Say whether a prompt of any tenant is past its due time: a cheap look before :func:`expire_due` writes."""
    async with database.near() as reader:
        return await reader.fetch_one(_ANY_DUE, now_ms=now_ms) is not None


_DECISION_COLUMNS: Final = tuple(column.name for column in t.decisions.c)


def _decision(row: Row) -> DecisionRow:
    decision = DecisionRow(*row)
    decision.winning = bool(row[-1])
    return decision
