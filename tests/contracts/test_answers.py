"""One model for the answer: the generated JSON Schema takes exactly the decisions that the desk takes (H2, H4)."""

from __future__ import annotations

from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.answers import MAX_ANSWER_BYTES, DecisionForm, canonical, prompt_problem
from contracts.errors import ActionNotAllowed, AnswerInvalid, FlexError, Unprocessable
from contracts.prompts import ACTIONS, ACTIONS_WITH_ANSWER, DecisionInput, PromptKind, PromptSpec
from contracts.schema import SchemaRefused, compile_schema
from contracts.schema_drafts import DRAFTS
from contracts.schema_embed import dialect_of, embedded
from contracts.wire import read_model
from tests.contracts.test_schema_generated import DOCUMENTS, VALUES

EVERY_ACTION = sorted({action for actions in ACTIONS.values() for action in actions})
KINDS = st.sampled_from(PromptKind)
MODEST = st.sampled_from(
    [
        {}, True, False, {"type": "integer"}, {"enum": ["red", "blue"]}, {"type": "object", "required": ["a"]},
        {"oneOf": [{"const": "s", "title": "small"}, {"const": "l", "title": "large"}]},
        {"type": "array", "items": {"$ref": "#"}}, {"$ref": "#/$defs/p", "$defs": {"p": {"type": "string"}}},
    ]
)  # fmt: skip


@st.composite
def forms(draw: st.DrawFn, schemas: st.SearchStrategy[Any]) -> DecisionForm:
    """A prompt of any kind that offers some of its actions."""
    kind = draw(KINDS)
    actions = draw(st.lists(st.sampled_from(ACTIONS[kind]), min_size=1, unique=True))
    return DecisionForm(kind.value, tuple(actions), draw(schemas))


ANSWERS: st.SearchStrategy[Any] = VALUES | st.sampled_from(["red", "s", 1, None, [[]], {"a": 1}])
BODIES = st.fixed_dictionaries(
    {},
    optional={
        "action": st.sampled_from(EVERY_ACTION) | st.sampled_from(["", "dance", None, 1, "x" * 41]),
        "answer": ANSWERS,
        "comment": st.sampled_from([None, "", "why", "x" * 4_000, "x" * 4_001, "é" * 4_000, 1, ["no"]]),
        "bound_hash": st.sampled_from([None, "", "h1", "h" * 128, "h" * 129, 1]),
        "surprise": st.none(),
    },
)


@st.composite
def cases(draw: st.DrawFn, schemas: st.SearchStrategy[Any]) -> tuple[DecisionForm, Any]:
    """A prompt and a body: any JSON now and then, else something near to a decision on it."""
    form = draw(forms(schemas))
    if draw(st.integers(0, 9)) == 0:
        return form, draw(VALUES)
    body = draw(BODIES)
    if draw(st.booleans()):
        body["action"] = draw(st.sampled_from(form.actions))
    if body.get("action") in ACTIONS_WITH_ANSWER and draw(st.booleans()):
        body["answer"] = draw(ANSWERS)
    return form, body


def taken(form: DecisionForm, body: Any) -> bool:
    """What the desk does with a body, from reading it on."""
    try:
        form.check(read_model(DecisionInput, body, Unprocessable))
    except (Unprocessable, ActionNotAllowed):
        return False
    return True


def agree(form: DecisionForm, body: Any) -> None:
    generated = compile_schema(form.schema())
    assert generated.is_valid(body) is taken(form, body), (form, body, generated.schema)


@settings(max_examples=300, deadline=None)
@given(cases(MODEST))
def test_a_body_is_taken_exactly_if_it_fits_the_generated_schema(case: tuple[DecisionForm, Any]) -> None:
    """H2, H4: over all kinds, subsets of their actions, and bodies near to right and far from it.

    Dify#35556: there is an API for the form.
    """
    agree(*case)


