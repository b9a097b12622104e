"""A capability behind HTTP remembers: its answer's writes are committed with its node, in scopes its run names (R5)."""

from collections.abc import Callable
from typing import Any

import orjson

from tests.capabilities.web import Answer, Asked
from tests.capabilities.web import serving as web
from tests.memory.running import BRAND, SCOPE, put, read
from tests.registrations.running import NAME, declaration, register, says, serving
from tests.spine.running import Service, envelope, plan
from tests.spine.sse import Frame

LOOK = {"node_id": "look", "kind": "call", "capability_id": NAME, "inputs": {"town": {"value": "Bern"}}}


def answering(writes: Callable[[dict[str, Any]], list[Any]]) -> Callable[[Asked], Answer]:
    """The other side: an output, and the writes that it makes of what it was sent."""
    return lambda asked: says({"output": {"sky": "blue"}, "memory": writes(orjson.loads(asked.body))})(asked)


async def look(service: Service, url: str, *scopes: str, **changes: Any) -> list[Frame]:
    """Register the address and run a plan that calls it."""
    await register(service, declaration(url, **changes))
    return await service.run(envelope(plan(LOOK), context={"memory": list(scopes)}))


def count(asked: dict[str, Any]) -> list[Any]:
    """Count the visits, but only over the number that was sent, and forget the draft."""
    seen = asked["memory"][SCOPE].get("visits", 0)
    revision = asked["revisions"][SCOPE].get("visits", 0)
    return [
        {"scope": SCOPE, "key": "visits", "value": seen + 1, "expected_revision": revision},
        {"scope": SCOPE, "key": "draft", "forget": True},
    ]


async def test_what_it_answers_is_remembered_with_its_node(database_url: str) -> None:
    """R5: read, compared and set, forgotten; the entry says which run and node wrote it."""
    async with web(answering(count)) as there, serving(database_url) as service:
        await put(service, "visits", 7)
        await put(service, "draft", "old")
        frames = await look(service, f"{there.url}/call", SCOPE)
        assert frames[-1].payload["output"] == {"sky": "blue"}
        entry = await read(service, "visits")
        assert entry is not None
        assert entry["value"] == 8
        assert entry["written_by"] == {"run_id": frames[0].whole["run_id"], "node_id": "look", "attempt": 1}
        assert await read(service, "draft") is None
        sent = orjson.loads(there.asked[0].body)
        assert sent["memory"] == {SCOPE: {"draft": "old", "visits": 7}}
        assert sent["revisions"] == {SCOPE: {"draft": 2, "visits": 1}}


async def test_what_somebody_wrote_in_between_is_read_again(sqlite_url: str) -> None:
    """R5: a compare-and-set that came too late is another attempt, which is sent what is there now."""
    told: list[int] = []

    def late(asked: dict[str, Any]) -> list[Any]:
        told.append(asked["revisions"][SCOPE].get("visits", 0))
        expected = 0 if len(told) == 1 else told[-1]
        return [{"scope": SCOPE, "key": "visits", "value": "mine", "expected_revision": expected}]

    async with web(answering(late)) as there, serving(sqlite_url) as service:
        await put(service, "visits", 7)
        frames = await look(service, f"{there.url}/call", SCOPE)
        retry = next(frame.payload for frame in frames if frame.type == "node_retry")
        assert (retry["code"], frames[-1].type) == ("memory_conflict", "complete")
        assert told == [1, 1]
        assert (await read(service, "visits") or {})["value"] == "mine"


async def test_a_scope_that_the_run_does_not_name_is_not_written(sqlite_url: str) -> None:
    """R5: nothing of the answer is kept then, neither what it could have written."""
    stray = [{"scope": SCOPE, "key": "a", "value": 1}, {"scope": "agent:writer/spring", "key": "b", "value": 2}]
    async with web(answering(lambda _: stray)) as there, serving(sqlite_url) as service:
        frames = await look(service, f"{there.url}/call", SCOPE)
        error = next(frame.payload for frame in frames if frame.type == "node_error")
        assert (error["code"], error["attempt"]) == ("memory_scope_unnamed", 1)
        assert frames[-1].payload["code"] == "node_failed"
        assert (await service.client.get(BRAND)).json()["items"] == []
        assert await read(service, "b", "/api/v1/memory/agent/writer/spring") is None
