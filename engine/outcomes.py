"""Who left a signal hears at once, in the same process, what its holder answered; rows are the truth (design §4)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence


class Outcomes:
    """Futures of those who wait for the answers to signals. Other processes read the signal's row instead."""

    def __init__(self) -> None:
        """Start with nobody waiting."""
        self._waiting: dict[tuple[str, int], asyncio.Future[str]] = {}

    def expect(self, run_id: str, signal_id: int) -> asyncio.Future[str]:
        """Return what resolves with the outcome (``applied``, ``superseded``, ``late``); cancel it when done with it.

        It may never resolve: another process may hold the run.
        """
        key = (run_id, signal_id)
        waiting = self._waiting[key] = asyncio.get_running_loop().create_future()
        waiting.add_done_callback(lambda _done: self._waiting.pop(key, None))
        return waiting

    def tell(self, run_id: str, answered: Sequence[tuple[int, str]]) -> None:
        """Say which answers are committed now."""
        for signal_id, outcome in answered if self._waiting else ():
            waiting = self._waiting.get((run_id, signal_id))
            if waiting is not None and not waiting.done():
                waiting.set_result(outcome)

    def ended(self, run_id: str) -> None:
        """Say that the run ended: what it had not answered came late."""
        for key in [key for key in self._waiting if key[0] == run_id]:
            self.tell(run_id, [(key[1], "late")])
