"""Stored flows as tools of a chat: each call is a child run with a record of its own (W2, W6)."""

from __future__ import annotations

from typing import Any

from tests.chat.talking import gate, heard, shapes, talk, text_only
from tests.flows.making import document, published
from tests.model.scripted import Script, calls, says
from tests.spine.running import Service, call, envelope, of, plan


def three_steps() -> dict[str, Any]:
    """A flow of three nodes that gives back what it is given."""
    first = {"node_id": "a", "kind": "call", "capability_id": "spine.noop", "inputs": {"value": {"from": "/inputs/x"}}}
    return document(plan=plan(first, call("b", "noop", of("a")), call("c", "noop", of("b"))))


async def test_a_stored_flow_is_a_tool(service: Service, script: Script) -> None:
    """W2, W6: the model sees its name and inputs; the call is a child run, its output what the model is told."""
    flow_id = await published(service, three_steps())
    script.will(calls(("Echo", {"x": "hello"}), ("spine_noop", {"value": 1})), says("It said hello."))
    body = talk("noop")
    body["workflow"]["plan"]["nodes"][0]["tools"].append(f"flow.{flow_id}")
    frames = await service.run(body)
    assert frames[-1].payload["output"] == "It said hello."
    start = next(frame.payload for frame in frames if frame.shape == "node_start:chat[0]")
    assert start["kind"] == "subflow"
    child = await service.detail(start["child_run_id"])
    assert (child["status"], child["output"]) == ("completed", "hello")
    nodes = (await service.client.get(f"/api/v1/runs/{start['child_run_id']}/nodes")).json()["items"]
    assert [node["node_id"] for node in nodes] == ["a", "b", "c"]
    offered = {tool["function"]["name"]: tool["function"] for tool in script.bodies()[0]["tools"]}
    assert offered["Echo"]["description"] == "Echo. Says it again"
    assert offered["Echo"]["parameters"]["required"] == ["x"]
    assert heard(script.told()[1]) == [("call_0", "hello"), ("call_1", "1")]


async def test_a_flow_that_fails_is_told_to_the_model(service: Service, script: Script) -> None:
    """W6: a failing child run ends its call, never the turn; bad arguments start none."""
    node = {"node_id": "a", "kind": "call", "capability_id": "spine.raises", "inputs": {"value": {"from": "/inputs/x"}}}
    flow_id = await published(service, document(plan=plan(node)))
    script.will(calls(("Echo", {"x": "final"}), ("Echo", {"y": 1})), says("Sorry."))
    body = talk()
    body["workflow"]["plan"]["nodes"][0]["tools"] = [f"flow.{flow_id}@1"]
    frames = await service.run(body)
    assert frames[-1].payload["output"] == "Sorry."
    assert "node_error:chat[0]" in shapes(frames)
    (_, failed), (_, refused) = heard(script.told()[1])
    assert "There is no customer 7." in failed
    assert "bad_call" in refused


async def test_a_flow_with_effects_is_approved_first(service: Service, script: Script) -> None:
    """H5: a flow does to the world what its nodes do; nothing of it runs before the answer."""
    flow_id = await published(service, document(plan=plan(call("a", "once", {"file": "/nowhere"}))))
    script.will(calls(("Echo", {"x": "go"})), says("Then not."))
    body = talk(policies=gate(effects="once"))
    body["workflow"]["plan"]["nodes"][0]["tools"] = [f"flow.{flow_id}"]
    run_id = await service.start(body)
    (prompt,) = await service.asked(run_id)
    assert (prompt["node_id"], prompt["proposed"]) == ("chat[0]", {"x": "go"})
    await service.decided(prompt, "reject")
    assert (await service.follow(run_id))[-1].payload["output"] == "Then not."
    assert service.calls == []


async def test_a_plan_in_a_chat_is_checked_with_it(service: Service) -> None:
    """W4: a flow that is not there, and a mistake inside a plan, are refused with their place."""
    body = talk()
    body["workflow"]["plan"]["nodes"][0]["tools"] = ["flow.flw_nobody"]
    refused = await service.client.post("/api/v1/runs", json=body)
    (item,) = refused.json()["errors"]
    assert (item["pointer"], item["code"]) == ("/workflow/plan/nodes/0/tools/0", "flow_version_not_found")
    inside = {"name": "x", "plan": plan(call("a", "nobody"))}
    node = {"node_id": "chat", "kind": "chat", "flows": [inside]}
    refused = await service.client.post("/api/v1/runs", json=envelope(plan(node, output=text_only())))
    (item,) = refused.json()["errors"]
    assert item["pointer"] == "/workflow/plan/nodes/0/flows/0/plan/nodes/0/capability_id"
