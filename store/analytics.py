"""Sums over the history: what flows, templates, stories and a whole tenant used, and how well it went (W3, W6).

The history is written in the transaction that ends a run, and these are sums over it: they cannot say anything else.
"""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final

import sqlalchemy as sa

from contracts.history import By, Wanted
from contracts.lifecycle import RunStatus
from store.connect import Database
from store.history_tables import history
from store.statement import Row, Statement, number, text

_H: Final = history.c


@dataclass(frozen=True, slots=True)
class Sums:
    """What ended executions add up to. Times are ms, the last three wall times (None: never)."""

    executions: int
    completed: int
    failed: int
    cancelled: int
    asked: int
    tokens: int
    cost: float
    duration_ms: int
    waited_ms: int
    waited_for_people_ms: int
    last_used_at: int | None
    last_completed_at: int | None
    last_failed_at: int | None


def _is(status: RunStatus) -> sa.ColumnElement[bool]:
    return _H.status == sa.literal_column(f"'{status}'")


def _many(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
    return _some(condition, sa.literal_column("1", sa.BigInteger))


def _some(condition: sa.ColumnElement[bool], value: Any) -> sa.ColumnElement[Any]:
    nothing = sa.literal_column("0", sa.BigInteger)
    # A sum of int8 is a numeric on PostgreSQL.
    return sa.cast(sa.func.coalesce(sa.func.sum(sa.case((condition, value), else_=nothing)), nothing), sa.BigInteger)


def _last(condition: sa.ColumnElement[bool]) -> sa.ColumnElement[Any]:
    return sa.func.max(sa.case((condition, _H.ended_at)))


_ALWAYS: Final = sa.literal_column("1") == sa.literal_column("1")
_SUMS: Final = (
    sa.func.count(), _many(_is(RunStatus.COMPLETED)), _many(_is(RunStatus.FAILED)), _many(_is(RunStatus.CANCELLED)),
    _many(_H.asks > sa.literal_column("0")), _some(_ALWAYS, _H.tokens),
    sa.func.coalesce(sa.func.sum(_H.cost), sa.literal_column("0.0")), _some(_ALWAYS, _H.duration_ms),
    _some(_ALWAYS, _H.waited_ms), _some(_H.asks > sa.literal_column("0"), _H.waited_ms), sa.func.max(_H.ended_at),
    _last(_is(RunStatus.COMPLETED)), _last(_is(RunStatus.FAILED)),
)  # fmt: skip
_FILTERS: Final = ("flow_id", "template_id", "story_id")
_KEPT: Final[dict[tuple[Any, ...], Statement]] = {}


def _where(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    found = [_H.tenant == text("tenant")]
    found += [_H[name] == text(name) for name in _FILTERS if getattr(wanted, name) is not None]
    if wanted.after_ms is not None:
        found.append(_H.created_at >= number("after_ms"))
    if wanted.before_ms is not None:
        found.append(_H.created_at < number("before_ms"))
    return found


def _given(wanted: Wanted) -> dict[str, Any]:
    names = (*_FILTERS, "after_ms", "before_ms")
    return {name: getattr(wanted, name) for name in names if getattr(wanted, name) is not None}


def _statement(what: str, wanted: Wanted) -> Statement:
    key = (what, *sorted(_given(wanted)))
    if key not in _KEPT:
        where = _where(wanted)
        if what == "sums":
            _KEPT[key] = Statement(sa.select(*_SUMS).where(*where))
        elif what == "p95":
            slow = sa.select(_H.duration_ms).where(*where, _is(RunStatus.COMPLETED)).order_by(_H.duration_ms)
            _KEPT[key] = Statement(slow.limit(1).offset(number("skip")))
        else:
            column, name = _H[what], sa.func.max(sa.func.coalesce(_NAMES.get(what, _H[what]), sa.literal_column("''")))
            groups = sa.select(column, name, *_SUMS).where(*where, column.is_not(None)).group_by(column)
            _KEPT[key] = Statement(groups.order_by(sa.desc(_SUMS[6]), _SUMS[0].desc(), column).limit(number("most")))
    return _KEPT[key]


_NAMES: Final[dict[str, sa.Column[Any]]] = {"flow_id": _H.flow_name, "template_id": _H.template_name}


def _sums(row: Row) -> Sums:
    return Sums(*(row[place] for place in range(len(fields(Sums)))))


async def sums(database: Database, tenant: str, wanted: Wanted) -> Sums:
    """Add up what a flow, a template, a story or the whole tenant did, between two times or ever."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_statement("sums", wanted), tenant=tenant, **_given(wanted))
    if row is None:
        raise LookupError("an aggregate without a row")
    return _sums(row)


async def p95_ms(database: Database, tenant: str, wanted: Wanted, completed: int) -> int | None:
    """Return the time within which 95 of 100 of the completed executions were done; None without any."""
    if not completed:
        return None
    skip = max(0, -(-completed * 95 // 100) - 1)
    async with database.reader() as reader:
        row = await reader.fetch_one(_statement("p95", wanted), tenant=tenant, skip=skip, **_given(wanted))
    return None if row is None else int(row[0])


async def grouped(database: Database, tenant: str, by: By, wanted: Wanted, most: int) -> list[tuple[str, str, Sums]]:
    """Return ``(id, name, sums)`` of up to ``most`` groups, the most expensive first."""
    async with database.reader() as reader:
        rows = await reader.fetch(_statement(by, wanted), tenant=tenant, most=most, **_given(wanted))
    return [(row[0], row[1], _sums(row[2:] if isinstance(row, tuple) else tuple(row)[2:])) for row in rows]
