"""Deleting a flow that has run a thousand times, and is running (T5)."""

from __future__ import annotations

import asyncio
from typing import Any

from contracts.access import LOCAL, Principal
from contracts.history import Wanted
from tests.executions.test_history import ASKING
from tests.flows.making import document, published
from tests.spine.running import Service

MANY = 1_000
RUNNING = 40
STRANGER = Principal("user:eve", "other", frozenset({"admin"}))


async def started(service: Service, flow_id: str, many: int) -> list[str]:
    """Start runs of a flow, a few at a time."""
    room = asyncio.Semaphore(50)

    async def one(number: int) -> str:
        async with room:
            flows, runs = service.flex.doors.flows, service.flex.doors.runs
            envelope = await flows.envelope(LOCAL, flow_id, {"inputs": {"x": str(number)}})
            return (await runs.submit(envelope, LOCAL, trigger="run")).run_id

    return list(await asyncio.gather(*(one(number) for number in range(many))))


async def listed(service: Service, principal: Principal) -> dict[str, dict[str, Any]]:
    """Every execution that somebody may read, page by page."""
    found: dict[str, dict[str, Any]] = {}
    cursor = None
    while True:
        page = await service.flex.doors.executions.page(principal, Wanted(), cursor=cursor, limit=100)
        assert not found.keys() & {item["id"] for item in page["items"]}, "an execution is listed twice"
        found |= {item["id"]: item for item in page["items"]}
        cursor = page["next_cursor"]
        if cursor is None:
            return found


async def test_none_of_a_thousand_executions_is_lost(service: Service) -> None:
    """T5 (trap): ended, running and waiting ones; all listable with the flow's name, none by another tenant."""
    quick, asking = await published(service), await published(service, document(name="Asks", plan=ASKING))
    runs = await started(service, quick, MANY - RUNNING)
    waiting = await started(service, asking, RUNNING)
    for run_id in waiting:
        await service.asked(run_id)
    for flow_id in (quick, asking):
        etag = (await service.client.get(f"/api/v1/flows/{flow_id}")).headers["etag"]
        gone = await service.client.delete(f"/api/v1/flows/{flow_id}", headers={"If-Match": etag})
        assert gone.status_code == 204
    found = await listed(service, LOCAL)
    assert found.keys() == {*runs, *waiting}
    assert {(item["flow_id"], item["flow_name"]) for item in found.values()} == {(None, "Echo"), (None, "Asks")}
    assert {found[run_id]["status"] for run_id in waiting} == {"waiting"}
    for run_id in waiting:
        (prompt,) = await service.asked(run_id)
        await service.decided(prompt, "answer", answer="yes")
        await service.follow(run_id)
    again = await listed(service, LOCAL)
    assert again.keys() == found.keys()
    assert {item["status"] for item in again.values()} == {"completed"}
    assert await listed(service, STRANGER) == {}
