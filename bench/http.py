"""flex over HTTP: time to the first frame, a person's answer to the next node's start, frames to many viewers."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import uvloop

from bench.loop import arguments, drive, emit, milliseconds
from bench.plans import asked_chain, envelope
from bench.server import Client, Viewer, request, service

ENVELOPE = Path(__file__).parent / "planned.json"


async def first_frame(port: int, seconds: float) -> dict[str, Any]:
    """Post a planned envelope to ``run.stream`` on a new connection; time to the first frame."""
    head = request("POST", "/api/v1/flex/run.stream", ENVELOPE.read_bytes(), "text/event-stream")
    times: list[float] = []

    async def one(_number: int) -> None:
        began = time.monotonic()
        _, viewer = await asyncio.get_running_loop().create_connection(lambda: Viewer(head), "127.0.0.1", port)
        times.append(await viewer.first - began)
        await viewer.ended
        viewer.close()

    await drive(one, 1, 0.5)
    times.clear()
    await drive(one, 1, seconds)
    return _percentiles(times)


async def answers(port: int, lanes: int) -> dict[str, Any]:
    """Decide waiting, evicted runs over HTTP, ``lanes`` at a time.

    The time is from sending the decision to the start of the next node's work, on the machine's monotonic clock.
    """
    count = {1: 150, 16: 640, 64: 1_280}.get(lanes, 20 * lanes)
    body = envelope(asked_chain(4, 5))
    clients = [Client(port) for _ in range(lanes)]

    async def prepare(client: Client, share: int) -> list[tuple[str, str]]:
        run_ids = [(await client.call("POST", "/api/v1/runs", body))["run_id"] for _ in range(share)]
        return [(run_id, await _prompt(client, run_id)) for run_id in run_ids]

    waiting = await asyncio.gather(*[prepare(client, count // lanes) for client in clients])
    sent: dict[str, int] = {}

    async def decide(client: Client, mine: list[tuple[str, str]]) -> None:
        for run_id, prompt_id in mine:
            sent[run_id] = time.monotonic_ns()
            await client.call("POST", f"/api/v1/prompts/{prompt_id}/decisions", {"action": "approve"})

    await asyncio.gather(*[decide(client, mine) for client, mine in zip(clients, waiting, strict=True)])
    times = [(await _output(clients[0], run_id) - began) / 1e9 for run_id, began in sent.items()]
    for client in clients:
        client.close()
    return _percentiles(times)


async def _prompt(client: Client, run_id: str) -> str:
    """Wait until the run waits and is out of memory; return its prompt."""
    run = await _reached(client, run_id, "waiting")
    return str(run["open_prompts"][0]["prompt_id"])


async def _output(client: Client, run_id: str) -> int:
    return int((await _reached(client, run_id, "completed"))["output"])


async def _reached(client: Client, run_id: str, status: str) -> Any:
    for _ in range(500):
        run = await client.call("GET", f"/api/v1/runs/{run_id}")
        if run["status"] == status:
            return run
        await asyncio.sleep(0.02)
    raise RuntimeError(f"{run_id} was never {status}")


async def viewers(port: int, count: int) -> dict[str, Any]:
    """Let ``count`` viewers watch one run of no-ops that starts when all are there; frames delivered per second."""
    length = {1: 3_000, 100: 600, 1_000: 100}.get(count, 300)
    client = Client(port)
    body = envelope(asked_chain(1, length), policies={"timeouts": {"run_seconds": 600}})
    run_id = (await client.call("POST", "/api/v1/runs", body))["run_id"]
    prompt_id = await _prompt(client, run_id)
    head = request("GET", f"/api/v1/runs/{run_id}/events", b"", "text/event-stream")
    watching: list[Viewer] = []
    for _ in range(count):
        _, viewer = await asyncio.get_running_loop().create_connection(lambda: Viewer(head), "127.0.0.1", port)
        watching.append(viewer)
    await asyncio.gather(*[viewer.first for viewer in watching])
    before = sum(viewer.frames for viewer in watching)
    began = time.monotonic()
    await client.call("POST", f"/api/v1/prompts/{prompt_id}/decisions", {"action": "approve"})
    ended = max(await asyncio.gather(*[viewer.ended for viewer in watching]))
    delivered = sum(viewer.frames for viewer in watching) - before
    for viewer in watching:
        viewer.close()
    client.close()
    return {"frames": delivered, "frames_s": round(delivered / (ended - began))}


def _percentiles(times: list[float]) -> dict[str, Any]:
    return {"count": len(times), "p50_ms": milliseconds(times, 0.5), "p95_ms": milliseconds(times, 0.95)}


async def main() -> None:
    """Run one case."""
    given = arguments(url="", scenario="first_frame", c=1, seconds=3.0)
    store = "sqlite" if given.url.startswith("sqlite") else "postgres"
    with service(given.url) as (port, pid):
        if given.scenario == "first_frame":
            figures = await first_frame(port, given.seconds)
        elif given.scenario == "answers":
            figures = await answers(port, given.c)
        else:
            figures = await viewers(port, given.c)
        figures["server_rss_mb"] = _memory(pid)
    emit(who="flex", store=store, scenario=given.scenario, c=given.c, **figures)


def _memory(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return round(pages * 4_096 / 2**20, 1)


if __name__ == "__main__":
    json.loads(ENVELOPE.read_text())
    uvloop.run(main())
