"""Conversations over HTTP: turns, retries, branches, and what a crash leaves of them (W6)."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2
import pytest

from app.system import SystemIds
from contracts.access import LOCAL, Principal
from service.pruning import Asked, Pruner
from service.retention import Keep
from store import conversations as stored
from store.conversations import MessageRow
from tests.chat.talking import gate
from tests.flows.making import document, published
from tests.model.scripted import HANGS, Script, calls, fails, says
from tests.spine.persons import as_, named
from tests.spine.running import Service, plan, serving
from tests.spine.sse import Reader

AT = "/api/v1/conversations"
SUBMITTER = frozenset({"submitter"})


async def begun(service: Service, **settings: Any) -> str:
    """A new conversation."""
    answer = await service.client.post(AT, json={"title": "Greetings", **settings})
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"{AT}/{made['conversation_id']}"
    return str(made["conversation_id"])


async def post(service: Service, talk: str, content: str, key: str | None = None, **more: Any) -> httpx2.Response:
    """Say something."""
    headers = {} if key is None else {"Idempotency-Key": key}
    return await service.client.post(f"{AT}/{talk}/turns", json={"content": content, **more}, headers=headers)


async def said(service: Service, talk: str, content: str, **more: Any) -> dict[str, Any]:
    """Say something and wait for the answer's run to end; returns the assistant's message."""
    answer = await post(service, talk, content, **more)
    assert answer.status_code == 202, answer.text
    turn = answer.json()
    await service.follow(turn["run_id"])
    return next(one for one in await messages(service, talk) if one["message_id"] == turn["message_id"])


async def messages(service: Service, talk: str) -> list[dict[str, Any]]:
    """What was said, oldest first."""
    answer = await service.client.get(f"{AT}/{talk}")
    assert answer.status_code == 200, answer.text
    found: list[dict[str, Any]] = answer.json()["messages"]["items"]
    return found


def told(script: Script) -> list[list[tuple[str, str]]]:
    """What the model was told of the conversation, per request."""
    return [[(one["role"], one["content"]) for one in each if one["role"] != "system"] for each in script.told()]


async def test_turn_after_turn(service: Service, script: Script) -> None:
    """W6: each answer is a run; the model is told what was said before; usage and cost are there."""
    script.will(calls(("spine_greet", {"who": "Ana"})), says("Good morning, Ana."), says("You are Ana."))
    talk = await begun(service, tools=["spine.greet"], instructions="Be kind.")
    first = await said(service, talk, "Greet me, I am Ana")
    assert (first["content"], first["status"], first["error"]) == ("Good morning, Ana.", "completed", None)
    assert first["usage"] == {"tokens": 200, "cost": pytest.approx(0.24)}
    assert first["tool_calls"][0]["name"] == "spine_greet"
    second = await said(service, talk, "Who am I?")
    assert told(script)[2] == [
        ("user", "Greet me, I am Ana"), ("assistant", "Good morning, Ana."), ("user", "Who am I?"),
    ]  # fmt: skip
    listed = await messages(service, talk)
    assert [one["role"] for one in listed] == ["user", "assistant", "user", "assistant"]
    assert [one["parent_id"] for one in listed] == [None, *(one["message_id"] for one in listed[:3])]
    assert listed[3] == second
    run = await service.detail(second["run_id"])
    assert run["status"] == "completed"


async def test_a_turn_that_is_streamed(service: Service, script: Script) -> None:
    """W6: the frames of the run are the answer, an approval in the middle of them included."""
    script.will(calls(("spine_greet", {"who": "Ana"})), says("Done."))
    talk = await begun(service, tools=["spine.greet"], policies=gate())
    url, headers = f"{AT}/{talk}/turns", {"Accept": "text/event-stream"}
    async with service.client.stream("POST", url, json={"content": "Hello"}, headers=headers) as answer:
        assert answer.status_code == 200
        run_id = answer.headers["x-run-id"]
        reader = Reader(answer)
        await reader.until("run_waiting")
        (prompt,) = await service.asked(run_id)
        early = await post(service, talk, "Are you there?")
        assert (early.status_code, early.json()["code"]) == (409, "turn_under_way")
        (_, waiting) = await messages(service, talk)
        assert (waiting["status"], waiting["content"]) == ("waiting", None)
        await service.decided(prompt, "approve")
        assert (await reader.rest())[-1].type == "complete"
    (_, answered) = await messages(service, talk)
    assert (answered["status"], answered["content"]) == ("completed", "Done.")


async def test_a_turn_that_fails_is_kept_and_answered_again(service: Service, script: Script) -> None:
    """W6 (trap): a failed turn is recorded like any other; a retry stands beside it, the branch goes on from it."""
    script.will(fails(400, "No."), says("Now yes."), says("And on."))
    talk = await begun(service)
    failed = await said(service, talk, "Hello")
    assert (failed["status"], failed["content"], failed["error"]["code"]) == ("failed", None, "node_failed")
    (item,) = (await service.client.get("/api/v1/executions")).json()["items"]
    assert (item["id"], item["status"], item["error"]["code"]) == (failed["run_id"], "failed", "node_failed")
    answer = await service.client.post(f"{AT}/{talk}/messages/{failed['message_id']}/retry")
    assert answer.status_code == 202, answer.text
    again = answer.json()
    assert again["parent_id"] == failed["parent_id"]
    await service.follow(again["run_id"])
    assert [one["content"] for one in await messages(service, talk)] == ["Hello", None, "Now yes."]
    await said(service, talk, "Go on")
    assert told(script)[-1] == [("user", "Hello"), ("assistant", "Now yes."), ("user", "Go on")]


async def test_a_branch_knows_only_its_own_past(service: Service, script: Script) -> None:
    """W6: a turn goes on from any answer, or from the beginning; the others are not told."""
    script.will(says("one"), says("two"), says("three"), says("four"))
    talk = await begun(service)
    first = await said(service, talk, "a")
    await said(service, talk, "b")
    branch = await said(service, talk, "c", parent_id=first["message_id"])
    assert told(script)[2] == [("user", "a"), ("assistant", "one"), ("user", "c")]
    assert branch["content"] == "three"
    await said(service, talk, "d", parent_id=None)
    assert told(script)[3] == [("user", "d")]
    page = (await service.client.get(f"{AT}/{talk}?limit=3")).json()["messages"]
    assert [one["content"] for one in page["items"]] == ["three", "d", "four"]
    page = (await service.client.get(f"{AT}/{talk}?limit=100&before={page['next_before']}")).json()["messages"]
    assert [one["content"] for one in page["items"]] == ["a", "one", "b", "two", "c"]
    assert page["next_before"] is None


async def test_the_same_key_is_the_same_turn(service: Service, script: Script) -> None:
    """F2: a request that is sent again adds nothing; another body under the key is refused."""
    script.will(says("once"))
    talk = await begun(service)
    first = await post(service, talk, "Hello", key="k")
    await service.follow(first.json()["run_id"])
    again = await post(service, talk, "Hello", key="k")
    assert again.json() == first.json()
    assert len(await messages(service, talk)) == 2
    other = await post(service, talk, "Goodbye", key="k")
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")


async def test_the_same_key_at_once_is_the_same_turn(service: Service, script: Script) -> None:
    """F2: whoever comes second is told of the same turn, also when its answer is under way already."""
    talks = [await begun(service) for _ in range(3)]
    script.will(*[HANGS] * len(talks))
    for talk in talks:
        answers = await asyncio.gather(*(post(service, talk, "Hello", key="k") for _ in range(30)))
        assert {answer.status_code for answer in answers} == {202}
        assert len({(one.json()["run_id"], one.json()["message_id"]) for one in answers}) == 1
        assert [one["role"] for one in await messages(service, talk)] == ["user", "assistant"]


async def test_a_turn_whose_run_never_began_is_not_lost(service: Service, script: Script) -> None:
    """F10: a process that dies between the message and its run leaves the message, and the way to its answer."""
    script.will(says("After all."), says("Again."))
    talk = await begun(service)
    shell = service.flex.worker.shell
    user = MessageRow("msg_u", LOCAL.tenant, talk, 1, None, "user", "Hello", None, None, None, 1)
    answer = MessageRow("msg_a", LOCAL.tenant, talk, 2, "msg_u", "assistant", None, "run_never", None, None, 1)
    async with shell.database.unit() as unit:
        await stored.add_messages(unit, [user, answer], 1)
    assert [one.get("status") for one in await messages(service, talk)] == [None, "not_started"]
    made = await service.client.post(f"{AT}/{talk}/messages/msg_u/retry")
    assert made.status_code == 202, made.text
    await service.follow(made.json()["run_id"])
    assert [one["content"] for one in await messages(service, talk)] == ["Hello", None, "After all."]


async def test_a_flow_that_answers(service: Service, script: Script) -> None:
    """W6: a conversation may be with a stored flow's chat."""
    node = {"node_id": "desk", "kind": "chat", "inputs": {"messages": {"from": "/inputs/messages"}}}
    inputs = {"type": "object", "required": ["messages"], "properties": {"messages": {"type": "array"}}}
    flow_id = await published(service, document(name="Desk", inputs=inputs, plan=plan(node)))
    script.will(says("The desk."))
    talk = await begun(service, flow_id=flow_id)
    assert (await said(service, talk, "Hello"))["content"] == "The desk."
    both = await service.client.post(AT, json={"flow_id": flow_id, "tools": ["spine.noop"]})
    assert (both.status_code, both.json()["code"]) == (422, "conversation_invalid")


