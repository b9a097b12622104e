"""Runtime rules: every trigger that is accepted fires (F5; docs/decisions/0006)."""

from __future__ import annotations

from engine.signals import Triggered
from engine.turn import Turn


def manual(turn: Turn, signal: Triggered) -> None:
    """Fire a ``manual`` rule."""
    raise NotImplementedError
