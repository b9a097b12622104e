"""What tests of waiting share: nodes that wait, times, and calling back."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2

from tests.spine.running import Service, call, envelope
from tests.spine.sse import Frame

OPENING = ["start", "plan_generated"]
SLACK_MS = 700
"""How late a timer may be on a busy machine; a service that looks once a second could not keep to it."""


def delay(node_id: str = "d", **own: Any) -> dict[str, Any]:
    """A node that waits for a time."""
    return {"node_id": node_id, "kind": "delay", **own}


def wait(node_id: str = "w", **own: Any) -> dict[str, Any]:
    """A node that waits for its callback."""
    return {"node_id": node_id, "kind": "wait", **own}


def tell(node_id: str = "w", **more: Any) -> dict[str, Any]:
    """A call that is given the address of a callback, and passes it on as its output."""
    address = {"from": f"/run/callbacks/{node_id}"}
    return call("tell", "noop", **more) | {"inputs": {"value": address}}


def at(frame: Frame) -> datetime:
    """When a frame was written."""
    return datetime.fromisoformat(frame.whole["timestamp"])


def apart(frames: list[Frame], one: str, other: str) -> float:
    """Milliseconds between two frames, named by their shapes."""
    first = next(frame for frame in frames if frame.shape == one)
    last = next(frame for frame in frames if frame.shape == other)
    return (at(last) - at(first)) / timedelta(milliseconds=1)


def soon(seconds: float) -> str:
    """An RFC 3339 time from now, in another zone than ours."""
    moment = datetime.now(UTC) + timedelta(seconds=seconds, hours=2)
    return moment.isoformat(timespec="milliseconds").replace("+00:00", "+02:00")


async def post(service: Service, url: str, **body: Any) -> httpx2.Response:
    """Call back."""
    return await service.client.post(url, json=body)


async def called(service: Service, url: str, **body: Any) -> dict[str, Any]:
    """Call back, and be taken."""
    answer = await post(service, url, **body)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def refused(service: Service, url: str, number: int, code: str, **body: Any) -> dict[str, Any]:
    """Call back, and be refused."""
    answer = await post(service, url, **body)
    assert (answer.status_code, answer.json()["code"]) == (number, code), answer.text
    found: dict[str, Any] = answer.json()
    return found


async def address_of(service: Service, run_id: str, node_id: str = "w") -> str:
    """Where the node is called back, once it waits."""
    async with service.watch(run_id) as reader:
        await reader.until("run_waiting")
    node = (await service.client.get(f"/api/v1/runs/{run_id}/nodes/{node_id}")).json()
    return str(node["callback_url"])


async def not_a_plan(service: Service, graph: dict[str, Any]) -> list[tuple[str, str]]:
    """Send a plan that is refused; return the findings' places and codes."""
    answer = await service.client.post("/api/v1/runs", json=envelope(graph))
    assert (answer.status_code, answer.json()["code"]) == (422, "plan_invalid"), answer.text
    return [(item["pointer"], item["code"]) for item in answer.json()["errors"]]
