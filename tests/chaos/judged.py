"""What every rule needs: a violation, and ways to walk through a history."""

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.chaos.crowd import Followed
from tests.chaos.history import History
from tests.durability.auditor import Stored

Found = Iterator[tuple[str, str]]
"""run (empty: none in particular) and what is wrong with it"""


@dataclass(frozen=True)
class Violation:
    """A promise that was broken, by which run."""

    rule: str
    run_id: str
    text: str


def each_run(history: History) -> Iterator[tuple[Followed, str, Stored]]:
    """Every run that is there, with its caller."""
    for followed in history.followed:
        for run_id in followed.run_ids:
            if run_id in history.runs:
                yield followed, run_id, history.runs[run_id]


def once(run: Stored) -> set[str]:
    """Its steps that must not be repeated."""
    starts = (frame for frame in frames(run) if frame["type"] == "node_start")
    return {frame["node_id"] for frame in starts if frame["payload"].get("capability_id") == "step.once"}


def frames(run: Stored) -> Iterable[dict[str, Any]]:
    """Its log, read."""
    return (json.loads(run.log[seq]) for seq in sorted(run.log))


def winners(history: History, run_id: str) -> dict[str, str]:
    """Prompt → the action that won it."""
    return {each.prompt_id: each.action for each in history.decisions if each.run_id == run_id and each.winning}
