"""What the machine itself can do: single-row commits on PostgreSQL and SQLite, and bare SSE chunks."""

from __future__ import annotations

import asyncio
import sqlite3
import time
from typing import Any

import asyncpg
import uvloop

from bench.loop import arguments, emit

PAYLOAD = "x" * 200


async def postgres(url: str, connections: int, seconds: float) -> int:
    """Return single-row commits per second over so many connections."""
    pool = await asyncpg.create_pool(url, min_size=connections, max_size=connections)
    await pool.execute("CREATE TABLE IF NOT EXISTS limit_rows (lane int, n int, payload text, PRIMARY KEY (lane, n))")
    counts = [0] * connections

    async def lane(number: int, connection: Any, until: float) -> None:
        insert = await connection.prepare("INSERT INTO limit_rows VALUES ($1, $2, $3)")
        while time.perf_counter() < until:
            counts[number] += 1
            await insert.fetch(number, counts[number], PAYLOAD)

    held = [await pool.acquire() for _ in range(connections)]
    until = time.perf_counter() + seconds
    await asyncio.gather(*[lane(number, connection, until) for number, connection in enumerate(held)])
    return round(sum(counts) / seconds)


def sqlite(path: str, seconds: float) -> int:
    """Return single-row commits per second with ``synchronous=FULL``."""
    connection = sqlite3.connect(path, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("CREATE TABLE IF NOT EXISTS limit_rows (n INTEGER PRIMARY KEY, payload TEXT)")
    until, count = time.perf_counter() + seconds, 0
    while time.perf_counter() < until:
        connection.execute("INSERT INTO limit_rows (payload) VALUES (?)", (PAYLOAD,))
        count += 1
    connection.close()
    return round(count / seconds)


async def main() -> None:
    """Run one case."""
    given = arguments(what="postgres", url="", c=1, seconds=3.0)
    if given.what == "postgres":
        rate = await postgres(given.url, given.c, given.seconds)
    else:
        rate = sqlite(given.url, given.seconds)
    emit(who="limit", scenario="commits", store=given.what, c=given.c, commits_s=rate)


uvloop.run(main())
