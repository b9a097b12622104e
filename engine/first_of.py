"""What a ``join wait: any`` no longer needs once its first way in was taken (F6; docs/decisions/0006).

Waiting nodes are withdrawn, nodes that have not begun are skipped, running ones without effects are stopped. A running
call with effects is left to end; the join ignores what comes of it. The frame of each is ``node_skipped`` with reason
``superseded``.
"""

from __future__ import annotations

from typing import Final

from contracts.events import HitlResolved
from contracts.lifecycle import NodeStatus, PromptStatus
from engine.state import NodeState, RunState
from engine.turn import Turn

SUPERSEDED: Final = "superseded"


def is_superseded(state: RunState, node: NodeState) -> bool:
    """Say whether a join has what it needs without this node (or the map or loop that it is an item of)."""
    if not state.plan.loses:
        return False
    outer = node
    while outer.parent is not None:
        outer = state.nodes[outer.parent]
    return any(join in state.nodes for join in state.plan.loses.get(outer.node_id, ()))


def drop(turn: Turn, node: NodeState) -> bool:
    """End a node that is not needed any more; False when it is left to end by itself."""
    step = node.step
    if node.status is NodeStatus.RUNNING and step.node.effects != "none" and not step.kind.pure:
        return False
    for item in [item for item in turn.state.nodes.values() if item.parent == node.node_id and not item.ended]:
        drop(turn, item)
    _withdraw(turn, node)
    turn.skip(node, SUPERSEDED)
    return True


def _withdraw(turn: Turn, node: NodeState) -> None:
    """Take a node out of every line it stands in."""
    state, node_id = turn.state, node.node_id
    if node.status is NodeStatus.RUNNING:
        state.running.discard(node_id)
        turn.out.abort.append(node_id)
        if node_id in turn.out.dispatch:
            turn.out.dispatch.remove(node_id)
    elif node_id in state.ready:
        state.ready.remove(node_id)
    state.backoff.discard(node_id)
    if node.prompt_id is not None and state.prompts.pop(node.prompt_id, None) is not None:
        turn.out.withdrawn.append(node.prompt_id)
        turn.emit(HitlResolved(node.prompt_id, PromptStatus.WITHDRAWN.value, None), node_id)
        node.prompt_id = node.asked = None
    turn.call_off(node, f"run:{state.run_id}", f"{node_id} is not needed any more.")
    early = state.parked.pop(node_id, None)
    if early is not None:
        turn.out.answered.append((early.signal_id, SUPERSEDED))
