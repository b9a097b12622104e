"""Reading executions: live ones from the runs, ended ones from the history, as one list (T1, T2, T5).

Every page is a few reads of an index, whatever the depth and however many executions there are. On SQLite a search by
text reads rows in the order of time until the page is full: it has no index over the words of a text.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Final

import sqlalchemy as sa

from contracts.history import Wanted
from store.connect import Database
from store.dialect import has_words, word_query
from store.history_tables import history
from store.rows import HistoryRow
from store.statement import Row, Statement, number, text
from store.tables import envelopes, runs

COUNTED: Final = 10_000
"""Past so many a count is not exact any more: counting reads every row that it counts."""
WINDOWS: Final = (2_000, 20_000)
"""How many of the newest executions are looked at for a word before the index of words is asked."""
_LIVE: Final = (runs.c.ended_at.is_(None), runs.c.parent_run_id.is_(None))


@dataclass(frozen=True, slots=True)
class LiveRow:
    """An execution that has not ended."""

    run_id: str
    principal: str
    status: str
    objective: str
    ledger_json: str
    created_at: int
    started_at: int | None
    origin_run_id: str | None
    origin_json: str | None
    envelope_json: str


_SHOWN: Final = tuple(each.name for each in fields(LiveRow))
_HISTORY: Final = tuple(each.name for each in fields(HistoryRow))
_EQUALS: Final = ("flow_id", "template_id", "story_id", "status", "trigger", "way")
_OF_RUNS: Final = ("flow_id", "story_id", "status")
"""What a live run has as a column; the rest of where it comes from is looked for by who reads the rows."""


def _conditions(table: sa.Table, wanted: Wanted, dialect: str) -> list[sa.ColumnElement[bool]]:
    known = _EQUALS if table is history else _OF_RUNS
    found = [table.c[name] == text(name) for name in known if getattr(wanted, name) is not None]
    if wanted.after_ms is not None:
        found.append(table.c.created_at >= number("after_ms"))
    if wanted.before_ms is not None:
        found.append(table.c.created_at < number("before_ms"))
    if table is history:
        if wanted.longer_ms is not None:
            found.append(history.c.duration_ms >= number("longer_ms"))
        if wanted.shorter_ms is not None:
            found.append(history.c.duration_ms < number("shorter_ms"))
        if wanted.words:
            found.append(has_words(dialect, history.c.words, len(wanted.words)))
    return found


def _given(table: sa.Table, wanted: Wanted, dialect: str) -> dict[str, Any]:
    names = [*(_EQUALS if table is history else _OF_RUNS), "after_ms", "before_ms"]
    names += ["longer_ms", "shorter_ms"] if table is history else []
    found = {name: getattr(wanted, name) for name in names if getattr(wanted, name) is not None}
    return found | (word_query(dialect, wanted.words) if table is history else {})


_KEPT: Final[dict[tuple[Any, ...], Statement]] = {}


def _statement(what: str, table: sa.Table, wanted: Wanted, dialect: str) -> Statement:
    """Return the statement of a shape of filter, compiled once; there are a few hundred shapes at most."""
    shape = tuple(getattr(wanted, each.name) is not None for each in fields(Wanted)[:-1])
    key = (what, table.name, shape, len(wanted.words), dialect)
    if key not in _KEPT:
        _KEPT[key] = Statement(_construct(what, table, wanted, dialect))
    return _KEPT[key]


def _construct(what: str, table: sa.Table, wanted: Wanted, dialect: str) -> sa.Select[Any]:
    where = _where(table, wanted, dialect)
    if what == "count":
        return _counting(table, where)
    if what == "page":
        return _paging(table, where)
    newest_first = (history.c.created_at.desc(), history.c.run_id.desc())
    before = sa.tuple_(history.c.created_at, history.c.run_id) < sa.tuple_(number("at"), text("last"))
    if what == "near":
        plain = _where(history, replace(wanted, words=()), dialect)
        window = sa.select(history).where(*plain, before).order_by(*newest_first).limit(number("window")).subquery()
        found = sa.select(window).where(has_words(dialect, window.c.words, len(wanted.words)))
        return found.order_by(window.c.created_at.desc(), window.c.run_id.desc()).limit(number("most"))
    # Fenced off, because in one query the limit would make PostgreSQL walk through time after all.
    every = sa.select(history).where(*where, before).cte("every").prefix_with("MATERIALIZED")
    return sa.select(every).order_by(every.c.created_at.desc(), every.c.run_id.desc()).limit(number("most"))


def _counting(table: sa.Table, where: Sequence[sa.ColumnElement[bool]]) -> sa.Select[Any]:
    some = sa.select(table.c.run_id).where(*where).limit(number("most")).subquery()
    return sa.select(sa.func.count()).select_from(some)


def _paging(table: sa.Table, where: Sequence[sa.ColumnElement[bool]]) -> sa.Select[Any]:
    shown: sa.Select[Any] = sa.select(history)
    if table is runs:
        # The body is read for a page's rows only: what a live run was given stands nowhere else.
        given = sa.select(envelopes.c.envelope_json).where(envelopes.c.run_id == runs.c.run_id).scalar_subquery()
        shown = sa.select(*(runs.c[name] for name in _SHOWN[:-1]), given)
    before = sa.tuple_(table.c.created_at, table.c.run_id) < sa.tuple_(number("at"), text("last"))
    return shown.where(*where, before).order_by(table.c.created_at.desc(), table.c.run_id.desc()).limit(number("most"))


def _placing(wanted: Wanted, dialect: str) -> sa.Select[Any]:
    """Return the query for the keys at one place of the whole list, live and ended together: indexes only."""
    parts = []
    for table in _tables(wanted):
        keys = sa.select(table.c.created_at, table.c.run_id).where(*_where(table, wanted, dialect))
        newest = keys.order_by(table.c.created_at.desc(), table.c.run_id.desc()).limit(number("most"))
        parts.append(sa.select(newest.subquery()))
    both = sa.union_all(*parts).subquery()
    place = sa.select(both).order_by(both.c.created_at.desc(), both.c.run_id.desc())
    return place.limit(1).offset(number("skip"))


def _tables(wanted: Wanted) -> list[sa.Table]:
    return [table for table, there in ((runs, wanted.live), (history, wanted.ended)) if there]


def _where(table: sa.Table, wanted: Wanted, dialect: str) -> list[sa.ColumnElement[bool]]:
    mine: list[sa.ColumnElement[bool]] = [table.c.tenant == text("tenant")]
    return [*mine, *(_LIVE if table is runs else ()), *_conditions(table, wanted, dialect)]


async def live(database: Database, tenant: str, wanted: Wanted, at: tuple[int, str], most: int) -> list[LiveRow]:
    """Return up to ``most`` executions that have not ended, newest first, behind ``(created_at, run_id)``.

    The template, trigger, way and words of ``wanted`` are not looked at: the caller sees them in the rows.
    """
    statement = _statement("page", runs, wanted, database.dialect)
    given = _given(runs, wanted, database.dialect)
    async with database.reader() as reader:
        rows = await reader.fetch(statement, tenant=tenant, at=at[0], last=at[1], most=most, **given)
    return [LiveRow(*row) for row in rows]


async def ended(database: Database, tenant: str, wanted: Wanted, at: tuple[int, str], most: int) -> list[HistoryRow]:
    """Return up to ``most`` executions that ended, newest first, behind ``(created_at, run_id)``."""
    rows: Sequence[Row] = ()
    async with database.reader() as reader:
        for statement, given in ended_queries(wanted, at, most, tenant, database.dialect):
            rows = await reader.fetch(statement, **given)
            if len(rows) == most:
                break
    return [HistoryRow(*row) for row in rows]


def ended_queries(
    wanted: Wanted, at: tuple[int, str], most: int, tenant: str, dialect: str
) -> list[tuple[Statement, dict[str, Any]]]:
    """Return what :func:`ended` asks the database in turn, until a page is full.

    A common word is found among the newest rows, a rare one by the index of words. PostgreSQL cannot know which it is:
    so the newest rows are looked at first, in two steps, and the index is asked for the rest.
    """
    given = {"tenant": tenant, "at": at[0], "last": at[1], "most": most, **_given(history, wanted, dialect)}
    if not wanted.words or dialect != "postgresql":
        return [(_statement("page", history, wanted, dialect), given)]
    near = _statement("near", history, wanted, dialect)
    windows = [(near, {**given, "window": window}) for window in WINDOWS]
    return [*windows, (_statement("words", history, wanted, dialect), given)]


async def count(database: Database, tenant: str, wanted: Wanted, *, alive: bool) -> int:
    """Count live or ended executions, up to one more than :data:`COUNTED`."""
    table = runs if alive else history
    statement, given = _statement("count", table, wanted, database.dialect), _given(table, wanted, database.dialect)
    async with database.reader() as reader:
        row = await reader.fetch_one(statement, tenant=tenant, most=COUNTED + 1, **given)
    return 0 if row is None else int(row[0])


async def place(database: Database, tenant: str, wanted: Wanted, skip: int) -> tuple[int, str] | None:
    """Return the key of the execution before which ``skip`` newer ones stand; None: there are not so many.

    Only for filters that both tables know: flow, story, status and times.
    """
    shape = tuple(getattr(wanted, each.name) is not None for each in fields(Wanted)[:-1])
    key = ("place", "", (*shape, wanted.live, wanted.ended), 0, database.dialect)
    if key not in _KEPT:
        _KEPT[key] = Statement(_placing(wanted, database.dialect))
    given: dict[str, Any] = {}
    for table in _tables(wanted):
        given |= _given(table, wanted, database.dialect)
    async with database.reader() as reader:
        row = await reader.fetch_one(_KEPT[key], tenant=tenant, skip=skip, most=skip + 1, **given)
    return None if row is None else (int(row[0]), str(row[1]))


_ENDED_ONE: Final = Statement(
    sa.select(history).where(history.c.tenant == text("tenant"), history.c.run_id == text("run_id"))
)
_PENDING: Final = Statement(
    sa.select(runs.c.run_id).where(runs.c.tenant == text("tenant"), runs.c.flow_id == text("flow_id"), *_LIVE).limit(1)
)


async def ended_one(database: Database, tenant: str, run_id: str) -> HistoryRow | None:
    """Return what the history says of an execution; None: it has not ended, or is not the tenant's."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_ENDED_ONE, tenant=tenant, run_id=run_id)
    return None if row is None else HistoryRow(*row)


async def pending(database: Database, tenant: str, flow_id: str) -> bool:
    """Say whether an execution of a flow has not ended: of the whole flow, whatever a list shows (T2)."""
    async with database.reader() as reader:
        return await reader.fetch_one(_PENDING, tenant=tenant, flow_id=flow_id) is not None
