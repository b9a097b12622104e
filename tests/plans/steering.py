"""What a client does to a run that lives: edits its plan, fires its rules, pauses it."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2

from tests.spine.running import ABILITIES, Service, serving
from tests.spine.sse import Reader

OWN = Path(__file__).with_name("abilities.py")


@asynccontextmanager
async def served(url: str, *files: Path, **more: Any) -> AsyncIterator[Service]:
    """Serve with the spine's capabilities, these tests' own, and further ones."""
    paths = tuple(str(path) for path in (ABILITIES, OWN, *files))
    async with serving(url, capabilities=paths, **more) as running:
        yield running


def own_abilities(service: Service) -> ModuleType:
    """The module of these tests' capabilities as this process loaded it."""
    registered = service.flex.registry.find("plans.noted")
    assert registered is not None
    return sys.modules[registered.function.__module__]  # type: ignore[attr-defined]  # a FunctionCapability


async def plan_of(service: Service, run_id: str, version: int | None = None) -> dict[str, Any]:
    """The run's plan as it is read."""
    query = "" if version is None else f"?version={version}"
    response = await service.client.get(f"/api/v1/runs/{run_id}/plan{query}")
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def edit(
    service: Service, run_id: str, plan: Any, base: int, *, cancel: Any = (), reason: str = "because"
) -> httpx2.Response:
    """Send an edited plan."""
    body = {"base_version": base, "plan": plan, "cancel": list(cancel), "reason": reason}
    return await service.client.patch(f"/api/v1/runs/{run_id}/plan", json=body)


async def edited(service: Service, run_id: str, plan: Any, base: int, **more: Any) -> dict[str, Any]:
    """Send an edited plan that has to be taken."""
    response = await edit(service, run_id, plan, base, **more)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = response.json()
    return found


async def fire(service: Service, run_id: str, policy_id: str) -> httpx2.Response:
    """Fire a manual rule."""
    return await service.client.post(f"/api/v1/runs/{run_id}/policies/{policy_id}/trigger", json={})


async def resume(service: Service, run_id: str) -> None:
    """End a pause."""
    response = await service.client.post(f"/api/v1/runs/{run_id}/resume", json={})
    assert response.status_code == 200, response.text


async def asked_of(reader: Reader, node_id: str) -> dict[str, Any]:
    """Read on to the question of a node and to the wait for it; return the prompt."""
    prompt: dict[str, Any] = (await reader.until("hitl_request", node_id)).payload["prompt"]
    await reader.until("run_waiting")
    return prompt


def rule(policy_id: str, trigger: Any, action: Any, **more: Any) -> dict[str, Any]:
    """A runtime rule; a trigger or an action may be named alone."""
    return {
        "id": policy_id,
        "trigger": {"type": trigger} if isinstance(trigger, str) else trigger,
        "action": {"type": action} if isinstance(action, str) else action,
        **more,
    }
