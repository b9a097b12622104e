"""Pausing and resuming a run by hand or by policy: a gate before every dispatch (docs/decisions/0006)."""

from __future__ import annotations

from engine.signals import PauseAsked, ResumeAsked
from engine.turn import Turn


def pause(turn: Turn, signal: PauseAsked) -> None:
    """Let nothing more be started."""
    raise NotImplementedError


def resume(turn: Turn, signal: ResumeAsked) -> None:
    """End the pause."""
    raise NotImplementedError
