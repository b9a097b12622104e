"""Waiting without holding anything: timers and callbacks of nodes (H1; docs/decisions/0006)."""

from __future__ import annotations

from typing import Any, Final

from contracts.clock import rfc3339
from contracts.lifecycle import NodeStatus, WaitingOn
from contracts.outcome import Await, Fail, Sleep
from engine import failures, frontier
from engine.signals import CalledBack
from engine.state import NodeState, RunState
from engine.turn import Turn

CALLBACK_FAILED: Final = "callback_failed"
UNEXPLAINED: Final = "The callback said that it failed."
MAX_PARKED: Final = 100
"""Callbacks of one run that may come before their nodes wait for them; further ones are not kept."""


def awaited(state: RunState) -> tuple[str, ...]:
    """Return everything the run waits for, in a fixed order; empty when it waits for nothing."""
    found = (
        (WaitingOn.HITL, bool(state.prompts)),
        (WaitingOn.CALLBACK, bool(state.callbacks)),
        (WaitingOn.DOCUMENTS, bool(state.ledger.missing)),
        (WaitingOn.TIMER, state.start_at is not None or not state.timers <= state.callbacks),
        (WaitingOn.CHILDREN, bool(state.children)),
        (WaitingOn.PAUSED, state.ledger.paused is not None),
    )
    return tuple(name.value for name, holds in found if holds)


def next_wake(state: RunState) -> int | None:
    """Return the run's earliest timer (wall ms): a delay, a callback's timeout, the start, the end of its wall time."""
    if not state.timers and not state.alarms and state.start_at is None:
        return wall_at(state)
    times = [state.nodes[node_id].wake_at for node_id in state.timers]
    times += [state.start_at, wall_at(state)]
    times += [at for prompt_id, at in state.alarms.items() if prompt_id in state.prompts]
    return min((at for at in times if at is not None), default=None)


def wall_at(state: RunState) -> int | None:
    """Return when ``budget.wall_seconds`` is over (wall ms); waiting counts, the time before a scheduled start not."""
    seconds = state.envelope.policies.budget.wall_seconds
    if seconds is None:
        return None
    return max(state.created_at, state.envelope.starts_ms or 0) + round(seconds * 1_000)


def sleep(turn: Turn, node: NodeState, outcome: Sleep) -> None:
    """Let a delay wait for its time; one that has come ends it at once."""
    if outcome.until_ms <= turn.now:
        _deliver(turn, node, {"until": rfc3339(outcome.until_ms)})
        return
    hold_until(turn, node, outcome.until_ms)


def hold_until(turn: Turn, node: NodeState, until_ms: int) -> None:
    """Let a node wait for a time (wall ms); :func:`ring` says what happens then."""
    turn.move(node, NodeStatus.WAITING)
    node.wake_at = until_ms
    turn.state.timers.add(node.node_id)


def wait_for_callback(turn: Turn, node: NodeState, outcome: Await) -> None:
    """Let a node wait for its callback; one that came early is taken at once."""
    early = turn.state.parked.pop(node.node_id, None)
    if early is not None:
        turn.out.answered.append((early.signal_id, "applied"))
        _take(turn, node, early)
        return
    turn.move(node, NodeStatus.WAITING)
    turn.state.callbacks.add(node.node_id)
    if outcome.timeout_ms is not None:
        node.wake_at = turn.now + outcome.timeout_ms
        turn.state.timers.add(node.node_id)


def called_back(turn: Turn, signal: CalledBack) -> None:
    """Complete, fail, or keep for later what the outside world answered; an answer that is kept stays unanswered."""
    state = turn.state
    if signal.node_id in state.callbacks:
        turn.out.answered.append((signal.signal_id, "applied"))
        turn.resume("callback")
        _take(turn, state.nodes[signal.node_id], signal)
        return
    kept = state.parked.get(signal.node_id)
    if kept is not None and kept.signal_id == signal.signal_id:
        return
    refused = _refusal(state, signal.node_id)
    if refused is None:
        state.parked[signal.node_id] = signal
    else:
        turn.out.answered.append((signal.signal_id, refused))


def _refusal(state: RunState, node_id: str) -> str | None:
    """Return what a callback is answered that no node waits for; None when it is early and there is room to keep it."""
    node = state.nodes.get(node_id)
    if node is not None and node.ended:
        return "superseded" if node.status is NodeStatus.COMPLETED else "late"
    step = state.plan.steps.get(node_id) if node is None else node.step
    awaits = step is not None and step.kind.spec.called_back
    # A node that waits, and not for a callback, has had its own: people are asked about it.
    begun = node is not None and node.status is NodeStatus.WAITING
    full = node_id in state.parked or len(state.parked) >= MAX_PARKED
    return None if awaits and not begun and not full else "superseded"


def _take(turn: Turn, node: NodeState, signal: CalledBack) -> None:
    if signal.status == "completed":
        _deliver(turn, node, signal.output)
        return
    turn.let_go(node)
    failures.attempt_failed(turn, node, Fail(CALLBACK_FAILED, signal.error or UNEXPLAINED))


def doubt(turn: Turn, node: NodeState) -> None:
    """Ask about a call that must not be repeated and was lost, once its time is over: until then it may be at work.

    Its process's lease is over already, else nobody would hold the run.
    """
    until_ms = (node.called_at or node.started_at or 0) + round(node.step.timeout_seconds * 1_000)
    if until_ms > turn.now:
        hold_until(turn, node, until_ms)
    else:
        _ask_whether(turn, node)


def _ask_whether(turn: Turn, node: NodeState) -> None:
    turn.let_go(node)
    failures.ask_effect(turn, node, "The process that called it stopped before it answered.")


def ring(turn: Turn) -> None:
    """Act on every timer of a node that is due, earliest first."""
    state = turn.state
    times = ((state.nodes[node_id].wake_at or 0, node_id) for node_id in state.timers)
    for _, node_id in sorted(entry for entry in times if entry[0] <= turn.now):
        # One before it may have ended the run, or a join that it was for.
        if node_id in state.timers and not turn.ended() and turn.out.replan is None:
            turn.resume("timer")
            _time_is_up(turn, state.nodes[node_id])


def _time_is_up(turn: Turn, node: NodeState) -> None:
    if node.step.node.kind == "delay":
        _deliver(turn, node, {"until": rfc3339(node.wake_at or turn.now)})
    elif node.node_id not in turn.state.callbacks:
        _ask_whether(turn, node)
    elif node.step.own.on_timeout == "continue":
        _deliver(turn, node, None)
    else:
        turn.let_go(node)
        seconds = node.step.node.timeout_seconds or 0
        failures.attempt_failed(turn, node, Fail("callback_timeout", f"Nobody called back within {seconds:g} seconds."))


def _deliver(turn: Turn, node: NodeState, output: Any) -> None:
    """Complete a node with what came from outside; what does not fit is not tried again (F11)."""
    turn.let_go(node)
    findings = turn.world.contracts.of(node.step, turn.state.plan).findings(output)
    if findings:
        node.refused = output
        failures.attempt_failed(turn, node, Fail("output_invalid", "The output does not fit.", findings))
        return
    turn.complete(node, output)
    frontier.node_ended(turn, node)
