"""Finding passages in a story's documents: the databases propose, one ranking for both decides (R4, W5 retrieval)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from math import log
from typing import Any, Final

import orjson

from store import documents, passages, runs
from store.connect import Database
from store.documents import FoundRow
from stories.words import words_in

CANDIDATES: Final = 200
"""Passages that the database proposes and that are ranked."""
MOST_WORDS: Final = 32
"""Words of a question that are looked for."""
_SATURATION: Final = 1.2
_LENGTH: Final = 0.75
"""The usual constants of BM25: how fast repetition stops to count, and how much a long passage is discounted."""


def asked_words(query: str) -> list[str]:
    """Return the different words of a question, in their order."""
    return list(dict.fromkeys(word for word, _, _ in words_in(query)))[:MOST_WORDS]


class StorySearch:
    """Searches one story at a time; what another story or tenant has is never looked at."""

    def __init__(self, database: Database) -> None:
        """Search in this database."""
        self._database = database

    async def search(self, tenant: str, story_id: str, query: str, limit: int) -> list[dict[str, Any]]:
        """Return the best passages of the newest versions, best first; none for a question without a word.

        Each is ``{"document_id", "version", "place", "start", "end", "text", "score", "highlights"}``: ``start`` and
        ``end`` are characters of the document's text, ``highlights`` pairs of characters of ``text``.
        """
        words = asked_words(query)
        if not words:
            return []
        rows = await passages.find(self._database, tenant, story_id, words, CANDIDATES)
        best = ranked(rows, words)[:limit]
        return [_shown(row, score, words) for row, score in best]

    async def of_run(self, run_id: str, query: str, limit: int) -> list[dict[str, Any]] | None:
        """Return what :meth:`search` finds in the run's own story; None: the run has no story."""
        tenant = await documents.tenant_of(self._database, run_id)
        envelope = None if tenant is None else await runs.envelope(self._database, tenant, run_id)
        story_id = None if envelope is None else orjson.loads(envelope)["context"]["story_id"]
        if tenant is None or story_id is None:
            return None
        return await self.search(tenant, story_id, query, limit)


def ranked(rows: Sequence[FoundRow], words: Sequence[str]) -> list[tuple[FoundRow, float]]:
    """Return passages with their scores, best first: how many of the words they have, then BM25 among themselves.

    Scores are numbers of this search only: more of the words is always better than fewer.
    """
    counted = [Counter(row.words.split(" ")) for row in rows]
    sizes = [counts.total() for counts in counted]
    usual = sum(sizes) / len(sizes) if sizes else 1.0
    weights = {word: log(1 + len(rows) / (1 + sum(word in counts for counts in counted))) for word in words}
    scored = []
    for row, counts, size in zip(rows, counted, sizes, strict=True):
        there = [word for word in words if counts[word]]
        bm25 = sum(_weight(counts[word], size / usual) * weights[word] for word in there)
        scored.append((row, round(len(there) + bm25 / (1 + bm25), 6)))
    return sorted(scored, key=lambda each: (-each[1], each[0].document_id, each[0].place))


def _weight(many: int, length: float) -> float:
    return many * (_SATURATION + 1) / (many + _SATURATION * (1 - _LENGTH + _LENGTH * length))


def _shown(row: FoundRow, score: float, words: Sequence[str]) -> dict[str, Any]:
    wanted = set(words)
    marks = [[start, end] for word, start, end in words_in(row.text) if word in wanted]
    return {
        "document_id": row.document_id,
        "version": row.version,
        "place": row.place,
        "start": row.start,
        "end": row.start + len(row.text),
        "text": row.text,
        "score": score,
        "highlights": marks,
    }
