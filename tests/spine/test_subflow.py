"""Child runs: a plan inside a plan that runs as a run of its own, on both databases (F6; design §4, children).

Would have survived langgraph#8302: there, a cancel did not reach what ran below.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from contracts.descent import MAX_DEPTH, child_run_id
from contracts.ids import is_token
from tests.durability.auditor import query
from tests.durability.waiting import until
from tests.spine.asking import OPENING
from tests.spine.running import Service, call, edge, envelope, of, plan
from tests.spine.sse import payload, shapes

WAITED = ["run_waiting", "run_resumed"]


def sub(node_id: str, inner: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A node that runs a plan as a child run."""
    return {"node_id": node_id, "kind": "subflow", "plan": inner} | more


def given(name: str) -> dict[str, Any]:
    """A binding to an input of the (child) run."""
    return {"from": f"/inputs/{name}"}


def passing(name: str = "x") -> dict[str, Any]:
    """A plan of one node that passes an input on."""
    return plan({"node_id": "pass", "kind": "call", "capability_id": "spine.noop", "inputs": {"value": given(name)}})


async def lineage(service: Service, run_id: str) -> dict[str, Any]:
    """Where a run comes from, and what came of it."""
    found: dict[str, Any] = (await service.detail(run_id))["lineage"]
    return found


async def child_of(service: Service, run_id: str, at: int = 0) -> str:
    """The id of a run's child."""
    return str((await lineage(service, run_id))["children"][at]["run_id"])


async def test_a_subflow_is_a_run_of_its_own(service: Service) -> None:
    """Design §4: inputs become the child's inputs, its answer the node's output; both logs are whole and linked."""
    steps = plan(
        call("a", "noop", "hello"),
        sub("s", passing(), inputs={"x": of("a").binding}, objective="Pass it on"),
        call("b", "noop", of("s")),
    )
    frames = await service.run(envelope(steps, objective="Do it", correlation_id="cid-7"))
    assert shapes(frames) == [
        *OPENING, "node_start:a", "node_complete:a", "node_start:s", *WAITED, "node_complete:s",
        "node_start:b", "node_complete:b", "complete",
    ]  # fmt: skip
    payload(frames, "complete", output="hello")
    run_id = frames[0].whole["run_id"]
    begun = next(frame for frame in frames if frame.shape == "node_start:s").payload
    assert (begun["kind"], begun["child_run_id"]) == ("subflow", child_run_id(run_id, "s", 0))
    assert payload(frames, "run_waiting", waiting_on=["children"], prompt_ids=[]) is not None
    payload(frames, "run_resumed", cause="child")
    child = begun["child_run_id"]
    assert is_token(child)
    assert child.startswith("run_")
    log = await service.log(child)
    assert shapes(log) == [*OPENING, "node_start:pass", "node_complete:pass", "complete"]
    payload(log, "start", objective="Pass it on", parent={"run_id": run_id, "node_id": "s"})
    assert {frame.whole["correlation_id"] for frame in (*frames, *log)} == {"cid-7"}
    detail = await service.detail(child)
    assert (detail["root_run_id"], detail["output"]) == (run_id, "hello")
    assert detail["lineage"] == {
        "parent": {"run_id": run_id, "node_id": "s"}, "children": [], "forked_from": None, "forks": [],
    }  # fmt: skip
    assert await lineage(service, run_id) == {
        "parent": None, "children": [{"run_id": child, "node_id": "s", "status": "completed"}], "forked_from": None,
        "forks": [],
    }  # fmt: skip


