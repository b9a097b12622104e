"""``POST /run``: the result, or what is missing and nothing executed (R1)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.documents.making import flow_of, needing, place, put, run, stored, waits_for
from tests.flows.making import codes, document, made, published
from tests.spine.running import Service, call, plan, serving
from tests.spine.sse import payload, shapes

ASKING = plan({"node_id": "a", "kind": "ask", "prompt": {"question": "Well?"}})


async def test_with_missing_documents_nothing_is_executed_until_they_come(service: Service) -> None:
    """R1: `pending_docs` sorted and without doubles; the run goes on by itself once both are there."""
    flow_id = await flow_of(service, "terms", "brief", "terms", "here", name="default")
    await stored(service, "spring", "here")
    answer = await run(service, story_id="spring", input={"x": 1})
    assert answer.status_code == 200, answer.text
    run_id = answer.json()["run_id"]
    assert answer.json() == {"status": "waiting", "result": None, "pending_docs": ["brief", "terms"], "run_id": run_id}
    detail = await service.detail(run_id)
    assert (detail["status"], detail["waiting_on"], detail["started_at"]) == ("waiting", ["documents"], None)
    assert detail["pending_docs"] == ["brief", "terms"]
    nodes = (await service.client.get(f"/api/v1/runs/{run_id}/nodes")).json()["items"]
    assert {node["status"] for node in nodes} == {"pending"}
    assert service.flex.worker.held == 0, "H1: a waiting run holds nothing"
    status = (await service.client.get(place("spring", "terms", "/status"))).json()
    assert (status["present"], status["waiting_runs"]) == (False, [run_id])

    await stored(service, "autumn", "terms")
    await stored(service, "autumn", "brief")
    assert (await put(service, "spring", "terms")).status_code == 201
    await waits_for(service, run_id, ["brief"])
    assert service.calls == []
    await stored(service, "spring", "brief")
    frames = await service.follow(run_id)
    assert shapes(frames) == [
        "start", "plan_generated", "run_waiting", "run_resumed", "node_start:a", "node_complete:a", "complete",
    ]  # fmt: skip
    payload(frames, "run_waiting", waiting_on=["documents"])
    payload(frames, "run_resumed", cause="documents")
    assert payload(frames, "complete")["output"] == "done"
    assert (await service.detail(run_id))["pending_docs"] is None
    again = (await run(service, flow_id, story_id="spring")).json()
    assert again == {"status": "completed", "result": "done", "pending_docs": None, "run_id": again["run_id"]}


async def test_another_storys_document_does_not_release_it(service: Service) -> None:
    """R4 (trap): would be the fault that one story's document satisfies another's wait, or another story's need."""
    await flow_of(service, "terms", name="default")
    await stored(service, "autumn", "terms")
    waiting = (await run(service, story_id="spring")).json()
    assert waiting["pending_docs"] == ["terms"]
    await stored(service, "autumn", "terms", "Another text")
    await stored(service, "Spring", "terms")
    assert (await service.detail(waiting["run_id"]))["pending_docs"] == ["terms"]
    status = (await service.client.get(place("autumn", "terms", "/status"))).json()
    assert (status["present"], status["version"], status["waiting_runs"]) == (True, 2, [])
    assert (await service.log(waiting["run_id"]))[-1].type == "run_waiting"


async def test_a_run_that_waits_for_a_person_is_202(service: Service) -> None:
    """R1: and its answer is given like everywhere."""
    flow_id = await published(service, document(inputs=True, plan=ASKING))
    answer = await run(service, flow_id, story_id="spring")
    run_id = answer.json()["run_id"]
    assert (answer.status_code, answer.json()["status"]) == (202, "waiting")
    assert answer.json() == {"status": "waiting", "result": None, "pending_docs": None, "run_id": run_id}
    assert answer.headers["x-run-id"] == run_id
    (prompt,) = await service.asked(run_id)
    await service.decided(prompt, "answer", answer="fine")
    assert (await service.follow(run_id))[-1].payload["output"] == "fine"


async def test_a_failure_is_500_with_details_and_without_a_part_of_a_result(service: Service) -> None:
    """R1: what went wrong, and where; nothing of what was made before."""
    broken = plan(call("first", "noop", "half"), call("a", "raises", "final"))
    await published(service, document(inputs=True, plan=broken, name="default"))
    answer = await run(service)
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["run_status"]) == (500, "run_failed", "failed")
    assert (problem["error"]["code"], problem["error"]["failed_node_id"]) == ("node_failed", "a")
    assert "There is no customer 7." in problem["detail"]
    assert "half" not in answer.text
    assert (await service.detail(problem["run_id"]))["status"] == "failed"


