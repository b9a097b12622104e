"""What happened, written down by the database itself: triggers that the harness adds keep every change of a row.

The product knows nothing of them. They say which process wrote (by its database role on PostgreSQL, by a function that
``entry.py`` gives each connection on SQLite), so that a write by a process that does not hold the run is seen even if
its fence let it through.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.chaos.crowd import Followed
from tests.chaos.people import Response
from tests.durability.auditor import Stored, all_stored, query


@dataclass(frozen=True)
class RunWrite:
    """One change of a run's row; ``at`` is wall time in ms. A birth has no status before."""

    at: float
    by: str
    run_id: str
    worker_before: str | None
    worker: str | None
    epoch_before: int
    epoch: int
    seq_before: int
    seq: int
    status_before: str | None
    status: str


@dataclass(frozen=True)
class NodeWrite:
    """One change of a node's row."""

    at: float
    by: str
    run_id: str
    node_id: str
    status_before: str | None
    status: str
    attempt: int
    generation: int
    output: str | None


@dataclass(frozen=True)
class PromptSeen:
    """A question as it stands, with every status that it ever had, in order."""

    prompt_id: str
    run_id: str
    node_id: str
    kind: str
    statuses: tuple[str, ...]


@dataclass(frozen=True)
class DecisionSeen:
    """A stored answer."""

    decision_id: str
    prompt_id: str
    run_id: str
    action: str
    winning: bool


@dataclass(frozen=True)
class SignalSeen:
    """A letter to a run and what became of it."""

    run_id: str
    kind: str
    outcome: str | None


@dataclass(frozen=True)
class MemorySeen:
    """One change of an entry of memory; ``revision`` is None when it was forgotten."""

    at: float
    by: str
    scope: str
    key: str
    revision: int | None
    value: str | None
    run_id: str | None
    node_id: str | None
    attempt: int | None


@dataclass(frozen=True)
class PaperSeen:
    """A document was put."""

    at: float
    story_id: str
    document_id: str


@dataclass(frozen=True)
class MessageSeen:
    """A message of a conversation as it stands."""

    conversation_id: str
    message_id: str
    parent_id: str | None
    role: str
    place: int
    run_id: str | None


@dataclass(frozen=True)
class Stall:
    """A time in which a process could not know that it was late: stopped, or cut off."""

    process: str
    since: float
    until: float


@dataclass
class History:
    """Everything that the rules look at, of the runs of one scenario."""

    runs: dict[str, Stored]
    keys: dict[str, str] = field(default_factory=dict)
    """run → the key it, or the first of its parents, was begun with"""
    parents: dict[str, str] = field(default_factory=dict)
    """child run → the run that it is a part of"""
    followed: Sequence[Followed] = ()
    responses: Sequence[Response] = ()
    writes: Sequence[RunWrite] = ()
    nodes: Sequence[NodeWrite] = ()
    enlisted: dict[str, str] = field(default_factory=dict)
    """worker → the process that took this name"""
    arrivals: Sequence[tuple[float, str, str]] = ()
    """when (wall ms) which process took which name, in order: from then on it sees who else is alive"""
    rewritten: Sequence[tuple[str, int]] = ()
    """frames that were changed or deleted"""
    prompts: Sequence[PromptSeen] = ()
    decisions: Sequence[DecisionSeen] = ()
    signals: Sequence[SignalSeen] = ()
    memory: Sequence[MemorySeen] = ()
    remembered: Mapping[tuple[str, str], int] = field(default_factory=dict)
    """scope and key → revision, as it stands"""
    given: Mapping[str, int] = field(default_factory=dict)
    """scope → the last revision that was given in it, as it stands"""
    papers: Sequence[PaperSeen] = ()
    waits: Sequence[tuple[str, str]] = ()
    """run and document that it is still noted to wait for although it is there"""
    messages: Sequence[MessageSeen] = ()
    stalls: Sequence[Stall] = ()
    pids: dict[int, str] = field(default_factory=dict)


