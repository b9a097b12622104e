"""What tests of memory do with a service over HTTP."""

from __future__ import annotations

import sys
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from types import ModuleType
from typing import Any

from capabilities.authoring import FunctionCapability
from tests.spine import running as spine
from tests.spine.running import Service, envelope, plan

ABILITIES = Path(__file__).with_name("abilities.py")
BRAND = "/api/v1/memory/shared/brand"
SCOPE = "shared:brand"


def remembering(url: str, **more: Any) -> AbstractAsyncContextManager[Service]:
    """Serve until the block ends."""
    return spine.serving(url, capabilities=(str(spine.ABILITIES), str(ABILITIES)), **more)


def abilities(service: Service) -> ModuleType:
    """The module that this service loaded."""
    registered = service.flex.registry.find("memory.keep")
    assert isinstance(registered, FunctionCapability)
    return sys.modules[registered.function.__module__]


def node(node_id: str, capability: str, value: Any, **more: Any) -> dict[str, Any]:
    """A node that calls ``memory.<capability>``."""
    inputs = {"value": {"value": value}}
    return {"node_id": node_id, "kind": "call", "capability_id": f"memory.{capability}", "inputs": inputs, **more}


def keep(node_id: str, **told: Any) -> dict[str, Any]:
    """A node that remembers in the shared scope."""
    return node(node_id, "keep", {"scope": SCOPE, **told})


def memory(node_id: str, op: str, inputs: Any = None, **fields: Any) -> dict[str, Any]:
    """A node of kind ``memory`` in the shared scope; inputs that are no bindings are literals."""
    bound = {name: value if _is_binding(value) else {"value": value} for name, value in (inputs or {}).items()}
    found = {"node_id": node_id, "kind": "memory", "op": op, "scope": SCOPE, **fields}
    return found | ({"inputs": bound} if bound else {})


def _is_binding(value: Any) -> bool:
    return isinstance(value, dict) and ("node_id" in value or "from" in value)


def asked(*nodes: dict[str, Any], scopes: tuple[str, ...] = (SCOPE,), edges: Any = (), **more: Any) -> dict[str, Any]:
    """An envelope that names the scopes."""
    return envelope(plan(*nodes, edges=edges), context={"memory": list(scopes)}, **more)


async def put(service: Service, key: str, value: Any, at: str = BRAND, **headers: str) -> int:
    """Write a key by hand; returns its revision."""
    answer = await service.client.put(f"{at}/{key}", json={"value": value}, headers=headers)
    assert answer.status_code in (200, 201), answer.text
    return int(answer.json()["revision"])


async def read(service: Service, key: str, at: str = BRAND) -> dict[str, Any] | None:
    """Read a key by hand; None when it is not there."""
    answer = await service.client.get(f"{at}/{key}")
    if answer.status_code == 404:
        return None
    found: dict[str, Any] = answer.json()
    return found
