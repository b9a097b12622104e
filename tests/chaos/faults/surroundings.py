"""Nudges that cannot be relied on, and clocks that are wrong."""

import random
import time

from tests.chaos.arena import Arena
from tests.chaos.control import Control
from tests.chaos.faults.base import Fault, Shake

SKEW_MS = 3_000


class Nudges(Shake):
    """Every round loses, doubles and reorders nudges in other shares; now and then all are lost."""

    _before = 0

    async def begin(self) -> None:
        self._before = self._touched()
        await self.strike(0.0)

    async def strike(self, seconds: float) -> None:
        for member in self.arena.members:
            lost = 1.0 if self.chance.random() < 0.2 else self.chance.uniform(0.1, 0.6)
            late = self.chance.choice((20, 50, 300))
            seed = str(self.chance.random())
            member.order(Control(lost=lost, doubled=self.chance.uniform(0.1, 0.5), late_ms=late, seed=seed))

    async def end(self) -> None:
        self.injected = self._touched() - self._before
        self.arena.order(Control())

    def _touched(self) -> int:
        """How many nudges were lost, doubled or delayed so far."""
        counts = [member.counts for member in self.arena.members]
        return sum(each.lost + each.doubled + each.late for each in counts)


class Skew(Shake):
    """Clocks some seconds apart that jump both ways, while processes are restarted so that runs change clocks."""

    def __init__(self, arena: Arena, chance: random.Random, scale: float) -> None:
        super().__init__(arena, chance, scale)
        self._turn = 0

    async def begin(self) -> None:
        self._jump()

    async def strike(self, seconds: float) -> None:
        await self.within(seconds)
        self._jump()
        self._turn += 1
        if self._turn % 2 == 0:
            member = self.arena.members[self._turn // 2 % 2]
            self.arena.mark(member)
            member.kill()
            member.launch()
            await member.ready()

    async def end(self) -> None:
        self.arena.order(Control())

    def _jump(self) -> None:
        for member in self.arena.members:
            offset_ms = self.chance.randint(-SKEW_MS, SKEW_MS)
            self.notes.append(f"{time.time() * 1_000:.0f} {member.name} {offset_ms:+} ms")
            member.order(Control(offset_ms=offset_ms))
            self.injected += 1


SURROUNDINGS = (
    Fault("nudges", "nudges lost, doubled, reordered", Nudges, 100, (3.0, 5.0)),
    Fault(
        "skew",
        f"clocks up to {2 * SKEW_MS // 1_000} s apart, jumping; processes killed meanwhile",
        Skew,
        100,
        (4.0, 6.0),
    ),
)
