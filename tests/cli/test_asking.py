"""Asking at the terminal: forms from schemas, actions, editors, and what is posted in the end (H2, H4)."""

import asyncio
import io
import sys
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.commands.forms import Field, NotUnderstood, answer_of, fields_of, parse
from app.commands.screen import Screen
from app.commands.terminal import Keyboard, decision_for
from contracts.schema import compile_schema
from tests.cli.recorded import PROMPT

FORM = {
    "type": "object",
    "required": ["name", "size"],
    "properties": {
        "name": {"type": "string", "title": "Name", "description": "of the shop"},
        "size": {"type": "integer", "default": 3},
        "open": {"type": "boolean"},
        "tone": {"enum": ["warm", "plain"]},
    },
}


class Typist:
    """Somebody who types these lines, has an editor that returns these texts, and then leaves."""

    def __init__(self, *typed: str, edits: list[str | None] | None = None) -> None:
        self.typed, self.edits = list(typed), list(edits or [])
        self.asked: list[str] = []
        self.shown: list[str] = []

    def ask(self, question: str, default: str | None) -> str:
        self.asked.append(question)
        if not self.typed:
            raise EOFError
        return self.typed.pop(0) or default or ""

    def leave(self) -> None:
        self.typed.clear()

    def edit(self, text: str) -> str | None:
        self.shown.append(text)
        return self.edits.pop(0) if self.edits else None


def decide(prompt: dict[str, Any], person: Typist) -> tuple[Any, str]:
    said = io.StringIO()
    return asyncio.run(decision_for(prompt, person, Screen(io.StringIO(), said))), said.getvalue()


def test_an_approval_posts_the_hash_of_what_was_shown() -> None:
    """H5: what was seen is what is decided."""
    decision, said = decide(PROMPT, Typist("a"))
    assert decision == {"action": "approve", "bound_hash": "h"}
    assert "Publish these?" in said
    assert '"variants": []' in said


def test_a_rejection_may_say_why() -> None:
    assert decide(PROMPT, Typist("reject", "too loud"))[0] == {
        "action": "reject",
        "bound_hash": "h",
        "comment": "too loud",
    }
    assert decide(PROMPT, Typist("r", ""))[0] == {"action": "reject", "bound_hash": "h"}


def test_changes_are_asked_for_with_a_reason() -> None:
    """H2: the planner is told what to change, so it has to be said."""
    review = PROMPT | {"kind": "plan_review", "actions": ["approve", "edit", "request_changes"]}
    decision, said = decide(review, Typist("request", " ", "shorter"))
    assert decision == {"action": "request_changes", "bound_hash": "h", "comment": "shorter"}
    assert "request_changes needs a comment" in said


def test_what_is_no_action_is_asked_again_and_nothing_is_decided_by_leaving() -> None:
    """H4: an unanswered prompt never resumes."""
    person = Typist("yes", "", "later")
    decision, said = decide(PROMPT, person)
    assert decision is None
    assert len(person.asked) == 3
    assert said.count("One of approve, edit, reject is expected.") == 2
    assert decide(PROMPT, Typist())[0] is None


def test_an_edit_opens_the_proposed_value_and_survives_a_typing_error() -> None:
    """A slip in an editor must not cost what was written."""
    person = Typist("edit", edits=['{"variants": [1}', '{"variants": [1]}'])
    decision, said = decide(PROMPT, person)
    assert decision == {"action": "edit", "bound_hash": "h", "answer": {"variants": [1]}}
    assert orjson.loads(person.shown[0]) == PROMPT["proposed"]
    assert person.shown[1] == '{"variants": [1}'
    assert "That is not JSON" in said


def test_without_an_editor_json_or_a_file_is_taken(tmp_path: Any) -> None:
    path = tmp_path / "answer.json"
    path.write_text('{"variants": [2]}')
    for typed in (['{"variants": [2]}'], [str(tmp_path / "missing"), str(path)], ["", str(path)]):
        decision, _ = decide(PROMPT, Typist("edit", *typed))
        assert decision["answer"] == {"variants": [2]}


