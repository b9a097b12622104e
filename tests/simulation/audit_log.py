"""What the log of a run must look like whatever happened (F7, F8, F9, T4; wire §4)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import orjson

from tests.simulation.evidence import Evidence, Json, RunEvidence, at_ms

STATUS_OF = {"complete": "completed", "failed": "failed", "cancelled": "cancelled"}
ENDS = ("node_complete", "node_skipped")


def check(evidence: Evidence) -> Iterator[str]:
    """Yield everything that is wrong with the logs."""
    for run in evidence.runs.values():
        for fault in (*_numbers(run), *_end(run), *_waits(run), *_nodes(run), *_results(run)):
            yield f"{run.run_id}: {fault}"
        if evidence.exact:
            for fault in _times(run, calm=evidence.calm):
                yield f"{run.run_id}: {fault}"


def _numbers(run: RunEvidence) -> Iterator[str]:
    if run.seqs != list(range(1, len(run.seqs) + 1)):
        yield f"the log has the numbers {run.seqs}"
    if run.row["last_seq"] != len(run.seqs):
        yield f"last_seq is {run.row['last_seq']}, the log has {len(run.seqs)} frames"
    if [frame["id"] for frame in run.frames] != run.seqs:
        yield "a frame carries another id than its row"


def _end(run: RunEvidence) -> Iterator[str]:
    ends = [frame["type"] for frame in run.frames if frame["type"] in STATUS_OF]
    if not run.ended:
        if ends:
            yield f"the run is {run.row['status']} and its log ends with {ends}"
    elif len(ends) != 1 or run.frames[-1]["type"] != ends[0]:
        yield f"terminal frames {ends}, the last frame is {run.frames[-1]['type']}"
    elif STATUS_OF[ends[0]] != run.row["status"]:
        yield f"the run is {run.row['status']}, its last frame is {ends[0]}"


def _waits(run: RunEvidence) -> Iterator[str]:
    """A run goes on only after it waited, and says that it waits again only for something else."""
    moves = run.of_type("run_waiting", "run_resumed")
    if moves and moves[0]["type"] == "run_resumed":
        yield "the first wait ends before it begins"
    for one, other in pairwise(moves):
        if one["type"] == other["type"] and (one["type"] == "run_resumed" or one["payload"] == other["payload"]):
            yield f"{other['type']} twice: frames {one['id']} and {other['id']}"


class _Nodes:
    """The nodes of a run as its log tells of them: what is over, which attempt each is at, what may begin afresh."""

    def __init__(self, run: RunEvidence) -> None:
        self.over: set[str] = set()
        self.skipped: set[str] = set()
        self.attempts: dict[str, int] = {}
        self.afresh: set[str] = set()
        self.gates: set[str] = set()
        """gates that may ask again, since the plan has changed"""
        self.asked: set[str] = set()
        """of a fork: calls of the run it comes from, about which people are asked first"""
        self.forked = run.row.get("origin_run_id") is not None

    def changed(self, plan: Json) -> None:
        """Take another plan: what has not completed may begin afresh, and gates may ask again."""
        self.over -= {*self.skipped, "output_repair"}
        self.gates |= {node["node_id"] for node in plan["nodes"] if "guards" in node}
        self.afresh = self.attempts.keys() - (self.over - self.gates)

    def expected(self, node_id: str, *, resumed: bool) -> set[int]:
        """Return the attempts that may begin now."""
        before = self.attempts.get(node_id, 0)
        return {before or 1} if resumed else {before + 1} | ({1} if node_id in self.afresh else set())

    def started(self, node_id: str, attempt: int, *, resumed: bool) -> bool:
        """Note a start; say whether it is the one that had to come. In a fork the first may have any number."""
        expected = self.expected(node_id, resumed=resumed)
        if node_id in self.gates:
            self.over.discard(node_id)
        unknown = self.forked and node_id not in self.attempts
        self.attempts[node_id] = attempt
        self.afresh.discard(node_id)
        return unknown or attempt in expected

    def disagreements(self, run: RunEvidence) -> Iterator[str]:
        """Yield the nodes whose row says something else than their log."""
        unsure = {*self.gates, *(self.skipped - self.over), "output_repair"}
        for node_id, row in run.nodes.items():
            ended = row["status"] in ("completed", "skipped")
            if node_id not in unsure and ended != (node_id in self.over):
                yield f"{node_id} is {row['status']}, its log says {'not ended' if ended else 'ended'}"


def _nodes(run: RunEvidence) -> Iterator[str]:
    """A node starts before it ends, ends once, and its attempts are counted without a gap."""
    nodes = _Nodes(run)
    for frame in run.frames:
        kind, node_id, payload = frame["type"], frame["node_id"], frame["payload"]
        if kind == "plan_updated":
            nodes.changed(payload["plan"])
        if nodes.forked and kind == "hitl_request":
            nodes.asked.add(node_id)
        if node_id is None or not kind.startswith("node_"):
            continue
        if node_id in nodes.over and not (kind == "node_start" and node_id in nodes.gates):
            yield f"{node_id}: {kind} (frame {frame['id']}) after its end"
        if kind == "node_start":
            if not nodes.started(node_id, payload["attempt"], resumed=payload["resumed"]):
                yield f"{node_id} starts attempt {payload['attempt']} (frame {frame['id']})"
        elif not (node_id in {*nodes.attempts, *nodes.asked} or kind == "node_skipped" or _needs_no_start(frame)):
            yield f"{node_id}: {kind} without node_start"
        if kind in ENDS:
            nodes.over.add(node_id)
        if kind == "node_skipped":
            nodes.skipped.add(node_id)
    yield from nodes.disagreements(run)


def _needs_no_start(frame: Json) -> bool:
    """Say whether a node comes without a start: copied from another run, the whole answer, or a rule's question."""
    node_id: str = frame["node_id"]
    return node_id == "output_repair" or "." in node_id or "copied_from" in frame["payload"]


