"""Documents of stories: put, read, delete, search; and the runs that wait for one go on when it comes (R1, R4)."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from contracts.access import Principal
from contracts.clock import rfc3339
from contracts.errors import BadQuery, DocumentInvalid, DocumentNotFound, DocumentVersionNotFound, ErrorItem, ServerBusy
from contracts.ports import Clock, Nudge
from service.conditions import Conditions
from store import documents as stored
from store.connect import Database
from store.documents import Key, PassageRow, VersionRow
from stories.extraction import Extracted, Extractor, media_type_of
from stories.passages import passages_of
from stories.search import StorySearch, asked_words

RESERVED = frozenset({"search"})
"""Ids that mean something else where documents are."""
MOST_WAITING = 100
_ALL = 2**62


@dataclass(frozen=True, slots=True)
class Upload:
    """What was sent: the bytes, their media type as the caller said it, and the charset if one was said."""

    content: bytes
    media_type: str = ""
    charset: str | None = None


class Documents:
    """The use cases of documents. Everything is the caller's tenant's; a story is there as soon as it is named."""

    def __init__(
        self, database: Database, clock: Clock, nudge: Nudge, extractor: Extractor, *, versions_kept: int = 20
    ) -> None:
        """Keep ``versions_kept`` versions of each document; ``nudge`` tells whoever holds runs that waited."""
        self._database, self._clock, self._nudge = database, clock, nudge
        self._extractor, self._kept = extractor, versions_kept
        self._search = StorySearch(database)

    # --- writing -----------------------------------------------------------------------------------------------------

    async def put(
        self, principal: Principal, story_id: str, document_id: str, upload: Upload, conditions: Conditions
    ) -> tuple[dict[str, Any], bool]:
        """Store a version; return the document and whether it was not there before. Equal content is no new version.

        What cannot be read is stored all the same, with ``text_status: failed`` and the reason. The version and the
        signals of every run that waits for the document are one transaction. Raises ``DocumentInvalid``,
        ``PreconditionFailed``, ``ServerBusy``, ``StoreUnavailable``; then nothing was changed.
        """
        if document_id in RESERVED:
            item = ErrorItem("/document_id", "reserved", f"{document_id} is no document's name.")
            raise DocumentInvalid(errors=[item])
        key = Key(principal.tenant, story_id, document_id)
        digest = await asyncio.to_thread(lambda: sha256(upload.content).hexdigest())
        media_type = media_type_of(upload.media_type, document_id, upload.content)
        there = await stored.get(self._database, key)
        if there is not None and (there.digest, there.media_type) == (digest, media_type):
            conditions.check(tag(there.version))
            return shown(there), False
        conditions.check(None if there is None else tag(there.version))
        if not self._extractor.takes(media_type):
            raise ServerBusy("Too many documents wait to be read; put it again later.", retry_after=5)
        text = await self._extractor.text_of(upload.content, media_type, upload.charset)
        passages = [] if text.text is None else await asyncio.to_thread(passages_of, text.text)
        made = _Made(key, principal.subject, upload.content, media_type, digest, text, passages)
        row, created, told = await self._store(made, conditions)
        for run_id, worker in told:
            self._nudge.run(run_id, worker)
        return shown(row), created

    async def _store(
        self, made: _Made, conditions: Conditions
    ) -> tuple[VersionRow, bool, list[tuple[str, str | None]]]:
        now_ms = self._clock.now_ms()
        async with self._database.unit("signal") as unit:
            head = await stored.lock(unit, made.key, now_ms)
            conditions.check(tag(head.version) if head.present else None)
            there = await stored.newest(unit, made.key) if head.present else None
            if there is not None and (there.digest, there.media_type) == (made.digest, made.media_type):
                return there, False, []
            row = made.row(head.version + 1, now_ms)
            await stored.add(unit, row, made.content, made.text.text, made.passages)
            await stored.drop_before(unit, made.key, row.version - self._kept + 1)
            told = await stored.release(unit, made.key, row.version, now_ms)
        return row, not head.present, told

    async def remove(self, principal: Principal, story_id: str, document_id: str, conditions: Conditions) -> None:
        """Delete a document with all its versions. Raises ``DocumentNotFound``, ``PreconditionFailed``."""
        key = Key(principal.tenant, story_id, document_id)
        if await stored.get(self._database, key) is None:
            raise DocumentNotFound
        now_ms = self._clock.now_ms()
        async with self._database.unit() as unit:
            head = await stored.lock(unit, key, now_ms)
            if not head.present:
                raise DocumentNotFound
            conditions.check(tag(head.version))
            await stored.remove(unit, key, now_ms)

    # --- reading -----------------------------------------------------------------------------------------------------

    async def page(self, principal: Principal, story_id: str, *, after: str, limit: int) -> dict[str, Any]:
        """Return a page of a story's documents by id: ``{"items", "next_cursor"}``; the cursor is the last id."""
        rows = await stored.page(self._database, principal.tenant, story_id, after=after, limit=limit + 1)
        following = rows[limit - 1].document_id if len(rows) > limit else None
        return {"items": [shown(row) for row in rows[:limit]], "next_cursor": following}

    async def get(
        self, principal: Principal, story_id: str, document_id: str, version: int | None = None
    ) -> dict[str, Any]:
        """Return a version of a document, the newest without a number.

        Raises ``DocumentNotFound``, ``DocumentVersionNotFound``.
        """
        return shown(await self._row(Key(principal.tenant, story_id, document_id), version))

    async def versions(
        self, principal: Principal, story_id: str, document_id: str, before: int | None, limit: int
    ) -> dict[str, Any]:
        """Return a page of the kept versions, newest first: ``{"items", "next_before"}``; raises as :meth:`get`."""
        key = Key(principal.tenant, story_id, document_id)
        await self._row(key, None)
        rows = await stored.versions(self._database, key, before=before or _ALL, limit=limit + 1)
        following = rows[limit - 1].version if len(rows) > limit else None
        return {"items": [shown(row) for row in rows[:limit]], "next_before": following}

    async def content(
        self, principal: Principal, story_id: str, document_id: str, version: int | None
    ) -> tuple[dict[str, Any], bytes]:
        """Return a version and what was uploaded as it. Raises what :meth:`get` raises."""
        key = Key(principal.tenant, story_id, document_id)
        row = await self._row(key, version)
        content = await stored.content(self._database, key, row.version)
        if content is None:
            raise DocumentVersionNotFound
        return shown(row), content

    async def text(
        self, principal: Principal, story_id: str, document_id: str, version: int | None
    ) -> tuple[dict[str, Any], str]:
        """Return a version and its text. Raises what :meth:`get` raises, and ``DocumentNotFound`` without a text."""
        key = Key(principal.tenant, story_id, document_id)
        row = await self._row(key, version)
        text = await stored.whole_text(self._database, key, row.version)
        if text is None:
            raise DocumentNotFound(f"It has no text: {row.text_error}")
        return shown(row), text

    async def status(self, principal: Principal, story_id: str, document_id: str) -> dict[str, Any]:
        """Say whether a document is there and readable, and which runs wait for it (100 at most); never not found."""
        key = Key(principal.tenant, story_id, document_id)
        row = await stored.get(self._database, key)
        waiting = await stored.who_waits(self._database, key, MOST_WAITING)
        return {
            "story_id": story_id,
            "document_id": document_id,
            "present": row is not None,
            "version": None if row is None else row.version,
            "text_status": None if row is None else row.text_status,
            "text_error": None if row is None else row.text_error,
            "waiting_runs": waiting,
        }

    async def search(self, principal: Principal, story_id: str, query: str, limit: int) -> dict[str, Any]:
        """Return ``{"items": passages}``, best first (``stories.search``). Raises ``BadQuery`` without a word."""
        if not asked_words(query):
            raise BadQuery(errors=[ErrorItem("/q", "no_word", "Say at least one word.")])
        return {"items": await self._search.search(principal.tenant, story_id, query, limit)}

    async def _row(self, key: Key, version: int | None) -> VersionRow:
        row = await stored.get(self._database, key, version)
        if row is not None:
            return row
        if version is not None and await stored.get(self._database, key) is not None:
            raise DocumentVersionNotFound
        raise DocumentNotFound


