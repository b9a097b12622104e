"""Two people, one prompt, the same moment: decided exactly once (H4), on both databases."""

from __future__ import annotations

import asyncio
from typing import Any

import httpx2

from tests.spine.running import Service, call, envelope, of, plan
from tests.spine.sse import TERMINAL, shapes

GATED = plan(call("a", "noop", 1), call("after", "noop", of("a")))
POLICIES = {"hitl": [{"id": "gate", "when": "before", "selector": {"node_id": "after"}}], "budget": {"human_asks": 5}}
ROUNDS = 100


async def one_race(service: Service) -> tuple[str, list[httpx2.Response]]:
    run_id = await service.start(envelope(GATED, policies=POLICIES))
    (prompt,) = await service.asked(run_id)
    answers = await asyncio.gather(
        service.decide(prompt["prompt_id"], "approve"), service.decide(prompt["prompt_id"], "reject", comment="no")
    )
    return run_id, list(answers)


async def judge(service: Service, run_id: str, answers: list[httpx2.Response]) -> str:
    """Check one race and return the action that won."""
    (won,) = [answer.json() for answer in answers if answer.status_code == 200]
    (lost,) = [answer.json() for answer in answers if answer.status_code == 409]
    assert lost["code"] == "prompt_settled"
    decision: dict[str, Any] = won["decision"]
    assert (lost["decided_by"], lost["decided_at"]) == (decision["decided_by"], decision["decided_at"])
    frames = await service.follow(run_id)
    resolved = [frame.payload["decision"] for frame in frames if frame.type == "hitl_resolved"]
    assert resolved == [decision]
    assert sum(frame.type in TERMINAL for frame in frames) == 1
    end = shapes(frames)[-1]
    if decision["action"] == "reject":
        assert (end, frames[-1].payload["code"]) == ("failed", "rejected")
        assert "node_start:after" not in shapes(frames)
    else:
        assert end == "complete"
    return str(decision["action"])


async def test_two_operators_decide_at_the_same_moment(service: Service) -> None:
    """H4: one 200, one 409 that says who and when; a rejected run never completes as approved. 100 times over.

    Trap: resuming without looking at the answer. Would have survived n8n#27870 and windmill#10262.
    """
    won = []
    for _ in range(ROUNDS // 20):
        races = await asyncio.gather(*[one_race(service) for _ in range(20)])
        won += await asyncio.gather(*[judge(service, run_id, answers) for run_id, answers in races])
    assert len(won) == ROUNDS
    assert service.calls.count("noop") == ROUNDS + won.count("approve")


async def test_the_same_decision_twice_is_no_conflict(service: Service) -> None:
    """Wire §5: a client that lost the answer sends the same again and gets the same; another action is 409."""
    run_id = await service.start(envelope(GATED, policies=POLICIES))
    (prompt,) = await service.asked(run_id)
    first = await service.decided(prompt, "edit", answer={"value": 4})
    again = await service.decided(prompt, "edit", answer={"value": 4})
    assert again["decision"] == first["decision"]
    await service.follow(run_id)
    assert (await service.decided(prompt, "edit", answer={"value": 4}))["decision"] == first["decision"]
    other = await service.decide(prompt["prompt_id"], "edit", answer={"value": 5})
    assert (other.status_code, other.json()["decided_by"]) == (409, "user:local")


async def test_a_decision_about_something_else_is_stale(service: Service) -> None:
    """H5: a hash of something else is refused and changes nothing."""
    run_id = await service.start(envelope(GATED, policies=POLICIES))
    (prompt,) = await service.asked(run_id)
    stale = await service.decide(prompt["prompt_id"], "approve", bound_hash="0" * 64)
    assert (stale.status_code, stale.json()["code"]) == (409, "prompt_stale")
    assert (await service.detail(run_id))["status"] == "waiting"


async def test_cancel_and_decision_at_the_same_moment(service: Service) -> None:
    """F8, H4: whichever comes first, there is one end, and it is one of the two."""
    for _ in range(20):
        run_id = await service.start(envelope(GATED, policies=POLICIES))
        (prompt,) = await service.asked(run_id)
        cancelled, decided = await asyncio.gather(
            service.client.post(f"/api/v1/runs/{run_id}/cancel"), service.decide(prompt["prompt_id"], "approve")
        )
        assert cancelled.status_code in (202, 409)
        assert decided.status_code in (200, 409)
        frames = await service.follow(run_id)
        assert frames[-1].type in ("complete", "cancelled")
        assert sum(frame.type in TERMINAL for frame in frames) == 1
        if frames[-1].type == "complete":
            assert decided.status_code == 200
