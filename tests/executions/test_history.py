"""The history of executions: what lists and details show of live and of ended ones (T1-T5)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from contracts.access import Principal
from contracts.errors import ExecutionNotFound
from contracts.history import Wanted
from contracts.schema import compile_schema
from tests.flows.making import document, published
from tests.spine.running import Service, call, edge, envelope, plan

ASKING = plan(
    {"node_id": "echo", "kind": "call", "capability_id": "spine.noop", "inputs": {"value": {"from": "/inputs/x"}}},
    {"node_id": "sure", "kind": "ask", "prompt": {"question": "Sure?"}},
)
STRANGER = Principal("user:eve", "other", frozenset({"admin"}))


async def started(service: Service, flow_id: str, inputs: Any) -> str:
    """Start a run of a flow."""
    answer = await service.client.post(f"/api/flows/{flow_id}/run", json={"inputs": inputs})
    assert answer.status_code == 202, answer.text
    return str(answer.json()["run_id"])


async def ran(service: Service, flow_id: str, inputs: Any) -> str:
    """Run a flow to its end."""
    run_id = await started(service, flow_id, inputs)
    await service.follow(run_id)
    return run_id


async def done(service: Service, body: Any) -> str:
    """Run an envelope to its end."""
    run_id = await service.start(body)
    await service.follow(run_id)
    return run_id


async def fits(service: Service, name: str, value: Any) -> bool:
    """Whether an answer is what the service's own description says it is (P3)."""
    description = (await service.client.get("/openapi.json")).json()
    schema = {"$ref": f"#/components/schemas/{name}", "components": description["components"]}
    return compile_schema(schema).explain(value) == []


async def listed(service: Service, flow_id: str, **query: Any) -> dict[str, Any]:
    """A page of a flow's executions."""
    answer = await service.client.get(f"/api/flows/{flow_id}/executions", params=query)
    assert answer.status_code == 200, answer.text
    page: dict[str, Any] = answer.json()
    return page


async def everything(service: Service, **query: Any) -> list[dict[str, Any]]:
    """A page across flows."""
    answer = await service.client.get("/api/v1/executions", params=query)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["items"])


async def test_every_way_in_leaves_one_execution(service: Service) -> None:
    """T1 (trap): planned, custom and stored, streamed or not, ended before the first node or not: one entry each."""
    flow_id = await published(service)
    planned = envelope(objective="Nobody can do this", output_contract={"mode": "facets", "facets": ["spine_nowhere"]})
    refused = await service.client.post("/api/v1/runs", json=planned)
    assert refused.status_code == 422, "a 4xx leaves no row"
    impossible = {"objective": "A thing", "output_contract": {"schema": {"type": "object", "required": ["q"]}}}
    frames = await service.run(impossible)
    assert frames[-1].payload["code"] == "no_plan"
    no_plan = frames[0].whole["run_id"]
    custom = await done(service, envelope(plan(call("a", "noop", "x"))))
    stored = await ran(service, flow_id, {"x": "hello"})
    items = {item["id"]: item for item in await everything(service)}
    assert len(items) == 3
    first = items[no_plan]
    assert (first["way"], first["trigger"], first["status"]) == ("planned", "stream", "failed")
    assert (first["error"]["code"], first["error"]["node_id"]) == ("no_plan", None)
    assert (await service.client.get(f"/api/v1/executions/{first['id']}")).json()["nodes"] == []
    second, third = items[custom], items[stored]
    assert (second["way"], second["flow_id"], second["status"]) == ("custom", None, "completed")
    assert (third["way"], third["trigger"], third["flow_id"], third["flow_name"], third["flow_version"]) == (
        "definition", "run", flow_id, "Echo", 1,
    )  # fmt: skip
    assert (third["preview"], third["tool_name"], third["error"]) == ("hello", "Echo", None)


async def test_a_flow_says_what_goes_on_whatever_the_page_and_filter(service: Service) -> None:
    """T2: newest first, live and ended in one list; pending ones are seen past the page and the filter."""
    flow_id = await published(service, document(plan=ASKING))
    other = await published(service)
    waiting = await started(service, flow_id, {"x": "w"})
    await service.asked(waiting)
    ended = [await started(service, flow_id, {"x": str(number)}) for number in range(4)]
    for run_id in ended:
        (asked,) = await service.asked(run_id)
        await service.decided(asked, "answer", answer="yes")
        await service.follow(run_id)
    await ran(service, other, {"x": "other"})
    page = await listed(service, flow_id, limit=2)
    assert [item["id"] for item in page["items"]] == ended[:-3:-1]
    assert (page["total"], page["total_pages"], page["page"], page["limit"]) == (5, 3, 1, 2)
    assert await fits(service, "FlowExecutionPage", page)
    assert (page["total_is_exact"], page["has_pending_executions"]) == (True, True)
    last = await listed(service, flow_id, limit=2, page=3)
    assert [item["id"] for item in last["items"]] == [waiting]
    assert last["items"][0]["status"] == "waiting"
    assert last["next_cursor"] is None
    assert (await listed(service, flow_id, limit=2, page=4))["items"] == []
    by_cursor = await listed(service, flow_id, limit=2, cursor=page["next_cursor"])
    assert [item["id"] for item in by_cursor["items"]] == ended[1::-1]
    assert by_cursor["page"] is None
    completed = await listed(service, flow_id, status="completed")
    assert [item["id"] for item in completed["items"]] == ended[::-1]
    assert (completed["total"], completed["has_pending_executions"]) == (4, True)
    assert (await service.client.post(f"/api/v1/runs/{waiting}/cancel")).status_code == 202
    await service.follow(waiting)
    assert (await listed(service, flow_id))["has_pending_executions"] is False


