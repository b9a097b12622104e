"""What synchronous agents cost everybody else: time to the first frame beside 50 runs that block for 200 ms (R2).

Both figures are of one service: idle before and after, and in between with ``c`` runs of ``bench/agents/slow.py`` under
way all the time.
"""

from __future__ import annotations

import asyncio
import json
import os
import time
from pathlib import Path
from typing import Any

import uvloop

from bench.http import ENVELOPE
from bench.loop import arguments, emit, milliseconds
from bench.plans import envelope
from bench.server import Viewer, request, service

AGENTS = Path(__file__).parent / "agents"
SLOW = {"node_id": "slow", "kind": "call", "capability_id": "agent.slow"}
PLAN = {"nodes": [SLOW], "edges": [], "output": {"map": {"": {"node_id": "slow", "pointer": ""}}}}
PAUSE = 0.05


async def _stream(port: int, body: bytes, times: list[float]) -> None:
    """Post an envelope on a new connection, note the time to its first frame, and see it through."""
    head = request("POST", "/api/v1/flex/run.stream", body, "text/event-stream")
    began = time.monotonic()
    _, viewer = await asyncio.get_running_loop().create_connection(lambda: Viewer(head), "127.0.0.1", port)
    times.append(await viewer.first - began)
    await viewer.ended
    viewer.close()


async def _probe(port: int, seconds: float) -> list[float]:
    """Ask for planned runs, one after the other with a short pause, as single users do."""
    times: list[float] = []
    body = ENVELOPE.read_bytes()
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        await _stream(port, body, times)
        await asyncio.sleep(PAUSE)
    return times


async def measure(port: int, lanes: int, seconds: float) -> dict[str, Any]:
    """Probe the service while it is idle, while it works, and while it is idle again: machines drift."""
    await _probe(port, 1.0)
    idle = await _probe(port, seconds / 2)
    body = json.dumps(envelope(PLAN)).encode()
    own: list[float] = []
    stop = asyncio.Event()

    async def lane(number: int) -> None:
        await asyncio.sleep(number * 0.02)
        while not stop.is_set():
            await _stream(port, body, own)

    tasks = [asyncio.create_task(lane(number)) for number in range(lanes)]
    await asyncio.sleep(2.0)
    own.clear()
    busy = await _probe(port, seconds)
    stop.set()
    await asyncio.gather(*tasks)
    idle += await _probe(port, seconds / 2)
    ratio = (milliseconds(busy, 0.5) or 0) / (milliseconds(idle, 0.5) or 1)
    return {
        "idle_p50_ms": milliseconds(idle, 0.5), "idle_p95_ms": milliseconds(idle, 0.95),
        "p50_ms": milliseconds(busy, 0.5), "p95_ms": milliseconds(busy, 0.95), "ratio_p50": round(ratio, 2),
        "own_p50_ms": milliseconds(own, 0.5), "own_p95_ms": milliseconds(own, 0.95),
        "probes": len(busy), "runs_s": round(len(own) / seconds, 1),
    }  # fmt: skip


async def main() -> None:
    """Run one case."""
    given = arguments(url="", c=50, seconds=5.0)
    os.environ["FLEX_AGENTS_DIR"] = str(AGENTS)
    with service(given.url) as (port, _):
        figures = await measure(port, given.c, given.seconds)
    store = "sqlite" if given.url.startswith("sqlite") else "postgres"
    emit(who="flex", store=store, scenario="blocking", c=given.c, **figures)


if __name__ == "__main__":
    uvloop.run(main())
