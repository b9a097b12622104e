"""Every node kind, fallback and limit as a client sees it (F6, F11; design §7), on both databases."""

from __future__ import annotations

from typing import Any

import pytest

from tests.spine.running import Service, call, edge, envelope, greeting, of, plan
from tests.spine.sse import payload, shapes

OPENING = ["start", "plan_generated"]


def steps(*names: str) -> list[str]:
    """Start and completion of each node, in order."""
    return [f"node_{what}:{name}" for name in names for what in ("start", "complete")]


@pytest.mark.parametrize(("many", "taken", "left"), [(5, "more", "less"), (1, "less", "more")])
async def test_branch(service: Service, many: int, taken: str, left: str) -> None:
    """F6: one side runs, the other is skipped with its reason, and what both lead to runs once."""
    steps_ = plan(
        {"node_id": "way", "kind": "branch", "condition": "inputs.many > 3", "then": "more", "else": ["less"]},
        call("more", "noop", "more"),
        call("less", "noop", "less"),
        {"node_id": "end", "kind": "join", "inputs": {n: of(n).binding for n in ("more", "less")}},
    )
    frames = await service.run(envelope(steps_, inputs={"many": many}))
    assert shapes(frames)[:4] == [*OPENING, *steps("way")]
    assert sorted(shapes(frames)[4:7]) == sorted([f"node_skipped:{left}", *steps(taken)])
    assert shapes(frames)[7:] == [*steps("end"), "complete"]
    payload(frames, "node_skipped", reason="condition_false")
    payload(frames, "complete", output={taken: taken})


async def test_conditional_edges(service: Service) -> None:
    """F6: an edge's condition reads the outputs before it; a chain behind a false one is skipped to its end."""
    graph = plan(
        call("a", "noop", {"score": 2}),
        call("yes", "noop", "yes"),
        call("no", "noop", "no"),
        call("after_no", "noop", of("no")),
        output={"": {"node_id": "yes"}},
        edges=[edge("a", "yes", "nodes.a.score > 1"), edge("a", "no", "nodes.a.score > 9")],
    )
    frames = await service.run(envelope(graph))
    assert sorted(shapes(frames)[4:]) == sorted(["node_skipped:no", "node_skipped:after_no", *steps("yes"), "complete"])
    reasons = {frame.node_id: frame.payload["reason"] for frame in frames if frame.type == "node_skipped"}
    assert reasons == {"no": "condition_false", "after_no": "upstream_skipped"}


async def test_a_condition_that_cannot_be_read_is_a_failure(service: Service) -> None:
    """F6: «a plan that can make no progress ends with a clear error, never hangs»."""
    graph = plan(call("a", "noop", 1), call("b", "noop", 2), edges=[edge("a", "b", "nodes.a.score > 1")])
    frames = await service.run(envelope(graph))
    assert shapes(frames) == [*OPENING, *steps("a"), "failed"]
    payload(frames, "failed", code="node_failed", failed_node_id="a")


def mapped(items: Any, **more: Any) -> dict[str, Any]:
    inner = {"kind": "call", "capability_id": "spine.noop"}
    return {"node_id": "m", "kind": "map", "over": {"value": items}, "as": "value", "node": inner, **more}


async def test_map(service: Service) -> None:
    """F6, wire §3: items are nodes ``m[0]`` …; the list keeps their order; concurrency bounds how many run at once."""
    frames = await service.run(envelope(plan(mapped(["x", "y", "z"], concurrency=1))))
    assert shapes(frames) == [
        *OPENING, "node_start:m", *steps("m[0]", "m[1]", "m[2]"), "node_complete:m", "complete"
    ]  # fmt: skip
    payload(frames, "complete", output=["x", "y", "z"])
    run_id = frames[0].whole["run_id"]
    nodes = (await service.client.get(f"/api/v1/runs/{run_id}/nodes")).json()["items"]
    assert [(node["node_id"], node["status"]) for node in nodes] == [
        (name, "completed") for name in ("m", "m[0]", "m[1]", "m[2]")
    ]


async def test_map_over_nothing(service: Service) -> None:
    """F6: an empty list is a list; it still has to fit what the map promises (F11)."""
    frames = await service.run(envelope(plan(mapped([]))))
    assert shapes(frames) == [*OPENING, "node_start:m", "node_complete:m", "complete"]
    schema = {"type": "array", "minItems": 1}
    policies = {"on_output_invalid": "fail"}
    frames = await service.run(envelope(plan(mapped([])), schema, policies=policies))
    assert shapes(frames) == [*OPENING, "node_start:m", "validation_error:m", "failed"]
    payload(frames, "failed", code="output_contract_unmet", failed_node_id="m")


