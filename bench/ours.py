"""flex in one process, through ``service.runs.submit``, no viewer: chains and fans."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import uvloop

from app.logs import configure
from app.settings import Settings
from app.wiring import Flex, open_flex
from bench.loop import arguments, drive, emit, summary
from bench.plans import chain, envelope, fan
from bench.server import WIDE
from contracts.access import LOCAL

HERE = Path(__file__).parent


class Ends:
    """Hears of ended runs where frames are handed to viewers, after their commit."""

    def __init__(self, flex: Flex) -> None:
        """Listen in on the feed of ``flex``."""
        self._waiting: dict[str, asyncio.Future[str]] = {}
        self._ended: dict[str, str] = {}
        publish = flex.feed.publish

        def listen(run_id: str, frames: Any) -> None:
            publish(run_id, frames)
            if frames[-1].terminal:
                waiter = self._waiting.pop(run_id, None)
                if waiter is None:
                    self._ended[run_id] = frames[-1].type
                else:
                    waiter.set_result(frames[-1].type)

        flex.feed.publish = listen  # type: ignore[method-assign]  # the only seam that costs the product nothing

    async def of(self, run_id: str) -> str:
        """Return the type of a run's terminal frame."""
        if run_id in self._ended:
            return self._ended.pop(run_id)
        waiter = self._waiting[run_id] = asyncio.get_running_loop().create_future()
        return await waiter


async def main() -> None:
    """Run one case."""
    given = arguments(url="", scenario="chain", n=10, c=1, seconds=3.0)
    configure("error")
    settings = Settings(
        database_url=given.url, capabilities=(str(HERE / "capabilities.py"),), log_level="error", **WIDE
    )
    plan, nodes = (fan(20), 22) if given.scenario == "fan" else (chain(given.n), given.n)
    body = envelope(plan, policies={"concurrency": 32, "timeouts": {"run_seconds": 600}})
    async with open_flex(settings) as flex:
        ends = Ends(flex)

        async def one(_number: int) -> None:
            accepted = await flex.doors.runs.submit(body, LOCAL, key=None, correlation_id=None)
            if (ended := await ends.of(accepted.run_id)) != "complete":
                raise RuntimeError(f"{accepted.run_id}: {ended}")

        await drive(one, given.c, min(1.0, given.seconds / 4))
        latencies, wall = await drive(one, given.c, given.seconds)
    store = "sqlite" if given.url.startswith("sqlite") else "postgres"
    emit(who="flex", store=store, scenario=given.scenario, n=nodes, c=given.c, **summary(latencies, wall, nodes))


uvloop.run(main())
