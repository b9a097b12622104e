"""Runtime rules (F5): every trigger with every action, to the frame, on both databases.

The trap of an older system: triggers were accepted and never evaluated.
"""

from __future__ import annotations

from typing import Any

import pytest

from tests.plans.steering import asked_of, fire, resume, rule
from tests.spine.running import Service, call, envelope, plan
from tests.spine.sse import Frame, Reader, shapes

OPENING = ["start", "plan_requested", "plan_generated"]
RETRY = {"max_attempts": 1, "base_ms": 0, "max_ms": 0}
GREET = ["node_start:spine_greeting", "node_complete:spine_greeting"]
AGAIN = ["node_start:spine_greeting_2", "node_complete:spine_greeting_2"]
ASKED = ["hitl_request:r.1", "run_waiting", "hitl_resolved:r.1", "run_resumed", "node_complete:r.1"]
HALT = ["run_waiting", "run_resumed"]
PLAN = ["plan_requested", "plan_updated"]


def searched(facet: str, inputs: dict[str, Any], schema: Any, **policies: Any) -> dict[str, Any]:
    """An envelope that the planner has to find a plan for."""
    whole = {"type": "object", "required": [facet], "properties": {facet: schema}}
    return envelope(schema=whole, inputs=inputs, policies={"retry": RETRY, **policies})


def greeted(*rules: Any, schema: Any = None, **policies: Any) -> dict[str, Any]:
    """A greeting with rules; the cheaper capability says «hm», the other one more."""
    return searched(
        "spine_greeting", {"spine_who": "Ana"}, schema or {"type": "string"}, runtime=list(rules), **policies
    )


def worded(*rules: Any, **policies: Any) -> dict[str, Any]:
    """A word with rules; the cheaper capability runs out of its time."""
    more = {"timeouts": {"node_seconds": 0.05}, "retry": {**RETRY, "max_attempts": 2}} | policies
    return searched("plans_word", {"plans_who": "Ana"}, {"type": "string"}, runtime=list(rules), **more)


LONG = {"type": "string", "minLength": 5}
GATE = [{"id": "gate", "when": "output"}]
UNMET = ["node_start:spine_greeting", "validation_error:spine_greeting"]
LATE, TRIED = "policy_triggered:plans_word", ["node_start:plans_word"]
FIRED = "policy_triggered:spine_greeting"
MANUAL = [*OPENING, *GREET, "node_start:gate", "hitl_request:gate", "run_waiting", "policy_triggered"]
GATED = ["hitl_resolved:gate", "run_resumed", "node_complete:gate", "complete"]

