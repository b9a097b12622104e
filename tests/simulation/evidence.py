"""What is left after a simulation, read past the service: rows, frames, every change of a row, and what people saw."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

import orjson

from contracts.lifecycle import RUN_TERMINAL
from tests.simulation.abilities import Call
from tests.simulation.database import CHANGES, File
from tests.simulation.outside import Client, Outside, Said, Seen

Json = dict[str, Any]
Record = dict[str, Any]


@dataclass
class RunEvidence:
    """One run: its row, its log as it was read, and the rows that belong to it."""

    row: Record
    policies: Json = field(default_factory=dict)
    seqs: list[int] = field(default_factory=list)
    frames: list[Json] = field(default_factory=list)
    raw: dict[int, bytes] = field(default_factory=dict)
    nodes: dict[str, Record] = field(default_factory=dict)
    prompts: dict[str, Record] = field(default_factory=dict)
    decisions: list[Record] = field(default_factory=list)
    signals: list[Record] = field(default_factory=list)
    records: list[Record] = field(default_factory=list)
    """what the audit keeps of it"""
    calls: list[Call] = field(default_factory=list)

    @property
    def run_id(self) -> str:
        return str(self.row["run_id"])

    @property
    def is_first(self) -> bool:
        """Say whether it was submitted: it is no child, retry or fork of another run."""
        return self.row.get("parent_run_id") is None and self.row.get("origin_run_id") is None

    @property
    def ended(self) -> bool:
        return self.row["status"] in RUN_TERMINAL

    def of_type(self, *kinds: str) -> list[Json]:
        """Return the frames of these types, in order."""
        return [frame for frame in self.frames if frame["type"] in kinds]


@dataclass
class Evidence:
    """Everything an auditor looks at. ``exact`` says that all wall clocks agreed all the time."""

    runs: dict[str, RunEvidence]
    changes: dict[str, list[Record]]
    clients: list[Client]
    said: list[Said]
    seen: list[Seen]
    made: set[str]
    spoken: list[tuple[str, bytes]]
    """frames in the order in which they were published, each with the worker that did"""
    exact: bool = True
    calm: bool = False
    """nothing went wrong and nothing was slow"""


def at_ms(frame: Json) -> int:
    """Return the wall time of a frame, ms since the epoch."""
    return round(datetime.fromisoformat(frame["timestamp"]).timestamp() * 1_000)


def gather(file: File, calls: list[Call], outside: Outside, spoken: list[tuple[str, bytes]]) -> Evidence:
    """Read it all."""
    runs = {row["run_id"]: RunEvidence(row) for row in _records(file, "runs", "run_id")}
    for run_id, envelope in file.rows("SELECT run_id, envelope_json FROM envelopes"):
        runs[run_id].policies = orjson.loads(envelope)["policies"]
    for run_id, seq, data in file.rows("SELECT run_id, seq, data FROM events ORDER BY run_id, seq"):
        runs[run_id].seqs.append(seq)
        runs[run_id].raw[seq] = bytes(data)
        runs[run_id].frames.append(orjson.loads(data))
    for row in _records(file, "nodes", "run_id, node_id"):
        runs[row["run_id"]].nodes[row["node_id"]] = row
    for row in _records(file, "prompts", "prompt_id"):
        runs[row["run_id"]].prompts[row["prompt_id"]] = row
    for row in _records(file, "decisions", "decision_id"):
        runs[row["run_id"]].decisions.append(row)
    for row in _records(file, "signals", "run_id, signal_id"):
        runs[row["run_id"]].signals.append(row)
    for row in _records(file, "audit_records", "record_id"):
        if row["run_id"] in runs:
            runs[row["run_id"]].records.append(row)
    for call in calls:
        if call.run_id in runs:
            runs[call.run_id].calls.append(call)
    changes = {table: _records(file, f"changes_of_{table}", "n") for table in CHANGES}
    return Evidence(runs, changes, outside.clients, outside.said, outside.seen, outside.made, spoken)


def _records(file: File, table: str, order: str) -> list[Record]:
    cursor = file.raw.execute(f"SELECT * FROM {table} ORDER BY {order}")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def by_key(records: list[Record]) -> dict[str, list[Record]]:
    """Return changes by the row they happened to, in order."""
    found: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        found[record["key"]].append(record)
    return found