@settings(max_examples=250, deadline=None)
@given(cases(DOCUMENTS), st.sampled_from(DRAFTS))
def test_it_agrees_for_any_form_in_any_draft(case: tuple[DecisionForm, Any], draft: Any) -> None:
    """H2: a form brings references and a draft of its own, and neither changes what it means inside a decision."""
    form, body = case
    if isinstance(form.answer_schema, dict):
        form = DecisionForm(form.kind, form.actions, {"$schema": draft.uri, **form.answer_schema})
    agree(form, body)


@settings(max_examples=250, deadline=None)
@given(DOCUMENTS, st.sampled_from(DRAFTS), st.lists(VALUES, min_size=1, max_size=4))
def test_an_embedded_schema_means_what_it_means_alone(schema: Any, draft: Any, values: list[Any]) -> None:
    """F3: wherever it stands."""
    if isinstance(schema, dict):
        schema = {"$schema": draft.uri, **schema, "definitions": schema.get("$defs", {})}
        schema = orjson.loads(orjson.dumps(schema).replace(b"#/$defs/q", b"#/definitions/q"))
    try:
        alone = compile_schema(schema)
    except SchemaRefused:
        return
    home = "#/properties/x"
    whole = compile_schema({"$schema": dialect_of(schema), "properties": {"x": embedded(schema, home)}})
    for value in values:
        assert whole.is_valid({"x": value}) is alone.is_valid(value)


TREE = {"type": "object", "properties": {"next": {"$ref": "#"}, "n": {"$ref": "#/definitions/n"}}}


@pytest.mark.parametrize(
    "schema",
    [
        TREE | {"$schema": "http://json-schema.org/draft-07/schema#", "definitions": {"n": {"type": "integer"}}},
        TREE | {"$schema": "http://json-schema.org/draft-06/schema#", "definitions": {"n": {"type": "integer"}}},
        TREE | {"$id": "urn:mine", "definitions": {"n": {"type": "integer"}}},
        TREE | {"$id": "#", "definitions": {"n": {"type": "integer"}}},
        TREE | {"$id": "trees/one.json", "definitions": {"n": {"type": "integer"}}},
        {
            "$schema": "http://json-schema.org/draft-07/schema", "$id": "urn:old", "$ref": "#/definitions/tree",
            "definitions": {"n": {"type": "integer"}, "tree": TREE},
        },
        {
            "$schema": "https://json-schema.org/draft/2019-09/schema", "$recursiveAnchor": True, "type": "object",
            "properties": {"next": {"$recursiveRef": "#"}, "n": {"type": "integer"}},
        },
    ],
)  # fmt: skip
def test_references_of_every_sort_lead_home(schema: Any) -> None:
    """H2: recursive forms, old drafts, forms with an address of their own."""
    form = DecisionForm("question", ("answer",), schema)
    for answer, fits in (({"n": 1}, True), ({"next": {"next": {"n": 2}}}, True), ({"next": {"n": "x"}}, False)):
        body = {"action": "answer", "answer": answer}
        agree(form, body)
        assert taken(form, body) is fits


def test_a_form_that_cannot_be_used_takes_no_answer() -> None:
    """H4: it says so, instead of failing."""
    form = DecisionForm("approval", ("approve", "edit"), {"$ref": "https://elsewhere.example/schema"})
    for body in ({"action": "approve"}, {"action": "edit", "answer": 1}):
        agree(form, body)
    with pytest.raises(AnswerInvalid) as refused:
        form.check(DecisionInput(action="edit", answer=1))
    assert [(item.pointer, item.code) for item in refused.value.errors] == [("/answer", "schema_refused")]
    assert not form.fits(1)


