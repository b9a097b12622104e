"""Loops: bounded rounds of one node, each with the last output, on both databases (F6, H6).

Would have survived dify#34402: there, a question to people cannot stand inside a loop.
"""

from __future__ import annotations

from typing import Any

from tests.spine.asking import OPENING
from tests.spine.running import Service, call, envelope, of, plan
from tests.spine.sse import payload, shapes


def loop(inner: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A loop called ``l`` around a node."""
    return {"node_id": "l", "kind": "loop", "as": "value", "node": inner, "max_iterations": 5} | more


def grow() -> dict[str, Any]:
    """An inner node that adds one."""
    return {"kind": "transform", "expression": "value + 1"}


def rounds(many: int) -> list[str]:
    return [f"node_{what}:l[{number}]" for number in range(many) for what in ("start", "complete")]


async def test_until(service: Service) -> None:
    """F6: the condition is read after every round; the output is the last one, the rounds are nodes of their own."""
    steps = plan(loop(grow(), initial={"value": 0}, until="nodes.l.output >= 3"))
    frames = await service.run(envelope(steps))
    assert shapes(frames) == [*OPENING, "node_start:l", *rounds(3), "node_complete:l", "complete"]
    payload(frames, "complete", output=3)
    run_id = frames[0].whole["run_id"]
    nodes = (await service.client.get(f"/api/v1/runs/{run_id}/nodes")).json()["items"]
    assert [(node["node_id"], node["kind"], node["status"]) for node in nodes] == [
        ("l", "loop", "completed"),
        *((f"l[{number}]", "transform", "completed") for number in range(3)),
    ]
    last = (await service.client.get(f"/api/v1/runs/{run_id}/nodes/l%5B2%5D")).json()
    assert (last["inputs"], last["output"]) == ({"value": 2}, 3)


async def test_conditions_see_the_loop_and_what_came_before(service: Service) -> None:
    """F6: under its own id the loop is its last output and how many rounds have ended; other nodes are as anywhere."""
    for condition, output in (
        ({"while": "nodes.l.output < 2"}, 2),
        ({"while": "nodes.l.iteration < 4"}, 4),
        ({"until": "nodes.l.iteration == inputs.many"}, 2),
        ({"while": "nodes.a.score > nodes.l.output"}, 3),
    ):
        steps = plan(call("a", "noop", {"score": 3}), loop(grow(), initial={"value": 0}, **condition))
        payload(await service.run(envelope(steps, inputs={"many": 2})), "complete", output=output)


async def test_no_round_at_all(service: Service) -> None:
    """F6: ``while`` is read before the first round too; then the output is what the loop began with."""
    nothing = {"while": "false"}
    frames = await service.run(envelope(plan(loop(grow(), initial={"value": 7}, **nothing))))
    assert shapes(frames) == [*OPENING, "node_start:l", "node_complete:l", "complete"]
    payload(frames, "complete", output=7)
    frames = await service.run(envelope(plan(loop(grow(), initial={"value": 7}, collect=True, **nothing))))
    payload(frames, "complete", output=[])


async def test_collect(service: Service) -> None:
    """F6: the list of all outputs, in order; it is what the loop promises, and it is checked as a whole (F11)."""
    collecting = loop(grow(), initial={"value": 0}, until="nodes.l.iteration == 3", collect=True)
    frames = await service.run(envelope(plan(collecting)))
    payload(frames, "complete", output=[1, 2, 3])
    frames = await service.run(envelope(plan(collecting), {"maxItems": 2}, policies={"on_output_invalid": "fail"}))
    assert shapes(frames)[-3:] == ["node_complete:l[2]", "validation_error:l", "failed"]
    payload(frames, "failed", code="output_contract_unmet", failed_node_id="l")


async def test_without_initial_the_first_round_gets_nothing(service: Service) -> None:
    """F6: the parameter is absent, or what the inner node binds itself; afterwards it is the last output."""
    inner: dict[str, Any] = {"kind": "transform", "expression": "$exists(value) ? value & 'x' : 'first'"}
    frames = await service.run(envelope(plan(loop(inner, until="nodes.l.iteration == 3"))))
    payload(frames, "complete", output="firstxx")
    inner = {"kind": "transform", "expression": "value & 'x'", "inputs": {"value": {"value": "mine"}}}
    frames = await service.run(envelope(plan(loop(inner, until="nodes.l.iteration == 2"))))
    payload(frames, "complete", output="minexx")


async def test_exhausted(service: Service) -> None:
    """F6: bounded. After ``max_iterations`` rounds the loop fails, or completes with what it has."""
    endless = {"initial": {"value": 0}, "until": "false", "max_iterations": 2}
    frames = await service.run(envelope(plan(loop(grow(), **endless))))
    assert shapes(frames) == [*OPENING, "node_start:l", *rounds(2), "node_error:l", "failed"]
    payload(frames, "node_error", code="loop_exhausted", fallback="abort")
    payload(frames, "failed", code="node_failed", failed_node_id="l")
    frames = await service.run(envelope(plan(loop(grow(), on_exhausted="complete", **endless))))
    assert shapes(frames) == [*OPENING, "node_start:l", *rounds(2), "node_complete:l", "complete"]
    payload(frames, "complete", output=2)


async def test_an_exhausted_loop_may_ask_people(service: Service) -> None:
    """F6: the loop's fallback is a node's like any other."""
    endless = loop(grow(), initial={"value": 0}, until="false", max_iterations=1, fallback="hitl")
    async with service.stream(envelope(plan(endless))) as reader:
        prompt = (await reader.until("hitl_request", "l")).payload["prompt"]
        await service.decided(prompt, "edit", answer="enough")
        frames = await reader.rest()
    payload(frames, "complete", output="enough")


async def test_a_question_inside_a_loop_is_answered_every_round(service: Service) -> None:
    """F6, H6: a person says how often; every round shows the last answer.."""
    asking = {"kind": "ask", "prompt": {"question": "Better?", "answer_schema": {"type": "integer"}}}
    steps = plan(loop(asking, initial={"value": 1}, until="nodes.l.output > 2", collect=True))
    said = []
    async with service.stream(envelope(steps)) as reader:
        for answer in (1, 2, 3):
            prompt = (await reader.until("hitl_request")).payload["prompt"]
            said.append((prompt["node_id"], prompt["proposed"]))
            await reader.until("run_waiting")
            await service.decided(prompt, "answer", answer=answer)
        frames = await reader.rest()
    assert said == [("l[0]", {"value": 1}), ("l[1]", {"value": 1}), ("l[2]", {"value": 2})]
    payload(frames, "complete", output=[1, 2, 3])


async def test_a_failing_round_is_tried_again_and_a_failed_one_ends_the_run(service: Service) -> None:
    """F6: rounds have attempts like any node; the rounds before are not repeated."""
    inner = {"kind": "call", "capability_id": "spine.flaky"}
    frames = await service.run(envelope(plan(loop(inner, initial={"value": 1}, until="nodes.l.output == 'steady'"))))
    assert shapes(frames)[2:6] == ["node_start:l", "node_start:l[0]", "node_retry:l[0]", "node_start:l[0]"]
    assert shapes(frames)[-1] == "complete"
    failing = {"kind": "call", "capability_id": "spine.raises", "inputs": {"value": {"value": "final"}}}
    frames = await service.run(envelope(plan(loop(failing, until="true", **{"as": "item"}))))
    assert shapes(frames)[-2:] == ["node_error:l[0]", "failed"]


async def test_a_condition_that_cannot_be_read_fails_the_loop(service: Service) -> None:
    """F6: «a plan that can make no progress ends with a clear error, never hangs»."""
    steps = plan(loop(grow(), initial={"value": 0}, until="nodes.l.output.done"))
    frames = await service.run(envelope(steps))
    assert shapes(frames)[-2:] == ["node_error:l", "failed"]
    payload(frames, "node_error", code="condition_failed")


async def test_rounds_may_wait(service: Service) -> None:
    """F6, H1: a delay or a callback per round; nothing is held meanwhile."""
    for inner in (
        # Long enough that it is not over before it is waited for, on a machine that is busy.
        {"kind": "delay", "seconds": 0.3},
        {"kind": "wait", "timeout_seconds": 0.3, "on_timeout": "continue"},
    ):
        frames = await service.run(envelope(plan(loop(inner, until="nodes.l.iteration == 2"))))
        assert shapes(frames).count("run_waiting") == shapes(frames).count("run_resumed") == 2
        assert shapes(frames)[-2:] == ["node_complete:l", "complete"]


async def test_map_items_may_ask_and_wait(service: Service) -> None:
    """F6, H6: every item is a node like any other: several questions are open at once, answered in any order."""
    asking = {"kind": "ask", "prompt": {"question": "Who?"}}
    over = {"over": {"value": ["a", "b"]}, "as": "value"}
    steps = plan(
        {"node_id": "m", "kind": "map", "node": asking, **over},
        {"node_id": "d", "kind": "map", "node": {"kind": "delay", "seconds": 0.01}, **over},
        {"node_id": "end", "kind": "join", "inputs": {"m": of("m").binding}},
    )
    run_id = await service.start(envelope(steps))
    prompts = sorted(await service.asked(run_id, 2), key=lambda prompt: prompt["node_id"])
    assert [(prompt["node_id"], prompt["proposed"]) for prompt in prompts] == [
        ("m[0]", {"value": "a"}), ("m[1]", {"value": "b"}),
    ]  # fmt: skip
    for prompt in reversed(prompts):
        await service.decided(prompt, "answer", answer=f"by {prompt['node_id']}")
    frames = await service.follow(run_id)
    payload(frames, "complete", output={"m": ["by m[0]", "by m[1]"]})


REFUSED: list[tuple[dict[str, Any], str, str, str]] = [
    ({"until": "nodes.l.output >"}, "bad_expression", "/until", "column 17"),
    ({"while": "nodes.stranger > 1"}, "unknown_node", "/while", "stranger"),
    ({}, "ambiguous_loop", "", "until, while"),
    ({"until": "true", "while": "true"}, "ambiguous_loop", "", "until, while"),
    ({"until": "true", "max_iterations": 1_001}, "less_than_equal", "/max_iterations", "1000"),
    ({"until": "true", "max_iterations": 0}, "greater_than_equal", "/max_iterations", "1"),
    (
        {"until": "true", "node": {"kind": "branch", "condition": "true", "then": "x"}},
        "inner_node_invalid",
        "/node",
        "",
    ),
    ({"until": "true", "initial": {"from": "/inputs/nobody"}}, "dangling_input", "/initial", "nobody"),
    ({"until": "true", "node": {"kind": "call", "capability_id": "spine.held"}}, "missing_param", "/node/inputs", ""),
]


async def test_a_wrong_loop_is_refused_with_its_place(service: Service) -> None:
    """W4: what cannot run is refused before anything is stored; an expression with the column of its fault."""
    for changes, code, at, says in REFUSED:
        response = await service.client.post("/api/v1/runs", json=envelope(plan(loop(grow()) | changes)))
        assert response.status_code == 422, changes
        found = [item for item in response.json()["errors"] if item["code"] == code]
        assert found, response.text
        assert found[0]["pointer"].startswith(f"/workflow/plan/nodes/0{at}")
        assert says in found[0]["message"]
    unbounded = loop(grow(), until="true")
    del unbounded["max_iterations"]
    response = await service.client.post("/api/v1/runs", json=envelope(plan(unbounded)))
    assert [(item["pointer"], item["code"]) for item in response.json()["errors"]] == [
        ("/workflow/plan/nodes/0/max_iterations", "required")
    ]
