"""kill -9 while runs have child runs and loops: nothing is born twice, repeated or lost (F6, F10)."""

from __future__ import annotations

import asyncio
import signal

import pytest

from contracts.descent import child_run_id
from tests.durability.auditor import all_stored, audit
from tests.durability.people import Caller
from tests.durability.plans import Json, call, chain
from tests.durability.service import Service, World
from tests.durability.waiting import until

pytestmark = pytest.mark.chaos

# Before and after the commit that spawns a child, in the middle of its loop, before and after the commit that ends a
# grandchild and tells its parent.
POINTS = (
    "journal.before_commit:1",
    "journal.after_commit:1",
    "journal.after_commit:3",
    "finish.before_commit:1",
    "finish.after_commit:1",
)


def family() -> Json:
    """Steps before and after a child run that has a loop and a child of its own."""
    inner = chain(call("deep", "idempotent"))["workflow"]["plan"]
    rounds = {
        "node_id": "rounds", "kind": "loop", "as": "item", "until": "nodes.rounds.iteration == 3", "max_iterations": 5,
        "node": {"kind": "call", "capability_id": "step.idempotent"},
    }  # fmt: skip
    grandchild = {"node_id": "grandchild", "kind": "subflow", "plan": inner}
    middle = chain(call("early"), rounds, grandchild)["workflow"]["plan"]
    return chain(call("first", "idempotent"), {"node_id": "child", "kind": "subflow", "plan": middle}, call("last"))


@pytest.mark.parametrize("point", POINTS)
async def test_a_kill_at_this_point_loses_and_doubles_nobody(world: World, point: str) -> None:
    """F10: the same runs, each under the name that follows from its parent, each with one end; no round is repeated."""
    with Service(world) as service:
        await service.start(crash_at=point)
        caller = Caller([service.base], family(), f"key-{point}")
        following = asyncio.create_task(caller.follow())
        assert await service.ended(15) == -signal.SIGKILL, f"{point} was not reached"
        before = await all_stored(world.url, world.effects)
        await service.start()
        await following
    child = child_run_id(caller.run_id, "child", 0)
    tree = {caller.run_id, child, child_run_id(child, "grandchild", 0)}
    ends = await all_stored(world.url, world.effects)
    assert ends.keys() == tree
    assert caller.faults == []
    for run_id, end in ends.items():
        earlier = [before[run_id]] if run_id in before else []
        seen = caller.seen if run_id == caller.run_id else {}
        assert audit(end, seen=seen, before=earlier) == [], run_id
        assert end.status == "completed"
    called = [effect.node_id for effect in ends[child].effects if effect.what == "end"]
    assert set(called) == {"early", "rounds[0]", "rounds[1]", "rounds[2]"}


async def test_a_cancel_reaches_children_whose_process_died(world: World) -> None:
    """F6, langgraph#8302: the cancel waits in the mailbox of whoever takes the child next."""
    slow = chain(call("slow", "idempotent", gate="never", timeout_seconds=30))["workflow"]["plan"]
    caller = Caller([], chain({"node_id": "child", "kind": "subflow", "plan": slow}, call("last")), "key")
    with Service(world) as service:
        caller.bases = [service.base]
        await service.start()
        following = asyncio.create_task(caller.follow())

        async def works() -> bool:
            found = await all_stored(world.url, world.effects)
            return any(effect.node_id == "slow" for one in found.values() for effect in one.effects)

        await until(works, 10, "the child to work")
        service.kill()
        await service.start()
        response = await caller.request("POST", f"/api/v1/runs/{caller.run_id}/cancel", json={})
        assert response.status_code == 202
        await following
        child = child_run_id(caller.run_id, "child", 0)

        async def ended() -> bool:
            return (await all_stored(world.url, world.effects))[child].status == "cancelled"

        await until(ended, 10, "the end of the child")
    for end in (await all_stored(world.url, world.effects)).values():
        assert audit(end, seen={}) == []
        assert end.status == "cancelled"
