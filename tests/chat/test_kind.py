"""The node kind ``chat``, frame by frame: tools as child nodes, gates, bounds, and what the model is told (W6)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.chat.talking import gate, heard, shapes, talk, text_only
from tests.model.scripted import Script, calls, fails, says
from tests.spine.running import Service, call, envelope, plan, serving
from tests.spine.sse import Frame


def text_of(frames: list[Frame]) -> str:
    """What was streamed of the chat itself."""
    return "".join(frame.payload["text"] for frame in frames if frame.type == "node_delta" and frame.node_id == "chat")


async def test_an_answer_without_tools(service: Service, script: Script) -> None:
    """W6: messages in, an answer out, tokens and money counted."""
    script.will(says("Good morning!"))
    frames = await service.run(talk(instructions="Be kind."))
    assert shapes(frames) == ["node_start:chat", "node_complete:chat", "complete"]
    end = frames[-1].payload
    assert end["output"] == "Good morning!"
    assert end["usage"] == {"tokens": 100, "cost": pytest.approx(0.12)}
    (body,) = script.bodies()
    assert "tools" not in body
    assert body["stream_options"] == {"include_usage": True}
    assert [message["role"] for message in body["messages"]] == ["system", "user"]
    assert body["messages"][0]["content"].startswith("Be kind.")


async def test_words_are_streamed_as_they_come(service: Service, script: Script) -> None:
    """F7, W6: every viewer that is there gets the words at once; what was said beside calls is in the log too."""
    script.will(calls(("spine_held", {"value": "s"}), content="Let me see."), says("Good morning, said I."))
    async with service.stream(talk("held")) as reader:
        await reader.until("node_start", "chat[0]")
        await service.abilities.arrived("s").wait()
        service.abilities.gate("s").set()
        frames = await reader.rest()
    asked = next(frame.payload for frame in frames if frame.type == "tool_calls")
    assert (asked["round"], asked["text"]) == (1, "Let me see.")
    assert text_of(frames).endswith("Good morning, said I.")


async def test_tools_run_as_nodes_of_their_own(service: Service, script: Script) -> None:
    """W6: several calls of a round run side by side; the model is told and answers; the usage of all calls adds up."""
    script.will(calls(("spine_greet", {"who": "Ana"}), ("spine_noop", {"value": [1]})), says("Done."))
    frames = await service.run(talk("greet", "noop"))
    said = shapes(frames)
    assert said[:2] == ["node_start:chat", "tool_calls:chat"]
    assert sorted(said[2:6]) == [
        "node_complete:chat[0]", "node_complete:chat[1]", "node_start:chat[0]", "node_start:chat[1]",
    ]  # fmt: skip
    assert said[6:] == ["node_start:chat", "node_complete:chat", "complete"]
    starts = [frame.payload for frame in frames if frame.shape == "node_start:chat"]
    assert [(start["attempt"], start["resumed"]) for start in starts] == [(1, False), (1, True)]
    asked = next(frame.payload for frame in frames if frame.type == "tool_calls")
    assert [(one["name"], one["node_id"], one["error"]) for one in asked["calls"]] == [
        ("spine_greet", "chat[0]", None), ("spine_noop", "chat[1]", None),
    ]  # fmt: skip
    assert frames[-1].payload["usage"]["tokens"] == 200
    first, second = script.bodies()
    offered = {tool["function"]["name"]: tool["function"]["parameters"] for tool in first["tools"]}
    assert offered["spine_greet"] == {
        "type": "object", "properties": {"who": {"type": "string"}}, "required": ["who"], "additionalProperties": False,
    }  # fmt: skip
    assert heard(second["messages"]) == [("call_0", "Good morning, Ana!"), ("call_1", "[1]")]


async def test_what_is_wrong_with_a_call_is_told_to_the_model(service: Service, script: Script) -> None:
    """W6: an unknown name and bad arguments are results; nothing runs, and the run goes on."""
    script.will(calls(("spine_nobody", {}), ("spine_greet", {"who": 7}), ("spine_greet", "[1]")), says("Sorry."))
    frames = await service.run(talk("greet"))
    assert shapes(frames) == [
        "node_start:chat", "tool_calls:chat", "node_start:chat", "node_complete:chat", "complete",
    ]  # fmt: skip
    assert service.calls == []
    errors = [json.loads(content)["error"]["message"] for _, content in heard(script.told()[1])]
    assert "There is no tool 'spine_nobody'. There are: spine_greet." in errors[0]
    assert "/who" in errors[1]
    assert "not an object" in errors[2]


async def test_a_tool_that_fails_is_told_to_the_model(service: Service, script: Script) -> None:
    """W6: a failing tool ends its node, never the turn."""
    script.will(calls(("spine_raises", {"value": "final"})), says("No such customer."))
    frames = await service.run(talk("raises"))
    assert shapes(frames) == [
        "node_start:chat", "tool_calls:chat", "node_start:chat[0]", "node_error:chat[0]", "node_start:chat",
        "node_complete:chat", "complete",
    ]  # fmt: skip
    error = next(frame.payload for frame in frames if frame.type == "node_error")
    assert (error["code"], error["fallback"]) == ("no_such_customer", "model")
    ((_, content),) = heard(script.told()[1])
    assert json.loads(content) == {"error": {"code": "no_such_customer", "message": "There is no customer 7."}}


async def test_at_the_bound_the_answer_is_forced(service: Service, script: Script) -> None:
    """W6: after ``max_rounds`` rounds the model is asked once more, without tools."""
    again = calls(("spine_noop", {"value": 1}))
    script.will(again, again, says("That is all."))
    frames = await service.run(envelope_of_whole("noop", max_rounds=2))
    output = frames[-1].payload["output"]
    assert (output["text"], output["finish"], output["rounds"]) == ("That is all.", "max_rounds", 2)
    assert [one["node_id"] for one in output["tool_calls"]] == ["chat[0]", "chat[1]"]
    assert output["usage"] == {"tokens_in": 240, "tokens_out": 60, "cost": pytest.approx(0.36)}
    bodies = script.bodies()
    assert ["tools" in body for body in bodies] == [True, True, False]
    assert "No more tools" in bodies[2]["messages"][-1]["content"]


def envelope_of_whole(*tools: str, **more: Any) -> dict[str, Any]:
    """A turn whose whole output is the answer."""
    whole = talk(*tools, **more)
    whole["workflow"]["plan"]["output"]["map"][""]["pointer"] = ""
    return whole


async def test_another_attempt_goes_on_where_the_last_one_failed(service: Service, script: Script) -> None:
    """F6: a busy model is asked again with what the tools said; no tool runs twice."""
    script.will(calls(("spine_greet", {"who": "Ben"})), fails(503), says("There."))
    policies = {"retry": {"max_attempts": 2, "base_ms": 0, "max_ms": 0}}
    frames = await service.run(talk("greet", policies=policies))
    assert [shape for shape in shapes(frames) if shape.endswith(":chat")] == [
        "node_start:chat", "tool_calls:chat", "node_start:chat", "node_retry:chat", "node_start:chat",
        "node_complete:chat",
    ]  # fmt: skip
    assert service.calls == ["greet"]
    told = script.told()
    assert heard(told[1]) == heard(told[2]) == [("call_0", "Good morning, Ben!")]


async def test_a_broken_answer_is_mended_by_the_model(service: Service, script: Script) -> None:
    """F11: the caller's schema holds for a chat too, and its findings go back."""
    script.will(says("long-winded"), says("short"))
    body = talk(policies={"retry": {"max_attempts": 2, "base_ms": 0, "max_ms": 0}})
    body["output_contract"]["schema"] = {"type": "string", "maxLength": 6}
    frames = await service.run(body)
    assert frames[-1].payload["output"] == "short"
    assert "refused" in script.told()[1][-1]["content"]


