"""What a failed attempt leads to: another attempt, a person, another plan, or the end (F6, F11)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from contracts.events import NodeError, NodeRetry, ValidationFailed
from contracts.lifecycle import NodeStatus
from contracts.outcome import Fail, Retry
from contracts.plan import error_entry
from contracts.prompts import PromptKind, PromptSpec
from engine import calls, frontier, replan, rules
from engine.asking import ask, ask_repair
from engine.retry import delay_ms
from engine.state import NOTHING, NodeState
from engine.turn import Turn

OUTPUT_INVALID: Final = "output_invalid"
TIMED_OUT: Final = frozenset({"capability_timeout", "callback_timeout"})
"""codes of attempts that ran out of their time"""
SAID_NO: Final = frozenset({"rejected", "prompt_withdrawn"})
"""codes of nodes that failed because people said so"""
_MENDED: Final = frozenset({"node_failed", "capability_unavailable"})
"""codes of runs that ``fallback: continue`` keeps from failing; what people said, or did not, stays final"""


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
    if outcome.code in TIMED_OUT:
        fired = rules.timed_out(turn, node, optional=isinstance(outcome, Retry) and _may_repeat(node, outcome))
        if turn.ended() or fired.put_off(_kept(outcome)):
            return
    _deal(turn, node, outcome)


def _deal(turn: Turn, node: NodeState, outcome: Retry | Fail) -> None:
    """Do what a failed attempt leads to when no rule keeps it from happening."""
    if outcome.ambiguous and node.step.once:
        ask_effect(turn, node, outcome.message)
    elif isinstance(outcome, Retry) and _may_repeat(node, outcome):
        retry(turn, node, outcome)
    else:
        exhausted(turn, node, outcome)


def _kept(outcome: Retry | Fail) -> dict[str, Any]:
    """Return a failure as a rule's question keeps it."""
    shown = {"code": outcome.code, "message": outcome.message, "errors": [dict(each) for each in outcome.errors]}
    return {"what": "attempt", "ambiguous": outcome.ambiguous, **shown}


def try_again(turn: Turn, node: NodeState, kept: Mapping[str, Any]) -> None:
    """People let a rule's node go on: it is tried once more, where that repeats no work that may have been done.

    What unfolded, and a call that must not be repeated, goes on as it would have without the rule.
    """
    outcome = Fail(kept["code"], kept["message"], kept["errors"], ambiguous=kept["ambiguous"])
    if node.step.once or node.step.kind.spec.fed is not None:
        if outcome.code == OUTPUT_INVALID:
            _unmet(turn, node, outcome)
        else:
            _deal(turn, node, outcome)
        return
    node.extra_attempts = max(node.extra_attempts, node.attempt + 1 - node.step.max_attempts)
    record(turn, node)
    turn.emit(NodeRetry(node.attempt, node.attempt + 1, 0, outcome.code, outcome.message), node.node_id)
    turn.make_ready(node)


def _may_repeat(node: NodeState, outcome: Retry) -> bool:
    """Say whether another attempt is left. A ``once`` call whose output does not fit has happened: no more."""
    if outcome.code == OUTPUT_INVALID and node.step.once:
        return False
    return node.attempt < node.step.max_attempts + node.extra_attempts


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
    if fallback == "replan" and replan.rounds_left(turn):
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
    if calls.is_call(turn.state, node):
        calls.failed(turn, node, outcome.code, outcome.message)
        return
    fired = rules.validation_failed(turn, node)
    if not turn.ended() and not fired.put_off(_kept(outcome)):
        _unmet(turn, node, outcome)


def _unmet(turn: Turn, node: NodeState, outcome: Retry | Fail) -> None:
    if turn.state.envelope.policies.on_output_invalid == "ask":
        schema = turn.world.contracts.of(node.step, turn.state.plan).shown
        refused = None if node.refused is NOTHING else node.refused
        ask_repair(turn, node, refused, schema, f"The output of {node.node_id} does not fit. Please repair it.")
        return
    message = f"The output of {node.node_id} does not fit its contract after {node.attempt} attempts."
    if handles(turn, node, outcome.code):
        fail_node(turn, node, outcome.code, message)
        return
    if goes_on(node):
        carry_on(turn, node, outcome.code, message)
        return
    turn.move(node, NodeStatus.FAILED)
    node.ended_at = turn.now
    turn.fail("output_contract_unmet", message, node.node_id, outcome.errors, retryable=True)


def fail_node(
    turn: Turn, node: NodeState, code: str, message: str, run_code: str = "node_failed", *, retryable: bool = True
) -> None:
    """End the node and the run with it, unless another node stands in for it, or it says ``continue``.

    What people said no to stays no, whatever the node says. Of a chat's call only its model is told.
    """
    if calls.is_call(turn.state, node):
        calls.failed(turn, node, code, message)
        return
    handled = handles(turn, node, code)
    if not handled and run_code in _MENDED and code != "prompt_withdrawn" and goes_on(node):
        carry_on(turn, node, code, message)
        return
    turn.move(node, NodeStatus.FAILED)
    node.ended_at = turn.now
    node.error = {"code": code, "message": message}
    turn.emit(NodeError(node.attempt, code, message, "handler" if handled else "abort"), node.node_id)
    if handled:
        frontier.node_ended(turn, node)
        return
    turn.fail(run_code, f"{node.node_id}: {message}", node.node_id, retryable=retryable)


def handles(turn: Turn, node: NodeState, code: str) -> bool:
    """Say whether the plan has a handler for this failure; a person's no is handled only by name (H4)."""
    plan = turn.state.plan
    handler = plan.handlers.get(node.node_id)
    if handler is None:
        return False
    codes = plan.steps[handler].own.codes
    return code not in SAID_NO if codes is None else code in codes


def goes_on(node: NodeState) -> bool:
    """Say whether the run goes on without the node's output (R3); what people were asked is never passed over (H4)."""
    return node.step.node.fallback == "continue" and node.step.node.kind != "ask"


def carry_on(turn: Turn, node: NodeState, code: str, message: str) -> None:
    """Complete the node with an error entry in place of an output, so that the others go on (R3).

    The entry is not held against the node's contract: whoever reads the output is told of both.
    """
    record(turn, node)
    turn.emit(NodeError(node.attempt, code, message, "continue"), node.node_id)
    turn.complete(node, error_entry(node.node_id, code, message))
    frontier.node_ended(turn, node)


def ask_effect(turn: Turn, node: NodeState, message: str) -> None:
    """A non-repeatable effect may have happened: only a person can know (design §4, effects)."""
    name = node.step.node.capability_id or node.node_id
    spec = PromptSpec(
        kind=PromptKind.EFFECT_CHECK,
        question=f"Did {name} happen? {message} It is not repeated unless you say that it did not happen."[:4_000],
        proposed=None if node.inputs is None else dict(node.inputs),
    )
    ask(turn, node, spec, "effect")
