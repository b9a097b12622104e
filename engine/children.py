"""Child runs: born in their parent's transition, and heard of by mail (design §4, children).

A child that was called off, or whose node starts afresh, still tells what it cost; nothing else of it counts any more.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from contracts.descent import MAX_DEPTH, Spent, child_envelope
from contracts.lifecycle import NodeStatus, RunStatus
from contracts.outcome import Fail, Retry, Spawn, Usage
from engine import control, failures, frontier
from engine.signals import ChildEnded
from engine.state import NOTHING, NodeState
from engine.turn import Child, Turn


def spawn(turn: Turn, node: NodeState, outcome: Spawn) -> None:
    """Have the child run born with this transition; the node waits for it."""
    state = turn.state
    if state.ledger.depth >= MAX_DEPTH:
        message = f"Child runs may stand {MAX_DEPTH} deep."
        failures.attempt_failed(turn, node, Fail("too_deep", message))
        return
    ledger, began = state.ledger, max(state.created_at, state.envelope.starts_ms or 0)
    envelope = child_envelope(
        state.envelope,
        outcome.envelope,
        run_seconds=node.step.node.timeout_seconds,
        spent=Spent(ledger.tokens, ledger.cost, ledger.asks, turn.now - began),
        within=node.step.node.capability_id,
    )
    turn.move(node, NodeStatus.WAITING)
    state.children.add(node.node_id)
    turn.out.spawned.append(Child(node.child_run_id or "", node.node_id, node.generation, envelope))
    control.pause_child(turn, node)


def ended(turn: Turn, signal: ChildEnded) -> None:
    """Complete or fail the node whose child run ended; what the child cost is the run's."""
    state = turn.state
    state.ledger.spend(Usage(signal.tokens, signal.cost))
    node = state.nodes.get(signal.node_id)
    awaited = node is not None and node.node_id in state.children
    if node is None or not awaited or (node.child_run_id, node.generation) != (signal.child_run_id, signal.generation):
        turn.out.answered.append((signal.signal_id, "superseded"))
        return
    turn.out.answered.append((signal.signal_id, "applied"))
    state.children.discard(node.node_id)
    node.spend(Usage(signal.tokens, signal.cost))
    turn.resume("child")
    if signal.status == RunStatus.COMPLETED:
        _take(turn, node, signal)
    else:
        _failed(turn, node, signal)


def _take(turn: Turn, node: NodeState, signal: ChildEnded) -> None:
    findings = turn.world.contracts.of(node.step, turn.state.plan).findings(signal.output)
    if findings:
        message = f"The output of the child run {signal.child_run_id} does not fit."
        node.refused = signal.output
        _go_on(turn, node, "output_invalid", message, again=True, errors=findings)
        return
    turn.complete(node, signal.output)
    frontier.node_ended(turn, node)


def _failed(turn: Turn, node: NodeState, signal: ChildEnded) -> None:
    """Fail as the child failed: with another attempt, if one is left and the child says that it may help."""
    error = signal.error or {}
    said = f"{error.get('code', signal.status)}: {error.get('message', '')}".removesuffix(": ")
    if signal.status == RunStatus.CANCELLED:
        message = f"The child run {signal.child_run_id} was cancelled. {said}"
        _go_on(turn, node, "child_cancelled", message, again=False)
        return
    message = f"The child run {signal.child_run_id} failed. {said}"
    _go_on(turn, node, "child_failed", message, again=bool(error.get("retryable", True)))


def _go_on(
    turn: Turn, node: NodeState, code: str, message: str, *, again: bool, errors: Sequence[Mapping[str, Any]] = ()
) -> None:
    """Let the failure be dealt with; whatever attempt comes next has a child run of its own."""
    node.generation += 1
    node.child_run_id = None
    if again and _may_begin_again(node):
        failures.attempt_failed(
            turn, node, Retry(code, message, errors, output=None if node.refused is NOTHING else node.refused)
        )
    else:
        failures.attempt_failed(turn, node, Fail(code, message, errors))


def _may_begin_again(node: NodeState) -> bool:
    """Say whether the plan inside may run from its beginning by itself: its calls would have other keys.

    What must not be repeated never is; what is done once per key only if the plan says how often.
    """
    effects = node.step.node.effects
    return effects == "none" or (effects == "idempotent" and node.step.node.max_attempts is not None)
