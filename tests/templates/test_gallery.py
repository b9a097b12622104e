"""Templates: the gallery, writing one, filling it in, and its analytics (W3)."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.access import Principal
from contracts.errors import Forbidden, TemplateNotFound
from contracts.templates import fill
from service.gallery import shipped
from tests.spine.running import Service, call, plan

GREET: dict[str, Any] = {
    "name": "Greeting",
    "category": "test",
    "parameters": {
        "type": "object",
        "required": ["who"],
        "additionalProperties": False,
        "properties": {"who": {"type": "string"}, "many": {"type": "integer", "default": 1}},
    },
    "example": {"who": "ana"},
    "flow": {
        "name": "Greeting",
        "plan": {
            "nodes": [
                {
                    "node_id": "hello",
                    "kind": "call",
                    "capability_id": "spine.noop",
                    "inputs": {"value": {"value": {"who": {"$param": "/who"}, "many": {"$param": "/many"}}}},
                }
            ],
            "edges": [],
            "output": {"mode": "map", "map": {"": {"node_id": "hello", "pointer": ""}}},
        },
    },
    "icon": "wave",
}


async def made(service: Service, body: Any = None) -> dict[str, Any]:
    """Store a template."""
    answer = await service.client.post("/api/v1/templates", json=GREET if body is None else body)
    assert answer.status_code == 201, answer.text
    found: dict[str, Any] = answer.json()
    assert answer.headers["location"] == f"/api/v1/templates/{found['template_id']}"
    return found


async def ran(service: Service, template_id: str, **body: Any) -> str:
    """Run a template to its end, answering what it asks."""
    answer = await service.client.post(f"/api/v1/templates/{template_id}/run", json=body)
    assert answer.status_code == 202, answer.text
    run_id = str(answer.json()["run_id"])
    async with service.watch(run_id) as reader:
        while (frame := await reader.frame()) is not None:
            if frame.type == "hitl_request":
                prompt = frame.payload["prompt"]
                action = prompt["actions"][0]
                more = {"answer": prompt["answer_schema"]["enum"][0]} if action == "choose" else {}
                await service.decided(prompt, action, **more)
    assert reader.frames[-1].type == "complete", reader.frames[-1]
    return run_id


@pytest.mark.parametrize("template_id", sorted(shipped()))
async def test_every_shipped_template_runs_its_example(service: Service, template_id: str) -> None:
    """W3: valid in all four layers, and its example comes to a valid answer."""
    template = (await service.client.get(f"/api/v1/templates/{template_id}")).json()
    assert template["valid"] is True, template["validation"]
    assert template["shipped"] is True
    run_id = await ran(service, template_id, params=template["example"])
    (item,) = (await service.client.get("/api/v1/executions", params={"template_id": template_id})).json()["items"]
    assert (item["id"], item["way"], item["template_name"]) == (run_id, "template", template["name"])
    assert item["preview"] != ""


async def test_an_urgent_request_is_asked_about(service: Service) -> None:
    """W3: the support desk's template asks a person from the urgency on that its parameters say."""
    run_id = await ran(service, "support-triage", params={"subject": "Fire", "urgency": 5})
    assert (await service.detail(run_id))["output"] == {"subject": "Fire", "decision": "call back"}


