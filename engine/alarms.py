"""Exact wake-ups of runs that nobody holds: to the millisecond, at the cost of one timer per process (H1).

Would have survived n8n#33643 and #13856 (seconds rounded to a minute, waits that never resumed): the row's ``wake_at``
is the truth, a look finds whatever an alarm missed, and any process wakes any run.
"""

from __future__ import annotations

import asyncio
import heapq
from collections.abc import Callable, Sequence
from typing import Final

from contracts.ports import Clock

MAX_ALARMS: Final = 10_000
"""Alarms at the same time; runs beyond are found by the next look."""


class Alarms:
    """Rings with the ids of the runs that are due. A run has one alarm, the one that was set last."""

    def __init__(self, clock: Clock, ring: Callable[[Sequence[str]], None]) -> None:
        """Call ``ring(run_ids)`` on the loop, never before the time by ``clock``."""
        self._clock, self._ring = clock, ring
        self._heap: list[tuple[int, str]] = []
        self._at: dict[str, int] = {}
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0

    def __len__(self) -> int:
        """Return how many runs have an alarm."""
        return len(self._at)

    def set(self, run_id: str, at_ms: int) -> None:
        """Ring for a run at a wall time (ms), instead of at any other that was set before."""
        known = self._at.get(run_id)
        if known == at_ms or (known is None and len(self._at) >= MAX_ALARMS):
            return
        self._at[run_id] = at_ms
        heapq.heappush(self._heap, (at_ms, run_id))
        self._arm()

    def clear(self) -> None:
        """Forget every alarm."""
        self._heap.clear()
        self._at.clear()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _arm(self) -> None:
        if not self._heap or (self._timer is not None and self._timer_at <= self._heap[0][0]):
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = self._heap[0][0]
        # A loop's timers may fire a moment early: one that does is armed again for the rest.
        seconds = max(0.001, (self._timer_at - self._clock.now_ms()) / 1_000)
        self._timer = asyncio.get_running_loop().call_later(seconds, self._fire)

    def _fire(self) -> None:
        self._timer = None
        now_ms = self._clock.now_ms()
        due: list[str] = []
        while self._heap and self._heap[0][0] <= now_ms:
            at_ms, run_id = heapq.heappop(self._heap)
            if self._at.get(run_id) == at_ms:
                del self._at[run_id]
                due.append(run_id)
        self._arm()
        if due:
            self._ring(due)