@pytest.mark.parametrize("query", [{"limit": 101}, {"limit": 0}, {"page": 0}, {"status": "done"}, {"cursor": "?"}])
async def test_bad_pages_are_refused(service: Service, query: dict[str, Any]) -> None:
    """T2: bad values are 400."""
    flow_id = await published(service)
    answer = await service.client.get(f"/api/flows/{flow_id}/executions", params=query)
    assert (answer.status_code, answer.json()["code"]) == (400, "bad_query")


async def test_a_detail_shows_parameters_and_attempts(service: Service) -> None:
    """T3: node by node; one that never ran is pending and never shown as completed (the trap)."""
    after = {"node_id": "after", "kind": "delay", "seconds": 0}
    asking = plan(*ASKING["nodes"], after, edges=[edge("sure", "after")])
    flow_id = await published(service, document(plan=asking))
    run_id = await started(service, flow_id, {"x": "hello"})
    await service.asked(run_id)
    answer = await service.client.get(f"/api/flows/{flow_id}/executions/{run_id}")
    detail = answer.json()
    assert await fits(service, "ExecutionDetail", detail)
    assert detail["inputs"] == {"x": "hello"}
    nodes = {node["node_id"]: node for node in detail["nodes"]}
    assert (nodes["echo"]["status"], nodes["echo"]["inputs"], nodes["echo"]["output"]) == (
        "completed", {"value": "hello"}, "hello",
    )  # fmt: skip
    assert (nodes["sure"]["status"], nodes["sure"]["ended_at"]) == ("waiting", None)
    assert (nodes["after"]["status"], nodes["after"]["started_at"], nodes["after"]["attempts"]) == ("pending", None, [])
    assert [attempt["attempt"] for attempt in nodes["echo"]["attempts"]] == [1]
    assert (detail["output"], detail["error"], detail["pruned"]) == (None, None, False)
    wrong = await service.client.get(f"/api/flows/{await published(service)}/executions/{run_id}")
    assert (wrong.status_code, wrong.json()["code"]) == (404, "execution_not_found")


async def test_an_execution_past_its_flows_deadline_is_failed(service: Service) -> None:
    """T4: the flow's setting, enforced by the engine whoever looks; the terminal state never changes (the trap)."""
    slow = plan(
        {"node_id": "a", "kind": "delay", "seconds": 0.05},
        {"node_id": "b", "kind": "call", "capability_id": "spine.held", "inputs": {"value": {"value": "T4"}}},
    )
    flow_id = await published(service, document(plan=slow, settings={"deadline_seconds": 0.2}))
    run_id = await ran(service, flow_id, {"x": "hello"})
    (item,) = (await listed(service, flow_id))["items"]
    assert (item["status"], item["error"]["code"]) == ("failed", "deadline_exceeded")
    late = await service.client.post(f"/api/v1/runs/{run_id}/cancel")
    assert late.status_code == 409
    assert (await listed(service, flow_id))["items"] == [item]


async def nobody_else_reads(service: Service, run_id: str) -> None:
    """Another tenant finds nothing, in no list, no count and by no id."""
    executions = service.flex.doors.executions
    assert (await executions.page(STRANGER, Wanted(), cursor=None, limit=10))["items"] == []
    assert (await executions.counts(STRANGER, Wanted()))["total"] == 0
    with pytest.raises(ExecutionNotFound):
        await executions.detail(STRANGER, run_id)


async def test_deleting_a_flow_keeps_its_executions(service: Service) -> None:
    """T5 (trap): flow_id null, flow_name kept, running ones too, also those that end later; nobody else reads them."""
    flow_id = await published(service, document(plan=ASKING))
    running = await started(service, flow_id, {"x": "later"})
    (prompt,) = await service.asked(running)
    etag = (await service.client.get(f"/api/v1/flows/{flow_id}")).headers["etag"]
    gone = await service.client.delete(f"/api/v1/flows/{flow_id}", headers={"If-Match": etag})
    assert gone.status_code == 204
    (item,) = await everything(service)
    assert (item["id"], item["flow_id"], item["flow_name"], item["status"]) == (running, None, "Echo", "waiting")
    await nobody_else_reads(service, running)
    await service.decided(prompt, "answer", answer="yes")
    await service.follow(running)
    (item,) = await everything(service)
    assert (item["flow_id"], item["flow_name"], item["status"]) == (None, "Echo", "completed")
    detail = (await service.client.get(f"/api/v1/executions/{running}")).json()
    assert (detail["flow_id"], detail["inputs"]) == (None, {"x": "later"})
    missing = await service.client.get(f"/api/flows/{flow_id}/executions")
    assert (missing.status_code, missing.json()["code"]) == (404, "flow_not_found")
    await nobody_else_reads(service, running)


