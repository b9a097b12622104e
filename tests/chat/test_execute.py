"""A chat through the unified door, and what history says of chats whichever door they came through (W1, T1)."""

from __future__ import annotations

from typing import Any

from tests.model.scripted import Script, calls, fails, says
from tests.spine.running import Service

URL = "/api/v1/workflows/execute"
HELLO: list[dict[str, Any]] = [{"role": "user", "content": "Greet Ana"}]


async def test_a_chat_is_executed_like_everything_else(service: Service, script: Script) -> None:
    """W1: the same answer, metrics and record as every other type."""
    script.will(calls(("spine_greet", {"who": "Ana"})), says("Done."))
    body = {"workflow_type": "chat", "messages": HELLO, "input_data": {"tools": ["spine.greet"]}}
    answer = await service.client.post(URL, json=body)
    assert answer.status_code == 200, answer.text
    said = answer.json()
    assert (said["success"], said["output"]["text"]) == (True, "Done.")
    assert said["metrics"]["tokens_used"] == 200
    detail = (await service.client.get(f"/api/v1/executions/{said['execution_id']}")).json()
    assert (detail["way"], detail["trigger"], detail["status"]) == ("chat", "execute", "completed")


async def test_a_chat_is_judged_without_being_run(service: Service, script: Script) -> None:
    """W4: the four verdicts hold for a chat too; nothing is asked of the model."""
    body = {"workflow_type": "chat", "messages": HELLO, "input_data": {"tools": ["spine.nobody"]}}
    answer = await service.client.post("/api/v1/workflows/validate", json=body)
    (found,) = answer.json()["validation"]["capability"]["errors"]
    assert (found["code"], found["pointer"]) == ("unknown_capability", "/plan/nodes/0/tools/0")
    refused = await service.client.post(URL, json={"workflow_type": "chat", "messages": [{"role": "wizard"}]})
    assert refused.status_code == 422
    assert script.told() == []


async def test_every_door_leaves_one_record(service: Service, script: Script) -> None:
    """T1, W6 (trap): each turn is one execution, a streamed one that failed as well."""
    script.will(says("a"), says("b"), fails(400, "No."))
    await service.client.post("/v1/chat/completions", json={"model": "flex", "messages": HELLO})
    talk = (await service.client.post("/api/v1/conversations")).json()["conversation_id"]
    turns = f"/api/v1/conversations/{talk}/turns"
    made = await service.client.post(turns, json={"content": "Hello"}, headers={"Accept": "text/event-stream"})
    assert made.status_code == 200
    failed = {"model": "flex", "messages": HELLO, "stream": True}
    assert '"error"' in (await service.client.post("/v1/chat/completions", json=failed)).text
    items = (await service.client.get("/api/v1/executions")).json()["items"]
    assert [(item["trigger"], item["status"]) for item in items] == [
        ("openai", "failed"), ("chat", "completed"), ("openai", "completed"),
    ]  # fmt: skip
    assert {item["way"] for item in items} == {"chat"}
