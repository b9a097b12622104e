"""A thousand runs that wait for people hold no memory, no connection and no worker (H1)."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import httpx2
import pytest

from tests.durability.auditor import audit, query, stored
from tests.durability.plans import ask, call, chain
from tests.durability.service import Service, World
from tests.durability.waiting import until

pytestmark = [pytest.mark.chaos, pytest.mark.slow]
RUNS, AT_ONCE = 1_000, 16
TOLERANCE_KIB = 8 * 1024
"""What 1,000 waiting runs may add to the resident memory of a warm process: caches and allocator noise, not runs."""
ENVELOPE = chain(call("first"), ask(), call("last"))

OPEN = (
    "SELECT p.prompt_id FROM prompts p JOIN runs r ON r.run_id = p.run_id"
    " WHERE r.status = 'waiting' AND r.worker IS NULL AND p.status = 'open'"
)


async def each(count: int, work: Callable[[int], Coroutine[Any, Any, None]]) -> None:
    """Do the work for every number, some at once."""
    numbers = iter(range(count))

    async def one() -> None:
        for number in numbers:
            await work(number)

    await asyncio.gather(*(one() for _ in range(AT_ONCE)))


async def waiting(client: httpx2.AsyncClient, world: World, count: int) -> list[str]:
    """Start runs and return their prompts once all of them wait and the process holds none."""

    async def start(_number: int) -> None:
        response = await client.post("/api/v1/runs", json=ENVELOPE)
        assert response.status_code == 202, response.text

    async def at_rest() -> list[str]:
        rows = await query(world.url, OPEN)
        return [row[0] for row in rows] if len(rows) == count and await active(client) == 0 else []

    await each(count, start)
    found: list[str] = await until(at_rest, 30, f"{count} waiting runs")
    return found


async def active(client: httpx2.AsyncClient) -> float:
    """The gauge of runs in memory."""
    lines = (await client.get("/metrics")).text.splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("flex_runs_active "))


async def answered(client: httpx2.AsyncClient, world: World, prompts: list[str]) -> None:
    """Approve each over HTTP and wait until every run completed."""

    async def approve(number: int) -> None:
        response = await client.post(f"/api/v1/prompts/{prompts[number]}/decisions", json={"action": "approve"})
        assert response.status_code == 200, response.text

    async def left() -> bool:
        return await query(world.url, "SELECT run_id FROM runs WHERE status <> 'completed' LIMIT 1") == []

    await each(len(prompts), approve)
    await until(left, 30, "every run completed")


async def test_a_thousand_waiting_runs_cost_no_memory(world: World) -> None:
    """H1: resident memory is as before them; each is answered afterwards and completes."""
    with Service(world, FLEX_SYNCHRONOUS="NORMAL", FLEX_LEASE_SECONDS="5", FLEX_LOG_LEVEL="warning") as service:
        await service.start()
        async with httpx2.AsyncClient(base_url=service.base, timeout=20) as client:
            await answered(client, world, await waiting(client, world, 400))
            before = service.rss_kib()
            prompts = await waiting(client, world, RUNS)
            during = service.rss_kib()
            print(f"\nresident memory: {before} KiB before, {during} KiB with {RUNS} waiting runs")  # noqa: T201 - docs/reliability.md
            assert during - before <= TOLERANCE_KIB
            await answered(client, world, prompts)
            assert await active(client) == 0
    for (run_id,) in await query(world.url, "SELECT run_id FROM runs ORDER BY run_id LIMIT 20"):
        assert audit(await stored(world.url, run_id, world.effects), seen={}) == []
