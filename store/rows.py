"""What the store takes and gives: plain records, one per table, no behaviour.

Times are integers, ms since the epoch. Everything called ``…_json`` is JSON text. A record never outlives its use:
rows are the truth.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contracts.memory import MemoryWrite
from store.audit import AuditRow


@dataclass(slots=True)
class EventRow:
    """One durable frame: its place in the run's log and its encoded JSON (``contracts.events.encode``)."""

    seq: int
    type: str
    node_id: str | None
    data: bytes


@dataclass(slots=True)
class NodeRow:
    """The present state of a node of a run; there is a row only once the node left ``pending``.

    ``history_json`` lists earlier attempts; ``inputs_json`` is the bound bundle inputs of the present attempt (null
    when over 64 KiB: it can be rebuilt from upstream outputs); ``state_json`` belongs to the machine (parked state of
    a capability that asked, feedback for the next attempt, expansion of a map, the refused output of a repair).
    """

    node_id: str
    kind: str
    status: str
    attempt: int = 0
    generation: int = 0
    started_at: int | None = None
    ended_at: int | None = None
    wake_at: int | None = None
    inputs_json: str | None = None
    output_json: str | None = None
    error_json: str | None = None
    history_json: str | None = None
    state_json: str | None = None


@dataclass(slots=True)
class PromptRow:
    """A prompt as it is stored; ``assignees_json``, ``actions_json`` and friends are frozen at raise (H3).

    ``policy_json`` is its ``contracts.prompts.PromptPolicy``, ``requester`` who asked for the run, ``level`` how often
    it was escalated, ``notify_at`` when people are next told of it (raise and reminders; null: never).
    """

    prompt_id: str
    run_id: str
    tenant: str
    node_id: str | None
    kind: str
    status: str
    question: str
    proposed_json: str
    answer_schema_json: str
    actions_json: str
    assignees_json: str
    quorum: int
    policy_id: str | None
    plan_version: int
    bound_hash: str
    on_timeout: str
    created_at: int
    due_at: int | None = None
    claimed_by: str | None = None
    settled_at: int | None = None
    decision_json: str | None = None
    policy_json: str = "{}"
    requester: str = ""
    level: int = 0
    notify_at: int | None = None
    delegations_json: str = "[]"


@dataclass(slots=True)
class DecisionRow:
    """One person's accepted say. The one that settled the prompt has ``winning`` set."""

    decision_id: str
    prompt_id: str
    run_id: str
    tenant: str
    action: str
    answer_json: str | None
    comment: str | None
    decided_by: str
    decided_at: int
    channel: str
    winning: bool = False


@dataclass(slots=True)
class SignalRow:
    """Something a run must react to; ``outcome`` is null until the holder consumed it.

    ``signal_id`` is the inbox number that the signal got: 1, 2, 3 … per run, in commit order. So a holder's ``seen`` is
    the largest one that it has read.
    """

    signal_id: int
    run_id: str
    kind: str
    payload_json: str
    created_at: int
    outcome: str | None = None


@dataclass(slots=True)
class PlanRow:
    """One version of a run's plan, with who made it and why."""

    version: int
    plan_hash: str
    plan_json: str
    author: str
    reason: str
    created_at: int


@dataclass(slots=True)
class RunRow:
    """The narrow, often written row of a run. ``ledger_json`` is the machine's own account (usage, rounds, waited).

    The members after ``ended_at`` are written once, at birth: its tree, its parent's node, what it is a fork of, its
    scheduled start, where it comes from.
    """

    run_id: str
    tenant: str
    principal: str
    status: str
    waiting_on_json: str
    worker: str | None
    epoch: int
    last_seq: int
    inbox: int
    seen: int
    wake_at: int | None
    plan_version: int
    plan_hash: str | None
    correlation_id: str
    objective: str
    contract_hash: str
    ledger_json: str
    created_at: int
    started_at: int | None = None
    ended_at: int | None = None
    root_run_id: str | None = None
    parent_run_id: str | None = None
    parent_node_id: str | None = None
    parent_generation: int = 0
    origin_run_id: str | None = None
    origin_node_id: str | None = None
    start_at: int | None = None
    flow_id: str | None = None
    story_id: str | None = None
    origin_json: str | None = None


