"""Conversations, documents and memory that are older than they are kept go; what lives stays (P6, R4, R5, W6)."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import sqlalchemy as sa

from service.forgetting import MESSAGES, Forgetting, _parts
from service.pruning import DAY_MS, Asked
from service.retention import Keep
from store import kept
from store import tables as t
from store.conversation_tables import conversation_messages, conversations
from store.document_tables import document_versions, document_waits, documents, passages
from store.kept import Talk
from store.memory_tables import memory_entries, memory_scopes
from store.retention import PolicyRow, put_policy
from store.statement import Statement
from tests.documents.making import place
from tests.retention.growing import Ground, Sown, grounds
from tests.retention.test_gone import prune
from tests.spine.running import envelope, plan, serving
from tests.store.making import NOW, TENANT

KEEP = Keep(None, None, 30, 30, 30)
OLD, YOUNG = NOW - 40 * DAY_MS, NOW - 5 * DAY_MS


@pytest.fixture
async def ground(database_url: str) -> AsyncIterator[Ground]:
    async with grounds(database_url) as found:
        yield found


def talk(name: str, at: int, run_id: str | None = None, tenant: str = TENANT) -> list[tuple[sa.Table, dict[str, Any]]]:
    """A conversation of two messages, the second one answered by a run."""
    row = {"conversation_id": name, "tenant": tenant, "principal": "user:ana", "title": "", "settings_json": "{}"}
    said = {"tenant": tenant, "conversation_id": name, "created_at": at, "content": None, "parent_id": None}
    return [
        (conversations, {**row, "messages": 2, "created_at": at, "updated_at": at}),
        (conversation_messages, {**said, "message_id": f"{name}1", "place": 1, "role": "user"}),
        (conversation_messages, {**said, "message_id": f"{name}2", "place": 2, "role": "assistant", "run_id": run_id}),
    ]


def paper(story: str, name: str, at: int, versions: int = 2) -> list[tuple[sa.Table, dict[str, Any]]]:
    """A document with versions and a passage."""
    whose = {"tenant": TENANT, "story_id": story, "document_id": name}
    version = {
        **whose, "media_type": "text/plain", "bytes": 1, "digest": "", "text_status": "ready", "characters": 1,
        "truncated": 0, "created_by": "user:ana", "created_at": at, "text": "x", "content": b"x",
    }  # fmt: skip
    return [
        (documents, {**whose, "version": versions, "present": 1, "updated_at": at}),
        *((document_versions, {**version, "version": number + 1}) for number in range(versions)),
        (passages, {**whose, "version": versions, "place": 0, "start": 0, "text": "x", "words": "x"}),
    ]


def note(kind: str, owner: str, story: str, keys: dict[str, int]) -> list[tuple[sa.Table, dict[str, Any]]]:
    """A scope with entries, each written at a time."""
    place = {"tenant": TENANT, "kind": kind, "owner": owner, "story": story}
    entry = {**place, "value_json": "1", "person": "user:ana"}
    return [
        (memory_scopes, {**place, "revision": 9, "entries": len(keys), "updated_at": NOW}),
        *(
            (memory_entries, {**entry, "key": key, "revision": number, "created_at": OLD, "updated_at": at})
            for number, (key, at) in enumerate(keys.items())
        ),
    ]


async def values(ground: Ground, column: sa.Column[Any]) -> list[Any]:
    async with ground.database.reader() as reader:
        return sorted(row[0] for row in await reader.fetch(Statement(sa.select(column))))


async def standing_on(ground: Ground, story: str, **changes: Any) -> str:
    """A run on a story that waits."""
    sown = Sown(days=0, status="waiting")
    await ground.sow(sown)
    async with ground.database.unit() as unit:
        change = sa.update(t.runs).where(t.runs.c.run_id == sown.run_id).values(story_id=story, **changes)
        await unit.execute(Statement(change))
    return sown.run_id


async def test_what_is_old_goes_and_what_lives_stays(ground: Ground) -> None:
    """P6: in all three, by the day; nothing where a run waits; told by a survey beforehand; nothing unless said."""
    live, ended = Sown(days=0, status="waiting"), Sown(days=35)
    await ground.sow(live, ended)
    await ground.put(
        *talk("old", OLD, ended.run_id), *talk("gone", OLD, "run_that_was_pruned"), *talk("young", YOUNG),
        *talk("waiting", OLD, live.run_id), *talk("theirs", OLD, tenant="other"),
        *paper("spring", "a", OLD), *paper("spring", "b", YOUNG), *paper("held", "a", OLD), *paper("missed", "a", OLD),
        (document_waits, {
            "tenant": TENANT, "story_id": "missed", "document_id": "z", "run_id": live.run_id, "created_at": OLD,
        }),
        *note("agent", "writer", "spring", {"x": OLD, "y": YOUNG}), *note("agent", "writer", "held", {"x": OLD}),
        *note("shared", "team", "", {"x": OLD, "z": OLD}),
    )  # fmt: skip
    holder = await standing_on(ground, "held")
    before = await ground.counts()
    assert (await ground.prune(keep=Keep(None, None))).gone == {"idempotency_keys": before.pop("idempotency_keys")}
    assert await ground.counts() == before

    planned = (await ground.pruner(KEEP).survey(Asked(TENANT))).gone
    tally = await ground.prune(Asked(TENANT), keep=KEEP)
    expected = {
        "conversations": 2, "conversation_messages": 4, "documents": 1, "document_versions": 2, "memory_entries": 3,
    }  # fmt: skip
    assert planned == expected
    assert tally.gone == {name: many for name, many in expected.items() if name != "document_versions"}
    assert await values(ground, conversations.c.conversation_id) == ["theirs", "waiting", "young"]
    assert set(await values(ground, conversation_messages.c.conversation_id)) == {"theirs", "waiting", "young"}
    assert await values(ground, document_versions.c.story_id) == [
        "held",
        "held",
        "missed",
        "missed",
        "spring",
        "spring",
    ]
    assert await values(ground, passages.c.story_id) == ["held", "missed", "spring"]
    assert len(await values(ground, documents.c.document_id)) == 4, "the head stays, so that its numbers go on"
    assert await values(ground, memory_entries.c.key) == ["x", "y"]
    assert await values(ground, memory_scopes.c.entries) == [0, 1, 1]
    assert await values(ground, memory_scopes.c.revision) == [9, 9, 9], "no revision comes twice"
    assert not (await ground.prune(Asked(TENANT), keep=KEEP)).gone

    async with ground.database.unit() as unit:
        for run_id in (holder, live.run_id):
            done = {"status": "completed", "ended_at": NOW, "worker": None, "wake_at": None}
            await unit.execute(Statement(sa.update(t.runs).where(t.runs.c.run_id == run_id).values(**done)))
        await unit.execute(Statement(sa.delete(document_waits)))
    after = await ground.prune(Asked(TENANT), keep=KEEP)
    assert (after.gone["conversations"], after.gone["documents"], after.gone["memory_entries"]) == (1, 2, 1)


async def test_a_tenant_says_for_itself(ground: Ground) -> None:
    """P2, P6: a policy counts for its tenant alone, and a tenant without runs is found too."""
    await ground.put(*talk("mine", OLD), *talk("theirs", OLD, tenant="other"))
    async with ground.database.unit() as unit:
        await put_policy(unit, PolicyRow("other", None, None, "user:ben", NOW, conversations_days=7))
    assert (await ground.prune(keep=Keep(None, None))).gone == {"conversations": 1, "conversation_messages": 2}
    assert await values(ground, conversations.c.conversation_id) == ["mine"]


async def test_it_goes_in_parts_that_may_be_stopped(ground: Ground, monkeypatch: pytest.MonkeyPatch) -> None:
    """P6: bounded transactions; who stops in between has lost nothing, the next one goes on."""
    monkeypatch.setattr("service.forgetting.ENTRIES", 2)
    monkeypatch.setattr("service.forgetting.DOCUMENTS", 2)
    rows = [row for number in range(5) for row in paper("spring", f"d{number}", OLD + number)]
    await ground.put(*rows, *note("shared", "team", "", {f"k{number}": OLD for number in range(5)}))
    gone: list[tuple[str, int]] = []
    steps = Forgetting(ground.database).steps(TENANT, KEEP, NOW, lambda table, many: gone.append((table, many)))
    await anext(steps)
    await steps.aclose()
    assert gone == [("documents", 2)]
    async for _ in Forgetting(ground.database).steps(TENANT, KEEP, NOW, lambda *each: gone.append(each)):
        pass
    assert gone[1:] == [("documents", 2), ("documents", 1), *[("memory_entries", 2)] * 2, ("memory_entries", 1)]
    assert _parts([Talk("a", MESSAGES), Talk("b", 5), Talk("c", 6)]) == [["a"], ["b", "c"]]


async def test_what_came_to_life_meanwhile_stays(ground: Ground) -> None:
    """P6: the look is repeated under the lock: whoever spoke, put or began to wait in between loses nothing."""
    await ground.put(*talk("a", OLD), *paper("spring", "a", OLD), *note("agent", "w", "spring", {"x": OLD}))
    (found,) = await kept.silent_talks(ground.database, TENANT, YOUNG, 9)
    (key,) = await kept.unread_documents(ground.database, TENANT, YOUNG, 9)
    (scope,) = await kept.stale_scopes(ground.database, TENANT, YOUNG, 9)
    await standing_on(ground, "spring")
    async with ground.database.unit() as unit:
        await unit.execute(Statement(sa.update(conversations).values(updated_at=NOW)))
    async with ground.database.unit() as unit:
        assert await kept.drop_talks(unit, TENANT, YOUNG, [found.conversation_id]) == (0, 0)
        assert not await kept.drop_document(unit, key, YOUNG, NOW)
        assert await kept.drop_entries(unit, TENANT, scope, YOUNG, NOW, 9) == 0


async def test_what_went_is_gone_at_every_door(database_url: str) -> None:
    """P6, R4: as if it had been deleted; a run that waits holds its story's documents; numbers of versions go on."""
    asks = plan({"node_id": "p", "kind": "ask", "prompt": {"question": "P?"}})
    async with serving(database_url) as service:
        client = service.client
        policy = {
            "runs_days": None,
            "audit_days": None,
            "conversations_days": 30,
            "documents_days": 30,
            "memory_days": 30,
        }
        assert (await client.put("/api/v1/retention", json=policy)).status_code == 200
        talked = (await client.post("/api/v1/conversations", json={"title": "Spring"})).json()
        remembered = "/api/v1/memory/shared/team/x"
        assert (await client.put(remembered, json={"value": 1})).status_code == 201
        for story in ("spring", "held"):
            assert (await client.put(place(story, "a"), content="x")).status_code == 201
        run_id = await service.start(envelope(asks, context={"story_id": "held", "documents": ["a"]}))
        await service.asked(run_id)
        at = [
            f"/api/v1/conversations/{talked['conversation_id']}",
            remembered,
            place("spring", "a"),
            place("held", "a"),
        ]
        assert [(await client.get(url)).status_code for url in at] == [200] * 4
        assert not {"conversations", "documents", "memory_entries"} & (await prune(service, days=29)).keys()
        gone = await prune(service, days=31)
        assert (gone["conversations"], gone["memory_entries"], gone["documents"]) == (1, 1, 1)
        assert [(await client.get(url)).status_code for url in at] == [404, 404, 404, 200]
        assert (await client.put(place("spring", "a"), content="y")).json()["version"] == 2
