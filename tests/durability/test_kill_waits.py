"""kill -9 while runs wait for a time, for the outside world, or paused: what is awaited is rows (H1, F10, J6)."""

import asyncio
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx2
import pytest

from tests.durability.auditor import audit, stored
from tests.durability.people import Caller
from tests.durability.plans import call, chain
from tests.durability.service import Service, World
from tests.durability.waiting import until

pytestmark = pytest.mark.chaos

WAIT = {"node_id": "rest", "kind": "wait"}


def delay(seconds: float) -> dict[str, Any]:
    return {"node_id": "rest", "kind": "delay", "seconds": seconds}


def follower(service: Service, *nodes: dict[str, Any]) -> Caller:
    """Somebody who has a chain of these nodes run."""
    return Caller([service.base], chain(*nodes), f"key-{nodes[1]['kind']}-{nodes[1].get('seconds')}")


def waits(caller: Caller) -> dict[str, Any]:
    """The payload of the run's first ``run_waiting``."""
    found = next(frame for frame in caller.frames if frame["type"] == "run_waiting")
    payload: dict[str, Any] = found["payload"]
    return payload


def ends(caller: Caller) -> dict[str, Any]:
    """The frame with which the waiting node completed."""
    return next(frame for frame in caller.frames if frame["type"] == "node_complete" and frame["node_id"] == "rest")


async def address(caller: Caller) -> str:
    """Where the waiting node is called back."""
    node = (await caller.request("GET", f"/api/v1/runs/{caller.run_id}/nodes/rest")).json()
    return str(node["callback_url"])


async def sound(world: World, caller: Caller, calls: int = 2) -> None:
    """Assert that the run ended as if nothing had happened, and every step was called once."""
    end = await stored(world.url, caller.run_id, world.effects)
    assert caller.faults == []
    assert caller.seen == end.log
    assert audit(end, seen=caller.seen) == []
    assert end.status == "completed"
    assert sum(effect.what == "begin" for effect in end.effects) == calls


async def test_waits_outlive_the_process(world: World) -> None:
    """One crash; a delay that lasts longer than it, one that ends meanwhile, a callback, a pause: each goes on.

    The long delay ends at its time and not a delay after the restart; the short one as soon as somebody is there; the
    address of the callback is still good, since its key is a row too; the paused run is as paused as before.
    """
    with Service(world) as service:
        await service.start()
        lasts = follower(service, call("first"), delay(4.0), call("last"))
        over = follower(service, call("first"), delay(0.5), call("last"))
        outside = follower(service, call("first"), WAIT, call("last"))
        paused = follower(service, call("first", gate="first"), call("last"))
        callers = (lasts, over, outside, paused)
        following = asyncio.gather(*(caller.follow() for caller in callers))
        await until(lambda: paused.saw("node_start", "first"), 10, "the first node")
        answer = await paused.request("POST", f"/api/v1/runs/{paused.run_id}/pause", json={})
        assert answer.status_code == 200, answer.text
        world.open_gate("first")
        await until(lambda: all(caller.saw("run_waiting") for caller in callers), 10, "four waiting runs")
        url = await address(outside)
        service.kill()
        moment = datetime.fromisoformat(waits(over)["wake_at"]) + timedelta(milliseconds=100)
        await until(lambda: datetime.now(UTC) > moment, 10, "the end of the short delay")
        await service.start()
        detail = (await paused.request("GET", f"/api/v1/runs/{paused.run_id}")).json()
        assert (detail["status"], detail["waiting_on"]) == ("waiting", ["paused"])
        resumed = await paused.request("POST", f"/api/v1/runs/{paused.run_id}/resume", json={})
        called = await outside.request("POST", url, json={"status": "completed", "output": {"by": "us"}})
        assert (resumed.status_code, called.status_code) == (200, 200), (resumed.text, called.text)
        await following
    for caller in callers:
        await sound(world, caller)
    for caller in (lasts, over):
        assert ends(caller)["payload"]["output"] == {"until": waits(caller)["wake_at"]}
        assert ends(caller)["timestamp"] >= waits(caller)["wake_at"]


async def test_a_callback_at_the_moment_of_a_crash_is_taken_once(world: World) -> None:
    """J6: the service dies as the callback is stored; saying it again until it is heard completes the node once."""
    body = {"status": "completed", "output": {"by": "us"}}
    with Service(world) as service:
        await service.start(crash_at="signal.after_commit:1")
        caller = follower(service, call("first"), WAIT, call("last"))
        following = asyncio.create_task(caller.follow())
        await until(lambda: caller.saw("run_waiting"), 10, "run_waiting")
        url = await address(caller)
        async with httpx2.AsyncClient(base_url=service.base, timeout=10) as client:
            with pytest.raises(httpx2.TransportError):
                await client.post(url, json=body)
        await service.ended(10)
        await service.start()
        answer = await caller.request("POST", url, json=body)
        assert answer.status_code in (200, 202), answer.text
        await following
    await sound(world, caller)
