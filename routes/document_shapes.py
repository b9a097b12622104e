"""The schemas of documents and of ``POST /run`` as they go over the wire (R1, R4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from contracts.lifecycle import RunStatus
from routes.spec import Schema, page_of, ref
from service.story_runs import StoryRunInput

INPUTS: Final[tuple[type[BaseModel], ...]] = (StoryRunInput,)

_TEXT: Final = {"type": "string"}
_TEXT_OR_NULL: Final = {"type": ["string", "null"]}
_TIME: Final = {"type": "string", "format": "date-time"}
_NUMBER: Final = {"type": "integer", "minimum": 0}
_NUMBER_OR_NULL: Final = {"type": ["integer", "null"], "minimum": 1}
_FLAG: Final = {"type": "boolean"}
_TEXT_STATUS: Final = {"type": "string", "enum": ["ready", "failed"]}
_TEXTS_OR_NULL: Final = {"type": ["array", "null"], "items": _TEXT}


def _record(about: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object", "description": about, "required": list(properties), "properties": properties,
        "additionalProperties": False,
    }  # fmt: skip


def _list(items: Mapping[str, Any]) -> dict[str, Any]:
    return {"type": "array", "items": items}


RENDERED: Final[Mapping[str, Schema]] = {
    "Document": _record(
        "A version of a document. `digest` is the SHA-256 of its content; `truncated`: it has more text than is kept.",
        story_id=_TEXT, document_id=_TEXT, version=_NUMBER, media_type=_TEXT, bytes=_NUMBER, digest=_TEXT,
        text_status=_TEXT_STATUS, text_error=_TEXT_OR_NULL, characters=_NUMBER, truncated=_FLAG, created_by=_TEXT,
        created_at=_TIME, links={"type": "object", "additionalProperties": _TEXT},
    ),
    "DocumentPage": page_of("Document"),
    "DocumentVersionPage": _record(
        "Kept versions, newest first.", items=_list(ref("Document")), next_before=_NUMBER_OR_NULL
    ),
    "DocumentStatus": _record(
        "Whether a document is there, whether its text is, and up to 100 runs that wait for it.",
        story_id=_TEXT, document_id=_TEXT, present=_FLAG, version=_NUMBER_OR_NULL,
        text_status={"type": ["string", "null"], "enum": ["ready", "failed", None]}, text_error=_TEXT_OR_NULL,
        waiting_runs=_list(_TEXT),
    ),
    "Passages": _record("Passages, best first.", items=_list(ref("Passage"))),
    "Passage": _record(
        "A passage: `start`, `end` are characters of the document's text, `highlights` pairs of characters of `text`.",
        document_id=_TEXT, version=_NUMBER, place=_NUMBER, start=_NUMBER, end=_NUMBER, text=_TEXT,
        score={"type": "number"},
        highlights=_list({"type": "array", "items": _NUMBER, "minItems": 2, "maxItems": 2}),
    ),
    "StoryRun": _record(
        "The run's result, or the documents it waits for, or neither while it goes on or waits for people.",
        status={"type": "string", "enum": [status.value for status in RunStatus]}, result={},
        pending_docs=_TEXTS_OR_NULL, run_id=_TEXT,
    ),
}  # fmt: skip