EXPECTED: dict[tuple[str, str], list[str]] = {
    ("on_start", "emit"): [*OPENING, "policy_triggered", "log", *GREET, "complete"],
    ("on_start", "pause"): [*OPENING, "policy_triggered", *HALT, *GREET, "complete"],
    ("on_start", "fail"): [*OPENING, "policy_triggered", "failed"],
    ("on_start", "hitl"): [*OPENING, "policy_triggered", *ASKED, *GREET, "complete"],
    ("on_start", "replan"): [*OPENING, "policy_triggered", *PLAN, *GREET, "complete"],
    ("on_node_complete", "emit"): [*OPENING, *GREET, FIRED, "log:spine_greeting", "complete"],
    ("on_node_complete", "pause"): [*OPENING, *GREET, FIRED, *HALT, "complete"],
    ("on_node_complete", "fail"): [*OPENING, *GREET, FIRED, "failed"],
    ("on_node_complete", "hitl"): [*OPENING, *GREET, FIRED, *ASKED, "complete"],
    ("on_node_complete", "replan"): [*OPENING, *GREET, FIRED, *PLAN, *AGAIN, "complete"],
    ("on_validation_fail", "emit"): [*OPENING, *UNMET, FIRED, "log:spine_greeting", "failed"],
    ("on_validation_fail", "pause"): [*OPENING, *UNMET, FIRED, "failed"],
    ("on_validation_fail", "fail"): [*OPENING, *UNMET, FIRED, "failed"],
    ("on_validation_fail", "hitl"): [
        *OPENING, *UNMET, FIRED, *ASKED, "node_retry:spine_greeting", *UNMET, FIRED, "hitl_request:r.2", "run_waiting",
        "hitl_resolved:r.2", "run_resumed", "node_error:r.2", "failed",
    ],
    ("on_validation_fail", "replan"): [*OPENING, *UNMET, FIRED, *PLAN, *GREET, "complete"],
    ("on_timeout", "emit"): [
        *OPENING, *TRIED, LATE, "log:plans_word", "node_retry:plans_word", *TRIED, LATE, "log:plans_word",
        "node_error:plans_word", "failed",
    ],
    ("on_timeout", "pause"): [
        *OPENING, *TRIED, LATE, "node_retry:plans_word", *HALT, *TRIED, LATE, "node_error:plans_word", "failed",
    ],
    ("on_timeout", "fail"): [*OPENING, *TRIED, LATE, "failed"],
    ("on_timeout", "hitl"): [
        *OPENING, *TRIED, LATE, *ASKED, "node_retry:plans_word", *TRIED, LATE, "hitl_request:r.2", "run_waiting",
        "hitl_resolved:r.2", "run_resumed", "node_error:r.2", "failed",
    ],
    ("on_timeout", "replan"): [*OPENING, *TRIED, LATE, *PLAN, *TRIED, "node_complete:plans_word", "complete"],
    ("manual", "emit"): [*MANUAL, "log", *GATED],
    ("manual", "pause"): [*MANUAL, "run_waiting", *GATED[:3], "run_waiting", "run_resumed", "complete"],
    ("manual", "fail"): [*MANUAL, "failed"],
    ("manual", "hitl"): [
        *MANUAL, "hitl_request:r.1", "run_waiting", "hitl_resolved:r.1", "run_resumed", "node_complete:r.1",
        "run_waiting", *GATED,
    ],
    ("manual", "replan"): [
        *MANUAL, "run_resumed", *PLAN, "run_waiting", *GATED,
    ],
}  # fmt: skip
TRIGGERS = ("on_start", "on_node_complete", "on_validation_fail", "on_timeout", "manual")
ACTIONS = ("emit", "pause", "fail", "hitl", "replan")


def test_every_trigger_meets_every_action() -> None:
    """F5: nothing that is accepted is left out of the table below."""
    assert EXPECTED.keys() == {(trigger, action) for trigger in TRIGGERS for action in ACTIONS}


def envelope_of(trigger: str, action: str) -> dict[str, Any]:
    """The envelope in which a trigger comes to fire."""
    when: dict[str, Any] = {"type": trigger}
    if (trigger, action) == ("on_node_complete", "replan"):
        when["condition"] = "facets.spine_greeting == 'hm'"
    said = rule("r", when, {"type": action, "message": "so"} if action != "hitl" else action)
    if trigger == "on_timeout":
        return worded(said)
    if trigger == "on_validation_fail":
        return greeted(said, schema=LONG, on_output_invalid="fail")
    return greeted(said, hitl=GATE if trigger == "manual" else [])


async def steered(service: Service, reader: Reader, trigger: str, action: str) -> list[Frame]:
    """Do what people do in that case: let go on once, then say no; resume; approve the output."""
    if trigger == "manual":
        gate = await asked_of(reader, "gate")
        run_id = gate["run_id"]
        assert (await fire(service, run_id, "r")).status_code == 200
        if action == "fail":
            return await reader.rest()
        if action == "hitl":
            await service.decided(await asked_of(reader, "r.1"), "approve")
        if action == "replan":
            await reader.until("plan_updated")
        await service.decided(gate, "approve")
        if action == "pause":
            await reader.until("node_complete", "gate")
            await reader.until("run_waiting")
            await resume(service, run_id)
        return await reader.rest()
    if action == "hitl":
        await service.decided(await asked_of(reader, "r.1"), "approve")
        if trigger in ("on_validation_fail", "on_timeout"):
            await service.decided(await asked_of(reader, "r.2"), "reject", comment="no more")
    if action == "pause" and trigger != "on_validation_fail":
        waiting = await reader.until("run_waiting")
        assert waiting.payload["waiting_on"] == ["paused"]
        await resume(service, str(reader.frames[0].whole["run_id"]))
    return await reader.rest()


