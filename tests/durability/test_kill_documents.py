"""kill -9 as a document comes that a run waits for: it is stored and told, or neither (R1, F10)."""

import asyncio

import httpx2
import pytest

from tests.durability.auditor import audit, stored
from tests.durability.people import Caller
from tests.durability.plans import call, chain
from tests.durability.service import Service, World
from tests.durability.waiting import until

pytestmark = pytest.mark.chaos
DOCUMENTS = "/api/v1/stories/spring/documents"


@pytest.mark.parametrize("point", ["signal.before_commit", "signal.after_commit"])
async def test_a_document_that_comes_at_the_moment_of_a_crash(world: World, point: str) -> None:
    """The wait outlives the process; the put is repeated by whoever did not hear of it, and the run goes on once."""
    envelope = chain(call("first"), call("last")) | {"context": {"story_id": "spring", "documents": ["a", "b"]}}
    with Service(world) as service:
        await service.start(crash_at=f"{point}:2")
        caller = Caller([service.base], envelope, "key-documents")
        following = asyncio.create_task(caller.follow())
        await until(lambda: caller.saw("run_waiting"), 10, "run_waiting")
        async with httpx2.AsyncClient(base_url=service.base, timeout=10) as client:
            assert (await client.put(f"{DOCUMENTS}/a", content=b"one")).status_code == 201
            with pytest.raises(httpx2.TransportError):
                await client.put(f"{DOCUMENTS}/b", content=b"two")
        await service.ended(10)
        await service.start()
        there = await caller.request("GET", f"{DOCUMENTS}/b/status")
        assert there.json()["present"] == (point == "signal.after_commit")
        async with httpx2.AsyncClient(base_url=service.base, timeout=10) as client:
            again = await client.put(f"{DOCUMENTS}/b", content=b"two")
        assert (again.status_code, again.json()["version"]) == (200 if there.json()["present"] else 201, 1)
        await following
    end = await stored(world.url, caller.run_id, world.effects)
    assert caller.faults == []
    assert caller.seen == end.log
    assert audit(end, seen=caller.seen) == []
    assert (end.status, [frame["type"] for frame in caller.frames].count("run_resumed")) == ("completed", 1)
    assert sum(effect.what == "begin" for effect in end.effects) == 2
