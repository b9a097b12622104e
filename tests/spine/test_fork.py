"""Retry from a failure, fork at a node with edited inputs or output, on both databases (F6; docs/decisions/0006)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import httpx2
import pytest

from contracts.access import Principal
from contracts.errors import Forbidden, RunNotFound
from tests.durability.auditor import query
from tests.durability.waiting import until
from tests.spine.asking import gated
from tests.spine.running import Service, call, edge, envelope, of, plan
from tests.spine.sse import Frame, payload, shapes

TABLES = ("runs", "envelopes", "run_plans", "nodes", "events", "prompts", "signals")


async def post(service: Service, run_id: str, what: str, body: Any = None, **headers: str) -> httpx2.Response:
    """Ask for a retry or a fork."""
    url = f"/api/v1/runs/{run_id}/{what}"
    if body is None:
        return await service.client.post(url, headers=headers)
    return await service.client.post(url, json=body, headers=headers)


async def forked(service: Service, run_id: str, what: str = "fork", **body: Any) -> tuple[str, list[Frame]]:
    """Retry or fork a run, and follow what comes of it to its end."""
    response = await post(service, run_id, what, body)
    assert response.status_code == 202, response.text
    new = str(response.json()["run_id"])
    return new, await service.follow(new)


async def rows(service: Service, run_id: str) -> dict[str, list[Any]]:
    """Every row of a run, to the byte."""
    found = {}
    for table in TABLES:
        sql = f"SELECT * FROM {table} WHERE run_id = '{run_id}'"
        found[table] = sorted(await query(service.settings.database_url, sql), key=repr)
    return found


def copied(frames: list[Frame]) -> list[str]:
    """The nodes that were copied, in order."""
    return [str(frame.node_id) for frame in frames if frame.payload.get("copied_from")]


def ran(frames: list[Frame]) -> list[str]:
    """The nodes that really ran, in order."""
    return [str(frame.node_id) for frame in frames if frame.type == "node_start"]


def chain() -> dict[str, Any]:
    """a → b → c, and d beside them; all in the answer."""
    return plan(
        call("a", "noop", "a"),
        call("b", "noop", of("a")),
        call("c", "noop", of("b")),
        call("d", "noop", "d"),
        output={f"/{name}": {"node_id": name} for name in "abcd"},
    )


async def test_retry_goes_on_where_a_run_failed(service: Service) -> None:
    """F6: what completed is copied, in the plan's order, each with a frame that says so; the rest begins afresh."""
    steps = plan(
        call("a", "noop", 1), call("x", "second_time", "once more"), call("b", "noop", of("x")), call("d", "noop", 4),
        output={f"/{name}": {"node_id": name} for name in "axbd"}, edges=[edge("a", "x"), edge("d", "x")],
    )  # fmt: skip
    failed = await service.run(envelope(steps, correlation_id="cid-1"))
    run_id = failed[0].whole["run_id"]
    before = await rows(service, run_id)
    service.abilities.CALLS.clear()
    response = await post(service, run_id, "retry")
    body = response.json()
    assert response.status_code == 202
    assert (body["status"], body["forked_from"]) == ("queued", {"run_id": run_id, "node_id": None})
    assert response.headers["location"] == body["links"]["self"] == f"/api/v1/runs/{body['run_id']}"
    assert response.headers["x-correlation-id"] == "cid-1"
    frames = await service.follow(body["run_id"])
    assert shapes(frames) == [
        "start", "plan_generated", "node_complete:a", "node_complete:d", "node_start:x", "node_complete:x",
        "node_start:b", "node_complete:b", "complete",
    ]  # fmt: skip
    payload(frames, "start", forked_from={"run_id": run_id, "node_id": None})
    assert frames[2].payload["copied_from"] == frames[3].payload["copied_from"] == run_id
    assert frames[2].payload["output"] == 1
    payload(frames, "complete", output={"a": 1, "x": "once more", "b": "once more", "d": 4})
    assert service.calls == ["second_time", "noop"]
    # The first run is as it was, byte for byte.
    assert await rows(service, run_id) == before


