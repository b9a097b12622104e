"""Markdown agents that remember: their scope in the prompt, their answer kept, and nobody else's (R5)."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx2

from contracts.access import ROLES, Principal
from tests.agents.folders import lay
from tests.agents.test_agents import call_agent, outcome
from tests.memory.running import put, read
from tests.model.scripted import Script, calls, quoted, says
from tests.registrations.running import acting_as
from tests.spine.running import Service, envelope, plan, serving
from tests.spine.sse import Frame

DIARY = "---\nid: diary\nmemory_scope: isolated\nremember: last\n---\nGo on with memory."
TEAM = "---\nid: team\nmemory_scope: shared:team\nremember: news\ntools: [spine.noop]\n---\nSay the news."
PLAIN = "---\nid: plain\n---\nSay something."


def opened(url: str, folder: Path, script: Script, **more: Any) -> AbstractAsyncContextManager[Service]:
    """Serve three agents."""
    lay(folder, {"diary.md": DIARY, "team.md": TEAM, "plain.md": PLAIN})
    return serving(url, agents_dir=str(folder), **script.settings, **more)


async def ask(service: Service, *agents: str, story: str | None = "spring", **context: Any) -> list[Frame]:
    """Run agents one after the other."""
    steps = [call_agent(agent, agent) for agent in agents]
    edges = [{"from": one, "to": other} for one, other in pairwise(agents)]
    told = context if story is None else {"story_id": story, **context}
    return await service.run(envelope(plan(*steps, edges=edges), context=told))


def material(script: Script) -> list[Any]:
    """The memory that each call of the model was shown; None for none."""
    shown = []
    for messages in script.told():
        whole = "".join(message["content"] or "" for message in messages)
        shown.append(quoted("material", messages[:2]).get("memory") if "<material>\n{\n" in whole else None)
    return shown


async def test_an_isolated_one_goes_on_in_its_story(database_url: str, tmp_path: Path, script: Script) -> None:
    """R5: read before, written with the node; another story, and another agent of the run, see nothing of it."""
    script.will(says("Day one."), says("Day two."), says("Plain."), says("Elsewhere."))
    async with opened(database_url, tmp_path, script) as service:
        assert outcome(await ask(service, "diary")) == "Day one."
        entry = await read(service, "last", "/api/v1/memory/agent/diary/spring")
        assert entry is not None
        assert (entry["value"], entry["written_by"]["node_id"]) == ("Day one.", "diary")
        await put(service, "k", "of another agent", "/api/v1/memory/agent/plain/spring")
        named = ["shared:brand", "agent:plain/spring"]
        assert outcome(await ask(service, "diary", "plain", memory=named)) == "Plain."
        await ask(service, "diary", story="autumn")
        seen = material(script)
        assert seen[0] == {"agent:diary/spring": {}}
        assert seen[1] == {"agent:diary/spring": {"last": "Day one."}, "shared:brand": {}}
        assert seen[2] == {"agent:plain/spring": {"k": "of another agent"}, "shared:brand": {}}
        assert seen[3] == {"agent:diary/autumn": {}}
        kept = (await service.client.get("/api/v1/memory")).json()["items"]
        assert sorted(item["scope"] for item in kept) == [
            "agent:diary/autumn", "agent:diary/spring", "agent:plain/spring",
        ]  # fmt: skip


async def test_a_shared_one_with_tools_needs_no_story(database_url: str, tmp_path: Path, script: Script) -> None:
    """R5, W6: the file grants the scope to this agent; its tools, whose run names nothing, are given none of it."""
    script.will(calls(("spine_noop", {"value": 1})), says("All is well."))
    async with opened(database_url, tmp_path, script) as service:
        await put(service, "news", "old", "/api/v1/memory/shared/team")
        assert outcome(await ask(service, "team", story=None)) == "All is well."
        assert material(script)[:1] == [{"shared:team": {"news": "old"}}]
        entry = await read(service, "news", "/api/v1/memory/shared/team")
        assert entry is not None
        assert (entry["value"], entry["revision"]) == ("All is well.", 2)


async def test_without_a_story_an_isolated_one_is_refused(sqlite_url: str, tmp_path: Path, script: Script) -> None:
    """R5: nobody's memory is taken for somebody's; the model is not asked."""
    async with opened(sqlite_url, tmp_path, script) as service:
        body = envelope(plan(call_agent("d", "diary")))
        refused = await service.client.post("/api/v1/runs", json=body)
        assert refused.status_code == 422, refused.text
        (item,) = refused.json()["errors"]
        assert (item["pointer"], item["code"]) == ("/context/story_id", "required")
        assert script.told() == []


async def test_what_cannot_be_kept_fails_its_node(sqlite_url: str, tmp_path: Path, script: Script) -> None:
    """R5: the write is in the transaction that completes the node, also where the run itself names no scope."""
    script.will(says("Day one."))
    async with opened(sqlite_url, tmp_path, script, memory_keys=1) as service:
        await put(service, "other", 1, "/api/v1/memory/agent/diary/spring")
        frames = await ask(service, "diary")
        error = next(frame.payload for frame in frames if frame.type == "node_error")
        assert (error["code"], frames[-1].payload["code"]) == ("memory_full", "node_failed")
        assert await read(service, "last", "/api/v1/memory/agent/diary/spring") is None


async def test_another_tenant_has_a_memory_of_its_own(sqlite_url: str, tmp_path: Path, script: Script) -> None:
    """R5, P2: the same agent, the same story's name, and nothing of the other tenant's."""
    script.will(says("Ours."), says("Theirs."))
    ben = Principal("user:ben", "bens", frozenset(ROLES))
    async with opened(sqlite_url, tmp_path, script) as service:
        await ask(service, "diary")
        async with acting_as(service, ben) as client:
            body = envelope(plan(call_agent("diary", "diary")), context={"story_id": "spring"})
            answer = await client.post("/api/v1/runs", json=body, headers={"Prefer": "wait=10"})
            assert answer.status_code in (200, 202), answer.text
            run_id = answer.json()["run_id"]
            await _ended(client, run_id)
            theirs = (await client.get("/api/v1/memory/agent/diary/spring/last")).json()
        assert theirs["value"] == "Theirs."
        assert material(script) == [{"agent:diary/spring": {}}] * 2
        assert (await read(service, "last", "/api/v1/memory/agent/diary/spring") or {})["value"] == "Ours."


async def _ended(client: httpx2.AsyncClient, run_id: str) -> None:
    """Read the whole stream of a run: it ends when the run does."""
    answer = await client.get(f"/api/v1/runs/{run_id}/events", headers={"Accept": "text/event-stream"})
    assert '"complete"' in answer.text
