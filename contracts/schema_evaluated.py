"""Which properties and items a schema has evaluated: what ``unevaluatedProperties`` and ``unevaluatedItems`` leave.

jsonschema has this too, but matches property names with Python's regexes, which hostile patterns can hang.
It reads jsonschema's ``_resolver``, as its own keyword functions do: there is no public way to follow a reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from referencing.jsonschema import DRAFT202012, lookup_recursive_ref

from contracts.schema_drafts import Json, leaf_accepts


def evaluated_properties(validator: Any, instance: Json, schema: Json, *, own: bool = True) -> set[str]:
    """Return the property names that ``schema``, which the instance satisfies so far, has evaluated.

    ``own=False`` leaves out the schema's own ``unevaluatedProperties``: the question it asks.
    """
    if isinstance(schema, bool):
        return set()
    if "additionalProperties" in schema or (own and "unevaluatedProperties" in schema):
        return set(instance)
    seen = set(instance) & set(schema.get("properties", {}))
    for pattern in schema.get("patternProperties", {}):
        seen |= {name for name in instance if leaf_accepts("pattern", pattern, name)}
    for below, subschema in _applied(validator, instance, schema):
        seen |= evaluated_properties(below, instance, subschema)
    return seen


def evaluated_items(validator: Any, instance: Json, schema: Json, *, own: bool = True) -> set[int]:
    """Return the indexes of the items that ``schema`` has evaluated; ``own`` as above."""
    if isinstance(schema, bool):
        return set()
    everything = set(range(len(instance)))
    modern = "prefixItems" in validator.VALIDATORS
    items = schema.get("items")
    if (own and "unevaluatedItems" in schema) or ("items" in schema and not isinstance(items, list)):
        return everything
    prefix = schema.get("prefixItems", ()) if modern else items if isinstance(items, list) else ()
    if prefix and not modern and "additionalItems" in schema:
        return everything
    seen = everything & set(range(len(prefix)))
    if modern and "contains" in schema:
        matching = enter(validator, schema["contains"])
        seen |= {index for index, item in enumerate(instance) if matching.is_valid(item)}
    for below, subschema in _applied(validator, instance, schema):
        seen |= evaluated_items(below, instance, subschema)
    return seen


def _applied(validator: Any, instance: Json, schema: Json) -> Iterator[tuple[Any, Json]]:
    """Yield the subschemas that ``schema`` applies to the same instance and that it satisfies."""
    for keyword in ("$ref", "$dynamicRef", "$recursiveRef"):
        if keyword in schema and keyword in validator.VALIDATORS:
            resolver = validator._resolver
            found = lookup_recursive_ref(resolver) if keyword == "$recursiveRef" else resolver.lookup(schema[keyword])
            yield validator.evolve(schema=found.contents, _resolver=found.resolver), found.contents
    for subschema in _candidates(validator, instance, schema):
        below = enter(validator, subschema)
        if below.is_valid(instance):
            yield below, subschema


def _candidates(validator: Any, instance: Json, schema: Json) -> Iterator[Json]:
    for keyword in ("allOf", "anyOf", "oneOf"):
        yield from schema.get(keyword, ())
    if isinstance(instance, dict):
        yield from (each for name, each in schema.get("dependentSchemas", {}).items() if name in instance)
    if "if" in schema:
        yield schema["if"]
        branch = "then" if enter(validator, schema["if"]).is_valid(instance) else "else"
        if branch in schema:
            yield schema[branch]


def enter(validator: Any, subschema: Json) -> Any:
    """Return the validator of a subschema, inside the subschema's own base address."""
    resolver = validator._resolver
    if isinstance(subschema, dict) and "$id" in subschema:
        resolver = resolver.in_subresource(DRAFT202012.create_resource(subschema))
    return validator.evolve(schema=subschema, _resolver=resolver)
