"""Documents of stories: versions that never change, their passages, and the runs that wait for them (R4).

Whoever puts a document and whoever waits for it lock its head row first: so a put that comes just before a wait is seen
by it, and one that comes just after finds it (docs/decisions/0008). Runs are locked after heads, in the order of ids.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import sqlalchemy as sa

from store.connect import Database
from store.dialect import id_list, ids_among, insert_into, least, locking
from store.document_dialect import insert_passages
from store.document_tables import document_versions as v
from store.document_tables import document_waits as w
from store.document_tables import documents as d
from store.document_tables import passages as p
from store.journal_columns import DOCUMENT, document_came
from store.statement import Row, Statement, number, text
from store.tables import RUN_IS_ACTIVE, runs, signals
from store.unit import Reader, Unit


@dataclass(frozen=True, slots=True)
class Key:
    """Which document: one story's never is another's."""

    tenant: str
    story_id: str
    document_id: str


@dataclass(frozen=True, slots=True)
class Head:
    """A document's newest number (0: none yet), and whether it is there."""

    version: int
    present: bool


@dataclass(frozen=True, slots=True)
class VersionRow:
    """A version without its content. ``text_status`` is ``ready`` or ``failed``, then with ``text_error``."""

    tenant: str
    story_id: str
    document_id: str
    version: int
    media_type: str
    bytes: int
    digest: str
    text_status: str
    text_error: str | None
    characters: int
    truncated: int
    created_by: str
    created_at: int


@dataclass(frozen=True, slots=True)
class PassageRow:
    """A piece of a document's text: its number, where it starts (characters), and its folded words."""

    place: int
    start: int
    text: str
    words: str


@dataclass(frozen=True, slots=True)
class FoundRow:
    """A passage that holds one of the words that were asked for."""

    document_id: str
    version: int
    place: int
    start: int
    text: str
    words: str


@dataclass(frozen=True, slots=True)
class TextRow:
    """The text of a version, as far as it was asked for; None: it could not be read."""

    document_id: str
    version: int
    media_type: str
    text_status: str
    text: str | None
    characters: int


_INFO: Final = tuple(column for column in v.c if column.name not in ("text", "content"))
_WHOSE: Final = ("tenant", "story_id", "document_id")


def _its(table: sa.FromClause) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        table.c.tenant == text("of"),
        table.c.story_id == text("story"),
        table.c.document_id == text("document"),
    )


def _given(key: Key) -> dict[str, str]:
    return {"of": key.tenant, "story": key.story_id, "document": key.document_id}


def _lock(dialect: str) -> Any:
    made = insert_into(dialect, d).values(
        tenant=text("of"), story_id=text("story"), document_id=text("document"), version=0, present=0,
        updated_at=number("now_ms"),
    )  # fmt: skip
    kept = made.on_conflict_do_update(index_elements=list(_WHOSE), set_={"version": d.c.version})
    return kept.returning(d.c.version, d.c.present)


_LOCK: Final = Statement(_lock)
_HEAD: Final = Statement(sa.select(d.c.version, d.c.present).where(*_its(d)))
_POINT: Final = Statement(
    sa.update(d).where(*_its(d)).values(version=number("version"), present=1, updated_at=number("now_ms"))
)
_LEAVE: Final = Statement(sa.update(d).where(*_its(d)).values(present=0, updated_at=number("now_ms")))
_ADD: Final = Statement(
    sa.insert(v).values({column.name: sa.bindparam(column.name, type_=column.type, required=True) for column in v.c})
)
_DROP_OLD: Final = Statement(sa.delete(v).where(*_its(v), v.c.version <= number("upto")))
_DROP_PASSAGES: Final = Statement(sa.delete(p).where(*_its(p)))
_ADD_PASSAGES: Final = Statement(insert_passages)

