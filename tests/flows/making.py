"""Documents of flows, and what tests do with them over HTTP."""

from __future__ import annotations

from typing import Any

import httpx2

from tests.spine.running import Service, call, plan

ECHO = plan(
    {"node_id": "echo", "kind": "call", "capability_id": "spine.noop", "inputs": {"value": {"from": "/inputs/x"}}}
)


def document(**changes: Any) -> dict[str, Any]:
    """A flow that gives back what it is given."""
    schema = {"type": "object", "required": ["x"], "properties": {"x": {"type": "string"}}}
    return {"name": "Echo", "description": "Says it again", "inputs": schema, "plan": ECHO, **changes}


def two_steps(**changes: Any) -> dict[str, Any]:
    """A flow of two nodes."""
    return document(plan=plan(call("a", "noop", "x"), call("b", "noop", "y")), **changes)


def tag(revision: int) -> dict[str, str]:
    """The header that names a revision."""
    return {"If-Match": f'"{revision}"'}


async def made(service: Service, body: Any = None) -> dict[str, Any]:
    """Store a flow."""
    answer = await service.client.post("/api/v1/flows", json=document() if body is None else body)
    assert answer.status_code == 201, answer.text
    assert answer.headers["etag"] == '"1"'
    flow: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/api/v1/flows/{flow['flow_id']}"
    return flow


async def published(service: Service, body: Any = None) -> str:
    """Store a flow and publish its first version; returns its id."""
    flow = await made(service, body)
    answer = await publish(service, flow["flow_id"], flow["revision"])
    assert answer.status_code == 201, answer.text
    return str(flow["flow_id"])


async def publish(service: Service, flow_id: str, revision: int, **body: Any) -> httpx2.Response:
    """Publish the draft."""
    return await service.client.post(f"/api/v1/flows/{flow_id}/publish", json=body, headers=tag(revision))


async def saved(service: Service, flow_id: str, revision: int, body: Any) -> httpx2.Response:
    """Write the draft over."""
    return await service.client.put(f"/api/v1/flows/{flow_id}", json=body, headers=tag(revision))


def codes(answer: httpx2.Response) -> list[tuple[str, str]]:
    """Where a refusal points, and why."""
    return [(item["pointer"], item["code"]) for item in answer.json()["errors"]]
