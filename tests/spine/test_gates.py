"""Gates: what policies make people approve, before, after and at the end (H2-H5; design §7), on both databases."""

from __future__ import annotations

from tests.spine.asking import GATE, OPENING, gated, question
from tests.spine.running import Service, call, envelope, greeting, of, plan
from tests.spine.sse import payload, shapes


async def test_approval_granted(service: Service) -> None:
    """H2, wire §4.4: an output gate shows the composed, already valid answer; the approval completes the gate."""
    async with service.stream(greeting(policies=gated("output", question="Send it?"))) as reader:
        prompt = await question(reader)
        assert (prompt["kind"], prompt["question"], prompt["actions"]) == (
            "approval",
            "Send it?",
            ["approve", "edit", "reject"],
        )
        assert prompt["proposed"] == {"spine_greeting": "hm"}
        assert prompt["assignees"]["roles"] == ["operator"]
        answer = await service.decided(prompt, "approve", comment="fine", bound_hash=prompt["bound_hash"])
        assert (answer["prompt"], answer["run"]) == ({"status": "settled"}, {"status": "running"})
        frames = await reader.rest()
    node = frames[3].node_id
    assert shapes(frames) == [
        "start", "plan_requested", "plan_generated", f"node_start:{node}", f"node_complete:{node}", *GATE,
        "node_complete:gate", "complete",
    ]  # fmt: skip
    payload(frames, "run_waiting", waiting_on=["hitl"], prompt_ids=[prompt["prompt_id"]], wake_at=None)
    assert payload(frames, "hitl_resolved", status="settled")["decision"] == answer["decision"]
    payload(frames, "run_resumed", cause="decision")
    payload(frames, "complete", output={"spine_greeting": "hm"})


async def test_approval_rejected(service: Service) -> None:
    """H4: the answer is what the run acts on. A rejection never continues as an approval, and nothing after it runs."""
    async with service.stream(greeting(policies={"requires_hitl_approval": True})) as reader:
        prompt = await question(reader)
        assert prompt["question"] == "Approve this output?"
        await service.decided(prompt, "reject", comment="too short")
        frames = await reader.rest()
    gate = prompt["node_id"]
    assert shapes(frames)[-6:] == [
        f"hitl_request:{gate}", "run_waiting", f"hitl_resolved:{gate}", "run_resumed", f"node_error:{gate}", "failed"
    ]  # fmt: skip
    payload(frames, "node_error", code="rejected", fallback="abort")
    failed = payload(frames, "failed", code="rejected", failed_node_id=gate, retryable=False)
    assert "too short" in failed["message"]
    assert "complete" not in shapes(frames)


async def test_edit_and_approve(service: Service) -> None:
    """H2, H4: the edited answer is checked against the caller's schema before it is stored, and is what completes."""
    async with service.stream(greeting(policies=gated("output"))) as reader:
        prompt = await question(reader)
        refused = await service.decide(prompt["prompt_id"], "edit", answer={"spine_greeting": 5})
        assert (refused.status_code, refused.json()["errors"][0]["pointer"]) == (422, "/answer/spine_greeting")
        await service.decided(prompt, "edit", answer={"spine_greeting": "Good day"})
        frames = await reader.rest()
    assert shapes(frames)[-2:] == ["node_complete:gate", "complete"]
    payload(frames, "complete", output={"spine_greeting": "Good day"})


async def test_a_gate_before_a_node_binds_what_is_approved(service: Service) -> None:
    """H5: nothing runs before the approval, and exactly the edited inputs run after it.

    Would have survived pydantic-ai#6968 (the approver saw other arguments than those executed) and prefect#20388.
    """
    policies = gated("before", selector={"node_id": "b"})
    steps = plan(call("a", "noop", "draft"), call("b", "noop", of("a")))
    async with service.stream(envelope(steps, policies=policies)) as reader:
        prompt = await question(reader)
        assert (prompt["node_id"], prompt["proposed"]) == ("gate", {"value": "draft"})
        assert service.calls == ["noop"]
        await service.decided(prompt, "edit", answer={"value": "final"}, bound_hash=prompt["bound_hash"])
        frames = await reader.rest()
    assert shapes(frames) == [
        *OPENING, "node_start:a", "node_complete:a", *GATE, "node_complete:gate", "node_start:b", "node_complete:b",
        "complete",
    ]  # fmt: skip
    payload(frames, "complete", output="final")


async def test_a_gate_before_a_map_binds_its_list(service: Service) -> None:
    """H5: what is approved before a map is the list it unfolds; the edited list is what runs."""
    policies = gated("before", selector={"kind": "map"})
    steps = plan(
        call("a", "noop", [1, 2]),
        {
            "node_id": "m",
            "kind": "map",
            "over": of("a").binding,
            "as": "value",
            "node": {"kind": "call", "capability_id": "spine.noop"},
        },
    )
    async with service.stream(envelope(steps, policies=policies)) as reader:
        prompt = await question(reader)
        assert prompt["proposed"] == {"over": [1, 2]}
        await service.decided(prompt, "edit", answer={"over": [3]})
        frames = await reader.rest()
    payload(frames, "complete", output=[3])


