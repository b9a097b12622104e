"""Logs say which run, node and attempt a line belongs to, whoever wrote it (F14)."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
import structlog

from app.logs import configure
from app.settings import Settings
from app.wiring import open_flex
from contracts.access import LOCAL

CAPABILITY = """
import structlog
from capabilities import capability

@capability("test.loud")
async def loud() -> object:
    structlog.get_logger("mine").info("inside")
    raise RuntimeError("secret plumbing")
"""
ENVELOPE: dict[str, Any] = {
    "objective": "log",
    "output_contract": {"schema": True},
    "correlation_id": "cid-log",
    "policies": {"retry": {"max_attempts": 1}},
    "workflow": {
        "plan": {
            "nodes": [{"node_id": "a", "kind": "call", "capability_id": "test.loud"}],
            "edges": [],
            "output": {"map": {"": {"node_id": "a"}}},
        }
    },
}


@pytest.fixture
def log() -> Iterator[io.StringIO]:
    stream, before = io.StringIO(), structlog.get_config()
    configure("info", "json", stream)
    yield stream
    structlog.configure(**before)


async def test_every_line_of_an_attempt_carries_its_ids(sqlite_url: str, tmp_path: Path, log: io.StringIO) -> None:
    file = tmp_path / "loud.py"
    file.write_text(CAPABILITY)
    async with open_flex(Settings(database_url=sqlite_url, capabilities=(str(file),))) as flex:
        run_id = (await flex.doors.runs.submit(ENVELOPE, LOCAL, key=None, correlation_id=None)).run_id
        async for _ in flex.feed.follow(LOCAL.tenant, run_id, 0):
            pass
    lines = {line["event"]: line for line in map(orjson.loads, log.getvalue().splitlines())}
    ids = {"run_id": run_id, "node_id": "a", "capability_id": "test.loud", "attempt": 1, "correlation_id": "cid-log"}
    for event in ("inside", "capability_raised", "attempt_failed"):
        assert ids.items() <= lines[event].items(), event
    assert "secret plumbing" in lines["capability_raised"]["exception"]
    assert lines["attempt_failed"]["status"] == "failed"
    assert (lines["run_ended"]["run_id"], lines["run_ended"]["status"]) == (run_id, "failed")


def test_a_terminal_sees_where_it_broke_and_no_local_variables(log: io.StringIO) -> None:
    """F14: whatever a failed function held is not printed; rendering it would hold everything up for seconds."""
    configure("info", "console", log)
    secret = "held by a function"
    try:
        raise RuntimeError("broke")
    except RuntimeError:
        structlog.get_logger("mine").exception("it_broke")
    said = log.getvalue()
    assert "Traceback (most recent call last)" in said
    assert "RuntimeError: broke" in said
    assert secret not in said
