"""Error handlers: a node that stands in for one that failed, on both databases (W5, F6, H4)."""

from __future__ import annotations

from typing import Any

import pytest

from tests.spine.asking import OPENING
from tests.spine.running import Service, call, edge, envelope, of, plan
from tests.spine.sse import payload, shapes


def handler(target: str = "a", **more: Any) -> dict[str, Any]:
    """A handler called ``h`` that puts out what it is given: why its target failed."""
    inner = {"kind": "transform", "expression": "error"}
    return {"node_id": "h", "kind": "error_handler", "handles": target, "node": inner} | more


async def test_a_handler_stands_in_for_its_target(service: Service) -> None:
    """W5: it gets the error; whoever reads the target, a condition too, reads what came of the handler."""
    after = {"node_id": "c", "kind": "branch", "condition": "nodes.a.code == 'no_such_customer'", "then": "b"}
    nodes = (call("a", "raises", "final"), handler(), after, call("b", "noop", of("a", "/message")))
    frames = await service.run(envelope(plan(*nodes)))
    assert shapes(frames) == [
        *OPENING, "node_start:a", "node_error:a", "node_start:h", "node_start:h[0]", "node_complete:h[0]",
        "node_complete:h", "node_start:c", "node_complete:c", "node_start:b", "node_complete:b", "complete",
    ]  # fmt: skip
    payload(frames, "node_error", code="no_such_customer", fallback="handler")
    payload(frames, "complete", output="There is no customer 7.")
    run_id = frames[0].whole["run_id"]
    items = (await service.client.get(f"/api/v1/runs/{run_id}/nodes")).json()["items"]
    assert {item["node_id"]: item["status"] for item in items} == {
        "a": "failed", "h": "completed", "h[0]": "completed", "c": "completed", "b": "completed",
    }  # fmt: skip


async def test_nothing_to_handle(service: Service) -> None:
    """The handler is skipped, and what follows both runs once."""
    nodes = (call("a", "noop", "fine"), handler(), call("b", "noop", of("a")))
    frames = await service.run(envelope(plan(*nodes)))
    assert shapes(frames) == [
        *OPENING, "node_start:a", "node_complete:a", "node_skipped:h", "node_start:b", "node_complete:b", "complete",
    ]  # fmt: skip
    payload(frames, "node_skipped", reason="no_error")
    payload(frames, "complete", output="fine")


async def test_attempts_and_fallbacks_come_first(service: Service) -> None:
    """F6: a handler is for what failed for good."""
    frames = await service.run(envelope(plan(call("a", "flaky", 1), handler(), output={"": {"node_id": "a"}})))
    payload(frames, "complete", output="steady")
    frames = await service.run(envelope(plan(call("a", "flaky", 9, max_attempts=2), handler())))
    assert [frame.type for frame in frames].count("node_retry") == 1
    found = payload(frames, "complete")["output"]
    assert found == {"node_id": "a", "code": "wobbly", "message": "Attempt 2 fell over.", "attempt": 2}


async def test_the_answer_reads_the_handler(service: Service) -> None:
    """F11: what stands in for a node has to fit what the node had to fit."""
    contract = {"type": "object", "required": ["x"], "properties": {"x": {"type": "string"}}}
    inner = {"kind": "transform", "expression": "error.code"}
    whole = {"/x": {"node_id": "a", "pointer": ""}}
    body = envelope(plan(call("a", "raises", "final"), handler(node=inner), output=whole), contract)
    payload(await service.run(body), "complete", output={"x": "no_such_customer"})
    unfit = envelope(
        plan(call("a", "raises", "final"), handler(), output=whole), contract, policies={"on_output_invalid": "fail"}
    )
    frames = await service.run(unfit)
    payload(frames, "failed", code="output_contract_unmet", failed_node_id="h")


async def test_an_output_that_does_not_fit_is_handled_too(service: Service) -> None:
    body = envelope(
        plan(
            call("a", "noop", 7, output={"schema": {"type": "string"}}),
            handler(node={"kind": "variable", "default": "instead"}), output={"": {"node_id": "a"}},
        ),
        policies={"on_output_invalid": "fail"},
    )  # fmt: skip
    frames = await service.run(body)
    payload(frames, "node_error", code="output_invalid", fallback="handler")
    payload(frames, "complete", output="instead")


async def test_only_these_codes(service: Service) -> None:
    for codes, end in ((["other"], "failed"), (["other", "no_such_customer"], "complete")):
        frames = await service.run(envelope(plan(call("a", "raises", "final"), handler(codes=codes))))
        assert frames[-1].type == end


