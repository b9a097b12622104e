"""Reading runs over HTTP: list, detail, nodes, artifacts (F10, T3; wire §5)."""

from collections.abc import AsyncIterator

import orjson
import pytest

from contracts.events import Cancelled, Failed
from store.rows import NodeRow, PlanRow, RunWrite
from tests.events.runs_in_log import AT, LoggedRun
from tests.routes.serving import Serving, serving

PLAN = {
    "plan_version": 1,
    "nodes": [{"node_id": "draft", "kind": "map"}, {"node_id": "join", "kind": "call", "capability_id": "text.join"}],
    "edges": [],
    "output": {"mode": "map", "map": {"": {"node_id": "join", "pointer": ""}}},
}


@pytest.fixture
async def served(database_url: str) -> AsyncIterator[Serving]:
    async with serving(database_url) as found:
        yield found


async def with_nodes(served: Serving) -> LoggedRun:
    run = await served.run()
    history = [{"attempt": 1, "started_at": AT, "ended_at": AT + 5, "code": "boom", "message": "It broke."}]
    nodes = [
        NodeRow("draft", "map", "running", 1, started_at=AT),
        NodeRow("draft[10]", "call", "completed", 1, started_at=AT, ended_at=AT + 3, output_json='"ten"'),
        NodeRow(
            "draft[2]", "call", "completed", 2, started_at=AT, ended_at=AT + 9, output_json='{"b":1,"a":2}',
            inputs_json='{"x":1}', history_json=orjson.dumps(history).decode(),
        ),
    ]  # fmt: skip
    write = RunWrite(
        run.run_id, run.tenant, 1, 1, 1, "running", plan_hash="h", started_at=AT,
        nodes={node.node_id: node for node in nodes},
        plan=PlanRow(1, "h", orjson.dumps(PLAN).decode(), "system", "search", AT),
    )  # fmt: skip
    await served.journal.append(write)
    return run


async def test_nodes_in_the_order_of_the_plan(served: Serving) -> None:
    """T3: planned nodes first, then what they unfolded into in number order; none is completed before it ran."""
    run = await with_nodes(served)
    url = f"/api/v1/runs/{run.run_id}/nodes"
    items = (await served.client.get(url)).json()["items"]
    assert [(item["node_id"], item["status"], item["attempt"]) for item in items] == [
        ("draft", "running", 1),
        ("join", "pending", 0),
        ("draft[2]", "completed", 2),
        ("draft[10]", "completed", 1),
    ]
    seen, cursor = [], None
    while True:
        page = (await served.client.get(url, params={"limit": 1, **({"cursor": cursor} if cursor else {})})).json()
        seen += [item["node_id"] for item in page["items"]]
        cursor = page["next_cursor"]
        if cursor is None:
            break
    assert seen == [item["node_id"] for item in items]


async def test_a_node_with_its_attempts(served: Serving) -> None:
    """F10, T3: inputs, output and every attempt; an output that is asked for by itself comes as it was stored."""
    run = await with_nodes(served)
    base = f"/api/v1/runs/{run.run_id}"
    node = (await served.client.get(f"{base}/nodes/draft[2]")).json()
    assert (node["inputs"], node["output"], node["duration_ms"]) == ({"x": 1}, {"b": 1, "a": 2}, 9)
    assert [(attempt["attempt"], attempt["status"], attempt.get("code")) for attempt in node["attempts"]] == [
        (1, "failed", "boom"),
        (2, "completed", None),
    ]
    assert (await served.client.get(f"{base}/nodes/join")).json()["attempts"] == []
    assert (await served.client.get(f"{base}/nodes/nobody")).json()["code"] == "not_found"
    assert (await served.client.get(f"{base}/artifacts/draft[2]")).content == b'{"b":1,"a":2}'
    assert (await served.client.get(f"{base}/artifacts/draft")).status_code == 404
    listed = (await served.client.get(f"{base}/artifacts")).json()["items"]
    assert [(item["node_id"], item["bytes"]) for item in listed] == [("draft[2]", 13), ("draft[10]", 5)]


async def test_the_plan(served: Serving) -> None:
    """F4: the plan as it was sent in its frame; a version that there is not is not found."""
    run = await with_nodes(served)
    url = f"/api/v1/runs/{run.run_id}/plan"
    assert (await served.client.get(url)).json() == PLAN
    assert (await served.client.get(url, params={"version": 1})).json() == PLAN
    assert (await served.client.get(url, params={"version": 2})).status_code == 404


async def test_how_a_run_ended(served: Serving) -> None:
    """Wire §5: output and error are those of the terminal frame."""
    done, failed, cancelled = [await served.run() for _ in range(3)]
    await done.end({"a": [1]})
    await failed.grow(Failed("node_failed", "It broke.", "draft", [], retryable=True))
    await cancelled.grow(Cancelled("user:ana", "enough"))
    shown = [(await served.client.get(f"/api/v1/runs/{run.run_id}")).json() for run in (done, failed, cancelled)]
    assert [(run["status"], run["output"], run["error"]) for run in shown] == [
        ("completed", {"a": [1]}, None),
        (
            "failed",
            None,
            {
                "code": "node_failed",
                "message": "It broke.",
                "failed_node_id": "draft",
                "errors": [],
                "retryable": True,
            },
        ),
        ("cancelled", None, {"code": "cancelled", "by": "user:ana", "reason": "enough"}),
    ]
    assert (shown[0]["last_event_id"], shown[0]["open_prompts"], shown[0]["waited_ms"]) == (2, [], 0)


async def test_pages_of_runs(served: Serving) -> None:
    """P3: newest first, keyset pages, by status, of one's own tenant only."""
    runs = [await served.run() for _ in range(5)]
    await served.run(tenant="other")
    await runs[1].end()
    seen: list[str] = []
    params: dict[str, str | int] = {"limit": 2}
    while True:
        page = (await served.client.get("/api/v1/runs", params=params)).json()
        seen += [item["run_id"] for item in page["items"]]
        if page["next_cursor"] is None:
            break
        params["cursor"] = page["next_cursor"]
    assert seen == [run.run_id for run in reversed(runs)]
    ended = (await served.client.get("/api/v1/runs", params={"status": "completed"})).json()["items"]
    assert [item["run_id"] for item in ended] == [runs[1].run_id]
