"""What the machine knows of a run: only nodes that left ``pending`` have a state, so memory follows progress.

Everything here can be rebuilt from rows (``engine/revive.py``); nothing here is shared between runs.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from contracts.envelope import TaskEnvelope
from contracts.history import PLANNED, Origin
from contracts.lifecycle import NODE_TERMINAL, NodeStatus, RunStatus
from contracts.outcome import Usage
from engine.compiled import CompiledPlan, Step
from engine.signals import CalledBack

NOTHING: Any = object()
"""No output yet (null is an output)."""


def order_of(node_id: str) -> tuple[int, str, list[int]]:
    """Return what nodes are sorted by where the order of events is not known: items come after what they are items of.

    Items stand by number: what a loop carries comes from one to the next.
    """
    name, *places = node_id.replace("]", "").split("[")
    return len(places), name, [int(place) for place in places]


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
    node_id: str = field(init=False)
    """The node's id, as its step has it: read several times in every transition."""
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
    offered: dict[str, Any] | None = None
    """on a ``before`` gate that asks again: the inputs that would run now, shown in place of its own"""
    shown_as: str | None = None
    """on a ``before`` gate: what stood behind the capability's name and version when people were asked (H5)"""
    rule: str | None = None
    """on a policy's own prompt: the runtime rule that asks"""
    then: dict[str, Any] | None = None
    """on a policy's own prompt: what it keeps from happening until it is answered (``engine/answers.py``)"""
    stops: bool = False
    """on a policy's own prompt: nothing is dispatched before it is answered"""
    spent: dict[str, Any] | None = None
    """``{"tokens", "cost"}`` of its attempts so far, the failed ones too; None: nothing"""
    overdue: str | None = None
    """the open prompt whose due time has passed, and ``on_timeout`` rules were told"""
    called_at: int | None = None
    """when its attempt began, of a call that must not be repeated: a lost one may be at work until its time is over"""
    child_run_id: str | None = None
    """the run that a ``subflow`` waits for"""
    holds: str | None = None
    """on a policy's own prompt: the node that waits for it; a completed one's successors wait"""
    calls: list[dict[str, Any]] = field(default_factory=list)
    """on a chat: the calls that its model asked for, as nodes (``engine/calls.py``)"""
    passed: list[str] = field(default_factory=list)
    """on a call of a chat: the rules that have asked about it"""
    carry: Any = NOTHING
    """a loop's last output, what its next round gets"""
    parent: str | None = None
    items: list[Any] = field(default_factory=list)
    next_item: int = 0
    items_left: int = 0
    """items that have not ended"""
    items_open: int = 0
    """items that were opened and have not ended"""

    def spend(self, usage: Usage) -> None:
        """Add what an attempt, or a child run, cost."""
        if usage.tokens or usage.cost:
            before = self.spent or {"tokens": 0, "cost": 0.0}
            self.spent = {"tokens": before["tokens"] + usage.tokens, "cost": before["cost"] + usage.cost}

    def __post_init__(self) -> None:
        """Take over the step's id."""
        self.node_id = self.step.node.node_id

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
    repairs: int = 0
    """rounds in which a model was asked to mend its plan, or the search instead of it; they are no replans"""
    strategy: str = "search"
    """who is asked for plans: ``search`` or ``model``"""
    without: list[str] = field(default_factory=list)
    generations: dict[str, int] = field(default_factory=dict)
    """nodes that a replan starts afresh → their generation, so that their idempotency keys are new"""
    paused: dict[str, Any] | None = None
    """``{"by", "reason", "at"}`` while nothing may be started"""
    depth: int = 0
    """how many runs stand above a child run"""
    fired: dict[str, int] = field(default_factory=dict)
    """runtime rule → how often it fired"""
    began: bool = False
    """whether the ``on_start`` rules had their turn"""
    warned: dict[str, str] = field(default_factory=dict)
    """runtime rule → what was last said about its condition that could not be read"""
    again: dict[str, str] = field(default_factory=dict)
    """gate that asks again → why, as its question says it"""
    documents: dict[str, int] = field(default_factory=dict)
    """document → the version that the run holds on to"""
    missing: list[str] = field(default_factory=list)
    """documents that the run cannot begin without and that have not come, sorted"""
    lacked: bool = False
    """whether documents were missing when it was accepted: then its account begins with waiting"""
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
    stops: set[str] = field(default_factory=set)
    """policies' own prompts before whose answer nothing is dispatched"""
    alarms: dict[str, int] = field(default_factory=dict)
    """open prompt that stays open past its due time → that time (wall ms), for ``on_timeout`` rules"""
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
    documents: dict[str, Any] = field(default_factory=dict)
    """document → its text, as bundles show it (``engine/texts.py``)"""
    about: Mapping[str, Any] = field(default_factory=dict)
    """what bindings find below ``/run``: its id, and the addresses of its callbacks"""
    lineage: Lineage = field(default_factory=lambda: NO_LINEAGE)
    origin: Origin = PLANNED
    """where the run comes from, as the history says it"""
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
        if state is None:
            return NOTHING
        if state.status is NodeStatus.FAILED and node_id in self.plan.handlers:
            return self.output_of(self.plan.handlers[node_id])
        return state.output

    def error_of(self, node_id: str) -> dict[str, Any] | None:
        """Return why a node failed, as its handler gets it; None when it did not."""
        state = self.nodes.get(node_id)
        if state is None or state.status is not NodeStatus.FAILED:
            return None
        error = state.error or {}
        return {
            "node_id": node_id,
            "code": error.get("code"),
            "message": error.get("message"),
            "attempt": state.attempt,
        }