RUN = "at, by, run_id, worker_before, worker, epoch_before, epoch, seq_before, seq, status_before, status"
NODE = "at, by, run_id, node_id, status_before, status, attempt, generation, output"
PROMPT = "at, by, prompt_id, status"
WORKER = "at, by, worker_id, what"
EVENT = "at, by, run_id, seq"
MEMORY = "at, by, scope, key, revision, value, run_id, node_id, attempt"
PAPER = "at, by, story_id, document_id"
TABLES = {
    "runs": RUN, "nodes": NODE, "prompts": PROMPT, "workers": WORKER, "events": EVENT, "memory": MEMORY,
    "papers": PAPER,
}  # fmt: skip
_MOVED = (
    "OLD.epoch <> NEW.epoch OR OLD.last_seq <> NEW.last_seq OR OLD.status <> NEW.status"
    " OR OLD.worker IS DISTINCT FROM NEW.worker"
)
_RUN_MOVED = "OLD.worker, NEW.worker, OLD.epoch, NEW.epoch, OLD.last_seq, NEW.last_seq, OLD.status, NEW.status"
_RUN_BORN = "NULL, NEW.worker, 0, NEW.epoch, 0, NEW.last_seq, NULL, NEW.status"
_NODE_NOW = "NEW.status, NEW.attempt, NEW.generation, NEW.output_json"
_REMEMBERED = "NEW.owner, NEW.key, NEW.revision, NEW.value_json, NEW.run_id, NEW.node_id, NEW.attempt"
_FORGOTTEN = "OLD.owner, OLD.key, NULL, NULL, NULL, NULL, NULL"
_PUT = "NEW.story_id, NEW.document_id"
TRIGGERS = (
    ("runs_born", "INSERT ON runs", "", "runs", f"NEW.run_id, {_RUN_BORN}"),
    ("runs_moved", "UPDATE ON runs", _MOVED, "runs", f"NEW.run_id, {_RUN_MOVED}"),
    ("nodes_born", "INSERT ON nodes", "", "nodes", f"NEW.run_id, NEW.node_id, NULL, {_NODE_NOW}"),
    ("nodes_moved", "UPDATE ON nodes", "", "nodes", f"NEW.run_id, NEW.node_id, OLD.status, {_NODE_NOW}"),
    ("prompts_born", "INSERT ON prompts", "", "prompts", "NEW.prompt_id, NEW.status"),
    ("prompts_moved", "UPDATE ON prompts", "OLD.status <> NEW.status", "prompts", "NEW.prompt_id, NEW.status"),
    ("workers_came", "INSERT ON workers", "", "workers", "NEW.worker_id, 'came'"),
    ("workers_left", "DELETE ON workers", "", "workers", "OLD.worker_id, 'left'"),
    ("events_changed", "UPDATE ON events", "", "events", "OLD.run_id, OLD.seq"),
    ("events_gone", "DELETE ON events", "", "events", "OLD.run_id, OLD.seq"),
    ("memory_made", "INSERT ON memory_entries", "", "memory", _REMEMBERED),
    ("memory_changed", "UPDATE ON memory_entries", "", "memory", _REMEMBERED),
    ("memory_gone", "DELETE ON memory_entries", "", "memory", _FORGOTTEN),
    ("papers_made", "INSERT ON documents", "NEW.present = 1", "papers", _PUT),
    ("papers_put", "UPDATE ON documents", "NEW.present = 1 AND NEW.version > OLD.version", "papers", _PUT),
)
"""name, when, only if, table that it goes to, values"""


def ddl(dialect: str) -> list[str]:
    """The statements that add the tables and triggers."""
    number = "INTEGER PRIMARY KEY AUTOINCREMENT" if dialect == "sqlite" else "BIGSERIAL PRIMARY KEY"
    tables = [
        f"CREATE TABLE chaos_{name} (n {number}, {', '.join(_column(each) for each in columns.split(', '))})"
        for name, columns in TABLES.items()
    ]
    make = _sqlite if dialect == "sqlite" else _postgresql
    return tables + [statement for trigger in TRIGGERS for statement in make(*trigger)]


def _column(name: str) -> str:
    numbers = {"attempt", "generation", "epoch", "epoch_before", "seq", "seq_before", "revision"}
    kind = "DOUBLE PRECISION" if name == "at" else "BIGINT" if name in numbers else "TEXT"
    return f'"{name}" {kind}'


def _names(table: str) -> str:
    return ", ".join(f'"{name}"' for name in TABLES[table].split(", "))


def _sqlite(name: str, when: str, only: str, table: str, values: str) -> list[str]:
    condition = f" WHEN {only.replace('IS DISTINCT FROM', 'IS NOT')}" if only else ""
    now = "(julianday('now') - 2440587.5) * 86400000.0"
    insert = f"INSERT INTO chaos_{table} ({_names(table)}) VALUES ({now}, chaos_process(), {values})"
    return [f"CREATE TRIGGER chaos_{name} AFTER {when}{condition} BEGIN {insert}; END"]


