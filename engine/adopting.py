"""A new version of a run's plan: what completed stays, what has begun and stays as it is goes on, the rest is afresh.

The planner's answers come here, and plans that people wrote (design §4, plan edits; docs/decisions/0006). A node that
goes on keeps its attempt, its prompts, its timers, its callback and its child run.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Set
from typing import Any, Final

from contracts.events import HitlResolved, Log, PlanRejected, PlanUpdated
from contracts.lifecycle import NodeStatus, PromptStatus, RunStatus, move_run
from contracts.plan import Finding, PlanGraph, plan_wire
from contracts.ports import Planned, Unplannable
from engine import control, failures, frontier, rules
from engine.asking import OUTPUT_REPAIR
from engine.compiled import CompiledPlan
from engine.signals import Replanned
from engine.state import NOTHING, NodeState, RunState, order_of
from engine.turn import Turn
from engine.versions import Begun, asked_again, diff, same, untouched

Compile = Callable[[PlanGraph], CompiledPlan]
MAX_NAMES: Final = 20
"""How many nodes of one sort the question of a gate names."""


def take(turn: Turn, signal: Replanned, compile_: Compile) -> None:
    """Take the planner's answer: a new version of the plan, or the refusal and what the failure means without it."""
    asked = turn.state.ledger.asked
    if asked is None or asked["round"] != signal.round:
        return
    turn.state.ledger.asked = None
    turn.state.status = move_run(turn.state.status, RunStatus.RUNNING)
    # What became ready meanwhile was not started; the order in which it did is not stored.
    turn.state.ready = deque(sorted(turn.state.ready, key=order_of))
    result = signal.result
    if isinstance(result, Planned):
        clash = changed_under_foot(turn, result.plan)
        if clash is None:
            _take_plan(turn, signal, result.plan, asked, compile_)
            return
        result = Unplannable((clash,))
    _refused(turn, signal, result, asked)


def _take_plan(turn: Turn, signal: Replanned, plan: PlanGraph, asked: dict[str, Any], compile_: Compile) -> None:
    state = turn.state
    blamed = {*asked["failed"], signal.node_id} & state.nodes.keys()
    afresh = {name for name in blamed if not state.nodes[name].ended}
    why = None
    if asked["notes"] and plan.plan_hash == state.plan.graph.plan_hash:
        why = f"{asked['author']} asked for changes, and there is no other plan: this is the same one. {signal.reason}"
    adopt(turn, plan, signal.author, signal.reason, compile_, afresh=afresh, why=why)


def _refused(turn: Turn, signal: Replanned, result: Unplannable, asked: dict[str, Any]) -> None:
    state = turn.state
    findings = [finding.model_dump(mode="json", exclude_none=True) for finding in result.findings]
    turn.emit(PlanRejected(state.ledger.round, findings))
    node = state.nodes.get(signal.node_id or "")
    if asked["edited"] is not None and node is not None:
        said = "; ".join(finding.message for finding in result.findings[:MAX_NAMES])
        _ask_review_again(turn, node, f"The plan as {signal.author} edited it was refused: {said}")
    elif not asked["optional"]:
        turn.fail("no_plan", f"{signal.reason} There is no other plan.", signal.node_id, findings)
    else:
        state.ready.extend(_put_off(state))


def _put_off(state: RunState) -> list[str]:
    """Return the nodes that are ready and stand in no line: they waited for another plan."""
    lined = {*state.ready, *state.held}
    ready = (name for name, node in state.nodes.items() if node.status is NodeStatus.READY)
    return sorted((name for name in ready if name not in lined), key=order_of)


def _ask_review_again(turn: Turn, gate: NodeState, why: str) -> None:
    """Let a gate that was decided, and to no avail, ask once more about the plan as it stands."""
    state = turn.state
    _drop(turn, gate)
    state.ledger.again[gate.node_id] = why
    turn.make_ready(frontier.open_node(turn, gate.step))