_NEWEST: Final = sa.and_(
    v.c.tenant == d.c.tenant,
    v.c.story_id == d.c.story_id,
    v.c.document_id == d.c.document_id,
    v.c.version == d.c.version,
)
_THERE: Final = sa.select(*_INFO).join(d, _NEWEST).where(d.c.present == 1)
_GET: Final = Statement(_THERE.where(*_its(d)))
_PAGE: Final = Statement(
    _THERE.where(d.c.tenant == text("of"), d.c.story_id == text("story"), d.c.document_id > text("after"))
    .order_by(d.c.document_id)
    .limit(number("most"))
)
# A deleted document has no versions left, so none of them is found here.
_VERSION: Final = Statement(sa.select(*_INFO).where(*_its(v), v.c.version == number("version")))
_VERSIONS: Final = Statement(
    sa.select(*_INFO).where(*_its(v), v.c.version < number("before")).order_by(v.c.version.desc()).limit(number("most"))
)
_CONTENT: Final = Statement(sa.select(v.c.content).where(*_its(v), v.c.version == number("version")))
_TEXT: Final = Statement(sa.select(v.c.text).where(*_its(v), v.c.version == number("version")))
_PRESENT: Final = Statement(
    lambda dialect: (
        sa.select(d.c.document_id, d.c.version)
        .where(d.c.tenant == text("of"), d.c.story_id == text("story"), d.c.present == 1)
        .where(ids_among(dialect, d.c.document_id, "ids"))
    )
)
# PostgreSQL takes no larger number for a place in a text.
_MOST: Final = sa.cast(number("most"), sa.Integer)
# The version that a run holds on to; the newest when that one is not kept any more.
_READ: Final = Statement(
    sa.select(
        v.c.document_id, v.c.version, v.c.media_type, v.c.text_status, sa.func.substr(v.c.text, 1, _MOST),
        v.c.characters,
    )
    .where(*_its(v))
    .order_by(sa.case((v.c.version == number("version"), 0), else_=1), v.c.version.desc())
    .limit(1)
)  # fmt: skip

_WAITING: Final = sa.select(w.c.run_id).where(*_its(w))
_WHO_WAITS: Final = Statement(
    sa.select(w.c.run_id)
    .join(runs, runs.c.run_id == w.c.run_id)
    .where(*_its(w), RUN_IS_ACTIVE)
    .order_by(w.c.created_at, w.c.run_id)
    .limit(number("most"))
)
_WAITERS: Final = (runs.c.tenant == text("of"), runs.c.run_id.in_(_WAITING), RUN_IS_ACTIVE)
_LOCK_WAITERS: Final = Statement(
    lambda dialect: locking(dialect, sa.select(runs.c.run_id).where(*_WAITERS).order_by(runs.c.run_id))
)
_BUMP: Final = Statement(
    lambda dialect: (
        sa.update(runs)
        .where(*_WAITERS)
        .values(
            inbox=runs.c.inbox + 1,
            wake_at=least(dialect, sa.func.coalesce(runs.c.wake_at, number("now_ms")), number("now_ms")),
        )
        .returning(runs.c.run_id, runs.c.worker)
    )
)
_SIGNAL: Final = Statement(
    sa.insert(signals).from_select(
        ["run_id", "signal_id", "kind", "payload_json", "created_at"],
        sa.select(
            runs.c.run_id, runs.c.inbox, sa.literal_column(f"'{DOCUMENT}'"), text("payload_json"), number("now_ms")
        ).where(*_WAITERS),
    )
)
_DROP_WAITS: Final = Statement(sa.delete(w).where(*_its(w)))
_RUN: Final = Statement(sa.select(runs.c.tenant).where(runs.c.run_id == text("run_id")))


# --- writing ---------------------------------------------------------------------------------------------------------


async def lock(unit: Unit, key: Key, now_ms: int) -> Head:
    """Lock a document's head until the commit, made if it is not there; return it."""
    rows = await unit.fetch(_LOCK, **_given(key), now_ms=now_ms)
    return Head(rows[0][0], bool(rows[0][1]))


async def add(unit: Unit, row: VersionRow, content: bytes, text_: str | None, passages: Iterable[PassageRow]) -> None:
    """Store a version as the newest one, with its passages in place of the last one's. The head is locked."""
    key = Key(row.tenant, row.story_id, row.document_id)
    given = {column.name: getattr(row, column.name) for column in _INFO}
    await unit.execute(_ADD, **given, content=content, text=text_)
    await unit.execute(_POINT, **_given(key), version=row.version, now_ms=row.created_at)
    await unit.execute(_DROP_PASSAGES, **_given(key))
    rows = [{"place": each.place, "start": each.start, "text": each.text, "words": each.words} for each in passages]
    if rows:
        listed = orjson.dumps(rows).decode()
        await unit.execute(_ADD_PASSAGES, **_given(key), version=row.version, listed=listed)


async def drop_before(unit: Unit, key: Key, version: int) -> int:
    """Delete the versions below a number; return how many went. The head is locked."""
    return await unit.execute(_DROP_OLD, **_given(key), upto=version - 1)