async def test_what_is_refused_leaves_nothing(service: Service, script: Script) -> None:
    """T1: a refused turn leaves no message and no run."""
    talk = await begun(service, tools=["spine.nobody"])
    refused = await post(service, talk, "Hello")
    assert (refused.status_code, refused.json()["code"]) == (422, "plan_invalid")
    assert await messages(service, talk) == []
    for body, code in (
        ({"content": ""}, "conversation_invalid"),
        ({"content": "x", "parent_id": "msg_x"}, "message_not_found"),
        ({"content": "x" * 100_001}, "conversation_invalid"),
    ):
        refused = await service.client.post(f"{AT}/{talk}/turns", json=body)
        assert refused.json()["code"] == code
    assert (await service.client.get("/api/v1/runs")).json()["items"] == []
    assert script.told() == []


async def test_listing_and_deleting(service: Service, script: Script) -> None:
    """P3: pages by cursor; a deleted conversation is gone, its runs stay."""
    script.will(says("x"))
    first, second = await begun(service), await begun(service)
    page = (await service.client.get(f"{AT}?limit=1")).json()
    assert [one["conversation_id"] for one in page["items"]] == [second]
    page = (await service.client.get(f"{AT}?limit=1&cursor={page['next_cursor']}")).json()
    assert [one["conversation_id"] for one in page["items"]] == [first]
    answer = await said(service, first, "Hello")
    assert (await service.client.delete(f"{AT}/{first}")).status_code == 204
    gone = await service.client.get(f"{AT}/{first}")
    assert (gone.status_code, gone.json()["code"]) == (404, "conversation_not_found")
    assert (await service.detail(answer["run_id"]))["status"] == "completed"
    assert (await post(service, "cnv_nobody", "x")).status_code == 404


