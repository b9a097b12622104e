"""The review page's form: fields made from the prompt's answer schema, and a sent form read back (H2, H8).

An object of plain values gets one field per property, a choice gets its options, everything else one field of JSON.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from contracts.errors import AnswerInvalid, ErrorItem
from contracts.prompts import ACTIONS_WITH_ANSWER

WHOLE: Final = "answer"
PREFIX: Final = "field."
_PLAIN: Final = frozenset({"string", "number", "integer", "boolean"})
_LABELS: Final[Mapping[str, tuple[str, str]]] = {
    "approve": ("Approve", "good"),
    "edit": ("Approve with my changes", "plain"),
    "reject": ("Reject", "bad"),
    "request_changes": ("Ask for changes", "bad"),
    "answer": ("Send answer", "good"),
    "choose": ("Choose", "good"),
    "happened": ("It happened", "plain"),
    "not_happened": ("It did not happen", "plain"),
}
MAX_FIELDS: Final = 30


@dataclass(frozen=True, slots=True)
class Option:
    """One possible value: what is sent (JSON), what is shown."""

    value: str
    label: str
    chosen: bool = False


@dataclass(frozen=True, slots=True)
class Field:
    """One input: its name in the form, and what it shows."""

    name: str
    label: str
    value: str = ""
    hint: str = ""
    required: bool = False
    long: bool = False
    mode: str = "text"
    options: Sequence[Option] = ()


@dataclass(frozen=True, slots=True)
class Button:
    """One action that the prompt offers."""

    name: str
    label: str
    tone: str


@dataclass(frozen=True, slots=True)
class Form:
    """Everything between the question and the decision."""

    actions: Sequence[Button]
    takes_answer: bool
    optional: bool
    """whether one can also decide without an answer of one's own"""
    fields: Sequence[Field] = field(default_factory=tuple)
    comment: str = ""


def form_of(prompt: Mapping[str, Any], sent: Mapping[str, str] | None = None) -> Form:
    """Return the form of an open prompt; ``sent`` is what a refused form held, kept for its sender."""
    buttons = [Button(name, *_LABELS.get(name, (name, "plain"))) for name in prompt["actions"]]
    takes = any(button.name in ACTIONS_WITH_ANSWER for button in buttons)
    fields = _fields(prompt["answer_schema"], prompt["proposed"]) if takes else []
    if sent is not None:
        fields = [_kept(each, sent) for each in fields]
    return Form(buttons, takes, "approve" in prompt["actions"], fields, (sent or {}).get("comment", ""))


def _kept(each: Field, sent: Mapping[str, str]) -> Field:
    value = sent.get(each.name, each.value)
    options = [Option(option.value, option.label, option.value == value) for option in each.options]
    return Field(each.name, each.label, value, each.hint, each.required, each.long, each.mode, options)


def _fields(schema: Any, proposed: Any) -> list[Field]:
    if isinstance(schema, dict) and (choices := _choices(schema)):
        return [Field(WHOLE, schema.get("title", "Your choice"), options=_options(choices, proposed), required=True)]
    if _is_plain_object(schema):
        known = proposed if isinstance(proposed, dict) else {}
        required = schema.get("required", ())
        return [
            _field(name, part, known.get(name), required=name in required)
            for name, part in schema["properties"].items()
        ]
    shown = "" if proposed is None else pretty(proposed)
    return [Field(WHOLE, "Answer", shown, "JSON, as the schema of the answer wants it.", long=True)]


def _is_plain_object(schema: Any) -> bool:
    """Say whether a field per property says everything: no nesting, nothing that depends on something else."""
    if not isinstance(schema, dict) or schema.get("type") != "object":
        return False
    parts = schema.get("properties")
    if not isinstance(parts, dict) or not 0 < len(parts) <= MAX_FIELDS:
        return False
    return all(isinstance(part, dict) and (part.get("type") in _PLAIN or _choices(part)) for part in parts.values())


def _choices(schema: Mapping[str, Any]) -> list[Any]:
    if schema.get("type") == "boolean":
        return [True, False]
    found = schema.get("enum")
    return list(found) if isinstance(found, list) and 0 < len(found) <= MAX_FIELDS else []


def _options(choices: Sequence[Any], chosen: Any) -> list[Option]:
    return [
        Option(orjson.dumps(value).decode(), _word(value), type(value) is type(chosen) and value == chosen)
        for value in choices
    ]


def _word(value: Any) -> str:
    if isinstance(value, bool):
        return "Yes" if value else "No"
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _field(name: str, schema: Mapping[str, Any], value: Any, *, required: bool) -> Field:
    label, hint = str(schema.get("title", name)), str(schema.get("description", ""))
    if choices := _choices(schema):
        return Field(PREFIX + name, label, hint=hint, required=required, options=_options(choices, value))
    shown = "" if value is None else value if isinstance(value, str) else orjson.dumps(value).decode()
    mode = "decimal" if schema["type"] in ("number", "integer") else "text"
    return Field(PREFIX + name, label, shown, hint, required, mode=mode)


def pretty(value: Any) -> str:
    """Return a JSON value as text for people."""
    return value if isinstance(value, str) else orjson.dumps(value, option=orjson.OPT_INDENT_2).decode()


def read_form(prompt: Mapping[str, Any], sent: Mapping[str, str]) -> dict[str, Any]:
    """Return the decision (``contracts.prompts.DecisionInput``) that a sent form means.

    Raises AnswerInvalid for a field that holds no JSON where JSON is wanted.
    """
    action = sent.get("action", "")
    body: dict[str, Any] = {"action": action}
    if sent.get("comment", "").strip():
        body["comment"] = sent["comment"].strip()
    if sent.get("bound_hash"):
        body["bound_hash"] = sent["bound_hash"]
    if action in ACTIONS_WITH_ANSWER:
        body["answer"] = _answer(prompt["answer_schema"], sent)
    return body


def _answer(schema: Any, sent: Mapping[str, str]) -> Any:
    if isinstance(schema, dict) and not _choices(schema) and _is_plain_object(schema):
        given = {name: sent.get(PREFIX + name, "") for name in schema["properties"]}
        required = schema.get("required", ())
        return {
            name: _value(schema["properties"][name], text, name)
            for name, text in given.items()
            if text != "" or (name in required and schema["properties"][name].get("type") == "string")
        }
    return _json(sent.get(WHOLE, ""), "")


def _value(schema: Mapping[str, Any], text: str, name: str) -> Any:
    if _choices(schema) or schema["type"] != "string":
        return _json(text, f"/{name}")
    return text


def _json(text: str, at: str) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        items = [ErrorItem(f"/answer{at}", "not_json", "This is not JSON.")]
        raise AnswerInvalid("The answer could not be read.", errors=items) from error
