"""flex inside this process, on a database: the same use cases that the HTTP routes call (house rule 2)."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from typing import Any, Final

import orjson

from app.commands.configured import settings_of
from app.commands.door import Place
from app.commands.exits import CommandError, refused
from app.logs import configure
from app.wiring import Flex, open_flex
from capabilities.loading import CapabilityFileError
from capabilities.registry import RegistryConflict
from contracts.access import LOCAL
from contracts.errors import FlexError

Json = Any
CHANNEL: Final = "cli"
QUICK_SECONDS: Final = 1.0
"""How long attempts may take to end when the command is interrupted; what has not ended is given back."""


class Embedded:
    """The services of this process, asked as the local principal."""

    def __init__(self, flex: Flex, where: str) -> None:
        """Take what the wiring built."""
        self._doors, self.where = flex.doors, where

    async def submit(self, envelope: Json, key: str | None) -> str:
        """Accept the envelope."""
        with _sentences():
            accepted = await self._doors.runs.submit(envelope, LOCAL, key=key, trigger="cli")
        return accepted.run_id

    async def frames(self, run_id: str, after: int) -> AsyncIterator[Mapping[str, Any]]:
        """Follow the run's log and what comes live."""
        with _sentences():
            stream = await self._doors.streams.attach(LOCAL, run_id, after)
        if stream is None:
            return
        batches = stream.batches()
        try:
            async for batch in batches:
                for frame in batch:
                    yield orjson.loads(frame.data)
        finally:
            await batches.aclose()

    async def runs(self, query: Mapping[str, Any]) -> Json:
        """Return a page of runs."""
        with _sentences():
            return await self._doors.reads.page(
                LOCAL, status=query["status"], cursor=query["cursor"], limit=query["limit"]
            )

    async def run(self, run_id: str) -> Json:
        """Return a run."""
        with _sentences():
            return await self._doors.reads.run(LOCAL, run_id)

    async def cancel(self, run_id: str, reason: str | None) -> Json:
        """Leave the request to end."""
        with _sentences():
            return await self._doors.runs.cancel(LOCAL, run_id, reason)

    async def pause(self, run_id: str, reason: str | None) -> Json:
        """Leave the request to pause; whoever holds the run carries it out."""
        with _sentences():
            return (await self._doors.control.pause(LOCAL, run_id, {"reason": reason})).wire()

    async def resume(self, run_id: str) -> Json:
        """Leave the request to go on."""
        with _sentences():
            return (await self._doors.control.resume(LOCAL, run_id)).wire()

    async def prompts(self, query: Mapping[str, Any]) -> Json:
        """Return a page of prompts."""
        with _sentences():
            return await self._doors.prompts.list(
                LOCAL,
                view=query["view"],
                status=None,
                run_id=query["run_id"],
                limit=query["limit"],
                cursor=query["cursor"],
            )

    async def prompt(self, prompt_id: str) -> Json:
        """Return a prompt."""
        with _sentences():
            return await self._doors.prompts.get(LOCAL, prompt_id)

    async def decide(self, prompt_id: str, decision: Json) -> Json:
        """Decide; whoever carries out the run finds the signal."""
        with _sentences():
            return _plain(await self._doors.prompts.decide(LOCAL, prompt_id, decision, CHANNEL))

    async def claim(self, prompt_id: str, body: Json) -> Json:
        """Claim or free."""
        with _sentences():
            return _plain(await self._doors.handing.claim(LOCAL, prompt_id, body, CHANNEL))

    async def delegate(self, prompt_id: str, body: Json) -> Json:
        """Pass the say on."""
        with _sentences():
            return _plain(await self._doors.handing.delegate(LOCAL, prompt_id, body, CHANNEL))

    async def withdraw(self, prompt_id: str, body: Json) -> Json:
        """Take the question back; whoever carries out the run finds the signal."""
        with _sentences():
            return _plain(await self._doors.handing.withdraw(LOCAL, prompt_id, body, CHANNEL))

    async def plan(self, envelope: Json) -> Json:
        """Plan without running anything."""
        with _sentences():
            return _plain(await self._doors.plans.dry_run(LOCAL, envelope))

    async def capabilities(self, cursor: str | None) -> Json:
        """Return a page of what this process can do."""
        with _sentences():
            return _plain(await self._doors.capabilities.list(LOCAL, limit=100, cursor=cursor))

    async def agents(self, cursor: str | None) -> Json:
        """Return a page of what the agents folder holds."""
        with _sentences():
            return _plain(self._doors.agents.list(LOCAL, limit=100, cursor=cursor))


def _plain(value: Any) -> Json:
    """Return plain JSON values, as the routes send them."""
    return orjson.loads(value if isinstance(value, bytes) else orjson.dumps(value))


@contextmanager
def _sentences() -> Iterator[None]:
    try:
        yield
    except FlexError as error:
        raise refused(_plain(error.as_problem(None))) from error
    except (CapabilityFileError, RegistryConflict) as error:
        raise CommandError(str(error)) from error


@asynccontextmanager
async def open_embedded(place: Place, *, work: bool) -> AsyncIterator[Embedded]:
    """Open the database and the services on it; with ``work`` this process also carries out runs."""
    settings = settings_of(place)
    # People see the timeline; logs would only disturb it. FLEX_LOG_LEVEL brings them back.
    configure(settings.log_level if "log_level" in settings.model_fields_set else "warning", settings.log_format)
    where = "" if place.database_url is None else f"--database-url {place.database_url}"
    async with AsyncExitStack() as stack:
        with _sentences():
            flex = await stack.enter_async_context(open_flex(settings, work=work))
        # A process that only looks and leaves signals must not claim the runs it nudges: it is about to end.
        flex.worker.draining = flex.worker.draining or not work
        seconds = QUICK_SECONDS
        try:
            yield Embedded(flex, where)
            seconds = settings.drain_seconds
        finally:
            if work:
                flex.begin_drain()
                await flex.drain(min(seconds, settings.drain_seconds))