async def test_a_map_whose_list_does_not_fit_is_repaired_by_a_person(service: Service) -> None:
    """F11: the gathered list is checked as a whole before the map completes."""
    schema = {"type": "array", "maxItems": 1}
    async with service.stream(envelope(plan(mapped([1, 2])), schema)) as reader:
        prompt = (await reader.until("hitl_request")).payload["prompt"]
        assert (prompt["kind"], prompt["node_id"], prompt["proposed"]) == ("repair", "m", [1, 2])
        await service.decided(prompt, "edit", answer=[2])
        frames = await reader.rest()
    payload(frames, "complete", output=[2])


async def test_join_any(service: Service) -> None:
    """F6: ``wait: any`` goes on at the first; what only it was waiting for is stopped."""
    graph = plan(
        call("fast", "noop", "fast"),
        call("slow", "held", "slow"),
        {"node_id": "first", "kind": "join", "wait": "any", "inputs": {"fast": of("fast").binding}},
        edges=[edge("slow", "first")],
    )
    frames = await service.run(envelope(graph))
    assert shapes(frames)[-4:] == ["node_skipped:slow", "node_start:first", "node_complete:first", "complete"]
    payload(frames, "complete", output={"fast": "fast"})


async def test_transform(service: Service) -> None:
    """F6: JSONata over the node's inputs; one that fails is a typed failure of its node."""
    shape = {"node_id": "t", "kind": "transform", "inputs": {"a": of("a").binding}, "expression": "{'n': $count(a)}"}
    frames = await service.run(envelope(plan(call("a", "noop", [1, 2, 3]), shape)))
    assert shapes(frames) == [*OPENING, *steps("a", "t"), "complete"]
    payload(frames, "complete", output={"n": 3})
    frames = await service.run(envelope(plan(call("a", "noop", "x"), shape | {"expression": "$number(a)"})))
    assert shapes(frames)[-2:] == ["node_error:t", "failed"]
    payload(frames, "node_error", code="expression_failed")


async def test_parallel_branches_run_together(service: Service) -> None:
    """F6: both are under way at once; a concurrency of one takes them one after the other."""
    pair = plan(
        call("a", "held", "a"), call("b", "held", "b"),
        {"node_id": "both", "kind": "join", "inputs": {n: of(n).binding for n in "ab"}},
    )  # fmt: skip
    async with service.stream(envelope(pair)) as reader:
        await service.abilities.arrived("a").wait()
        await service.abilities.arrived("b").wait()
        for name in "ab":
            service.abilities.gate(name).set()
        frames = await reader.rest()
    assert shapes(frames)[2:4] == ["node_start:a", "node_start:b"]
    frames = await service.run(envelope(pair, policies={"concurrency": 1}))
    assert shapes(frames) == [*OPENING, *steps("a", "b", "both"), "complete"]


async def test_a_big_output_is_an_artifact(service: Service) -> None:
    """Wire §4: over 64 KiB the frame says where the output is; ``complete`` is whole."""
    frames = await service.run(envelope(plan(call("a", "big", 70_000))))
    done = payload(frames, "node_complete", output=None)
    run_id = frames[0].whole["run_id"]
    assert done["artifact_url"] == f"/api/v1/runs/{run_id}/artifacts/a"
    assert (await service.client.get(done["artifact_url"])).json() == "x" * 70_000
    payload(frames, "complete", output="x" * 70_000)
    small = await service.run(envelope(plan(call("a", "big", 1_000))))
    assert "artifact_url" not in payload(small, "node_complete")


RULE = {
    "type": "object", "required": ["a", "b"], "properties": {"a": {"type": "integer"}, "b": {"type": "integer"}},
    "if": {"properties": {"a": {"const": 1}}}, "then": {"properties": {"b": {"const": 2}}},
}  # fmt: skip
PARTS = plan(call("a", "noop", 1), call("b", "noop", 5), output={"/a": {"node_id": "a"}, "/b": {"node_id": "b"}})


async def test_a_rule_across_properties_goes_to_a_person(service: Service) -> None:
    """Wire §4.3: only the whole can break it; a repair prompt on the node ``output_repair``, then the answer."""
    async with service.stream(envelope(PARTS, RULE)) as reader:
        prompt = (await reader.until("hitl_request")).payload["prompt"]
        assert (prompt["kind"], prompt["node_id"], prompt["proposed"]) == ("repair", "output_repair", {"a": 1, "b": 5})
        assert prompt["answer_schema"] == RULE
        refused = await service.decide(prompt["prompt_id"], "edit", answer={"a": 1, "b": 3})
        assert refused.status_code == 422
        await service.decided(prompt, "edit", answer={"a": 1, "b": 2})
        frames = await reader.rest()
    assert shapes(frames)[-7:] == [
        "validation_error", "hitl_request:output_repair", "run_waiting", "hitl_resolved:output_repair", "run_resumed",
        "node_complete:output_repair", "complete",
    ]  # fmt: skip
    found = payload(frames, "validation_error", scope="final_output")["errors"]
    assert found[0]["pointer"] == "/b"
    payload(frames, "complete", output={"a": 1, "b": 2})


