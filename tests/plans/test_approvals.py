"""Approvals bound to exactly what was approved (H5), and plans that change after people approved them (H2).

Would have survived pydantic-ai#6968: there, the approver saw other arguments than those that were executed.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.plans.steering import asked_of, edit, edited, own_abilities, plan_of, served
from tests.spine.asking import GATE
from tests.spine.running import Service, call, edge, envelope, of, plan
from tests.spine.sse import Reader, payload, shapes

BEFORE = [{"id": "gate", "when": "before", "selector": {"node_id": "t"}}]
REVIEW = [{"id": "gate", "when": "plan"}]
ASKED = ["node_start:gate", "hitl_request:gate"]
RUNS = ["node_start:t", "node_complete:t"]


def noted(value: Any, **more: Any) -> dict[str, Any]:
    """The guarded node: it notes what it is called with."""
    node = call("t", "noop", value, **more)
    return {**node, "capability_id": "plans.noted"}


class Watch:
    """What the last prompt of the gate showed, against what the capability was called with."""

    def __init__(self, service: Service) -> None:
        self.service = service
        self.calls = own_abilities(service).CALLED
        self.calls.clear()

    def only(self, inputs: dict[str, Any]) -> None:
        """There was one call, with exactly these inputs."""
        assert [given for _, given in self.calls] == [inputs]


async def _approved(service: Service, reader: Reader, **answer: Any) -> dict[str, Any]:
    """Answer the gate's question as it is open now, and return it."""
    prompt: dict[str, Any] = (await reader.until("hitl_request", "gate")).payload["prompt"]
    action = "edit" if answer else "approve"
    await service.decided(prompt, action, bound_hash=prompt["bound_hash"], **answer)
    return prompt


EDITS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "inputs": ({"value": call("t", "noop", "other")["inputs"]["value"]}, {"value": "other"}, {}),
    "another input": ({"more": {"value": 7}}, {"value": "draft", "more": 7}, {}),
    "definition": ({}, {"value": "draft"}, {"max_attempts": 2}),
    "time": ({}, {"value": "draft"}, {"timeout_seconds": 7}),
}


async def _approved_and_held(service: Service, reader: Reader, **answer: Any) -> str:
    """Approve the gate while the run is paused, so that its target has not started; return the run."""
    prompt = (await reader.until("hitl_request", "gate")).payload["prompt"]
    run_id = str(prompt["run_id"])
    assert (await service.client.post(f"/api/v1/runs/{run_id}/pause", json={})).status_code == 200
    await service.decided(prompt, "edit" if answer else "approve", **answer)
    await reader.until("node_complete", "gate")
    await reader.until("run_waiting")
    return run_id


@pytest.mark.parametrize("what", EDITS)
async def test_an_approval_does_not_outlive_an_edit(service: Service, what: str) -> None:
    """H5: approved and not yet started, then edited: the gate, and only it, asks again; frames to the letter."""
    inputs, shown, members = EDITS[what]
    steps = plan(call("a", "noop", "draft"), noted(of("a")), output={"": {"node_id": "t"}})
    async with service.stream(envelope(steps, policies={"hitl": BEFORE})) as reader:
        watch = Watch(service)
        run_id = await _approved_and_held(service, reader)
        after = await plan_of(service, run_id)
        gate, target = (next(node for node in after["nodes"] if node["node_id"] == name) for name in ("gate", "t"))
        gate["inputs"] |= inputs
        target["inputs"] = {name: {"node_id": "gate", "pointer": f"/{name}"} for name in gate["inputs"]}
        target |= members
        await edited(service, run_id, after, 1, reason="so it is better")
        assert (await service.client.post(f"/api/v1/runs/{run_id}/resume", json={})).status_code == 200
        prompt = await _approved(service, reader)
        frames = await reader.rest()
    assert "so it is better" in prompt["question"]
    assert "user:local" in prompt["question"]
    assert prompt["proposed"] == shown
    watch.only(shown)
    place = shapes(frames).index("plan_updated")
    assert shapes(frames)[place:] == [
        "plan_updated", "run_resumed", *ASKED, "run_waiting", "hitl_resolved:gate", "run_resumed", "node_complete:gate",
        *RUNS, "complete",
    ]  # fmt: skip


