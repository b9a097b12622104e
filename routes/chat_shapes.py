"""The schemas of chats as they go over the wire (W6); ``routes.shapes`` puts them among the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pydantic import BaseModel

from routes.flow_shapes import record
from routes.spec import Schema, ref
from service.completions import CompletionInput

INPUTS: Final[tuple[type[BaseModel], ...]] = (CompletionInput,)

_TEXT: Final = {"type": "string"}
_COUNT: Final = {"type": "integer", "minimum": 0}

RENDERED: Final[Mapping[str, Schema]] = {
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
