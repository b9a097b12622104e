"""Folders of agents as operators lay them out, and what tests ask of a service that has one."""

from __future__ import annotations

from pathlib import Path
from textwrap import dedent
from typing import Any

from capabilities.pocketflow import PocketFlowCapability
from tests.spine.running import Service
from tests.spine.sse import Frame

WRITER = """\
---
id: writer
description: Writes a line
---
Write one line about the subject.
"""

ECHO = """\
'''Says back what it is given.'''
from pocketflow import Flow, Node


class Echo(Node):
    def prep(self, shared):
        return shared["text"]

    def exec(self, text):
        return text.upper()

    def post(self, shared, prep_res, exec_res):
        shared["said"] = exec_res
        return "an action that leads nowhere"


RESULT = "said"
flow = Flow(start=Echo())
"""

FAILING = """\
from pocketflow import Flow, Node


class Fail(Node):
    def exec(self, _):
        raise ValueError("there is nothing here")


flow = Flow(start=Fail())
"""


SLOW = """\
import threading
from pocketflow import Flow, Node

OPEN = threading.Event()
BEGAN = threading.Event()


class Slow(Node):
    def exec(self, _):
        BEGAN.set()
        assert OPEN.wait(10)
        return "first"

    def post(self, shared, prep_res, exec_res):
        shared["result"] = exec_res


flow = Flow(start=Slow())
"""


def lay(folder: Path, files: dict[str, str]) -> Path:
    """Write files into a folder; returns it."""
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(dedent(text), encoding="utf-8")
    return folder


async def listed(service: Service) -> dict[str, dict[str, Any]]:
    """What the door says, by file."""
    answer = await service.client.get("/api/v1/agents", params={"limit": 100})
    assert answer.status_code == 200, answer.text
    return {item["source"]: item for item in answer.json()["items"]}


async def start_flow(service: Service, flow_id: str, **body: Any) -> str:
    """Start a run of a flow without retries; returns its id."""
    quick = {"retry": {"max_attempts": 1, "base_ms": 0, "max_ms": 0}}
    answer = await service.client.post(f"/api/v1/flows/{flow_id}/run", json={"policies": quick, **body})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["run_id"])


async def run_flow(service: Service, flow_id: str, **body: Any) -> list[Frame]:
    """Start a run of a flow and follow it to its end."""
    return await service.follow(await start_flow(service, flow_id, **body))


def module_of(service: Service, capability_id: str) -> dict[str, Any]:
    """The globals of the file that a PocketFlow agent was read from."""
    found = service.flex.registry.find(capability_id)
    assert isinstance(found, PocketFlowCapability)
    globals_: dict[str, Any] = found._root.start_node.exec.__func__.__globals__
    return globals_