async def test_what_a_conversation_must_look_like(service: Service, script: Script) -> None:
    """R6: what cannot be shown to a model fails with a stable code, before it is asked."""
    body = talk()
    body["inputs"]["messages"] = [{"role": "wizard", "content": "x"}]
    frames = await service.run(body)
    error = next(frame.payload for frame in frames if frame.type == "node_error")
    assert error["code"] == "messages_invalid"
    body["inputs"]["messages"] = [{"role": "user", "content": "x" * 400_001}]
    frames = await service.run(body)
    error = next(frame.payload for frame in frames if frame.type == "node_error")
    assert error["code"] == "messages_too_long"
    assert script.told() == []


# --- gates -----------------------------------------------------------------------------------------------------------


async def test_a_call_waits_for_its_approval(service: Service, script: Script) -> None:
    """W6, H5: the prompt is the usual one and shows exactly what would run; only what is approved runs."""
    script.will(calls(("spine_greet", {"who": "Ana"}), ("spine_noop", {"value": 3})), says("Done."))
    body = talk("greet", "noop", policies=gate(capability_id="spine.greet"))
    async with service.stream(body) as reader:
        seen = await reader.until("run_waiting")
        (prompt,) = await service.asked(seen.whole["run_id"])
        assert (prompt["kind"], prompt["node_id"], prompt["question"]) == ("approval", "chat[0]", "May it?")
        assert prompt["proposed"] == {"who": "Ana"}
        assert prompt["actions"] == ["approve", "edit", "reject"]
        assert service.calls == ["noop"]
        await service.decided(prompt, "approve", bound_hash=prompt["bound_hash"])
        frames = await reader.rest()
    assert [frame.shape for frame in frames if frame.node_id == "chat[0]"] == [
        "node_start:chat[0]", "hitl_request:chat[0]", "hitl_resolved:chat[0]", "node_start:chat[0]",
        "node_complete:chat[0]",
    ]  # fmt: skip
    assert frames[-1].type == "complete"
    assert heard(script.told()[1])[0] == ("call_0", "Good morning, Ana!")


