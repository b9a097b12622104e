"""What a run says, frame by frame, for every row of the table of sequences (F7, F8; design §7), on both databases."""

from __future__ import annotations

from tests.spine.running import Service, call, envelope, greeting, of, plan
from tests.spine.sse import payload, shapes

OPENING = ["start", "plan_generated"]
PLANNED = ["start", "plan_requested", "plan_generated"]
SHORT = {"type": "string", "minLength": 5}


async def test_happy(service: Service) -> None:
    """F1, F4, F7: planned by search, walked, and completed with what the caller's schema asked for."""
    frames = await service.run(greeting(correlation_id="cid-7"))
    node = frames[3].node_id
    assert shapes(frames) == [*PLANNED, f"node_start:{node}", f"node_complete:{node}", "complete"]
    assert {frame.whole["correlation_id"] for frame in frames} == {"cid-7"}
    assert len({frame.whole["run_id"] for frame in frames}) == 1
    run_id = frames[0].whole["run_id"]
    payload(frames, "start", objective="Do it", links={"events": f"/api/v1/runs/{run_id}/events"})
    payload(frames, "plan_requested", round=1, strategy="search")
    shown = payload(frames, "plan_generated")["plan"]
    assert [step["capability_id"] for step in shown["nodes"]] == ["spine.mumble"]
    assert shown["nodes"][0]["rationale"]
    payload(frames, "node_start", attempt=1, kind="call", capability_id="spine.mumble", resumed=False)
    payload(frames, "node_complete", attempt=1, output="hm")
    payload(frames, "complete", output={"spine_greeting": "hm"}, usage={"tokens": 0, "cost": 0}, waited_ms=0)


async def test_a_submitted_plan_is_not_requested(service: Service) -> None:
    """Wire §5a: a chain somebody wrote starts with its plan; nodes come in order."""
    chain = plan(call("a", "noop", 1), call("b", "noop", of("a")), call("c", "noop", of("b")))
    frames = await service.run(envelope(chain))
    nodes = [f"node_{what}:{name}" for name in "abc" for what in ("start", "complete")]
    assert shapes(frames) == [*OPENING, *nodes, "complete"]
    assert payload(frames, "plan_generated")["plan"]["strategy"] == "submitted"
    payload(frames, "complete", output=1)


async def test_retry(service: Service) -> None:
    """F6: two failures, each announced, then the output; the idempotency key is the same for every retry."""
    frames = await service.run(envelope(plan(call("a", "flaky", 2))))
    tries = ["node_start:a", "node_retry:a", "node_start:a", "node_retry:a", "node_start:a", "node_complete:a"]
    assert shapes(frames) == [*OPENING, *tries, "complete"]
    retries = [frame.payload for frame in frames if frame.type == "node_retry"]
    assert [(each["attempt"], each["next_attempt"], each["code"]) for each in retries] == [
        (1, 2, "wobbly"),
        (2, 3, "wobbly"),
    ]
    assert [frame.payload["attempt"] for frame in frames if frame.type == "node_start"] == [1, 2, 3]
    assert len(service.abilities.KEYS) == 3
    assert len(set(service.abilities.KEYS)) == 1
    run_id = frames[0].whole["run_id"]
    node = (await service.client.get(f"/api/v1/runs/{run_id}/nodes/a")).json()
    assert [(each["attempt"], each["status"]) for each in node["attempts"]] == [
        (1, "failed"), (2, "failed"), (3, "completed")
    ]  # fmt: skip


async def test_an_output_that_does_not_fit_is_repaired_by_its_node(service: Service) -> None:
    """F11: checked before ``node_complete``; attempt 2 is given the pointers.

    Would have survived adk-python#3969, agent-framework#3268, claude-code#67311: schema ignored, or retried unbounded.
    """
    step = call("a", "pleases", ["no", "long enough"])
    frames = await service.run(envelope(plan(step), SHORT))
    assert shapes(frames) == [
        *OPENING, "node_start:a", "validation_error:a", "node_retry:a", "node_start:a", "node_complete:a", "complete"
    ]  # fmt: skip
    found = payload(frames, "validation_error", scope="node_output", attempt=1)["errors"]
    assert [(item["pointer"], item["keyword"]) for item in found] == [("", "minLength")]
    payload(frames, "node_retry", code="output_invalid", attempt=1, next_attempt=2)
    assert [[], found] == service.abilities.SEEN
    payload(frames, "complete", output="long enough")


