"""Loops: one inner node again and again, bounded (F6)."""

from __future__ import annotations

from contracts.lifecycle import NodeStatus
from contracts.outcome import Iterate
from engine import frontier, items
from engine.state import NOTHING, NodeState
from engine.turn import Turn


def begin(turn: Turn, node: NodeState, outcome: Iterate) -> None:
    """Begin the first round, unless the condition says that there is none."""
    turn.move(node, NodeStatus.WAITING)
    fed = items.is_handler(node.step) or node.step.own.initial is not None
    node.carry = outcome.initial if fed else NOTHING
    frontier.go_on(turn, node)
