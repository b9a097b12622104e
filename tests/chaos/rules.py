"""What must hold after a scenario: pure functions from a history to violations, one per promise.

Each rule is shown histories that break it in ``test_rules.py``.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

from contracts.lifecycle import NODE_TERMINAL, RUN_TERMINAL
from tests.chaos.crowd import Followed
from tests.chaos.history import History, NodeWrite, RunWrite
from tests.chaos.judged import Found, Violation, each_run, frames, once, winners
from tests.chaos.rules_kept import memory, papers, turns
from tests.chaos.rules_outside import callbacks, decisions, effects
from tests.durability.auditor import audit, audit_waiting

MAX_LOST = 3


def audited(history: History) -> list[Violation]:
    """Return everything that is wrong; an empty list when all promises were kept."""
    return [Violation(name, run_id, text) for name, rule in RULES.items() for run_id, text in rule(history)]


# --- acceptance and ends ---------------------------------------------------------------------------------------------


def accepted(history: History) -> Found:
    """A key has exactly one run, which is there; no run is nobody's (F2: what was accepted is not lost or doubled)."""
    owners: Counter[str] = Counter()
    for followed in history.followed:
        ids = sorted(followed.run_ids)
        for refusal in followed.refusals:
            yield "", f"{followed.spec.key}: {refusal}"
        if len(ids) != 1:
            yield "", f"{followed.spec.key} was given the runs {ids}"
        for run_id in ids:
            owners[run_id] += 1
            if run_id not in history.runs:
                yield run_id, "it was accepted and is not there"
            elif history.keys.get(run_id) != followed.spec.key:
                yield run_id, f"it was given for {followed.spec.key} and is of {history.keys.get(run_id)}"
    for run_id in history.runs:
        parent = history.parents.get(run_id)
        if parent is not None and parent not in history.runs:
            yield run_id, f"its parent {parent} is not there"
        if owners[run_id] != (0 if parent is not None else 1):
            yield run_id, f"{owners[run_id]} callers were given it"


def ended(history: History) -> Found:
    """Every run reached one terminal state, or waits for an answer that nobody was to give (F7, F10)."""
    left_open = {run_id for followed, run_id, _ in each_run(history) if followed.spec.stays_open}
    for run_id, run in history.runs.items():
        answers = winners(history, run_id)
        if run.status in RUN_TERMINAL:
            yield from ((run_id, fault) for fault in audit(run, seen={}, answers=answers, once=once(run)))
        elif run.status == "waiting" and run_id in left_open:
            yield from ((run_id, fault) for fault in audit_waiting(run, answers=answers, once=once(run)))
        else:
            yield run_id, f"it is {run.status}, held by {run.worker}, and nobody moves it on"
    for followed, run_id, _ in each_run(history):
        if not followed.done:
            yield run_id, f"its caller never saw its end ({followed.spec.shape}, {_last(followed)})"


def verdicts(history: History) -> Found:
    """A run ends as its plan and the answers say, and in no other way."""
    for run_id, run in history.runs.items():
        if run.status in RUN_TERMINAL and run.status not in (expected := _expected(history, run_id)):
            said = json.loads(run.log[max(run.log)])["payload"] if run.log else {}
            if not _worker_lost(history, run_id, said):
                yield run_id, f"it {run.status} ({json.dumps(said)[:300]}), expected was {sorted(expected)}"


def _expected(history: History, run_id: str) -> set[str]:
    actions = {each.action for each in history.decisions if each.run_id == run_id and each.winning}
    signals = [each for each in history.signals if each.run_id == run_id]
    cancelled = any(each.kind == "cancel" and each.outcome == "applied" for each in signals)
    if cancelled:
        return {"cancelled"}
    return {"failed"} if "reject" in actions else {"completed"}


def _worker_lost(history: History, run_id: str, said: dict[str, Any]) -> bool:
    """Whether the run failed because a node lost three processes, and it really was taken over so often."""
    writes = (each for each in history.writes if each.run_id == run_id)
    claims = sum(each.worker is not None and each.epoch > each.epoch_before for each in writes)
    return said.get("code") == "node_failed" and "processes died" in said.get("message", "") and claims >= MAX_LOST


# --- results ---------------------------------------------------------------------------------------------------------

RESULTS = ("node_complete", "node_retry", "node_error", "node_skipped")


def results(history: History) -> Found:
    """At most one committed result per node and attempt; an ended node never changes (F6, F10)."""
    for run_id, run in history.runs.items():
        counted = Counter(
            (frame["node_id"], frame["payload"].get("attempt")) for frame in frames(run) if frame["type"] in RESULTS
        )
        for (node_id, attempt), count in counted.items():
            if count > 1:
                yield run_id, f"{node_id} has {count} results of attempt {attempt}"
    by_node: dict[tuple[str, str], list[NodeWrite]] = defaultdict(list)
    for write in history.nodes:
        by_node[write.run_id, write.node_id].append(write)
    for (run_id, node_id), writes in by_node.items():
        for before, after in pairwise(writes):
            if before.status in NODE_TERMINAL and (before.status, before.output) != (after.status, after.output):
                yield run_id, f"{node_id} had ended as {before.status} and was written as {after.status}"