async def test_a_persons_no_is_handled_only_by_name(service: Service) -> None:
    """H4, trap: a rejection never continues as an approval; what it leads to instead, the plan says by name."""
    ask = {"node_id": "a", "kind": "ask", "prompt": {"kind": "approval", "question": "Send it?", "proposed": 1}}
    for codes, end in ((None, "failed"), (["rejected"], "complete")):
        more: dict[str, Any] = {} if codes is None else {"codes": codes}
        run_id = await service.start(envelope(plan(ask, handler(**more), output={"": {"node_id": "a"}})))
        (prompt,) = await service.asked(run_id)
        await service.decided(prompt, "reject")
        frames = await service.follow(run_id)
        assert frames[-1].type == end
        if end == "complete":
            assert payload(frames, "complete")["output"]["code"] == "rejected"


async def test_the_output_gate_is_asked_either_way(service: Service) -> None:
    """H5: the last node may fail or not, the answer is approved in both cases."""
    gate = {"hitl": [{"id": "sign", "when": "output", "question": "Send it?"}]}
    for value, output in (("final", "no_such_customer"), (None, None)):
        fails = value is not None
        node = call("a", "raises", value) if fails else call("a", "noop", None)
        inner = {"kind": "transform", "expression": "error.code"}
        whole = {"": {"node_id": "a", "pointer": ""}}
        body = envelope(plan(node, handler(node=inner), output=whole), policies=gate)
        run_id = await service.start(body)
        (prompt,) = await service.asked(run_id)
        assert (prompt["question"], prompt["proposed"]) == ("Send it?", output)
        await service.decided(prompt, "approve")
        payload(await service.follow(run_id), "complete", output=output)


async def test_a_handler_asks_people(service: Service) -> None:
    """H6: any kind of node stands in: here a question, with another branch that goes on meanwhile."""
    inner = {"kind": "ask", "prompt": {"question": "What shall it be?", "answer_schema": {"type": "string"}}}
    nodes = (
        call("a", "raises", "final"), handler(node=inner), call("beside", "noop", 1),
        {"node_id": "j", "kind": "join", "inputs": {"a": {"node_id": "a"}, "b": {"node_id": "beside"}}},
    )  # fmt: skip
    run_id = await service.start(envelope(plan(*nodes)))
    (prompt,) = await service.asked(run_id)
    assert prompt["proposed"]["error"]["code"] == "no_such_customer"
    await service.decided(prompt, "answer", answer="this")
    payload(await service.follow(run_id), "complete", output={"a": "this", "b": 1})


async def test_a_handler_that_fails_fails_the_run(service: Service) -> None:
    inner = {"kind": "call", "capability_id": "spine.raises", "inputs": {"value": {"value": "final"}}}
    frames = await service.run(envelope(plan(call("a", "raises", "final"), handler(node=inner))))
    payload(frames, "failed", code="node_failed", failed_node_id="h[0]")


async def test_a_subflow_is_handled_as_a_whole(service: Service) -> None:
    """What may not have a handler of its own may stand in a subflow: here a map."""
    items = {"node_id": "m", "kind": "map", "over": {"value": [1, 2]}, "as": "value",
             "node": {"kind": "call", "capability_id": "spine.raises"}}  # fmt: skip
    sub = {"node_id": "a", "kind": "subflow", "plan": plan(items), "max_attempts": 1}
    frames = await service.run(envelope(plan(sub, handler())))
    assert payload(frames, "complete")["output"]["node_id"] == "a"


async def test_a_handled_run_is_forked(service: Service) -> None:
    """What failed begins afresh in a fork; the handler that completed there is there if it fails again."""
    nodes = (call("a", "raises", "final"), handler(), call("b", "noop", of("a", "/code")))
    frames = await service.run(envelope(plan(*nodes)))
    run_id = frames[0].whole["run_id"]
    answer = await service.client.post(f"/api/v1/runs/{run_id}/fork", json={"node_id": "b"})
    assert answer.status_code == 202, answer.text
    payload(await service.follow(answer.json()["run_id"]), "complete", output="no_such_customer")


