"""The loop under the simulation: virtual time, one queue per process, sleep and death."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Coroutine
from typing import Any

import pytest

from tests.simulation.loop import SimulatedLoop, Stuck


def _run(loop: SimulatedLoop, main: Coroutine[Any, Any, None]) -> None:
    try:
        loop.run(main)
    finally:
        loop.retire()


def test_three_days_take_no_time() -> None:
    loop = SimulatedLoop(random.Random(1))

    async def main() -> None:
        await asyncio.sleep(3 * 86_400)

    _run(loop, main())
    assert 3 * 86_400 <= loop.time() < 3 * 86_400 + 1


def test_lanes_keep_their_own_order_and_mix_with_one_another() -> None:
    loop = SimulatedLoop(random.Random(2))
    said: list[tuple[str, int]] = []

    async def main() -> None:
        for lane in (loop.lane("a"), loop.lane("b")):
            for number in range(20):
                loop.call_soon(said.append, (lane.name, number), context=lane.context)
        await asyncio.sleep(1)

    _run(loop, main())
    assert [number for name, number in said if name == "a"] == list(range(20))
    assert [number for name, number in said if name == "b"] == list(range(20))
    assert said != sorted(said)


def test_a_paused_lane_catches_up_and_a_killed_one_never_does() -> None:
    loop = SimulatedLoop(random.Random(3))
    ticks: dict[str, list[float]] = {"sleeper": [], "victim": []}

    async def tick(name: str) -> None:
        while True:
            await asyncio.sleep(1)
            ticks[name].append(loop.time())

    async def main() -> None:
        sleeper, victim = loop.lane("sleeper"), loop.lane("victim")
        for lane in (sleeper, victim):
            loop.create_task(tick(lane.name), context=lane.context)
        await asyncio.sleep(2.5)
        sleeper.paused = True
        loop.kill(victim)
        await asyncio.sleep(5)
        sleeper.paused = False
        await asyncio.sleep(2)

    _run(loop, main())
    assert len(ticks["victim"]) == 2
    assert [at for at in ticks["sleeper"] if 2.5 < at < 7.5] == []
    assert 7.5 <= ticks["sleeper"][2] < 7.6


def test_waiting_for_nothing_is_an_error() -> None:
    loop = SimulatedLoop(random.Random(4))

    async def main() -> None:
        await asyncio.Event().wait()

    with pytest.raises(Stuck):
        _run(loop, main())
