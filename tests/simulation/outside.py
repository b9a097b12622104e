"""The world outside of all processes: it asks, waits for an answer, and asks again at whatever process is there."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Coroutine
from dataclasses import dataclass, field
from typing import Any, Final, TypeVar

from contracts.access import ROLES, Principal
from contracts.errors import StoreUnavailable
from service.runs import Accepted
from tests.simulation.abilities import Ledger
from tests.simulation.database import File
from tests.simulation.process import Process, Unreachable

T = TypeVar("T")
ANYWHERE: Final = 0.3
"""How long somebody waits before asking again (virtual seconds)."""
UNANSWERED: Final = (Unreachable, TimeoutError, StoreUnavailable)
"""Nobody knows whether it was done."""


def person(name: str) -> Principal:
    """Return somebody with every role."""
    return Principal(f"user:{name}", roles=frozenset(ROLES))


ANA, BEN, LOCAL = person("ana"), person("ben"), person("local")


@dataclass
class Said:
    """What one operator said about one prompt and what came of it.

    ``outcome``: ``settled`` | ``voted`` | ``repeated`` | ``unknown`` (no answer came) | the code of the refusal.
    """

    at: float
    who: str
    prompt_id: str
    action: str
    answer: Any
    outcome: str
    winner: str | None = None


@dataclass
class Seen:
    """What one viewer of a run got, over all its connections."""

    run_id: str
    frames: dict[int, bytes] = field(default_factory=dict)
    doubled: list[int] = field(default_factory=list)
    over: bool = False
    connection: int = 0
    """the present one; what an earlier one still sends reaches nobody"""


@dataclass
class Client:
    """A run as its caller knows it; ``known`` is set once it is accepted."""

    key: str
    body: dict[str, Any]
    at: float
    accepted: list[Accepted] = field(default_factory=list)
    known: asyncio.Event = field(default_factory=asyncio.Event)

    async def run_id(self) -> str:
        """Wait until the run is accepted; return its id."""
        await self.known.wait()
        return self.accepted[0].run_id


@dataclass
class Outside:
    """What everybody outside shares: chance, the processes that live, and what is remembered of who said what.

    ``hasty`` is set once faults are over: nobody hesitates any more.
    """

    chance: random.Random
    file: File
    ledger: Ledger
    living: Callable[[], list[Process]]
    tell: Callable[..., None]
    said: list[Said] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    clients: list[Client] = field(default_factory=list)
    made: set[str] = field(default_factory=set)
    """runs that were made out of others: retries and forks"""
    hasty: bool = False
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Let somebody do something beside everybody else."""
        self._tasks.append(asyncio.get_running_loop().create_task(work))

    def idle(self) -> bool:
        """Say whether nobody is doing anything."""
        self._tasks = [task for task in self._tasks if not task.done()]
        return not self._tasks

    async def ask(self, work: Callable[[Process], Coroutine[Any, Any, T]], seconds: float = 5.0) -> T:
        """Ask some living process, and wait a bounded time. Raises what it raises, and :data:`UNANSWERED`."""
        living = self.living()
        if not living:
            raise Unreachable
        process = self.chance.choice(living)
        async with asyncio.timeout(seconds):
            return await process.asked(lambda: work(process))

    async def insist(
        self, work: Callable[[Process], Coroutine[Any, Any, T]], tries: int = 1_000, seconds: float = 5.0
    ) -> T:
        """Ask until there is an answer; a refusal is one. Raises what that says, and ``Unreachable`` in the end."""
        for _ in range(tries):
            try:
                return await self.ask(work, seconds)
            except UNANSWERED:
                await asyncio.sleep(ANYWHERE)
        raise Unreachable
