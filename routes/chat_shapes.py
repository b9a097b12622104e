"""The schemas of chats as they go over the wire (W6); ``routes.shapes`` puts them among the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from routes.flow_shapes import record
from routes.spec import Schema, page_of, ref
from service.completions import CompletionInput
from service.conversations import ConversationInput, TurnInput

INPUTS: Final[tuple[type[BaseModel], ...]] = (CompletionInput, ConversationInput, TurnInput)

_TEXT: Final = {"type": "string"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_TIME: Final = {"type": "string", "format": "date-time"}
_TEXT_OR_NULL: Final = {"type": ["string", "null"]}
_OBJECT_OR_NULL: Final = {"type": ["object", "null"]}
_TEXTS: Final = {"type": "object", "additionalProperties": {"type": "string"}}
_CONVERSATION: Final[Mapping[str, Any]] = {
    "conversation_id": _TEXT, "title": _TEXT, "settings": {"type": "object"}, "created_by": _TEXT,
    "created_at": _TIME, "updated_at": _TIME,
}  # fmt: skip

RENDERED: Final[Mapping[str, Schema]] = {
    "ConversationItem": record("A conversation in a list.", **_CONVERSATION),
    "ConversationPage": page_of("ConversationItem"),
    "Conversation": record("A conversation.", **_CONVERSATION, messages=ref("MessagePage")),
    "MessagePage": record(
        "Messages, oldest first; `next_before` leads to earlier ones.",
        items={"type": "array", "items": ref("Message")}, next_before={"type": ["integer", "null"]},
    ),
    "Message": record(
        "What somebody said. An assistant's message has a run, and is its answer: `content` is null until it is there.",
        "run_id", "status", "tool_calls", "usage", "error", "links",
        message_id=_TEXT, parent_id=_TEXT_OR_NULL, role={"type": "string", "enum": ["user", "assistant"]},
        content=_TEXT_OR_NULL, created_at=_TIME, run_id=_TEXT, status=_TEXT,
        tool_calls={"type": "array", "items": {"type": "object"}}, usage=_OBJECT_OR_NULL, error=_OBJECT_OR_NULL,
        links=_TEXTS,
    ),
    "Turn": record(
        "A turn that has begun.",
        conversation_id=_TEXT, message_id=_TEXT, parent_id=_TEXT, run_id=_TEXT, links=_TEXTS,
    ),
    "Model": record("A model, as OpenAI's clients read it.", id=_TEXT, object=_TEXT, created=_COUNT, owned_by=_TEXT),
    "ModelList": record(
        "Models, as OpenAI's clients read them.", object=_TEXT, data={"type": "array", "items": ref("Model")}
    ),
    "Completion": record(
        "A completion, as OpenAI's clients read it.",
        id=_TEXT, object=_TEXT, created=_COUNT, model=_TEXT, choices={"type": "array", "items": {"type": "object"}},
        usage={"type": "object"},
    ),
}  # fmt: skip