def _postgresql(name: str, when: str, only: str, table: str, values: str) -> list[str]:
    condition = f" WHEN ({only})" if only else ""
    now = "extract(epoch FROM clock_timestamp()) * 1000"
    insert = f"INSERT INTO chaos_{table} ({_names(table)}) VALUES ({now}, session_user, {values})"
    body = f"BEGIN {insert}; RETURN NULL; END"
    return [
        f"CREATE FUNCTION chaos_{name}() RETURNS trigger LANGUAGE plpgsql AS $${body}$$",
        f"CREATE TRIGGER chaos_{name} AFTER {when} FOR EACH ROW{condition} EXECUTE FUNCTION chaos_{name}()",
    ]


async def install(url: str) -> None:
    """Add the tables and triggers to a migrated database."""
    for statement in ddl("sqlite" if url.startswith("sqlite") else "postgresql"):
        await query(url, statement)


async def read(url: str, effects: Path, prefix: str) -> History:
    """Read everything of the runs whose correlation id begins with ``prefix``."""
    chosen = f"SELECT run_id FROM runs WHERE correlation_id LIKE '{prefix}-%'"
    columns = "run_id, correlation_id, parent_run_id"
    named = await query(url, f"SELECT {columns} FROM runs WHERE correlation_id LIKE '{prefix}-%'")
    keys: dict[str, str] = {row[0]: row[1] for row in named}
    stored = await all_stored(url, effects)
    rows = {name: await query(url, f"SELECT {_names(name)} FROM chaos_{name} ORDER BY n") for name in TABLES}
    prompts = f"SELECT prompt_id, run_id, node_id, kind FROM prompts WHERE run_id IN ({chosen})"
    decisions = (
        "SELECT decision_id, prompt_id, run_id, action, winning FROM decisions"
        f" WHERE run_id IN ({chosen}) ORDER BY decided_at, decision_id"
    )
    signals = f"SELECT run_id, kind, outcome FROM signals WHERE run_id IN ({chosen}) ORDER BY run_id, signal_id"
    statuses: dict[str, tuple[str, ...]] = {}
    for _, _, prompt_id, status in rows["prompts"]:
        statuses[prompt_id] = (*statuses.get(prompt_id, ()), status)
    return History(
        runs={run_id: stored[run_id] for run_id in keys},
        keys=keys,
        parents={row[0]: row[2] for row in named if row[2] is not None},
        writes=[RunWrite(*row) for row in rows["runs"] if row[2] in keys],
        nodes=[NodeWrite(*row) for row in rows["nodes"] if row[2] in keys],
        enlisted={row[2]: row[1] for row in rows["workers"] if row[3] == "came"},
        arrivals=[(row[0], row[1], row[2]) for row in rows["workers"] if row[3] == "came"],
        rewritten=[(row[2], row[3]) for row in rows["events"]],
        prompts=[
            PromptSeen(row[0], row[1], row[2], row[3], statuses.get(row[0], ())) for row in await query(url, prompts)
        ],
        decisions=[DecisionSeen(row[0], row[1], row[2], row[3], bool(row[4])) for row in await query(url, decisions)],
        signals=[SignalSeen(*row[:3]) for row in await query(url, signals)],
        memory=[MemorySeen(*row) for row in rows["memory"] if row[2].startswith(prefix)],
        papers=[PaperSeen(row[0], row[2], row[3]) for row in rows["papers"] if row[2].startswith(prefix)],
        **await _kept(url, prefix),
    )


async def _kept(url: str, prefix: str) -> dict[str, Any]:
    """Read memory and messages as they stand, and who is noted to wait for documents that are there."""
    entries = await query(url, f"SELECT owner, key, revision FROM memory_entries WHERE owner LIKE '{prefix}-%'")
    scopes = await query(url, f"SELECT owner, revision FROM memory_scopes WHERE owner LIKE '{prefix}-%'")
    waits = (
        "SELECT w.run_id, w.document_id FROM document_waits w JOIN documents d ON d.tenant = w.tenant"
        " AND d.story_id = w.story_id AND d.document_id = w.document_id"
        f" WHERE d.present = 1 AND w.story_id LIKE '{prefix}-%'"
    )
    messages = (
        "SELECT m.conversation_id, m.message_id, m.parent_id, m.role, m.place, m.run_id FROM conversation_messages m"
        f" JOIN conversations c ON c.conversation_id = m.conversation_id WHERE c.title LIKE '{prefix}-%'"
        " ORDER BY m.conversation_id, m.place"
    )
    return {
        "messages": [MessageSeen(*row) for row in await query(url, messages)],
        "remembered": {(row[0], row[1]): row[2] for row in entries},
        "given": dict(scopes),
        "waits": [(row[0], row[1]) for row in await query(url, waits)],
    }
