"""Pausing and resuming a run by hand or by policy, and its scheduled start: gates before every dispatch.

See docs/decisions/0006. Would have survived prefect#20388 and #17822: there, a pause did not pause.
"""

from __future__ import annotations

from engine.signals import PauseAsked, ResumeAsked
from engine.state import NodeState, RunState
from engine.turn import Letter, Turn


def gated(state: RunState) -> bool:
    """Say whether nothing may be started now: the run is paused, or it cannot begin yet."""
    return state.ledger.paused is not None or to_come(state)


def to_come(state: RunState) -> bool:
    """Say whether the run cannot begin yet: its time has not come, or documents that it needs have not."""
    return state.start_at is not None or bool(state.ledger.missing)


def pause(turn: Turn, signal: PauseAsked) -> None:
    """Let nothing more be started; a run that is paused already stays so, with the first reason."""
    turn.out.answered.append((signal.signal_id, "applied"))
    pause_run(turn, signal.by, signal.reason)


def pause_run(turn: Turn, by: str, reason: str | None) -> None:
    """Pause the run and its child runs on behalf of ``by``.

    What runs may end; then the run waits on ``paused`` until it is resumed.
    """
    state = turn.state
    if state.ledger.paused is None:
        state.ledger.paused = {"by": by, "reason": reason, "at": turn.now}
        for node_id in sorted(state.children):
            pause_child(turn, state.nodes[node_id])


def pause_child(turn: Turn, node: NodeState) -> None:
    """Have the child run that a node waits for paused, as long as this one is."""
    paused = turn.state.ledger.paused
    if paused is not None and node.child_run_id is not None:
        turn.out.mail.append(Letter(node.child_run_id, "pause", {"by": _name(turn), "reason": paused["reason"]}))


def _name(turn: Turn) -> str:
    """Return what a child run knows this one by: it undoes a pause of this run, and no other."""
    return f"run:{turn.state.run_id}"


def resume(turn: Turn, signal: ResumeAsked) -> None:
    """End the pause, also of the child runs that it paused; without one there is nothing to do.

    The end of a parent's pause ends only the pause that came from it: what people paused they resume.
    """
    state = turn.state
    paused = state.ledger.paused
    if paused is None or (signal.by.startswith("run:") and paused["by"] != signal.by):
        turn.out.answered.append((signal.signal_id, "superseded"))
        return
    turn.out.answered.append((signal.signal_id, "applied"))
    state.ledger.paused = None
    for node_id in sorted(state.children):
        child = state.nodes[node_id].child_run_id
        if child is not None:
            turn.out.mail.append(Letter(child, "resume", {"by": _name(turn)}))
    turn.resume("resume")


def begin_scheduled(turn: Turn) -> None:
    """The scheduled time has come: the run begins now."""
    turn.state.start_at = None
    turn.state.started_at = turn.now
    turn.resume("timer")
