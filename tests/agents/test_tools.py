"""Markdown agents with tools: the loop of chats inside a node that calls an agent, through the front door (R2, W6)."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest

from tests.agents.folders import lay
from tests.agents.test_agents import call_agent, outcome
from tests.chat.talking import gate, heard, shapes
from tests.model.scripted import Script, calls, fails, says
from tests.spine.running import Service, envelope, plan, serving

CLERK = "---\nid: clerk\ntools: [spine.greet, spine.noop, spine.raises]\nmax_rounds: 2\n---\nGreet whom you must."
BOSS = "---\nid: boss\ndescription: Leads\ntools: [agent.clerk]\n---\nHave others do it."
ASKS = calls(("spine_greet", {"who": "Ana"}))
LINE = {"type": "object", "required": ["line"], "properties": {"line": {"type": "string", "maxLength": 20}}}


def opened(url: str, folder: Path, script: Script, **more: Any) -> AbstractAsyncContextManager[Service]:
    """Serve the two agents."""
    lay(folder, {"clerk.md": CLERK, "boss.md": BOSS})
    return serving(url, agents_dir=str(folder), **script.settings, **more)


@pytest.fixture
async def service(database_url: str, tmp_path: Path, script: Script) -> AsyncIterator[Service]:
    """A served process with both."""
    async with opened(database_url, tmp_path / "agents", script) as running:
        yield running


@pytest.fixture
def dear(script: Script) -> Iterator[Script]:
    """Another model of the same endpoint."""
    other = Script(script.base, f"{script.name}-dear")
    yield other
    other.close()


def asked(node_id: str = "w", agent: str = "clerk", policies: dict[str, Any] | None = None, **more: Any) -> Any:
    """An envelope of one call of an agent."""
    step = call_agent(node_id, agent, inputs={"guest": {"value": "Ana"}}, **more)
    return envelope(plan(step), policies=policies or {})


async def test_its_tools_run_as_nodes_of_their_own(service: Service, script: Script) -> None:
    """R2, W6: calls are child nodes, the answer has the node's form, and everything it cost adds up."""
    script.will(ASKS, says({"line": "Good morning, Ana!"}))
    frames = await service.run(asked(output={"schema": LINE}))
    assert shapes(frames) == [
        "node_start:w", "tool_calls:w", "node_start:w[0]", "node_complete:w[0]", "node_start:w", "node_complete:w",
        "complete",
    ]  # fmt: skip
    assert outcome(frames) == {"line": "Good morning, Ana!"}
    assert frames[-1].payload["usage"] == {"tokens": 200, "cost": pytest.approx(0.24)}
    first, second = script.bodies()
    assert [tool["function"]["name"] for tool in first["tools"]] == ["spine_greet", "spine_noop", "spine_raises"]
    assert "Greet whom you must." in str(first["messages"])
    assert heard(second["messages"]) == [("call_0", "Good morning, Ana!")]
    detail = (await service.client.get(f"/api/v1/executions/{frames[0].whole['run_id']}")).json()
    used = {node["node_id"]: node["usage"]["tokens"] for node in detail["nodes"]}
    assert used == {"w": 200, "w[0]": 0}


async def test_a_failing_tool_is_told_and_the_answer_is_forced(service: Service, script: Script) -> None:
    """W6: after ``max_rounds`` rounds the model is asked once more, without tools; what failed ended only its call."""
    script.will(calls(("spine_raises", {"value": "final"})), ASKS, says("Enough."))
    assert outcome(await service.run(asked())) == "Enough."
    bodies = script.bodies()
    assert ["tools" in body for body in bodies] == [True, True, False]
    assert "No more tools" in bodies[2]["messages"][-1]["content"]
    (_, first), (_, second) = heard(bodies[2]["messages"])
    assert json.loads(first)["error"]["code"] == "no_such_customer"
    assert second == "Good morning, Ana!"


async def test_an_answer_that_does_not_fit_is_mended_without_calling_again(service: Service, script: Script) -> None:
    """F11: the findings come after what the tools said; no tool runs twice."""
    script.will(ASKS, says({"line": "x" * 21}), says({"line": "short"}))
    assert outcome(await service.run(asked(output={"schema": LINE}))) == {"line": "short"}
    assert service.calls == ["greet"]
    last = script.told()[2]
    assert heard(last) == [("call_0", "Good morning, Ana!")]
    assert "/line" in last[-1]["content"]


