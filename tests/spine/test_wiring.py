"""Everything the wiring builds is really built, per topology (F16). Trap: shipped with a missing import."""

from __future__ import annotations

import ast
import asyncio
import inspect
import os
import signal
from contextlib import AsyncExitStack
from dataclasses import fields
from pathlib import Path
from typing import Any

import httpx2
import pytest

from app import wiring
from app.serve import serve
from app.settings import Settings
from app.system import KillAt
from app.wiring import crash_points, open_flex
from contracts.access import LOCAL
from contracts.ports import CRASH_POINTS
from routes.doors import Doors
from tests.spine.running import ABILITIES, Service, call, envelope, plan, serving, settings_for

OF_ONE_TOPOLOGY = {"sqlite": {"PostgresNudge"}, "postgresql": {"LocalNudge"}}
# The crash points are built from the environment of a process that is meant to die.
ELSEWHERE = {"KillAt"}


def built() -> dict[str, type]:
    """The classes that ``app/wiring.py`` calls, by name."""
    calls = [node.func for node in ast.walk(ast.parse(inspect.getsource(wiring))) if isinstance(node, ast.Call)]
    names = {function.id for function in calls if isinstance(function, ast.Name)}
    found = {name: getattr(wiring, name, None) for name in names}
    return {name: each for name, each in found.items() if isinstance(each, type) and each is not AsyncExitStack}


def noted(monkeypatch: pytest.MonkeyPatch, name: str, each: type, seen: set[str]) -> None:
    """Note that an object of a class was made."""
    original = each.__init__  # type: ignore[misc]  # of a class, not of an object

    def init(self: Any, *args: Any, **kwargs: Any) -> None:
        seen.add(name)
        original(self, *args, **kwargs)

    monkeypatch.setattr(each, "__init__", init)


async def test_every_object_is_constructed(database_url: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """F16: with a model and addresses configured, so that nothing is left out; and every door is filled."""
    topology = database_url.partition("+")[0]
    model = {"model_base_url": "http://127.0.0.1:9/v1", "model": "m", "model_api_key": "k"}
    telling = {"notify": {"user:ana": ["json://127.0.0.1:9/"]}, "public_url": "https://flex.example"}
    agents = {"agents_dir": str(tmp_path), "agents_reload": True}
    settings = settings_for(database_url, **model, **telling, **agents)
    classes, seen = built(), set[str]()
    for name, each in classes.items():
        noted(monkeypatch, name, each, seen)
    expected = set(classes) - ELSEWHERE - OF_ONE_TOPOLOGY[topology]
    assert {"Journal", "Feed", "Registry", "Worker", "Desk", "Sweep", "Doors", "OpenAIModel"} <= expected
    async with open_flex(settings) as flex:
        assert expected - seen == set()
        assert [field.name for field in fields(Doors) if getattr(flex.doors, field.name) is None] == []
    tasks = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
    assert tasks == [], "a closed process leaves nothing running"


async def test_a_process_without_work_serves_and_walks_nothing(database_url: str) -> None:
    """Design §5: a gateway accepts, a worker walks; the run is the same."""
    async with open_flex(settings_for(database_url), work=False) as gateway:
        accepted = await gateway.doors.runs.submit(
            envelope(plan(call("a", "noop", 3))), LOCAL, key=None, correlation_id=None
        )
        assert gateway.worker.held == 0
    async with serving(database_url) as service:
        frames = await service.follow(accepted.run_id)
    assert [frame.id for frame in frames] == list(range(1, len(frames) + 1))
    assert frames[-1].payload["output"] == 3


async def test_the_command_serves(sqlite_url: str) -> None:
    """F16: ``serve`` itself, with the real opener, up to its answer and down again."""
    port: asyncio.Future[int] = asyncio.get_running_loop().create_future()
    settings = settings_for(sqlite_url, port=0)
    task = asyncio.create_task(serve(settings, open_flex, on_started=port.set_result))
    async with httpx2.AsyncClient(base_url=f"http://127.0.0.1:{await port}") as client:
        assert (await client.get("/readyz")).status_code == 200
        answer = await client.post(
            "/api/v1/runs", json=envelope(plan(call("a", "noop", 1))), headers={"Prefer": "wait=5"}
        )
        assert answer.json()["status"] == "completed"
    os.kill(os.getpid(), signal.SIGTERM)
    await task


def test_crash_points_are_armed_by_name() -> None:
    """The environment of a test may name any of them, and nothing else."""
    for name in CRASH_POINTS:
        assert isinstance(crash_points(Settings(crash_at=f"{name}:2")), KillAt)
    with pytest.raises(ValueError, match="no crash point"):
        crash_points(Settings(crash_at="nowhere"))


async def test_an_empty_database_is_migrated_first(tmp_path: Path) -> None:
    """Wire §5a: a fresh file needs nothing but a path."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'fresh.db'}"
    async with serving(url) as service:
        assert (await service.run(envelope(plan(call("a", "noop", 1)))))[-1].type == "complete"


async def test_the_capability_file_is_loaded(service: Service) -> None:
    """F15: what ``FLEX_CAPABILITIES`` names is listed and can be called."""
    listed = (await service.client.get("/api/v1/capabilities")).json()["items"]
    assert "spine.noop" in {item["capability_id"] for item in listed}
    assert str(ABILITIES) in Settings(capabilities=(str(ABILITIES),)).capabilities
