"""Write the pages that are made from the code: frames, lifecycle, settings, routes, openapi.json.

python docs/generate.py            write them
python docs/generate.py --check    say which are out of date and end with 1
"""

from __future__ import annotations

import sys
import types
import typing
from collections.abc import Callable, Mapping
from dataclasses import MISSING, fields
from enum import StrEnum
from pathlib import Path
from typing import Any

import orjson

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from app.settings import PREFIX, Settings
from contracts import lifecycle
from contracts.events import EPHEMERAL, EVENTS, FAILURE_CODES, TERMINAL
from routes.openapi import document
from routes.table import ROUTES

DOCS = Path(__file__).resolve().parent
NOTE = "<!-- Made by docs/generate.py; change the code it is made from. -->\n"


def frames() -> str:
    """Return the reference of every frame."""
    lines = [
        "# Frames",
        NOTE,
        "Every frame is JSON with `type`, `id`, `timestamp`, `correlation_id`, `run_id`, `node_id` and `payload`.",
        "`id` counts a run's frames from 1 without a gap; an *ephemeral* frame has `id` null and is never replayed.",
        "A run's log ends with exactly one *terminal* frame. Switch on `type` and ignore types you do not know.",
        "",
    ]
    for event in EVENTS:
        marks = [name for name, types_ in (("terminal", TERMINAL), ("ephemeral", EPHEMERAL)) if event.type in types_]
        lines += [f"## {event.type}", "", f"{_doc(event)}{f' *({marks[0]})*' if marks else ''}", ""]
        hints = typing.get_type_hints(event)
        rows = [f"| `{part.name}` | {_type(hints[part.name])}{_optional(part)} |" for part in fields(event)]
        lines += ["| payload | JSON |", "|---|---|", *rows, ""]
    lines += ["## Codes of `failed`", "", ", ".join(f"`{code}`" for code in FAILURE_CODES) + "."]
    return "\n".join(lines) + "\n"


def _doc(thing: Any) -> str:
    return " ".join((thing.__doc__ or "").split())


def _optional(part: Any) -> str:
    return "" if part.default is MISSING else "; only there when set"


def _type(hint: Any) -> str:
    """Return a Python type as the JSON it becomes."""
    plain = {str: "string", int: "integer", float: "number", bool: "boolean", Any: "any", type(None): "null"}
    if hint in plain:
        return plain[hint]
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in (types.UnionType, typing.Union):
        return " or ".join(_type(argument) for argument in arguments)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return f"object of {_type(arguments[1])}"
    return f"list of {_type(arguments[0])}"


def lifecycles() -> str:
    """Return the diagrams of the three lifecycles."""
    lines = [
        "# Lifecycles",
        NOTE,
        "Every move that there is. Database, engine and tests use the same tables (`contracts/lifecycle.py`).",
        "A terminal state never changes.",
        "",
    ]
    tables: tuple[tuple[str, type[StrEnum], Mapping[Any, frozenset[Any]]], ...] = (
        ("Run", lifecycle.RunStatus, lifecycle.RUN_MOVES),
        ("Node", lifecycle.NodeStatus, lifecycle.NODE_MOVES),
        ("Prompt", lifecycle.PromptStatus, lifecycle.PROMPT_MOVES),
    )
    for name, statuses, moves in tables:
        order = list(statuses)
        lines += [f"## {name}", "", "```mermaid", "stateDiagram-v2", f"    [*] --> {order[0].value}"]
        for before in order:
            lines += [f"    {before.value} --> {after.value}" for after in order if after in moves[before]]
            if not moves[before]:
                lines.append(f"    {before.value} --> [*]")
        lines += ["```", ""]
    waits = ", ".join(f"`{reason.value}`" for reason in lifecycle.WaitingOn)
    lines += [f"A waiting run says what it waits for in `waiting_on`: {waits}."]
    return "\n".join(lines) + "\n"


def settings() -> str:
    """Return the reference of every setting."""
    lines = [
        "# Settings",
        NOTE,
        "Set in the environment. Lists are separated by commas. A `FLEX_…` variable that sets nothing is warned of.",
        "",
        "| variable | default | meaning |",
        "|---|---|---|",
    ]
    for name, part in Settings.model_fields.items():
        lines.append(f"| `{PREFIX}{name.upper()}` | {_default(part.default)} | {part.description} |")
    return "\n".join(lines) + "\n"


def _default(value: Any) -> str:
    if value is None or value == ():
        return ""
    if isinstance(value, bool):
        return "`1`" if value else "`0`"
    return f"`{value}`"


def routes() -> str:
    """Return the table of routes."""
    lines = [
        "# Routes",
        NOTE,
        "The whole description, with every schema and refusal, is `openapi.json` (and `/docs` of a running service).",
        "",
        "| method | path | what | answers | query |",
        "|---|---|---|---|---|",
    ]
    for spec in ROUTES:
        answers = ", ".join(str(answer.status) for answer in spec.answers) or "422"
        query = ", ".join(f"`{name}`" for name in sorted(spec.query_names))
        lines.append(f"| {spec.method} | `{spec.path}` | {spec.summary} | {answers} | {query} |")
    return "\n".join(lines) + "\n"


def openapi() -> str:
    """Return the OpenAPI document, readable in a diff."""
    shown = orjson.dumps(document(ROUTES, "0.1.0"), option=orjson.OPT_INDENT_2 | orjson.OPT_SORT_KEYS)
    return shown.decode() + "\n"


PAGES: Mapping[str, Callable[[], str]] = {
    "frames.md": frames,
    "lifecycle.md": lifecycles,
    "settings.md": settings,
    "routes.md": routes,
    "openapi.json": openapi,
}


def stale(directory: Path = DOCS) -> list[str]:
    """Return the pages that are not what the code says."""
    found = []
    for name, make in PAGES.items():
        path = directory / name
        if not path.exists() or path.read_text(encoding="utf-8") != make():
            found.append(name)
    return found


def main(arguments: list[str]) -> int:
    """Write the pages, or check them."""
    if arguments == ["--check"]:
        old = stale()
        for name in old:
            print(f"docs/{name} is out of date; run: make docs")
        return 1 if old else 0
    for name, make in PAGES.items():
        (DOCS / name).write_text(make(), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
