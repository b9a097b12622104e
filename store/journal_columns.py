"""A batch of entries as rows and columns: encoded once, in the order in which the tables have their columns."""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from hashlib import sha256
from operator import attrgetter
from typing import Any, Final

import orjson

from contracts.lifecycle import RunStatus
from store import tables
from store.dialect import RECORD, columns
from store.history_tables import history
from store.journal_pile import Entry, tidy
from store.rows import Birth

Rows = list[tuple[Any, ...]]
DOCUMENT: Final = "document"
"""The kind of that signal."""

_NODE: Final = attrgetter(*columns(tables.nodes)[1:])
_EVENT: Final = attrgetter(*columns(tables.events)[1:])
_PROMPT: Final = attrgetter(*columns(tables.prompts))
_HISTORY: Final = attrgetter(*columns(history))
_RECORD: Final = attrgetter(*RECORD)
_WAIT: Final = attrgetter("tenant", "story_id", "document_id", "run_id", "created_at")
_WRITE: Final = attrgetter(
    "run_id", "epoch", "before_seq", "after_seq", "status", "waiting_on_json", "wake_at", "plan_version", "plan_hash",
    "seen", "release",
)  # fmt: skip
_WRITE_REST: Final = attrgetter("ledger_json", "started_at", "ended_at")
_STARTING: Final = frozenset({RunStatus.QUEUED, RunStatus.PLANNING, RunStatus.RUNNING})


@lru_cache(maxsize=512)
def document_of(plan_json: str) -> str:
    """Return the name under which a plan's text is stored: its SHA-256."""
    return sha256(plan_json.encode()).hexdigest()


def fence_row(entry: Entry) -> tuple[Any, ...]:
    """Return what the fencing UPDATE takes (``dialect.WRITE``)."""
    write = entry.write
    return (*_WRITE(write), entry.terminal, *_WRITE_REST(write))


def birth_row(entry: Entry, birth: Birth) -> tuple[Any, ...]:
    """Return the run's row: who it is from ``birth.run``, where it stands from its first write.

    A run that is born without an owner although it has something to do is due at once.
    """
    run, write = birth.run, entry.write
    ended = entry.terminal
    worker = None if ended or write.release else run.worker
    wake_at = run.wake_at if write.wake_at is None else write.wake_at
    if worker is None and wake_at is None and write.status in _STARTING:
        wake_at = run.created_at
    return (
        run.run_id, run.tenant, run.principal, write.status, write.waiting_on_json, worker, run.epoch, write.after_seq,
        run.inbox, write.seen, None if ended else wake_at, write.plan_version,
        run.plan_hash if write.plan_hash is None else write.plan_hash, run.correlation_id, run.objective,
        run.contract_hash, write.ledger_json, run.created_at,
        run.started_at if write.started_at is None else write.started_at, write.ended_at,
        run.root_run_id, run.parent_run_id, run.parent_node_id, run.parent_generation, run.origin_run_id,
        run.origin_node_id, run.start_at, run.flow_id, run.story_id, run.origin_json,
    )  # fmt: skip


def key_row(birth: Birth) -> tuple[Any, ...]:
    """Return the idempotency key's row."""
    run = birth.run
    return (run.tenant, run.principal, birth.key, birth.fingerprint, run.run_id, birth.key_expires_at)


def offspring(entry: Entry) -> list[Entry]:
    """Return the child runs that are born with an entry, and theirs, each as an entry; nobody waits for those."""
    born = {birth.run.run_id: birth for birth in entry.write.spawned}
    children = [Entry(run_id, birth.write, entry.since, birth=birth) for run_id, birth in born.items()]
    return [*children, *(one for child in children for one in offspring(child))]


def wait_rows(entries: Sequence[Entry]) -> Rows:
    """Return the documents that the runs which are born here wait for, in the order in which they are locked."""
    waits = sorted(wait for entry in entries if entry.birth is not None for wait in entry.birth.waits)
    return [_WAIT(wait) for wait in waits]


def document_came(document_id: str, version: int) -> str:
    """Return the payload of the signal that a document is there."""
    return orjson.dumps({"document_id": document_id, "version": version}).decode()


def record_rows(birth: Birth) -> Rows:
    """Return the rows of the audit records that are written with a birth."""
    return [_RECORD(record) for record in birth.records]


class Contents:
    """The rows that belong to runs: nodes, events, prompts, plans, answers."""

    __slots__ = ("answered", "events", "history", "nodes", "plans", "prompts", "versions")

    def __init__(self) -> None:
        self.nodes: Rows = []
        self.events: Rows = []
        self.prompts: Rows = []
        self.versions: Rows = []
        self.answered: Rows = []
        self.history: Rows = []
        self.plans: dict[tuple[str, str], str] = {}

    def add(self, entry: Entry, now_ms: int) -> None:
        """Add one entry's rows."""
        write, run_id = entry.write, entry.run_id
        tidy(write, now_ms)
        if write.nodes:
            self.nodes += [(run_id, *_NODE(node)) for node in write.nodes.values()]
        if write.events:
            self.events += [(run_id, *_EVENT(event)) for event in write.events]
        if write.prompts:
            self.prompts += [_PROMPT(prompt) for prompt in write.prompts]
        if write.answered:
            self.answered += [(run_id, signal_id, outcome) for signal_id, outcome in dict(write.answered).items()]
        if write.history is not None:
            self.history.append(_HISTORY(write.history))
        if write.plan is not None:
            self._add_plans(entry)

    def plan_rows(self) -> Rows:
        """Return the plan documents, each once, in the order of their keys (so that two writers meet in one order)."""
        return [(tenant, document, text) for (tenant, document), text in sorted(self.plans.items())]

    def _add_plans(self, entry: Entry) -> None:
        write, tenant = entry.write, entry.write.tenant
        for plan in (*write.plans, write.plan):
            if plan is not None:
                document = document_of(plan.plan_json)
                self.plans[tenant, document] = plan.plan_json
                made = (plan.author, plan.reason, plan.created_at)
                self.versions.append((entry.run_id, plan.version, tenant, plan.plan_hash, document, *made))


def parts_of(entries: Sequence[Entry], now_ms: int) -> dict[str, Rows]:
    """Return the rows of a PostgreSQL group statement by part (``dialect.PARTS``), without the empty ones."""
    contents = Contents()
    writes: Rows = []
    births: Rows = []
    keys: Rows = []
    records: Rows = []
    for entry in entries:
        contents.add(entry, now_ms)
        if entry.birth is None:
            writes.append(fence_row(entry))
            continue
        births.append((*birth_row(entry, entry.birth), entry.birth.envelope_json, entry.birth.key is not None))
        if entry.birth.key is not None:
            keys.append((*key_row(entry.birth), now_ms))
        records += [(*_RECORD(record), entry.run_id) for record in entry.birth.records]
    # In id order: so every writer locks in one order.
    writes.sort(key=lambda row: str(row[0]))
    keys.sort(key=lambda row: (str(row[0]), str(row[1]), str(row[2])))
    parts = {
        "writes": writes, "births": births, "keys": keys, "nodes": contents.nodes, "events": contents.events,
        "prompts": contents.prompts, "plans": contents.plan_rows(), "versions": contents.versions,
        "history": contents.history, "answered": contents.answered, "records": records,
    }  # fmt: skip
    return {part: rows for part, rows in parts.items() if rows}