async def test_lineage_is_told_from_both_sides(service: Service) -> None:
    """F6: a fork knows where it comes from, and its origin knows what came of it; a fork is a tree of its own."""
    run_id = (await service.run(envelope(chain())))[0].whole["run_id"]
    new, _ = await forked(service, run_id, node_id="b")
    detail = await service.detail(new)
    assert detail["lineage"]["forked_from"] == {"run_id": run_id, "node_id": "b"}
    assert (detail["lineage"]["parent"], detail["root_run_id"]) == (None, new)
    assert (await service.detail(run_id))["lineage"]["forks"] == [
        {"run_id": new, "node_id": "b", "status": "completed"}
    ]


async def test_a_fork_runs_a_node_and_what_comes_after_it_again(service: Service) -> None:
    """F6: from a completed run; what does not depend on the node is copied. Keys of calls are new."""
    run_id = (await service.run(envelope(chain())))[0].whole["run_id"]
    before = await rows(service, run_id)
    _, frames = await forked(service, run_id, node_id="b")
    assert (copied(frames), ran(frames)) == (["a", "d"], ["b", "c"])
    assert shapes(frames)[-1] == "complete"
    assert await rows(service, run_id) == before
    again = (await service.client.get(f"/api/v1/runs/{frames[0].whole['run_id']}/nodes")).json()["items"]
    assert {node["node_id"]: node["generation"] for node in again} == {"a": 0, "b": 1, "c": 1, "d": 0}


async def test_a_fork_with_another_output(service: Service) -> None:
    """F6: the node does not run; it is completed with what was given, and what comes after it runs on that."""
    run_id = (await service.run(envelope(chain())))[0].whole["run_id"]
    _, frames = await forked(service, run_id, node_id="b", output={"other": True})
    assert (copied(frames), ran(frames)) == (["a", "b", "d"], ["c"])
    payload(frames, "complete", output={"a": "a", "b": {"other": True}, "c": {"other": True}, "d": "d"})
    _, frames = await forked(service, run_id, node_id="b", output=None)
    payload(frames, "complete", output={"a": "a", "b": None, "c": None, "d": "d"})


async def test_an_output_that_does_not_fit_is_refused(service: Service) -> None:
    """F11: the node's contract holds for whoever writes the output; every place is named."""
    contract = {"schema": {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}}
    steps = plan(call("a", "noop", {"n": 1}, output=contract), call("b", "noop", of("a")))
    run_id = (await service.run(envelope(steps)))[0].whole["run_id"]
    response = await post(service, run_id, "fork", {"node_id": "a", "output": {"n": "x"}})
    problem = response.json()
    assert (response.status_code, problem["code"]) == (422, "fork_invalid")
    assert [(item["pointer"], item["code"]) for item in problem["errors"]] == [("/output/n", "type")]


async def test_a_fork_with_other_inputs(service: Service) -> None:
    """F6: inputs become literal values in another version of the plan, with who wrote it and why."""
    steps = plan(call("a", "greet"), call("b", "noop", of("a")))
    steps["nodes"][0]["inputs"] = {"who": {"from": "/inputs/spine_who"}}
    run_id = (await service.run(envelope(steps, inputs={"spine_who": "Ana"})))[0].whole["run_id"]
    new, frames = await forked(service, run_id, node_id="a", inputs={"who": "Ben"}, reason="Wrong person")
    assert (copied(frames), ran(frames)) == ([], ["a", "b"])
    payload(frames, "complete", output="Good morning, Ben!")
    made = payload(frames, "plan_generated")["plan"]
    assert made["plan_version"] == 2
    assert made["nodes"][0]["inputs"] == {"who": {"value": "Ben"}}
    assert (await service.detail(new))["plan_version"] == 2
    stored = await query(service.settings.database_url, f"SELECT author, reason FROM run_plans WHERE run_id = '{new}'")
    assert stored == [("user:local", "Wrong person")]


@pytest.mark.parametrize(
    ("inputs", "pointer", "code"),
    [({"who": 5}, "/inputs/who", "type"), ({"whom": "Ben"}, "/inputs/whom", "unknown_param")],
)
async def test_inputs_that_do_not_fit_are_refused(
    service: Service, inputs: dict[str, Any], pointer: str, code: str
) -> None:
    """W4: against what the capability takes, by name and by type."""
    steps = plan(call("a", "greet"))
    steps["nodes"][0]["inputs"] = {"who": {"value": "Ana"}}
    run_id = (await service.run(envelope(steps)))[0].whole["run_id"]
    response = await post(service, run_id, "fork", {"node_id": "a", "inputs": inputs})
    assert response.status_code == 422
    assert [(item["pointer"], item["code"]) for item in response.json()["errors"]] == [(pointer, code)]


