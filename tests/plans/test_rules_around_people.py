"""Rules about what people do and do not do: prompts whose time is over, answers that do not fit, asks that run out."""

from __future__ import annotations

from typing import Any

import pytest

from tests.plans.steering import asked_of, rule
from tests.plans.test_rules import FIRED, GREET, LONG, OPENING, UNMET, greeted
from tests.spine.running import Service, call, envelope, of, plan
from tests.spine.sse import payload, shapes

ASK: dict[str, Any] = {
    "node_id": "p",
    "kind": "ask",
    "prompt": {"question": "P?", "due_seconds": 0.05, "on_timeout": "fail"},
}
WAITS = ["node_start:p", "hitl_request:p", "run_waiting"]
OVER = ["hitl_resolved:p", "run_resumed", "policy_triggered:p"]


def asking(action: Any, **prompt: Any) -> dict[str, Any]:
    """A question with a due time, and a rule on it."""
    node = {**ASK, "prompt": ASK["prompt"] | prompt}
    return envelope(plan(node), policies={"runtime": [rule("r", "on_timeout", action)]})


@pytest.mark.parametrize(
    ("action", "rest"),
    [
        ("emit", ["log:p", "node_error:p", "failed"]),
        ("fail", ["failed"]),
        ("pause", ["node_error:p", "failed"]),
        ("replan", ["plan_requested", "plan_rejected", "failed"]),
    ],
)
async def test_a_prompt_that_expired_is_a_timeout(sqlite_service: Service, action: str, rest: list[str]) -> None:
    """F5: ``on_timeout`` fires when a prompt's due time passed, before the run acts on it."""
    frames = await sqlite_service.run(asking(action))
    assert shapes(frames) == ["start", "plan_generated", *WAITS, *OVER, *rest]
    code = {"fail": "policy_failed", "replan": "no_plan"}.get(action, "prompt_expired")
    assert frames[-1].payload["code"] == code


async def test_people_may_have_an_expired_question_asked_again(service: Service) -> None:
    """F5: the node waits for the rule's question; approved, its own question is asked once more, due at a new time."""
    async with service.stream(asking("hitl")) as reader:
        again = await asked_of(reader, "r.1")
        assert (await service.detail(again["run_id"]))["open_prompts"][0]["node_id"] == "r.1"
        await service.decided(again, "approve")
        await asked_of(reader, "p")
        second = await asked_of(reader, "r.2")
        await service.decided(second, "reject")
        frames = await reader.rest()
    assert shapes(frames) == [
        "start", "plan_generated", *WAITS, *OVER, "hitl_request:r.1", "run_waiting", "hitl_resolved:r.1", "run_resumed",
        "node_complete:r.1", *WAITS, *OVER, "hitl_request:r.2", "run_waiting", "hitl_resolved:r.2", "run_resumed",
        "node_error:r.2", "failed",
    ]  # fmt: skip
    starts = [frame.payload["attempt"] for frame in frames if frame.type == "node_start"]
    assert starts == [1, 2]


async def test_what_the_clock_decided_waits_for_the_rules_question(service: Service) -> None:
    """F5, H4: a timer that approves does not get past a rule; the question decides whether its decision counts."""
    hitl = [{"id": "gate", "when": "output", "due_seconds": 0.05, "on_timeout": "approve"}]
    body = greeted(rule("r", "on_timeout", "hitl"), hitl=hitl)
    async with service.stream(body) as reader:
        sure = await asked_of(reader, "r.1")
        await service.decided(sure, "approve")
        frames = await reader.rest()
    assert shapes(frames) == [
        *OPENING, *GREET, "node_start:gate", "hitl_request:gate", "run_waiting", "hitl_resolved:gate", "run_resumed",
        "policy_triggered:gate", "hitl_request:r.1", "run_waiting", "hitl_resolved:r.1", "run_resumed",
        "node_complete:r.1", "node_complete:gate", "complete",
    ]  # fmt: skip
    first = next(frame.payload for frame in frames if frame.type == "hitl_resolved")
    assert first["decision"]["decided_by"] == "system:timeout"


@pytest.mark.parametrize("on_timeout", ["wait", "escalate"])
async def test_a_due_time_that_ends_nothing_fires_too(service: Service, on_timeout: str) -> None:
    """F5: every accepted trigger fires. The prompt stays open, and the rule fires once for it.

    Would have survived n8n#33643: timers count in milliseconds, also for a run that nobody holds.
    """
    chain = [{"assignees": {"users": ["user:local"]}, "due_seconds": 3_600}]
    more: dict[str, Any] = {"escalation": chain} if on_timeout == "escalate" else {}
    async with service.stream(asking("emit", on_timeout=on_timeout, **more)) as reader:
        prompt = await asked_of(reader, "p")
        await reader.until("log", "p")
        await service.decided(prompt, "answer", answer=1)
        frames = await reader.rest()
    assert shapes(frames) == [
        "start", "plan_generated", *WAITS, "policy_triggered:p", "log:p", "hitl_resolved:p", "run_resumed",
        "node_complete:p", "complete",
    ]  # fmt: skip
    waiting = payload(frames, "run_waiting", waiting_on=["hitl"])
    assert waiting["wake_at"] == prompt["due_at"]