async def test_the_gallery_pages_through_own_and_shipped(service: Service) -> None:
    """W3: own ones first, newest first; each once; other tenants see theirs and the shipped ones only."""
    mine = [(await made(service, {**GREET, "name": f"Greeting {number}"}))["template_id"] for number in range(3)]
    seen: list[str] = []
    query: dict[str, Any] = {"limit": 2}
    while True:
        page = (await service.client.get("/api/v1/templates", params=query)).json()
        seen += [item["template_id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == [*mine[::-1], *sorted(shipped(), reverse=True)]
    other = Principal("user:eve", "other", frozenset({"admin"}))
    templates = service.flex.doors.templates
    assert [item["template_id"] for item in (await templates.page(other, cursor=None, limit=50))["items"]] == sorted(
        shipped(), reverse=True
    )
    with pytest.raises(TemplateNotFound):
        await templates.get(other, mine[0])


async def test_a_template_is_written_over_under_its_revision(service: Service) -> None:
    """W3: keys that flex does not know stay; a stale save changes nothing; shipped ones are read-only."""
    first = await made(service)
    assert first["template"] == GREET
    url = f"/api/v1/templates/{first['template_id']}"
    saved = await service.client.put(url, json={**GREET, "name": "Hello"}, headers={"If-Match": '"1"'})
    assert (saved.status_code, saved.json()["revision"], saved.json()["name"]) == (200, 2, "Hello")
    stale = await service.client.put(url, json=GREET, headers={"If-Match": '"1"'})
    assert (stale.status_code, stale.json()["code"], stale.json()["revision"]) == (409, "stale_revision", 2)
    assert (await service.client.put(url, json=GREET)).status_code == 428
    assert (await service.client.delete(url, headers={"If-Match": '"2"'})).status_code == 204
    assert (await service.client.get(url)).status_code == 404
    fixed = await service.client.put("/api/v1/templates/release-notes", json=GREET, headers={"If-Match": '"1"'})
    assert (fixed.status_code, fixed.json()["code"]) == (403, "forbidden")
    with pytest.raises(Forbidden):
        await service.flex.doors.templates.create(Principal("user:ben", "default", frozenset({"submitter"})), GREET)


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"example": {"who": 3}}, "example_invalid", "/example/who"),
        ({"parameters": {"type": "objekt"}}, "schema_invalid", "/parameters/type"),
        ({"flow": {**GREET["flow"], "objective": {"$param": "/whom"}}}, "param_unknown", "/flow/objective"),
        ({"flow": {"name": "x", "plan": {"$param": "/who"}}}, "dict_type", "/flow/plan"),
        ({"flow": {**GREET["flow"], "plan": plan(call("a", "nowhere", 1))}}, "unknown_capability", ""),
    ],
)
async def test_what_is_wrong_with_a_template_is_said(
    service: Service, change: dict[str, Any], code: str, pointer: str
) -> None:
    """W3, W4: kept, judged, and no run comes of it."""
    template = await made(service, {**GREET, **change})
    assert template["valid"] is False
    errors = [found for layer in template["validation"].values() for found in layer["errors"]]
    assert code in [found["code"] for found in errors], errors
    assert [found for found in errors if found["pointer"].startswith(pointer)], errors
    answer = await service.client.post(f"/api/v1/templates/{template['template_id']}/run", json={"params": {"who": 3}})
    assert answer.status_code == 422, answer.text


async def test_parameters_are_checked_where_they_are_given(service: Service) -> None:
    """W3: through every door, with the pointer into what was sent."""
    template_id = (await made(service))["template_id"]
    nothing = {"objective": "x", "output_contract": {"schema": True}}
    for path, body, pointer in (
        (f"/api/v1/templates/{template_id}/run", {"params": {"who": 3}}, "/params/who"),
        (f"/api/v1/templates/{template_id}/instantiate", {"params": {"x": 1, "who": "a"}}, "/params/x"),
        (
            "/api/v1/runs",
            {
                "objective": "x",
                "output_contract": {"schema": True},
                "workflow": {"template_id": template_id, "params": {}},
            },
            "/workflow/params",
        ),
    ):
        answer = await service.client.post(path, json=body)
        assert answer.status_code == 422, answer.text
        (error,) = answer.json()["errors"]
        assert (error["code"], error["pointer"]) == ("param_invalid", pointer)
    missing = {**nothing, "workflow": {"template_id": "tpl_none"}}
    answer = await service.client.post("/api/v1/runs", json=missing)
    assert answer.json()["errors"][0] == {
        "pointer": "/workflow/template_id", "code": "template_not_found", "message": "There is no such template.",
    }  # fmt: skip