async def test_what_cannot_be_forked(service: Service) -> None:
    """F6: precise refusals; nothing is started by any of them."""
    run_id = (await service.run(envelope(chain())))[0].whole["run_id"]
    unplanned = (await service.run(envelope(schema={"type": "object", "required": ["nobody_makes_this"]})))[0]
    cases: list[tuple[str, str, Any, int, str]] = [
        (run_id, "retry", None, 409, "invalid_run_state"),
        ("run_nobody", "retry", None, 404, "run_not_found"),
        ("run_nobody", "fork", {"node_id": "a"}, 404, "run_not_found"),
        (run_id, "fork", {"node_id": "nobody"}, 404, "node_not_found"),
        (run_id, "fork", {"node_id": "a", "inputs": {}, "output": 1}, 422, "unprocessable"),
        (run_id, "fork", {}, 422, "unprocessable"),
        (run_id, "fork", {"node_id": "a", "mode": "x"}, 422, "unprocessable"),
        (unplanned.whole["run_id"], "retry", None, 409, "invalid_run_state"),
    ]
    many = len((await service.client.get("/api/v1/runs")).json()["items"])
    for target, what, body, status, code in cases:
        response = await post(service, target, what, body)
        assert (response.status_code, response.json()["code"]) == (status, code), (what, body)
    assert len((await service.client.get("/api/v1/runs")).json()["items"]) == many


async def test_the_same_key_is_the_same_fork(service: Service) -> None:
    """F2: as when an envelope is submitted; another body under the same key is refused."""
    run_id = (await service.run(envelope(chain())))[0].whole["run_id"]
    keyed = {"Idempotency-Key": "k1"}
    answers = [await post(service, run_id, "fork", {"node_id": "b"}, **keyed) for _ in range(2)]
    assert len({answer.json()["run_id"] for answer in answers}) == 1
    await service.follow(answers[0].json()["run_id"])
    again = await post(service, run_id, "fork", {"node_id": "b"}, **keyed)
    assert (again.json()["run_id"], again.json()["status"]) == (answers[0].json()["run_id"], "completed")
    other = await post(service, run_id, "fork", {"node_id": "c"}, **keyed)
    assert (other.status_code, other.json()["code"]) == (422, "idempotency_key_reused")
    assert len((await service.detail(run_id))["lineage"]["forks"]) == 1


async def test_forks_are_in_the_audit(service: Service) -> None:
    """H9: who went on from which run, and what was written by hand; once per fork, however often it is asked for."""
    run_id = (await service.run(envelope(chain())))[0].whole["run_id"]
    body = {"node_id": "b", "output": 1, "reason": "what if"}
    answers = [await post(service, run_id, "fork", body, **{"Idempotency-Key": "k"}) for _ in range(2)]
    new = answers[0].json()["run_id"]
    await service.follow(new)
    sql = f"SELECT kind, actor, body_json FROM audit_records WHERE run_id = '{run_id}'"
    ((kind, actor, text),) = await query(service.settings.database_url, sql)
    assert (kind, actor) == ("run.forked", "user:local")
    for part in (f'"forked_run_id":"{new}"', '"output":1', '"reason":"what if"', '"node_id":"b"'):
        assert part in text


async def test_a_run_that_goes_on_may_be_forked(service: Service) -> None:
    """F6: what has completed by then is copied; what runs begins afresh in the fork, and goes on in the origin."""
    steps = plan(call("a", "noop", "a"), call("h", "held", "both"), call("b", "noop", of("a")),
                 output={f"/{name}": {"node_id": name} for name in "ahb"})  # fmt: skip
    async with service.stream(envelope(steps)) as reader:
        run_id = (await reader.until("node_complete", "b")).whole["run_id"]
        response = await post(service, run_id, "fork", {"node_id": "b"})
        new = response.json()["run_id"]
        await until(lambda: service.calls.count("held") == 2, 10, "both to work")
        service.abilities.gate("both").set()
        payload(await reader.rest(), "complete", output={"a": "a", "h": "both", "b": "a"})
    frames = await service.follow(new)
    assert (copied(frames), sorted(ran(frames))) == (["a"], ["b", "h"])
    payload(frames, "complete", output={"a": "a", "h": "both", "b": "a"})


