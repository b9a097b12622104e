"""Statuses and the only moves between them (design: one vocabulary everywhere).

CHECK constraints, the diagram in the docs and the property tests are generated from these tables.
A terminal state never changes; "retry from failure" is a new run.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Final


class RunStatus(StrEnum):
    """Where a run stands. Comments say how one gets in and out."""

    QUEUED = "queued"
    """In: accepted, and no process had room. Out: a worker claims it."""
    PLANNING = "planning"
    """In: a worker or the intake asks for a plan. Out: the plan is written, or refused."""
    RUNNING = "running"
    """In: a plan is there and something can move. Out: nothing can move, or the end."""
    WAITING = "waiting"
    """In: nothing runs and something is awaited (``waiting_on``). Out: a signal, a timer, the end."""
    COMPLETED = "completed"
    """In: the output satisfied the caller's contract. Final."""
    FAILED = "failed"
    """In: an error nobody routed elsewhere. Final."""
    CANCELLED = "cancelled"
    """In: somebody with the right to asked for it. Final."""


class NodeStatus(StrEnum):
    """Where a node of a run stands. A node has a row only once it has left ``pending``."""

    PENDING = "pending"
    """In: the plan names it. Out: its last predecessor ended."""
    READY = "ready"
    """In: every predecessor ended, its backoff is over, a person answered, or its attempt was given back."""
    RUNNING = "running"
    """In: an attempt was dispatched. Out: the attempt's outcome."""
    BACKOFF = "backoff"
    """In: the attempt, or the child run it waited for, failed and another is allowed. Out: the delay is over."""
    WAITING = "waiting"
    """In: the attempt paused for a person, a callback, a timer or children. Out: the answer."""
    COMPLETED = "completed"
    """In: an output that fits its contract is stored. Final."""
    FAILED = "failed"
    """In: no attempt is left and no fallback took it. Final."""
    SKIPPED = "skipped"
    """In: a condition was false, every way to it was skipped, or a ``join`` has what it needs without it. Final."""
    CANCELLED = "cancelled"
    """In: the run ended without it. Final."""


class PromptStatus(StrEnum):
    """Where a stored question stands; a claim is an assignment, not a status."""

    OPEN = "open"
    """In: raised. Out: decided, timed out, or no longer needed."""
    SETTLED = "settled"
    """In: the quorum decided. Final."""
    EXPIRED = "expired"
    """In: its due time passed and ``on_timeout`` acted. Final."""
    WITHDRAWN = "withdrawn"
    """In: its run ended, its plan changed, or it was taken back. Final."""


RUN_MOVES: Final[Mapping[RunStatus, frozenset[RunStatus]]] = {
    RunStatus.QUEUED: frozenset({RunStatus.PLANNING, RunStatus.RUNNING, RunStatus.FAILED, RunStatus.CANCELLED}),
    RunStatus.PLANNING: frozenset(
        {RunStatus.QUEUED, RunStatus.RUNNING, RunStatus.WAITING, RunStatus.FAILED, RunStatus.CANCELLED}
    ),
    RunStatus.RUNNING: frozenset(
        {RunStatus.PLANNING, RunStatus.WAITING, RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED}
    ),
    RunStatus.WAITING: frozenset({RunStatus.RUNNING, RunStatus.FAILED, RunStatus.CANCELLED}),
    RunStatus.COMPLETED: frozenset(),
    RunStatus.FAILED: frozenset(),
    RunStatus.CANCELLED: frozenset(),
}

NODE_MOVES: Final[Mapping[NodeStatus, frozenset[NodeStatus]]] = {
    NodeStatus.PENDING: frozenset({NodeStatus.READY, NodeStatus.SKIPPED, NodeStatus.CANCELLED}),
    NodeStatus.READY: frozenset({NodeStatus.RUNNING, NodeStatus.SKIPPED, NodeStatus.FAILED, NodeStatus.CANCELLED}),
    NodeStatus.RUNNING: frozenset(
        {
            NodeStatus.READY,
            NodeStatus.BACKOFF,
            NodeStatus.WAITING,
            NodeStatus.COMPLETED,
            NodeStatus.FAILED,
            NodeStatus.SKIPPED,
            NodeStatus.CANCELLED,
        }
    ),
    NodeStatus.BACKOFF: frozenset({NodeStatus.READY, NodeStatus.FAILED, NodeStatus.SKIPPED, NodeStatus.CANCELLED}),
    NodeStatus.WAITING: frozenset(
        {
            NodeStatus.READY,
            NodeStatus.BACKOFF,
            NodeStatus.COMPLETED,
            NodeStatus.FAILED,
            NodeStatus.SKIPPED,
            NodeStatus.CANCELLED,
        }
    ),
    NodeStatus.COMPLETED: frozenset(),
    NodeStatus.FAILED: frozenset(),
    NodeStatus.SKIPPED: frozenset(),
    NodeStatus.CANCELLED: frozenset(),
}

PROMPT_MOVES: Final[Mapping[PromptStatus, frozenset[PromptStatus]]] = {
    PromptStatus.OPEN: frozenset({PromptStatus.SETTLED, PromptStatus.EXPIRED, PromptStatus.WITHDRAWN}),
    PromptStatus.SETTLED: frozenset(),
    PromptStatus.EXPIRED: frozenset(),
    PromptStatus.WITHDRAWN: frozenset(),
}

RUN_TERMINAL: Final = frozenset(status for status, onward in RUN_MOVES.items() if not onward)
RUN_ACTIVE: Final = frozenset(RUN_MOVES) - RUN_TERMINAL
NODE_TERMINAL: Final = frozenset(status for status, onward in NODE_MOVES.items() if not onward)
PROMPT_TERMINAL: Final = frozenset(status for status, onward in PROMPT_MOVES.items() if not onward)


class IllegalMove(AssertionError):
    """A status was moved in a way the table does not list: a bug, never an input error."""


def move_run(before: RunStatus, after: RunStatus) -> RunStatus:
    """Return ``after`` when the table allows the move (staying put is allowed unless terminal)."""
    if after not in RUN_MOVES[before] and (after is not before or before in RUN_TERMINAL):
        raise IllegalMove(f"run: {before} → {after}; legal: {sorted(RUN_MOVES[before])}")
    return after


def move_node(before: NodeStatus, after: NodeStatus) -> NodeStatus:
    """Return ``after`` when the table allows the move."""
    if after not in NODE_MOVES[before]:
        raise IllegalMove(f"node: {before} → {after}; legal: {sorted(NODE_MOVES[before])}")
    return after


class WaitingOn(StrEnum):
    """What a waiting run waits for; ``waiting_on`` is a set of these."""

    HITL = "hitl"
    CALLBACK = "callback"
    DOCUMENTS = "documents"
    TIMER = "timer"
    CHILDREN = "children"
    PAUSED = "paused"
