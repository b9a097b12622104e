"""The official ``openai`` client, as it is published, against ``/v1`` (W6); the model behind is nobody's of ours."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from tests.chat.talking import gate
from tests.flows.making import document, published
from tests.model.scripted import Script, calls, fails, says
from tests.spine.running import Service, plan, serving

HELLO: list[Any] = [{"role": "user", "content": "Greet Ana"}]
TOOLS: dict[str, Any] = {
    "chat_tools": ("spine.greet", "spine.noop", "spine.once", "spine.raises"),
    "chat_instructions": "Be kind.",
}


@pytest.fixture
async def service(database_url: str, script: Script) -> AsyncIterator[Service]:
    """A process whose chats have tools by themselves."""
    async with serving(database_url, **script.settings, **TOOLS) as running:
        yield running


@pytest.fixture
async def client(service: Service) -> AsyncIterator[openai.AsyncOpenAI]:
    """The client, told nothing but where to turn to."""
    base = f"{str(service.client.base_url).rstrip('/')}/v1"
    async with openai.AsyncOpenAI(base_url=base, api_key="unused", timeout=15) as found:
        yield found


async def test_it_streams_text_and_tool_calls(client: openai.AsyncOpenAI, service: Service, script: Script) -> None:
    """W6: text as it comes, the calls of tools, usage at the end; the run is a run like any other."""
    script.will(calls(("spine_greet", {"who": "Ana"}), content="Let me see. "), says("Good morning, Ana, said I."))
    made = await client.chat.completions.with_raw_response.create(
        model="flex", messages=HELLO, stream=True, stream_options={"include_usage": True}
    )
    chunks = [chunk async for chunk in made.parse()]
    assert {chunk.object for chunk in chunks} == {"chat.completion.chunk"}
    assert {chunk.model for chunk in chunks} == {"flex"}
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert deltas[0].role == "assistant"
    assert "".join(delta.content or "" for delta in deltas) == "Let me see. Good morning, Ana, said I."
    (call,) = [call for delta in deltas for call in delta.tool_calls or ()]
    assert call.function is not None
    assert (call.index, call.function.name) == (0, "spine_greet")
    assert chunks[-2].choices[0].finish_reason == "stop"
    usage = chunks[-1].usage
    assert usage is not None
    assert (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens) == (160, 40, 200)
    run = await service.detail(made.headers["x-run-id"])
    assert run["status"] == "completed"
    assert run["output"]["text"] == "Good morning, Ana, said I."
    assert service.calls == ["greet"]
    assert script.told()[0][0]["content"].startswith("Be kind.")


async def test_the_clients_own_helper_puts_the_stream_together(client: openai.AsyncOpenAI, script: Script) -> None:
    """The accumulating helper of the client takes the chunks for what they are."""
    script.will(calls(("spine_noop", {"value": 1})), says("One."))
    async with client.chat.completions.stream(model="flex", messages=HELLO) as stream:
        whole = await stream.get_final_completion()
    message = whole.choices[0].message
    assert message.content == "One."
    assert message.tool_calls is not None
    assert [(call.id, call.function.arguments) for call in message.tool_calls] == [("call_0", '{"value": 1}')]


async def test_an_answer_in_one_piece(client: openai.AsyncOpenAI, script: Script) -> None:
    """W6: not streamed it is one completion, with its usage; how the model samples is passed on."""
    script.will(says("Good morning."))
    whole = await client.chat.completions.create(model="flex", messages=HELLO, temperature=0.5, max_tokens=50)
    assert whole.object == "chat.completion"
    assert whole.choices[0].message.content == "Good morning."
    assert whole.choices[0].finish_reason == "stop"
    assert whole.usage is not None
    assert whole.usage.total_tokens == 100
    (body,) = script.bodies()
    assert (body["temperature"], body["max_tokens"]) == (0.5, 50)


async def test_a_conversation_that_comes_back(client: openai.AsyncOpenAI, script: Script) -> None:
    """A client sends back what it was shown, calls without results and all; the model is told what it can take."""
    script.will(calls(("spine_noop", {"value": 1})), says("One."), says("Two."))
    first = await client.chat.completions.create(model="flex", messages=HELLO)
    again: list[Any] = [*HELLO, first.choices[0].message.model_dump(), {"role": "user", "content": "And now?"}]
    second = await client.chat.completions.create(model="flex", messages=again)
    assert second.choices[0].message.content == "Two."
    told = script.told()[-1]
    assert [(message["role"], message["content"]) for message in told[1:]] == [
        ("user", "Greet Ana"), ("assistant", "One."), ("user", "And now?"),
    ]  # fmt: skip


async def test_a_stored_flow_is_a_model(client: openai.AsyncOpenAI, service: Service, script: Script) -> None:
    """W6: ``flow:<id>`` names a published flow whose chat answers; it has its own tools and its own answer."""
    node = {
        "node_id": "desk", "kind": "chat", "instructions": "You are the desk.", "tools": ["spine.greet"],
        "inputs": {"messages": {"from": "/inputs/messages"}},
    }  # fmt: skip
    wrap = {
        "node_id": "loud", "kind": "transform", "expression": "$uppercase(text)",
        "inputs": {"text": {"node_id": "desk", "pointer": "/text"}},
    }  # fmt: skip
    inputs = {"type": "object", "required": ["messages"], "properties": {"messages": {"type": "array"}}}
    flow_id = await published(service, document(name="Desk", inputs=inputs, plan=plan(node, wrap)))
    await published(service)
    assert [model.id async for model in client.models.list()] == ["flex", f"flow:{flow_id}"]
    assert (await client.models.retrieve(f"flow:{flow_id}")).id == f"flow:{flow_id}"
    script.will(calls(("spine_greet", {"who": "Ana"})), says("done"))
    stream = await client.chat.completions.create(model=f"flow:{flow_id}@1", messages=HELLO, stream=True)
    text = "".join([chunk.choices[0].delta.content or "" async for chunk in stream if chunk.choices])
    assert text == "done\n\nDONE"
    assert script.told()[0][0]["content"].startswith("You are the desk.")


async def test_an_approval_in_the_middle_of_a_stream(
    client: openai.AsyncOpenAI, service: Service, script: Script, tmp_path: Path
) -> None:
    """W6, H1: the stream says in words who has to decide where, and goes on after the decision."""
    script.will(calls(("spine_once", {"value": {"file": str(tmp_path / "book")}})), says("It is done."))
    made = await client.chat.completions.with_raw_response.create(model="flex", messages=HELLO, stream=True)
    run_id = made.headers["x-run-id"]
    said: list[str] = []
    async with asyncio.timeout(15):
        async for chunk in made.parse():
            said.append(chunk.choices[0].delta.content or "")
            if "Somebody has to decide" in said[-1]:
                assert service.calls == []
                assert f"/api/v1/runs/{run_id}" in said[-1]
                (prompt,) = await service.asked(run_id)
                await service.decided(prompt, "approve")
    assert said[-2:] == ["It is done.", ""]
    assert any("Decided: approve." in part for part in said)
    assert service.calls == ["once"]


async def test_an_answer_in_one_piece_does_not_wait_for_people(
    client: openai.AsyncOpenAI, service: Service, script: Script
) -> None:
    """H1: nobody's connection is held while people think; the answer says where to look."""
    script.will(calls(("spine_once", {"value": "x"})), says("Later."))
    made = await client.chat.completions.with_raw_response.create(model="flex", messages=HELLO)
    content = made.parse().choices[0].message.content or ""
    run_id = made.headers["x-run-id"]
    assert f"/api/v1/runs/{run_id}" in content
    (prompt,) = await service.asked(run_id)
    await service.decided(prompt, "reject")
    assert (await service.follow(run_id))[-1].payload["output"]["text"] == "Later."


