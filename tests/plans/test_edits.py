"""Plans that people edit while the run lives (design §4; rivals: what none has, 2), over HTTP, on both databases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.plans.steering import asked_of, edit, edited, plan_of
from tests.spine.running import Service, call, edge, envelope, of, plan
from tests.spine.sse import payload, shapes

OPENING = ["start", "plan_generated"]


def held_then(*more: dict[str, Any]) -> dict[str, Any]:
    """``a`` completes, ``h`` is held, and what follows has not begun."""
    return plan(
        call("a", "noop", 1), call("h", "held", "h"), *more, edges=[edge("a", "h"), edge("h", more[0]["node_id"])]
    )


async def test_a_running_node_goes_on_while_the_rest_changes(service: Service) -> None:
    """Plan edits: unchanged nodes that have begun are not touched; the new version has an author and a reason."""
    before = held_then(call("b", "noop", 2))
    after = held_then(call("b", "noop", 3), call("c", "noop", of("b")))
    async with service.stream(envelope(before)) as reader:
        run_id = str((await reader.until("node_start", "h")).whole["run_id"])
        answer = await edited(service, run_id, after, 1, reason="one more step")
        assert answer == {
            "run_id": run_id, "plan_version": 2, "diff": {"added": ["c"], "removed": [], "changed": ["b"]},
        }  # fmt: skip
        service.abilities.gate("h").set()
        frames = await reader.rest()
    assert shapes(frames) == [
        *OPENING, "node_start:a", "node_complete:a", "node_start:h", "plan_updated", "node_complete:h", "node_start:b",
        "node_complete:b", "node_start:c", "node_complete:c", "complete",
    ]  # fmt: skip
    assert service.calls == ["noop", "held", "noop", "noop"]
    updated = payload(frames, "plan_updated", from_version=1, author="user:local", reason="one more step")
    assert updated["diff"] == answer["diff"]
    assert updated["plan"]["plan_version"] == 2
    payload(frames, "complete", output=3)
    listed = (await service.client.get(f"/api/v1/runs/{run_id}/plan/versions")).json()
    assert [(item["version"], item["author"], item["reason"]) for item in listed["items"]] == [
        (2, "user:local", "one more step"), (1, "user:local", "submitted"),
    ]  # fmt: skip
    first = await service.client.get(f"/api/v1/runs/{run_id}/plan/versions?limit=1")
    cursor = first.json()["next_cursor"]
    second = await service.client.get(f"/api/v1/runs/{run_id}/plan/versions?limit=1&cursor={cursor}")
    assert [item["version"] for item in second.json()["items"]] == [1]
    assert second.json()["next_cursor"] is None
    assert [node["node_id"] for node in (await plan_of(service, run_id, 1))["nodes"]] == ["a", "h", "b"]
    assert [node["node_id"] for node in (await plan_of(service, run_id))["nodes"]] == ["a", "h", "b", "c"]


async def test_what_has_begun_is_immutable_unless_it_is_cancelled(service: Service) -> None:
    """Plan edits: 409 lists the nodes; a cancelled one stops, loses its state and begins again with another key."""
    before = held_then(call("b", "noop", 2))
    after = plan(call("a", "noop", 9), call("h", "noop", "new"), call("b", "noop", 2), edges=before["edges"])
    async with service.stream(envelope(before)) as reader:
        run_id = str((await reader.until("node_start", "h")).whole["run_id"])
        refused = await edit(service, run_id, after, 1)
        assert (refused.status_code, refused.json()["code"]) == (409, "node_immutable")
        assert refused.json()["nodes"] == ["a", "h"]
        assert [item["pointer"] for item in refused.json()["errors"]] == ["/plan/nodes/0", "/plan/nodes/1"]
        still = await edit(service, run_id, after, 1, cancel=["a", "h"])
        assert (still.status_code, still.json()["nodes"]) == (409, ["a"])
        gone = await edit(service, run_id, plan(call("h", "held", "h"), call("b", "noop", 2)), 1)
        assert (gone.status_code, gone.json()["nodes"]) == (409, ["a"])
        after["nodes"][0] = call("a", "noop", 1)
        await edited(service, run_id, after, 1, cancel=["h"])
        frames = await reader.rest()
    assert shapes(frames)[4:] == [
        "node_start:h", "plan_updated", "node_start:h", "node_complete:h", "node_start:b", "node_complete:b",
        "complete",
    ]  # fmt: skip
    # The old attempt is stopped and the new one begun in one go, so either may be heard of first.
    assert sorted(service.calls) == ["held", "held:cancelled", "noop", "noop", "noop"]
    node = (await service.client.get(f"/api/v1/runs/{run_id}/nodes/h")).json()
    assert (node["generation"], node["attempt"], node["output"]) == (1, 1, "new")


async def test_waiting_nodes_keep_their_questions(service: Service) -> None:
    """Plan edits: an open prompt of an unchanged node stays open, and its answer counts under the new plan."""
    ask = {"node_id": "p", "kind": "ask", "prompt": {"question": "P?"}}
    other = {"node_id": "q", "kind": "ask", "prompt": {"question": "Q?"}}
    before = plan(ask, other, call("b", "noop", 2), edges=[edge("p", "b"), edge("q", "b")])
    after = plan(ask, call("b", "noop", of("p")))
    async with service.stream(envelope(before)) as reader:
        first = (await reader.until("hitl_request", "p")).payload["prompt"]
        second = await asked_of(reader, "q")
        refused = await edit(service, first["run_id"], after, 1)
        assert refused.json()["nodes"] == ["q"]
        await edited(service, first["run_id"], after, 1, cancel=["q"])
        await reader.until("run_waiting")
        assert (await service.decide(second["prompt_id"], "answer", answer=1)).json()["code"] == "prompt_settled"
        await service.decided(first, "answer", answer="yes")
        frames = await reader.rest()
    assert shapes(frames)[2:] == [
        "node_start:p", "node_start:q", "hitl_request:p", "hitl_request:q", "run_waiting", "plan_updated",
        "hitl_resolved:q", "run_waiting", "hitl_resolved:p", "run_resumed", "node_complete:p", "node_start:b",
        "node_complete:b", "complete",
    ]  # fmt: skip
    withdrawn = next(frame.payload for frame in frames if frame.type == "hitl_resolved")
    assert (withdrawn["status"], withdrawn["decision"]) == ("withdrawn", None)
    payload(frames, "complete", output="yes")


async def test_an_edit_wakes_a_run_that_waits(service: Service) -> None:
    """Plan edits: what the new plan lets run runs at once; the wait for people goes on after it."""
    ask = {"node_id": "p", "kind": "ask", "prompt": {"question": "P?"}}
    async with service.stream(envelope(plan(ask))) as reader:
        prompt = await asked_of(reader, "p")
        after = plan(ask, call("b", "noop", 2), output={"/p": {"node_id": "p"}, "/b": {"node_id": "b"}})
        await edited(service, prompt["run_id"], after, 1)
        await reader.until("node_complete", "b")
        await reader.until("run_waiting")
        await service.decided(prompt, "answer", answer=1)
        frames = await reader.rest()
    assert shapes(frames)[4:] == [
        "run_waiting", "plan_updated", "run_resumed", "node_start:b", "node_complete:b", "run_waiting",
        "hitl_resolved:p", "run_resumed", "node_complete:p", "complete",
    ]  # fmt: skip
    assert [frame.payload["cause"] for frame in frames if frame.type == "run_resumed"] == ["plan", "decision"]
    payload(frames, "complete", output={"p": 1, "b": 2})


async def test_the_last_thing_awaited_may_be_taken_out(service: Service) -> None:
    """Plan edits: a run that waits for nothing any more ends."""
    ask = {"node_id": "p", "kind": "ask", "prompt": {"question": "P?"}}
    both = plan(call("a", "noop", 1), ask, output={"": {"node_id": "a"}})
    async with service.stream(envelope(both)) as reader:
        prompt = await asked_of(reader, "p")
        await edited(service, prompt["run_id"], plan(call("a", "noop", 1)), 1, cancel=["p"])
        frames = await reader.rest()
    assert shapes(frames)[-4:] == ["plan_updated", "hitl_resolved:p", "run_resumed", "complete"]


async def test_a_paused_run_is_edited_and_starts_nothing(service: Service) -> None:
    """Plan edits while paused: adopted at once, dispatched after the pause."""
    async with service.stream(envelope(held_then(call("b", "noop", 2)))) as reader:
        run_id = str((await reader.until("node_start", "h")).whole["run_id"])
        assert (await service.client.post(f"/api/v1/runs/{run_id}/pause", json={})).status_code == 200
        service.abilities.gate("h").set()
        await reader.until("run_waiting")
        await edited(service, run_id, held_then(call("c", "noop", 3)), 1)
        await service.client.post(f"/api/v1/runs/{run_id}/resume", json={})
        frames = await reader.rest()
    assert shapes(frames)[-7:] == [
        "node_complete:h", "run_waiting", "plan_updated", "run_resumed", "node_start:c", "node_complete:c", "complete",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("body", "status", "code", "pointer"),
    [
        ({}, 422, "unprocessable", "/base_version"),
        ({"base_version": 1, "plan": {}, "reason": ""}, 422, "unprocessable", "/reason"),
        ({"base_version": 1, "plan": {}, "reason": "x" * 2_001}, 422, "unprocessable", "/reason"),
        ({"base_version": 1, "plan": {}, "reason": "x"}, 422, "plan_invalid", "/plan/nodes"),
        ({"base_version": 2, "plan": {}, "reason": "x"}, 409, "stale_plan_version", None),
        ({"base_version": 1, "plan": {}, "reason": "x", "cancel": ["zz"]}, 422, "unprocessable", "/cancel/0"),
        ({"base_version": 1, "plan": [], "reason": "x"}, 422, "unprocessable", "/plan"),
    ],
)
async def test_what_cannot_be_an_edit_is_refused(
    sqlite_service: Service, body: dict[str, Any], status: int, code: str, pointer: str | None
) -> None:
    """Plan edits: a precise 4xx, and nothing is left behind."""
    run_id = await sqlite_service.start(envelope(held_then(call("b", "noop", 2))))
    response = await sqlite_service.client.patch(f"/api/v1/runs/{run_id}/plan", json=body)
    assert (response.status_code, response.json()["code"]) == (status, code), response.text
    pointers = [item["pointer"] for item in response.json()["errors"]]
    assert pointer is None or pointer in pointers
    assert (await sqlite_service.detail(run_id))["plan_version"] == 1


async def test_a_plan_is_checked_like_any_other(sqlite_service: Service) -> None:
    """W4: findings come with pointers into the body; a plan around a gate is refused."""
    ask = {"node_id": "p", "kind": "ask", "prompt": {"question": "P?"}}
    hitl = [{"id": "gate", "when": "before", "selector": {"node_id": "b"}}]
    run_id = await sqlite_service.start(envelope(plan(ask, call("b", "noop", of("p"))), policies={"hitl": hitl}))
    (prompt,) = await sqlite_service.asked(run_id)
    wrong = plan(ask, call("b", "nowhere", of("zz")))
    refused = await edit(sqlite_service, run_id, wrong, 1)
    assert (refused.status_code, refused.json()["code"]) == (422, "plan_invalid")
    assert "/plan/nodes/1/inputs/value" in [item["pointer"] for item in refused.json()["errors"]]
    around = await plan_of(sqlite_service, run_id)
    for node in around["nodes"]:
        if node["node_id"] == "b":
            node["inputs"]["value"] = of("p").binding
    refused = await edit(sqlite_service, run_id, around, 1)
    assert refused.json()["errors"][0]["code"] == "gate_bypassed"
    assert (await sqlite_service.detail(run_id))["open_prompts"][0]["prompt_id"] == prompt["prompt_id"]


async def test_an_edit_that_changes_nothing_makes_no_version(sqlite_service: Service) -> None:
    """Plan edits: the plan that was read can be sent back; gates, versions and defaults are the same again."""
    hitl = [{"id": "gate", "when": "output"}, {"id": "first", "when": "before", "selector": {"kind": "call"}}]
    schema = {"type": "object", "required": ["spine_greeting"], "properties": {"spine_greeting": {"type": "string"}}}
    bodies = [
        envelope(schema=schema, inputs={"spine_who": "Ana"}, policies={"hitl": hitl}),
        envelope(held_then(call("b", "noop", 2)), policies={"hitl": hitl}),
    ]
    for body in bodies:
        run_id = await sqlite_service.start(body)
        await sqlite_service.asked(run_id)
        answer = await edited(sqlite_service, run_id, await plan_of(sqlite_service, run_id), 1)
        assert answer == {"run_id": run_id, "plan_version": 1, "diff": {"added": [], "removed": [], "changed": []}}
        assert (await sqlite_service.detail(run_id))["plan_version"] == 1


async def test_an_ended_run_is_not_edited(sqlite_service: Service) -> None:
    """Plan edits: 404, then 409; a terminal state never changes."""
    steps = plan(call("a", "noop", 1))
    run_id = (await sqlite_service.run(envelope(steps)))[0].whole["run_id"]
    late = await edit(sqlite_service, run_id, steps, 1)
    assert (late.status_code, late.json()["code"]) == (409, "invalid_run_state")
    assert (await edit(sqlite_service, "run_none", steps, 1)).json()["code"] == "run_not_found"
    assert (await sqlite_service.client.get("/api/v1/runs/run_none/plan/versions")).status_code == 404


async def test_what_was_passed_over_is_decided_again(service: Service) -> None:
    """Plan edits: a side that was not taken stays skipped without being told twice, unless the new plan leads there."""
    branch = {"node_id": "w", "kind": "branch", "condition": "true", "then": "h", "else": "n"}
    before = plan(branch, call("h", "held", "h"), call("n", "noop", 5), output={"": {"node_id": "h"}})
    after = plan(branch, call("h", "held", "h"), call("n", "noop", 5), call("z", "noop", of("h")))
    async with service.stream(envelope(before)) as reader:
        run_id = str((await reader.until("node_start", "h")).whole["run_id"])
        await edited(service, run_id, after, 1)
        service.abilities.gate("h").set()
        frames = await reader.rest()
    assert shapes(frames).count("node_skipped:n") == 1
    assert shapes(frames)[-4:] == ["node_complete:h", "node_start:z", "node_complete:z", "complete"]


async def test_the_audit_says_who_changed_what_and_why(service: Service) -> None:
    """H9: the edit is an audit record, with the difference and without the whole plan."""
    async with service.stream(envelope(held_then(call("b", "noop", 2)))) as reader:
        run_id = str((await reader.until("node_start", "h")).whole["run_id"])
        await edited(service, run_id, held_then(call("b", "noop", 3)), 1, reason="better")
        service.abilities.gate("h").set()
        await reader.rest()
    found = await service.client.get("/api/v1/audit", params={"run_id": run_id, "kind": "run.plan_edited"})
    assert found.status_code == 200, found.text
    (record,) = found.json()["items"]
    assert (record["actor"], record["body"]["reason"]) == ("user:local", "better")
    assert record["body"]["diff"] == {"added": [], "removed": [], "changed": ["b"]}
    assert "plan" not in record["body"]


@pytest.mark.parametrize("keep", [True, False])
async def test_a_call_that_must_not_be_repeated_is_asked_about(service: Service, tmp_path: Path, keep: bool) -> None:
    """Design §4, effects: stopped by an edit, it does not run again by itself: people are asked, once its time is over.

    If the new plan has no use for it, that it may have happened is told.
    """
    book = tmp_path / "effects"
    acts = call("a", "once", {"file": str(book), "then": "hold"}, timeout_seconds=0.4)
    before = plan(acts, call("z", "noop", 1), edges=[edge("a", "z")])
    after = plan(acts, call("z", "noop", 2), edges=[edge("a", "z")]) if keep else plan(call("z", "noop", 2))
    async with service.stream(envelope(before)) as reader:
        run_id = str((await reader.until("node_start", "a")).whole["run_id"])
        await service.abilities.arrived("once").wait()
        await edited(service, run_id, after, 1, cancel=["a"])
        if keep:
            prompt = await asked_of(reader, "a")
            assert prompt["kind"] == "effect_check"
            service.abilities.gate("once").set()
            await service.decided(prompt, "not_happened")
        frames = await reader.rest()
    keys = book.read_text().splitlines()
    assert len(keys) == len(set(keys)) == (2 if keep else 1)
    assert ("log" in shapes(frames)) is not keep
    assert shapes(frames)[-1] == "complete"


async def test_a_run_that_has_not_begun_is_edited(service: Service) -> None:
    """Plan edits: a scheduled run begins under the plan that it has by then, at its time."""
    at = datetime.now(UTC) + timedelta(seconds=0.8)
    before, after = plan(call("a", "noop", 1)), plan(call("b", "noop", 2))
    async with service.stream(envelope(before, start_at=at.isoformat())) as reader:
        run_id = str((await reader.until("run_waiting")).whole["run_id"])
        await edited(service, run_id, after, 1)
        frames = await reader.rest()
    assert shapes(frames) == [
        *OPENING, "run_waiting", "plan_updated", "run_resumed", "node_start:b", "node_complete:b", "complete",
    ]  # fmt: skip
    assert service.calls == ["noop"]