async def test_a_rule_across_properties_fails_where_the_policy_says_so(service: Service) -> None:
    """F11: ``complete`` never carries an output that broke the caller's contract."""
    frames = await service.run(envelope(PARTS, RULE, policies={"on_output_invalid": "fail"}))
    assert shapes(frames)[-2:] == ["validation_error", "failed"]
    assert payload(frames, "failed", code="output_contract_unmet")["errors"][0]["pointer"] == "/b"


async def test_an_output_gate_waits_for_the_repaired_whole(service: Service) -> None:
    """H5: what is shown for approval is valid already. Trap: approved, then failed the schema."""
    policies = {"hitl": [{"id": "gate", "when": "output"}]}
    async with service.stream(envelope(PARTS, RULE, policies=policies)) as reader:
        repair = (await reader.until("hitl_request")).payload["prompt"]
        assert repair["node_id"] == "output_repair"
        await service.decided(repair, "edit", answer={"a": 1, "b": 2})
        approval = (await reader.until("hitl_request")).payload["prompt"]
        assert (approval["node_id"], approval["proposed"]) == ("gate", {"a": 1, "b": 2})
        await service.decided(approval, "approve")
        frames = await reader.rest()
    payload(frames, "complete", output={"a": 1, "b": 2})


async def test_fallback_hitl(service: Service) -> None:
    """F6: when every attempt failed, a person gives the node's output on a form of its schema."""
    step = call("a", "raises", "final", fallback="hitl", output={"schema": {"type": "integer"}})
    async with service.stream(envelope(plan(step))) as reader:
        prompt = (await reader.until("hitl_request")).payload["prompt"]
        assert (prompt["kind"], prompt["proposed"]) == ("repair", None)
        assert "There is no customer 7." in prompt["question"]
        await service.decided(prompt, "edit", answer=7)
        frames = await reader.rest()
    assert shapes(frames) == [
        *OPENING, "node_start:a", "node_error:a", "hitl_request:a", "run_waiting", "hitl_resolved:a", "run_resumed",
        "node_complete:a", "complete",
    ]  # fmt: skip
    payload(frames, "node_error", fallback="hitl")
    payload(frames, "complete", output=7)


async def test_fallback_retry(service: Service) -> None:
    """F6: as many attempts once more, then the failure stands; never without bound."""
    step = call("a", "flaky", 9, fallback="retry", max_attempts=2)
    frames = await service.run(envelope(plan(step)))
    assert shapes(frames).count("node_start:a") == 4
    assert shapes(frames)[-2:] == ["node_error:a", "failed"]


async def test_fallback_replan(service: Service) -> None:
    """F6: another plan takes over, and says what changed, who asked and why; what completed is not run again."""
    steps_ = plan(
        call("z", "noop", 1), call("a", "raises", "final", fallback="replan"),
        output={"/spine_greeting": {"node_id": "a"}}, edges=[edge("z", "a")],
    )  # fmt: skip
    whole = greeting()
    frames = await service.run(whole | {"workflow": {"plan": steps_}})
    new = frames[-2].node_id
    assert shapes(frames) == [
        *OPENING, *steps("z"), "node_start:a", "node_error:a", "plan_requested", "plan_updated", *steps(str(new)),
        "complete",
    ]  # fmt: skip
    payload(frames, "node_error", fallback="replan")
    payload(frames, "plan_requested", round=2)
    updated = payload(frames, "plan_updated", from_version=1, author="engine")
    assert updated["diff"] == {"added": [new], "removed": ["z", "a"], "changed": []}
    payload(frames, "complete", output={"spine_greeting": "hm"})


async def test_fallback_replan_without_another_plan(service: Service) -> None:
    """F6: no other way is a typed failure with the planner's findings."""
    schema = {"type": "object", "required": ["weather_on_mars"], "properties": {"weather_on_mars": {"type": "string"}}}
    step = call("a", "raises", "final", fallback="replan")
    frames = await service.run(envelope(plan(step, output={"/weather_on_mars": {"node_id": "a"}}), schema))
    assert shapes(frames) == [
        *OPENING, "node_start:a", "node_error:a", "plan_requested", "plan_rejected", "failed"
    ]  # fmt: skip
    failed = payload(frames, "failed", code="no_plan", failed_node_id="a")
    assert failed["errors"] == payload(frames, "plan_rejected", round=2)["findings"] != []


