"""Questions as forms: what to ask for one by one, and how what was typed becomes JSON. Pure (wire §5)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from app.commands.text import clean, compact, line

_SIMPLE: Final = frozenset({"string", "integer", "number", "boolean"})
_YES: Final = {"y": True, "yes": True, "true": True, "1": True, "n": False, "no": False, "false": False, "0": False}


class NotUnderstood(ValueError):
    """What was typed is not a value of the field; the message says what is expected."""


@dataclass(frozen=True, slots=True)
class Field:
    """One thing to ask for: ``name`` is its key in the answer (None: it is the whole answer)."""

    name: str | None
    type: str
    label: str
    required: bool = True
    choices: tuple[Any, ...] = ()
    default: Any = None

    @property
    def hint(self) -> str:
        """Return what may be typed, for people."""
        if self.choices:
            return ", ".join(f"{number}: {compact(choice, 60)}" for number, choice in enumerate(self.choices, 1))
        return {"boolean": "y or n", "integer": "a whole number", "number": "a number"}.get(self.type, "text")


def fields_of(schema: Any, proposed: Any = None) -> list[Field] | None:
    """Return the fields of an answer schema, None when it is too rich for a form and JSON must be written."""
    if not isinstance(schema, Mapping):
        return None
    alone = _field(None, schema, required=True, default=proposed)
    if alone is not None:
        return [alone]
    properties = schema.get("properties")
    if schema.get("type", "object") != "object" or not isinstance(properties, Mapping) or not properties:
        return None
    required = schema.get("required", ())
    given = proposed if isinstance(proposed, Mapping) else {}
    found = [
        _field(name, part, required=name in required, default=given.get(name)) for name, part in properties.items()
    ]
    fields = [field for field in found if field is not None]
    return fields if len(fields) == len(found) and set(required) <= properties.keys() else None


def _field(name: str | None, schema: Any, *, required: bool, default: Any) -> Field | None:
    if not isinstance(schema, Mapping):
        return None
    choices = _choices(schema)
    kind = schema.get("type")
    if not choices and kind not in _SIMPLE:
        return None
    title = line(schema.get("title") or name or "Answer")
    note = line(schema.get("description", ""))
    label = f"{title} ({note})" if note else title
    shown = default if default is not None else schema.get("default")
    return Field(name, str(kind), label, required, choices, shown)


def _choices(schema: Mapping[str, Any]) -> tuple[Any, ...]:
    if isinstance(schema.get("enum"), list):
        return tuple(schema["enum"])
    options = schema.get("oneOf")
    if isinstance(options, list) and options and all(isinstance(each, Mapping) and "const" in each for each in options):
        return tuple(each["const"] for each in options)
    return ()


def parse(field: Field, typed: str) -> Any:
    """Return what ``typed`` means for the field; raise NotUnderstood with what is expected instead."""
    text = typed.strip()
    if field.choices:
        return _chosen(field.choices, text)
    if field.type == "boolean":
        if text.lower() in _YES:
            return _YES[text.lower()]
        raise NotUnderstood(f"y or n is expected, not {clean(typed)}.")
    if field.type in ("integer", "number"):
        return _number(field.type, text)
    return typed


def _chosen(choices: Sequence[Any], text: str) -> Any:
    for choice in choices:
        if text == (choice if isinstance(choice, str) else compact(choice)):
            return choice
    if text.isascii() and text.isdigit() and 1 <= int(text) <= len(choices):
        return choices[int(text) - 1]
    raise NotUnderstood(f"One of 1 to {len(choices)} is expected, not {clean(text)}.")


def _number(kind: str, text: str) -> int | float:
    try:
        value = orjson.loads(text)
    except orjson.JSONDecodeError:
        value = None
    if isinstance(value, bool) or not isinstance(value, int if kind == "integer" else int | float):
        raise NotUnderstood(f"A {'whole number' if kind == 'integer' else 'number'} is expected, not {clean(text)}.")
    return value


def answer_of(fields: Sequence[Field], values: Mapping[str | None, Any]) -> Any:
    """Return the answer: the only field's value, or an object of those that were filled in."""
    if len(fields) == 1 and fields[0].name is None:
        return values[None]
    return {field.name: values[field.name] for field in fields if field.name in values}
