"""Intake of a schema, first half: is it JSON, small and shallow enough, in a known draft, and a schema (F3)?

Everything here is iterative or in Rust: depth is hostile input.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import orjson

from contracts.errors import ErrorItem
from contracts.schema_drafts import DRAFT_2020_12, Draft, Json, draft_of


@dataclass(frozen=True, slots=True)
class SchemaLimits:
    """Bounds of one schema: bytes of canonical JSON, nesting, distinct regexes and the length of one."""

    max_bytes: int = 256 * 1024
    max_depth: int = 64
    max_patterns: int = 200
    max_pattern_chars: int = 1000


DEFAULT_LIMITS = SchemaLimits()

_MIN_INT, _MAX_INT = -(2**63), 2**64 - 1


def pointer_of(parts: tuple[str | int, ...] | list[str | int]) -> str:
    """Return the JSON pointer (RFC 6901) of a path."""
    return "".join("/" + str(part).replace("~", "~0").replace("/", "~1") for part in parts)


def bound_problem(value: Json, limits: SchemaLimits) -> ErrorItem | None:
    """Return the first reason why ``value`` cannot be taken as JSON of bounded size and depth; None if it can."""
    size = 0
    stack: list[tuple[Json, str, int]] = [(value, "", 1)]
    while stack:
        item, pointer, depth = stack.pop()
        if depth > limits.max_depth + 1:
            # Pointers of deep places are long; the first levels say enough.
            short = pointer if len(pointer) <= 200 else pointer[:200].rpartition("/")[0]
            return ErrorItem(short, "schema_too_deep", f"Is nested deeper than {limits.max_depth} levels.")
        size += len(item) + 2 if isinstance(item, str | dict | list) else 1
        if size > limits.max_bytes:
            return _too_large(limits)
        message = _scalar_problem(item)
        if message:
            return ErrorItem(pointer, "schema_invalid", message)
        stack.extend((child, f"{pointer}{step}", depth + 1) for step, child in _children(item))
    return None


def _too_large(limits: SchemaLimits) -> ErrorItem:
    return ErrorItem("", "schema_too_large", f"Has more than {limits.max_bytes} bytes of JSON.")


def _children(item: Json) -> Iterator[tuple[str, Json]]:
    if isinstance(item, dict):
        for key, child in item.items():
            yield pointer_of([key]), child
            # A key is text like any other: its size and characters are checked too.
            yield "", key
    elif isinstance(item, list):
        for index, child in enumerate(item):
            yield f"/{index}", child


def _scalar_problem(item: Json) -> str | None:
    """Return what is wrong with one value on its own. Integers beyond 64 bits differ between JSON libraries."""
    if item is None or isinstance(item, bool):
        return None
    if isinstance(item, int):
        return None if _MIN_INT <= item <= _MAX_INT else "Integers must fit 64 bits."
    if isinstance(item, float):
        return None if math.isfinite(item) else "NaN and Infinity are not JSON."
    if isinstance(item, str):
        return None if _is_text(item) else "Text must be valid Unicode."
    if isinstance(item, dict):
        return None if all(isinstance(key, str) for key in item) else "Keys must be text."
    return None if isinstance(item, list) else "Is not a JSON value."


def _is_text(item: str) -> bool:
    try:
        item.encode()
    except UnicodeEncodeError:
        return False
    return True


def canonical(value: Json) -> bytes:
    """Return the canonical JSON of ``value``: sorted keys, no spaces. Raises ``TypeError`` for what is not JSON."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def size_problem(text: bytes, limits: SchemaLimits) -> ErrorItem | None:
    """Return the finding if canonical JSON is over the size bound."""
    return _too_large(limits) if len(text) > limits.max_bytes else None


def choose_draft(schema: Json) -> tuple[Draft, ErrorItem | None]:
    """Return the draft ``$schema`` names (2020-12 without one), and a finding if it is not spoken here."""
    named = schema.get("$schema") if isinstance(schema, dict) else None
    if named is None:
        return DRAFT_2020_12, None
    draft = draft_of(named)
    if draft is None:
        message = "Unknown draft; use 2020-12, 2019-09, draft-07 or draft-06."
        return DRAFT_2020_12, ErrorItem("/$schema", "unsupported_draft", message)
    return draft, None
