"""Facets of looking things up in a story's documents."""

from __future__ import annotations

from typing import Any, Final

from capabilities.declarations import facet

_NUMBER: Final[dict[str, Any]] = {"type": "integer", "minimum": 0}
_TEXT: Final[dict[str, Any]] = {"type": "string"}
_PASSAGE: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["document_id", "version", "place", "start", "end", "text", "score", "highlights"],
    "properties": {
        "document_id": _TEXT,
        "version": _NUMBER,
        "place": _NUMBER,
        "start": _NUMBER,
        "end": _NUMBER,
        "text": _TEXT,
        "score": {"type": "number"},
        "highlights": {"type": "array", "items": {"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}},
    },
    "additionalProperties": False,
}

SEARCH_QUERY: Final = facet("search_query", _TEXT, description="What to look for in the documents of a story.")
PASSAGE_LIMIT: Final = facet(
    "passage_limit", {"type": "integer", "minimum": 1, "maximum": 100}, description="How many passages are wanted."
)
DOCUMENT_PASSAGE: Final = facet("document_passage", _PASSAGE, description="A passage of a story's document.")
DOCUMENT_PASSAGES: Final = facet(
    "document_passages",
    {"type": "array", "items": _PASSAGE},
    list_of=DOCUMENT_PASSAGE,
    description="The passages of a story's documents that answer a search, best first.",
)

FACETS: Final = (SEARCH_QUERY, PASSAGE_LIMIT, DOCUMENT_PASSAGE, DOCUMENT_PASSAGES)
