"""Which nodes may run now: in-degree counters, so a node's end costs its out-degree and nothing else (design §4)."""

from __future__ import annotations

from contracts.expressions import ExpressionFailed
from contracts.lifecycle import NodeStatus
from engine.compiled import Step, Way, compile_step, item_node
from engine.outputs import OutputsView
from engine.state import NodeState
from engine.turn import Turn


def open_node(turn: Turn, step: Step, parent: str | None = None) -> NodeState:
    """Give a pending node its state."""
    node = NodeState(step=step, parent=parent, generation=turn.state.ledger.generations.get(step.node_id, 0))
    turn.state.nodes[step.node_id] = node
    return node


def begin(turn: Turn) -> None:
    """Queue every root of the plan that has no state yet."""
    plan = turn.state.plan
    for node_id in plan.roots:
        if node_id not in turn.state.nodes:
            turn.make_ready(open_node(turn, plan.steps[node_id]))


def node_ended(turn: Turn, node: NodeState) -> None:
    """Advance what comes after an ended node, through every node that is skipped because of it.

    Iterative: a chain of ten thousand skipped nodes must not need as many stack frames.
    """
    if node.parent is not None:
        _item_ended(turn, turn.state.nodes[node.parent])
        return
    line = [node]
    while line:
        current = line.pop()
        turn.state.ended_nodes += 1
        ways = _ways_taken(turn, current)
        if ways is None:
            return
        for way, taken in ways:
            skipped = _arrive(turn, way, taken=taken, upstream=current)
            if skipped is not None:
                line.append(skipped)


def _ways_taken(turn: Turn, node: NodeState) -> list[tuple[Way, bool]] | None:
    """Decide every way out; None when a condition failed and ended the run."""
    if node.status is not NodeStatus.COMPLETED:
        return [(way, False) for way in node.step.ways]
    if not node.step.recorded and all(way.side is None for way in node.step.ways):
        return [(way, True) for way in node.step.ways]
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
    if way.side is not None and side is not None and way.side is not side:
        return False
    if way.condition is None:
        return True
    view = OutputsView(turn.state)
    return way.condition.holds(view.only(way.condition.names or None), turn.state.envelope.inputs)


def _arrive(turn: Turn, way: Way, *, taken: bool, upstream: NodeState) -> NodeState | None:
    """Count one decided way in; return the node if it is skipped by it."""
    state = turn.state
    step = state.plan.steps[way.to]
    left = state.unresolved.get(way.to, step.indegree) - 1
    state.unresolved[way.to] = left
    if taken and way.counts:
        state.live.add(way.to)
    if way.to in state.nodes:
        return None
    first_is_enough = step.kind.spec.name == "join" and step.own.wait == "any"
    if way.to in state.live and (left == 0 or first_is_enough):
        turn.make_ready(open_node(turn, step))
    elif left == 0:
        node = open_node(turn, step)
        turn.skip(node, "upstream_skipped" if upstream.status is not NodeStatus.COMPLETED else "condition_false")
        return node
    return None


def expand(turn: Turn, node: NodeState, items: list[object]) -> None:
    """Unfold a map: the first items are queued, up to the map's own concurrency."""
    node.items, node.next_item, node.items_left = items, 0, len(items)
    if not items:
        map_ended(turn, node)
        return
    turn.move(node, NodeStatus.WAITING)
    for _ in range(min(len(items), node.step.own.concurrency)):
        queue_next_item(turn, node)


def queue_next_item(turn: Turn, node: NodeState) -> None:
    """Open the next item of a map that has one."""
    if node.next_item < len(node.items):
        turn.make_ready(open_node(turn, item_step(turn, node, node.next_item), parent=node.node_id))
        node.next_item += 1


def item_step(turn: Turn, node: NodeState, index: int) -> Step:
    """Return the step of one item, compiled from the map's inner node."""
    inner = item_node(node.step.node, node.step.own.inner(), index, node.step.own.as_, node.items[index])
    return compile_step(inner, turn.world.kinds, node.step.max_attempts, node.step.timeout_seconds)


def _item_ended(turn: Turn, parent: NodeState) -> None:
    parent.items_left -= 1
    if parent.items_left == 0:
        map_ended(turn, parent)
    else:
        queue_next_item(turn, parent)


def map_ended(turn: Turn, parent: NodeState) -> None:
    """Complete a map whose items ended, if the list fits its contract; else people or the policy decide (F11)."""
    output = gathered(turn, parent)
    findings = turn.world.contracts.of(parent.step, turn.state.plan).findings(output)
    if findings:
        parent.refused = output
        turn.out.misfits.append((parent.node_id, findings))
        return
    turn.complete(parent, output)
    node_ended(turn, parent)


def gathered(turn: Turn, parent: NodeState) -> list[object]:
    """Return the outputs of a map's items in order; null stands for a skipped one."""
    children = (turn.state.nodes[f"{parent.node_id}[{index}]"] for index in range(len(parent.items)))
    return [child.output if child.status is NodeStatus.COMPLETED else None for child in children]
