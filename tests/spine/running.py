"""A whole service on a loopback port, in this process, and what a client does with it."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import httpx2
import uvicorn

from app.serve import Server
from app.settings import Settings
from app.wiring import Flex, open_flex
from routes.app import build
from tests.spine.sse import TERMINAL, Frame, Reader, read_frame

ABILITIES = Path(__file__).with_name("abilities.py")
FREE = {"schema": True}
PATIENCE = 15.0


@dataclass
class Service:
    """A served process: its parts, and an HTTP client that talks to it."""

    flex: Flex
    client: httpx2.AsyncClient
    settings: Settings
    server: Server

    @property
    def abilities(self) -> ModuleType:
        """The module this process loaded from the capability file: gates to open, calls to look at."""
        registered = self.flex.registry.find("spine.noop")
        assert registered is not None
        return sys.modules[registered.function.__module__]  # type: ignore[attr-defined]  # a FunctionCapability

    @property
    def calls(self) -> list[str]:
        """The capabilities whose bodies began, in order."""
        return [name for name, _, _ in self.abilities.CALLS]

    @asynccontextmanager
    async def stream(self, envelope: Any, **headers: str) -> AsyncIterator[Reader]:
        """``run.stream``; the caller reads as it likes."""
        url = "/api/v1/flex/run.stream"
        async with (
            asyncio.timeout(PATIENCE),
            self.client.stream("POST", url, json=envelope, headers=headers) as response,
        ):
            if response.status_code != 200:
                raise AssertionError(f"{response.status_code} {(await response.aread()).decode()}")
            assert response.headers["content-type"].startswith("text/event-stream")
            yield Reader(response)

    async def run(self, envelope: Any) -> list[Frame]:
        """Stream a run to its end."""
        async with self.stream(envelope) as reader:
            return await reader.rest()

    async def start(self, envelope: Any) -> str:
        """Accept a run without watching it."""
        response = await self.client.post("/api/v1/runs", json=envelope)
        assert response.status_code == 202, response.text
        return str(response.json()["run_id"])

    @asynccontextmanager
    async def watch(self, run_id: str, after: int = 0, last_event_id: str | None = None) -> AsyncIterator[Reader]:
        """Follow a run's events."""
        url = f"/api/v1/runs/{run_id}/events"
        headers = {} if last_event_id is None else {"Last-Event-ID": last_event_id}
        options: Any = {"params": {"after": after}, "headers": headers}
        async with asyncio.timeout(PATIENCE), self.client.stream("GET", url, **options) as response:
            assert response.status_code == 200, await response.aread()
            yield Reader(response)

    async def log(self, run_id: str) -> list[Frame]:
        """The run's durable frames so far, as JSON pages."""
        frames: list[Frame] = []
        while True:
            after = frames[-1].id if frames else 0
            url = f"/api/v1/runs/{run_id}/events?after={after}"
            response = await self.client.get(url, headers={"Accept": "application/json"})
            page = response.json() if response.status_code == 200 else {"items": []}
            frames += [read_frame(item) for item in page["items"]]
            if not page["items"] or frames[-1].type in TERMINAL:
                return frames

    async def follow(self, run_id: str) -> list[Frame]:
        """All frames of a run, waiting for its end."""
        async with self.watch(run_id) as reader:
            return await reader.rest()

    async def decide(self, prompt_id: str, action: str, **more: Any) -> httpx2.Response:
        """Post a decision."""
        return await self.client.post(f"/api/v1/prompts/{prompt_id}/decisions", json={"action": action, **more})

    async def decided(self, prompt: dict[str, Any], action: str, **more: Any) -> dict[str, Any]:
        """Post a decision that must be taken."""
        response = await self.decide(prompt["prompt_id"], action, **more)
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    async def detail(self, run_id: str) -> dict[str, Any]:
        """The run as it stands."""
        response = await self.client.get(f"/api/v1/runs/{run_id}")
        assert response.status_code == 200, response.text
        found: dict[str, Any] = response.json()
        return found

    async def asked(self, run_id: str, many: int = 1) -> list[dict[str, Any]]:
        """Wait until the run waits for that many prompts, and return them oldest first."""
        async with self.watch(run_id) as reader:
            while len((await reader.until("run_waiting")).payload["prompt_ids"]) < many:
                pass
        found = (await self.detail(run_id))["open_prompts"]
        return sorted(found, key=lambda prompt: (prompt["created_at"], prompt["prompt_id"]))


