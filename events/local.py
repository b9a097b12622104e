"""Nudges inside one process: straight calls.

Several processes on one SQLite file get by with it: they find each other's work by the ticks of the feed and of the
workers' claims.
"""

from __future__ import annotations

from collections.abc import Callable

OnRun = Callable[[str, str | None], None]
"""(run id, the worker that holds it or None): look at this run's signals now."""
OnEvents = Callable[[str, int], None]
"""(run id, seq): another process's run has events up to seq."""


class LocalNudge:
    """The ``Nudge`` port for one process. ``attach`` names who is told; until then nobody is."""

    def __init__(self) -> None:
        """Start with nobody to tell."""
        self._on_run: OnRun | None = None

    def attach(self, on_run: OnRun, on_events: OnEvents | None = None) -> None:
        """Name who is told of signals. ``on_events`` is not used: this process's feed hears of its commits itself."""
        self._on_run = on_run

    def run(self, run_id: str, worker: str | None) -> None:
        """Pass it on at once."""
        if self._on_run is not None:
            self._on_run(run_id, worker)

    def events(self, run_id: str, seq: int) -> None:
        """Do nothing: there is no other process to tell."""