async def test_whose_conversation_it_is(database_url: str, script: Script) -> None:
    """P2: another tenant does not see it; one's own reads it, and only who began it or an operator adds to it."""
    ana, eve = Principal("user:ana", roles=SUBMITTER), Principal("user:eve", roles=SUBMITTER)
    ben = Principal("user:ben", roles=frozenset({"operator"}))
    other = Principal("user:ana", tenant="other", roles=frozenset({"admin"}))
    script.will(says("Hello."), says("Again."))
    async with serving(database_url, wrap=named, **script.settings) as service:
        made = await service.client.post(AT, json={}, headers=as_(ana))
        at = f"{AT}/{made.json()['conversation_id']}"
        for who, read, add in ((ana, 200, 202), (eve, 200, 403), (other, 404, 404)):
            assert (await service.client.get(at, headers=as_(who))).status_code == read
            answer = await service.client.post(f"{at}/turns", json={"content": "Hello"}, headers=as_(who))
            assert answer.status_code == add, answer.text
            if add == 202:
                # Read to its end, so that the next one does not meet a turn that is under way.
                await service.client.get(answer.json()["links"]["events"], headers=as_(ana))
        assert (await service.client.delete(at, headers=as_(eve))).status_code == 403
        assert (await service.client.delete(at, headers=as_(other))).status_code == 404
        first = (await service.client.get(at, headers=as_(ben))).json()["messages"]["items"][0]["message_id"]
        assert (await service.client.post(f"{at}/messages/{first}/retry", headers=as_(ben))).status_code == 202
        assert (await service.client.get(AT, headers=as_(other))).json()["items"] == []


async def test_an_answer_whose_run_is_gone(service: Service, script: Script) -> None:
    """P6: retention takes the run and its answer; the conversation says so and goes on without it."""
    script.will(says("Forgotten."), says("New."))
    talk = await begun(service)
    first = await said(service, talk, "Hello")
    database = service.flex.worker.shell.database
    async with asyncio.timeout(15):
        while (await service.client.get(f"/api/v1/runs/{first['run_id']}")).status_code != 410:
            await Pruner(database, SystemIds(), Keep(1, 1), pause_seconds=0).prune(Asked(runs_days=0))
    (_, gone) = await messages(service, talk)
    assert (gone["status"], gone["content"]) == ("pruned", None)
    assert (await said(service, talk, "And now?"))["content"] == "New."
    assert told(script)[1] == [("user", "Hello"), ("user", "And now?")]
