"""One step under way: the state that changes, and the transition that says what to write and to do.

The primitive moves live here; what they mean together is in ``frontier``, ``failures``, ``answers`` and ``finish``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import orjson

from contracts.descent import child_run_id
from contracts.events import (
    INLINE_OUTPUT_BYTES,
    Cancelled,
    Event,
    Failed,
    NodeComplete,
    NodeSkipped,
    NodeStart,
    RunResumed,
)
from contracts.lifecycle import NodeStatus, RunStatus, move_node, move_run
from contracts.memory import MemoryWrite
from contracts.outcome import Fail
from contracts.ports import Ids, Random
from contracts.prompts import Prompt, PromptSpec
from engine.contract import RunContracts
from engine.kinds.base import Kind
from engine.news import of_end, why_called_off
from engine.signals import ReplanAsked
from engine.state import NOTHING, NodeState, RunState


@dataclass(frozen=True, slots=True)
class World:
    """What the machine is handed: names, chance, what outputs must fit, the kinds, bounds."""

    ids: Ids
    random: Random
    contracts: RunContracts
    kinds: Mapping[str, Kind]
    max_rounds: int = 3
    max_lost: int = 3
    notifies: bool = False
    """whether people are told of prompts by other ways than looking"""


@dataclass(slots=True)
class Raised:
    """A prompt that this transition raises: as people see it, and as its policy froze it."""

    shown: Prompt
    spec: PromptSpec
    at_ms: int
    due_at: int | None
    notify_at: int | None = None
    """when people are first told of it by other ways than looking, or reminded; None: never"""


@dataclass(frozen=True, slots=True)
class Child:
    """A child run to be born with this transition; ``envelope`` is its TaskEnvelope as JSON."""

    run_id: str
    node_id: str
    generation: int
    envelope: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Letter:
    """A signal for another run of the same tenant."""

    run_id: str
    kind: str
    payload: Mapping[str, Any]


@dataclass(slots=True)
class Transition:
    """What one step decided. Written as a whole before any frame of it is sent."""

    at_ms: int
    before_seq: int
    events: list[tuple[Event, str | None]] = field(default_factory=list)
    changed: dict[str, None] = field(default_factory=dict)
    raised: list[Raised] = field(default_factory=list)
    withdrawn: list[str] = field(default_factory=list)
    answered: list[tuple[int, str]] = field(default_factory=list)
    dispatch: list[str] = field(default_factory=list)
    abort: list[str] = field(default_factory=list)
    replan: ReplanAsked | None = None
    new_plan: tuple[str, str] | None = None
    """(author, reason) when the state's plan is a new version"""
    forgotten: list[str] = field(default_factory=list)
    spawned: list[Child] = field(default_factory=list)
    mail: list[Letter] = field(default_factory=list)
    memory: list[MemoryWrite] = field(default_factory=list)
    """what the nodes that completed want remembered"""
    misfits: list[tuple[str, Fail]] = field(default_factory=list)
    """maps and loops that cannot complete, and why; settled before the step ends"""

    @property
    def empty(self) -> bool:
        """Say whether nothing has to be written."""
        return not (self.events or self.changed or self.answered or self.withdrawn or self.replan or self.mail)


