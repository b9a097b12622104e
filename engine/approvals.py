"""What an approval of a node's inputs holds for: exactly these inputs, this definition, this capability (H5).

A gate ``before`` a node keeps the hash of what was approved. It is compared when the node is dispatched, and again just
before its capability is called. If it is another, the gate, and only it, asks again under a new generation, about what
would run now; the node waits for it. Would have survived pydantic-ai#6968: there, approvers saw other arguments than
those that were executed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contracts.lifecycle import NodeStatus
from engine.asking import bound_hash
from engine.compiled import Step
from engine.items import open_node
from engine.outputs import bind
from engine.state import NOTHING, NodeState, RunState
from engine.turn import Turn

CHANGED = "What would run now is not what was approved."


def would_run(state: RunState, step: Step) -> dict[str, Any]:
    """Return a node's bound inputs as they are now; of a node that unfolds, what it unfolds from."""
    fed, handled = step.kind.spec.fed, step.handled
    if handled is not None:
        return {"error": state.error_of(handled)}
    if fed is None:
        return {
            name: value for name, binding in step.node.inputs.items() if (value := bind(state, binding)) is not NOTHING
        }
    source = getattr(step.own, fed)
    value = NOTHING if source is None else bind(state, source)
    return {} if value is NOTHING else {fed: value}


def digest(state: RunState, target_id: str, inputs: Mapping[str, Any]) -> str:
    """Return the hash of a node's run with these inputs: definition and chosen capability version are the node's."""
    step, node = state.step_of(target_id), state.nodes.get(target_id)
    names = step.node.inputs if step.kind.spec.fed is None else (step.kind.spec.fed,)
    taken = {name: inputs[name] for name in names if name in inputs}
    return bound_hash(taken, step.node, None if node is None else node.version)


def gate_of(state: RunState, node: NodeState) -> str | None:
    """Return the gate that has the last word on a node's inputs, or on those of the node that it is an item of."""
    guarded = state.plan.guarded
    return guarded.get(_outer(state, node).node_id) if guarded else None


def _outer(state: RunState, node: NodeState) -> NodeState:
    while node.parent is not None:
        node = state.nodes[node.parent]
    return node


def admits(turn: Turn, node: NodeState) -> bool:
    """Say whether a node's approval is there and holds; if it does not hold any more, its gate asks again."""
    state = turn.state
    gate_id = gate_of(state, node)
    if gate_id is None:
        return True
    gate = state.nodes.get(gate_id)
    if gate is None or gate.status is not NodeStatus.COMPLETED:
        return False
    if node.parent is not None:
        return True
    inputs = would_run(state, node.step)
    if gate.approved == digest(state, node.node_id, inputs):
        return True
    ask_again(turn, gate, inputs)
    return False


def refused_at_call(turn: Turn, node: NodeState) -> None:
    """Nothing was called, because what stands behind the capability's name changed: the gate asks again."""
    state = turn.state
    state.running.discard(node.node_id)
    turn.make_ready(node)
    node.resumed = True
    outer = _outer(state, node)
    gate = state.nodes.get(state.plan.guarded.get(outer.node_id, ""))
    if gate is not None and gate.status is NodeStatus.COMPLETED:
        ask_again(turn, gate, would_run(state, outer.step))


def ask_again(turn: Turn, gate: NodeState, inputs: Mapping[str, Any]) -> None:
    """Let a completed ``before`` gate ask about ``inputs``: its state begins anew, everything else stays as it is."""
    state = turn.state
    state.ended_nodes -= 1
    for way in gate.step.ways:
        state.unresolved[way.to] = state.unresolved.get(way.to, state.plan.steps[way.to].indegree) + 1
    state.ledger.generations[gate.node_id] = gate.generation + 1
    state.ledger.again[gate.node_id] = CHANGED
    turn.out.forgotten.append(gate.node_id)
    fresh = open_node(turn, gate.step)
    fresh.offered = dict(inputs)
    turn.make_ready(fresh)
