"""kill -9 while nodes remember: a write is there exactly when its node has completed, and once (R1, R5, F10)."""

from __future__ import annotations

import asyncio
import json
import signal

import pytest

from tests.durability.auditor import audit, query, stored
from tests.durability.people import Caller
from tests.durability.plans import Json, call, chain
from tests.durability.service import Service, World

pytestmark = pytest.mark.chaos

STEPS = ("one", "two", "three", "kind", "four")
# Around the commits that complete the nodes, after a call that is not stored yet, and around the end of the run.
POINTS = (
    "journal.before_commit:2",
    "journal.after_commit:2",
    "journal.before_commit:4",
    "journal.after_frames:3",
    "attempt.after_call:3",
    "finish.before_commit:1",
    "finish.after_commit:1",
)


def remembering() -> Json:
    """A chain in which every node remembers something."""
    kind = {
        "node_id": "kind", "kind": "memory", "op": "set", "scope": "shared:durable", "key": "kind",
        "inputs": {"value": {"value": {"attempt": 1}}},
    }  # fmt: skip
    nodes = [kind if name == "kind" else {**call(name), "capability_id": "step.remembers"} for name in STEPS]
    return {**chain(*nodes), "context": {"memory": ["shared:durable"]}}


async def remembered(world: World) -> dict[str, tuple[int, str]]:
    """Key → attempt and node that wrote it, past the service."""
    rows = await query(world.url, "SELECT key, value_json, node_id FROM memory_entries")
    return {key: (json.loads(value)["attempt"], node_id) for key, value, node_id in rows}


@pytest.mark.parametrize("point", POINTS)
async def test_a_kill_at_this_point_loses_and_repeats_no_write(world: World, point: str) -> None:
    """R5: memory is as the completed nodes left it, before the restart and at the end; no write happened twice."""
    with Service(world) as service:
        await service.start(crash_at=point)
        caller = Caller([service.base], remembering(), f"key-{point}")
        following = asyncio.create_task(caller.follow())
        assert await service.ended(15) == -signal.SIGKILL, f"{point} was not reached"
        runs = await query(world.url, "SELECT run_id FROM runs")
        before = await stored(world.url, runs[0][0], world.effects)
        assert (await remembered(world)).keys() == before.completed
        await service.start()
        await following
    end = await stored(world.url, caller.run_id, world.effects)
    assert caller.faults == []
    assert audit(end, seen=caller.seen, before=[before]) == []
    assert end.status == "completed"
    found = await remembered(world)
    assert {key: node_id for key, (_, node_id) in found.items()} == {name: name for name in STEPS}
    (scope,) = await query(world.url, "SELECT revision, entries FROM memory_scopes")
    assert scope == (len(STEPS), len(STEPS)), "every write happened once"