async def test_an_unrelated_edit_leaves_an_approval_alone(service: Service) -> None:
    """H5: nothing else is asked again; what an approver edited is what runs."""
    steps = plan(call("a", "noop", "draft"), noted(of("a")), call("z", "noop", 1), output={"": {"node_id": "t"}})
    steps["edges"] = [edge("t", "z")]
    async with service.stream(envelope(steps, policies={"hitl": BEFORE})) as reader:
        watch = Watch(service)
        run_id = await _approved_and_held(service, reader, answer={"value": "final"})
        after = await plan_of(service, run_id)
        next(node for node in after["nodes"] if node["node_id"] == "z")["inputs"]["value"] = {"value": 2}
        await edited(service, run_id, after, 1)
        await service.client.post(f"/api/v1/runs/{run_id}/resume", json={})
        frames = await reader.rest()
    assert shapes(frames).count("hitl_request:gate") == 1
    watch.only({"value": "final"})


async def test_what_has_started_is_not_approved_twice(service: Service) -> None:
    """H5: after the start the gate is as immutable as its node."""
    steps = plan(call("t", "held", "t"), call("z", "noop", 1), edges=[edge("t", "z")])
    async with service.stream(envelope(steps, policies={"hitl": BEFORE})) as reader:
        prompt = await _approved(service, reader)
        await reader.until("node_start", "t")
        after = await plan_of(service, prompt["run_id"])
        gate = next(node for node in after["nodes"] if node["node_id"] == "gate")
        gate["inputs"]["value"] = {"value": "other"}
        refused = await edit(service, prompt["run_id"], after, 1)
        assert (refused.status_code, refused.json()["nodes"]) == (409, ["gate"])
        service.abilities.gate("t").set()
        frames = await reader.rest()
    assert shapes(frames)[-1] == "complete"


VERSIONED = """
from capabilities.authoring import capability
from capabilities.declarations import facet
CALLED = []
thing = facet("plans_thing", True, description="A thing")
@capability("plans.pinned", consumes={{"value": thing}}, produces=thing, version="{version}")
async def pinned(value):
    CALLED.append(("{version}", value))
    return ["{version}", value]
"""


async def test_another_version_is_approved_anew(database_url: str, tmp_path: Path) -> None:
    """H5: a person chooses another version of the capability; who approved the inputs is asked about it.

    Would have survived vercel/workflow#1203 (a redeploy) without running what nobody approved.
    """
    files = {}
    for version in ("1.0.0", "2.0.0"):
        files[version] = tmp_path / f"v{version[0]}.py"
        files[version].write_text(VERSIONED.format(version=version))
    target = {
        "node_id": "t", "kind": "call", "capability_id": "plans.pinned", "inputs": {"value": {"value": "draft"}},
    }  # fmt: skip
    async with (
        served(database_url, files["1.0.0"]) as old,
        old.stream(envelope(plan(target), policies={"hitl": BEFORE})) as reader,
    ):
        run_id = await _approved_and_held(old, reader, answer={"value": "final"})
    async with served(database_url, files["2.0.0"]) as new, new.watch(run_id) as reader:
        while (await reader.until("run_waiting")).payload["waiting_on"] != ["paused"]:
            pass
        await new.client.post(f"/api/v1/runs/{run_id}/resume", json={})
        missing = await asked_of(reader, "t")
        assert missing["answer_schema"] == {"enum": ["retry", "use 2.0.0", "fail"]}
        await new.decided(missing, "choose", answer="use 2.0.0")
        again = await _approved(new, reader)
        frames = await reader.rest()
    assert again["proposed"] == {"value": "final"}
    assert "not what was approved" in again["question"]
    assert shapes(frames)[-12:] == [
        "hitl_request:t", "run_waiting", "hitl_resolved:t", "run_resumed", *ASKED, "run_waiting", "hitl_resolved:gate",
        "run_resumed", "node_complete:gate", "node_start:t", "node_complete:t", "complete",
    ][-12:]  # fmt: skip
    payload(frames, "complete", output=["2.0.0", "final"])


