"""What people and runs keep besides runs, and is older than its tenant keeps it (P6): found, and deleted in parts.

Nothing goes that a run which lives may still need: a conversation one of whose answers is such a run, and whatever
belongs to a story on which one stands. That is looked at again under the lock of what goes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from contracts.memory import Scope
from store import documents as docs
from store import memory
from store.connect import Database
from store.conversation_tables import conversation_messages as messages
from store.conversation_tables import conversations
from store.dialect import delete_some, id_list, ids_among, locking
from store.document_tables import document_versions, document_waits, documents
from store.memory_sheet import ScopeState
from store.memory_tables import memory_entries as entries
from store.statement import Statement, number, text
from store.tables import runs
from store.unit import Unit


@dataclass(frozen=True, slots=True)
class Talk:
    """A conversation that may go, and how many messages it has."""

    conversation_id: str
    messages: int


def _alive(story: sa.ColumnElement[Any]) -> sa.ColumnElement[bool]:
    """Say whether a run that has not ended stands on a story; child runs end before their parents do."""
    return sa.exists().where(
        runs.c.tenant == text("of"), runs.c.story_id == story, runs.c.story_id.is_not(None),
        runs.c.ended_at.is_(None), runs.c.parent_run_id.is_(None),
    )  # fmt: skip


_ANSWERING: Final = sa.exists().where(
    messages.c.conversation_id == conversations.c.conversation_id,
    messages.c.run_id == runs.c.run_id,
    runs.c.tenant == text("of"),
    runs.c.ended_at.is_(None),
)
_SILENT: Final = sa.and_(
    conversations.c.tenant == text("of"), conversations.c.updated_at < number("before_ms"), ~_ANSWERING
)
_TALKS: Final = Statement(
    sa.select(conversations.c.conversation_id, conversations.c.messages)
    .where(_SILENT)
    .order_by(conversations.c.updated_at, conversations.c.conversation_id)
    .limit(number("most"))
)
_LOCK_TALKS: Final = Statement(
    lambda dialect: locking(
        dialect,
        sa.select(conversations.c.conversation_id)
        .where(_SILENT, ids_among(dialect, conversations.c.conversation_id, "ids"))
        .order_by(conversations.c.conversation_id),
    )
)
_DROP_MESSAGES: Final = Statement(
    lambda dialect: sa.delete(messages).where(ids_among(dialect, messages.c.conversation_id, "ids"))
)
_DROP_TALKS: Final = Statement(
    lambda dialect: sa.delete(conversations).where(ids_among(dialect, conversations.c.conversation_id, "ids"))
)
_COUNT_TALKS: Final = Statement(
    sa.select(sa.func.count(), sa.func.coalesce(sa.func.sum(conversations.c.messages), 0)).where(_SILENT)
)

_AWAITED: Final = sa.exists().where(
    document_waits.c.tenant == documents.c.tenant,
    document_waits.c.story_id == documents.c.story_id,
)
_UNREAD: Final = sa.and_(
    documents.c.tenant == text("of"), documents.c.present == 1, documents.c.updated_at < number("before_ms"),
    ~_AWAITED, ~_alive(documents.c.story_id),
)  # fmt: skip
_DOCUMENTS: Final = Statement(
    sa.select(documents.c.story_id, documents.c.document_id)
    .where(_UNREAD)
    .order_by(documents.c.updated_at, documents.c.story_id, documents.c.document_id)
    .limit(number("most"))
)
_LOCK_DOCUMENT: Final = Statement(
    lambda dialect: locking(
        dialect,
        sa.select(documents.c.document_id).where(
            _UNREAD, documents.c.story_id == text("story"), documents.c.document_id == text("document")
        ),
    )
)
_COUNT_DOCUMENTS: Final = Statement(sa.select(sa.func.count()).select_from(documents).where(_UNREAD))
_COUNT_VERSIONS: Final = Statement(
    sa.select(sa.func.count()).select_from(
        documents.join(
            document_versions,
            sa.and_(
                document_versions.c.tenant == documents.c.tenant,
                document_versions.c.story_id == documents.c.story_id,
                document_versions.c.document_id == documents.c.document_id,
            ),
        )
    ).where(_UNREAD)
)  # fmt: skip


def _forgotten(some: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(
        some.c.tenant == text("of"), some.c.updated_at < number("before_ms"), ~_alive(some.c.story)
    )  # fmt: skip


def _forgotten_here(some: sa.FromClause) -> sa.ColumnElement[bool]:
    return sa.and_(
        _forgotten(some), some.c.kind == text("kind"), some.c.owner == text("owner"), some.c.story == text("story")
    )


_OLDEST: Final = (
    sa.select(entries.c.kind, entries.c.owner, entries.c.story)
    .where(_forgotten(entries))
    .order_by(entries.c.updated_at)
    .limit(number("most"))
    .subquery()
)
_SCOPES: Final = Statement(sa.select(_OLDEST.c.kind, _OLDEST.c.owner, _OLDEST.c.story).distinct())
_DROP_ENTRIES: Final = Statement(lambda dialect: delete_some(dialect, entries, _forgotten_here, number("most")))
_COUNT_ENTRIES: Final = Statement(sa.select(sa.func.count()).select_from(entries).where(_forgotten(entries)))


async def silent_talks(database: Database, tenant: str, before_ms: int, limit: int) -> list[Talk]:
    """Return conversations in which nothing was said since ``before_ms``, the most silent first."""
    async with database.reader() as reader:
        return [Talk(*row) for row in await reader.fetch(_TALKS, of=tenant, before_ms=before_ms, most=limit)]


async def drop_talks(unit: Unit, tenant: str, before_ms: int, names: Sequence[str]) -> tuple[int, int]:
    """Delete those of these conversations that are still silent; return how many, and how many messages."""
    ids = id_list(unit.dialect, names)
    found = [row[0] for row in await unit.fetch(_LOCK_TALKS, of=tenant, before_ms=before_ms, ids=ids)]
    if not found:
        return 0, 0
    held = id_list(unit.dialect, found)
    said = await unit.execute(_DROP_MESSAGES, ids=held)
    return await unit.execute(_DROP_TALKS, ids=held), said


async def unread_documents(database: Database, tenant: str, before_ms: int, limit: int) -> list[docs.Key]:
    """Return documents that nobody put since ``before_ms``, the oldest first."""
    async with database.reader() as reader:
        rows = await reader.fetch(_DOCUMENTS, of=tenant, before_ms=before_ms, most=limit)
        return [docs.Key(tenant, *row) for row in rows]


async def drop_document(unit: Unit, key: docs.Key, before_ms: int, now_ms: int) -> bool:
    """Delete a document as its door does, if it may still go: its head stays, so that its numbers go on."""
    given = {"of": key.tenant, "story": key.story_id, "document": key.document_id}
    if not await unit.fetch(_LOCK_DOCUMENT, **given, before_ms=before_ms):
        return False
    await docs.remove(unit, key, now_ms)
    return True


async def stale_scopes(database: Database, tenant: str, before_ms: int, limit: int) -> list[Scope]:
    """Return scopes of the ``limit`` entries that were not written for longest, none since ``before_ms``."""
    async with database.reader() as reader:
        rows = await reader.fetch(_SCOPES, of=tenant, before_ms=before_ms, most=limit)
        return [Scope(*row) for row in rows]


async def drop_entries(unit: Unit, tenant: str, scope: Scope, before_ms: int, now_ms: int, most: int) -> int:
    """Forget up to ``most`` entries of a scope that were not written since ``before_ms``; return how many."""
    state = await memory.lock(unit, tenant, scope, now_ms)
    given = {"of": tenant, "kind": scope.kind, "owner": scope.owner, "story": scope.story}
    gone = await unit.execute(_DROP_ENTRIES, **given, before_ms=before_ms, most=most)
    if gone:
        left = ScopeState(state.revision, state.entries - gone, state.updated_at)
        await memory.write_scope(unit, tenant, scope, left)
    return gone


async def count(
    database: Database, tenant: str, *, talks_ms: int | None, documents_ms: int | None, memory_ms: int | None
) -> dict[str, int]:
    """Return how many rows would go of what is older than these times (wall ms); None: that is kept."""
    found: dict[str, int] = {}
    async with database.reader() as reader:
        for before_ms, statement, names in (
            (talks_ms, _COUNT_TALKS, ("conversations", "conversation_messages")),
            (documents_ms, _COUNT_DOCUMENTS, ("documents",)),
            (documents_ms, _COUNT_VERSIONS, ("document_versions",)),
            (memory_ms, _COUNT_ENTRIES, ("memory_entries",)),
        ):
            row = None if before_ms is None else await reader.fetch_one(statement, of=tenant, before_ms=before_ms)
            found |= {} if row is None else {name: int(many) for name, many in zip(names, row, strict=True)}
    return found
