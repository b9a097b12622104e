"""Which nodes may run now: in-degree counters, so a node's end costs its out-degree and nothing else (design §4)."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.expressions import ExpressionFailed
from contracts.lifecycle import NodeStatus
from engine import calls, first_of, items, rules
from engine.compiled import Step, Way
from engine.outputs import OutputsView
from engine.state import NodeState
from engine.turn import Turn

open_node = items.open_node


def begin(turn: Turn) -> None:
    """Queue every root of the plan that has no state yet."""
    plan = turn.state.plan
    for node_id in plan.roots:
        if node_id not in turn.state.nodes:
            turn.make_ready(open_node(turn, plan.steps[node_id]))


def node_ended(turn: Turn, node: NodeState) -> None:
    """Let runtime rules see what has completed, then advance what comes after it, unless a rule has it wait (F5)."""
    watched = turn.state.envelope.policies.runtime and node.status is NodeStatus.COMPLETED
    if not watched or rules.completed(turn, node):
        proceed(turn, node)


def proceed(turn: Turn, node: NodeState) -> None:
    """Advance what comes after an ended node, through every node that is skipped because of it.

    Iterative: a chain of ten thousand skipped nodes must not need as many stack frames.
    """
    if node.parent is not None:
        go_on(turn, turn.state.nodes[node.parent])
        return
    line = [node]
    while line:
        current = line.pop()
        turn.state.ended_nodes += 1
        ways = _ways_taken(turn, current)
        if ways is None:
            return
        for way, taken in ways:
            line.extend(_arrive(turn, way, taken=taken, upstream=current))


def _ways_taken(turn: Turn, node: NodeState) -> Sequence[tuple[Way, bool]] | None:
    """Decide every way out; None when a condition failed and ended the run."""
    if node.status is not NodeStatus.COMPLETED:
        failed = node.status is NodeStatus.FAILED
        return [(way, failed and way.on_error) for way in node.step.ways]
    if node.step.completed_ways is not None:
        return node.step.completed_ways
    side = node.output["taken"] if node.step.kind.spec.name == "branch" else None
    decided: list[tuple[Way, bool]] = []
    for way in node.step.ways:
        try:
            decided.append((way, _takes(turn, way, side)))
        except ExpressionFailed as error:
            turn.fail("node_failed", f"The condition of an edge could not be read: {error}", node.node_id)
            return None
    if node.step.recorded:
        node.taken = [way.to for way, taken in decided if taken]
    return decided


def _takes(turn: Turn, way: Way, side: bool | None) -> bool:
    if way.on_error:
        return False
    if way.side is not None and side is not None and way.side is not side:
        return False
    if way.condition is None:
        return True
    view = OutputsView(turn.state)
    return way.condition.holds(view.only(way.condition.names or None), turn.state.envelope.inputs)


def _arrive(turn: Turn, way: Way, *, taken: bool, upstream: NodeState) -> Sequence[NodeState]:
    """Count one decided way in; return the nodes that are skipped by it."""
    state = turn.state
    step = state.plan.steps[way.to]
    left = state.unresolved.get(way.to, step.indegree) - 1
    state.unresolved[way.to] = left
    if taken and way.counts:
        state.live.add(way.to)
    if way.to in state.nodes:
        return ()
    if way.to in state.live and (left == 0 or step.first_is_enough):
        turn.make_ready(open_node(turn, step))
        return _superseded(turn, step) if state.plan.losers else ()
    if left == 0:
        node = open_node(turn, step)
        turn.skip(node, _why_skipped(way, upstream))
        return (node,)
    return ()


def _why_skipped(way: Way, upstream: NodeState) -> str:
    if upstream.status is not NodeStatus.COMPLETED:
        return "upstream_skipped"
    return "no_error" if way.on_error else "condition_false"


def _superseded(turn: Turn, join: Step) -> Sequence[NodeState]:
    """End what only this join was waiting for, and no longer does; return what was ended."""
    state = turn.state
    dropped = []
    for node_id in state.plan.losers.get(join.node_id, ()):
        node = state.nodes.get(node_id) or open_node(turn, state.plan.steps[node_id])
        if not node.ended and first_of.drop(turn, node):
            dropped.append(node)
    return dropped


def expand(turn: Turn, node: NodeState, listed: list[object]) -> None:
    """Unfold a map."""
    if items.unfold(turn, node, listed):
        node_ended(turn, node)


def go_on(turn: Turn, outer: NodeState) -> None:
    """Go on with a map, a loop or a chat after an item of it ended, or before a loop's first round."""
    if calls.is_chat(outer):
        calls.advance(turn, outer)
    elif not outer.ended and items.advance(turn, outer):
        node_ended(turn, outer)
