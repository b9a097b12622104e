"""What may not be dispatched although it is ready: a policy asks first, a plan or its inputs are not approved (H5, H6).

A pause and a scheduled start hold everything and are looked at before (``engine/control.py``).
"""

from __future__ import annotations

from engine import approvals
from engine.state import NodeState, RunState
from engine.turn import Turn


def may_start(turn: Turn, node: NodeState) -> bool:
    """Say whether a ready node may be dispatched now; a gate whose approval does not hold any more asks again."""
    state = turn.state
    if state.stops:
        return False
    if state.plan.plan_gates and not _had_begun(node) and node.step.guards != "plan" and _in_review(state):
        return False
    return approvals.admits(turn, node)


def _had_begun(node: NodeState) -> bool:
    """Say whether a node goes on; what a begun node unfolds into belongs to it."""
    return node.attempt > 0 or node.parent is not None


def _in_review(state: RunState) -> bool:
    """Say whether people have still to approve the plan as it is."""
    gates = (state.nodes.get(gate_id) for gate_id in state.plan.plan_gates)
    return any(gate is None or not gate.ended for gate in gates)
