"""Search over the passages of a story's documents: each database's own index of words (R4)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from store.connect import Database
from store.document_dialect import any_of_words, find_passages
from store.documents import FoundRow
from store.statement import Statement

_FIND: Final = Statement(find_passages)


async def find(database: Database, tenant: str, story_id: str, words: Sequence[str], most: int) -> list[FoundRow]:
    """Return up to ``most`` passages of the story that hold any of these folded words, the likeliest first.

    The order is the database's own; ``stories/search.py`` decides which ones are best.
    """
    match = any_of_words(database.dialect, words)
    async with database.reader() as reader:
        rows = await reader.fetch(_FIND, of=tenant, story=story_id, match=match, most=most)
        return [FoundRow(*row) for row in rows]