# --- leases ----------------------------------------------------------------------------------------------------------


def epochs(history: History) -> Found:
    """Epochs only rise, and only who holds a run writes it: no stale epoch was ever committed (design §4)."""
    by_run: dict[str, list[RunWrite]] = defaultdict(list)
    for write in history.writes:
        by_run[write.run_id].append(write)
    for run_id in history.runs:
        writes = by_run[run_id]
        if not writes:
            yield run_id, "its row was never written"
        for before, after in pairwise(writes):
            if (before.epoch, before.seq, before.worker, before.status) != _from(after):
                yield run_id, f"a change is missing between {before} and {after}"
        for write in writes:
            yield from ((run_id, fault) for fault in _write_faults(history, write))


def _from(write: RunWrite) -> tuple[Any, ...]:
    return write.epoch_before, write.seq_before, write.worker_before, write.status_before


def _write_faults(history: History, write: RunWrite) -> Iterator[str]:
    if write.epoch < write.epoch_before:
        yield f"its epoch fell from {write.epoch_before} to {write.epoch}"
    if write.seq < write.seq_before:
        yield f"its log shrank from {write.seq_before} to {write.seq}"
    if write.status_before in RUN_TERMINAL:
        yield f"it had ended as {write.status_before} and was written as {write.status}"
    if write.status_before is None:
        return
    holder, taker = write.worker_before, write.worker
    if write.seq > write.seq_before:
        if holder is None or history.enlisted.get(holder) != write.by:
            yield f"frame {write.seq} was committed by {write.by} while {holder} ({_home(history, holder)}) held it"
        if write.epoch != write.epoch_before:
            yield f"the epoch changed from {write.epoch_before} to {write.epoch} within a transition"
    if taker is not None and taker != holder:
        if holder is not None:
            yield f"{taker} took it from {holder}, who held it"
        if write.epoch <= write.epoch_before:
            yield f"{taker} claimed it without a new epoch"
        if history.enlisted.get(taker) != write.by:
            yield f"{write.by} claimed it for {taker} ({_home(history, taker)})"


def _home(history: History, worker: str | None) -> str:
    return history.enlisted.get(worker or "", "nobody")


def owners(history: History) -> Found:
    """At rest nothing runs without an owner, and nothing that waits has one (H1)."""
    for run_id, run in history.runs.items():
        running = sorted(node_id for node_id, status in run.nodes.items() if status == "running")
        if run.worker is not None:
            yield run_id, f"it is {run.status} and held by {run.worker} when all is over"
        if running and run.worker is None:
            yield run_id, f"{running} run and nobody holds the run"


# --- frames ----------------------------------------------------------------------------------------------------------


def viewers(history: History) -> Found:
    """Every viewer, over all connections, saw the log of the run: gap-free, in order, to the byte (F9)."""
    for followed, run_id, run in each_run(history):
        for number, viewer in enumerate(followed.viewers):
            who = f"viewer {number}"
            yield from ((run_id, f"{who}: {fault}") for fault in viewer.faults)
            for seq, data in viewer.seen.items():
                if run.log.get(seq) != data:
                    yield run_id, f"{who} saw frame {seq} as {data[:80]!r}, it is {run.log.get(seq, b'')[:80]!r}"
            if sorted(viewer.seen) != list(range(1, len(viewer.seen) + 1)):
                yield run_id, f"{who} saw the frames {sorted(viewer.seen)}"
            if followed.done and run.status in RUN_TERMINAL and len(viewer.seen) != len(run.log):
                yield run_id, f"{who} saw {len(viewer.seen)} of {len(run.log)} frames"
    for run_id, seq in history.rewritten:
        if run_id in history.runs:
            yield run_id, f"frame {seq} was rewritten"


# --- all of them -----------------------------------------------------------------------------------------------------


def _last(followed: Followed) -> str:
    return ", ".join(f"viewer {n} is at frame {viewer.last}" for n, viewer in enumerate(followed.viewers))


RULES: dict[str, Callable[[History], Found]] = {
    "accepted": accepted,
    "ended": ended,
    "verdicts": verdicts,
    "results": results,
    "epochs": epochs,
    "owners": owners,
    "viewers": viewers,
    "decisions": decisions,
    "callbacks": callbacks,
    "effects": effects,
    "memory": memory,
    "papers": papers,
    "turns": turns,
}