@dataclass(slots=True)
class HistoryRow:
    """One execution that ended: what lists and counts show of it for ever (T1, T2). ``duration_ms`` is time at work."""

    run_id: str
    tenant: str
    principal: str
    status: str
    way: str
    trigger: str
    flow_id: str | None
    flow_version: int | None
    flow_name: str | None
    template_id: str | None
    template_name: str | None
    story_id: str | None
    tool: str | None
    objective: str
    preview: str
    words: str
    created_at: int
    started_at: int | None
    ended_at: int
    duration_ms: int
    waited_ms: int
    asks: int
    tokens: int
    cost: float
    error_code: str | None
    error_message: str | None
    failed_node_id: str | None
    origin_run_id: str | None


@dataclass(slots=True)
class MailRow:
    """A signal that one run leaves another in its own transition: a child's end, a parent's cancel."""

    run_id: str
    tenant: str
    kind: str
    payload_json: str
    created_at: int


@dataclass(frozen=True, slots=True, order=True)
class WaitRow:
    """A document that a run waits for from its birth on (R1); one that has come meanwhile is told to it at once."""

    tenant: str
    story_id: str
    document_id: str
    run_id: str
    created_at: int


@dataclass(slots=True)
class RunWrite:
    """One or more transitions of one run, to be committed together under its fence.

    The fence is ``epoch`` and ``before_seq``: the row must still have both. ``seen`` is the inbox number up to which
    the holder has read; with ``release`` the lease is given up only if ``inbox = seen`` still holds (the rest is
    written either way). ``prompts`` are raised, ``withdrawn`` closes open prompts, ``answered`` gives signals their
    outcome, ``plan`` adds a version. A terminal ``status`` also answers every other pending signal with ``late`` and
    withdraws every open prompt of the run.
    """

    run_id: str
    tenant: str
    epoch: int
    before_seq: int
    after_seq: int
    status: str
    waiting_on_json: str = "[]"
    wake_at: int | None = None
    plan_version: int = 1
    plan_hash: str | None = None
    seen: int = 0
    release: bool = False
    ledger_json: str = "{}"
    started_at: int | None = None
    ended_at: int | None = None
    nodes: dict[str, NodeRow] = field(default_factory=dict)
    events: list[EventRow] = field(default_factory=list)
    prompts: list[PromptRow] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    answered: list[tuple[int, str]] = field(default_factory=list)
    plan: PlanRow | None = None
    forgotten: list[str] = field(default_factory=list)
    """Node rows to delete (a replan dropped the node before it completed)."""
    spawned: list[Birth] = field(default_factory=list)
    """Child runs that are born in this transition."""
    mail: list[MailRow] = field(default_factory=list)
    """Signals to other runs; one to a run that has ended is dropped."""
    history: HistoryRow | None = None
    """What the history says of the run, with the write that ends it."""
    memory: list[MemoryWrite] = field(default_factory=list)
    """What the attempts that completed here want remembered; if one cannot be, nothing of the write is stored."""
    plans: list[PlanRow] = field(default_factory=list)
    """Plan versions before ``plan``, when several transitions that wait together were merged."""


@dataclass(slots=True)
class Written:
    """What became of a RunWrite: whether the lease was given up, and the inbox number as it stands."""

    released: bool
    inbox: int


@dataclass(slots=True)
class Birth:
    """A run that is accepted: its row, envelope and idempotency key together with its first transition, atomically."""

    run: RunRow
    envelope_json: str
    write: RunWrite
    key: str | None = None
    fingerprint: str = ""
    key_expires_at: int | None = None
    records: list[AuditRow] = field(default_factory=list)
    """Audit records that are written with it (who forked what)."""
    waits: list[WaitRow] = field(default_factory=list)
    """Documents that it waits for."""


@dataclass(slots=True)
class Born:
    """The run is there; ``existing`` is the earlier run of the same key and principal instead, with its fingerprint."""

    run_id: str
    existing: bool = False
    fingerprint: str = ""


@dataclass(slots=True)
class LoadedRun:
    """Everything the engine needs to go on with a run it has just claimed."""

    run: RunRow
    envelope_json: str
    plan: PlanRow | None
    nodes: Sequence[NodeRow]
    prompts: Sequence[PromptRow]
    signals: Sequence[SignalRow]
    documents: Mapping[str, Any] = field(default_factory=dict)
    """The texts of its documents, as ``engine/documents.py`` gives them to capabilities."""