async def test_an_item_of_an_approved_map_keeps_its_version(database_url: str, tmp_path: Path) -> None:
    """H5: what was approved for all items is not changed by one of them; another version is not on offer there."""
    files = {}
    for version in ("1.0.0", "2.0.0"):
        files[version] = tmp_path / f"v{version[0]}.py"
        files[version].write_text(VERSIONED.format(version=version))
    inner = {"kind": "call", "capability_id": "plans.pinned"}
    mapped = {"node_id": "t", "kind": "map", "over": {"value": [1]}, "as": "value", "node": inner}
    body = envelope(plan(mapped), policies={"hitl": BEFORE})
    async with served(database_url, files["1.0.0"]) as old, old.stream(body) as reader:
        run_id = await _approved_and_held(old, reader)
    async with served(database_url, files["2.0.0"]) as new, new.watch(run_id) as reader:
        while (await reader.until("run_waiting")).payload["waiting_on"] != ["paused"]:
            pass
        await new.client.post(f"/api/v1/runs/{run_id}/resume", json={})
        missing = await asked_of(reader, "t[0]")
        assert missing["answer_schema"] == {"enum": ["retry", "fail"]}
        await new.decided(missing, "choose", answer="fail")
        frames = await reader.rest()
    payload(frames, "failed", code="capability_unavailable")


async def _reviewed(service: Service, reader: Reader, action: str = "approve", **more: Any) -> dict[str, Any]:
    prompt: dict[str, Any] = (await reader.until("hitl_request", "gate")).payload["prompt"]
    await service.decided(prompt, action, **more)
    return prompt


async def test_an_approved_plan_changes_only_under_a_fresh_approval(service: Service) -> None:
    """H2: what runs goes on, nothing new starts before people have approved the new plan; they see who and why."""
    before = plan(call("a", "held", "a"), call("b", "noop", 2), edges=[edge("a", "b")])
    async with service.stream(envelope(before, policies={"hitl": REVIEW})) as reader:
        first = await _reviewed(service, reader)
        run_id = str(first["run_id"])
        await reader.until("node_start", "a")
        after = plan(call("a", "held", "a"), call("b", "noop", 3), call("c", "noop", 4))
        after["edges"] = [edge("a", "b")]
        await edited(service, run_id, after, 1, reason="c is missing")
        prompt = (await reader.until("hitl_request", "gate")).payload["prompt"]
        for words in ("Version 2 of the plan", "added c", "changed b", "user:local", "c is missing"):
            assert words in prompt["question"]
        assert prompt["plan_version"] == prompt["proposed"]["plan_version"] == 2
        service.abilities.gate("a").set()
        await reader.until("node_complete", "a")
        await reader.until("run_waiting")
        assert service.calls == ["held"]
        await service.decided(prompt, "approve")
        frames = await reader.rest()
    assert shapes(frames)[2:17] == [
        *GATE, "node_complete:gate", "node_start:a", "plan_updated", *ASKED, "node_complete:a", "run_waiting",
        "hitl_resolved:gate", "run_resumed", "node_complete:gate",
    ]  # fmt: skip
    assert sorted(shapes(frames)[17:]) == sorted(
        ["node_start:b", "node_complete:b", "node_start:c", "node_complete:c", "complete"]
    )
    node = (await service.client.get(f"/api/v1/runs/{run_id}/nodes/gate")).json()
    assert (node["generation"], node["status"]) == (1, "completed")