async def test_a_flow_is_made_of_a_template(service: Service) -> None:
    """W3: a draft like any other, its holes filled."""
    template_id = (await made(service))["template_id"]
    body = {"params": {"who": "ben"}, "name": "For Ben"}
    answer = await service.client.post(f"/api/v1/templates/{template_id}/instantiate", json=body)
    assert (answer.status_code, answer.headers["etag"]) == (201, '"1"')
    flow = answer.json()
    assert (flow["name"], flow["valid"]) == ("For Ben", True)
    assert flow["draft"]["plan"]["nodes"][0]["inputs"]["value"]["value"] == {"who": "ben", "many": 1}


def test_nothing_is_pasted_into_text() -> None:
    """R6: a parameter is a value and stays one; what is not given takes its default or goes away."""
    flow = {
        "a": {"$param": "/x"},
        "b": "{{ x }} $param",
        "c": [{"$param": "/no"}, 1],
        "d": {"$param": "/no", "default": 2},
    }
    assert fill(flow, {"x": {"$param": "/b"}}) == {"a": {"$param": "/b"}, "b": "{{ x }} $param", "c": [1], "d": 2}


async def test_analytics_are_what_a_recount_over_history_says(service: Service) -> None:
    """W3: «nothing wrote them» (the trap): equal to a recount over every listed execution, asked people included."""
    template_id = (await made(service))["template_id"]
    url = f"/api/v1/templates/{template_id}/analytics"
    empty = (await service.client.get(url)).json()
    assert (empty["executions"], empty["success_rate"], empty["p95_ms"], empty["last_used_at"]) == (0, None, None, None)
    for number in range(5):
        await ran(service, template_id, params={"who": str(number)})
    gate = {"id": "g", "when": "output", "kind": "approval", "question": "Sure?", "assignees": {"roles": ["operator"]}}
    await ran(service, template_id, params={"who": "asked"}, policies={"hitl": [gate]})
    failing = await service.client.post(
        f"/api/v1/templates/{template_id}/run",
        json={"params": {"who": "x"}, "output_contract": {"schema": {"type": "string"}},
              "policies": {"on_output_invalid": "fail"}},
    )  # fmt: skip
    await service.follow(failing.json()["run_id"])
    told = (await service.client.get(url)).json()
    items = (await service.client.get("/api/v1/executions", params={"template_id": template_id})).json()["items"]
    assert told["executions"] == len(items) == 7
    by_status = {status: [item for item in items if item["status"] == status] for status in ("completed", "failed")}
    assert (told["completed"], told["failed"], told["cancelled"]) == (6, 1, 0)
    assert (len(by_status["completed"]), len(by_status["failed"])) == (6, 1)
    assert told["success_rate"] == round(6 / 7, 4)
    assert told["average_ms"] == round(sum(item["duration_ms"] for item in items) / 7)
    assert told["p95_ms"] == max(item["duration_ms"] for item in by_status["completed"])
    asked = [item for item in items if item["asks"]]
    assert (told["hitl_rate"], told["average_hitl_wait_ms"]) == (round(1 / 7, 4), asked[0]["waited_ms"])
    assert asked[0]["waited_ms"] > 0
    for item in items:
        run = await service.detail(item["id"])
        assert (item["status"], item["duration_ms"], item["waited_ms"], item["usage"]) == (
            run["status"], run["duration_ms"], run["waited_ms"], run["usage"],
        )  # fmt: skip
    assert told["last_used_at"] == max(item["ended_at"] for item in items)
    assert told["last_failed_at"] == by_status["failed"][0]["ended_at"]
    usage = (await service.client.get("/api/v1/usage", params={"by": "template_id"})).json()
    assert [(row["key"], row["name"], row["executions"]) for row in usage["items"]] == [(template_id, "Greeting", 7)]
    assert usage["total"]["executions"] == 7