async def test_an_overdue_question_beside_which_people_are_asked(service: Service) -> None:
    """F5: the rule's question stands beside the open one and holds nothing; rejected, it ends the run."""
    async with service.stream(asking("hitl", on_timeout="wait")) as reader:
        prompt = await asked_of(reader, "p")
        beside = await asked_of(reader, "r.1")
        await service.decided(beside, "approve")
        await reader.until("node_complete", "r.1")
        await service.decided(prompt, "answer", answer=1)
        frames = await reader.rest()
    assert shapes(frames)[-1] == "complete"
    async with service.stream(asking("hitl", on_timeout="wait")) as reader:
        beside = await asked_of(reader, "r.1")
        await service.decided(beside, "reject")
        frames = await reader.rest()
    assert payload(frames, "failed", code="rejected", failed_node_id="r.1")


async def test_a_whole_answer_that_does_not_fit(service: Service) -> None:
    """F5, F11: without a selector the rule is about the whole answer too; approved, the repair follows as it would."""
    steps = plan(call("a", "noop", 1), call("b", "noop", 2), output={"/a": {"node_id": "a"}, "/b": {"node_id": "b"}})
    schema = {"type": "object", "not": {"required": ["a", "b"]}}
    only = rule("only", {"type": "on_validation_fail", "selector": {"kind": "call"}}, "fail")
    body = envelope(steps, schema=schema, policies={"runtime": [only, rule("r", "on_validation_fail", "hitl")]})
    async with service.stream(body) as reader:
        prompt = await asked_of(reader, "r.1")
        assert prompt["proposed"] is None
        await service.decided(prompt, "approve")
        repair = await asked_of(reader, "output_repair")
        await service.decided(repair, "edit", answer={"a": 1})
        frames = await reader.rest()
    # Two calls run at once, so only the rest has one order.
    assert shapes(frames)[6:] == [
        "validation_error", "policy_triggered", "hitl_request:r.1", "run_waiting", "hitl_resolved:r.1", "run_resumed",
        "node_complete:r.1", "hitl_request:output_repair", "run_waiting", "hitl_resolved:output_repair", "run_resumed",
        "node_complete:output_repair", "complete",
    ]  # fmt: skip
    payload(frames, "complete", output={"a": 1})


async def test_asks_by_rules_count_against_the_budget(service: Service) -> None:
    """H3: prompts that policies make are counted, rules' questions too."""
    body = greeted(rule("r", "on_validation_fail", "hitl"), schema=LONG, budget={"human_asks": 1})
    async with service.stream(body) as reader:
        await service.decided(await asked_of(reader, "r.1"), "approve")
        frames = await reader.rest()
    assert shapes(frames)[-4:] == [*UNMET, FIRED, "failed"]
    payload(frames, "failed", code="budget_spent")


async def test_items_of_a_map_are_nodes_to_rules(service: Service) -> None:
    """F5, H6: a question about one item has that item's map wait, and no other item."""
    mapped = {
        "node_id": "m", "kind": "map", "over": {"value": [1, 2]}, "as": "value", "concurrency": 1,
        "node": {"kind": "call", "capability_id": "spine.noop"},
    }  # fmt: skip
    when = {
        "type": "on_node_complete", "selector": {"capability_id": "spine.noop"}, "condition": "nodes['m[0]'] == 1",
    }  # fmt: skip
    steps = plan(mapped, call("b", "noop", of("m")))
    async with service.stream(envelope(steps, policies={"runtime": [rule("r", when, "hitl")]})) as reader:
        prompt = await asked_of(reader, "r.1")
        assert shapes(reader.frames)[-4:] == [
            "node_complete:m[0]",
            "policy_triggered:m[0]",
            "hitl_request:r.1",
            "run_waiting",
        ]
        await service.decided(prompt, "approve")
        for number in (2, 3):
            await service.decided(await asked_of(reader, f"r.{number}"), "approve")
        frames = await reader.rest()
    assert [frame.node_id for frame in frames if frame.type == "policy_triggered"] == ["m[0]", "m[1]", "b"]
    payload(frames, "complete", output=[1, 2])


async def test_a_call_that_must_not_be_repeated_is_asked_about_first(service: Service, tmp_path: Any) -> None:
    """Design §4, effects: a rule that plans again waits for people: the call may have happened."""
    book = tmp_path / "effects"
    step = call("a", "once", {"file": str(book), "then": "hold"}, timeout_seconds=0.05)
    async with service.stream(
        envelope(plan(step), policies={"runtime": [rule("r", "on_timeout", "replan")]})
    ) as reader:
        prompt = await asked_of(reader, "a")
        assert prompt["kind"] == "effect_check"
        await service.decided(prompt, "happened")
        frames = await reader.rest()
    assert shapes(frames)[2:6] == ["node_start:a", "policy_triggered:a", "log:a", "hitl_request:a"]
    assert "plan_requested" not in shapes(frames)
    assert len(book.read_text().splitlines()) == 1
