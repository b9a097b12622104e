"""Processes that die or stop while a model is asked for a plan: another goes on; nothing is asked for ever (F10)."""

from __future__ import annotations

import asyncio
import signal
from typing import Any

import pytest

from tests.durability.auditor import audit, stored
from tests.durability.people import Caller
from tests.durability.service import Service, World
from tests.durability.waiting import until
from tests.model.scripted import HANGS, Script, says

pytestmark = pytest.mark.chaos

ENVELOPE: dict[str, Any] = {
    "objective": "Do one step",
    "output_contract": {"schema": {"type": "object", "required": ["step"], "properties": {"step": {}}}},
    "policies": {"planner": {"strategy": "model"}},
}
PLAN = {
    "nodes": [{"node_id": "only", "kind": "call", "capability_id": "step.none", "rationale": ["One step."]}],
    "output": {"mode": "map", "map": {"/step": {"node_id": "only", "pointer": ""}}},
}
PATIENT = {"FLEX_LEASE_SECONDS": "2"}
"""A lease that a busy machine does not lose by the way: that would cost a round, as it should."""
LOST = ["plan_rejected planner_lost", "plan_requested model"]
RUN = ["plan_generated", "node_start", "node_complete", "complete"]


def told(caller: Caller) -> list[str]:
    """The sequence that the caller saw; rounds with their strategy, rejections with their code."""
    shown = []
    for frame in caller.frames:
        payload = frame["payload"]
        more = payload.get("strategy") if frame["type"] == "plan_requested" else None
        if frame["type"] == "plan_rejected":
            more = payload["findings"][0]["code"]
        shown.append(frame["type"] if more is None else f"{frame['type']} {more}")
    return shown


def rounds(caller: Caller) -> list[int]:
    return [frame["payload"]["round"] for frame in caller.frames if frame["type"] == "plan_requested"]


async def asked(script: Script, times: int) -> None:
    """Wait until the model was asked that often."""
    await until(lambda: len(script.told()) == times, 15, f"{times} requests to the model")


async def sound(world: World, caller: Caller) -> None:
    end = await stored(world.url, caller.run_id, world.effects)
    assert caller.faults == []
    assert caller.seen == end.log
    assert audit(end, seen=caller.seen, answers=caller.answers) == []
    assert end.status == "completed"


async def test_kill_9_while_the_model_is_asked(world: World, script: Script) -> None:
    """F10: the acceptance is a record; the other process goes on with the next round, by itself."""
    script.will(HANGS, says(PLAN))
    env = script.environment | PATIENT
    with Service(world, **env) as one, Service(world, **env) as other:
        one.launch()
        other.launch()
        await asyncio.gather(one.ready(), other.ready())
        caller = Caller([one.base, other.base], ENVELOPE, "key")
        following = asyncio.create_task(caller.follow())
        await asked(script, 1)
        one.kill()
        await asked(script, 2)
        await following
    assert told(caller) == ["start", "plan_requested model", *LOST, *RUN]
    assert rounds(caller) == [1, 2]
    await sound(world, caller)


async def test_a_drain_hands_the_question_over(world: World, script: Script) -> None:
    """P5: what the model does not answer in time is given back; the exit is clean."""
    script.will(HANGS, says(PLAN))
    env = script.environment | {"FLEX_LEASE_SECONDS": "10", "FLEX_DRAIN_SECONDS": "0.2"}
    with Service(world, **env) as one, Service(world, **env) as other:
        one.launch()
        other.launch()
        await asyncio.gather(one.ready(), other.ready())
        caller = Caller([one.base, other.base], ENVELOPE, "key")
        following = asyncio.create_task(caller.follow())
        await asked(script, 1)
        one.send(signal.SIGTERM)
        assert await one.ended(10) == 0
        await following
    assert told(caller) == ["start", "plan_requested model", *LOST, *RUN]
    await sound(world, caller)