async def test_a_cancelled_run_is_retried(service: Service) -> None:
    """F6: from where it was stopped; a question that was open is asked again, under another prompt."""
    asking = {"node_id": "q", "kind": "ask", "prompt": {"question": "?"}, "inputs": {"a": of("a").binding}}
    run_id = await service.start(envelope(plan(call("a", "noop", 1), asking)))
    (first,) = await service.asked(run_id)
    await service.client.post(f"/api/v1/runs/{run_id}/cancel")
    await service.follow(run_id)
    new = (await post(service, run_id, "retry")).json()["run_id"]
    (second,) = await service.asked(new)
    assert first["prompt_id"] != second["prompt_id"]
    await service.decided(second, "answer", answer="yes")
    frames = await service.follow(new)
    assert copied(frames) == ["a"]
    payload(frames, "complete", output="yes")


async def test_branches_are_decided_as_they_were(service: Service) -> None:
    """F6: a branch that completed keeps its side; forked with the other one, the other side runs."""
    steps = plan(
        {"node_id": "way", "kind": "branch", "condition": "true", "then": "yes", "else": "no"},
        call("yes", "noop", "yes"),
        call("no", "noop", "no"),
        {"node_id": "end", "kind": "join", "inputs": {name: of(name).binding for name in ("yes", "no")}},
    )
    run_id = (await service.run(envelope(steps)))[0].whole["run_id"]
    _, frames = await forked(service, run_id, node_id="end")
    assert copied(frames) == ["way", "yes"]
    payload(frames, "node_skipped", reason="condition_false")
    payload(frames, "complete", output={"yes": "yes"})
    _, frames = await forked(service, run_id, node_id="way", output={"taken": False})
    assert (copied(frames), ran(frames)) == (["way"], ["no", "end"])
    payload(frames, "complete", output={"no": "no"})
    response = await post(service, run_id, "fork", {"node_id": "way", "output": "sideways"})
    assert response.json()["errors"][0]["pointer"] == "/output"


async def test_items_of_a_map_that_had_completed_are_not_run_again(service: Service, tmp_path: Path) -> None:
    """F6, design §4 effects: a map that failed at one item runs that one again, and not the calls that were made."""
    book = tmp_path / "sent"
    items = [{"file": str(book), "n": 0}, {"file": str(book), "n": 1, "then": "hold"}, {"file": str(book), "n": 2}]
    inner = {"kind": "call", "capability_id": "spine.once", "timeout_seconds": 0.3}
    mapped = {"node_id": "m", "kind": "map", "over": {"value": items}, "as": "value", "node": inner, "concurrency": 1}
    run_id = await service.start(envelope(plan(mapped)))
    await service.abilities.arrived("once").wait()
    await service.client.post(f"/api/v1/runs/{run_id}/cancel")
    await service.follow(run_id)
    assert len(book.read_text().splitlines()) == 2
    new = (await post(service, run_id, "retry")).json()["run_id"]
    (prompt,) = await service.asked(new)
    # The one that may have happened is asked about first, whatever the others do.
    assert (prompt["kind"], prompt["node_id"]) == ("effect_check", "m[1]")
    await service.decided(prompt, "happened")
    frames = await service.follow(new)
    assert copied(frames) == ["m[0]"]
    assert ran(frames) == ["m", "m[2]"]
    payload(frames, "complete", output=["sent", None, "sent"])
    assert len(book.read_text().splitlines()) == 3


async def test_rounds_of_a_loop_that_had_ended_are_not_run_again(service: Service) -> None:
    """F6: a loop goes on at the round that failed, with what it carried; it is counted on."""
    inner = {"kind": "transform", "expression": "value < 2 ? value + 1 : $error('stuck')"}
    looped = {"node_id": "l", "kind": "loop", "as": "value", "initial": {"value": 0}, "until": "nodes.l.output > 5",
              "max_iterations": 4, "node": inner}  # fmt: skip
    run_id = (await service.run(envelope(plan(looped))))[0].whole["run_id"]
    _, frames = await forked(service, run_id, "retry")
    assert shapes(frames)[2:] == [
        "node_start:l", "node_complete:l[0]", "node_complete:l[1]", "node_start:l[2]", "node_error:l[2]", "failed"
    ]  # fmt: skip
    assert frames[2].payload["resumed"]
    assert copied(frames) == ["l[0]", "l[1]"]


