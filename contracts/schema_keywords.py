"""Our keyword functions that judge one value (F11): own sentences, jsonschema-rs' verdicts where libraries differ.

Each has jsonschema's signature ``(validator, value, instance, schema)`` and yields errors, which jsonschema completes
with the keyword and the path. ``ASSERTIONS`` holds them by keyword; those that apply subschemas are in
``contracts/schema_nesting.py``, and references stay jsonschema's own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Final

import orjson
from jsonschema.exceptions import ValidationError

from contracts.schema_drafts import Json, leaf_accepts

Errors = Iterator[ValidationError]
Keyword = Callable[[Any, Json, Json, Json], Errors]

_EXAMPLES: Final = {
    "date-time": "a date and time like 2026-01-05T09:00:00Z",
    "date": "a date like 2026-01-05",
    "time": "a time like 09:00:00Z",
    "duration": "a duration like PT15M",
    "email": "an e-mail address",
    "idn-email": "an e-mail address",
    "hostname": "a host name",
    "idn-hostname": "a host name",
    "ipv4": "an IPv4 address",
    "ipv6": "an IPv6 address",
    "uri": "an absolute address like https://example.com/a",
    "uri-reference": "an address or a part of one",
    "iri": "an absolute address like https://example.com/a",
    "iri-reference": "an address or a part of one",
    "uri-template": "an address template like /runs/{id}",
    "uuid": "a UUID",
    "json-pointer": "a JSON pointer like /a/0",
    "relative-json-pointer": "a relative JSON pointer like 1/a",
    "regex": "a regular expression",
}
_KINDS: Final = {
    "object": "an object", "array": "a list", "string": "text", "number": "a number", "integer": "a whole number",
    "boolean": "true or false", "null": "null",
}  # fmt: skip


def show(value: Json, limit: int = 80) -> str:
    """Return a value as short JSON for a sentence."""
    try:
        text = orjson.dumps(value).decode()
    except (TypeError, ValueError):
        text = str(type(value).__name__)
    return text if len(text) <= limit else text[: limit - 1] + "…"


def _kind_of(instance: Json) -> str:
    names: tuple[tuple[type, str], ...] = (
        (bool, "true or false"), (dict, "an object"), (list, "a list"), (str, "text"), (int, "a whole number"),
        (float, "a number"),
    )  # fmt: skip
    return next((name for kind, name in names if isinstance(instance, kind)), "null")


def counted(count: float, thing: str, plural: str | None = None) -> str:
    """Return ``1 item`` or ``2 items``."""
    return f"{count:g} {thing if count == 1 else plural or thing + 's'}"


def _bound(kind: str, thing: str, plural: str, least: bool) -> Keyword:
    """Return the check of a size: ``minLength``, ``maxItems`` and the like."""

    def check(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
        if not validator.is_type(instance, kind):
            return
        size = len(instance)
        if size < value if least else size > value:
            word = "at least" if least else "at most"
            yield ValidationError(f"Must have {word} {counted(value, thing, plural)}; has {size}.")

    return check


def _leaf(keyword: str, sentence: Callable[[Json, Json], str]) -> Keyword:
    """Return the check of an assertion that jsonschema-rs judges."""

    def check(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
        if not leaf_accepts(keyword, value, instance):
            yield ValidationError(sentence(value, instance))

    return check


def _type(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
    names = [value] if isinstance(value, str) else value
    if not any(validator.is_type(instance, name) for name in names):
        wanted = " or ".join(_KINDS[name] for name in names)
        yield ValidationError(f"Must be {wanted}; is {_kind_of(instance)}.")


def _required(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
    if validator.is_type(instance, "object"):
        for name in value:
            if name not in instance:
                yield ValidationError(f"Required property '{name}' is missing.")


def missing_companions(name: str, others: Json, instance: Json) -> Errors:
    """Yield an error for each of ``others`` that the instance lacks although it has ``name``."""
    for other in others:
        if other not in instance:
            yield ValidationError(f"Property '{other}' is required because '{name}' is present.")


def _dependent_required(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
    if validator.is_type(instance, "object"):
        for name, others in value.items():
            if name in instance:
                yield from missing_companions(name, others, instance)


ASSERTIONS: Final[dict[str, Keyword]] = {
    "type": _type,
    "const": _leaf("const", lambda value, _: f"Must be {show(value)}."),
    "enum": _leaf("enum", lambda value, _: "Must be one of " + show(value, 200).strip("[]") + "."),
    "multipleOf": _leaf("multipleOf", lambda value, got: f"Must be a multiple of {show(value)}; is {show(got)}."),
    "minimum": _leaf("minimum", lambda value, got: f"Must be at least {show(value)}; is {show(got)}."),
    "maximum": _leaf("maximum", lambda value, got: f"Must be at most {show(value)}; is {show(got)}."),
    "exclusiveMinimum": _leaf("exclusiveMinimum", lambda value, got: f"Must be above {show(value)}; is {show(got)}."),
    "exclusiveMaximum": _leaf("exclusiveMaximum", lambda value, got: f"Must be below {show(value)}; is {show(got)}."),
    "uniqueItems": _leaf("uniqueItems", lambda *_: "Must not have the same item twice."),
    "pattern": _leaf("pattern", lambda value, _: f"Must match the pattern {value}"),
    "format": _leaf("format", lambda value, _: f"Must be {_EXAMPLES.get(value, value)}."),
    "minLength": _bound("string", "character", "characters", True),
    "maxLength": _bound("string", "character", "characters", False),
    "minItems": _bound("array", "item", "items", True),
    "maxItems": _bound("array", "item", "items", False),
    "minProperties": _bound("object", "property", "properties", True),
    "maxProperties": _bound("object", "property", "properties", False),
    "required": _required,
    "dependentRequired": _dependent_required,
}