def _results(run: RunEvidence) -> Iterator[str]:
    """Every attempt has at most one result."""
    version = 1
    results: Counter[tuple[int, str, int]] = Counter()
    for frame in run.frames:
        kind, payload = frame["type"], frame["payload"]
        if kind == "plan_updated":
            version += 1
        if kind in ("node_complete", "node_retry") or (kind == "node_error" and payload["fallback"] == "abort"):
            results[version, frame["node_id"], payload["attempt"]] += 1
    for (_, node_id, attempt), count in results.items():
        if count > 1:
            yield f"attempt {attempt} of {node_id} has {count} results"


def waited_ms(run: RunEvidence) -> int:
    """Return how long the run waited, by its log."""
    total, since = 0, None
    for frame in run.frames:
        if frame["type"] == "run_waiting" and since is None:
            since = at_ms(frame)
        elif since is not None and frame["type"] in ("run_resumed", *STATUS_OF):
            total, since = total + at_ms(frame) - since, None
    return total


def _times(run: RunEvidence, *, calm: bool) -> Iterator[str]:
    """Waiting never counts as execution (T4), and a run that executes too long is ended."""
    if not run.ended or not run.frames:
        return
    waited, last = waited_ms(run), run.frames[-1]
    ledger: dict[str, Any] = orjson.loads(run.row["ledger_json"])
    if ledger.get("waited_ms", 0) != waited:
        yield f"it waited {waited} ms by its log, {ledger.get('waited_ms')} by its ledger"
    if last["type"] == "complete":
        payload, took = last["payload"], at_ms(last) - run.row["created_at"] - waited
        if (payload["waited_ms"], payload["duration_ms"]) != (waited, took):
            yield f"complete says {payload['duration_ms']} + {payload['waited_ms']} ms, it was {took} + {waited}"
    limit = round(run.policies["timeouts"]["run_seconds"] * 1_000)
    if run.row["started_at"] is None:
        return
    wall = run.policies["budget"].get("wall_seconds")
    if wall is not None:
        # Another clock, which waiting does not stop.
        return
    # The wait for a scheduled start is part of what it waited.
    began = run.row["created_at"] if run.row["start_at"] is not None else run.row["started_at"]
    worked = at_ms(last) - began - waited
    if last["payload"].get("code") == "deadline_exceeded" and worked < limit - 1:
        yield f"deadline_exceeded after {worked} ms of work, {limit} ms are allowed"
    if calm and worked > limit + 1_500:
        yield f"it worked {worked} ms, {limit} ms are allowed"
