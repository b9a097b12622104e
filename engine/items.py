"""Nodes that unfold: the items of a map, several at a time, and the rounds of a loop, one after the other (F6).

Both are nodes of their own, ``name[0]``, ``name[1]`` and so on; the node they belong to waits for them.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Any

from contracts.expressions import ExpressionFailed, compile_cel
from contracts.lifecycle import NodeStatus
from contracts.outcome import Fail
from engine.compiled import Step, compile_step, item_node
from engine.outputs import OutputsView, bind
from engine.state import NOTHING, NodeState, RunState
from engine.turn import Turn


def open_node(turn: Turn, step: Step, parent: str | None = None) -> NodeState:
    """Give a pending node its state."""
    node = NodeState(step=step, parent=parent, generation=turn.state.ledger.generations.get(step.node_id, 0))
    turn.state.nodes[step.node_id] = node
    return node


def is_loop(node: NodeState) -> bool:
    """Say whether a node runs its items one after the other, each with the last one's output; a handler has one."""
    return node.step.kind.spec.name == "loop" or is_handler(node.step)


def is_handler(step: Step) -> bool:
    """Say whether a node stands in for one that failed."""
    return step.handled is not None


def item_step(turn: Turn, outer: NodeState, index: int) -> Step:
    """Return the step of one item, compiled from the inner node; a loop's item gets what the loop carries now."""
    given = outer.carry if is_loop(outer) else outer.items[index]
    parameter = None if given is NOTHING else outer.step.own.as_
    inner = item_node(outer.step.node, outer.step.own.inner(), index, parameter, given)
    return compile_step(inner, turn.world.kinds, outer.step.max_attempts, outer.step.timeout_seconds)


def _open(turn: Turn, outer: NodeState, index: int) -> None:
    """Queue an item."""
    turn.make_ready(open_node(turn, item_step(turn, outer, index), parent=outer.node_id))


def unfold(turn: Turn, outer: NodeState, items: list[object]) -> bool:
    """Unfold a map: the first items are queued, up to its own concurrency. True: there are none, it completed."""
    outer.items, outer.next_item, outer.items_left, outer.items_open = items, 0, len(items), 0
    if items:
        turn.move(outer, NodeStatus.WAITING)
    return _fill(turn, outer)


def advance(turn: Turn, outer: NodeState) -> bool:
    """Go on after an item ended, or before a loop's first: queue the next one, or complete. True when it completed.

    What cannot complete is put among the transition's misfits.
    """
    if is_loop(outer):
        return _next_round(turn, outer)
    outer.items_left -= 1
    outer.items_open -= 1
    return _fill(turn, outer)


def _fill(turn: Turn, outer: NodeState) -> bool:
    """Queue items of a map while there is room for them; conclude when none is left."""
    if outer.items_left == 0:
        return _conclude(turn, outer, gathered(turn.state, outer, len(outer.items)))
    while outer.next_item < len(outer.items) and outer.items_open < outer.step.own.concurrency:
        if f"{outer.node_id}[{outer.next_item}]" not in turn.state.nodes:
            _open(turn, outer, outer.next_item)
            outer.items_open += 1
        outer.next_item += 1
    return False


def _next_round(turn: Turn, loop: NodeState) -> bool:
    """Begin a loop's next round, or end it."""
    own, rounds = loop.step.own, loop.next_item
    if is_handler(loop.step):
        return _hand_over(turn, loop)
    if rounds:
        loop.carry = put_out(turn.state.nodes[f"{loop.node_id}[{rounds - 1}]"])
    try:
        over = _is_over(turn.state, loop)
    except ExpressionFailed as error:
        turn.out.misfits.append((loop.node_id, Fail("condition_failed", str(error))))
        return False
    if not over and rounds < own.max_iterations:
        _open(turn, loop, rounds)
        loop.next_item += 1
        return False
    if not over and own.on_exhausted == "fail":
        message = f"Its condition did not end it within {own.max_iterations:,} rounds."
        turn.out.misfits.append((loop.node_id, Fail("loop_exhausted", message)))
        return False
    last = None if loop.carry is NOTHING else loop.carry
    return _conclude(turn, loop, gathered(turn.state, loop, rounds) if own.collect else last)


def _hand_over(turn: Turn, handler: NodeState) -> bool:
    """Begin a handler's only round, or end the handler with what came of it."""
    if handler.next_item:
        return _conclude(turn, handler, put_out(turn.state.nodes[f"{handler.node_id}[0]"]))
    _open(turn, handler, 0)
    handler.next_item = 1
    return False


def _is_over(state: RunState, loop: NodeState) -> bool:
    """Ask the condition; ``until`` has nothing to say before the first round."""
    own = loop.step.own
    if own.until is not None and loop.next_item == 0:
        return False
    condition = compile_cel(own.condition_text)
    seen = OutputsView(state).only(condition.names or None)
    seen[loop.node_id] = {"output": None if loop.carry is NOTHING else loop.carry, "iteration": loop.next_item}
    holds = condition.holds(seen, state.envelope.inputs)
    return holds if own.until is not None else not holds


def recall(state: RunState, loop: NodeState, index: int) -> None:
    """Make a loop that is read from its rows carry what the round ``index`` was given; rounds are recalled in order."""
    loop.next_item = index + 1
    if is_handler(loop.step):
        loop.carry = state.error_of(loop.step.own.handles)
        return
    if index:
        loop.carry = put_out(state.nodes[f"{loop.node_id}[{index - 1}]"])
    elif loop.step.own.initial is not None:
        first = bind(state, loop.step.own.initial)
        loop.carry = None if first is NOTHING else first


def recount(state: RunState, outer: NodeState, held: Set[str] = frozenset()) -> None:
    """Bind a map's list again and count its items: what it is bound to completed before and never changes.

    An item that a rule has wait (``held``) counts as one that has not ended.
    """
    listed = bind(state, outer.step.own.over)
    outer.items = listed if isinstance(listed, list) else []
    items = [state.nodes.get(f"{outer.node_id}[{index}]") for index in range(len(outer.items))]
    done = sum(item is not None and item.ended and item.node_id not in held for item in items)
    outer.next_item = 0
    outer.items_open = sum(item is not None for item in items) - done
    outer.items_left = len(items) - done


def resume(turn: Turn, outer: NodeState) -> bool:
    """Go on with a map or a loop whose items so far were put in place; True when it completed."""
    if not is_loop(outer):
        return _fill(turn, outer)
    last = turn.state.nodes.get(f"{outer.node_id}[{outer.next_item - 1}]")
    return False if last is not None and not last.ended else _next_round(turn, outer)


def put_out(item: NodeState) -> Any:
    """Return the output of an ended item; null stands for a skipped one."""
    return item.output if item.status is NodeStatus.COMPLETED else None


def gathered(state: RunState, outer: NodeState, many: int) -> list[Any]:
    """Return the outputs of the first ``many`` items, in order."""
    return [put_out(state.nodes[f"{outer.node_id}[{index}]"]) for index in range(many)]


def _conclude(turn: Turn, outer: NodeState, output: Any) -> bool:
    """Complete the node if the output fits its contract; else people or the policy decide (F11)."""
    findings = turn.world.contracts.of(outer.step, turn.state.plan).findings(output)
    if findings:
        outer.refused = output
        turn.out.misfits.append((outer.node_id, Fail("output_invalid", "What it gathered does not fit.", findings)))
        return False
    turn.complete(outer, output)
    return True