@pytest.mark.parametrize("trigger", TRIGGERS)
async def test_a_trigger_fires_each_action(service: Service, trigger: str) -> None:
    """F5: each action of a trigger, to the frame; what was fired is told, and why."""
    for action in ACTIONS:
        async with service.stream(envelope_of(trigger, action)) as reader:
            frames = await steered(service, reader, trigger, action)
        assert shapes(frames) == EXPECTED[trigger, action], action
        fired = [frame.payload for frame in frames if frame.type == "policy_triggered"]
        assert all(one == {"policy_id": "r", "trigger": trigger, "action": action} for one in fired)
        _checked_end(frames, trigger, action)


def _checked_end(frames: list[Frame], trigger: str, action: str) -> None:
    """Each end says whose it is."""
    end = frames[-1]
    if action == "fail":
        about = {"on_start": None, "manual": None, "on_timeout": "plans_word"}.get(trigger, "spine_greeting")
        assert (end.payload["code"], end.payload["message"]) == ("policy_failed", "so")
        assert end.payload["failed_node_id"] == about
    elif action == "emit":
        assert next(frame.payload for frame in frames if frame.type == "log") == {"level": "info", "message": "so"}
    elif action == "hitl" and end.type == "failed":
        assert (end.payload["code"], end.payload["failed_node_id"]) == ("rejected", "r.2")
    elif action == "replan":
        updated = next(frame.payload for frame in frames if frame.type == "plan_updated")
        assert (updated["author"], updated["reason"]) == ("policy:r", "so")


async def test_what_people_are_shown_and_asked(service: Service) -> None:
    """H3: a rule's question has its own words and policy, shows what it is about, and offers yes or no."""
    asks = {
        "type": "hitl",
        "question": "Is this polite enough?",
        "policy": {"assignees": {"users": ["user:local"]}, "due_seconds": 3_600},
    }
    async with service.stream(greeted(rule("polite", "on_node_complete", asks))) as reader:
        prompt = await asked_of(reader, "polite.1")
        assert (prompt["kind"], prompt["question"]) == ("approval", "Is this polite enough?")
        assert prompt["actions"] == ["approve", "reject"]
        assert prompt["assignees"] == {"users": ["user:local"], "roles": [], "groups": []}
        assert prompt["due_at"] is not None
        assert prompt["proposed"] == {"node_id": "spine_greeting", "output": "hm", "error": None}
        await service.decided(prompt, "reject", comment="rude")
        frames = await reader.rest()
    assert shapes(frames)[-2:] == ["node_error:polite.1", "failed"]
    assert (frames[-1].payload["code"], "rude" in frames[-1].payload["message"]) == ("rejected", True)


async def test_rules_fire_in_their_order_until_one_ends_it(service: Service) -> None:
    """F5: ``fail`` and ``replan`` end the firing of their trigger; what is disabled or about others does not fire."""
    rules = [
        rule("off", "on_node_complete", "fail", enabled=False),
        rule("other", {"type": "on_node_complete", "selector": {"node_id": "elsewhere"}}, "fail"),
        rule("say", "on_node_complete", "emit"),
        rule("plan", {"type": "on_node_complete", "condition": "facets.spine_greeting == 'hm'"}, "replan"),
        rule("end", "on_node_complete", "fail"),
    ]
    frames = await service.run(greeted(*rules))
    fired = [(frame.node_id, frame.payload["policy_id"]) for frame in frames if frame.type == "policy_triggered"]
    assert fired == [
        ("spine_greeting", "say"), ("spine_greeting", "plan"), ("spine_greeting_2", "say"), ("spine_greeting_2", "end"),
    ]  # fmt: skip
    assert frames[-1].payload["code"] == "policy_failed"