async def test_what_a_child_inherits(service: Service) -> None:
    """Design §4: how work is done is inherited; gates, rules and demands on the plan are the parent's alone."""
    policies = {
        "hitl": [{"id": "sign", "when": "output"}],
        "runtime": [{"id": "again", "trigger": {"type": "manual"}, "action": {"type": "emit"}}],
        "planner": {"selection": {"forbid": ["spine.big"], "require": ["spine.costly"]}},
        "budget": {"tokens": 1_000, "human_asks": 2}, "concurrency": 3, "on_output_invalid": "fail",
        "directives": {"voice": "plain"}, "timeouts": {"node_seconds": 7, "run_seconds": 70},
    }  # fmt: skip
    schema = {"type": "string", "minLength": 2}
    steps = plan(
        call("paid", "costly"),
        sub("s", passing(), inputs={"x": {"value": "ok"}}, output={"schema": schema}, timeout_seconds=5),
        edges=[{"from": "paid", "to": "s"}],
        output={"": {"node_id": "s"}},
    )
    run_id = await service.start(envelope(steps, policies=policies, constraints={"region": "DE"}, metadata={"m": 1}))
    (prompt,) = await service.asked(run_id)
    await service.decided(prompt, "approve")
    await service.follow(run_id)
    child = await child_of(service, run_id)
    rows = await query(service.settings.database_url, f"SELECT envelope_json FROM envelopes WHERE run_id = '{child}'")
    kept = json.loads(rows[0][0])
    inherited = kept["policies"]
    assert (inherited["hitl"], inherited["runtime"], inherited["planner"]["selection"]["require"]) == ([], [], [])
    assert inherited["planner"]["selection"]["forbid"] == ["spine.big"]
    assert (inherited["budget"]["tokens"], inherited["budget"]["human_asks"]) == (900, 2)
    assert inherited["timeouts"] == {"node_seconds": 7.0, "run_seconds": 5.0}
    assert (inherited["concurrency"], inherited["on_output_invalid"]) == (3, "fail")
    assert inherited["directives"] == {"voice": "plain"}
    assert (kept["constraints"], kept["metadata"], kept["inputs"]) == ({"region": "DE"}, {"m": 1}, {"x": "ok"})
    assert kept["output_contract"] == {"mode": "json_schema", "schema": schema}


async def test_what_a_child_spends_is_its_parents(service: Service) -> None:
    """Design §4: usage is added when the child ends, also a failed one's; the budget is the parent's."""
    inner = plan(call("c", "costly"))
    frames = await service.run(envelope(plan(sub("s", inner), sub("t", inner), output={"": {"node_id": "t"}})))
    assert payload(frames, "complete")["usage"] == {"tokens": 200, "cost": 2.0}
    steps = plan(sub("s", inner), call("b", "noop", of("s")))
    frames = await service.run(envelope(steps, policies={"budget": {"tokens": 99}}))
    assert shapes(frames)[-2:] == ["node_complete:s", "failed"]
    payload(frames, "failed", code="budget_spent")


async def test_a_failed_child_fails_its_node(service: Service) -> None:
    """Design §4: the node's error says which run failed and why; a failure for good is not tried again."""
    failing = plan(call("r", "raises", "final"))
    frames = await service.run(envelope(plan(sub("s", failing)), policies={"retry": {"max_attempts": 1}}))
    assert shapes(frames) == [*OPENING, "node_start:s", *WAITED, "node_error:s", "failed"]
    child = child_run_id(frames[0].whole["run_id"], "s", 0)
    error = payload(frames, "node_error", code="child_failed", fallback="abort")
    assert child in error["message"]
    assert "node_failed" in error["message"]
    assert "There is no customer 7." in error["message"]
    payload(frames, "failed", code="node_failed", failed_node_id="s")


async def test_another_attempt_is_another_child(service: Service) -> None:
    """Design §4: a retry is a new generation and so a new child run; attempts are the node's."""
    failing = plan(call("r", "raises", "final"))
    frames = await service.run(envelope(plan(sub("s", failing, max_attempts=2))))
    run_id = frames[0].whole["run_id"]
    assert shapes(frames) == [
        *OPENING, "node_start:s", *WAITED, "node_retry:s", "node_start:s", *WAITED, "node_error:s", "failed"
    ]  # fmt: skip
    starts = [frame.payload for frame in frames if frame.type == "node_start"]
    assert [(start["attempt"], start["child_run_id"]) for start in starts] == [
        (1, child_run_id(run_id, "s", 0)), (2, child_run_id(run_id, "s", 1)),
    ]  # fmt: skip
    assert [child["status"] for child in (await lineage(service, run_id))["children"]] == ["failed", "failed"]