async def test_its_calls_wait_for_approvals(service: Service, script: Script) -> None:
    """H2, H5: policies ask about an agent's calls as about a chat's; the plan says that they will."""
    script.will(ASKS, says("Done."))
    async with service.stream(asked(policies=gate(capability_id="spine.greet"))) as reader:
        seen = await reader.until("run_waiting")
        (prompt,) = await service.asked(seen.whole["run_id"])
        assert (prompt["node_id"], prompt["proposed"], service.calls) == ("w[0]", {"who": "Ana"}, [])
        await service.decided(prompt, "edit", answer={"who": "Ben"})
        frames = await reader.rest()
    assert outcome(frames) == "Done."
    ((_, content),) = heard(script.told()[1])
    assert content.endswith("Good morning, Ben!")
    plans = await service.client.post("/api/v1/plans", json=asked(policies=gate(capability_id="spine.greet")))
    assert plans.json()["plan"]["findings"] == []


async def test_a_forbidden_tool_is_refused_before_anything_runs(service: Service, script: Script) -> None:
    """W4: an agent cannot have called what its run forbids."""
    body = asked(policies={"planner": {"selection": {"forbid": ["spine.noop"]}}})
    refused = await service.client.post("/api/v1/runs", json=body)
    assert refused.status_code == 422
    (item,) = refused.json()["errors"]
    assert (item["pointer"], item["code"]) == ("/workflow/plan/nodes/0/capability_id", "capability_forbidden")
    assert script.told() == []


async def test_agents_have_agents_called(service: Service, script: Script) -> None:
    """R2: a supervisor; every call is a node inside the one that asked, and a failed one is told like any other."""
    script.will(calls(("agent_clerk", {"guest": "Ana"})), ASKS, fails(400), fails(400), says("Nobody greets."))
    frames = await service.run(asked("b", "boss"))
    assert frames[-1].type == "failed"
    nodes = (await service.client.get(f"/api/v1/runs/{frames[0].whole['run_id']}/nodes")).json()["items"]
    assert {node["node_id"]: node["status"] for node in nodes} == {
        "b": "failed", "b[0]": "failed", "b[0][0]": "completed",
    }  # fmt: skip
    again = await service.client.post(f"/api/v1/runs/{frames[0].whole['run_id']}/retry")
    assert outcome(await service.follow(again.json()["run_id"])) == "Nobody greets."
    told = script.told()
    assert (len(told), service.calls) == (5, ["greet"])
    assert "model_refused" in heard(told[4])[0][1]


async def test_a_map_of_agents_goes_on_in_a_fork(service: Service, script: Script) -> None:
    """F10: items have calls of their own; a retry goes on inside of the item that failed, and no call runs twice."""
    script.will(ASKS, says("one"), calls(("spine_noop", {"value": 2})), fails(400), says("two"))
    inner = {"kind": "call", "capability_id": "agent.clerk"}
    items = {"node_id": "m", "kind": "map", "over": {"value": [1, 2]}, "as": "n", "concurrency": 1, "node": inner}
    frames = await service.run(envelope(plan(items)))
    assert frames[-1].type == "failed"
    assert service.calls == ["greet", "noop"]
    again = await service.client.post(f"/api/v1/runs/{frames[0].whole['run_id']}/retry")
    assert again.status_code in (201, 202), again.text
    frames = await service.follow(again.json()["run_id"])
    assert outcome(frames) == ["one", "two"]
    assert service.calls == ["greet", "noop"]
    assert heard(script.told()[4]) == [("call_0", "2")]


async def test_an_agent_of_another_model_is_asked_and_paid_for(
    sqlite_url: str, tmp_path: Path, script: Script, dear: Script
) -> None:
    """R2, W6: an agent may name any model that has a price; the usage door tells the two apart by their cost."""
    dear.will(ASKS, says("Dear."))
    script.will(says("Cheap."))
    lay(tmp_path / "agents", {"dear.md": CLERK.replace("id: clerk", f"id: dear\nmodel: {dear.name}")})
    prices = {dear.name: {"in": 10, "out": 20}}
    async with opened(sqlite_url, tmp_path / "agents", script, model_prices=prices) as service:
        await service.run(asked(agent="dear"))
        dear_cost = (await service.client.get("/api/v1/usage", params={"by": "way"})).json()["total"]["cost"]
        assert dear_cost == pytest.approx(2 * (0.8 + 0.4))
        await service.run(asked())
        both = (await service.client.get("/api/v1/usage", params={"by": "way"})).json()["total"]["cost"]
        assert both - dear_cost == pytest.approx(0.08 + 0.04)
