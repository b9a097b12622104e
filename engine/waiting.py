"""Waiting without holding anything: timers and callbacks of nodes (H1; docs/decisions/0006)."""

from __future__ import annotations

from contracts.outcome import Await, Sleep
from engine.signals import CalledBack
from engine.state import NodeState
from engine.turn import Turn


def sleep(turn: Turn, node: NodeState, outcome: Sleep) -> None:
    """Let a delay wait for its time."""
    raise NotImplementedError


def wait_for_callback(turn: Turn, node: NodeState, outcome: Await) -> None:
    """Let a node wait for its callback; one that came early is taken at once."""
    raise NotImplementedError


def called_back(turn: Turn, signal: CalledBack) -> None:
    """Complete, fail, or keep for later what the outside world answered."""
    raise NotImplementedError