async def test_a_child_may_succeed_the_second_time(service: Service) -> None:
    """Design §4: what the first child did does not count; nothing of it is left with the node."""
    frames = await service.run(envelope(plan(sub("s", plan(call("f", "second_time", "x")), max_attempts=2))))
    assert shapes(frames) == [
        *OPENING, "node_start:s", *WAITED, "node_retry:s", "node_start:s", *WAITED, "node_complete:s", "complete"
    ]  # fmt: skip
    run_id = frames[0].whole["run_id"]
    node = (await service.client.get(f"/api/v1/runs/{run_id}/nodes/s")).json()
    assert (node["output"], node["generation"], node["error"]) == ("x", 1, None)
    assert [attempt["status"] for attempt in node["attempts"]] == ["failed", "completed"]


async def test_what_was_done_is_not_done_again_by_itself(service: Service, tmp_path: Path) -> None:
    """Design §4, effects: a child that acted on the world and failed is not begun again, whatever the attempts."""
    book = tmp_path / "sent"
    inner = plan(call("pay", "once", {"file": str(book)}), call("r", "raises"), edges=[edge("pay", "r")])
    frames = await service.run(envelope(plan(sub("s", inner, max_attempts=3)), policies={"retry": {"max_attempts": 1}}))
    assert shapes(frames) == [*OPENING, "node_start:s", *WAITED, "node_error:s", "failed"]
    assert len(book.read_text().splitlines()) == 1


async def test_a_fallback_takes_over(service: Service) -> None:
    """F6: a subflow that failed for good may be answered by a person, like any node."""
    steps = plan(sub("s", plan(call("r", "raises", "final")), max_attempts=1, fallback="hitl"))
    async with service.stream(envelope(steps)) as reader:
        prompt = (await reader.until("hitl_request", "s")).payload["prompt"]
        await service.decided(prompt, "edit", answer="by hand")
        frames = await reader.rest()
    payload(frames, "complete", output="by hand")


async def test_a_childs_answer_has_to_fit(service: Service) -> None:
    """F11: the node's contract is the child's, and the caller's too where the node is the answer."""
    steps = plan(sub("s", passing(), inputs={"x": {"value": "no number"}}))
    policies = {"on_output_invalid": "fail", "retry": {"max_attempts": 1}}
    frames = await service.run(envelope(steps, {"type": "integer"}, policies=policies))
    assert shapes(frames) == [*OPENING, "node_start:s", *WAITED, "node_error:s", "failed"]
    log = await service.log(child_run_id(frames[0].whole["run_id"], "s", 0))
    payload(log, "failed", code="output_contract_unmet")


async def test_people_are_asked_inside_a_child(service: Service) -> None:
    """H1, H6: a question in a child waits in the child; its parent waits for the child, and nobody holds either."""
    asking = plan({"node_id": "q", "kind": "ask", "prompt": {"question": "Well?"}})
    run_id = await service.start(envelope(plan(sub("s", asking))))
    child = child_run_id(run_id, "s", 0)
    await until(_told(service, child, "run_waiting"), 10, "the question")
    (prompt,) = (await service.detail(child))["open_prompts"]
    parent = await service.detail(run_id)
    assert (parent["status"], parent["waiting_on"], parent["open_prompts"]) == ("waiting", ["children"], [])
    await service.decided(prompt, "answer", answer="yes")
    payload(await service.follow(run_id), "complete", output="yes")