@pytest.mark.parametrize(
    ("nodes", "code"),
    [
        ([call("a", "noop"), handler("zz")], "dangling_reference"),
        ([call("a", "noop"), handler(), handler() | {"node_id": "h2"}], "handler_twice"),
        ([{"node_id": "a", "kind": "map", "over": {"value": []}, "node": {"kind": "join"}}, handler()],
         "handler_misplaced"),
        ([{"node_id": "a", "kind": "branch", "condition": "true", "then": "b"}, call("b", "noop"), handler()],
         "handler_misplaced"),
        ([call("a", "noop"), handler(), handler("h") | {"node_id": "h2"}], "handler_misplaced"),
        ([call("a", "noop"), {"node_id": "h", "kind": "error_handler", "handles": "a"}], "required"),
        ([call("a", "noop"), handler(codes=[])], "too_short"),
    ],
)  # fmt: skip
async def test_a_handler_that_cannot_work_is_refused(service: Service, nodes: list[dict[str, Any]], code: str) -> None:
    """W4."""
    answer = await service.client.post("/api/v1/runs", json=envelope(plan(*nodes)))
    assert answer.status_code == 422
    assert code in [item["code"] for item in answer.json()["errors"]], answer.text


async def test_gates_after_it_have_no_place(service: Service) -> None:
    rule = {"id": "r", "when": "after", "selector": {"node_id": "a"}, "question": "Well?"}
    body = envelope(plan(call("a", "noop"), handler(), call("b", "noop", of("a"))), policies={"hitl": [rule]})
    answer = await service.client.post("/api/v1/runs", json=body)
    assert (answer.status_code, answer.json()["errors"][0]["code"]) == (422, "gate_unplaceable")


async def test_a_variable_names_a_value(service: Service) -> None:
    """W5: bound by later nodes, read by conditions, checked where it is made."""
    limit = {
        "node_id": "limit", "kind": "variable", "inputs": {"value": {"from": "/inputs/limit"}},
        "output": {"schema": {"type": "integer"}},
    }  # fmt: skip
    nodes = (
        limit,
        {"node_id": "b", "kind": "branch", "condition": "nodes.limit > 10", "then": "large", "else": "small"},
        call("large", "noop", of("limit")), call("small", "noop", "small"),
        {"node_id": "late", "kind": "variable", "inputs": {"value": {"node_id": "large"}}, "default": "none"},
    )  # fmt: skip
    edges = [edge("small", "late")]
    for value, output in ((11, 11), (3, "none")):
        payload(
            await service.run(envelope(plan(*nodes, edges=edges), inputs={"limit": value})), "complete", output=output
        )
    unfit = envelope(plan(*nodes, edges=edges), inputs={"limit": "many"}, policies={"on_output_invalid": "fail"})
    payload(await service.run(unfit), "failed", code="output_contract_unmet", failed_node_id="limit")
    without = {name: value for name, value in nodes[4].items() if name != "default"}
    missing = envelope(plan(*nodes[:4], without, edges=edges), inputs={"limit": 3})
    payload(await service.run(missing), "node_error", code="input_missing")


async def test_a_plan_says_where_it_begins_and_ends(service: Service) -> None:
    """W5."""
    nodes = (
        {"node_id": "go", "kind": "start"}, call("a", "noop", of("go", "/x")),
        {"node_id": "done", "kind": "end", "inputs": {"x": {"node_id": "a"}}},
    )  # fmt: skip
    gates = {"hitl": [{"id": name, "when": when} for name, when in (("first", "plan"), ("last", "output"))]}
    async with service.stream(envelope(plan(*nodes), inputs={"x": 1}, policies=gates)) as reader:
        for _ in range(2):
            prompt = (await reader.until("hitl_request")).payload["prompt"]
            await service.decided(prompt, "approve")
        payload(await reader.rest(), "complete", output={"x": 1})


@pytest.mark.parametrize(
    ("nodes", "edges", "code"),
    [
        ([{"node_id": "s", "kind": "start"}, call("a", "noop")], [edge("a", "s")], "start_not_first"),
        ([{"node_id": "s", "kind": "start"}, {"node_id": "t", "kind": "start"}], [], "start_twice"),
        ([{"node_id": "e", "kind": "end"}, call("a", "noop")], [edge("e", "a")], "end_not_last"),
        ([{"node_id": "s", "kind": "start", "inputs": {"x": {"value": 1}}}], [], "unknown_input"),
        ([{"node_id": "v", "kind": "variable"}], [], "input_missing"),
        ([{"node_id": "v", "kind": "variable", "inputs": {"values": {"value": 1}}}], [], "unknown_input"),
    ],
)
async def test_a_plan_that_says_so_wrongly_is_refused(
    service: Service, nodes: list[dict[str, Any]], edges: list[dict[str, Any]], code: str
) -> None:
    """W4."""
    answer = await service.client.post("/api/v1/runs", json=envelope(plan(*nodes, edges=edges)))
    assert answer.status_code == 422
    assert code in [item["code"] for item in answer.json()["errors"]], answer.text
