"""What a failed attempt leads to: another attempt, a person, another plan, or the end (F6, F11)."""

from __future__ import annotations

from contracts.events import NodeError, NodeRetry, ValidationFailed
from contracts.lifecycle import NodeStatus
from contracts.outcome import Fail, Retry
from contracts.prompts import PromptKind, PromptSpec
from engine import replan
from engine.asking import ask, ask_repair
from engine.retry import delay_ms
from engine.state import NOTHING, NodeState
from engine.turn import Turn

OUTPUT_INVALID = "output_invalid"


def attempt_failed(turn: Turn, node: NodeState, outcome: Retry | Fail) -> None:
    """Record the attempt and decide what comes next."""
    turn.state.running.discard(node.node_id)
    node.error = {"code": outcome.code, "message": outcome.message}
    turn.touch(node)
    if outcome.code == OUTPUT_INVALID:
        turn.emit(ValidationFailed("node_output", node.attempt, list(outcome.errors)), node.node_id)
        node.feedback = list(outcome.errors)
        if isinstance(outcome, Retry):
            node.refused = outcome.output
    if outcome.ambiguous and node.step.node.effects == "once":
        ask_effect(turn, node, outcome.message)
    elif isinstance(outcome, Retry) and node.attempt < node.step.max_attempts + node.extra_attempts:
        retry(turn, node, outcome)
    else:
        exhausted(turn, node, outcome)


def retry(turn: Turn, node: NodeState, outcome: Retry) -> None:
    """Schedule the next attempt."""
    policy = turn.state.envelope.policies.retry
    wait = outcome.after_ms
    if wait is None:
        wait = delay_ms(policy, node.attempt, turn.world.random.uniform())
    record(turn, node)
    turn.emit(NodeRetry(node.attempt, node.attempt + 1, wait, outcome.code, outcome.message), node.node_id)
    turn.move(node, NodeStatus.BACKOFF)
    node.wake_at = turn.now + wait
    turn.state.backoff.add(node.node_id)


def record(turn: Turn, node: NodeState) -> None:
    """Keep the attempt that ended in the node's history (F6)."""
    entry = {"attempt": node.attempt, "started_at": node.started_at, "ended_at": turn.now, **(node.error or {})}
    if node.feedback:
        entry["errors"] = node.feedback[:20]
    node.history.append(entry)


def exhausted(turn: Turn, node: NodeState, outcome: Retry | Fail) -> None:
    """No attempt is left: ``on_output_invalid`` decides for invalid output, the node's fallback for the rest."""
    if outcome.code == OUTPUT_INVALID:
        _output_unmet(turn, node, outcome)
        return
    fallback = node.step.node.fallback
    if fallback == "retry" and node.extra_attempts == 0 and isinstance(outcome, Retry):
        node.extra_attempts = node.step.max_attempts
        retry(turn, node, outcome)
        return
    if fallback == "replan" and turn.state.ledger.round < turn.world.max_rounds:
        turn.emit(NodeError(node.attempt, outcome.code, outcome.message, "replan"), node.node_id)
        replan.ask_again(turn, node, author="engine", reason=f"{node.node_id} failed: {outcome.code}.")
        return
    if fallback == "hitl":
        turn.emit(NodeError(node.attempt, outcome.code, outcome.message, "hitl"), node.node_id)
        schema = turn.world.contracts.of(node.step, turn.state.plan).shown
        ask_repair(turn, node, None, schema, f"{node.node_id} failed ({outcome.message}). Please give its output.")
        return
    fail_node(turn, node, outcome.code, outcome.message)


def _output_unmet(turn: Turn, node: NodeState, outcome: Retry | Fail) -> None:
    if replan.on_validation_fail(turn, node):
        return
    if turn.state.envelope.policies.on_output_invalid == "ask":
        schema = turn.world.contracts.of(node.step, turn.state.plan).shown
        refused = None if node.refused is NOTHING else node.refused
        ask_repair(turn, node, refused, schema, f"The output of {node.node_id} does not fit. Please repair it.")
        return
    turn.move(node, NodeStatus.FAILED)
    node.ended_at = turn.now
    message = f"The output of {node.node_id} does not fit its contract after {node.attempt} attempts."
    turn.fail("output_contract_unmet", message, node.node_id, outcome.errors, retryable=True)


def fail_node(
    turn: Turn, node: NodeState, code: str, message: str, run_code: str = "node_failed", *, retryable: bool = True
) -> None:
    """End the node and the run with it."""
    turn.move(node, NodeStatus.FAILED)
    node.ended_at = turn.now
    node.error = {"code": code, "message": message}
    turn.emit(NodeError(node.attempt, code, message, "abort"), node.node_id)
    turn.fail(run_code, f"{node.node_id}: {message}", node.node_id, retryable=retryable)


def ask_effect(turn: Turn, node: NodeState, message: str) -> None:
    """A non-repeatable effect may have happened: only a person can know (design §4, effects)."""
    name = node.step.node.capability_id or node.node_id
    spec = PromptSpec(
        kind=PromptKind.EFFECT_CHECK,
        question=f"Did {name} happen? {message} It is not repeated unless you say that it did not happen."[:4_000],
        proposed=None if node.inputs is None else dict(node.inputs),
    )
    ask(turn, node, spec, "effect")
