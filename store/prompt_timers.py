"""The clock of prompts (H3): which are due, and each move of the timer as one guarded UPDATE.

The timer is part of the prompt's own row: whoever moves the row first, a person or a clock, has won (kestra#18507).
Everything here concerns all tenants.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from contracts.lifecycle import PromptStatus
from store import tables as t
from store.connect import Database
from store.dialect import skip_locked
from store.rows import PromptRow
from store.statement import Statement, number, text
from store.unit import Unit

_P: Final = t.prompts.c
_OPEN: Final = _P.status == sa.literal_column(f"'{PromptStatus.OPEN}'")
_ESCALATES: Final[sa.ColumnElement[str]] = sa.literal_column("'escalate'")
# Spelled out as in the partial index, which answers these from its first entries.
_DUE: Final = (
    _OPEN, _P.due_at.is_not(None), _P.due_at <= number("now_ms"), _P.on_timeout != sa.literal_column("'wait'"),
)  # fmt: skip
_TELLS: Final = (_OPEN, _P.notify_at.is_not(None), _P.notify_at <= number("now_ms"))
_LOOKS: Final = (
    (*_DUE, _P.on_timeout != _ESCALATES),
    (*_DUE, _P.on_timeout == _ESCALATES),
    _TELLS,
)
_ANY: Final = Statement(sa.select().add_columns(*(sa.exists(sa.select(_P.prompt_id).where(*each)) for each in _LOOKS)))


def _expire(dialect: str) -> sa.Update:
    due = sa.select(_P.prompt_id).where(*_DUE, _P.on_timeout != _ESCALATES).order_by(_P.due_at).limit(number("most"))
    # A CTE, because a subquery may be run again per row and then lock more than its limit.
    chosen = skip_locked(dialect, due).cte("due")
    return (
        sa.update(t.prompts)
        .where(_P.prompt_id.in_(sa.select(chosen.c.prompt_id)), _OPEN)
        .values(status=str(PromptStatus.EXPIRED), settled_at=number("now_ms"))
        .returning(*t.prompts.c)
    )


_EXPIRE: Final = Statement(_expire)
_TO_ESCALATE: Final = Statement(
    lambda dialect: skip_locked(
        dialect,
        sa.select(t.prompts).where(*_DUE, _P.on_timeout == _ESCALATES).order_by(_P.due_at).limit(number("most")),
    )
)
_ESCALATE: Final = Statement(
    sa.update(t.prompts)
    .where(_P.prompt_id == text("at"), _P.level == number("from_level"), *_DUE)
    .values(
        level=number("from_level") + 1,
        assignees_json=text("assignees"),
        due_at=sa.bindparam("next_due", type_=sa.BigInteger, required=True),
        on_timeout=text("then"),
        claimed_by=None,
    )
)
_TO_TELL: Final = Statement(
    lambda dialect: skip_locked(
        dialect, sa.select(t.prompts).where(*_TELLS).order_by(_P.notify_at).limit(number("most"))
    )
)
_TOLD: Final = Statement(
    sa.update(t.prompts)
    .where(_P.prompt_id == text("at"), _OPEN, _P.notify_at == number("was"))
    .values(notify_at=sa.bindparam("next_at", type_=sa.BigInteger, required=True))
)


@dataclass(frozen=True, slots=True)
class Due:
    """What a clock has to do now: end prompts, escalate some, tell people."""

    ends: bool
    escalates: bool
    tells: bool


@dataclass(frozen=True, slots=True)
class Step:
    """A prompt after an escalation: who is asked, until when (ms), and what the clock does then."""

    assignees_json: str
    due_at: int | None
    on_timeout: str


async def look(database: Database, now_ms: int) -> Due:
    """Return what is due: a cheap look before anything is written."""
    async with database.near() as reader:
        row = await reader.fetch_one(_ANY, now_ms=now_ms)
    return Due(False, False, False) if row is None else Due(*map(bool, row))


async def expire_due(unit: Unit, now_ms: int, limit: int) -> list[PromptRow]:
    """Move up to ``limit`` open prompts past their due time to ``expired`` and return them, in the order of their runs.

    Prompts that wait for ever or escalate, and ones that somebody is deciding right now, are left alone. Leave the
    signals in the order of the list: everybody locks runs in id order.
    """
    rows = [PromptRow(*row) for row in await unit.fetch(_EXPIRE, now_ms=now_ms, most=limit)]
    return sorted(rows, key=lambda prompt: (prompt.run_id, prompt.prompt_id))


async def to_escalate(unit: Unit, now_ms: int, limit: int) -> list[PromptRow]:
    """Lock and return up to ``limit`` prompts that are to be escalated now."""
    return [PromptRow(*row) for row in await unit.fetch(_TO_ESCALATE, now_ms=now_ms, most=limit)]


async def escalate(unit: Unit, row: PromptRow, step: Step, now_ms: int) -> bool:
    """Ask the next people, and free the prompt; False: it is decided, or was escalated from this level already."""
    given: dict[str, Any] = {"assignees": step.assignees_json, "next_due": step.due_at, "then": step.on_timeout}
    return await unit.execute(_ESCALATE, at=row.prompt_id, from_level=row.level, now_ms=now_ms, **given) == 1


async def to_tell(unit: Unit, now_ms: int, limit: int) -> list[PromptRow]:
    """Lock and return up to ``limit`` prompts that people are to be told of now."""
    return [PromptRow(*row) for row in await unit.fetch(_TO_TELL, now_ms=now_ms, most=limit)]


async def told(unit: Unit, row: PromptRow, next_at: int | None) -> bool:
    """Note when people are told next; False: this notice was another process's, or the prompt is not open any more."""
    return await unit.execute(_TOLD, at=row.prompt_id, was=row.notify_at, next_at=next_at) == 1
