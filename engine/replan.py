"""Asking the planner again: runtime rules, a fallback, or people's request; bounded rounds (F5, F6).

What becomes of the answer is in ``engine/adopting.py``.
"""

from __future__ import annotations

from dataclasses import asdict, replace
from typing import Any, Final

from contracts.events import PlanRequested
from contracts.lifecycle import NodeStatus, RunStatus, move_run
from engine.drafting import MODEL
from engine.signals import ReplanAsked
from engine.state import NodeState, RunState
from engine.turn import Turn

FAILED: Final = "plan"
"""``NodeState.asked`` of a node that waits for another plan"""


def rounds_left(turn: Turn) -> bool:
    """Say whether the planner may be asked once more (``World.max_rounds`` in all, the first plan included).

    Rounds in which a model's plan was mended belong to the question that they are about.
    """
    return turn.state.ledger.round - turn.state.ledger.repairs < turn.world.max_rounds


def ask_again(
    turn: Turn,
    node: NodeState | None,
    *,
    author: str,
    reason: str,
    notes: tuple[str, ...] = (),
    optional: bool = False,
    strategy: str | None = None,
) -> None:
    """Ask for another plan, leaving out the capability of the node that it is about.

    ``optional``: the run can go on as it is, so a refusal changes nothing. Else a refusal ends it with ``no_plan``.
    ``strategy`` is the run's own when it is not given.
    """
    state = turn.state
    turn.resume("replan")
    state.ledger.round += 1
    blamed = node.step.node.capability_id if node is not None else None
    if blamed is not None and blamed not in state.ledger.without:
        state.ledger.without.append(blamed)
    strategy = strategy or state.ledger.strategy
    turn.emit(PlanRequested(state.ledger.round, strategy))
    if node is not None and node.status is NodeStatus.RUNNING:
        turn.move(node, NodeStatus.READY)
    elif node is not None and node.status is NodeStatus.WAITING and not optional:
        # It waits for the new plan now; whatever it waited for before has come, or comes too late.
        node.asked = FAILED
        turn.touch(node)
    state.status = move_run(state.status, RunStatus.PLANNING)
    without = frozenset(state.ledger.without)
    node_id = node.node_id if node is not None else None
    earlier = unanswered(state)
    failed = () if earlier is None else earlier.failed
    if node_id is not None and not optional:
        failed = (*failed, node_id)
    # A question that takes the place of another one answers for it too.
    optional = optional and (earlier is None or earlier.optional)
    asked = ReplanAsked(state.ledger.round, without, notes, author, reason, node_id, optional=optional, failed=failed)
    put(turn, replace(asked, strategy=strategy, drafts=1 if strategy == MODEL else 0))


def edited(turn: Turn, plan: Any, gate_id: str) -> None:
    """Make the question that was just put one about a plan that a person wrote: checked, not searched."""
    if turn.out.replan is not None:
        put(turn, replace(turn.out.replan, edited=plan, node_id=gate_id))


def put(turn: Turn, asked: ReplanAsked) -> None:
    """Ask, and keep the question with the run until it is answered: this process may die in between.

    While the run is paused nothing is started, so a model is asked after the pause.
    """
    held = asked.strategy == MODEL and turn.state.ledger.paused is not None
    asked = replace(asked, held=held)
    turn.out.replan = None if held else asked
    turn.state.ledger.asked = kept(asked)


def kept(asked: ReplanAsked) -> dict[str, Any]:
    """Return a question as it stands in the ledger."""
    return asdict(asked) | {"without": sorted(asked.without)}


def unanswered(state: RunState) -> ReplanAsked | None:
    """Return the question to the planner that nobody answered yet."""
    asked = state.ledger.asked
    if asked is None:
        return None
    lists = {name: tuple(asked.get(name, ())) for name in ("notes", "findings", "failed")}
    return ReplanAsked(**asked | lists | {"without": frozenset(asked["without"])})