async def test_a_failure_in_a_stream_is_told_and_recorded(
    client: openai.AsyncOpenAI, service: Service, script: Script
) -> None:
    """W6 (trap): a turn that fails while it is streamed is a failed run like any other."""
    script.will(fails(400, "No."))
    made = await client.chat.completions.with_raw_response.create(model="flex", messages=HELLO, stream=True)
    with pytest.raises(openai.APIError) as failed:
        async for _ in made.parse():
            pass
    assert failed.value.code == "node_failed"
    run = await service.detail(made.headers["x-run-id"])
    assert (run["status"], run["error"]["code"]) == ("failed", "node_failed")
    counts = (await service.client.get("/api/v1/executions/counts")).json()
    assert (counts["counts"]["failed"], counts["total"]) == (1, 1)
    assert (await service.client.get("/api/v1/usage", params={"by": "way"})).json()["total"]["failed"] == 1


async def test_a_failure_in_one_piece_is_not_tried_again(client: openai.AsyncOpenAI, script: Script) -> None:
    """The client repeats a 5xx by itself unless it is told not to: a run has effects."""
    script.will(fails(400, "No."), says("never"))
    with pytest.raises(openai.InternalServerError) as failed:
        await client.chat.completions.create(model="flex", messages=HELLO)
    assert failed.value.code == "node_failed"
    assert len(script.told()) == 1


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"tools": [{"type": "function", "function": {"name": "x"}}]}, "tools"),
        ({"response_format": {"type": "json_object"}}, "response_format"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}, "messages.0"),
        ({"extra_body": {"loud": True}}, "loud"),
    ],
)
async def test_what_is_not_done_is_refused_by_name(
    client: openai.AsyncOpenAI, script: Script, more: dict[str, Any], param: str
) -> None:
    """Never ignored: OpenAI's error shape, and the parameter."""
    asked: dict[str, Any] = {"model": "flex", "messages": HELLO} | more
    with pytest.raises(openai.BadRequestError) as refused:
        await client.chat.completions.create(**asked)
    assert (refused.value.param or "").startswith(param)
    assert refused.value.type == "invalid_request_error"
    assert script.told() == []


@pytest.mark.parametrize("name", ["gpt-4", "flow:flw_nobody", "flow:x@y"])
async def test_a_model_that_is_not_there(client: openai.AsyncOpenAI, name: str) -> None:
    """404 with OpenAI's code, and no run."""
    with pytest.raises(openai.NotFoundError) as missing:
        await client.chat.completions.create(model=name, messages=HELLO)
    assert missing.value.code == "model_not_found"
    with pytest.raises(openai.NotFoundError):
        await client.models.retrieve(name)


async def test_what_flex_knows_beyond(client: openai.AsyncOpenAI, service: Service, script: Script) -> None:
    """A client may bring tools, bounds and policies of its own; the settings' approvals stay."""
    script.will(calls(("spine_noop", {"value": 1})), says("Done."))
    own = {"tools": ["spine.noop"], "max_rounds": 1, "policies": gate(capability_id="spine.noop")}
    made = await client.chat.completions.with_raw_response.create(
        model="flex", messages=HELLO, extra_body={"flex": own}
    )
    run_id = made.headers["x-run-id"]
    (prompt,) = await service.asked(run_id)
    await service.decided(prompt, "approve")
    assert (await service.follow(run_id))[-1].payload["output"]["finish"] == "max_rounds"
    assert [tool["function"]["name"] for tool in script.bodies()[0]["tools"]] == ["spine_noop"]
