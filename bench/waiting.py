"""What a hundred thousand waiting runs cost an idle service, and what answering one costs among them (H1).

One service on one database: answers are timed with no other run there, then ``--count`` runs are left waiting (every
second one with a due time and every fourth on a timer of its own), then the service is left alone and watched, then
answers are timed again. Run alone: ``python -m bench.waiting --count 100000``.
"""

from __future__ import annotations

import asyncio
import os
import time
from pathlib import Path
from typing import Any

import uvloop

from bench.http import answers
from bench.loop import arguments, emit
from bench.plans import asked_chain, envelope
from bench.server import Client, service
from tests.postgres import postgres_server

LANES = 32
DAY = 86_400


def bodies() -> list[dict[str, Any]]:
    """Return the envelopes that are left waiting, in turn."""
    due = asked_chain(1, 1)
    due["nodes"][1]["prompt"] |= {"due_seconds": 3 * DAY, "on_timeout": "fail"}
    slept = asked_chain(1, 1)
    slept["nodes"][1] = {"node_id": "ask", "kind": "delay", "seconds": 3 * DAY}
    return [envelope(asked_chain(1, 1)), envelope(due), envelope(slept), envelope(due)]


async def leave_waiting(port: int, count: int) -> float:
    """Start ``count`` runs and return once none of them is in memory; seconds that it took."""
    began = time.monotonic()
    made = bodies()
    numbers = iter(range(count))
    clients = [Client(port) for _ in range(LANES)]

    async def start(client: Client) -> None:
        for number in numbers:
            await client.call("POST", "/api/v1/runs", made[number % len(made)])

    await asyncio.gather(*[start(client) for client in clients])
    for client in clients:
        client.close()
    for _ in range(600):
        if await active(port) == 0:
            return time.monotonic() - began
        await asyncio.sleep(0.5)
    raise RuntimeError("some runs never came to rest")


async def active(port: int) -> float:
    """Return how many runs the service has in memory."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /metrics HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
    text = (await reader.read(-1)).decode()
    writer.close()
    return next(float(line.split()[1]) for line in text.splitlines() if line.startswith("flex_runs_active "))


async def idle(pid: int, seconds: float) -> float:
    """Return the share of one core, in percent, that the process uses while nobody asks it anything."""
    before = _cpu_seconds(pid)
    began = time.monotonic()
    await asyncio.sleep(seconds)
    return round(100 * (_cpu_seconds(pid) - before) / (time.monotonic() - began), 2)


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _memory(pid: int) -> float:
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


async def measure(url: str, count: int, seconds: float) -> dict[str, Any]:
    """Return the figures of one service."""
    with service(url) as (port, pid):
        # Twice, and some runs that wait and end: a warm process is what is compared.
        await answers(port, 16)
        none = await answers(port, 1)
        quiet, small = await idle(pid, seconds), _memory(pid)
        took = await leave_waiting(port, count)
        await asyncio.sleep(5)
        busy, large = await idle(pid, seconds), _memory(pid)
        among = await answers(port, 1)
        crowd = await answers(port, 16)
        return {
            "waiting": count,
            "made_s": round(took, 1),
            "idle_cpu_percent_none": quiet,
            "idle_cpu_percent": busy,
            "rss_mb_none": round(small, 1),
            "rss_mb": round(large, 1),
            "answer_p50_ms_none": none["p50_ms"],
            "answer_p50_ms": among["p50_ms"],
            "answer_p95_ms_none": none["p95_ms"],
            "answer_p95_ms": among["p95_ms"],
            "answer_c16_p50_ms": crowd["p50_ms"],
        }


def main() -> None:
    """Start a database, measure, print one JSON line."""
    given = arguments(count=100_000, seconds=20.0)
    with postgres_server() as server:
        server.create_database("waiting")
        emit(who="flex", store="postgres", **uvloop.run(measure(server.url("waiting"), given.count, given.seconds)))


if __name__ == "__main__":
    main()
