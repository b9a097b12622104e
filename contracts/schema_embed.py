"""A schema as part of a larger one: its references into itself must still lead home."""

from __future__ import annotations

from typing import Any, Final

import orjson

from contracts.schema_drafts import DRAFT_2020_12, Draft, Json
from contracts.schema_refs import survey
from contracts.schema_walk import DEFAULT_LIMITS, choose_draft

EMBEDDED_ID: Final = "urn:flex:embedded"
_REFERENCES: Final = frozenset({"$ref", "$dynamicRef", "$recursiveRef"})


def dialect_of(schema: Json) -> str:
    """Return the ``$schema`` that a document has which embeds the schema: one document speaks one draft."""
    named = schema.get("$schema") if isinstance(schema, dict) else None
    return named if isinstance(named, str) else DRAFT_2020_12.uri


def embedded(schema: Json, home: str) -> Json:
    """Return a schema that ``compile_schema`` has accepted as it stands at ``home`` (``#/…``) of another document.

    It accepts there exactly what it accepts alone. The argument is not changed.
    """
    if not isinstance(schema, dict):
        return schema
    part = {key: value for key, value in schema.items() if key != "$schema"}
    if not _refers(part):
        return part
    draft, _ = choose_draft(schema)
    if draft.legacy:
        return _relocated(part, draft, home)
    # A resource of its own: references are resolved against it, wherever it stands.
    return part if _is_named(part) else {**part, "$id": EMBEDDED_ID}


def _is_named(part: dict[str, Any]) -> bool:
    own = part.get("$id")
    return isinstance(own, str) and own.removesuffix("#") != ""


def _relocated(part: dict[str, Any], draft: Draft, home: str) -> Json:
    """Lead the references of an old draft home one by one: a ``$ref`` beside an ``$id`` would silence it there."""
    own: dict[str, Any] = orjson.loads(orjson.dumps(part))
    for node in survey(own, draft, DEFAULT_LIMITS).nodes.values():
        reference = node.schema.get("$ref")
        if node.base == "" and isinstance(reference, str) and (reference == "#" or reference.startswith("#/")):
            node.schema["$ref"] = home + reference[1:]
    return own


def _refers(schema: Json) -> bool:
    stack = [schema]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if not _REFERENCES.isdisjoint(item):
                return True
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return False
