"""The unified door: one request for every way to say what to run, and what it answers (W1, W4)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.executions.test_history import fits
from tests.flows.making import ECHO, document, published
from tests.spine.running import Service, call, greeting, plan
from tests.spine.sse import TERMINAL, Reader
from tests.templates.test_gallery import made

URL = "/api/v1/workflows/execute"
CUSTOM: dict[str, Any] = {"workflow_type": "custom", "plan": ECHO, "input_data": {"x": "hello"}}


async def executed(service: Service, body: Any, status: int = 200, **headers: str) -> dict[str, Any]:
    """What an execution answered."""
    answer = await service.client.post(URL, json=body, headers=headers)
    assert answer.status_code == status, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_all_types_end_in_the_same_engine(service: Service) -> None:
    """W1: four ways to say it, one answer; the returned id is the one that can be looked up (the trap)."""
    flow_id, template_id = await published(service), (await made(service))["template_id"]
    bodies = {
        "custom": CUSTOM,
        "definition": {"workflow_type": "definition", "flow_id": flow_id, "input_data": {"x": "hello"}},
        "template": {"workflow_type": "template", "template_id": template_id, "input_data": {"who": "hello"}},
        "planned": {
            "workflow_type": "planned", "objective": "Greet", "input_data": {"spine_who": "Ana"},
            "output_contract": greeting()["output_contract"],
        },
    }  # fmt: skip
    for kind, body in bodies.items():
        answer = await executed(service, body)
        assert (answer["success"], answer["status"], answer["error"]) == (True, "completed", None), answer
        assert await fits(service, "ExecuteAnswer", answer)
        assert answer["metadata"]["workflow_type"] == kind
        assert answer["metadata"]["template_name"] == ("Greeting" if kind == "template" else None)
        assert answer["metrics"]["tokens_used"] == 0
        detail = (await service.client.get(f"/api/v1/executions/{answer['execution_id']}")).json()
        assert (detail["way"], detail["trigger"], detail["output"]) == (kind, "execute", answer["output"])
        assert "debug" not in answer
    assert len((await service.client.get("/api/v1/executions")).json()["items"]) == len(bodies)


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ({"workflow_type": "template", "template_id": "t", "flow_id": "f"}, {"/flow_id": "ambiguous_workflow"}),
        ({"workflow_type": "definition"}, {"/flow_id": "required"}),
        ({"workflow_type": "custom", "flow_id": "f"}, {"/plan": "required", "/flow_id": "ambiguous_workflow"}),
        ({"workflow_type": "planned", "objective": "x"}, {"/output_contract": "required"}),
        (
            {"workflow_type": "planned", "plan": {}, "objective": "x", "output_contract": {}},
            {"/plan": "ambiguous_workflow"},
        ),
        ({"workflow_type": "walk"}, {"/workflow_type": "not_allowed"}),
        ({}, {"/workflow_type": "required"}),
        ({**CUSTOM, "configuration": {}}, {"/configuration": "unknown_field"}),
        ({**CUSTOM, "config": {"debug": True}}, {"/config/debug": "unknown_field"}),
    ],
)
async def test_what_does_not_say_one_thing_is_refused(service: Service, body: Any, found: dict[str, str]) -> None:
    """W1: «two ids, template won silently» (the trap): 422, every field named, nothing run."""
    for url in (URL, "/api/v1/workflows/validate"):
        answer = await service.client.post(url, json=body)
        assert answer.status_code == 422, answer.text
        assert {error["pointer"]: error["code"] for error in answer.json()["errors"]} == found
    assert (await service.client.get("/api/v1/runs")).json()["items"] == []


async def test_a_failed_execution_says_so(service: Service) -> None:
    """W1: 200 with ``success: false``, the error, and what was used; debugging shows every attempt and the log."""
    failing = plan({**call("a", "raises", "final"), "max_attempts": 1})
    answer = await executed(service, {"workflow_type": "custom", "plan": failing, "config": {"debug_mode": True}})
    assert (answer["success"], answer["status"], answer["output"]) == (False, "failed", None)
    assert (answer["error"]["code"], answer["error"]["failed_node_id"]) == ("node_failed", "a")
    (node,) = answer["debug"]["nodes"]
    assert (node["node_id"], node["status"], node["inputs"]) == ("a", "failed", {"value": "final"})
    assert answer["debug"]["log"] == []


async def test_an_execution_that_waits_is_not_over(service: Service) -> None:
    """W1: 202 with the open prompt; nothing is said of success before it is known."""
    asking = plan({"node_id": "sure", "kind": "ask", "prompt": {"question": "Sure?"}})
    answer = await executed(service, {"workflow_type": "custom", "plan": asking}, 202)
    assert (answer["success"], answer["status"], answer["waiting_on"]) == (None, "waiting", ["hitl"])
    await service.decided(answer["open_prompts"][0], "answer", answer="yes")
    await service.follow(answer["execution_id"])
    detail = (await service.client.get(f"/api/v1/executions/{answer['execution_id']}")).json()
    assert detail["status"] == "completed"


async def test_it_streams_the_same_frames(service: Service) -> None:
    """W1, F7: the frames of the run, and a repeated key attaches to it."""
    body = {**CUSTOM, "config": {"streaming": True}}
    seen = []
    for _ in range(2):
        async with service.client.stream("POST", URL, json=body, headers={"Idempotency-Key": "k"}) as response:
            assert response.headers["content-type"].startswith("text/event-stream")
            seen.append([(frame.id, frame.shape) for frame in await Reader(response).rest()])
    assert seen[0] == seen[1]
    assert seen[0][0] == (1, "start")
    assert seen[0][-1][1] in TERMINAL


async def test_the_earlier_path_answers_as_before(service: Service) -> None:
    """W1: with a deprecation header that names what comes after it (RFC 9745)."""
    flow_id = await published(service)
    url = f"/api/v1/workflows/definitions/{flow_id}/execute"
    answer = await service.client.post(url, json={"input_data": {"x": "hello"}})
    assert (answer.status_code, answer.json()["output"]) == (200, "hello")
    assert answer.headers["deprecation"].startswith("@")
    assert 'rel="successor-version"' in answer.headers["link"]
    other = await service.client.post(url, json={"workflow_type": "custom", "plan": ECHO})
    assert (other.status_code, other.json()["code"]) == (422, "envelope_invalid")


async def test_validation_has_four_verdicts(service: Service) -> None:
    """W4: pointers into the request; nothing is run; inputs are looked at."""
    flow_id = await published(service, document())
    good = await service.client.post("/api/v1/workflows/validate", json=CUSTOM)
    assert good.json()["valid"] is True
    assert sorted(good.json()["validation"]) == ["capability", "resource", "security", "structure"]
    bad = plan(call("a", "nowhere", 1), call("a", "noop", 2))
    answer = await service.client.post("/api/v1/workflows/validate", json={"workflow_type": "custom", "plan": bad})
    assert answer.json()["valid"] is False
    found = {item["code"]: item["pointer"] for item in answer.json()["validation"]["structure"]["errors"]}
    assert found["duplicate_id"].startswith("/plan/nodes/1")
    inputs = {"workflow_type": "definition", "flow_id": flow_id, "input_data": {"x": 3}}
    wrong = await service.client.post("/api/v1/workflows/validate", json=inputs)
    assert wrong.json()["validation"]["structure"]["errors"][0]["code"] == "input_invalid"
    assert (await service.client.get("/api/v1/runs")).json()["items"] == []
