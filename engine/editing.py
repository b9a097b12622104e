"""Plans that people edit while the run lives (design §4, plan edits; docs/decisions/0006)."""

from __future__ import annotations

from contracts.plan import PlanGraph
from engine import adopting
from engine.signals import PlanEdited
from engine.turn import Turn
from engine.versions import immutable
from engine.waiting import awaited


def edited(turn: Turn, signal: PlanEdited, compile_: adopting.Compile) -> None:
    """Take an edited plan, or answer that it came too late: on another version, or what it changes has begun.

    The door has checked the plan and left it as it would be stored; here only what may have changed since counts.
    """
    state = turn.state
    plan = PlanGraph.model_validate(signal.plan)
    old, cancel = state.plan.graph, frozenset(signal.cancel)
    stale = signal.base_version != state.plan_version or state.ledger.asked is not None
    if stale or immutable(old, plan, adopting.begun(state), cancel):
        turn.out.answered.append((signal.signal_id, "superseded"))
        return
    turn.out.answered.append((signal.signal_id, "applied"))
    adopting.adopt(turn, plan, signal.author, signal.reason, compile_, afresh=cancel)
    held = state.ledger.paused is not None or state.stops
    if not turn.ended() and not held and (state.ready or not awaited(state)):
        turn.resume("plan")