async def test_an_output_that_never_fits_is_repaired_by_a_person(service: Service) -> None:
    """F11: bounded attempts, then a form made from the same schema; what the person sends completes the run."""
    async with service.stream(envelope(plan(call("a", "pleases", ["no"])), SHORT)) as reader:
        prompt = (await reader.until("hitl_request")).payload["prompt"]
        assert prompt["kind"] == "repair"
        assert (prompt["node_id"], prompt["proposed"], prompt["actions"]) == ("a", "no", ["edit", "reject"])
        assert prompt["answer_schema"] == SHORT
        await reader.until("run_waiting")
        refused = await service.decide(prompt["prompt_id"], "edit", answer="sho")
        assert (refused.status_code, refused.json()["code"]) == (422, "answer_invalid")
        assert refused.json()["errors"][0]["pointer"] == "/answer"
        await service.decided(prompt, "edit", answer="mended")
        frames = await reader.rest()
    again = ["validation_error:a", "node_retry:a", "node_start:a"]
    assert shapes(frames) == [
        *OPENING, "node_start:a", *again, *again, "validation_error:a", "hitl_request:a", "run_waiting",
        "hitl_resolved:a", "run_resumed", "node_complete:a", "complete",
    ]  # fmt: skip
    payload(frames, "hitl_resolved", prompt_id=prompt["prompt_id"], status="settled")
    payload(frames, "complete", output="mended")


async def test_an_output_that_never_fits_fails_where_the_policy_says_so(service: Service) -> None:
    """F11: ``on_output_invalid: fail`` is a typed failure with every failing place, no output."""
    policies = {"on_output_invalid": "fail", "retry": {"max_attempts": 2, "base_ms": 0, "max_ms": 0}}
    frames = await service.run(envelope(plan(call("a", "pleases", ["no"])), SHORT, policies=policies))
    assert shapes(frames) == [
        *OPENING, "node_start:a", "validation_error:a", "node_retry:a", "node_start:a", "validation_error:a", "failed"
    ]  # fmt: skip
    failed = payload(frames, "failed", code="output_contract_unmet", failed_node_id="a")
    assert [(item["pointer"], item["keyword"]) for item in failed["errors"]] == [("", "minLength")]


async def test_a_repair_that_is_refused_fails_the_run(service: Service) -> None:
    """H4: a rejected repair is never taken for an output."""
    policies = {"retry": {"max_attempts": 1, "base_ms": 0, "max_ms": 0}}
    async with service.stream(envelope(plan(call("a", "pleases", ["no"])), SHORT, policies=policies)) as reader:
        prompt = (await reader.until("hitl_request")).payload["prompt"]
        await service.decided(prompt, "reject", comment="hopeless")
        frames = await reader.rest()
    assert shapes(frames)[-5:] == ["run_waiting", "hitl_resolved:a", "run_resumed", "node_error:a", "failed"]
    payload(frames, "failed", code="rejected", failed_node_id="a")


async def test_node_failure(service: Service) -> None:
    """F8: attempts that all fail end the run with a code, a sentence and the node; nothing of the inside leaks."""
    policies = {"retry": {"max_attempts": 2, "base_ms": 0, "max_ms": 0}}
    frames = await service.run(envelope(plan(call("a", "flaky", 9), call("b", "noop", of("a"))), policies=policies))
    assert shapes(frames) == [*OPENING, "node_start:a", "node_retry:a", "node_start:a", "node_error:a", "failed"]
    payload(frames, "node_error", attempt=2, code="wobbly", message="Attempt 2 fell over.", fallback="abort")
    payload(frames, "failed", code="node_failed", failed_node_id="a", retryable=True)
    assert "b" not in {frame.node_id for frame in frames}


async def test_a_failure_for_good_is_not_retried(service: Service) -> None:
    """F6: a non-retryable error ends the node at its first attempt."""
    frames = await service.run(envelope(plan(call("a", "raises", "final"))))
    assert shapes(frames) == [*OPENING, "node_start:a", "node_error:a", "failed"]
    payload(frames, "node_error", attempt=1, code="no_such_customer", message="There is no customer 7.")


async def test_no_stack_trace_reaches_a_client(service: Service) -> None:
    """F8: an exception nobody foresaw becomes a code and one line; no file, no line number, no traceback."""
    frames = await service.run(envelope(plan(call("a", "raises"))))
    assert frames[-1].type == "failed"
    everything = str([frame.whole for frame in frames])
    assert "Traceback" not in everything
    assert ".py" not in everything
    assert payload(frames, "node_error")["code"] == "capability_error"