async def remove(unit: Unit, key: Key, now_ms: int) -> None:
    """Delete a document with its versions and passages; its head stays, so that its numbers go on. It is locked."""
    await unit.execute(_DROP_PASSAGES, **_given(key))
    await unit.execute(_DROP_OLD, **_given(key), upto=2**62)
    await unit.execute(_LEAVE, **_given(key), now_ms=now_ms)


async def release(unit: Unit, key: Key, version: int, now_ms: int) -> list[tuple[str, str | None]]:
    """Leave every run that waits for the document a signal; return ``(run_id, worker)`` to nudge after the commit.

    The head is locked: who begins to wait after this commit sees that the document is there.
    """
    payload = document_came(key.document_id, version)
    if not await unit.fetch(_LOCK_WAITERS, **_given(key)):
        await unit.execute(_DROP_WAITS, **_given(key))
        return []
    bumped = await unit.fetch(_BUMP, **_given(key), now_ms=now_ms)
    await unit.execute(_SIGNAL, **_given(key), payload_json=payload, now_ms=now_ms)
    await unit.execute(_DROP_WAITS, **_given(key))
    return [(row[0], row[1]) for row in bumped]


# --- reading ---------------------------------------------------------------------------------------------------------


async def newest(reader: Reader, key: Key) -> VersionRow | None:
    """Return a document's newest version; None while it is not there."""
    row = await reader.fetch_one(_GET, **_given(key))
    return None if row is None else VersionRow(*row)


async def get(database: Database, key: Key, version: int | None = None) -> VersionRow | None:
    """Return a version of a document, the newest without a number."""
    async with database.reader() as reader:
        if version is None:
            return await newest(reader, key)
        row = await reader.fetch_one(_VERSION, **_given(key), version=version)
        return None if row is None else VersionRow(*row)


async def head(database: Database, key: Key) -> Head | None:
    """Return a document's head; None: nobody ever put it or waited for it."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_HEAD, **_given(key))
        return None if row is None else Head(row[0], bool(row[1]))


async def page(database: Database, tenant: str, story_id: str, *, after: str, limit: int) -> list[VersionRow]:
    """Return up to ``limit`` documents of a story with ids above ``after``, by id."""
    async with database.reader() as reader:
        rows = await reader.fetch(_PAGE, of=tenant, story=story_id, after=after, most=limit)
        return [VersionRow(*row) for row in rows]


async def versions(database: Database, key: Key, *, before: int, limit: int) -> list[VersionRow]:
    """Return up to ``limit`` kept versions below ``before``, newest first."""
    async with database.reader() as reader:
        rows = await reader.fetch(_VERSIONS, **_given(key), before=before, most=limit)
        return [VersionRow(*row) for row in rows]


async def content(database: Database, key: Key, version: int) -> bytes | None:
    """Return what was uploaded as a version."""
    found: bytes | None = await _cell(database, _CONTENT, key, version)
    return found


async def whole_text(database: Database, key: Key, version: int) -> str | None:
    """Return the text of a version; None when there is none."""
    found: str | None = await _cell(database, _TEXT, key, version)
    return found


async def _cell(database: Database, statement: Statement, key: Key, version: int) -> Any:
    async with database.reader() as reader:
        row: Row | None = await reader.fetch_one(statement, **_given(key), version=version)
        return None if row is None else row[0]


async def present(database: Database, tenant: str, story_id: str, ids: Sequence[str]) -> dict[str, int]:
    """Return which of these documents a story has, each with its newest version."""
    listed = id_list(database.dialect, ids)
    async with database.reader() as reader:
        rows = await reader.fetch(_PRESENT, of=tenant, story=story_id, ids=listed)
        return {row[0]: row[1] for row in rows}


async def read(database: Database, key: Key, version: int, characters: int) -> TextRow | None:
    """Return the first ``characters`` of a version's text, of the newest one's if that version is not kept any more."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_READ, **_given(key), version=version, most=characters)
        return None if row is None else TextRow(*row)


async def who_waits(database: Database, key: Key, limit: int) -> list[str]:
    """Return up to ``limit`` runs that wait for the document, those that have waited longest first."""
    async with database.reader() as reader:
        return [row[0] for row in await reader.fetch(_WHO_WAITS, **_given(key), most=limit)]


async def tenant_of(database: Database, run_id: str) -> str | None:
    """Return whose a run is. For what runs inside of it: takes no tenant."""
    async with database.reader() as reader:
        row = await reader.fetch_one(_RUN, run_id=run_id)
        return None if row is None else str(row[0])