def changed_under_foot(turn: Turn, plan: PlanGraph) -> Finding | None:
    """Find a node that completed under another definition: it is never reopened."""
    old = turn.state.plan.graph
    again = asked_again(old, plan, begun(turn.state))
    for node in plan.nodes:
        state = turn.state.nodes.get(node.node_id)
        if state is None or state.status is not NodeStatus.COMPLETED or node.node_id in again:
            continue
        known = old.by_id.get(node.node_id)
        if known is None or not same(known, node):
            return Finding(
                layer="structure",
                code="completed_node_changed",
                message=f"{node.node_id} has completed and cannot change.",
                node_id=node.node_id,
                fix="Give the new work another node id.",
            )
    return None


def begun(state: RunState) -> Begun:
    """Return the nodes that have an attempt, without the items of maps and loops."""
    return {
        name: node.status
        for name, node in state.nodes.items()
        if node.parent is None and (node.attempt > 0 or node.status is NodeStatus.COMPLETED)
    }


def adopt(
    turn: Turn,
    plan: PlanGraph,
    author: str,
    reason: str,
    compile_: Compile,
    *,
    afresh: Set[str],
    why: str | None = None,
) -> None:
    """Make ``plan`` the run's next version; ``afresh`` names nodes that begin anew although they are the same.

    ``why`` is what gates that ask again say about it; the author, the reason and the difference when it is not given.
    """
    state = turn.state
    old, had_begun = state.plan.graph, begun(state)
    again = asked_again(old, plan, had_begun)
    keep = untouched(old, plan, had_begun, afresh)
    changes = diff(old, plan)
    state.plan_version += 1
    plan = plan.numbered(state.plan_version)
    turn.emit(PlanUpdated(plan_wire(plan), state.plan_version - 1, changes, author, reason))
    turn.out.new_plan = (author, reason)
    state.plan = compile_(plan)
    if keep.isdisjoint(state.plan.output_gates):
        state.final = NOTHING
    said = why or f"Version {state.plan_version} of the plan{_named(changes)}, by {author}: {reason}"
    state.ledger.again.update(dict.fromkeys(again & plan.by_id.keys(), said))
    _restart(turn, keep)


def _named(changes: dict[str, list[str]]) -> str:
    """Return a difference in words, in brackets."""
    parts = []
    for what, names in changes.items():
        if names:
            more = "" if len(names) <= MAX_NAMES else f" and {len(names) - MAX_NAMES} more"
            parts.append(f"{what} {', '.join(names[:MAX_NAMES])}{more}")
    return f" ({'; '.join(parts)})" if parts else ""


def _restart(turn: Turn, keep: Set[str]) -> None:
    """Rebuild the counters under the new plan; what does not stay loses its state, and its row if it is not opened."""
    state = turn.state
    turn.quiet = {name for name, node in state.nodes.items() if node.status is NodeStatus.SKIPPED}
    staying = {name for name, node in state.nodes.items() if _stays(state, node, keep)}
    doubted = {name for name in state.nodes.keys() - staying if _may_have_acted(state, state.nodes[name])}
    roots = {_root(name) for name in doubted} & state.plan.steps.keys()
    doubtful = {name for name in roots if state.plan.steps[name].node.effects == "once"}
    over_at = {name: _over_at(state.nodes[name]) for name in doubted}
    staying |= doubtful
    _withdraw(turn, staying)
    for name in sorted(state.nodes.keys() - staying):
        _drop(turn, state.nodes[name])
    for name in sorted(state.parked.keys() - state.plan.steps.keys()):
        turn.out.answered.append((state.parked.pop(name).signal_id, "superseded"))
    _recount(turn)
    turn.quiet = set()
    doubtful = {name for name in doubtful if not state.nodes[name].ended}
    for name in sorted(doubted):
        if not turn.ended() and _root(name) not in doubtful:
            turn.emit(Log("warning", f"{name} was stopped, and is not called any more; it may have happened."))
    for name in sorted(doubtful):
        if not turn.ended():
            _doubt(turn, state.nodes[name], max(at for item, at in over_at.items() if _root(item) == name))


def _over_at(node: NodeState) -> int:
    """Return when the time of a node's attempt is over (wall ms)."""
    return (node.called_at or node.started_at or 0) + round(node.step.timeout_seconds * 1_000)


