"""Our keyword functions that apply subschemas (F11): like jsonschema's, with our sentences, paths and regex engine.

Each has jsonschema's signature ``(validator, value, instance, schema)`` and yields errors, which jsonschema completes
with the keyword and the path. ``NESTING`` holds them by keyword.
"""

from __future__ import annotations

from typing import Any, Final

from jsonschema.exceptions import ValidationError

from contracts.schema_drafts import Json, leaf_accepts
from contracts.schema_evaluated import enter, evaluated_items, evaluated_properties
from contracts.schema_keywords import Errors, Keyword, counted, missing_companions, show


def _descend(
    validator: Any, instance: Json, schema: Json, path: str | int | None = None, schema_path: str | int | None = None
) -> Errors:
    """Apply a subschema. jsonschema's own ``descend`` forgets the path when the subschema is ``false``."""
    if schema is not False:
        yield from validator.descend(instance, schema, path=path, schema_path=schema_path)
        return
    yield ValidationError(
        "Nothing is allowed here.",
        validator="false",
        path=() if path is None else (path,),
        schema_path=() if schema_path is None else (schema_path,),
    )


def _dependencies(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
    if not validator.is_type(instance, "object"):
        return
    for name, other in value.items():
        if name in instance and isinstance(other, list):
            yield from missing_companions(name, other, instance)
        elif name in instance:
            yield from _descend(validator, instance, other, schema_path=name)


def _dependent_schemas(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
    if validator.is_type(instance, "object"):
        for name, subschema in value.items():
            if name in instance:
                yield from _descend(validator, instance, subschema, schema_path=name)


def _properties(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
    if validator.is_type(instance, "object"):
        for name, subschema in value.items():
            if name in instance:
                yield from _descend(validator, instance[name], subschema, path=name, schema_path=name)


def _pattern_properties(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
    if validator.is_type(instance, "object"):
        for pattern, subschema in value.items():
            for name, item in instance.items():
                if leaf_accepts("pattern", pattern, name):
                    yield from _descend(validator, item, subschema, path=name, schema_path=pattern)


def _additional_properties(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
    if not validator.is_type(instance, "object"):
        return
    listed, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    for name, item in instance.items():
        if name in listed or any(leaf_accepts("pattern", pattern, name) for pattern in patterns):
            continue
        if value is False:
            yield ValidationError(f"Property '{name}' is not allowed here.", path=[name])
        else:
            yield from _descend(validator, item, value, path=name)


def _property_names(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
    if validator.is_type(instance, "object"):
        for name in instance:
            error = next(iter(_descend(validator, name, value)), None)
            if error is not None:
                reason = error.message if error.validator and not error.context else "It does not fit."
                yield ValidationError(f"Property name {show(name)} is not allowed: {reason}")


def _items_after(validator: Any, value: Json, instance: Json, start: int) -> Errors:
    for index in range(start, len(instance)):
        if value is False:
            message = f"Must have at most {counted(start, 'item')}; has {len(instance)}."
            yield ValidationError(message, path=[index])
        else:
            yield from _descend(validator, instance[index], value, path=index)


def _items(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
    if not validator.is_type(instance, "array"):
        return
    if isinstance(value, list):
        yield from _prefix_items(validator, value, instance, schema)
        return
    start = len(schema.get("prefixItems", ())) if "prefixItems" in validator.VALIDATORS else 0
    yield from _items_after(validator, value, instance, start)


def _prefix_items(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
    if validator.is_type(instance, "array"):
        for index, (item, subschema) in enumerate(zip(instance, value, strict=False)):
            yield from _descend(validator, item, subschema, path=index, schema_path=index)


def _additional_items(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
    if validator.is_type(instance, "array") and isinstance(schema.get("items"), list):
        yield from _items_after(validator, value, instance, len(schema["items"]))


def _contains(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
    if not validator.is_type(instance, "array"):
        return
    counts = "dependentRequired" in validator.VALIDATORS  # 2019-09 and later
    least, most = (schema.get("minContains", 1), schema.get("maxContains")) if counts else (1, None)
    wanted = enter(validator, value)
    matches = sum(1 for item in instance if wanted.is_valid(item))
    if matches < least:
        keyword = "minContains" if "minContains" in schema and counts else "contains"
        message = f"Must contain at least {counted(least, 'matching item')}; has {matches}."
        yield ValidationError(message, validator=keyword)
    if most is not None and matches > most:
        message = f"Must contain at most {counted(most, 'matching item')}; has {matches}."
        yield ValidationError(message, validator="maxContains")


def _not(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
    if enter(validator, value).is_valid(instance):
        yield ValidationError(f"Must not match what the schema excludes: {show(value)}.")


def _all_of(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
    for index, subschema in enumerate(value):
        yield from _descend(validator, instance, subschema, schema_path=index)


def _any_of(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
    context: list[ValidationError] = []
    for index, subschema in enumerate(value):
        errors = list(_descend(validator, instance, subschema, schema_path=index))
        if not errors:
            return
        context.extend(errors)
    yield ValidationError(f"Must match one of {counted(len(value), 'alternative')}; matches none.", context=context)


def _one_of(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
    context: list[ValidationError] = []
    matching: list[int] = []
    for index, subschema in enumerate(value):
        errors = list(_descend(validator, instance, subschema, schema_path=index))
        context.extend(errors)
        if not errors:
            matching.append(index + 1)
    if not matching:
        message = f"Must match exactly one of {counted(len(value), 'alternative')}; matches none."
        yield ValidationError(message, context=context)
    elif len(matching) > 1:
        numbers = ", ".join(map(str, matching))
        yield ValidationError(f"Must match exactly one of {len(value)} alternatives; matches numbers {numbers}.")


def _if(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
    branch = "then" if enter(validator, value).is_valid(instance) else "else"
    if branch in schema:
        yield from _descend(validator, instance, schema[branch], schema_path=branch)


def _unevaluated_properties(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
    if not validator.is_type(instance, "object"):
        return
    seen = evaluated_properties(validator, instance, schema, own=False)
    for name in instance:
        if name in seen:
            continue
        if value is False:
            yield ValidationError(f"Property '{name}' is not allowed here.", path=[name])
        else:
            yield from _descend(validator, instance[name], value, path=name)


def _unevaluated_items(validator: Any, value: Json, instance: Json, schema: Json) -> Errors:
    if not validator.is_type(instance, "array"):
        return
    seen = evaluated_items(validator, instance, schema, own=False)
    for index, item in enumerate(instance):
        if index in seen:
            continue
        if value is False:
            yield ValidationError("This item is not allowed here.", path=[index])
        else:
            yield from _descend(validator, item, value, path=index)


NESTING: Final[dict[str, Keyword]] = {
    "dependencies": _dependencies,
    "dependentSchemas": _dependent_schemas,
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional_properties,
    "propertyNames": _property_names,
    "prefixItems": _prefix_items,
    "items": _items,
    "additionalItems": _additional_items,
    "contains": _contains,
    "not": _not,
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "if": _if,
    "unevaluatedProperties": _unevaluated_properties,
    "unevaluatedItems": _unevaluated_items,
}
