"""Plans that people edit while the run lives (design §4, plan edits)."""

from __future__ import annotations

from engine.signals import PlanEdited
from engine.turn import Turn


def edited(turn: Turn, signal: PlanEdited) -> None:
    """Take an edited plan, or answer that it came too late."""
    raise NotImplementedError
