"""Pruning what is no run: silent conversations, documents that nobody puts again, old memory (P6).

Nothing of it goes unless a setting or the tenant's policy says so.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator, Callable
from typing import Final

from service.retention import Keep
from store import kept
from store.connect import Database
from store.kept import Talk

DAY_MS: Final = 86_400_000
TALKS: Final = 100
"""Conversations that are looked up at once; one transaction takes as many as have ``MESSAGES`` together."""
MESSAGES: Final = 2_000
DOCUMENTS: Final = 20
"""Documents that one transaction deletes, with all their versions."""
ENTRIES: Final = 500

Note = Callable[[str, int], None]
"""Name of a table, and how many of its rows went."""


class Forgetting:
    """One tenant at a time, one transaction after the other; whoever takes the steps may stop between two."""

    def __init__(self, database: Database) -> None:
        """Delete in this database."""
        self._database = database

    async def steps(self, tenant: str, keep: Keep, now_ms: int, note: Note) -> AsyncGenerator[None, None]:
        """Delete what is older than it is kept, yielding after every transaction. Raises StoreUnavailable."""
        if keep.conversations_days is not None:
            async for _ in self._talks(tenant, now_ms - keep.conversations_days * DAY_MS, note):
                yield
        if keep.documents_days is not None:
            async for _ in self._documents(tenant, now_ms - keep.documents_days * DAY_MS, now_ms, note):
                yield
        if keep.memory_days is not None:
            async for _ in self._memory(tenant, now_ms - keep.memory_days * DAY_MS, now_ms, note):
                yield

    async def survey(self, tenant: str, keep: Keep, now_ms: int) -> dict[str, int]:
        """Return what :meth:`steps` would delete, by table."""

        def before(days: int | None) -> int | None:
            return None if days is None else now_ms - days * DAY_MS

        return await kept.count(
            self._database,
            tenant,
            talks_ms=before(keep.conversations_days),
            documents_ms=before(keep.documents_days),
            memory_ms=before(keep.memory_days),
        )

    async def _talks(self, tenant: str, before_ms: int, note: Note) -> AsyncGenerator[None, None]:
        while found := await kept.silent_talks(self._database, tenant, before_ms, TALKS):
            gone = 0
            for names in _parts(found):
                async with self._database.unit() as unit:
                    talks, said = await kept.drop_talks(unit, tenant, before_ms, names)
                note("conversations", talks)
                note("conversation_messages", said)
                gone += talks
                yield
            if not gone:
                # Something was said in each of them meanwhile.
                return

    async def _documents(self, tenant: str, before_ms: int, now_ms: int, note: Note) -> AsyncGenerator[None, None]:
        while found := await kept.unread_documents(self._database, tenant, before_ms, DOCUMENTS):
            async with self._database.unit() as unit:
                gone = 0
                for key in sorted(found, key=lambda key: (key.story_id, key.document_id)):
                    gone += await kept.drop_document(unit, key, before_ms, now_ms)
            note("documents", gone)
            yield
            if not gone:
                return

    async def _memory(self, tenant: str, before_ms: int, now_ms: int, note: Note) -> AsyncGenerator[None, None]:
        while scopes := await kept.stale_scopes(self._database, tenant, before_ms, ENTRIES):
            gone = 0
            for scope in scopes:
                async with self._database.unit() as unit:
                    many = await kept.drop_entries(unit, tenant, scope, before_ms, now_ms, ENTRIES)
                note("memory_entries", many)
                gone += many
                yield
            if not gone:
                return


def _parts(talks: list[Talk]) -> list[list[str]]:
    """Return the names in groups of at most so many messages, or of one conversation."""
    groups: list[list[str]] = []
    room = 0
    for talk in talks:
        if room < talk.messages or not groups:
            groups.append([])
            room = MESSAGES
        groups[-1].append(talk.conversation_id)
        room -= talk.messages
    return groups
