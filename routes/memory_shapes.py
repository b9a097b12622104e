"""The schemas of memory as it goes over the wire (R5); ``routes.shapes`` puts them among the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from routes.spec import Schema, page_of, ref
from service.memory import MemoryInput

INPUTS: Final[tuple[type[BaseModel], ...]] = (MemoryInput,)

_TEXT: Final = {"type": "string"}
_TIME: Final = {"type": "string", "format": "date-time"}
_NUMBER: Final = {"type": "integer", "minimum": 0}


def _record(about: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object", "description": about, "required": list(properties), "properties": properties,
        "additionalProperties": False,
    }  # fmt: skip


_ITEM: Final[Mapping[str, Any]] = {
    "scope": _TEXT, "key": _TEXT, "revision": _NUMBER, "created_at": _TIME, "updated_at": _TIME,
    "written_by": ref("MemoryWriter"),
}  # fmt: skip

RENDERED: Final[Mapping[str, Schema]] = {
    "MemoryScope": _record("A scope that holds something.", scope=_TEXT, entries=_NUMBER, updated_at=_TIME),
    "MemoryScopePage": page_of("MemoryScope"),
    "MemoryItem": _record("An entry in a list, without its value.", **_ITEM),
    "MemoryPage": page_of("MemoryItem"),
    "MemoryEntry": _record("What is remembered under a key.", **_ITEM, value={}),
    "MemoryWriter": {
        "description": "Who wrote it: a node of a run in an attempt, or a person.",
        "oneOf": [
            _record("A run.", run_id=_TEXT, node_id=_TEXT, attempt=_NUMBER),
            _record("A person.", person=_TEXT),
        ],
    },
    "MemoryForgotten": _record("How much a scope held.", scope=_TEXT, forgotten=_NUMBER),
}