async def test_flows_are_named_by_id_or_by_name(service: Service) -> None:
    """R1: unknown is 404; a name that two flows have is refused, never guessed (W1: no silent winner)."""
    one = await flow_of(service, name="Letters")
    assert (await run(service, one)).json()["result"] == "done"
    assert (await run(service, "Letters")).json()["result"] == "done"
    for unknown in ("default", "flw_nobody", "no such flow"):
        answer = await run(service, unknown)
        assert (answer.status_code, answer.json()["code"]) == (404, "flow_not_found"), unknown
    await made(service, needing(name="Draft"))
    draft = await run(service, "Draft")
    assert (draft.status_code, draft.json()["code"]) == (404, "flow_version_not_found")
    await flow_of(service, name="Letters")
    both = await run(service, "Letters")
    assert (both.status_code, codes(both)) == (422, [("/flow", "ambiguous_flow")])


STRICT = {"type": "object", "required": ["x"], "properties": {"x": {"type": "string"}}}


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({"flow": 7}, "/flow", "string_type"),
        ({"flow": ""}, "/flow", "too_short"),
        ({"story_id": "../etc/passwd"}, "/story_id", "string_pattern_mismatch"),
        ({"storyId": "a" * 129}, "/story_id", "too_long"),
        ({"inputs": {}}, "/inputs", "unknown_field"),
        ({"input": {"x": 1}, "story_id": "spring"}, "/input/x", "input_invalid"),
        ({"input": {"x": "y"}}, "/story_id", "required"),
        ([], "", "model_type"),
    ],
)
async def test_what_it_does_not_take(service: Service, body: Any, pointer: str, code: str) -> None:
    """R1, R6: 422 with a pointer into this very body; nothing was started."""
    await published(service, {**needing("terms", name="default"), "inputs": STRICT})
    answer = await service.client.post("/run", json=body)
    assert answer.status_code == 422, answer.text
    assert (pointer, code) in codes(answer), answer.text
    assert (await service.client.get("/api/v1/runs")).json()["items"] == []


async def test_an_input_that_is_no_object_has_a_name(service: Service) -> None:
    echo = {
        "node_id": "a",
        "kind": "call",
        "capability_id": "spine.noop",
        "inputs": {"value": {"from": "/inputs/input"}},
    }
    await published(service, document(inputs=True, plan=plan(echo), name="default"))
    for said in ("Hello", [1, 2], 7, False):
        assert (await run(service, input=said)).json()["result"] == said


async def test_the_input_is_bounded(sqlite_url: str) -> None:
    """R1: 413 before it is parsed."""
    async with serving(sqlite_url, body_bytes=2_048) as service:
        answer = await run(service, input="x" * 4_096)
        assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")


async def test_a_run_that_takes_its_time_is_202(service: Service) -> None:
    """R1: the wait is bounded, and nothing of the run is lost by it; the same key asks for the same run."""
    await published(service, document(inputs=True, plan=plan(call("a", "held", "slow")), name="default"))
    headers = {"Prefer": "wait=0", "Idempotency-Key": "once"}
    answer = await service.client.post("/run", json={}, headers=headers)
    assert (answer.status_code, answer.json()["pending_docs"]) == (202, None)
    assert answer.json()["status"] in ("queued", "running")
    service.abilities.gate("slow").set()
    again = await service.client.post("/run", json={}, headers={"Idempotency-Key": "once"})
    assert (again.status_code, again.json()["status"], again.json()["result"]) == (200, "completed", "slow")
    assert again.json()["run_id"] == answer.json()["run_id"]


async def test_a_cancelled_run_has_no_result(service: Service) -> None:
    """R1: 500 that says who ended it."""
    await flow_of(service, "terms", name="default")
    headers = {"Idempotency-Key": "k"}
    first = await service.client.post("/run", json={"story_id": "spring"}, headers=headers)
    await service.client.post(f"/api/v1/runs/{first.json()['run_id']}/cancel")
    await service.follow(first.json()["run_id"])
    answer = await service.client.post("/run", json={"story_id": "spring"}, headers=headers)
    assert (answer.status_code, answer.json()["run_status"], answer.json()["error"]["code"]) == (
        500,
        "cancelled",
        "cancelled",
    )