def test_a_question_is_a_form_of_its_schema() -> None:
    """H2: a question is answered by a form; a slip is asked again, an optional field may stay empty."""
    prompt = {**PROMPT, "kind": "question", "actions": ["answer"], "answer_schema": FORM, "proposed": None}
    decision, said = decide(prompt, Typist("Harbor", "many", "", "", "2"))
    assert decision["answer"] == {"name": "Harbor", "size": 3, "tone": "plain"}
    assert "A whole number is expected" in said
    assert compile_schema(FORM).is_valid(decision["answer"])


def test_a_choice_is_a_numbered_list() -> None:
    """H2."""
    schema = {"oneOf": [{"const": "red"}, {"const": {"rgb": 1}}]}
    prompt = {**PROMPT, "kind": "choice", "actions": ["choose"], "answer_schema": schema, "proposed": None}
    person = Typist("3", "2")
    decision, said = decide(prompt, person)
    assert decision == {"action": "choose", "bound_hash": "h", "answer": {"rgb": 1}}
    assert '1: red, 2: {"rgb":1}' in person.asked[0]
    assert "One of 1 to 2 is expected" in said


@pytest.mark.parametrize(
    "schema",
    [
        True,
        {},
        {"type": "array"},
        {"type": "object"},
        {"type": "object", "properties": {"a": {"type": "object"}}},
        {"type": "object", "properties": {"a": True}},
        {"type": "object", "required": ["b"], "properties": {"a": {"type": "string"}}},
        {"oneOf": [{"const": 1}, {"type": "string"}]},
    ],
)
def test_a_schema_too_rich_for_a_form_is_written_as_json(schema: Any) -> None:
    assert fields_of(schema) is None


SIMPLE = st.sampled_from(["string", "integer", "number", "boolean"])


@given(st.dictionaries(st.text("abc", min_size=1, max_size=3), SIMPLE, min_size=1), st.data())
def test_what_a_form_makes_fits_its_schema(types: dict[str, str], data: st.DataObject) -> None:
    """H4: whatever is typed, a form either asks again or yields a value of the schema's type."""
    schema = {
        "type": "object",
        "required": sorted(types),
        "properties": {name: {"type": kind} for name, kind in types.items()},
    }
    fields = fields_of(schema)
    assert fields is not None
    values: dict[str | None, Any] = {}
    for field in fields:
        typed = data.draw(
            st.one_of(st.text(max_size=5), st.sampled_from(["1", "-2", "1.5", "y", "no", "true", "1e3", "null"]))
        )
        try:
            values[field.name] = parse(field, typed)
        except NotUnderstood:
            return
    assert compile_schema(schema).is_valid(answer_of(fields, values))


def test_a_proposed_value_is_the_default_of_its_field() -> None:
    fields = fields_of(FORM, {"name": "Harbor", "open": False})
    assert fields is not None
    assert {field.name: field.default for field in fields} == {"name": "Harbor", "size": 3, "open": False, "tone": None}
    assert fields[0].label == "Name (of the shop)"
    assert fields_of({"type": "string"}, "x") == [Field(None, "string", "Answer", True, (), "x")]


def test_the_persons_own_editor_is_used(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    editor = tmp_path / "editor.py"
    editor.write_text(
        "import sys, pathlib; p = pathlib.Path(sys.argv[1]); p.write_text(p.read_text().replace('1', '2'))"
    )
    monkeypatch.delenv("VISUAL", raising=False)
    monkeypatch.setenv("EDITOR", f"{sys.executable} {editor}")
    said = io.StringIO()
    keyboard = Keyboard(Screen(io.StringIO(), said))
    assert keyboard.edit('{"a": 1}') == '{"a": 2}'
    monkeypatch.setenv("EDITOR", str(tmp_path / "missing"))
    assert keyboard.edit("{}") is None
    assert "did not work" in said.getvalue()
    monkeypatch.delenv("EDITOR")
    assert keyboard.edit("{}") is None