async def test_a_rejection_is_told_to_the_model(service: Service, script: Script) -> None:
    """W6: people say no, and the model goes on with that; claude-agent-sdk-python#304: nothing ran anyway."""
    script.will(calls(("spine_once", {"value": "x"})), says("Then not."))
    run_id = await service.start(talk("once", policies=gate(effects="once")))
    (prompt,) = await service.asked(run_id)
    await service.decided(prompt, "reject", comment="Too dear.")
    frames = await service.follow(run_id)
    assert frames[-1].payload["output"] == "Then not."
    assert service.calls == []
    ((_, content),) = heard(script.told()[1])
    error = json.loads(content)["error"]
    assert error["code"] == "rejected"
    assert "Too dear." in error["message"]


async def test_people_change_the_arguments(service: Service, script: Script) -> None:
    """H4, H5: what people wrote runs, and the model learns of it."""
    script.will(calls(("spine_greet", {"who": "Ana"})), says("Done."))
    run_id = await service.start(talk("greet", policies=gate()))
    (prompt,) = await service.asked(run_id)
    refused = await service.decide(prompt["prompt_id"], "edit", answer={"who": 7})
    assert refused.status_code == 422
    await service.decided(prompt, "edit", answer={"who": "Ben"})
    assert (await service.follow(run_id))[-1].type == "complete"
    ((_, content),) = heard(script.told()[1])
    assert content == 'Somebody changed the arguments to {"who":"Ben"}. Result:\nGood morning, Ben!'
    node = (await service.client.get(f"/api/v1/runs/{run_id}/nodes/chat[0]")).json()
    assert node["inputs"] == {"who": "Ben"}


