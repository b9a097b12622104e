"""Asking the planner again: runtime rules, a fallback, or people's request; bounded rounds (F5, F6)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

from contracts.events import HitlResolved, PlanRejected, PlanRequested, PlanUpdated, PolicyTriggered
from contracts.lifecycle import NodeStatus, PromptStatus, RunStatus, move_run
from contracts.plan import Finding, PlanGraph, PlanNode, plan_wire
from contracts.ports import Planned, Unplannable
from engine import frontier
from engine.asking import definition
from engine.compiled import CompiledPlan
from engine.signals import ReplanAsked, Replanned
from engine.state import NOTHING, NodeState, RunState
from engine.turn import Turn

Compile = Callable[[PlanGraph], CompiledPlan]


def on_validation_fail(turn: Turn, node: NodeState | None) -> bool:
    """Fire the first enabled ``on_validation_fail`` rule, if a round is left; True when a new plan was asked for."""
    for rule in turn.state.envelope.policies.runtime:
        if rule.enabled and rule.trigger.type == "on_validation_fail" and rule.action.type == "replan":
            if turn.state.ledger.round >= turn.world.max_rounds:
                return False
            turn.emit(
                PolicyTriggered(rule.id, rule.trigger.type, rule.action.type), None if node is None else node.node_id
            )
            ask_again(turn, node, author=f"policy:{rule.id}", reason="An output did not fit its contract.")
            return True
    return False


def ask_again(turn: Turn, node: NodeState | None, *, author: str, reason: str, notes: tuple[str, ...] = ()) -> None:
    """Ask for another plan, leaving out the capability of the node that failed."""
    state = turn.state
    state.ledger.round += 1
    blamed = node.step.node.capability_id if node is not None else None
    if blamed is not None and blamed not in state.ledger.without:
        state.ledger.without.append(blamed)
    turn.emit(PlanRequested(state.ledger.round, "search"))
    if node is not None and node.status is NodeStatus.RUNNING:
        turn.move(node, NodeStatus.READY)
    state.status = move_run(state.status, RunStatus.PLANNING)
    without = frozenset(state.ledger.without)
    node_id = node.node_id if node is not None else None
    _put(turn, ReplanAsked(state.ledger.round, without, notes, author, reason, node_id))


def edited(turn: Turn, plan: Any, gate_id: str) -> None:
    """Make the question that was just put one about a plan that a person wrote: checked, not searched."""
    if turn.out.replan is not None:
        _put(turn, replace(turn.out.replan, edited=plan, node_id=gate_id))


def _put(turn: Turn, asked: ReplanAsked) -> None:
    """Ask, and keep the question with the run until it is answered: this process may die in between."""
    turn.out.replan = asked
    turn.state.ledger.asked = asdict(asked) | {"without": sorted(asked.without)}


def unanswered(state: RunState) -> ReplanAsked | None:
    """Return the question to the planner that nobody answered yet."""
    asked = state.ledger.asked
    if asked is None:
        return None
    return ReplanAsked(**asked | {"without": frozenset(asked["without"]), "notes": tuple(asked["notes"])})


def take(turn: Turn, signal: Replanned, compile_: Compile) -> None:
    """Take the planner's answer: a new version of the plan, or the refusal and what the failure means without it."""
    asked = turn.state.ledger.asked
    if asked is None or asked["round"] != signal.round:
        return
    turn.state.ledger.asked = None
    turn.state.status = move_run(turn.state.status, RunStatus.RUNNING)
    if isinstance(signal.result, Planned):
        clash = _changed_under_foot(turn, signal.result.plan)
        if clash is None:
            _adopt(turn, signal.result.plan, signal, compile_)
        else:
            _refused(turn, signal, Unplannable((clash,)))
        return
    _refused(turn, signal, signal.result)


def _refused(turn: Turn, signal: Replanned, result: Unplannable) -> None:
    findings = [finding.model_dump(mode="json", exclude_none=True) for finding in result.findings]
    turn.emit(PlanRejected(turn.state.ledger.round, findings))
    turn.fail("no_plan", f"{signal.reason} There is no other plan.", signal.node_id, findings)


def _changed_under_foot(turn: Turn, plan: PlanGraph) -> Finding | None:
    """Find a node that completed, or waits for people, under another definition: it is never reopened."""
    for node in plan.nodes:
        state = turn.state.nodes.get(node.node_id)
        if state is not None and state.status is NodeStatus.COMPLETED and not _same(state.step.node, node):
            return Finding(
                layer="structure",
                code="completed_node_changed",
                message=f"{node.node_id} has completed and cannot change.",
                node_id=node.node_id,
                fix="Give the new work another node id.",
            )
    return None


def _same(one: PlanNode, other: PlanNode) -> bool:
    return definition(one) == definition(other)


def _adopt(turn: Turn, plan: PlanGraph, signal: Replanned, compile_: Compile) -> None:
    """Make the new plan the run's: completed nodes stay, everything else starts afresh under its new definition."""
    state = turn.state
    old = state.plan.graph
    state.plan_version += 1
    plan = plan.model_copy(update={"plan_version": state.plan_version})
    turn.emit(PlanUpdated(plan_wire(plan), state.plan_version - 1, diff(old, plan), signal.author, signal.reason))
    turn.out.new_plan = (signal.author, signal.reason)
    state.plan = compile_(plan)
    state.final = NOTHING
    _restart(turn, plan)


def diff(old: PlanGraph, new: PlanGraph) -> dict[str, list[str]]:
    """Return the node ids that were added, removed and changed."""
    before, after = old.by_id, new.by_id
    return {
        "added": [node_id for node_id in after if node_id not in before],
        "removed": [node_id for node_id in before if node_id not in after],
        "changed": [node_id for node_id in after if node_id in before and not _same(before[node_id], after[node_id])],
    }


def _restart(turn: Turn, plan: PlanGraph) -> None:
    """Rebuild the counters from what completed; unfinished nodes lose their state, dropped ones their row."""
    state = turn.state
    kept: dict[str, NodeState] = {}
    for node_id, node in state.nodes.items():
        if node.status is NodeStatus.COMPLETED and node.parent is None:
            kept[node_id] = node
            continue
        if node.status is NodeStatus.RUNNING:
            turn.out.abort.append(node_id)
        turn.out.changed.pop(node_id, None)
        turn.out.forgotten.append(node_id)
        state.ledger.generations[node_id] = node.generation + 1
    for prompt_id, prompt in state.prompts.items():
        turn.out.withdrawn.append(prompt_id)
        turn.emit(HitlResolved(prompt_id, PromptStatus.WITHDRAWN.value, None), prompt.node_id)
    state.prompts.clear()
    state.nodes, state.unresolved, state.live, state.ended_nodes = kept, {}, set(), 0
    for line in (state.ready, state.running, state.backoff, state.held):
        line.clear()
    # In the plan's order: the order in which nodes completed is not stored.
    for step in [step for step in state.plan.steps.values() if step.node_id in kept]:
        node = kept[step.node_id]
        node.step = step
        # Its ways out are decided again, under the new plan.
        turn.touch(node)
        frontier.node_ended(turn, node)
        if turn.ended():
            return
    frontier.begin(turn)
