"""What must hold of the rows and of every change of them: lifecycles, epochs, owners, and what an end leaves behind."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from enum import StrEnum
from functools import cache
from typing import Any, Final

import orjson

from contracts.lifecycle import (
    NODE_MOVES,
    NODE_TERMINAL,
    PROMPT_MOVES,
    RUN_MOVES,
    RUN_TERMINAL,
    NodeStatus,
    PromptStatus,
    RunStatus,
)
from tests.simulation.evidence import Evidence, Record, RunEvidence, by_key

MOVES: Final[Mapping[type[StrEnum], Mapping[Any, frozenset[Any]]]] = {
    RunStatus: RUN_MOVES,
    NodeStatus: NODE_MOVES,
    PromptStatus: PROMPT_MOVES,
}


def check(evidence: Evidence) -> Iterator[str]:
    """Yield everything that is wrong with rows and their changes."""
    for change in evidence.changes["runs"]:
        for fault in _run_change(change):
            yield f"{change['key']}: {fault} (change {change['n']})"
    for key, changes in by_key(evidence.changes["nodes"]).items():
        for change in changes:
            for fault in _node_change(change):
                yield f"{key}: {fault}"
    for change in evidence.changes["prompts"]:
        if not _may(PromptStatus, change["old_status"], change["new_status"]):
            yield f"{change['key']} went from {change['old_status']} to {change['new_status']}"
    yield from _spoken(evidence)
    for run in evidence.runs.values():
        for fault in (*_mailbox(run), *_left_behind(run)):
            yield f"{run.run_id}: {fault}"


@cache
def _onward(kind: type[StrEnum], before: str) -> frozenset[str]:
    """Return every status that can be reached from one: several moves may be committed as one."""
    found, line = {kind(before)}, [kind(before)]
    while line:
        for after in MOVES[kind][line.pop()] - found:
            found.add(after)
            line.append(after)
    return frozenset(map(str, found))


def _may(kind: type[StrEnum], before: str, after: str) -> bool:
    return after in _onward(kind, before)


def _run_change(change: Record) -> Iterator[str]:
    before = {name.removeprefix("old_"): value for name, value in change.items() if name.startswith("old_")}
    after = {name.removeprefix("new_"): value for name, value in change.items() if name.startswith("new_")}
    if not _may(RunStatus, before["status"], after["status"]):
        yield f"it went from {before['status']} to {after['status']}"
    if before["status"] in RUN_TERMINAL and before != after:
        yield f"it changed after its end: {before} to {after}"
    for name in ("epoch", "last_seq", "inbox"):
        if after[name] < before[name]:
            yield f"its {name} fell from {before[name]} to {after[name]}"
    yield from _ownership(before, after)


def _ownership(before: Record, after: Record) -> Iterator[str]:
    """Owners change through nobody, every claim raises the epoch, and only an owner writes."""
    claimed = before["worker"] is None and after["worker"] is not None
    taken = before["worker"] is not None and after["worker"] is None
    if before["worker"] is not None and after["worker"] not in (None, before["worker"]):
        yield f"it went from {before['worker']} to {after['worker']} without being free"
    if claimed and after["epoch"] != before["epoch"] + 1:
        yield f"it was claimed at epoch {before['epoch']} and is at {after['epoch']}"
    if not claimed and not taken and after["epoch"] != before["epoch"]:
        yield f"its epoch rose to {after['epoch']} and its owner stayed"
    if before["worker"] is None and (after["last_seq"], after["status"]) != (before["last_seq"], before["status"]):
        yield "it was written while nobody held it"
    free = after["worker"] is None and after["status"] not in RUN_TERMINAL
    if taken and free and after["wake_at"] is None and after["status"] != "waiting":
        yield f"it was let go of as {after['status']} and nobody is told to go on with it"


def _spoken(evidence: Evidence) -> Iterator[str]:
    """A frame is published only by who held the run when it was written, and once it is written (design §1.3)."""
    changes = by_key(evidence.changes["runs"])
    for worker, data in evidence.spoken:
        frame = orjson.loads(data)
        run_id, seq = frame["run_id"], frame["id"]
        if seq is None:
            continue
        if run_id not in evidence.runs or evidence.runs[run_id].raw.get(seq) != data:
            yield f"{run_id}: {worker} said {data[:90]!r}, which is not so"
            continue
        wrote = [each for each in changes[run_id] if each["old_last_seq"] < seq <= each["new_last_seq"]]
        if wrote and wrote[0]["old_worker"] != worker:
            yield f"{run_id}: {worker} wrote frame {seq} while {wrote[0]['old_worker']} held the run"


def _node_change(change: Record) -> Iterator[str]:
    if not _may(NodeStatus, change["old_status"], change["new_status"]):
        yield f"went from {change['old_status']} to {change['new_status']}"
    if change["old_status"] in NODE_TERMINAL and change["old_output_json"] != change["new_output_json"]:
        yield "its output changed after its end"
    for name in ("attempt", "generation"):
        if change[f"new_{name}"] < change[f"old_{name}"]:
            yield f"its {name} fell from {change[f'old_{name}']} to {change[f'new_{name}']}"


def _mailbox(run: RunEvidence) -> Iterator[str]:
    numbers = [row["signal_id"] for row in run.signals]
    if numbers != list(range(1, run.row["inbox"] + 1)):
        yield f"signals {numbers} for an inbox of {run.row['inbox']}"


def _left_behind(run: RunEvidence) -> Iterator[str]:
    """An ended run owns nothing and owes nothing; one that has not ended has somebody or something to wait for."""
    still = [prompt_id for prompt_id, row in run.prompts.items() if row["status"] == "open"]
    unread = [row["signal_id"] for row in run.signals if row["outcome"] is None]
    if run.ended:
        if run.row["worker"] is not None or run.row["wake_at"] is not None:
            yield f"it has ended and is {run.row['worker']}'s, due at {run.row['wake_at']}"
        if still or unread:
            yield f"it has ended, prompts {still} are open and signals {unread} unanswered"
        left = [node_id for node_id, row in run.nodes.items() if row["status"] not in NODE_TERMINAL]
        if left:
            yield f"it has ended, {left} have not"
