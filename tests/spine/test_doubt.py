"""A call that must not be repeated and was cut off: asked about once its time is over, not before (design, effects)."""

from __future__ import annotations

from typing import Any

from contracts.plan import PlanGraph
from engine.signals import CancelAsked, Tick
from tests.spine.walks import Walk, begin, lost

SECONDS = 20.0


def walk(**more: Any) -> Walk:
    """A run of one call, which is under way."""
    node = {"node_id": "pay", "kind": "call", "capability_id": "bank", "effects": "once", "timeout_seconds": SECONDS}
    output = {"mode": "map", "map": {"": {"node_id": "pay", "pointer": ""}}}
    plan = PlanGraph.model_validate({"nodes": [node | more], "edges": [], "output": output}).sealed()
    begun = Walk(plan, {"objective": "x", "output_contract": {"mode": "json_schema", "schema": True}})
    begun.step(begin())
    return begun


def types(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["type"] for frame in frames]


def test_the_callee_may_still_be_at_work() -> None:
    """The next holder waits until the attempt's own deadline, and then asks; nobody calls again by himself."""
    one = walk()
    started = one.wall.ms
    one.wall.ms += 5_000
    one.revive()
    said = one.step(lost(one)).said
    assert types(said) == ["run_waiting"]
    assert said[0]["payload"]["waiting_on"] == ["timer"]
    assert said[0]["payload"]["wake_at"] == "1970-01-01T00:00:21.000Z"
    one.wall.ms = started + round(SECONDS * 1_000) - 1
    assert types(one.step(Tick()).said) == []
    one.revive()
    one.wall.ms += 1
    step = one.step(Tick())
    assert types(step.said) == ["run_resumed", "hitl_request", "run_waiting"]
    assert step.said[1]["payload"]["prompt"]["kind"] == "effect_check"
    assert step.said[2]["payload"]["waiting_on"] == ["hitl"]
    assert step.dispatch == []


def test_a_call_whose_time_is_over_is_asked_about_at_once() -> None:
    """The process was away for longer than the call could take."""
    one = walk()
    one.wall.ms += round(SECONDS * 1_000)
    one.revive()
    assert types(one.step(lost(one)).said) == ["hitl_request", "run_waiting"]


def test_a_call_in_doubt_can_be_cancelled() -> None:
    """The wait is like any other."""
    one = walk()
    one.revive()
    one.step(lost(one))
    assert types(one.step(CancelAsked(1, "user:ana", None)).said) == ["cancelled"]
