"""Loops: one inner node again and again, bounded (F6)."""

from __future__ import annotations

from contracts.outcome import Iterate
from engine.state import NodeState
from engine.turn import Turn


def begin(turn: Turn, node: NodeState, outcome: Iterate) -> None:
    """Begin the first round."""
    raise NotImplementedError