async def test_two_questions_about_one_node_are_both_answered(service: Service) -> None:
    """H6: what follows the node starts when the last of them is answered, in whatever order."""
    steps = plan(call("a", "noop", 1), call("b", "noop", 2), call("c", "noop", 3))
    steps["edges"] = [{"from": "a", "to": "c"}, {"from": "b", "to": "c"}]
    rules = [rule(name, {"type": "on_node_complete", "selector": {"node_id": "a"}}, "hitl") for name in ("one", "two")]
    async with service.stream(envelope(steps, policies={"runtime": rules})) as reader:
        first = (await reader.until("hitl_request", "one.1")).payload["prompt"]
        second = await asked_of(reader, "two.1")
        assert sorted(service.calls) == ["noop", "noop"]
        await service.decided(second, "approve")
        await reader.until("node_complete", "two.1")
        again = await reader.until("run_waiting")
        assert again.payload["prompt_ids"] == [first["prompt_id"]]
        assert len(service.calls) == 2
        await service.decided(first, "approve")
        frames = await reader.rest()
    assert shapes(frames)[-4:] == ["node_complete:one.1", "node_start:c", "node_complete:c", "complete"]


async def test_only_what_follows_the_node_waits(service: Service) -> None:
    """H6: other branches run on while a rule's question is open."""
    steps = plan(
        call("a", "noop", 1), call("after", "noop", 2), call("b", "held", "b"), call("far", "noop", 4),
        output={"/x": {"node_id": "after"}, "/y": {"node_id": "far"}},
        edges=[{"from": "a", "to": "after"}, {"from": "b", "to": "far"}],
    )  # fmt: skip
    asks = rule("r", {"type": "on_node_complete", "selector": {"node_id": "a"}}, "hitl")
    async with service.stream(envelope(steps, policies={"runtime": [asks]})) as reader:
        prompt = (await reader.until("hitl_request", "r.1")).payload["prompt"]
        service.abilities.gate("b").set()
        await reader.until("node_complete", "far")
        await reader.until("run_waiting")
        assert "node_start:after" not in shapes(reader.frames)
        await service.decided(prompt, "approve")
        frames = await reader.rest()
    assert shapes(frames)[-3:] == ["node_start:after", "node_complete:after", "complete"]


async def test_without_a_node_nothing_at_all_is_dispatched(service: Service) -> None:
    """F5: a question by hand holds every dispatch; what runs may end."""
    steps = plan(call("a", "held", "a"), call("b", "noop", 2), edges=[{"from": "a", "to": "b"}])
    async with service.stream(envelope(steps, policies={"runtime": [rule("r", "manual", "hitl")]})) as reader:
        start = await reader.until("node_start", "a")
        assert (await fire(service, str(start.whole["run_id"]), "r")).status_code == 200
        prompt = (await reader.until("hitl_request", "r.1")).payload["prompt"]
        service.abilities.gate("a").set()
        await reader.until("run_waiting")
        assert shapes(reader.frames)[-2:] == ["node_complete:a", "run_waiting"]
        await service.decided(prompt, "approve")
        frames = await reader.rest()
    assert shapes(frames)[-4:] == ["node_complete:r.1", "node_start:b", "node_complete:b", "complete"]


async def test_rounds_of_planning_are_bounded(service: Service) -> None:
    """F5: with no round left the rule fires and says so, and the run goes on as without it."""
    steps = plan(call("a", "noop", 1), call("b", "noop", 2), call("c", "noop", 3))
    steps["edges"] = [{"from": "a", "to": "b"}, {"from": "b", "to": "c"}]
    rules = [rule("r", {"type": "on_node_complete", "selector": {"kind": "call"}}, "replan")]
    schema = {"type": "object", "required": ["spine_greeting"], "properties": {"spine_greeting": {"type": "string"}}}
    body = greeted(*rules) | {"output_contract": {"mode": "json_schema", "schema": schema}}
    frames = await service.run(body)
    assert [frame.payload["round"] for frame in frames if frame.type == "plan_requested"] == [1, 2, 3]
    assert shapes(frames) == [
        *OPENING, *GREET, FIRED, *PLAN, *AGAIN, "policy_triggered:spine_greeting_2", "plan_requested", "plan_rejected",
        "complete",
    ]  # fmt: skip
    assert frames[-1].payload["output"] == {"spine_greeting": "Good morning, Ana!"}


