"""How a command reaches flex: over HTTP, or inside this process on the database (docs/cli.md).

Both speak the wire's JSON, so no command knows which one it has.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

Json = Any


class Door(Protocol):
    """What the commands ask; every method raises CommandError with sentences for people."""

    where: str
    """Options that lead another command to the same place (``--url …``), to be printed in hints."""

    async def submit(self, envelope: Json, key: str | None) -> str:
        """Accept an envelope; return the run's id."""

    def frames(self, run_id: str, after: int) -> AsyncIterator[Mapping[str, Any]]:
        """Yield the run's frames with ids over ``after`` until the terminal one, however often the line drops."""

    async def runs(self, query: Mapping[str, Any]) -> Json:
        """Return a page of runs, newest first."""

    async def run(self, run_id: str) -> Json:
        """Return a run."""

    async def cancel(self, run_id: str, reason: str | None) -> Json:
        """Ask for the run's end."""

    async def pause(self, run_id: str, reason: str | None) -> Json:
        """Let nothing more of the run be started."""

    async def resume(self, run_id: str) -> Json:
        """End the run's pause."""

    async def prompts(self, query: Mapping[str, Any]) -> Json:
        """Return a page of prompts, newest first."""

    async def prompt(self, prompt_id: str) -> Json:
        """Return a prompt."""

    async def decide(self, prompt_id: str, decision: Json) -> Json:
        """Decide a prompt."""

    async def claim(self, prompt_id: str, body: Json) -> Json:
        """Claim a prompt or free it; return it."""

    async def delegate(self, prompt_id: str, body: Json) -> Json:
        """Pass one's say on; return the prompt."""

    async def withdraw(self, prompt_id: str, body: Json) -> Json:
        """Take a question back; return the prompt."""

    async def plan(self, envelope: Json) -> Json:
        """Plan without running anything."""

    async def capabilities(self, cursor: str | None) -> Json:
        """Return a page of what this place can do."""

    async def agents(self, cursor: str | None) -> Json:
        """Return a page of what the agents folder holds."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a command was told to go: a service's address, or a database of its own."""

    url: str | None = None
    database_url: str | None = None
    capabilities: tuple[str, ...] = ()
