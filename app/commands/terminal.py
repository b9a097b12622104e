"""Asking the person at this terminal to decide a prompt (H2)."""

from __future__ import annotations

import asyncio
import os
import select
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

import orjson

from app.commands.exits import CommandError
from app.commands.forms import Field, NotUnderstood, answer_of, fields_of, parse
from app.commands.screen import Screen
from app.commands.text import clean, compact, pretty
from contracts.prompts import ACTIONS_WITH_ANSWER, ACTIONS_WITH_REASON

Json = Any


class Person(Protocol):
    """Who is asked."""

    def ask(self, question: str, default: str | None) -> str:
        """Return what was typed; ``default`` when only Return was pressed. Raises EOFError at the end of input."""

    def edit(self, text: str) -> str | None:
        """Return the text after editing, None when there is no editor."""

    def leave(self) -> None:
        """End a question that is being asked, from another thread."""


class Keyboard:
    """The person at the terminal; questions go to stderr, so that stdout stays the answer's."""

    def __init__(self, screen: Screen) -> None:
        """Take the screen to print on."""
        self._screen = screen
        self._ending, self._end = os.pipe()

    def ask(self, question: str, default: str | None) -> str:
        """Print the question and read a line."""
        self._screen.end_delta()
        self._screen.err.print(f"{question}{f' [{default}]' if default else ''}: ", end="", soft_wrap=True)
        # A thread that reads stdin cannot be interrupted, so it reads only what is there.
        ready, _, _ = select.select([sys.stdin, self._ending], [], [])
        typed = "" if self._ending in ready else sys.stdin.readline()
        if not typed:
            raise EOFError
        return typed.removesuffix("\n") or default or ""

    def leave(self) -> None:
        """Let :meth:`ask` end as if its input had."""
        os.write(self._end, b".")

    def edit(self, text: str) -> str | None:
        """Open ``$VISUAL`` or ``$EDITOR`` on a temporary file."""
        editor = os.environ.get("VISUAL") or os.environ.get("EDITOR")
        if not editor:
            return None
        with tempfile.TemporaryDirectory(prefix="flex-") as folder:
            path = Path(folder) / "answer.json"
            path.write_text(text, encoding="utf-8")
            try:
                subprocess.run([*shlex.split(editor), str(path)], check=True)  # noqa: S603 - the person's own editor
            except (OSError, ValueError, subprocess.CalledProcessError) as error:
                self._screen.error(f"The editor {editor} did not work: {error}")
                return None
            return path.read_text(encoding="utf-8")


async def decision_for(prompt: Mapping[str, Any], person: Person, screen: Screen) -> Json | None:
    """Show a prompt and return a decision to post, None when the person leaves it for later.

    What is shown is bound: ``bound_hash`` goes back with the decision, so nothing else can be decided by it.
    """
    try:
        return await asyncio.to_thread(_decision_for, prompt, person, screen)
    except asyncio.CancelledError:
        person.leave()
        raise


def _decision_for(prompt: Mapping[str, Any], person: Person, screen: Screen) -> Json | None:
    screen.say(clean(prompt["question"]), "bold magenta")
    if prompt.get("proposed") is not None:
        screen.say(pretty(prompt["proposed"]))
    try:
        action = _action(prompt["actions"], person, screen)
        if action is None:
            return None
        decision: dict[str, Any] = {"action": action, "bound_hash": prompt["bound_hash"]}
        if action in ACTIONS_WITH_ANSWER:
            decision["answer"] = _answer(prompt, person, screen)
        if (why := _reason(action, person, screen)) is not None:
            decision["comment"] = why
    except EOFError:
        return None
    return decision


def _reason(action: str, person: Person, screen: Screen) -> str | None:
    if action not in ("reject", *ACTIONS_WITH_REASON):
        return None
    needed = action in ACTIONS_WITH_REASON
    while True:
        typed = person.ask("What should change" if needed else "Why (may stay empty)", None).strip()
        if typed or not needed:
            return typed or None
        screen.error(f"{action} needs a comment.")


def _action(actions: list[str], person: Person, screen: Screen) -> str | None:
    if actions in (["answer"], ["choose"]):
        return actions[0]
    while True:
        typed = person.ask(f"{', '.join(actions)}, or later", None).strip().lower()
        if typed == "later":
            return None
        matching = [action for action in actions if typed and action.startswith(typed)]
        if len(matching) == 1 or typed in actions:
            return typed if typed in actions else matching[0]
        screen.error(f"One of {', '.join(actions)} is expected.")


def _answer(prompt: Mapping[str, Any], person: Person, screen: Screen) -> Json:
    fields = fields_of(prompt["answer_schema"], prompt.get("proposed"))
    if fields is None:
        return _written(prompt, person, screen)
    values: dict[str | None, Any] = {}
    for field in fields:
        filled, value = _filled(field, person, screen)
        if filled:
            values[field.name] = value
    return answer_of(fields, values)


def _filled(field: Field, person: Person, screen: Screen) -> tuple[bool, Any]:
    default = None if field.default is None else compact(field.default, 10_000)
    optional = "" if field.required else ", may stay empty"
    while True:
        typed = person.ask(f"{field.label}: {field.hint}{optional}", default)
        if not typed.strip() and not field.required:
            return False, None
        if field.default is not None and typed == default:
            return True, field.default
        try:
            return True, parse(field, typed)
        except NotUnderstood as error:
            screen.error(str(error))


def _written(prompt: Mapping[str, Any], person: Person, screen: Screen) -> Json:
    """Return JSON from the person's editor, or from a file they name; what was written is never lost to a typo."""
    text = orjson.dumps(prompt.get("proposed"), option=orjson.OPT_INDENT_2).decode()
    while True:
        edited = person.edit(text)
        if edited is None:
            edited = _from_file(person, screen)
        if edited is None:
            continue
        try:
            return orjson.loads(edited)
        except orjson.JSONDecodeError as error:
            screen.error(f"That is not JSON: {error}")
            text = edited


def _from_file(person: Person, screen: Screen) -> str | None:
    typed = person.ask("Path of a file with the answer as JSON, or the JSON itself", None).strip()
    if typed.startswith(("{", "[", '"')):
        return typed
    try:
        return Path(typed).expanduser().read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        screen.error(f"{typed} cannot be read: {error}")
        return None


def read_json_file(path: str) -> Json:
    """Return the JSON of a file, of stdin for ``-``; raises CommandError with a sentence."""
    try:
        text = sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()
    except OSError as error:
        raise CommandError(f"{path} cannot be read: {error.strerror}.") from error
    return json_text(text, "stdin" if path == "-" else path)


def json_text(text: str | bytes, name: str) -> Json:
    """Return the JSON in ``text``; raises CommandError that says where in ``name`` it is none."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise CommandError(f"{name} is not JSON: {error}.") from error