async def test_a_call_that_may_have_happened_is_asked_about_first(service: Service, tmp_path: Path) -> None:
    """Design §4, effects: somebody ended the run while a call that must not be repeated was under way."""
    book = tmp_path / "sent"
    steps = plan(call("a", "noop", 1), call("p", "once", {"file": str(book), "then": "hold"}, timeout_seconds=0.3))
    run_id = await service.start(envelope(steps))
    await service.abilities.arrived("once").wait()
    await service.client.post(f"/api/v1/runs/{run_id}/cancel")
    await service.follow(run_id)
    new = (await post(service, run_id, "retry")).json()["run_id"]
    (prompt,) = await service.asked(new)
    assert (prompt["kind"], prompt["node_id"]) == ("effect_check", "p")
    assert len(book.read_text().splitlines()) == 1
    service.abilities.gate("once").set()
    await service.decided(prompt, "not_happened")
    frames = await service.follow(new)
    payload(frames, "complete", output="sent")
    keys = book.read_text().splitlines()
    assert len(set(keys)) == 2, "a deliberate repetition has a key of its own"


async def test_gates_hold_in_a_fork(service: Service) -> None:
    """H5: an approval is copied with what it approved; edited inputs are asked about anew, by the same gate."""
    policies = gated("before", selector={"node_id": "b"})
    steps = plan(call("a", "noop", "draft"), call("b", "noop", of("a")), call("c", "noop", of("b")))
    run_id = await service.start(envelope(steps, policies=policies))
    (prompt,) = await service.asked(run_id)
    await service.decided(prompt, "approve")
    await service.follow(run_id)
    _, frames = await forked(service, run_id, node_id="b")
    assert (copied(frames), ran(frames)) == (["a", "gate"], ["b", "c"])
    new = (await post(service, run_id, "fork", {"node_id": "b", "inputs": {"value": "other"}})).json()["run_id"]
    (prompt,) = await service.asked(new)
    assert (prompt["node_id"], prompt["proposed"]) == ("gate", {"value": "other"})
    await service.decided(prompt, "approve")
    payload(await service.follow(new), "complete", output="other")


async def test_a_fork_answers_no_question_for_people(service: Service) -> None:
    """H4: what people decide cannot be written by a fork, be it a gate or a question of the plan."""
    steps = plan(call("a", "noop", "draft"))
    run_id = await service.start(envelope(steps, policies=gated("output")))
    await service.asked(run_id)
    response = await post(service, run_id, "fork", {"node_id": "gate", "output": "mine"})
    assert (response.status_code, response.json()["errors"][0]["code"]) == (422, "people_answer")
    new = (await post(service, run_id, "fork", {"node_id": "a", "output": "edited"})).json()["run_id"]
    (prompt,) = await service.asked(new)
    assert (prompt["node_id"], prompt["proposed"]) == ("gate", "edited")


async def test_a_rule_that_stopped_a_run_holds_for_its_retry(service: Service) -> None:
    """F5: what a policy forbids is not allowed by trying again; with another output it may be."""
    rule = {
        "id": "low",
        "action": {"type": "fail", "message": "Too low."},
        "trigger": {"type": "on_node_complete", "condition": "nodes.a.score < 5", "selector": {"node_id": "a"}},
    }
    steps = plan(call("a", "noop", {"score": 3}), call("b", "noop", of("a", "/score")))
    frames = await service.run(envelope(steps, policies={"runtime": [rule]}))
    payload(frames, "failed", code="policy_failed")
    run_id = frames[0].whole["run_id"]
    new, frames = await forked(service, run_id, "retry")
    assert shapes(frames) == ["start", "plan_generated", "node_complete:a", "policy_triggered:a", "failed"]
    assert (await service.detail(new))["status"] == "failed"
    _, frames = await forked(service, run_id, node_id="a", output={"score": 9})
    payload(frames, "complete", output=9)