async def test_executions_are_found_by_what_is_known_of_them(service: Service) -> None:
    """T2: filters one by one, on live and on ended executions."""
    flow_id = await published(service, document(name="Spring launch", plan=ASKING))
    live = await started(service, flow_id, {"x": "Überraschung für Anna"})
    await service.asked(live)
    bread = await done(service, envelope(plan(call("a", "noop", "x")), objective="Bake spring bread"))
    retried = await service.client.post(f"/api/v1/runs/{bread}/fork", json={"node_id": "a"})
    fork = retried.json()["run_id"]
    await service.follow(fork)

    async def ids(**query: Any) -> list[str]:
        return [item["id"] for item in await everything(service, **query)]

    assert await ids() == [fork, bread, live]
    assert await ids(q="spring") == [fork, bread, live]
    assert await ids(q="SPRING laun") == [live]
    assert await ids(q="überrasch") == [live]
    assert await ids(q="bread bake") == [fork, bread]
    assert await ids(q="rea") == []
    assert await ids(trigger="run") == [live]
    assert await ids(trigger="fork") == [fork]
    assert await ids(way="custom") == [fork, bread]
    assert await ids(flow_id=flow_id) == [live]
    assert await ids(status="completed") == [fork, bread]
    assert await ids(min_duration_ms=0) == [fork, bread]
    assert await ids(max_duration_ms=0) == []
    assert await ids(since="2999-01-01T00:00:00Z") == []
    assert await ids(until="2999-01-01T00:00:00+02:00") == [fork, bread, live]
    assert await ids(limit=1) == [fork]
    counts = (await service.client.get("/api/v1/executions/counts")).json()
    assert await fits(service, "ExecutionCounts", counts)
    assert (counts["counts"]["completed"], counts["counts"]["waiting"], counts["total"]) == (2, 1, 3)
    for query in ({"q": "?!"}, {"since": "yesterday"}, {"trigger": "door"}, {"way": "on foot"}, {"x": "1"}):
        answer = await service.client.get("/api/v1/executions", params=query)
        assert (answer.status_code, answer.json()["code"]) == (400, "bad_query"), query


async def test_pages_behind_a_cursor_show_each_execution_once(service: Service) -> None:
    """T2: while executions end and new ones begin, whoever pages sees each of the old ones exactly once."""
    flow_id = await published(service, document(plan=ASKING))
    before = [await started(service, flow_id, {"x": str(number)}) for number in range(7)]
    prompts = [(await service.asked(run_id))[0] for run_id in before]
    seen: list[str] = []
    page = await listed(service, flow_id, limit=2)
    while True:
        seen += [item["id"] for item in page["items"]]
        if prompts:
            now, prompts = prompts[-2:], prompts[:-2]
            await asyncio.gather(*(service.decided(prompt, "answer", answer="yes") for prompt in now))
        await started(service, flow_id, {"x": "new"})
        if page["next_cursor"] is None:
            break
        page = await listed(service, flow_id, limit=2, cursor=page["next_cursor"])
    assert seen == before[::-1]


async def test_child_runs_are_part_of_their_parents_execution(service: Service) -> None:
    """T1: one execution, however many runs it is made of."""
    inner = {"node_id": "inner", "kind": "subflow", "plan": plan(call("a", "noop", "x"))}
    run_id = await done(service, envelope(plan(inner)))
    (item,) = await everything(service)
    assert item["id"] == run_id
    child = (await service.detail(item["id"]))["lineage"]["children"][0]["run_id"]
    assert (await service.client.get(f"/api/v1/executions/{child}")).status_code == 404


async def test_what_nodes_used_adds_up_to_what_the_run_used(service: Service) -> None:
    """W6: tokens and cost per node, failed attempts and child runs too, per run, and over all runs."""
    inner = {"node_id": "inner", "kind": "subflow", "plan": plan(call("a", "costly", 1), call("b", "costly", 2))}
    run_id = await done(service, envelope(plan(call("first", "costly", 1), call("free", "noop", 1), inner)))
    detail = (await service.client.get(f"/api/v1/executions/{run_id}")).json()
    used = {node["node_id"]: node["usage"] for node in detail["nodes"]}
    assert used == {
        "first": {"tokens": 100, "cost": 1.0}, "free": {"tokens": 0, "cost": 0},
        "inner": {"tokens": 200, "cost": 2.0},
    }  # fmt: skip
    assert detail["usage"] == {"tokens": 300, "cost": 3.0}
    total = (await service.client.get("/api/v1/usage", params={"by": "way"})).json()
    assert (total["total"]["tokens"], total["total"]["cost"]) == (300, 3.0)
    assert [(row["key"], row["tokens"]) for row in total["items"]] == [("custom", 300)]
