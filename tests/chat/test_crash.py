"""Processes that die in mid-turn: nothing that ended happens again, no finished reply is asked for (F10)."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.chat.talking import heard, text_only
from tests.durability.auditor import audit, stored
from tests.durability.people import Caller
from tests.durability.service import Service, World
from tests.durability.waiting import until
from tests.model.scripted import HANGS, Script, calls, says
from tests.spine.running import plan

pytestmark = pytest.mark.chaos

PATIENT = {"FLEX_LEASE_SECONDS": "2"}


def turn(*tools: str) -> dict[str, Any]:
    """An envelope of one turn with steps as tools."""
    node = {"node_id": "chat", "kind": "chat", "tools": [f"step.{name}" for name in tools]}
    return {
        "objective": "Do two steps",
        "output_contract": {"schema": {"type": "string"}},
        "workflow": {"plan": plan(node, output=text_only())},
    }


def effects(world: World) -> list[tuple[str, str]]:
    """What really happened: (node, key) of every body that began."""
    lines = stored_lines(world)
    return [(line["node_id"], line["key"]) for line in lines if line["what"] == "begin"]


def stored_lines(world: World) -> list[dict[str, Any]]:
    """The lines of the file of effects."""
    text = world.effects.read_text(encoding="utf-8") if world.effects.exists() else ""
    return [json.loads(line) for line in text.splitlines()]


async def sound(world: World, caller: Caller) -> None:
    """Everything that was seen is what is stored, and the run is in order."""
    end = await stored(world.url, caller.run_id, world.effects)
    assert caller.faults == []
    assert caller.seen == end.log
    assert audit(end, seen=caller.seen, answers=caller.answers) == []
    assert end.status == "completed"


async def test_kill_9_between_two_rounds(world: World, script: Script) -> None:
    """W6: the tools ended and the model is at work again; the other process asks only that again."""
    asks = calls(("step_idempotent", {"ms": 1}), ("step_none", {"ms": 2}))
    script.will(asks, HANGS, says("Both are done."))
    env = script.environment | PATIENT
    with Service(world, **env) as one, Service(world, **env) as other:
        one.launch()
        other.launch()
        await asyncio.gather(one.ready(), other.ready())
        caller = Caller([one.base, other.base], turn("idempotent", "none"), "key")
        following = asyncio.create_task(caller.follow())
        await until(lambda: len(script.told()) == 2, 15, "the second request to the model")
        one.kill()
        await following
    told = script.told()
    assert len(told) == 3
    assert told[1] == told[2]
    assert [name for name, _ in heard(told[2])] == ["call_0", "call_1"]
    assert sorted(name for name, _ in effects(world)) == ["chat[0]", "chat[1]"]
    await sound(world, caller)


async def test_kill_9_while_tools_are_at_work(world: World, script: Script) -> None:
    """W6, F10: the model's finished reply is kept; what had ended stays, what was at work goes on under its own key."""
    asks = calls(("step_idempotent", {"ms": 1}), ("step_idempotent", {"gate": "held"}))
    script.will(asks, says("Both are done."))
    env = script.environment | PATIENT
    with Service(world, **env) as one, Service(world, **env) as other:
        one.launch()
        other.launch()
        await asyncio.gather(one.ready(), other.ready())
        caller = Caller([one.base, other.base], turn("idempotent"), "key")
        following = asyncio.create_task(caller.follow())
        await until(lambda: caller.saw("node_complete", "chat[0]"), 15, "the first tool's end")
        await until(lambda: len(effects(world)) == 2, 15, "the second tool's begin")
        one.kill()
        world.open_gate("held")
        await following
    assert len(script.told()) == 2
    begun = effects(world)
    assert sorted(name for name, _ in begun) == ["chat[0]", "chat[1]", "chat[1]"]
    assert len({key for _, key in begun}) == 2
    await sound(world, caller)


async def test_an_approved_call_is_made_once_whatever_dies(world: World, script: Script) -> None:
    """H5, F10: the question outlives the process; its answer lets exactly that call be made, once."""
    script.will(calls(("step_once", {"ms": 1})), says("Sent."))
    body = turn("once") | {"policies": {"hitl": [{"id": "ask", "when": "before", "selector": {"effects": "once"}}]}}
    env = script.environment | PATIENT
    with Service(world, **env) as one, Service(world, **env) as other:
        one.launch()
        other.launch()
        await asyncio.gather(one.ready(), other.ready())
        caller = Caller([one.base, other.base], body, "key")
        following = asyncio.create_task(caller.follow())
        await until(lambda: caller.saw("run_waiting"), 15, "the question")
        one.kill()
        prompt = next(frame["payload"]["prompt"] for frame in caller.frames if frame["type"] == "hitl_request")
        assert prompt["proposed"] == {"ms": 1}
        async with httpx2.AsyncClient(base_url=other.base, timeout=10) as person:
            answer = await person.post(prompt["links"]["decide"], json={"action": "approve"})
        assert answer.status_code == 200, answer.text
        await following
    assert [name for name, _ in effects(world)] == ["chat[0]"]
    assert len(script.told()) == 2


async def test_an_agent_goes_on_where_its_holder_died(sqlite_url: str, tmp_path: Path, script: Script) -> None:
    """R2, F10: the rounds of an agent with tools are kept as a chat's are; what had ended does not happen again."""
    folder = tmp_path / "agents"
    folder.mkdir()
    (folder / "hand.md").write_text("---\nid: hand\ntools: [step.idempotent, step.none]\n---\nDo both.")
    script.will(calls(("step_idempotent", {"ms": 1}), ("step_none", {"ms": 2})), HANGS, says("Both are done."))
    body = turn() | {"workflow": {"plan": plan({"node_id": "w", "kind": "call", "capability_id": "agent.hand"})}}
    world, env = World(sqlite_url, tmp_path), script.environment | PATIENT | {"FLEX_AGENTS_DIR": str(folder)}
    with Service(world, **env) as one, Service(world, **env) as other:
        one.launch()
        other.launch()
        await asyncio.gather(one.ready(), other.ready())
        caller = Caller([one.base, other.base], body, "key")
        following = asyncio.create_task(caller.follow())
        await until(lambda: len(script.told()) == 2, 15, "the second request to the model")
        one.kill()
        await following
    told = script.told()
    assert (len(told), told[1]) == (3, told[2])
    assert sorted(name for name, _ in effects(world)) == ["w[0]", "w[1]"]
    end = await stored(world.url, caller.run_id, world.effects)
    assert (caller.faults, caller.seen, end.status) == ([], end.log, "completed")
    # The auditor counts bodies of steps, and what the agent itself does is no step.
    assert audit(end, seen=caller.seen, answers=caller.answers) == ["w completed and was never called"]
