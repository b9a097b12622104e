"""Stored flows and groups among the tools of a Markdown agent: each call is a child run (R2, W2, W6)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.agents.folders import ECHO, lay, listed
from tests.agents.test_agents import call_agent, outcome
from tests.chat.talking import heard
from tests.flows.making import document, published
from tests.model.scripted import Script, calls, says
from tests.spine.running import Service, call, envelope, of, plan, serving

SHOUT = "description: Shouts\ninputs: {type: object, required: [text], properties: {text: {type: string}}}\n"
AGENT = "---\nid: lead\ntools: [{}]\n---\nHave it done."


async def lead(service: Service, **more: Any) -> Any:
    """Run a plan that calls the agent; the frames of the run."""
    return await service.run(envelope(plan({**call_agent("w", "lead"), **more})))


async def test_an_agent_has_a_stored_flow_called(database_url: str, tmp_path: Path, script: Script) -> None:
    """W2: the flow's newest version runs as a child run; people can be asked about it like about any call."""
    async with serving(database_url, **script.settings) as service:
        given = {"value": {"from": "/inputs/x"}}
        first: dict[str, Any] = {"node_id": "a", "kind": "call", "capability_id": "spine.noop", "inputs": given}
        flow_id = await published(service, document(plan=plan(first, call("b", "noop", of("a")))))
    lay(tmp_path, {"lead.md": AGENT.format(f"'flow.{flow_id}', spine.noop")})
    script.will(calls(("Echo", {"x": "hello"}), ("spine_noop", {"value": 1})), says("It said hello."))
    async with serving(database_url, agents_dir=str(tmp_path), **script.settings) as service:
        frames = await lead(service)
        assert outcome(frames) == "It said hello."
        start = next(frame.payload for frame in frames if frame.shape == "node_start:w[0]")
        assert start["kind"] == "subflow"
        assert (await service.detail(start["child_run_id"]))["output"] == "hello"
        assert heard(script.told()[1]) == [("call_0", "hello"), ("call_1", "1")]


async def test_an_agent_has_a_group_called_in_a_map(sqlite_url: str, tmp_path: Path, script: Script) -> None:
    """R3: a group is a flow that belongs to every tenant; inside a map each item has child runs of its own."""
    files = {"echo.py": ECHO, "flows/shout.yaml": f"{SHOUT}sequence: [echo]\n", "lead.md": AGENT.format("flow.shout")}
    script.will(calls(("shout", {"text": "hey"})), says("Done."))
    async with serving(sqlite_url, agents_dir=str(lay(tmp_path, files)), **script.settings) as service:
        inner = {"kind": "call", "capability_id": "agent.lead"}
        frames = await service.run(
            envelope(plan({"node_id": "m", "kind": "map", "over": {"value": [1]}, "as": "n", "node": inner}))
        )
        assert outcome(frames) == ["Done."]
        assert heard(script.told()[1]) == [("call_0", "HEY")]


async def test_flows_that_cannot_be_called_are_refused(sqlite_url: str, tmp_path: Path, script: Script) -> None:
    """W4: one that is not there, one that leads back to itself, and an agent that the planner could not give them."""
    files = {
        "lead.md": AGENT.format("flow.flw_nobody"), "round.md": AGENT.format("flow.loop").replace("lead", "round"),
        "flows/loop.yaml": "sequence: [round]\n",
        "made.md": "---\nid: made\nproduces: copy_variants\ntools: [flow.loop]\n---\nWrite.",
        "plain.md": "---\nid: plain\n---\nWrite.",
    }  # fmt: skip
    async with serving(sqlite_url, agents_dir=str(lay(tmp_path, files)), **script.settings) as service:
        found = (await listed(service))["made.md"]["error"]
        assert (found["code"], found["line"]) == ("unsupported", 3)

        async def refused(step: dict[str, Any]) -> list[tuple[str, str]]:
            answer = await service.client.post("/api/v1/runs", json=envelope(plan(step)))
            assert answer.status_code == 422, answer.text
            return [(item["pointer"], item["code"]) for item in answer.json()["errors"]]

        at = "/workflow/plan/nodes/0"
        assert await refused(call_agent("w", "lead")) == [(f"{at}/capability_id", "flow_version_not_found")]
        ((pointer, code),) = await refused(call_agent("w", "round"))
        assert (pointer.startswith(at), code) == (True, "flow_cycle")
        own = [{"name": "mine", "plan": plan(call("a", "noop"))}]
        assert await refused(call_agent("w", "plain", flows=own)) == [(f"{at}/flows", "unknown_field")]
        answer = await service.client.post("/api/v1/flows/loop/run", json={})
        assert answer.json()["errors"][0]["code"] == "flow_cycle"
        assert script.told() == []