async def test_a_plan_edited_while_it_is_reviewed_is_shown_anew(service: Service) -> None:
    """H2: the question about the old plan is taken back; nobody approves what is not there any more."""
    before, after = plan(call("a", "noop", 1)), plan(call("a", "noop", 2))
    async with service.stream(envelope(before, policies={"hitl": REVIEW})) as reader:
        old = await asked_of(reader, "gate")
        await edited(service, old["run_id"], after, 1)
        new = await asked_of(reader, "gate")
        stale = await service.decide(old["prompt_id"], "approve")
        assert (stale.status_code, stale.json()["code"]) == (409, "prompt_settled")
        await service.decided(new, "approve")
        frames = await reader.rest()
    assert shapes(frames)[5:12] == [
        "plan_updated", "hitl_resolved:gate", "run_resumed", *ASKED, "run_waiting", "hitl_resolved:gate",
    ]  # fmt: skip
    payload(frames, "complete", output=2)


async def test_a_review_while_the_run_goes_on_may_send_the_plan_back(service: Service) -> None:
    """H2: ``request_changes`` and ``edit`` flow as before the run; what has begun is immutable to reviewers too."""
    before = plan(call("a", "held", "a"), call("b", "noop", 2), edges=[edge("a", "b")])
    async with service.stream(envelope(before, policies={"hitl": REVIEW})) as reader:
        run_id = str((await _reviewed(service, reader))["run_id"])
        await reader.until("node_start", "a")
        after = plan(call("a", "held", "a"), call("b", "noop", 3), edges=[edge("a", "b")])
        await edited(service, run_id, after, 1)
        prompt = (await reader.until("hitl_request", "gate")).payload["prompt"]
        wrong = plan(call("a", "held", "other"), call("b", "noop", 4), edges=[edge("a", "b")])
        refused = await service.decide(prompt["prompt_id"], "edit", answer=wrong)
        assert (refused.status_code, refused.json()["code"]) == (422, "answer_invalid")
        assert ("/answer/nodes/0", "node_immutable") in [
            (item["pointer"], item["code"]) for item in refused.json()["errors"]
        ]
        right = plan(call("a", "held", "a"), call("b", "noop", 4), edges=[edge("a", "b")])
        await service.decided(prompt, "edit", answer=right)
        await _reviewed(service, reader)
        service.abilities.gate("a").set()
        frames = await reader.rest()
    assert shapes(frames).count("node_start:a") == 1
    payload(frames, "complete", output=4)


async def test_a_replan_of_an_approved_plan_is_approved_too(service: Service) -> None:
    """H2: whoever changes an approved plan, the gate asks again."""
    schema = {
        "type": "object", "required": ["spine_greeting"],
        "properties": {"spine_greeting": {"type": "string", "minLength": 5}},
    }  # fmt: skip
    again = {"id": "again", "trigger": {"type": "on_validation_fail"}, "action": {"type": "replan"}}
    body = envelope(
        schema=schema, inputs={"spine_who": "Ana"},
        policies={"hitl": REVIEW, "runtime": [again], "retry": {"max_attempts": 1}},
    )  # fmt: skip
    async with service.stream(body) as reader:
        await _reviewed(service, reader)
        second = await _reviewed(service, reader)
        frames = await reader.rest()
    assert "policy:again" in second["question"]
    assert shapes(frames)[-10:] == [
        "plan_requested", "plan_updated", *ASKED, "run_waiting", "hitl_resolved:gate", "run_resumed",
        "node_complete:gate", "node_start:spine_greeting", "node_complete:spine_greeting", "complete",
    ][-10:]  # fmt: skip


async def test_the_same_plan_again_says_so(service: Service) -> None:
    """H2: a search cannot read notes. What would be the same plan is shown again, and the question says so."""
    schema = {"type": "object", "required": ["spine_greeting"], "properties": {"spine_greeting": {"type": "string"}}}
    body = envelope(schema=schema, inputs={"spine_who": "Ana"}, policies={"hitl": REVIEW})
    async with service.stream(body) as reader:
        await _reviewed(service, reader, "request_changes", comment="shorter, please")
        second = await _reviewed(service, reader)
        frames = await reader.rest()
    assert "there is no other plan" in second["question"]
    assert "shorter, please" in second["question"]
    assert payload(frames, "plan_updated")["diff"] == {"added": [], "removed": [], "changed": []}
    assert shapes(frames)[-1] == "complete"