def settings_for(url: str, **more: Any) -> Settings:
    """Settings of a test's process: its own database, the spine's capabilities."""
    given: dict[str, Any] = {"capabilities": (str(ABILITIES),), "drain_seconds": 0.2, "lease_seconds": 5.0} | more
    return Settings(database_url=url, **given)


@asynccontextmanager
async def serving(url: str, *, wrap: Callable[[Any], Any] = lambda app: app, **more: Any) -> AsyncIterator[Service]:
    """Serve until the block ends; drained like a stopping process. ``wrap`` puts something before the application."""
    settings = settings_for(url, **more)
    async with open_flex(settings) as flex:
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        config = uvicorn.Config(
            wrap(build(flex.doors)), port=0, lifespan="off", log_config=None, loop="none", ws="none",
            timeout_graceful_shutdown=2,
        )  # fmt: skip
        server = Server(config, flex.begin_drain, port.set_result)
        task = asyncio.create_task(server.serve())
        limits = httpx2.Limits(max_connections=300)
        base = f"http://127.0.0.1:{await port}"
        async with httpx2.AsyncClient(base_url=base, timeout=PATIENCE, limits=limits) as client:
            yield Service(flex, client, settings, server)
        server.should_exit = True
        await task


def plan(*nodes: dict[str, Any], output: Any = None, edges: Any = ()) -> dict[str, Any]:
    """A submitted plan; the last node's output is the answer unless ``output`` maps it."""
    last = {"": {"node_id": nodes[-1]["node_id"], "pointer": ""}}
    return {"nodes": list(nodes), "edges": list(edges), "output": {"mode": "map", "map": output or last}}


def call(node_id: str, capability: str, value: Any = ..., **more: Any) -> dict[str, Any]:
    """A node that calls ``spine.<capability>``; ``value`` is a literal unless it is a binding made by ``of``."""
    node: dict[str, Any] = {"node_id": node_id, "kind": "call", "capability_id": f"spine.{capability}", **more}
    if value is not ...:
        bound = value.binding if isinstance(value, of) else {"value": value}
        node["inputs"] = {"value": bound}
    return node


class of:  # noqa: N801 -- reads like a word in the plans of tests: of("a")
    """A binding to another node's output."""

    def __init__(self, node_id: str, pointer: str = "") -> None:
        self.binding = {"node_id": node_id, "pointer": pointer}


def edge(start: str, end: str, condition: str | None = None) -> dict[str, Any]:
    """An edge."""
    return {"from": start, "to": end} | ({} if condition is None else {"condition": condition})


def envelope(workflow: Any = None, schema: Any = True, **more: Any) -> dict[str, Any]:
    """An envelope for a submitted plan; retries come at once."""
    policies = {"retry": {"max_attempts": 3, "base_ms": 0, "max_ms": 0}} | more.pop("policies", {})
    whole: dict[str, Any] = {"objective": "Do it", "output_contract": {"mode": "json_schema", "schema": schema}}
    if workflow is not None:
        whole["workflow"] = {"plan": workflow}
    return whole | {"policies": policies} | more


def greeting(**more: Any) -> dict[str, Any]:
    """An envelope the planner has to find a plan for: one node of the cheapest capability that greets."""
    schema = {"type": "object", "required": ["spine_greeting"], "properties": {"spine_greeting": {"type": "string"}}}
    return envelope(schema=more.pop("schema", schema), inputs={"spine_who": "Ana"}, **more)
