"""Burr with its own PostgreSQL persister: the chain, one lane (it owns one connection)."""

from __future__ import annotations

import asyncio
import os
import uuid
from typing import Any
from urllib.parse import urlsplit

os.environ.update(HAMILTON_TELEMETRY_ENABLED="false", BURR_TELEMETRY_ENABLED="false", DO_NOT_TRACK="1")

from burr.core import ApplicationBuilder, action
from burr.integrations.persisters.b_asyncpg import AsyncPostgreSQLPersister

from bench.loop import arguments, drive, emit, summary  # telemetry must be off before it is imported


def _step(number: int) -> Any:
    @action(reads=["value"], writes=["value"])
    async def step(state: Any) -> Any:
        return state.update(value=number)

    return step


async def main() -> None:
    """Run one case."""
    given = arguments(url="", n=10, c=1, seconds=3.0)
    place = urlsplit(given.url)
    persister = await AsyncPostgreSQLPersister.from_values(
        db_name=place.path.lstrip("/"), user=place.username, password=place.password or "", host=place.hostname,
        port=place.port,
    )  # fmt: skip
    await persister.initialize()
    steps = {f"n{i}": _step(i) for i in range(given.n)}
    ways = [(f"n{i}", f"n{i + 1}") for i in range(given.n - 1)]

    async def one(_number: int) -> None:
        builder = ApplicationBuilder().with_actions(**steps).with_transitions(*ways).with_state(value=0)
        builder = builder.with_entrypoint("n0").with_identifiers(app_id=uuid.uuid4().hex, partition_key="bench")
        application = await builder.with_state_persister(persister).abuild()
        await application.arun(halt_after=[f"n{given.n - 1}"])

    await drive(one, 1, 1.0)
    latencies, wall = await drive(one, 1, given.seconds)
    emit(who="burr", store="postgres", scenario="chain", n=given.n, c=1, **summary(latencies, wall, given.n))
    os._exit(0)  # its pool has no way to close that ends before the process does


asyncio.run(main())
