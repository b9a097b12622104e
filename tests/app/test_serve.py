"""A real process over HTTP: it starts by itself, and going down ends streams with a word (P5, F9)."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import orjson

FLEX = (sys.executable, "-c", "from app.cli import main; main()")
ENVELOPE = {
    "objective": "Say something",
    "inputs": {"text": "x"},
    "workflow": {
        "plan": {
            "nodes": [{"node_id": "q", "kind": "ask", "prompt": {"question": "Well?"}}],
            "edges": [],
            "output": {"mode": "map", "map": {"": {"node_id": "q", "pointer": ""}}},
        }
    },
    "output_contract": {"mode": "json_schema", "schema": {}},
}


@asynccontextmanager
async def started(database: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, str]]:
    process = await asyncio.create_subprocess_exec(
        *FLEX, "serve", "--port", "0",
        env={**os.environ, "FLEX_DATABASE_URL": f"sqlite+aiosqlite:///{database}", "FLEX_LOG_FORMAT": "json"},
        stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    assert process.stderr is not None
    try:
        address = ""
        while not address:
            line = await asyncio.wait_for(process.stderr.readline(), 30)
            assert line, "it ended before it served"
            address = orjson.loads(line).get("address", "")
        yield process, address
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


async def test_a_drain_ends_streams_with_a_word(tmp_path: Path) -> None:
    """P5, wire §4: on SIGTERM an open stream gets stream_end, the process ends with 0, and the run is still there."""
    async with started(tmp_path / "flex.db") as (process, address), httpx2.AsyncClient(base_url=address) as client:
        async with client.stream("POST", "/api/v1/flex/run.stream", json=ENVELOPE) as response:
            assert response.status_code == 200, await response.aread()
            got = b""
            async for chunk in response.aiter_raw():
                got += chunk
                if b'"run_waiting"' in chunk:
                    process.send_signal(signal.SIGTERM)
        assert b'"payload":{"reason":"draining"}' in got
        assert await asyncio.wait_for(process.wait(), 20) == 0
    run_id = response.headers["x-run-id"]
    async with started(tmp_path / "flex.db") as (_, address), httpx2.AsyncClient(base_url=address) as client:
        detail = (await client.get(f"/api/v1/runs/{run_id}")).json()
        assert (detail["status"], detail["waiting_on"], len(detail["open_prompts"])) == ("waiting", ["hitl"], 1)


async def test_an_open_address_is_refused(tmp_path: Path) -> None:
    """P2: listening for other machines without authentication needs a second word."""
    process = await asyncio.create_subprocess_exec(
        *FLEX, "serve", "--host", "0.0.0.0", "--port", "0",  # noqa: S104 - it is refused
        env={**os.environ, "FLEX_DATABASE_URL": f"sqlite+aiosqlite:///{tmp_path / 'flex.db'}"},
        stderr=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
    )  # fmt: skip
    out, err = await asyncio.wait_for(process.communicate(), 30)
    assert process.returncode not in (0, None)
    assert b"FLEX_INSECURE_BIND" in out + err
    assert not (tmp_path / "flex.db").exists()
