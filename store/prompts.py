"""Prompts and decisions as rows (H1-H7): raised by the journal, decided by hitl, one guarded UPDATE per move.

What the clock does to them is in ``store/prompt_timers.py``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import astuple, fields, replace
from typing import Any, Final, Literal

import sqlalchemy as sa

from contracts.lifecycle import PROMPT_TERMINAL, PromptStatus
from store import audit
from store import tables as t
from store.audit import AuditRow
from store.connect import Database
from store.dialect import id_list, ids_among, locking
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
_SETTLED: Final = (
    sa.update(t.prompts)
    .where(*_AT)
    .values(
        status=str(PromptStatus.SETTLED),
        settled_at=number("now_ms"),
        decision_json=sa.bindparam("decision", type_=sa.Text, required=True),
    )
)
_SETTLE: Final = Statement(_SETTLED)
_WITHDRAW: Final = Statement(
    sa.update(t.prompts).where(*_AT).values(status=str(PromptStatus.WITHDRAWN), settled_at=number("now_ms"))
)
_CLAIM: Final = Statement(
    sa.update(t.prompts).where(*_AT).values(claimed_by=sa.bindparam("by", type_=sa.Text, required=True))
)
_DELEGATE: Final = Statement(
    sa.update(t.prompts)
    .where(*_AT)
    .values(
        claimed_by=sa.bindparam("by", type_=sa.Text, required=True),
        delegations_json=text("delegations"),
    )
)
_ADD: Final = Statement(
    sa.insert(t.decisions).values({c.name: sa.bindparam(c.name, type_=c.type, required=True) for c in t.decisions.c})
)


def _settle_by(dialect: str) -> sa.Select[Any] | sa.Update:
    """Settle, store the vote and note it: one statement on PostgreSQL, which spares two round trips.

    SQLite writes nothing inside a WITH; there it is the move alone, and the other two follow.
    """
    if dialect == "sqlite":
        return _SETTLED
    moved = _SETTLED.returning(_P.prompt_id).cte("moved")
    said = _copied(t.decisions, _VOTE_COLUMNS, "vote_", moved).cte("said")
    noted = _copied(t.audit_records, _NOTE_COLUMNS, "note_", moved).cte("noted")
    return sa.select(sa.func.count()).select_from(moved).add_cte(said, noted)


def _copied(table: sa.Table, names: tuple[str, ...], prefix: str, moved: sa.CTE) -> sa.Insert:
    """Return an insert of one row of parameters, made only if the prompt was moved."""
    given = (sa.bindparam(f"{prefix}{name}", type_=table.c[name].type, required=True) for name in names)
    return sa.insert(table).from_select(names, sa.select(*given).select_from(moved))


_VOTE_COLUMNS: Final = tuple(column.name for column in t.decisions.c)
_NOTE_COLUMNS: Final = tuple(each.name for each in fields(AuditRow))
_SETTLE_BY: Final = Statement(_settle_by)
_VOTES: Final = Statement(
    sa.select(t.decisions)
    .where(t.decisions.c.prompt_id == text("prompt_id"), t.decisions.c.tenant == text("tenant"))
    .order_by(t.decisions.c.decided_at, t.decisions.c.decision_id)
)
_VOTES_OF_ALL: Final = Statement(
    lambda dialect: (
        sa.select(t.decisions)
        .where(ids_among(dialect, t.decisions.c.prompt_id, "ids"), t.decisions.c.tenant == text("tenant"))
        .order_by(t.decisions.c.decided_at, t.decisions.c.decision_id)
    )
)
_MANY: Final = Statement(
    lambda dialect: sa.select(t.prompts).where(ids_among(dialect, _P.prompt_id, "ids"), _P.tenant == text("tenant"))
)
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
    await unit.execute(_ADD, **dict(zip(_VOTE_COLUMNS, astuple(decision), strict=True)))


async def votes(unit: Unit, tenant: str, prompt_id: str) -> list[DecisionRow]:
    """Return what people have said so far, in order."""
    return [_decision(row) for row in await unit.fetch(_VOTES, tenant=tenant, prompt_id=prompt_id)]


async def settle(unit: Unit, tenant: str, prompt_id: str, decision_json: str, now_ms: int) -> bool:
    """Move an open prompt to ``settled``; False: it is not open any more."""
    return await unit.execute(_SETTLE, at=prompt_id, of=tenant, decision=decision_json, now_ms=now_ms) == 1


async def settle_by(unit: Unit, vote: DecisionRow, decision_json: str, note: AuditRow) -> bool:
    """Settle the vote's open prompt, store the vote and its audit record; False: it is not open, nothing is written."""
    of = {"at": vote.prompt_id, "of": vote.tenant, "decision": decision_json, "now_ms": vote.decided_at}
    if unit.dialect == "sqlite":
        if await unit.execute(_SETTLE_BY, **of) != 1:
            return False
        await add_decision(unit, vote)
        await audit.add(unit, note)
        return True
    noted = astuple(replace(note, body_json=audit.canonical_body(note.body_json)))
    given = {f"vote_{name}": value for name, value in zip(_VOTE_COLUMNS, astuple(vote), strict=True)}
    given |= {f"note_{name}": value for name, value in zip(_NOTE_COLUMNS, noted, strict=True)}
    row = await unit.fetch_one(_SETTLE_BY, **of, **given)
    return row is not None and row[0] == 1


async def withdraw(unit: Unit, tenant: str, prompt_id: str, now_ms: int) -> bool:
    """Move an open prompt to ``withdrawn``; False: it is not open any more."""
    return await unit.execute(_WITHDRAW, at=prompt_id, of=tenant, now_ms=now_ms) == 1


async def claim(unit: Unit, tenant: str, prompt_id: str, claimed_by: str | None) -> bool:
    """Assign an open prompt to somebody, or (None) to nobody; False: it is not open. Lock it first."""
    return await unit.execute(_CLAIM, at=prompt_id, of=tenant, by=claimed_by) == 1


async def delegate(unit: Unit, row: PromptRow, delegations_json: str, claimed_by: str | None) -> bool:
    """Keep who passed their say on to whom, and whose claim it is now; False: it is not open. Lock it first."""
    given = {"by": claimed_by, "delegations": delegations_json}
    return await unit.execute(_DELEGATE, at=row.prompt_id, of=row.tenant, **given) == 1


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


async def votes_of_all(database: Database, tenant: str, prompt_ids: Sequence[str]) -> dict[str, list[DecisionRow]]:
    """Return what people have said about each of these prompts, in order; a prompt without votes is not in it."""
    if not prompt_ids:
        return {}
    found: dict[str, list[DecisionRow]] = {}
    async with database.near() as reader:
        ids = id_list(database.dialect, prompt_ids)
        for row in await reader.fetch(_VOTES_OF_ALL, tenant=tenant, ids=ids):
            decision = _decision(row)
            found.setdefault(decision.prompt_id, []).append(decision)
    return found


async def many(database: Database, tenant: str, prompt_ids: Sequence[str]) -> dict[str, PromptRow]:
    """Return those of these prompts that the tenant has, by their ids."""
    async with database.near() as reader:
        rows = await reader.fetch(_MANY, tenant=tenant, ids=id_list(database.dialect, prompt_ids))
        return {row.prompt_id: row for row in (PromptRow(*found) for found in rows)}


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


def _decision(row: Row) -> DecisionRow:
    decision = DecisionRow(*row)
    decision.winning = bool(row[-1])
    return decision