async def test_on_validation_fail_replans_with_another_capability(service: Service) -> None:
    """F5: the rule fires, the planner leaves out what failed, the new plan completes under version 2."""
    schema = {
        "type": "object", "required": ["spine_greeting"],
        "properties": {"spine_greeting": {"type": "string", "minLength": 5}},
    }  # fmt: skip
    rule = {"id": "again", "trigger": {"type": "on_validation_fail"}, "action": {"type": "replan"}}
    policies = {"runtime": [rule], "retry": {"max_attempts": 1, "base_ms": 0, "max_ms": 0}}
    frames = await service.run(greeting(schema=schema, policies=policies))
    first = frames[3].node_id
    second = frames[-2].node_id
    assert shapes(frames) == [
        "start", "plan_requested", "plan_generated", f"node_start:{first}", f"validation_error:{first}",
        f"policy_triggered:{first}", "plan_requested", "plan_updated", f"node_start:{second}",
        f"node_complete:{second}", "complete",
    ]  # fmt: skip
    payload(frames, "policy_triggered", policy_id="again", trigger="on_validation_fail", action="replan")
    assert [frame.payload["round"] for frame in frames if frame.type == "plan_requested"] == [1, 2]
    updated = payload(frames, "plan_updated", from_version=1, author="policy:again")
    assert set(updated["diff"]) == {"added", "removed", "changed"}
    assert [node["capability_id"] for node in updated["plan"]["nodes"]] == ["spine.greet"]
    assert service.calls == ["mumble", "greet"]
    payload(frames, "complete", output={"spine_greeting": "Good morning, Ana!"})


async def test_a_node_that_takes_too_long_is_stopped_and_tried_again(service: Service) -> None:
    """F6: each attempt has its own time; milliseconds count. Would have survived n8n#13856 (rounded to a minute)."""
    step = call("a", "held", "x", timeout_seconds=0.05, max_attempts=2)
    frames = await service.run(envelope(plan(step)))
    assert shapes(frames) == [*OPENING, "node_start:a", "node_retry:a", "node_start:a", "node_error:a", "failed"]
    payload(frames, "node_error", code="capability_timeout")
    assert service.calls == ["held", "held:cancelled"] * 2


async def test_a_thread_that_timed_out_is_not_doubled(service: Service) -> None:
    """R2, design §4: synchronous work never blocks the loop, and a lost thread is not started beside itself."""
    step = call("a", "blocking", "t", timeout_seconds=0.1, max_attempts=2)
    async with service.stream(envelope(plan(step))) as reader:
        await reader.until("node_retry")
        assert (await service.client.get("/livez")).status_code == 200
        frames = await reader.rest()
        service.abilities.thread_gate("t").set()
    payload(frames, "node_error", code="still_running")
    assert service.calls == ["blocking"]


@pytest.mark.parametrize("what", ["cancelled", "timeout", "exit"])
async def test_whatever_a_capability_raises_becomes_an_outcome(service: Service, what: str) -> None:
    """F6: a run never hangs and a process never dies, because a capability cancels itself, times out or exits."""
    frames = await service.run(envelope(plan(call("a", "raises", what, max_attempts=1))))
    assert shapes(frames) == [*OPENING, "node_start:a", "node_error:a", "failed"]
    payload(frames, "node_error", code="capability_error")


async def test_text_is_streamed_while_it_is_made(service: Service) -> None:
    """F7, wire §4: deltas have no id and offsets that count characters; the log line stands with the transition."""
    chain = plan(call("first", "held", "first"), call("a", "talks", of("first")))
    async with service.stream(envelope(chain)) as reader:
        await reader.until("node_start")
        service.abilities.gate("first").set()
        for _ in range(3):
            await reader.until("node_delta")
        service.abilities.gate("talks").set()
        frames = await reader.rest()
    deltas = [frame.payload for frame in frames if frame.type == "node_delta"]
    assert [(delta["offset"], delta["text"]) for delta in deltas] == [(0, "one "), (4, "two "), (8, "three")]
    assert shapes(frames) == [*OPENING, *steps("first"), "node_start:a", "log:a", "node_complete:a", "complete"]
    replayed = await service.log(frames[0].whole["run_id"])
    assert shapes(replayed) == shapes(frames)
    assert "node_delta" not in {frame.type for frame in replayed}
