"""Reading JSON Schemas as data: references inside the document, parts, and parts made to stand alone."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from contracts.wire import pointer_of, resolve_pointer

Schema = Any
_ANNOTATIONS: Final = frozenset(
    {
        "$schema",
        "$id",
        "$defs",
        "$comment",
        "$anchor",
        "definitions",
        "title",
        "description",
        "default",
        "examples",
        "deprecated",
        "readOnly",
        "writeOnly",
    }
)
_MAX_HOPS: Final = 32


def is_annotation(keyword: str) -> bool:
    """Say whether a keyword says nothing about which values are valid."""
    return keyword in _ANNOTATIONS or keyword.startswith("x-")


def says_nothing(schema: Schema) -> bool:
    """Say whether every value satisfies the schema as far as its keywords show."""
    return schema is True or (isinstance(schema, Mapping) and all(is_annotation(key) for key in schema))


def follow(schema: Schema, root: Schema) -> Schema:
    """Return the schema with a leading local ``$ref`` replaced by what it names, its siblings kept.

    A reference that names nothing, or only itself, is returned as it stands: nothing can be proved about it.
    """
    for _ in range(_MAX_HOPS):
        if not isinstance(schema, Mapping) or not isinstance(schema.get("$ref"), str):
            return schema
        reference = schema["$ref"]
        if not reference.startswith("#"):
            return schema
        try:
            target = resolve_pointer(root, reference[1:])
        except KeyError:
            return schema
        siblings = {key: value for key, value in schema.items() if key != "$ref"}
        if not isinstance(target, Mapping):
            return target if not siblings or target is False else siblings
        schema = {**target, **siblings}
    return True


def is_object(schema: Schema) -> bool:
    """Say whether the schema describes an object whose properties can be goals."""
    if not isinstance(schema, Mapping):
        return False
    kind = schema.get("type")
    return kind == "object" or (kind is None and isinstance(schema.get("properties"), Mapping))


def properties(schema: Schema) -> Mapping[str, Any]:
    """Return the listed properties; empty when there are none."""
    listed = schema.get("properties") if isinstance(schema, Mapping) else None
    return listed if isinstance(listed, Mapping) else {}


def required(schema: Schema) -> tuple[str, ...]:
    """Return the required names, once each, in order."""
    listed = schema.get("required") if isinstance(schema, Mapping) else None
    return tuple(dict.fromkeys(name for name in listed if isinstance(name, str))) if isinstance(listed, list) else ()


def of_property(schema: Schema, name: str) -> Schema:
    """Return the schema of a property of an object schema, listed or additional."""
    listed = properties(schema)
    if name in listed:
        return listed[name]
    rest = schema.get("additionalProperties", True) if isinstance(schema, Mapping) else True
    return rest if isinstance(rest, Mapping | bool) else True


def part(root: Schema, pointer: str) -> Schema:
    """Return the schema of a place in a value that ``root`` describes; raises ``KeyError`` if it forbids the place."""
    schema = follow(root, root)
    for name in pointer.split("/")[1:]:
        key = name.replace("~1", "/").replace("~0", "~")
        schema = follow(_step(schema, key), root)
        if schema is False:
            raise KeyError(pointer)
    return schema


def _step(schema: Schema, key: str) -> Schema:
    if not isinstance(schema, Mapping):
        return True
    if schema.get("type") == "array" and key.isdigit():
        return schema.get("items", True)
    return of_property(schema, key)


def standalone(schema: Schema, root: Schema) -> Schema:
    """Return a part of ``root`` as a schema of its own: what its references name comes along under ``$defs``."""
    if not isinstance(schema, Mapping) or not isinstance(root, Mapping) or not _refers(schema):
        return schema
    home = "#" + pointer_of(["$defs", "contract"])
    moved = relocated({key: value for key, value in root.items() if key not in ("$schema", "$id")}, home)
    dialect = {"$schema": root["$schema"]} if "$schema" in root else {}
    return {**dialect, **relocated(schema, home), "$defs": {"contract": moved}}


def _refers(schema: Any) -> bool:
    if isinstance(schema, Mapping):
        return "$ref" in schema or any(_refers(item) for item in schema.values())
    return isinstance(schema, list) and any(_refers(item) for item in schema)


def relocated(schema: Schema, home: str) -> Schema:
    """Return the schema with its references into itself pointing below ``home`` (``#/…``)."""
    if isinstance(schema, list):
        return [relocated(item, home) for item in schema]
    if not isinstance(schema, Mapping):
        return schema
    return {key: home + item[1:] if _is_local(key, item) else relocated(item, home) for key, item in schema.items()}


def _is_local(key: str, item: Any) -> bool:
    return key == "$ref" and isinstance(item, str) and item.startswith("#")
