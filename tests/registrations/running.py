"""A whole service with a clock that tests can push forward, and a capability of somebody else's behind HTTP."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import httpx2
import orjson
import uvicorn

from app.serve import Server
from app.system import SystemClock
from app.wiring import open_flex
from contracts.access import Principal
from routes.app import build
from tests.capabilities.web import Answer, Asked
from tests.spine.running import PATIENCE, Service, settings_for

CAPABILITIES = "/api/v1/capabilities"
NAME = "weather.look_up"
SKY = {"type": "object", "required": ["sky"], "properties": {"sky": {"type": "string"}}}
FACETS = [
    {"name": "town", "schema": {"type": "string"}, "description": "A town"},
    {"name": "forecast", "schema": SKY, "aliases": ["outlook"], "description": "Tomorrow's weather"},
]
ENVELOPE = {
    "objective": "Tell me the weather",
    "inputs": {"town": "Bern"},
    "policies": {"retry": {"max_attempts": 2, "base_ms": 0, "max_ms": 0}},
    "output_contract": {"schema": {"type": "object", "required": ["outlook"], "properties": {"outlook": SKY}}},
}


class PushedClock(SystemClock):
    """This machine's clock, whose wall time a test pushes forward."""

    def __init__(self) -> None:
        self.ahead_ms = 0

    def now_ms(self) -> int:
        return super().now_ms() + self.ahead_ms

    def push(self, seconds: float) -> None:
        self.ahead_ms += round(seconds * 1_000)


def declaration(url: str, **changes: Any) -> dict[str, Any]:
    """A registration of a capability that says what the weather will be."""
    return {
        "capability_id": NAME,
        "description": "Looks the weather up.",
        "address": {"type": "http", "url": url},
        "facets": FACETS,
        "consumes": {"town": {"facet": "town"}},
        "produces": ["forecast"],
        "effects": "idempotent",
        "heartbeat_seconds": 60,
        **changes,
    }


def says(value: Any, status: int = 200, **headers: str) -> Callable[[Asked], Answer]:
    """A server that always answers with this JSON."""
    return lambda _: Answer(status, {"content-type": "application/json", **headers}, (orjson.dumps(value),))


def sunny(asked: Asked) -> Answer:
    """The other side: an output made from the inputs, and what it cost."""
    town = orjson.loads(asked.body)["inputs"]["town"]
    return says({"output": {"sky": f"blue over {town}"}, "usage": {"tokens": 7, "cost": 0.5}})(asked)


@asynccontextmanager
async def serving(url: str, clock: PushedClock | None = None, **more: Any) -> AsyncIterator[Service]:
    """Serve until the block ends; calls to this machine are allowed unless ``egress_allow`` says otherwise."""
    settings = settings_for(url, **{"egress_allow": ("127.0.0.1",), **more})
    async with open_flex(settings, clock=clock) as flex:
        port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        config = uvicorn.Config(
            build(flex.doors), port=0, lifespan="off", log_config=None, loop="none", ws="none",
            timeout_graceful_shutdown=2,
        )  # fmt: skip
        server = Server(config, flex.begin_drain, port.set_result)
        task = asyncio.create_task(server.serve())
        async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{await port}", timeout=PATIENCE) as client:
            yield Service(flex, client, settings, server)
        server.should_exit = True
        await task


@asynccontextmanager
async def acting_as(service: Service, principal: Principal) -> AsyncIterator[httpx2.AsyncClient]:
    """A client whose requests come from ``principal``, as authentication would find out."""
    app = build(service.flex.doors)

    async def known(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "flex.principal": principal}, receive, send)

    transport = httpx2.ASGITransport(app=known)
    async with httpx2.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


async def register(service: Service, body: Any, status: int = 201) -> dict[str, Any]:
    """Register and return the answer."""
    answer = await service.client.post(CAPABILITIES, json=body)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def listed(service: Service, name: str = NAME) -> list[dict[str, Any]]:
    """The capability as the catalogue lists it, a version each."""
    items = (await service.client.get(CAPABILITIES, params={"limit": 100})).json()["items"]
    return [item for item in items if item["capability_id"] == name]