async def test_a_retry_goes_on_inside_the_children_too(service: Service, tmp_path: Path) -> None:
    """F6, design §4 effects: two levels down, what was done is not done again, and the rest is; a tree of its own."""
    book = tmp_path / "sent"
    work = plan(
        call("pay", "once", {"file": str(book)}), call("x", "second_time", "deep"), edges=[edge("pay", "x")]
    )  # fmt: skip
    middle = plan(call("before", "noop", 1), {"node_id": "inner", "kind": "subflow", "plan": work, "max_attempts": 1})
    steps = plan(call("a", "noop", 1), {"node_id": "outer", "kind": "subflow", "plan": middle, "max_attempts": 1})
    failed = await service.run(envelope(steps))
    assert shapes(failed)[-1] == "failed"
    run_id = failed[0].whole["run_id"]
    origin_child = (await service.detail(run_id))["lineage"]["children"][0]["run_id"]
    new, frames = await forked(service, run_id, "retry")
    assert shapes(frames) == [
        "start", "plan_generated", "node_complete:a", "node_start:outer", "run_waiting", "run_resumed",
        "node_complete:outer", "complete",
    ]  # fmt: skip
    payload(frames, "complete", output="deep")
    begun = payload(frames, "node_start", resumed=True, attempt=1)
    outer = begun["child_run_id"]
    log = await service.log(outer)
    assert (copied(log), ran(log)) == (["before"], ["inner"])
    payload(
        log, "start", parent={"run_id": new, "node_id": "outer"}, forked_from={"run_id": origin_child, "node_id": None}
    )
    inner = (await service.detail(outer))["lineage"]["children"][0]["run_id"]
    log = await service.log(inner)
    assert (copied(log), ran(log)) == (["pay"], ["x"])
    assert (await service.detail(inner))["root_run_id"] == new
    assert len(book.read_text().splitlines()) == 1


async def test_a_fork_of_a_child_stands_alone(service: Service) -> None:
    """F6: a child run may be forked like any run; the fork has no parent, and its origin's parent hears nothing."""
    inner = plan(
        {"node_id": "p", "kind": "call", "capability_id": "spine.noop", "inputs": {"value": {"from": "/inputs/x"}}}
    )
    steps = plan({"node_id": "s", "kind": "subflow", "plan": inner, "inputs": {"x": {"value": "in"}}})
    run_id = (await service.run(envelope(steps)))[0].whole["run_id"]
    child = (await service.detail(run_id))["lineage"]["children"][0]["run_id"]
    new, frames = await forked(service, child, node_id="p", output="out")
    payload(frames, "complete", output="out")
    detail = await service.detail(new)
    assert (detail["lineage"]["parent"], detail["lineage"]["forked_from"]) == (None, {"run_id": child, "node_id": "p"})
    assert len((await service.detail(run_id))["lineage"]["children"]) == 1
    # A copied subflow is its output; it has no child of its own in the fork.
    _, frames = await forked(service, run_id, node_id="s", output="by hand")
    assert (copied(frames), ran(frames)) == (["s"], [])
    payload(frames, "complete", output="by hand")


async def test_who_may_fork(service: Service) -> None:
    """P2: who started the run, operators and administrators of its tenant; for anybody else nothing is started."""
    run_id = (await service.run(envelope(chain())))[0].whole["run_id"]
    lineages = service.flex.doors.lineages
    for caller, error in (
        (Principal("user:ben", roles=frozenset({"submitter", "builder"})), Forbidden),
        (Principal("user:local", "elsewhere", frozenset({"admin"})), RunNotFound),
    ):
        with pytest.raises(error):
            await lineages.fork(caller, run_id, {"node_id": "b"})
        with pytest.raises(error):
            await lineages.retry(caller, run_id)
    assert (await service.detail(run_id))["lineage"]["forks"] == []
    forked_ = await lineages.fork(Principal("user:ben", roles=frozenset({"operator"})), run_id, {"node_id": "b"})
    await service.follow(forked_.run_id)
    rows = await query(service.settings.database_url, f"SELECT principal FROM runs WHERE run_id = '{forked_.run_id}'")
    assert rows == [("user:ben",)], "a fork is of whoever asked for it"


async def test_the_list_of_a_map_may_be_edited(service: Service) -> None:
    """F6: what a map unfolds, or a loop begins with, is its input."""
    inner = {"kind": "call", "capability_id": "spine.noop"}
    mapped = {"node_id": "m", "kind": "map", "over": {"value": [1, 2]}, "as": "value", "node": inner}
    run_id = (await service.run(envelope(plan(mapped))))[0].whole["run_id"]
    _, frames = await forked(service, run_id, node_id="m", inputs={"over": [7]})
    payload(frames, "complete", output=[7])
    response = await post(service, run_id, "fork", {"node_id": "m", "inputs": {"value": 1}})
    assert response.json()["errors"][0]["pointer"] == "/inputs/value"
