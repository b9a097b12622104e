"""What the machine knows of a run: only nodes that left ``pending`` have a state, so memory follows progress.

Everything here can be rebuilt from rows (``engine/revive.py``); nothing here is shared between runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from contracts.envelope import TaskEnvelope
from contracts.lifecycle import NODE_TERMINAL, NodeStatus, RunStatus
from contracts.outcome import Usage
from engine.compiled import CompiledPlan, Step
from engine.signals import CalledBack

NOTHING: Any = object()
"""No output yet (null is an output)."""


@dataclass(slots=True)
class OpenPrompt:
    """A prompt the run waits for, as far as the machine needs it."""

    prompt_id: str
    node_id: str
    kind: str
    bound_hash: str
    proposed: Any
    purpose: str = "answer"
    """``answer`` | ``resume`` | ``repair`` | ``effect`` | ``capability`` | ``plan``: what the answer is for."""


@dataclass(slots=True)
class NodeState:
    """A node that left ``pending``. ``generation`` rises on deliberate re-execution, never after a crash."""

    step: Step
    status: NodeStatus = NodeStatus.PENDING
    attempt: int = 0
    generation: int = 0
    started_at: int | None = None
    ended_at: int | None = None
    wake_at: int | None = None
    inputs: Mapping[str, Any] | None = None
    inputs_json: str | None = None
    output: Any = NOTHING
    output_json: bytes | None = None
    error: dict[str, Any] | None = None
    history: list[dict[str, Any]] = field(default_factory=list)
    feedback: list[Mapping[str, Any]] = field(default_factory=list)
    parked: dict[str, Any] | None = None
    """Where a capability that asked goes on: ``{"state": …}`` and, once decided, ``"answer"``."""
    taken: list[str] | None = None
    lost: int = 0
    resumed: bool = False
    extra_attempts: int = 0
    approved: str | None = None
    """On a ``before`` gate: the hash of exactly what was approved (H5)."""
    refused: Any = NOTHING
    prompt_id: str | None = None
    """The prompt it waits for, while it does."""
    asked: str | None = None
    """What the answer to its open prompt is for (``OpenPrompt.purpose``)."""
    version: str | None = None
    """A capability version that a person chose instead of the pinned one."""
    child_run_id: str | None = None
    """the run that a ``subflow`` waits for"""
    holds: str | None = None
    """on a policy's own prompt: the completed node whose successors wait for it"""
    carry: Any = NOTHING
    """a loop's last output, what its next round gets"""
    parent: str | None = None
    items: list[Any] = field(default_factory=list)
    next_item: int = 0
    items_left: int = 0

    @property
    def node_id(self) -> str:
        """Return the node's id."""
        return self.step.node.node_id

    @property
    def ended(self) -> bool:
        """Say whether the state is terminal."""
        return self.status in NODE_TERMINAL


@dataclass(slots=True)
class Ledger:
    """The run's own account; stored with every transition as JSON. Times in ms."""

    tokens: int = 0
    cost: float = 0.0
    asks: int = 0
    waited_ms: int = 0
    waiting_since: int | None = None
    round: int = 1
    without: list[str] = field(default_factory=list)
    generations: dict[str, int] = field(default_factory=dict)
    """nodes that a replan starts afresh → their generation, so that their idempotency keys are new"""
    paused: dict[str, Any] | None = None
    """``{"by", "reason", "at"}`` while nothing may be started"""
    fired: dict[str, int] = field(default_factory=dict)
    """runtime rule → how often it fired"""
    asked: dict[str, Any] | None = None
    """the question to the planner that is not answered yet (``ReplanAsked`` as JSON): another holder asks it again"""

    def spend(self, usage: Usage) -> None:
        """Add what an attempt cost."""
        self.tokens += usage.tokens
        self.cost += usage.cost


@dataclass(frozen=True, slots=True)
class Lineage:
    """Where a run comes from: the node it is a child of, or the run it is a fork of. ``root`` is the tree's run."""

    root_run_id: str | None = None
    parent_run_id: str | None = None
    parent_node_id: str | None = None
    parent_generation: int = 0
    origin_run_id: str | None = None
    origin_node_id: str | None = None


NO_LINEAGE: Final = Lineage()


@dataclass(slots=True)
class RunState:
    """A run in the memory of its holder."""

    run_id: str
    tenant: str
    principal: str
    correlation_id: str
    envelope: TaskEnvelope
    envelope_json: Mapping[str, Any]
    plan: CompiledPlan
    epoch: int
    seq: int = 0
    status: RunStatus = RunStatus.RUNNING
    waiting_on: tuple[str, ...] = ()
    created_at: int = 0
    started_at: int | None = None
    ended_at: int | None = None
    plan_version: int = 1
    ledger: Ledger = field(default_factory=Ledger)
    nodes: dict[str, NodeState] = field(default_factory=dict)
    unresolved: dict[str, int] = field(default_factory=dict)
    """node → in-edges not yet decided; absent means none was"""
    live: set[str] = field(default_factory=set)
    """pending nodes that at least one taken edge leads to"""
    ready: deque[str] = field(default_factory=deque)
    running: set[str] = field(default_factory=set)
    backoff: set[str] = field(default_factory=set)
    held: list[str] = field(default_factory=list)
    """output gates that wait until the composed answer is valid"""
    prompts: dict[str, OpenPrompt] = field(default_factory=dict)
    timers: set[str] = field(default_factory=set)
    """waiting nodes with a ``wake_at``: delays, and callbacks with a timeout"""
    callbacks: set[str] = field(default_factory=set)
    """nodes that wait for a callback"""
    children: set[str] = field(default_factory=set)
    """nodes that wait for a child run"""
    parked: dict[str, CalledBack] = field(default_factory=dict)
    """node → a callback that came before the node began to wait; its signal stays unanswered"""
    start_at: int | None = None
    """a scheduled start that is still to come (wall ms)"""
    lineage: Lineage = field(default_factory=lambda: NO_LINEAGE)
    ended_nodes: int = 0
    """plan nodes (not map items) in a terminal state"""
    final: Any = NOTHING
    """the composed, valid output: what an output gate shows"""
    seen: int = 0

    def step_of(self, node_id: str) -> Step:
        """Return the step of a plan node or of a map item."""
        state = self.nodes.get(node_id)
        if state is not None:
            return state.step
        return self.plan.steps[node_id]

    def output_of(self, node_id: str) -> Any:
        """Return a node's output, or :data:`NOTHING`."""
        state = self.nodes.get(node_id)
        return NOTHING if state is None else state.output
