"""``documents.search``: passages of the documents of the run's own story (W5, retrieval; R4)."""

from __future__ import annotations

from typing import Any, Final

from capabilities.authoring import CapabilityBase, take
from capabilities.document_facets import DOCUMENT_PASSAGES, PASSAGE_LIMIT, SEARCH_QUERY
from capabilities.world import World
from contracts.capability import Bundle, CallContext, CapabilityError, CapabilitySpec, Param

USUAL: Final = 10
MOST: Final = 100


class DocumentsSearch(CapabilityBase):
    """Looks in the story that the run belongs to; nobody can name another one."""

    spec = CapabilitySpec(
        "documents.search",
        description="Finds the passages of the story's documents that answer a search, best first.",
        consumes={"query": Param(SEARCH_QUERY.name), "limit": Param(PASSAGE_LIMIT.name, required=False)},
        produces=(DOCUMENT_PASSAGES.name,),
        latency_ms=20,
        quality=0.6,
        in_process=False,
    )

    def __init__(self, world: World) -> None:
        """Search where the world's documents are."""
        self._documents = world.documents

    async def run(self, bundle: Bundle, context: CallContext) -> list[dict[str, Any]]:
        """Return passages. Raises :class:`CapabilityError` ``no_story`` (not retryable) for a run without a story."""
        query, limit = take(bundle, "query"), take(bundle, "limit", USUAL)
        if self._documents is None:
            raise CapabilityError("no_documents", "There are no documents where this runs.", retryable=False)
        found = await self._documents.of_run(context.run_id, str(query), min(max(1, int(limit)), MOST))
        if found is None:
            raise CapabilityError("no_story", "The run has no context.story_id to search in.", retryable=False)
        return found
