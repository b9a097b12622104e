"""The simulated world behind the product's ports: clocks, ids, chance, crash points (``contracts/ports.py``)."""

from __future__ import annotations

import random
from collections.abc import Callable

from contracts.ports import CRASH_POINTS
from tests.simulation.loop import SimulatedLoop

EPOCH_MS = 1_767_603_600_000
"""Wall time when a simulation begins: 2026-01-05T09:00:00Z."""


class ProcessClock:
    """The clocks of one process. ``skew`` (seconds) is how far its wall clock is off; faults move it."""

    def __init__(self, loop: SimulatedLoop, skew: float = 0.0) -> None:
        self._loop, self.skew = loop, skew

    def now_ms(self) -> int:
        return EPOCH_MS + round((self._loop.time() + self.skew) * 1_000)

    def monotonic(self) -> float:
        return self._loop.time()


class CountedIds:
    """Ids in the order they were made, whoever made them."""

    def __init__(self) -> None:
        self._last = 0

    def new(self, prefix: str) -> str:
        self._last += 1
        return f"{prefix}_{self._last:06}"


class Chance:
    """Jitter from the seed."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    def uniform(self) -> float:
        return self._chance.random()


class ArmedPoints:
    """Crash points of one process. An armed one calls what it was armed with, the n-th time it is reached."""

    def __init__(self) -> None:
        self._armed: dict[str, tuple[int, Callable[[], None]]] = {}

    def arm(self, point: str, times: int, strike: Callable[[], None]) -> None:
        if point not in CRASH_POINTS:
            raise ValueError(point)
        self._armed[point] = (times, strike)

    def disarm(self) -> None:
        self._armed.clear()

    def reach(self, point: str) -> None:
        armed = self._armed.get(point)
        if armed is None:
            return
        times, strike = armed
        if times > 1:
            self._armed[point] = (times - 1, strike)
            return
        del self._armed[point]
        strike()
