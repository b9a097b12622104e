"""A run whose plan a model writes: its rounds, from the first request to a plan or the end (F4, design §4).

A question to the model is part of the run's ledger, so whoever holds the run can go on with it. Its rounds are
``plan_requested`` and ``plan_rejected`` in turn: at most :data:`engine.drafting.MODEL_ROUNDS` of the model, then the
search. A round that was lost with its process is a rejected one, so that none is asked for ever.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import orjson

from contracts.events import PlanGenerated, PlanRejected, PlanRequested
from contracts.lifecycle import RunStatus, move_run
from contracts.plan import Finding, OutputMap, PlanGraph
from contracts.ports import Planned, Unplannable
from engine import adopting, replan
from engine.compiled import CompiledPlan
from engine.drafting import MODEL, MODEL_AUTHOR, MODEL_ROUNDS, SEARCH
from engine.retry import delay_ms
from engine.signals import ReplanAsked, Replanned
from engine.spending import overspent
from engine.state import RunState
from engine.turn import Turn

UNPLANNED: Final = CompiledPlan(
    graph=PlanGraph.model_construct(nodes=[], output=OutputMap.model_construct(map={})),
    steps={},
    roots=(),
    output_gates=(),
)
"""Stands for the plan of a run that has none yet; it is never stored or shown."""
LOST: Final = "planner_lost"
_BUSY: Final = frozenset({"model_unreachable", "model_busy"})
"""Findings after which the model is given time."""
_UNHEARD: Final = _BUSY | {LOST}
"""Findings that say nothing about a plan: the model is asked once more what it was asked before."""


NO_PLAN: Final = "There is no plan for this objective; the findings say what is missing and what would help."


def has_plan(state: RunState) -> bool:
    """Say whether the run's plan is there."""
    return state.plan is not UNPLANNED


def open_question(state: RunState) -> ReplanAsked:
    """Put the first question of a run: a plan by the model. The caller writes its ``plan_requested``."""
    asked = ReplanAsked(state.ledger.round, author=MODEL_AUTHOR, reason=MODEL, strategy=MODEL, drafts=1)
    state.ledger.asked = replan.kept(asked)
    return asked


def begin(turn: Turn) -> None:
    """A run without a plan has a holder: ask what was requested when it was accepted."""
    asked = replan.unanswered(turn.state)
    if asked is not None:
        replan.put(turn, asked)


def recover(turn: Turn) -> None:
    """Go on with a question that a former holder had put: the search again, the model in a round of its own."""
    asked = replan.unanswered(turn.state)
    if asked is None or turn.out.replan is not None:
        return
    if asked.strategy != MODEL or asked.held:
        turn.out.replan = None if asked.held else asked
        return
    message = "The process that asked the model stopped before it answered."
    lost = Finding(layer="capability", code=LOST, message=message)
    _next_round(turn, asked, (lost,), Replanned(Unplannable((lost,)), MODEL_AUTHOR, asked.reason))


def keeps_still(turn: Turn) -> bool:
    """Say whether an open question keeps everything from moving; one that a pause held back is asked after it."""
    asked = replan.unanswered(turn.state)
    if asked is not None and asked.held and turn.state.ledger.paused is None:
        turn.state.status = move_run(turn.state.status, RunStatus.PLANNING)
        replan.put(turn, replace(asked, held=False))
    return asked is not None


def held_back(turn: Turn) -> bool:
    """Say whether the open question waits for the end of a pause."""
    asked = turn.state.ledger.asked
    return asked is not None and bool(asked.get("held"))


def answered(turn: Turn, signal: Replanned, compile_: adopting.Compile) -> None:
    """Take the answer to the open question: a plan, another round, the search, or the end. A stale one is dropped."""
    state = turn.state
    asked = replan.unanswered(state)
    if asked is None or asked.round != signal.round or asked.held:
        return
    state.ledger.spend(signal.usage)
    refused = _refused(turn, signal.result)
    if asked.strategy == MODEL and refused is not None:
        _next_round(turn, asked, refused.findings, signal)
    elif has_plan(state):
        adopting.take(turn, signal, compile_)
    else:
        state.ledger.asked = None
        _first(turn, signal.result, compile_)


def _refused(turn: Turn, result: Planned | Unplannable) -> Unplannable | None:
    """Return why a plan cannot be taken, None when it can."""
    if isinstance(result, Unplannable):
        return result
    clash = adopting.changed_under_foot(turn, result.plan) if has_plan(turn.state) else None
    return None if clash is None else Unplannable((clash,))


def _next_round(turn: Turn, asked: ReplanAsked, found: Sequence[Finding], signal: Replanned) -> None:
    """Reject what was said and ask again: the model while a round is left and could help, then the search."""
    ledger = turn.state.ledger
    findings = wire(found)
    turn.emit(PlanRejected(asked.round, findings))
    if overspent(turn):
        return
    again = not signal.hopeless and asked.drafts < MODEL_ROUNDS
    ledger.round += 1
    ledger.repairs += 1
    turn.emit(PlanRequested(ledger.round, MODEL if again else SEARCH))
    question = replace(asked, round=ledger.round, strategy=MODEL if again else SEARCH, drafts=asked.drafts + 1)
    if not any(finding.code in _UNHEARD for finding in found):
        question = replace(question, said=signal.said, findings=tuple(findings))
    replan.put(turn, replace(question, delay_ms=_pause_ms(turn, asked, found, signal.after_ms) if again else 0))


def _pause_ms(turn: Turn, asked: ReplanAsked, found: Sequence[Finding], after_ms: int | None) -> int:
    """Return how long a model that could not answer is left alone; one that answered badly is asked at once."""
    if not any(finding.code in _BUSY for finding in found):
        return 0
    policy = turn.state.envelope.policies.retry
    wait = delay_ms(policy, asked.drafts, turn.world.random.uniform()) if after_ms is None else after_ms
    return min(wait, policy.max_ms)


def _first(turn: Turn, result: Planned | Unplannable, compile_: adopting.Compile) -> None:
    """Take the first plan of the run, or end it: nobody found one."""
    state = turn.state
    if isinstance(result, Unplannable):
        findings = wire(result.findings)
        turn.emit(PlanRejected(state.ledger.round, findings))
        turn.fail("no_plan", NO_PLAN, None, findings)
        return
    plan = result.plan
    state.status = move_run(state.status, RunStatus.RUNNING)
    state.plan, state.plan_version = compile_(plan), plan.plan_version
    turn.emit(PlanGenerated(orjson.Fragment(plan.wire)))
    turn.out.new_plan = (MODEL_AUTHOR if plan.strategy == MODEL else "planner", plan.strategy)


def wire(findings: Sequence[Finding]) -> list[dict[str, Any]]:
    """Return findings as they stand in frames."""
    return [finding.model_dump(mode="json", exclude_none=True) for finding in findings]
