"""Pausing and resuming a run by hand or by policy, and its scheduled start: gates before every dispatch.

See docs/decisions/0006. Would have survived prefect#20388 and #17822: there, a pause did not pause.
"""

from __future__ import annotations

from engine.signals import PauseAsked, ResumeAsked
from engine.state import RunState
from engine.turn import Turn


def gated(state: RunState) -> bool:
    """Say whether nothing may be started now: the run is paused, or its time has not come."""
    return state.ledger.paused is not None or state.start_at is not None


def pause(turn: Turn, signal: PauseAsked) -> None:
    """Let nothing more be started; a run that is paused already stays so, with the first reason."""
    turn.out.answered.append((signal.signal_id, "applied"))
    pause_run(turn, signal.by, signal.reason)


def pause_run(turn: Turn, by: str, reason: str | None) -> None:
    """Pause the run on behalf of ``by``. What runs may end; then the run waits on ``paused`` until it is resumed."""
    if turn.state.ledger.paused is None:
        turn.state.ledger.paused = {"by": by, "reason": reason, "at": turn.now}


def resume(turn: Turn, signal: ResumeAsked) -> None:
    """End the pause; without one there is nothing to do."""
    if turn.state.ledger.paused is None:
        turn.out.answered.append((signal.signal_id, "superseded"))
        return
    turn.out.answered.append((signal.signal_id, "applied"))
    turn.state.ledger.paused = None
    turn.resume("resume")


def begin_scheduled(turn: Turn) -> None:
    """The scheduled time has come: the run begins now."""
    turn.state.start_at = None
    turn.state.started_at = turn.now
    turn.resume("timer")