async def test_unserved_objective(service: Service) -> None:
    """F4, F8: the refusal is a run with findings that say what is missing and what would help."""
    schema = {"type": "object", "required": ["weather_on_mars"], "properties": {"weather_on_mars": {"type": "object"}}}
    frames = await service.run(envelope(schema=schema))
    assert shapes(frames) == ["start", "plan_requested", "plan_rejected", "failed"]
    findings = payload(frames, "plan_rejected", round=1)["findings"]
    assert findings
    assert all({"layer", "code", "severity", "message"} <= set(finding) for finding in findings)
    assert payload(frames, "failed", code="no_plan", failed_node_id=None, retryable=False)["errors"] == findings


async def test_cancel_while_running(service: Service) -> None:
    """F8: cancelling reaches the work under way and ends the stream with who and why."""
    async with service.stream(envelope(plan(call("a", "held", "x"), call("b", "noop", of("a"))))) as reader:
        run_id = (await reader.until("start")).whole["run_id"]
        await service.abilities.arrived("x").wait()
        answer = await service.client.post(f"/api/v1/runs/{run_id}/cancel", json={"reason": "wrong customer"})
        assert answer.status_code == 202
        frames = await reader.rest()
    assert shapes(frames) == [*OPENING, "node_start:a", "cancelled"]
    payload(frames, "cancelled", by="user:local", reason="wrong customer")
    assert service.calls == ["held", "held:cancelled"]
    detail = await service.detail(run_id)
    assert (detail["status"], detail["error"]["code"]) == ("cancelled", "cancelled")
    again = await service.client.post(f"/api/v1/runs/{run_id}/cancel", json={})
    assert (again.status_code, again.json()["code"]) == (409, "invalid_run_state")


async def test_cancel_while_waiting(service: Service) -> None:
    """F8, H1: a run that nobody holds is cancelled too, and its prompt can no longer be decided."""
    asked = {"node_id": "a", "kind": "ask", "prompt": {"question": "Well?"}}
    async with service.stream(envelope(plan(asked))) as reader:
        prompt = (await reader.until("hitl_request")).payload["prompt"]
        await reader.until("run_waiting")
        await service.client.post(f"/api/v1/runs/{prompt['run_id']}/cancel")
        frames = await reader.rest()
    assert shapes(frames) == [*OPENING, "node_start:a", "hitl_request:a", "run_waiting", "cancelled"]
    late = await service.decide(prompt["prompt_id"], "answer", answer="too late")
    assert (late.status_code, late.json()["code"]) == (409, "prompt_settled")
    assert (await service.client.get("/api/v1/prompts")).json()["items"] == []


async def test_budget_spent(service: Service) -> None:
    """F5: what is spent is counted, and nothing more is dispatched past it."""
    policies = {"budget": {"tokens": 150, "human_asks": 3}}
    chain = plan(call("a", "costly"), call("b", "costly", of("a")), call("c", "costly", of("b")))
    frames = await service.run(envelope(chain, policies=policies))
    nodes = ["node_start:a", "node_complete:a", "node_start:b", "node_complete:b"]
    assert shapes(frames) == [*OPENING, *nodes, "failed"]
    payload(frames, "failed", code="budget_spent")
    assert service.calls == ["costly", "costly"]
    detail = await service.detail(frames[0].whole["run_id"])
    assert detail["usage"] == {"tokens": 200, "cost": 2.0}


async def test_the_budget_of_questions(service: Service) -> None:
    """F5, H3: policy-made prompts are counted; one too many ends the run instead of asking."""
    hitl = [{"id": f"g{n}", "when": "output"} for n in range(2)]
    policies = {"hitl": hitl, "budget": {"human_asks": 1}}
    async with service.stream(envelope(plan(call("a", "noop", 1)), policies=policies)) as reader:
        prompt = (await reader.until("hitl_request")).payload["prompt"]
        await service.decided(prompt, "approve")
        frames = await reader.rest()
    payload(frames, "failed", code="budget_spent")
    assert shapes(frames).count("hitl_request:g0") == 1
    assert "hitl_request:g1" not in shapes(frames)


async def test_deadline_exceeded(service: Service) -> None:
    """F6: the run's own time for work ends it; the work under way is stopped."""
    policies = {"timeouts": {"run_seconds": 0.2, "node_seconds": 30}}
    frames = await service.run(envelope(plan(call("a", "held", "x")), policies=policies))
    assert shapes(frames) == [*OPENING, "node_start:a", "failed"]
    payload(frames, "failed", code="deadline_exceeded", retryable=True)
    assert service.calls == ["held", "held:cancelled"]
