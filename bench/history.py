"""Pages of a history of a million executions against one of ten thousand, on PostgreSQL (T2).

The rows are generated in the database. Each query is what the doors run, several times in turn on both sizes; the ratio
of the medians, and the plan of each query, are printed. Run alone: ``python -m bench.history --count 1000000``.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import time
from collections.abc import Awaitable, Callable
from typing import Any

import asyncpg
import uvloop
from sqlalchemy.engine import make_url

from app.system import SystemClock
from bench.loop import arguments, emit
from contracts.history import Wanted
from store import history
from store.connect import Database
from store.keyset import FIRST
from store.migrate import upgrade
from store.statement import Statement
from tests.postgres import postgres_server

SMALL = 10_000
TENANT = "default"
DAY = 86_400_000
BEGAN = 1_700_000_000_000
Query = Callable[[Database], Awaitable[list[Any]]]

# One in a hundred failed; fifty executions have a rare word, one in ten a common one; ten flows.
GENERATE = """
INSERT INTO history (run_id, tenant, principal, status, way, trigger, flow_id, flow_version, flow_name, objective,
  preview, words, created_at, started_at, ended_at, duration_ms, waited_ms, asks, tokens, cost, error_code,
  error_message, failed_node_id)
SELECT 'run_' || lpad(n::text, 10, '0'), $1, 'user:local',
  CASE WHEN n % 100 = 0 THEN 'failed' ELSE 'completed' END, 'definition', 'run', 'flw_' || n % 10, 1, 'Flow ' || n % 10,
  'Do number ' || n, 'number ' || n,
  'flow ' || n % 10 || ' do number ' || n || CASE WHEN n % 10 = 0 THEN ' spring' ELSE '' END
    || CASE WHEN n % ($2::bigint / 50) = 7 THEN ' marzipan' ELSE '' END,
  $3 + n, $3 + n, $3 + n + 50, 50, 0, 0, 10, 0.01,
  CASE WHEN n % 100 = 0 THEN 'node_failed' END, CASE WHEN n % 100 = 0 THEN 'It failed.' END, NULL
FROM generate_series(1, $2::bigint) AS n
"""


def _pages(count: int) -> dict[str, tuple[Wanted, tuple[int, str]]]:
    first, deep = FIRST, (BEGAN + 60, "run_" + str(60).zfill(10))
    return {
        "first page": (Wanted(), first),
        "last page, by cursor": (Wanted(), deep),
        "first page of a flow": (Wanted(flow_id="flw_3"), first),
        "last page of a flow, by cursor": (Wanted(flow_id="flw_3"), deep),
        "failed ones": (Wanted(status="failed"), first),
        "failed ones of a flow": (Wanted(flow_id="flw_0", status="failed"), first),
        "a rare word": (Wanted(words=("marzip",)), first),
        "a common word": (Wanted(words=("spring",)), first),
    }


async def _filled(url: str, count: int) -> Database:
    await asyncio.to_thread(upgrade, url)
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    connection = await asyncpg.connect(plain)
    await connection.execute(GENERATE, TENANT, count, BEGAN)
    await connection.execute("VACUUM ANALYZE")
    await connection.close()
    return await Database.open(url, clock=SystemClock())


async def _timed(database: Database, wanted: Wanted, at: tuple[int, str]) -> float:
    """Return the seconds of one page, merged as the doors merge it: live ones too."""
    began = time.perf_counter()
    rows = await history.ended(database, TENANT, wanted, at, 51)
    await history.live(database, TENANT, wanted, at, 51)
    took = time.perf_counter() - began
    if not rows:
        raise RuntimeError("nothing was found")
    return took


async def _explained(url: str, statement: Statement, given: dict[str, Any]) -> list[str]:
    """Return how the database runs a query, the lines that say which index."""
    text, order = statement.postgresql.sql, statement.postgresql.bind(given)
    connection = await asyncpg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
    rows = await connection.fetch(f"EXPLAIN {text}", *order)
    await connection.close()
    return [re.sub(r"\s+\(cost.*", "", row[0]).strip() for row in rows]


async def measure(small_url: str, large_url: str, count: int, repeats: int) -> dict[str, Any]:
    """Return per query the median milliseconds at both sizes, their ratio, and the plan."""
    small, large = await _filled(small_url, SMALL), await _filled(large_url, count)
    figures: dict[str, Any] = {}
    for name, (wanted, at) in _pages(count).items():
        times: dict[int, list[float]] = {SMALL: [], count: []}
        for _ in range(repeats):
            for size, database in ((SMALL, small), (count, large)):
                times[size].append(await _timed(database, wanted, at))
        medians = {size: 1_000 * statistics.median(values[3:]) for size, values in times.items()}
        plans = [
            await _explained(large_url, statement, given)
            for statement, given in history.ended_queries(wanted, at, 51, TENANT, "postgresql")
        ]
        figures[name] = {
            "ms": {str(size): round(value, 3) for size, value in medians.items()},
            "ratio": round(medians[count] / medians[SMALL], 2),
            "plans": plans,
        }
    for database in (small, large):
        await database.close()
    return figures


def main() -> None:
    """Start a database, fill it, measure, print one JSON line."""
    given = arguments(count=1_000_000, repeats=33)
    with postgres_server() as server:
        for name in ("small", "large"):
            server.create_database(name)
        figures = uvloop.run(measure(server.url("small"), server.url("large"), given.count, given.repeats))
    for name, found in figures.items():
        print(f"{name}: {found['ms']} ms, ratio {found['ratio']}")
        for plan in found["plans"]:
            print("    " + " / ".join(plan))
    emit(who="flex", store="postgres", executions=given.count, queries=figures)


if __name__ == "__main__":
    main()