@dataclass(frozen=True, slots=True)
class _Made:
    """A version on its way into the store."""

    key: Key
    author: str
    content: bytes
    media_type: str
    digest: str
    text: Extracted
    passages: list[PassageRow]

    def row(self, version: int, now_ms: int) -> VersionRow:
        """Return its row."""
        return VersionRow(
            tenant=self.key.tenant,
            story_id=self.key.story_id,
            document_id=self.key.document_id,
            version=version,
            media_type=self.media_type,
            bytes=len(self.content),
            digest=self.digest,
            text_status="failed" if self.text.text is None else "ready",
            text_error=self.text.error,
            characters=len(self.text.text or ""),
            truncated=int(self.text.truncated),
            created_by=self.author,
            created_at=now_ms,
        )


def tag(version: int) -> str:
    """Return a version's entity tag, without quotes."""
    return str(version)


def shown(row: VersionRow) -> dict[str, Any]:
    """Return a version as doors show it."""
    base = f"/api/v1/stories/{row.story_id}/documents/{row.document_id}"
    return {
        "story_id": row.story_id,
        "document_id": row.document_id,
        "version": row.version,
        "media_type": row.media_type,
        "bytes": row.bytes,
        "digest": row.digest,
        "text_status": row.text_status,
        "text_error": row.text_error,
        "characters": row.characters,
        "truncated": bool(row.truncated),
        "created_by": row.created_by,
        "created_at": rfc3339(row.created_at),
        "links": {"self": base, "content": f"{base}/content?version={row.version}", "versions": f"{base}/versions"},
    }