@pytest.mark.parametrize(
    ("kind", "body", "error", "pointers"),
    [
        ("approval", {"action": "choose", "answer": 1}, ActionNotAllowed, ["/action"]),
        ("approval", {"action": "edit", "answer": {"a": 1, "b": ["x"]}}, AnswerInvalid, ["/answer/a", "/answer/b/0"]),
        ("approval", {"action": "approve", "answer": {}, "comment": "\x00"}, AnswerInvalid, ["/comment", "/answer"]),
        ("plan_review", {"action": "request_changes"}, AnswerInvalid, ["/comment"]),
        ("plan_review", {"action": "request_changes", "comment": ""}, AnswerInvalid, ["/comment"]),
        ("question", {"action": "answer"}, AnswerInvalid, ["/answer"]),
    ],
)
def test_every_broken_place_is_named(kind: str, body: Any, error: type[FlexError], pointers: list[str]) -> None:
    """H4, P3: pointers lead into the posted body."""
    strings = {"type": "object", "additionalProperties": {"type": "array", "items": {"type": "integer"}}}
    form = DecisionForm(kind, ACTIONS[PromptKind(kind)], strings)
    with pytest.raises(error) as refused:
        form.check(read_model(DecisionInput, body, Unprocessable))
    assert [item.pointer for item in refused.value.errors] == pointers


@pytest.mark.parametrize("kind", list(PromptKind))
def test_what_a_clock_may_answer_is_what_a_person_may(kind: PromptKind) -> None:
    """H3: a default answer goes through the one action that carries an answer, if the prompt offers it."""
    form = DecisionForm(kind.value, ACTIONS[kind], {"type": "integer"})
    assert form.answering == next((action for action in ACTIONS[kind] if action in ACTIONS_WITH_ANSWER), None)
    assert form.fits(3) is (kind is not PromptKind.EFFECT_CHECK)
    assert not form.fits("three")
    assert not DecisionForm(kind.value, ("approve",), True).fits(3)


@pytest.mark.parametrize(
    ("changed", "code"),
    [
        ({}, None),
        ({"actions": ["approve", "dance"]}, "unknown_action"),
        ({"answer_schema": {"type": "nonsense"}}, "schema_refused"),
        ({"answer_schema": {"$ref": "https://elsewhere.example/schema"}}, "schema_refused"),
        ({"on_timeout": "default", "due_seconds": 1.0, "default_answer": 1}, None),
        ({"on_timeout": "default", "due_seconds": 1.0, "default_answer": "one"}, "default_unfit"),
        ({"on_timeout": "default", "due_seconds": 1.0, "default_answer": 1, "actions": ["approve"]}, "default_unfit"),
    ],
)
def test_a_question_that_nobody_could_answer_is_not_asked(changed: dict[str, Any], code: str | None) -> None:
    """H4: it is refused where it is made, instead of waiting for ever."""
    given_: dict[str, Any] = {"kind": "approval", "question": "Go?", "answer_schema": {"type": "integer"}} | changed
    problem = prompt_problem(PromptSpec.model_validate(given_))
    assert (None if problem is None else problem[0]) == code


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=2),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    )
)
def test_equal_answers_are_equal_bytes(answer: object) -> None:
    """H4: the order of keys is no difference."""

    def turned(value: object) -> object:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return [turned(item) for item in value] if isinstance(value, list) else value

    assert canonical(answer) == canonical(turned(answer))


def _nested(levels: int) -> object:
    answer: object = "x"
    for _ in range(levels):
        answer = [answer]
    return answer


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        ({"a": "x\x00"}, "nul"), ({"a": {1, 2}}, "not_json"), ("x" * MAX_ANSWER_BYTES, "too_large"),
        (_nested(200), "too_deep"),
    ],
)  # fmt: skip
def test_what_cannot_be_stored_is_refused(answer: object, code: str) -> None:
    """R6, H4: what could not be put into a row or a frame later must not be accepted now."""
    with pytest.raises(AnswerInvalid) as refused:
        DecisionForm("approval", ("edit",), True).check(DecisionInput(action="edit", answer=answer))
    assert [item.code for item in refused.value.errors] == [code]