async def test_a_result_waits_for_its_approval(service: Service, script: Script) -> None:
    """H2: ``after`` shows what the call put out; what people make of it is what the model is told."""
    script.will(calls(("spine_greet", {"who": "Ana"})), says("Done."))
    run_id = await service.start(talk("greet", policies=gate("after", capability_id="spine.greet")))
    (prompt,) = await service.asked(run_id)
    assert prompt["proposed"] == "Good morning, Ana!"
    assert service.calls == ["greet"]
    await service.decided(prompt, "edit", answer="Hello, Ana.")
    assert (await service.follow(run_id))[-1].type == "complete"
    assert heard(script.told()[1]) == [("call_0", "Hello, Ana.")]


async def test_an_approval_that_comes_too_late_does_not_run(service: Service, script: Script) -> None:
    """H7, claude-agent-sdk-python#304: at its due time the call is off, and the model is told."""
    script.will(calls(("spine_noop", {"value": 1})), says("Nobody came."))
    policies = gate()
    policies["hitl"][0] |= {"due_seconds": 0.05, "on_timeout": "fail"}
    frames = await service.run(talk("noop", policies=policies))
    assert frames[-1].payload["output"] == "Nobody came."
    assert service.calls == []


async def test_a_chat_inside_of_a_larger_plan(service: Service, script: Script) -> None:
    """W5: a chat is a node like any other: it reads others, and others read it."""
    script.will(says("Seven."))
    nodes = [
        call("first", "noop", 7),
        {"node_id": "chat", "kind": "chat", "inputs": {"number": {"node_id": "first", "pointer": ""}}},
    ]
    frames = await service.run(envelope(plan(*nodes, output=text_only())))
    assert frames[-1].payload["output"] == "Seven."
    assert '<material>\n{\n  "number": 7\n}\n</material>' in script.told()[0][1]["content"]


# --- what is refused -------------------------------------------------------------------------------------------------


async def test_a_chat_is_checked_before_it_runs(service: Service) -> None:
    """W4: tools exist, are active and permitted; bounds hold; each finding has its pointer."""
    body = talk("noop", "nobody", max_rounds=0)
    refused = await service.client.post("/api/v1/runs", json=body)
    assert refused.status_code == 422
    codes = {item["pointer"]: item["code"] for item in refused.json()["errors"]}
    assert codes["/workflow/plan/nodes/0/max_rounds"] == "greater_than_equal"
    body = talk("noop", "nobody", policies={"planner": {"selection": {"forbid": ["spine.noop"]}}})
    refused = await service.client.post("/api/v1/runs", json=body)
    codes = {item["pointer"]: item["code"] for item in refused.json()["errors"]}
    assert codes["/workflow/plan/nodes/0/tools/0"] == "capability_forbidden"
    assert codes["/workflow/plan/nodes/0/tools/1"] == "unknown_capability"


# --- going on --------------------------------------------------------------------------------------------------------


async def test_a_retry_of_the_run_keeps_what_tools_did(service: Service, script: Script) -> None:
    """F10: a turn that failed is tried again from where it failed; its finished calls are copied."""
    script.will(
        calls(("spine_greet", {"who": "Ana"}), ("spine_raises", {"value": "final"})), fails(400), says("At last.")
    )
    frames = await service.run(talk("greet", "raises"))
    assert frames[-1].type == "failed"
    again = await service.client.post(f"/api/v1/runs/{frames[0].whole['run_id']}/retry")
    assert again.status_code in (201, 202), again.text
    frames = await service.follow(again.json()["run_id"])
    assert frames[-1].payload["output"] == "At last."
    assert service.calls == ["greet", "raises"]
    told = script.told()
    assert heard(told[1]) == heard(told[2])