def _root(name: str) -> str:
    """Return the plan's node that a node is, or is an item of."""
    return name.split("[", 1)[0]


def _stays(state: RunState, node: NodeState, keep: Set[str]) -> bool:
    """Say whether a node keeps its state: it goes on, or it is history that the new plan has no use for."""
    root = state.nodes[_root(node.node_id)]
    if root.node_id in keep:
        return True
    if root is not node and root.node_id not in state.plan.steps:
        return False
    if root.rule is not None:
        held = state.nodes.get(root.holds or "")
        return root.ended or held is None or _stays(state, held, keep)
    if root.node_id == OUTPUT_REPAIR:
        # The answer as it was repaired is what an output gate that goes on shows.
        return root.ended and state.final is not NOTHING
    if root.node_id in state.plan.steps:
        return False
    return root.status is NodeStatus.COMPLETED


def _may_have_acted(state: RunState, node: NodeState) -> bool:
    """Say whether it is a call that must not be repeated, and nobody knows whether it happened."""
    if node.status is NodeStatus.WAITING:
        doubted = node.node_id in state.timers - state.callbacks and node.step.node.kind != "delay"
        return node.asked == "effect" or doubted
    return node.step.once and node.status is NodeStatus.RUNNING


def _withdraw(turn: Turn, staying: Set[str]) -> None:
    """Take back the open prompts of what does not stay."""
    state = turn.state
    for prompt_id, prompt in list(state.prompts.items()):
        if prompt.node_id not in staying:
            del state.prompts[prompt_id]
            turn.out.withdrawn.append(prompt_id)
            turn.emit(HitlResolved(prompt_id, PromptStatus.WITHDRAWN.value, None), prompt.node_id)


def _drop(turn: Turn, node: NodeState) -> None:
    """Forget a node: stop what runs, call off what it waits for; if it begins again its calls have other keys."""
    state, name = turn.state, node.node_id
    if node.status is NodeStatus.RUNNING:
        turn.out.abort.append(name)
    if node.status is NodeStatus.WAITING:
        turn.let_go(node)
    for line in (state.running, state.backoff, state.stops):
        line.discard(name)
    for queue in (state.ready, state.held):
        if name in queue:
            queue.remove(name)
    if node.attempt > 0:
        state.ledger.generations[name] = node.generation + 1
    del state.nodes[name]
    turn.out.changed.pop(name, None)
    turn.out.forgotten.append(name)


def _recount(turn: Turn) -> None:
    """Decide every way out of what has ended again, under the new plan, in its order, and open what may run."""
    state = turn.state
    state.unresolved, state.live, state.ended_nodes = {}, set(), 0
    held = rules.held_back(state)
    staying = [state.nodes[name] for name in state.plan.steps if name in state.nodes]
    for node in staying:
        node.step = state.plan.steps[node.node_id]
    # What ends because of them is counted as it ends.
    for node in [node for node in staying if node.ended and node.node_id not in held]:
        taken = node.taken
        frontier.proceed(turn, node)
        if node.taken != taken:
            turn.rewrite(node)
        if turn.ended():
            return
    state.ready.extend(_put_off(state))
    if not control.to_come(state):
        frontier.begin(turn)


def _doubt(turn: Turn, node: NodeState, over_at: int) -> None:
    """A call that must not be repeated was stopped: before it may begin again, people say whether it happened.

    They are asked once its time is over (``over_at``, wall ms): until then it may be at work somewhere else.
    """
    state = turn.state
    if node.status is NodeStatus.RUNNING:
        turn.out.abort.append(node.node_id)
        state.running.discard(node.node_id)
        turn.move(node, NodeStatus.WAITING)
    # What it had unfolded into is gone; if it begins again, it begins at the first.
    node.items, node.next_item, node.items_left, node.items_open, node.carry = [], 0, 0, 0, NOTHING
    if node.asked == "effect" or node.node_id in state.timers:
        return
    if over_at > turn.now:
        node.wake_at = over_at
        state.timers.add(node.node_id)
        turn.touch(node)
    else:
        failures.ask_effect(turn, node, "It was stopped by a change of the plan.")
