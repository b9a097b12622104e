"""One model for the answer to a prompt: it makes the JSON Schema of a decision, and it checks decisions (H2, H4).

Both come from the same three things, the prompt's kind, its actions and its form. A body is taken exactly if it fits
the schema (names in snake_case; NUL characters, depth and size are bounded besides). The desk has no other rules.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Final

import orjson

from contracts.errors import ActionNotAllowed, AnswerInvalid, ErrorItem
from contracts.prompts import (
    ACTIONS,
    ACTIONS_WITH_ANSWER,
    ACTIONS_WITH_REASON,
    MAX_COMMENT,
    DecisionInput,
    PromptSpec,
)
from contracts.schema import SchemaRefused, compile_schema
from contracts.schema_embed import dialect_of, embedded
from contracts.wire import MAX_DEPTH, deep_place, has_nul

MAX_ANSWER_BYTES: Final = 1024 * 1024
MAX_HASH: Final = 128
_HASH: Final = {"type": ["string", "null"], "maxLength": MAX_HASH}
_COMMENT: Final = {"type": ["string", "null"], "maxLength": MAX_COMMENT}
_REASON: Final = {"type": "string", "minLength": 1, "maxLength": MAX_COMMENT}
_UNUSABLE: Final = "The prompt's own schema cannot be used, so no answer fits it."


@dataclass(frozen=True, slots=True)
class DecisionForm:
    """What a prompt takes. ``answer_schema`` is the form of the one action that carries an answer, if there is one."""

    kind: str
    actions: tuple[str, ...]
    answer_schema: Any

    @property
    def answering(self) -> str | None:
        """Return the offered action that carries an answer, None when there is none."""
        return next((action for action in self.actions if action in ACTIONS_WITH_ANSWER), None)

    def schema(self) -> dict[str, Any]:
        """Return the JSON Schema of a decision's body, one variant per action, in the draft of the prompt's form."""
        return {
            "$schema": dialect_of(self.answer_schema),
            "title": f"Decision on a prompt of kind {self.kind}",
            "type": "object",
            "required": ["action"],
            "properties": {"action": {"enum": list(self.actions)}},
            "oneOf": [self._variant(action, f"#/oneOf/{place}") for place, action in enumerate(self.actions)],
        }

    def _variant(self, action: str, at: str) -> dict[str, Any]:
        answers, reasons = action in ACTIONS_WITH_ANSWER, action in ACTIONS_WITH_REASON
        return {
            "title": action,
            "required": ["action", *(["answer"] if answers else []), *(["comment"] if reasons else [])],
            "properties": {
                "action": {"const": action},
                "answer": self._embedded(f"{at}/properties/answer") if answers else {"type": "null"},
                "comment": dict(_REASON if reasons else _COMMENT),
                "bound_hash": dict(_HASH),
            },
            "additionalProperties": False,
        }

    def _embedded(self, home: str) -> Any:
        try:
            compile_schema(self.answer_schema)
        except SchemaRefused:
            return False
        return embedded(self.answer_schema, home)

    def check(self, said: DecisionInput) -> bytes | None:
        """Return the answer as canonical JSON, None for an action that takes none.

        Raises ActionNotAllowed with what is offered, and AnswerInvalid with an item per broken place: ``/answer/…``,
        ``/comment``.
        """
        if said.action not in self.actions:
            message = f"This prompt offers {', '.join(self.actions)}; not {said.action}."
            item = ErrorItem("/action", "action_not_allowed", message)
            raise ActionNotAllowed(message, errors=[item], actions=list(self.actions))
        found = [*_of_comment(said), *_of_answer(said)]
        if said.action not in ACTIONS_WITH_ANSWER or found:
            _refuse(found)
            return None
        answer = canonical(said.answer)
        _refuse(list(self._misfits(said.answer)))
        return answer

    def fits(self, answer: Any) -> bool:
        """Say whether an answer fits the form: what a clock may answer (``default_answer``)."""
        action = self.answering
        if action is None:
            return False
        try:
            self.check(DecisionInput(action=action, answer=answer))
        except AnswerInvalid:
            return False
        return True

    def _misfits(self, answer: Any) -> Iterator[ErrorItem]:
        try:
            compiled = compile_schema(self.answer_schema)
        except SchemaRefused:
            yield _answer(_UNUSABLE, "schema_refused")
            return
        for each in compiled.explain(answer):
            yield ErrorItem("/answer" + each.pointer, each.keyword, each.message)


def prompt_problem(spec: PromptSpec) -> tuple[str, str] | None:
    """Return why a question cannot be asked as it is, as (code, sentence): nobody could ever answer it, or no clock.

    ``unknown_action``: its kind has no such action. ``schema_refused``: its form is no schema that can be used.
    ``default_unfit``: the default answer does not fit the form, so the clock would let it expire instead.
    """
    unknown = [action for action in spec.actions or () if action not in ACTIONS[spec.kind]]
    if unknown:
        return (
            "unknown_action",
            f"A prompt of kind {spec.kind} offers {', '.join(ACTIONS[spec.kind])}; not {unknown[0]}.",
        )
    try:
        compile_schema(spec.answer_schema)
    except SchemaRefused as refused:
        return "schema_refused", f"answer_schema: {refused.message}"
    form = DecisionForm(spec.kind.value, spec.allowed(), spec.answer_schema)
    if "default" in (spec.on_timeout, spec.after_escalation) and not form.fits(spec.default_answer):
        return (
            "default_unfit",
            "The default_answer does not fit the answer_schema, or no offered action takes an answer.",
        )
    return None


def _answer(message: str, code: str) -> ErrorItem:
    return ErrorItem("/answer", code, message)


def _of_answer(said: DecisionInput) -> Iterator[ErrorItem]:
    """Yield what is wrong with an answer whatever its form: it is not wanted, missing, or cannot be stored."""
    if said.action not in ACTIONS_WITH_ANSWER:
        if said.answer is not None:
            yield _answer(f"{said.action} takes no answer; to change what is shown, use edit.", "not_wanted")
    elif not said.has_answer:
        yield _answer(f"{said.action} needs an answer.", "required")
    elif has_nul(said.answer):
        yield _answer("Holds a NUL character: no database stores it.", "nul")
    elif deep_place(said.answer) is not None:
        yield _answer(f"Nested over {MAX_DEPTH} levels.", "too_deep")


def _of_comment(said: DecisionInput) -> Iterator[ErrorItem]:
    if said.comment is not None and has_nul(said.comment):
        yield ErrorItem("/comment", "nul", "Holds a NUL character: no database stores it.")
    elif said.action in ACTIONS_WITH_REASON and not said.comment:
        yield ErrorItem("/comment", "required", f"{said.action} needs a comment that says what to change.")


def _refuse(found: list[ErrorItem]) -> None:
    """Raise AnswerInvalid if anything was found; a finding about the whole is what the error says."""
    if found:
        whole = len(found) == 1 and found[0].pointer in ("/answer", "/comment")
        raise AnswerInvalid(found[0].message if whole else "", errors=found)


def canonical(answer: Any) -> bytes:
    """Return an answer as JSON with sorted keys, so that equal answers are equal bytes; AnswerInvalid if it is none."""
    try:
        text = orjson.dumps(answer, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        item = _answer(f"The answer is not JSON that can be stored: {error}.", "not_json")
        raise AnswerInvalid(item.message, errors=[item]) from error
    if len(text) > MAX_ANSWER_BYTES:
        item = _answer(f"The answer has {len(text)} bytes; at most {MAX_ANSWER_BYTES} are taken.", "too_large")
        raise AnswerInvalid(item.message, errors=[item])
    return text
