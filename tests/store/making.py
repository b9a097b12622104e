"""Rows for tests: complete, valid, and short to ask for."""

import itertools
from collections.abc import Sequence
from typing import Any

from store.connect import Database
from store.journal import Journal
from store.rows import Birth, EventRow, NodeRow, PlanRow, PromptRow, RunRow, RunWrite
from store.runs import run_row

NOW = 1_700_000_000_000
TENANT = "default"
DAY_MS = 86_400_000
_numbers = itertools.count(1)


class Hands:
    """A clock that is moved by hand; monotonic time follows wall time."""

    def __init__(self) -> None:
        self.ms = NOW

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1_000


class Recorder:
    """Crash points that only take notes."""

    def __init__(self) -> None:
        self.seen: list[str] = []

    def reach(self, point: str) -> None:
        self.seen.append(point)


def new_id(prefix: str = "run") -> str:
    return f"{prefix}_{next(_numbers):06d}"


def event(seq: int, kind: str = "log", node_id: str | None = None) -> EventRow:
    return EventRow(seq, kind, node_id, b'{"id":%d}' % seq)


def run(run_id: str, *, worker: str | None = "w1", tenant: str = TENANT, created_at: int = NOW, **more: Any) -> RunRow:
    values: dict[str, Any] = {
        "run_id": run_id, "tenant": tenant, "principal": "user:ana", "status": "running", "waiting_on_json": "[]",
        "worker": worker, "epoch": 1, "last_seq": 0, "inbox": 0, "seen": 0, "wake_at": None, "plan_version": 1,
        "plan_hash": "hash", "correlation_id": "cid-1", "objective": "Write", "contract_hash": "c", "ledger_json": "{}",
        "created_at": created_at,
    }  # fmt: skip
    return RunRow(**(values | more))


def write(run_id: str, before: int, events: int = 1, *, status: str = "running", **more: Any) -> RunWrite:
    values: dict[str, Any] = {
        "run_id": run_id, "tenant": TENANT, "epoch": 1, "before_seq": before, "after_seq": before + events,
        "status": status, "events": [event(before + number + 1) for number in range(events)],
    }  # fmt: skip
    return RunWrite(**(values | more))


def birth(
    run_id: str, *, worker: str | None = "w1", status: str = "running", key: str | None = None, **more: Any
) -> Birth:
    tenant = more.pop("tenant", TENANT)
    return Birth(
        run(run_id, worker=worker, tenant=tenant, created_at=more.pop("created_at", NOW)),
        '{"objective":"Write"}',
        write(run_id, 0, 2, status=status, tenant=tenant, **more),
        key=key,
        fingerprint=f"print of {run_id}",
        key_expires_at=NOW + DAY_MS if key is not None else None,
    )


def node(node_id: str, status: str = "running", **more: Any) -> NodeRow:
    return NodeRow(node_id, "call", status, **({"attempt": 1} | more))


def plan(version: int = 1, text: str = '{"nodes":[]}') -> PlanRow:
    return PlanRow(version, f"hash-{version}", text, "planner", "first", NOW)


def prompt(run_id: str, prompt_id: str | None = None, *, tenant: str = TENANT, **more: Any) -> PromptRow:
    values: dict[str, Any] = {
        "prompt_id": prompt_id or new_id("prm"), "run_id": run_id, "tenant": tenant, "node_id": "gate",
        "kind": "approval", "status": "open", "question": "Publish?", "proposed_json": "null",
        "answer_schema_json": "{}", "actions_json": '["approve"]', "assignees_json": "{}", "quorum": 1,
        "policy_id": None, "plan_version": 1, "bound_hash": "b", "on_timeout": "wait", "created_at": NOW,
    }  # fmt: skip
    return PromptRow(**(values | more))


async def born(journal: Journal, **more: Any) -> str:
    """Accept a run with two events and return its id."""
    run_id = more.pop("run_id", None) or new_id()
    assert not (await journal.birth(birth(run_id, **more))).existing
    return str(run_id)


async def now_of(database: Database, run_id: str, tenant: str = TENANT) -> RunRow:
    """Return the run's row."""
    row = await run_row(database, tenant, run_id)
    assert row is not None
    return row


def seqs(events: Sequence[EventRow]) -> list[int]:
    return [row.seq for row in events]
