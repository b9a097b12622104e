"""What a fault is: how often it strikes, over how many runs, and what it needs."""

import asyncio
import random
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass

from tests.chaos.arena import Arena
from tests.chaos.members import Member
from tests.durability.auditor import query
from tests.durability.waiting import until

SQLITE, POSTGRESQL = "sqlite", "postgresql"


class Shake:
    """A fault at work in one scenario; ``scale`` shortens what takes seconds (1 is what the report shows)."""

    def __init__(self, arena: Arena, chance: random.Random, scale: float) -> None:
        self.arena, self.chance, self.scale = arena, chance, scale
        self.injected = 0
        """how often it really struck"""
        self.notes: list[str] = []
        """what was drawn, strike by strike: for people who look into a scenario"""

    async def begin(self) -> None:
        """Before the first run arrives."""

    async def strike(self, seconds: float) -> None:
        """Once per round, while its runs arrive over so many seconds."""

    async def between(self) -> None:
        """After a round that another one follows."""

    async def end(self) -> None:
        """When the last run was seen to its end: everything is as it was before."""

    async def within(self, seconds: float) -> None:
        """Let some of the round pass: a fault strikes at no particular moment."""
        await asyncio.sleep(self.chance.uniform(0.1, 0.5) * seconds)

    async def given_up(self, member: Member, seconds: float) -> None:
        """Wait until another process has taken the runs of this one, so many seconds at most."""
        before = await self._farewells(member)

        async def is_gone() -> bool:
            return await self._farewells(member) > before

        with suppress(AssertionError):  # then its runs stood still for so long, and the figures say so
            await until(is_gone, seconds, f"{member.name} is given up by the other")

    async def _farewells(self, member: Member) -> int:
        """How often others have given it up."""
        rows = (
            "SELECT count(*) FROM chaos_workers gone JOIN chaos_workers came ON came.worker_id = gone.worker_id"
            f" WHERE came.what = 'came' AND gone.what = 'left' AND came.by = '{member.name}' AND gone.by <> came.by"
        )
        return int((await query(self.arena.url, rows))[0][0])

    def span(self, least: float, most: float) -> float:
        """A length of time in seconds, scaled."""
        return self.chance.uniform(least, most) * self.scale


@dataclass(frozen=True)
class Fault:
    """One kind of trouble. ``seconds`` are the least and the most that a round of ``per_round`` runs takes."""

    name: str
    says: str
    make: Callable[[Arena, random.Random, float], Shake]
    per_round: int
    seconds: tuple[float, float]
    databases: tuple[str, ...] = (SQLITE, POSTGRESQL)
    proxied: bool = False
    on_small_disk: bool = False