async def test_a_gate_after_a_node_passes_on_what_is_approved(service: Service) -> None:
    """H2: every consumer reads the approved output, not the node's own; the node itself is never reopened."""
    policies = gated("after", selector={"node_id": "a"})
    steps = plan(call("a", "noop", "draft"), call("b", "noop", of("a")))
    async with service.stream(envelope(steps, policies=policies)) as reader:
        prompt = await question(reader)
        assert prompt["proposed"] == "draft"
        await service.decided(prompt, "edit", answer="final")
        frames = await reader.rest()
    assert shapes(frames) == [
        *OPENING, "node_start:a", "node_complete:a", *GATE, "node_complete:gate", "node_start:b", "node_complete:b",
        "complete",
    ]  # fmt: skip
    payload(frames, "complete", output="final")


async def test_a_plan_is_reviewed_before_anything_runs(service: Service) -> None:
    """H2: approved as it is, the plan that was shown is the plan that runs."""
    async with service.stream(greeting(policies=gated("plan"))) as reader:
        prompt = await question(reader)
        assert (prompt["kind"], prompt["actions"]) == ("plan_review", ["approve", "edit", "request_changes"])
        assert service.calls == []
        await service.decided(prompt, "approve")
        frames = await reader.rest()
    node = frames[-2].node_id
    assert prompt["proposed"] == payload(frames, "plan_generated")["plan"]
    assert shapes(frames) == [
        "start", "plan_requested", "plan_generated", *GATE, "node_complete:gate", f"node_start:{node}",
        f"node_complete:{node}", "complete",
    ]  # fmt: skip


async def test_an_edited_plan_is_the_one_that_runs(service: Service) -> None:
    """H2: the reviewer's plan becomes version 2 with a diff and an author, and is what runs."""
    async with service.stream(greeting(policies=gated("plan"))) as reader:
        prompt = await question(reader)
        edited = prompt["proposed"] | {"edges": []}
        edited["nodes"] = [
            {**step, "capability_id": "spine.greet"} for step in prompt["proposed"]["nodes"] if step["kind"] == "call"
        ]
        await service.decided(prompt, "edit", answer=edited)
        second = await question(reader)
        assert second["plan_version"] == 2
        await service.decided(second, "approve")
        frames = await reader.rest()
    node = frames[-2].node_id
    assert shapes(frames) == [
        "start", "plan_requested", "plan_generated", *GATE, "plan_requested", "plan_updated", *GATE,
        "node_complete:gate", f"node_start:{node}", f"node_complete:{node}", "complete",
    ]  # fmt: skip
    updated = payload(frames, "plan_updated", from_version=1, author="user:local")
    assert updated["diff"] == {"added": [], "removed": [], "changed": [node]}
    assert (await service.detail(prompt["run_id"]))["plan_version"] == 2
    payload(frames, "complete", output={"spine_greeting": "Good morning, Ana!"})


async def test_an_edited_plan_that_is_wrong_is_refused_to_its_editor(service: Service) -> None:
    """H2, W4: a person's plan is checked like any other, before it is stored; the question stays open."""
    async with service.stream(greeting(policies=gated("plan"))) as reader:
        prompt = await question(reader)
        wrong = {**prompt["proposed"], "nodes": [{"node_id": "x", "kind": "teleport"}]}
        refused = await service.decide(prompt["prompt_id"], "edit", answer=wrong)
        assert (refused.status_code, refused.json()["code"]) == (422, "answer_invalid")
        found = {(item["pointer"], item["code"]) for item in refused.json()["errors"]}
        assert ("/answer/nodes/0/kind", "unknown_kind") in found
        await service.decided(prompt, "approve")
        frames = await reader.rest()
    assert shapes(frames)[-1] == "complete"
    assert "plan_updated" not in shapes(frames)


async def test_changes_that_are_requested_lead_to_another_round(service: Service) -> None:
    """H2: the reviewer's words reach the planner; rounds are bounded, then the review fails the run."""
    async with service.stream(greeting(policies=gated("plan"))) as reader:
        for version in (1, 2, 3):
            prompt = await question(reader)
            stored = (await service.client.get(f"/api/v1/runs/{prompt['run_id']}/plan")).json()
            assert prompt["plan_version"] == prompt["proposed"]["plan_version"] == stored["plan_version"] == version
            await service.decided(prompt, "request_changes", comment="another one")
        frames = await reader.rest()
    requests = [frame.payload["round"] for frame in frames if frame.type == "plan_requested"]
    assert requests == [1, 2, 3]
    payload(frames, "failed", code="rejected")


async def test_a_prompt_that_nobody_answers_in_time_fails_closed(service: Service) -> None:
    """H3: an expired prompt never runs what it guards.

    Would have survived claude-agent-sdk-python#304 (the tool runs anyway) and kestra#18507.
    """
    policies = gated("before", selector={"node_id": "a"}, due_seconds=0.05, on_timeout="fail")
    frames = await service.run(envelope(plan(call("a", "noop", 1)), policies=policies))
    assert shapes(frames) == [*OPENING, *GATE, "node_error:gate", "failed"]
    payload(frames, "hitl_resolved", status="expired", decision=None)
    payload(frames, "run_resumed", cause="prompt_expired")
    payload(frames, "failed", code="prompt_expired")
    assert service.calls == []


async def test_a_timeout_that_approves_says_who_approved(service: Service) -> None:
    """H3: ``on_timeout: approve`` is explicit and recorded as the timer's decision."""
    policies = gated("output", due_seconds=0.05, on_timeout="approve")
    frames = await service.run(envelope(plan(call("a", "noop", 1)), policies=policies))
    found = payload(frames, "hitl_resolved", status="expired")["decision"]
    assert (found["action"], found["decided_by"], found["channel"]) == ("approve", "system:timeout", "timer")
    payload(frames, "complete", output=1)