class Turn:
    """The state, the time and the transition of one step, with the moves every rule is made of."""

    __slots__ = ("now", "out", "quiet", "state", "world")

    def __init__(self, state: RunState, world: World, now_ms: int) -> None:
        """Open a turn at wall time ``now_ms``."""
        self.state, self.world, self.now = state, world, now_ms
        self.out = Transition(at_ms=now_ms, before_seq=state.seq)
        self.quiet: set[str] = set()
        """nodes whose being skipped was told before"""

    def emit(self, event: Event, node_id: str | None = None) -> None:
        """Add a durable event; its number is the run's next."""
        self.state.seq += 1
        self.out.events.append((event, node_id))

    def touch(self, node: NodeState) -> None:
        """Have the node's row written."""
        self.out.changed[node.node_id] = None

    def rewrite(self, node: NodeState) -> None:
        """Have the row of a node that has ended written anew: as it is, it could not be written over."""
        self.out.forgotten.append(node.node_id)
        self.touch(node)

    def move(self, node: NodeState, after: NodeStatus) -> None:
        """Move a node as the table allows and have it written."""
        if node.status is NodeStatus.WAITING:
            self.let_go(node)
        node.status = move_node(node.status, after)
        self.out.changed[node.node_id] = None

    def let_go(self, node: NodeState) -> None:
        """Forget that a node waits for a time, for a callback, or for a child run, which is called off."""
        node.wake_at = None
        self.state.timers.discard(node.node_id)
        self.state.callbacks.discard(node.node_id)
        self.call_off(node, f"run:{self.state.run_id}", f"{node.node_id} does not wait for it any more.")
        self.touch(node)

    def call_off(self, node: NodeState, by: str, reason: str | None) -> None:
        """Have the child run that a node waits for cancelled, if it does."""
        if node.node_id in self.state.children and node.child_run_id is not None:
            self.state.children.discard(node.node_id)
            self.out.mail.append(Letter(node.child_run_id, "cancel", {"by": by, "reason": reason}))
            node.child_run_id = None

    def ended(self) -> bool:
        """Say whether the run is over."""
        return self.state.ended_at is not None

    def make_ready(self, node: NodeState) -> None:
        """Queue a node for dispatch."""
        self.move(node, NodeStatus.READY)
        node.wake_at = None
        self.state.ready.append(node.node_id)

    def start(self, node: NodeState) -> None:
        """Begin an attempt, or go on with the one that was given back or answered."""
        node.status = move_node(node.status, NodeStatus.RUNNING)
        if not node.resumed:
            node.attempt += 1
        node.started_at = node.started_at if node.resumed and node.started_at else self.now
        if node.step.once:
            node.called_at = self.now
        self._say_start(node, resumed=node.resumed)
        node.resumed = False
        self.touch(node)
        self.state.running.add(node.node_id)
        self.out.dispatch.append(node.node_id)

    def _say_start(self, node: NodeState, *, resumed: bool) -> None:
        plan_node = node.step.node
        if plan_node.kind == "subflow":
            node.child_run_id = child_run_id(self.state.run_id, node.node_id, node.generation)
        begun = NodeStart(node.attempt, plan_node.kind, plan_node.capability_id, resumed, node.child_run_id)
        self.emit(begun, node.node_id)

    def go_on_waiting(self, node: NodeState) -> None:
        """Say that a node goes on which waited, for items or a child run, in the run that this one is a fork of."""
        self._say_start(node, resumed=True)
        if node.child_run_id is not None:
            self.state.children.add(node.node_id)

    def complete(self, node: NodeState, output: Any, encoded: bytes | None = None) -> None:
        """Store a node's output, which fits its contract; the frontier is advanced by the caller."""
        if node.status is NodeStatus.WAITING:
            self.let_go(node)
        node.status = move_node(node.status, NodeStatus.COMPLETED)
        node.output, node.ended_at, node.error = output, self.now, None
        node.parked, node.feedback, node.refused, node.called_at = None, [], NOTHING, None
        data = node.output_json = encoded if encoded is not None else orjson.dumps(output)
        self.emit(self._completion(node, data, self.now), node.node_id)
        self.touch(node)

    def emit_copy(self, node: NodeState) -> None:
        """Say that a node completed in the run that this one is a fork of; its output and its times are of there."""
        made = self._completion(node, node.output_json or b"null", node.ended_at or self.now)
        self.emit(replace(made, copied_from=self.state.lineage.origin_run_id), node.node_id)

    def _completion(self, node: NodeState, data: bytes, ended_at: int) -> NodeComplete:
        duration = max(0, ended_at - (node.started_at or ended_at))
        if len(data) > INLINE_OUTPUT_BYTES:
            url = f"/api/v1/runs/{self.state.run_id}/artifacts/{node.node_id}"
            return NodeComplete(node.attempt, duration, None, url)
        return NodeComplete(node.attempt, duration, orjson.Fragment(data))

    def skip(self, node: NodeState, reason: str) -> None:
        """End a node that will not run."""
        self.move(node, NodeStatus.SKIPPED)
        node.ended_at = self.now
        if node.node_id not in self.quiet:
            self.emit(NodeSkipped(reason), node.node_id)

    def resume(self, cause: str) -> None:
        """Leave ``waiting``: close the account of the wait and say so."""
        if self.state.status is not RunStatus.WAITING:
            return
        self.state.status = move_run(self.state.status, RunStatus.RUNNING)
        self.state.waiting_on = ()
        self._stop_waiting()
        self.emit(RunResumed(cause))

    def _stop_waiting(self) -> None:
        ledger = self.state.ledger
        if ledger.waiting_since is not None:
            ledger.waited_ms += max(0, self.now - ledger.waiting_since)
            ledger.waiting_since = None

    def end(self, status: RunStatus, event: Event) -> None:
        """End the run: stop what runs, drop what waits, then the one terminal frame."""
        self._stop_waiting()
        state = self.state
        by, why = why_called_off(state, status, event)
        for node_id in sorted(state.children):
            self.call_off(state.nodes[node_id], by, why)
        for node in state.nodes.values():
            if not node.ended:
                if node.status is NodeStatus.RUNNING:
                    self.out.abort.append(node.node_id)
                self.move(node, NodeStatus.CANCELLED)
                node.ended_at = self.now
        self.out.withdrawn.extend(state.prompts)
        state.prompts.clear()
        state.ready.clear()
        state.running.clear()
        state.backoff.clear()
        state.timers.clear()
        state.callbacks.clear()
        state.parked.clear()
        state.start_at = None
        state.ledger.missing.clear()
        self.out.dispatch.clear()
        state.status = move_run(state.status, status)
        state.waiting_on, state.ended_at = (), self.now
        self.emit(event)
        self._tell_parent(status, event)

    def _tell_parent(self, status: RunStatus, event: Event) -> None:
        """Mail the end of a child run to the run whose node waits for it."""
        parent = self.state.lineage.parent_run_id
        if parent is not None:
            self.out.mail.append(Letter(parent, "child", of_end(self.state, status, event)))

    def fail(
        self, code: str, message: str, node_id: str | None = None, errors: Any = (), *, retryable: bool = False
    ) -> None:
        """End the run as failed."""
        self.end(RunStatus.FAILED, Failed(code, message, node_id, list(errors), retryable))

    def cancel(self, by: str, reason: str | None) -> None:
        """End the run as cancelled."""
        self.end(RunStatus.CANCELLED, Cancelled(by, reason))