async def test_a_condition_that_cannot_be_read_is_told_and_does_not_fire(service: Service) -> None:
    """F5: not silently. The same reason is not told twice."""
    when = {"type": "on_node_complete", "condition": "facets.spine_greeting.score > 1"}
    steps = plan(call("a", "noop", 1), call("b", "noop", 2), edges=[{"from": "a", "to": "b"}])
    frames = await service.run(envelope(steps, policies={"runtime": [rule("r", when, "fail")]}))
    assert shapes(frames) == [
        "start", "plan_generated", "node_start:a", "node_complete:a", "log:a", "node_start:b", "node_complete:b",
        "complete",
    ]  # fmt: skip
    log = next(frame.payload for frame in frames if frame.type == "log")
    assert log["level"] == "warning"
    assert "Policy r did not fire" in log["message"]


@pytest.mark.parametrize(
    ("condition", "holds"),
    [
        ("nodes.a == 1", True),
        ("'a' in nodes && !('b' in nodes)", True),
        ("inputs.who == 'Ana' && facets == {'spine_any': 1}", True),
        ("nodes.a > 1", False),
    ],
)
async def test_conditions_see_nodes_inputs_and_facets(sqlite_service: Service, condition: str, holds: bool) -> None:
    """F5: CEL over what has completed, the envelope's inputs, and facets by name."""
    when = {"type": "on_node_complete", "selector": {"node_id": "a"}, "condition": condition}
    steps = plan(call("a", "noop", 1), call("b", "noop", 2), edges=[{"from": "a", "to": "b"}])
    body = envelope(steps, policies={"runtime": [rule("r", when, "emit")]}, inputs={"who": "Ana"})
    frames = await sqlite_service.run(body)
    assert ("policy_triggered:a" in shapes(frames)) is holds


@pytest.mark.parametrize(
    ("runtime", "pointer", "code"),
    [
        ({"trigger": {"type": "on_node_complete", "condition": "facets.x =="}}, "/trigger/condition", "bad_expression"),
        ({"trigger": {"type": "on_node_complete", "condition": "facet.x"}}, "/trigger/condition", "bad_expression"),
        ({"trigger": {"type": "on_node_complete", "condition": "1 + 1"}}, "/trigger/condition", "bad_expression"),
        ({"trigger": {"type": "on_full_moon"}}, "/trigger/type", None),
        ({"action": {"type": "explode"}}, "/action/type", None),
        ({"id": "no spaces"}, "/id", "bad_id"),
        ({"trigger": {"type": "on_start", "selector": {"node_id": "a"}}}, "", "selector_without_node"),
    ],
)
async def test_a_rule_that_cannot_work_is_refused(
    sqlite_service: Service, runtime: dict[str, Any], pointer: str, code: str | None
) -> None:
    """F5: anything else is 422, with the place; a typo in a condition with its column."""
    body = greeted(rule("r", "on_start", "emit") | runtime)
    response = await sqlite_service.client.post("/api/v1/runs", json=body)
    assert response.status_code == 422, response.text
    (item,) = response.json()["errors"]
    assert item["pointer"] == f"/policies/runtime/0{pointer}"
    assert code in (None, item["code"])
    assert code != "bad_expression" or "column" in item["message"]


async def test_only_a_manual_rule_is_fired_by_hand(service: Service) -> None:
    """F5: 404 for an unknown one, 409 for one that fires by itself or is off, 409 after the run's end."""
    rules = [
        rule("auto", "on_start", "emit"),
        rule("off", "manual", "emit", enabled=False),
        rule("on", "manual", "emit"),
    ]
    async with service.stream(greeted(*rules, hitl=GATE)) as reader:
        gate = await asked_of(reader, "gate")
        run_id = gate["run_id"]
        for name, status, code in (
            ("nowhere", 404, "policy_not_found"),
            ("auto", 409, "policy_not_fired"),
            ("off", 409, "policy_not_fired"),
        ):
            refused = await fire(service, run_id, name)
            assert (refused.status_code, refused.json()["code"]) == (status, code)
        fired = await fire(service, run_id, "on")
        assert (fired.status_code, fired.json()["status"]) == (200, "waiting")
        assert (await fire(service, "run_none", "on")).json()["code"] == "run_not_found"
        await service.decided(gate, "approve")
        await reader.rest()
    late = await fire(service, run_id, "on")
    assert (late.status_code, late.json()["code"]) == (409, "invalid_run_state")
