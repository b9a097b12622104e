"""Exact wake-ups: never early, in their order, one per run (H1)."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from app.system import SystemClock
from engine.alarms import MAX_ALARMS, Alarms


class Bell:
    """Notes who was rung for, and when."""

    def __init__(self) -> None:
        self.clock = SystemClock()
        self.alarms = Alarms(self.clock, self._rung)
        self.rung: list[tuple[str, int]] = []
        self.heard = asyncio.Event()

    def _rung(self, run_ids: Sequence[str]) -> None:
        self.rung += [(run_id, self.clock.now_ms()) for run_id in run_ids]
        self.heard.set()

    async def until(self, many: int) -> None:
        async with asyncio.timeout(5):
            while len(self.rung) < many:
                self.heard.clear()
                await self.heard.wait()


async def test_in_the_order_of_their_times_and_never_early() -> None:
    bell = Bell()
    now = bell.clock.now_ms()
    times = {"late": now + 40, "soon": now + 15, "past": now - 5}
    for run_id, at_ms in times.items():
        bell.alarms.set(run_id, at_ms)
    await bell.until(3)
    assert [run_id for run_id, _ in bell.rung] == ["past", "soon", "late"]
    assert all(at_ms >= times[run_id] for run_id, at_ms in bell.rung)
    assert len(bell.alarms) == 0


async def test_what_was_said_last_counts() -> None:
    """A run that went on meanwhile waits for another time, earlier or later; it rings once."""
    bell = Bell()
    now = bell.clock.now_ms()
    bell.alarms.set("earlier", now + 60_000)
    bell.alarms.set("earlier", now + 10)
    bell.alarms.set("later", now + 10)
    bell.alarms.set("later", now + 40)
    await bell.until(2)
    assert [run_id for run_id, _ in bell.rung] == ["earlier", "later"]
    assert bell.rung[1][1] >= now + 40
    assert len(bell.alarms) == 0


async def test_there_is_an_end_to_it() -> None:
    """More than so many are left to the looks; cleared ones never ring."""
    bell = Bell()
    for number in range(MAX_ALARMS + 10):
        bell.alarms.set(f"run_{number}", bell.clock.now_ms() + 3_600_000)
    assert len(bell.alarms) == MAX_ALARMS
    bell.alarms.clear()
    assert len(bell.alarms) == 0
    bell.alarms.set("one", bell.clock.now_ms() + 1)
    await bell.until(1)
