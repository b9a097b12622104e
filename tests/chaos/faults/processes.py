"""Processes die, sleep too long, and are restarted in turn."""

import asyncio
import random
import signal
import time

from contracts.ports import CRASH_POINTS
from tests.chaos.arena import Arena
from tests.chaos.faults.base import Fault, Shake
from tests.chaos.faults.locks import held
from tests.chaos.history import Stall
from tests.chaos.members import Member
from tests.durability.auditor import query

OFTEN = {"accept": 6, "journal": 30, "attempt": 30}
"""Points of these families are passed many times in a round: which time it is to be is drawn up to here."""
SELDOM = 3
PATIENCE_SECONDS = 6.0
TRIES = 40


class Kill(Shake):
    """SIGKILL at every named crash point in turn, in one process while the other goes on; it is started again."""

    def __init__(self, arena: Arena, chance: random.Random, scale: float) -> None:
        super().__init__(arena, chance, scale)
        self.points: list[str] = []
        self._victim, self._other = arena.members
        self._point = ""

    async def begin(self) -> None:
        await self._kill(self._victim)
        await self._arm()

    async def strike(self, seconds: float) -> None:
        at = await self._victim.died(seconds + PATIENCE_SECONDS * self.scale)
        if at is None:
            # The load never came by this point: it dies all the same, anywhere.
            self.notes.append(f"{self._point} was not reached")
            await self._kill(self._victim)
        else:
            assert self._victim.code == -signal.SIGKILL, f"{self._victim.name} ended\n{self._victim.said()}"
            self._note(at)

    async def between(self) -> None:
        if self.chance.random() < 0.25:
            await self._swap()
        await self._arm()

    async def end(self) -> None:
        await self._kill(self._victim)
        await self.arena.start()

    async def _arm(self) -> None:
        """Start the victim with the next point; one that dies while it starts has struck."""
        while True:
            self.points = self.points or self.chance.sample(CRASH_POINTS, len(CRASH_POINTS))
            self._point = self.points.pop()
            often = OFTEN.get(self._point.partition(".")[0], SELDOM)
            self._victim.launch(f"{self._point}:{self.chance.randint(1, often)}")
            if await self._victim.up():
                return
            self._note(time.time() * 1_000)

    def _note(self, at: float) -> None:
        self.injected += 1
        self.notes.append(self._point)
        self.arena.mark(self._victim, at)

    async def _swap(self) -> None:
        """Let the other one be the victim."""
        self._victim.launch()
        await self._victim.ready()
        self._victim, self._other = self._other, self._victim
        await self._kill(self._victim)

    async def _kill(self, member: Member) -> None:
        if member.alive:
            self.arena.mark(member)
            member.kill()


class Zombie(Shake):
    """SIGSTOP for longer than the lease, then SIGCONT: it wakes up holding what others have taken.

    It wakes up soon after they took it, while the runs are still under way, or much later. Half of the time it is
    stopped at its worst moment: in the middle of a transaction of PostgreSQL, whose locks it then keeps; on SQLite
    while it waits for the write lock, so that writing is the first thing that it does when it wakes up.
    """

    async def strike(self, seconds: float) -> None:
        await self.within(seconds)
        member = self.chance.choice(self.arena.members)
        since = await (self._stop_writing(member) if self.chance.random() < 0.5 else self._stop(member))
        self.arena.mark(member, since)
        try:
            await self._sleep(member)
        finally:
            self.arena.stalls.append(Stall(member.name, since, time.time() * 1_000))
            member.send(signal.SIGCONT)
        self.injected += 1

    async def _stop(self, member: Member) -> float:
        member.send(signal.SIGSTOP)
        return time.time() * 1_000

    async def _stop_writing(self, member: Member) -> float:
        if self.arena.server is None:
            async with held(self.arena.url):
                await asyncio.sleep(0.1)
                return await self._stop(member)
        for _ in range(TRIES):
            since = await self._stop(member)
            if await self._is_inside(member):
                self.notes.append("stopped within a transaction")
                break
            member.send(signal.SIGCONT)
            await asyncio.sleep(self.chance.uniform(0.001, 0.01))
        else:
            since = await self._stop(member)
        return since

    async def _is_inside(self, member: Member) -> bool:
        """Whether it has a transaction open and the server has nothing to do for it."""
        open_ones = f"SELECT count(*) FROM pg_stat_activity WHERE usename = '{member.name}' AND state LIKE 'idle in %'"
        return bool((await query(self.arena.url, open_ones))[0][0])

    async def _sleep(self, member: Member) -> None:
        lease = self.arena.wish.lease_seconds
        if self.chance.random() < 0.3:
            await asyncio.sleep(lease * self.chance.uniform(1.4, 2.2))
        else:
            await self.given_up(member, lease + PATIENCE_SECONDS)
            await asyncio.sleep(self.chance.uniform(0.0, 0.3))


class Rolling(Shake):
    """SIGTERM to one process after the other; each drains, ends cleanly and is started again before the next."""

    async def strike(self, seconds: float) -> None:
        await self.within(seconds)
        member = self.arena.members[self.injected % len(self.arena.members)]
        self.arena.mark(member)
        await member.stop()
        assert member.code == 0, f"{member.name} ended with {member.code}\n{member.said()}"
        member.launch()
        await member.ready()
        self.injected += 1


PROCESSES = (
    Fault("kill", "SIGKILL at every named crash point; the other process goes on", Kill, 50, (2.0, 3.0)),
    Fault("zombie", "SIGSTOP beyond the lease, then SIGCONT", Zombie, 70, (3.5, 4.5)),
    Fault("rolling", "SIGTERM to each process in turn, started again", Rolling, 100, (5.0, 7.0)),
)