async def test_subflows_in_a_map_and_in_a_loop(service: Service) -> None:
    """F6: every item is a child run of its own, several at a time."""
    inner = {"kind": "subflow", "plan": passing()}
    mapped = {"node_id": "m", "kind": "map", "over": {"value": [1, 2, 3]}, "as": "x", "node": inner, "concurrency": 2}
    grow = plan({"node_id": "g", "kind": "transform", "inputs": {"x": given("x")}, "expression": "x + 1"})
    looped = {
        "node_id": "l", "kind": "loop", "as": "x", "initial": {"value": 0}, "until": "nodes.l.output == 2",
        "max_iterations": 5, "node": {"kind": "subflow", "plan": grow},
    }  # fmt: skip
    both = {"node_id": "end", "kind": "join", "inputs": {name: of(name).binding for name in "ml"}}
    frames = await service.run(envelope(plan(mapped, looped, both)))
    payload(frames, "complete", output={"m": [1, 2, 3], "l": 2})
    children = (await lineage(service, frames[0].whole["run_id"]))["children"]
    assert sorted(child["node_id"] for child in children) == ["l[0]", "l[1]", "m[0]", "m[1]", "m[2]"]


def nested(inner: dict[str, Any], levels: int) -> dict[str, Any]:
    """A plan with another one inside it, so many levels deep."""
    for _ in range(levels):
        inner = plan(sub("s", inner))
    return inner


async def test_children_have_children(service: Service) -> None:
    """F6: eight levels, each a run of its own under the same root."""
    frames = await service.run(envelope(nested(plan(call("a", "noop", "deep")), MAX_DEPTH)))
    payload(frames, "complete", output="deep")
    run_id = root = frames[0].whole["run_id"]
    for _ in range(MAX_DEPTH):
        run_id = await child_of(service, run_id)
        assert (await service.detail(run_id))["root_run_id"] == root
    assert (await lineage(service, run_id))["children"] == []
    response = await service.client.post("/api/v1/runs", json=envelope(nested(plan(call("a", "noop")), MAX_DEPTH + 1)))
    (item,) = response.json()["errors"]
    assert (item["code"], item["pointer"]) == ("too_deep", "/workflow/plan" + "/nodes/0/plan" * (MAX_DEPTH + 1))


def _told(service: Service, run_id: str, kind: str) -> Callable[[], Awaitable[bool]]:
    """A condition: the run has said this."""

    async def told() -> bool:
        return any(frame.type == kind for frame in await service.log(run_id))

    return told


async def test_a_cancel_reaches_everything_below(service: Service) -> None:
    """F6, langgraph#8302: two levels down an attempt is stopped; every run of the tree ends as cancelled, by whom."""
    question = plan({"node_id": "ask", "kind": "ask", "prompt": {"question": "?"}})
    work = plan(call("h", "held", "deep"), sub("q", question))
    run_id = await service.start(envelope(plan(sub("outer", plan(sub("inner", work))))))
    await service.abilities.arrived("deep").wait()
    outer = child_run_id(run_id, "outer", 0)
    inner = child_run_id(outer, "inner", 0)
    asking = child_run_id(inner, "q", 0)
    await until(_told(service, asking, "run_waiting"), 10, "the question")
    response = await service.client.post(f"/api/v1/runs/{run_id}/cancel", json={"reason": "enough"})
    assert response.status_code == 202
    for each in (run_id, outer, inner, asking):
        payload(await service.follow(each), "cancelled", by="user:local", reason="enough")
    assert service.calls[-1] == "held:cancelled"
    assert (await service.detail(asking))["open_prompts"] == []
    pending = await query(service.settings.database_url, "SELECT count(*) FROM signals WHERE outcome IS NULL")
    assert pending == [(0,)]


async def test_a_parent_that_fails_calls_its_children_off(service: Service) -> None:
    """F6: nothing goes on for a run that has ended."""
    steps = plan(sub("s", plan(call("h", "held", "long"))), call("r", "held", "short"), call("x", "raises", "final"),
                 edges=[{"from": "r", "to": "x"}])  # fmt: skip
    async with service.stream(envelope(steps, policies={"retry": {"max_attempts": 1}})) as reader:
        run_id = (await reader.until("start")).whole["run_id"]
        await service.abilities.arrived("long").wait()
        service.abilities.gate("short").set()
        payload(await reader.rest(), "failed", failed_node_id="x")
    log = await service.follow(child_run_id(run_id, "s", 0))
    assert payload(log, "cancelled", by=f"run:{run_id}")["reason"] == "The run that it is a part of failed."


