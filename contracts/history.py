"""What a run remembers of where it came from, and what its history says of it (T1, T2).

An :class:`Origin` is written once, when the run is accepted. The history is written once, in the transaction that ends
the run (``store/history.py``).
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import lru_cache
from typing import Any, Final, Literal, get_args

import orjson

from contracts.lifecycle import RUN_ACTIVE

MOST_PREVIEW: Final = 50
"""Characters of the first parameter that lists show (T2)."""
MOST_OBJECTIVE: Final = 200
MOST_ERROR: Final = 300
MOST_WORDS: Final = 60
"""Different words by which an execution is found; a word counts with its first :data:`MOST_LETTERS`."""
MOST_LETTERS: Final = 40
_WORD: Final = re.compile(r"[^\W_]+")

Way = Literal["planned", "custom", "definition", "template", "chat"]
"""Who said what to run: the planner, a plan in the envelope, a stored flow, a template, a conversation."""
Trigger = Literal[
    "api", "stream", "execute", "run", "cli", "openai", "chat", "mcp", "webhook", "schedule", "retry", "fork"
]
"""The door a run came through."""
By = Literal["flow_id", "template_id", "story_id", "principal", "way", "trigger"]
"""What executions are added up by."""
TRIGGERS: Final[frozenset[str]] = frozenset(get_args(Trigger))
WAYS: Final[frozenset[str]] = frozenset(get_args(Way))


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a run comes from. ``tool`` is the name under which it was called, where that is not the flow's."""

    way: Way = "planned"
    trigger: Trigger = "api"
    flow_id: str | None = None
    flow_version: int | None = None
    flow_name: str | None = None
    template_id: str | None = None
    template_name: str | None = None
    story_id: str | None = None
    tool: str | None = None

    def to_json(self) -> str | None:
        """Return what is stored: the members that say something; None for a run that was simply planned."""
        return _kept(self)

    @classmethod
    def from_json(cls, text: str | None) -> Origin:
        """Return a stored origin."""
        return PLANNED if text is None else cls(**orjson.loads(text))


PLANNED: Final = Origin()


@lru_cache(maxsize=256)
def _kept(origin: Origin) -> str | None:
    said = {each.name: getattr(origin, each.name) for each in fields(origin)}
    told = {name: value for name, value in said.items() if value != getattr(PLANNED, name)}
    return orjson.dumps(told).decode() if told else None


@dataclass(frozen=True, slots=True)
class Ending:
    """How a run ended: what its last frame says of a failure; all None for one that completed."""

    code: str | None = None
    message: str | None = None
    node_id: str | None = None


@dataclass(frozen=True, slots=True)
class Wanted:
    """Which executions a list shows; None: all. Times are wall ms, ``words`` are whole beginnings of words."""

    flow_id: str | None = None
    template_id: str | None = None
    story_id: str | None = None
    status: str | None = None
    trigger: str | None = None
    way: str | None = None
    after_ms: int | None = None
    before_ms: int | None = None
    longer_ms: int | None = None
    shorter_ms: int | None = None
    words: tuple[str, ...] = ()

    @property
    def live(self) -> bool:
        """Say whether one that has not ended may be among them: a duration is known of ended ones only."""
        return self.longer_ms is None and self.shorter_ms is None and (self.status is None or self.status in RUN_ACTIVE)

    @property
    def ended(self) -> bool:
        """Say whether one that ended may be among them."""
        return self.status is None or self.status not in RUN_ACTIVE


def preview_of(inputs: Any) -> str:
    """Return the first parameter for lists: text as it is, everything else as compact JSON, 50 characters (T2)."""
    if not isinstance(inputs, Mapping) or not inputs:
        return ""
    first = next(iter(inputs.values()))
    text = first if isinstance(first, str) else orjson.dumps(first).decode()
    line = " ".join(text.split())
    return line if len(line) <= MOST_PREVIEW else line[: MOST_PREVIEW - 1] + "…"


def given_of(envelope: Mapping[str, Any]) -> Any:
    """Return what a run was given: its inputs, the parameters of its template where it has none."""
    workflow = envelope.get("workflow")
    return envelope.get("inputs") or (workflow.get("params") if isinstance(workflow, Mapping) else None) or {}


def words_of(*texts: str | None) -> str:
    """Return the different words of some texts in lower case, one space between them: what a search looks at."""
    found: dict[str, None] = {}
    for text in texts:
        for word in _WORD.findall(_folded(text)) if text else ():
            found[word[:MOST_LETTERS]] = None
            if len(found) >= MOST_WORDS:
                return " ".join(found)
    return " ".join(found)


def _folded(text: str) -> str:
    return text.lower() if text.isascii() else unicodedata.normalize("NFKC", text).casefold()
