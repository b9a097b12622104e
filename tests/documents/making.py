"""Documents, flows that need them, and what tests do with both over HTTP."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2

from tests.flows.making import document, published
from tests.spine.running import Service, call, plan

LETTER = "Dear Ana,\n\nthe refund takes five days. Bakers get theirs at once.\n\nYours, Ben\n"


def place(story_id: str, document_id: str = "", below: str = "") -> str:
    """Where a document is."""
    name = f"/{document_id}" if document_id else ""
    return f"/api/v1/stories/{story_id}/documents{name}{below}"


async def put(
    service: Service,
    story_id: str,
    document_id: str,
    content: str | bytes = LETTER,
    media: str = "text/plain",
    **headers: str,
) -> httpx2.Response:
    """Store a document."""
    body = content.encode() if isinstance(content, str) else content
    sent = {"Content-Type": media, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return await service.client.put(place(story_id, document_id), content=body, headers=sent)


async def stored(service: Service, story_id: str, document_id: str, *more: Any, **headers: str) -> dict[str, Any]:
    """Store a document that must be taken."""
    answer = await put(service, story_id, document_id, *more, **headers)
    assert answer.status_code in (200, 201), answer.text
    found: dict[str, Any] = answer.json()
    return found


def needing(*documents: str, **changes: Any) -> dict[str, Any]:
    """A flow of one node that needs documents."""
    settings = {"documents": list(documents), **changes.pop("settings", {})}
    return document(inputs=True, plan=plan(call("a", "noop", "done")), settings=settings, **changes)


async def flow_of(service: Service, *documents: str, **changes: Any) -> str:
    """A published flow that needs documents."""
    return await published(service, needing(*documents, **changes))


async def run(service: Service, flow: str | None = None, **body: Any) -> httpx2.Response:
    """``POST /run``."""
    named = {} if flow is None else {"flow": flow}
    return await service.client.post("/run", json={**named, **body})


async def waits_for(service: Service, run_id: str, missing: list[str] | None) -> None:
    """Wait until the run has heard of what came."""
    async with asyncio.timeout(10):
        while (await service.detail(run_id))["pending_docs"] != missing:  # noqa: ASYNC110  # no frame says it
            await asyncio.sleep(0.01)