async def test_a_child_that_is_cancelled_by_hand_fails_its_node(service: Service) -> None:
    """F6: somebody ended the child on purpose, so it is not begun again."""
    run_id = await service.start(envelope(plan(sub("s", plan(call("h", "held", "mine"))))))
    await service.abilities.arrived("mine").wait()
    child = child_run_id(run_id, "s", 0)
    await service.client.post(f"/api/v1/runs/{child}/cancel", json={"reason": "not this"})
    frames = await service.follow(run_id)
    error = payload(frames, "node_error", code="child_cancelled")
    assert "not this" in error["message"]
    assert shapes(frames)[-1] == "failed"


async def test_the_first_of_several_calls_the_others_off(service: Service) -> None:
    """F6, docs/decisions/0006: a child that a join does not need any more is cancelled."""
    steps = plan(
        call("fast", "noop", "fast"),
        sub("slow", plan(call("h", "held", "slow"))),
        {"node_id": "first", "kind": "join", "wait": "any", "inputs": {"fast": of("fast").binding}},
        edges=[{"from": "slow", "to": "first"}],
    )
    run_id = await service.start(envelope(steps))
    frames = await service.follow(run_id)
    assert "node_skipped:slow" in shapes(frames)
    payload(frames, "complete", output={"fast": "fast"})
    children = (await lineage(service, run_id))["children"]
    for child in children:
        assert shapes(await service.follow(child["run_id"]))[-1] == "cancelled"


REFUSED: list[tuple[dict[str, Any], str, str]] = [
    ({"plan": plan(call("a", "nobody"))}, "unknown_capability", "/plan/nodes/0/capability_id"),
    ({"plan": {"nodes": []}}, "too_short", "/plan/nodes"),
    ({"plan": plan({"node_id": "b", "kind": "loop", "until": "x +", "max_iterations": 1, "node": {"kind": "join"}})},
     "bad_expression", "/plan/nodes/0/until"),
    ({"plan": plan({"node_id": "a", "kind": "call", "capability_id": "spine.greet", "inputs": {"who": given("y")}})},
     "dangling_input", "/plan/nodes/0/inputs/who"),
    ({"plan": plan(sub("t", plan(call("a", "held"))))}, "missing_param", "/plan/nodes/0/plan/nodes/0/inputs"),
    ({"plan": None}, "plan_missing", ""),
    ({"flow_id": "mine"}, "ambiguous_subflow", "/flow_id"),
    ({"plan": plan({"node_id": "a", "kind": "call", "capability_id": "spine.greet", "inputs": {"who": given("x")}}),
      "inputs": {"x": {"value": 5}}}, "input_mismatch", "/plan/nodes/0/inputs/who"),
]  # fmt: skip


async def test_a_wrong_plan_inside_is_refused_with_its_place(service: Service) -> None:
    """W4: findings of the inner plan point into the node, however deep; what only the run knows is no fault."""
    for changes, code, at in REFUSED:
        node = sub("s", passing(), inputs={"x": {"value": 1}}) | changes
        response = await service.client.post("/api/v1/runs", json=envelope(plan(node)))
        assert response.status_code == 422, changes
        found = [(item["code"], item["pointer"]) for item in response.json()["errors"]]
        assert (code, f"/workflow/plan/nodes/0{at}") in found, found
    unknown = plan({"node_id": "g", "kind": "call", "capability_id": "spine.greet", "inputs": {"who": given("x")}})
    steps = plan(call("a", "noop", "Ana"), sub("s", unknown, inputs={"x": of("a").binding}))
    payload(await service.run(envelope(steps)), "complete", output="Good morning, Ana!")