async def test_without_a_model_there_is_no_chat(database_url: str) -> None:
    """W4: the finding names the remedy; a plan with a chat is refused before it runs."""
    async with serving(database_url) as service:
        refused = await service.client.post("/api/v1/runs", json=talk())
        assert refused.status_code == 422
        (item,) = refused.json()["errors"]
        assert (item["pointer"], item["code"]) == ("/workflow/plan/nodes/0/kind", "model_missing")


async def test_what_has_been_spent_ends_the_turn(service: Service, script: Script) -> None:
    """F5: rounds of a chat count against the budget like everything else; nothing more is asked once it is spent."""
    script.will(calls(("spine_costly", {})), says("too late"))
    frames = await service.run(talk("costly", policies={"budget": {"tokens": 150}}))
    assert frames[-1].payload["code"] == "budget_spent"
    assert len(script.told()) == 1


async def test_calls_beyond_the_concurrency_wait(service: Service, script: Script) -> None:
    """F6: the envelope's ``concurrency`` bounds the calls of a round too."""
    asks = [("spine_held", {"value": f"c{place}"}) for place in range(3)]
    script.will(calls(*asks), says("All."))
    abilities = service.abilities
    run_id = await service.start(talk("held", policies={"concurrency": 2}))
    async with service.watch(run_id) as reader:
        await abilities.arrived("c0").wait()
        await abilities.arrived("c1").wait()
        assert not abilities.arrived("c2").is_set()
        abilities.gate("c0").set()
        await abilities.arrived("c2").wait()
        abilities.gate("c1").set()
        abilities.gate("c2").set()
        assert (await reader.rest())[-1].type == "complete"
    assert [content for _, content in heard(script.told()[1])] == ["c0", "c1", "c2"]


async def test_a_cancel_ends_the_calls_too(service: Service, script: Script) -> None:
    """F12: what is at work for a turn ends with it."""
    script.will(calls(("spine_held", {"value": "k"})))
    run_id = await service.start(talk("held"))
    await service.abilities.arrived("k").wait()
    answer = await service.client.post(f"/api/v1/runs/{run_id}/cancel")
    assert answer.status_code == 202
    assert (await service.follow(run_id))[-1].type == "cancelled"
    nodes = (await service.client.get(f"/api/v1/runs/{run_id}/nodes")).json()["items"]
    assert {node["node_id"]: node["status"] for node in nodes} == {"chat": "cancelled", "chat[0]": "cancelled"}


async def test_several_people_and_two_rules(service: Service, script: Script) -> None:
    """H2, H5: every rule asks, one after the other; the last one sees what the first one changed."""
    script.will(calls(("spine_greet", {"who": "Ana"})), says("Done."))
    policies = {"hitl": [{"id": "one", "when": "before"}, {"id": "two", "when": "before"}]}
    run_id = await service.start(talk("greet", policies=policies))
    (first,) = await service.asked(run_id)
    await service.decided(first, "edit", answer={"who": "Ben"})
    async with service.watch(run_id) as reader:
        while (await reader.until("hitl_request")).payload["prompt"]["prompt_id"] == first["prompt_id"]:
            pass
    (second,) = (await service.detail(run_id))["open_prompts"]
    assert second["proposed"] == {"who": "Ben"}
    await service.decided(second, "approve")
    await service.follow(run_id)
    assert service.calls == ["greet"]


async def test_an_ambiguous_call_is_asked_about(service: Service, script: Script, tmp_path: Path) -> None:
    """H12: a call that must not be repeated broke off; people say whether it happened, and the model is told."""
    value = {"file": str(tmp_path / "book"), "then": "raise"}
    script.will(calls(("spine_once", {"value": value})), says("Done."))
    run_id = await service.start(talk("once"))
    (prompt,) = await service.asked(run_id)
    assert (prompt["kind"], prompt["node_id"]) == ("effect_check", "chat[0]")
    await service.decided(prompt, "happened")
    assert (await service.follow(run_id))[-1].type == "complete"
    assert service.calls == ["once"]
    assert heard(script.told()[1]) == [("call_0", "null")]
