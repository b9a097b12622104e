"""Child runs: born in their parent's transition, and heard of by mail (design §4, children)."""

from __future__ import annotations

from contracts.outcome import Spawn
from engine.signals import ChildEnded
from engine.state import NodeState
from engine.turn import Turn


def spawn(turn: Turn, node: NodeState, outcome: Spawn) -> None:
    """Have the child run born with this transition; the node waits for it."""
    raise NotImplementedError


def ended(turn: Turn, signal: ChildEnded) -> None:
    """Complete or fail the node whose child run ended."""
    raise NotImplementedError