async def test_a_literal_null_inside_a_map_stays_a_value(service: Service) -> None:
    """F6: what a plan says is what runs: null is a value."""
    inner = {"kind": "call", "capability_id": "spine.noop", "inputs": {"value": {"value": None}}}
    mapped = {"node_id": "m", "kind": "map", "over": {"value": [1]}, "as": "ignored", "node": inner}
    response = await service.client.post("/api/v1/runs", json=envelope(plan(mapped)))
    assert response.status_code in (202, 422)
    inner = {"kind": "transform", "expression": "{'given': nothing}", "inputs": {"nothing": {"value": None}}}
    mapped = {"node_id": "m", "kind": "map", "over": {"value": [1]}, "as": "x", "node": inner}
    payload(await service.run(envelope(plan(mapped))), "complete", output=[{"given": None}])


async def test_a_pause_holds_the_children_too(service: Service) -> None:
    """F6: what is paused starts nothing, however deep; the end of the pause ends it everywhere."""
    inner = plan(sub("deep", plan(call("a", "held", "x"), call("b", "noop", of("a")))))
    async with service.stream(envelope(plan(sub("s", inner)))) as reader:
        run_id = str((await reader.until("start")).whole["run_id"])
        child = child_run_id(run_id, "s", 0)
        lowest = child_run_id(child, "deep", 0)
        await service.abilities.arrived("x").wait()
        await service.client.post(f"/api/v1/runs/{run_id}/pause", json={"reason": "lunch"})
        await until(_paused(service, lowest), 10, "the pause")
        service.abilities.gate("x").set()
        await until(_told(service, lowest, "run_waiting"), 10, "the end of what ran")
        paused = (await service.detail(lowest))["paused"]
        assert (paused["by"], paused["reason"]) == (f"run:{child}", "lunch")
        assert service.calls == ["held"]
        await service.client.post(f"/api/v1/runs/{run_id}/resume", json={})
        frames = await reader.rest()
    payload(frames, "complete", output="x")
    assert shapes(await service.log(lowest)) == [
        *OPENING, "node_start:a", "node_complete:a", *WAITED, "node_start:b", "node_complete:b", "complete",
    ]  # fmt: skip


async def test_what_people_paused_people_resume(service: Service) -> None:
    """F6: a child that somebody paused by hand is not set going by the end of its parent's pause."""
    run_id = await service.start(envelope(plan(sub("s", plan(call("a", "held", "x"), call("b", "noop", of("a")))))))
    child = child_run_id(run_id, "s", 0)
    await service.abilities.arrived("x").wait()
    for paused in (child, run_id):
        await service.client.post(f"/api/v1/runs/{paused}/pause", json={})
    await service.client.post(f"/api/v1/runs/{run_id}/resume", json={})
    service.abilities.gate("x").set()
    await until(_told(service, child, "run_waiting"), 10, "the end of what ran")
    assert (await service.detail(child))["paused"]["by"] == "user:local"
    await service.client.post(f"/api/v1/runs/{child}/resume", json={})
    payload(await service.follow(run_id), "complete", output="x")


async def test_a_paused_run_has_no_new_children(service: Service) -> None:
    """F6: a subflow is a dispatch like any other."""
    steps = plan(call("a", "held", "x"), sub("s", passing(), inputs={"x": of("a").binding}))
    async with service.stream(envelope(steps)) as reader:
        run_id = str((await reader.until("start")).whole["run_id"])
        await service.abilities.arrived("x").wait()
        await service.client.post(f"/api/v1/runs/{run_id}/pause", json={})
        service.abilities.gate("x").set()
        await reader.until("run_waiting")
        assert (await lineage(service, run_id))["children"] == []
        await service.client.post(f"/api/v1/runs/{run_id}/resume", json={})
        payload(await reader.rest(), "complete", output="x")


def _paused(service: Service, run_id: str) -> Callable[[], Awaitable[bool]]:
    async def paused() -> bool:
        return (await service.detail(run_id))["paused"] is not None

    return paused
