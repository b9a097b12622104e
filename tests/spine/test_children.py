"""Child runs as the machine sees them: what it sends, what it takes, what it does not (design §4, children)."""

from __future__ import annotations

from typing import Any

import orjson

from contracts.descent import MAX_DEPTH, child_run_id
from contracts.outcome import Spawn
from contracts.plan import PlanGraph
from engine.signals import AttemptEnded, ChildEnded, Report
from engine.state import Ledger
from tests.spine.walks import Step, Walk, begin

INSIDE = {"nodes": [{"node_id": "j", "kind": "join"}], "output": {"mode": "map", "map": {"": {"node_id": "j"}}}}
ENVELOPE = {
    "objective": "x",
    "output_contract": {"schema": True},
    "policies": {"budget": {"tokens": 100, "wall_seconds": 60.0}, "retry": {"base_ms": 10, "max_ms": 10}},
    "special_instructions": ["Be brief."],
}


def walk(depth: int = 0) -> Walk:
    """A run of one subflow that stands so deep."""
    node = {"node_id": "s", "kind": "subflow", "plan": INSIDE, "max_attempts": 2}
    output = {"mode": "map", "map": {"": {"node_id": "s"}}}
    made = Walk(PlanGraph.model_validate({"nodes": [node], "output": output}).sealed(), ENVELOPE)
    made.rows.run.ledger_json = orjson.dumps(Ledger(depth=depth, tokens=40)).decode()
    made.revive()
    made.step(begin())
    return made


def spawn(run: Walk) -> Step:
    """Let the attempt ask for its child."""
    own = {"objective": "y", "inputs": {"a": 1}, "output_contract": {"schema": True}, "workflow": {"plan": INSIDE}}
    node = run.machine.state.nodes["s"]
    return run.step(AttemptEnded("s", node.attempt, node.generation, Report(Spawn(own), {}, "{}")))


def ended(generation: int, status: str = "completed", **more: Any) -> ChildEnded:
    """The child of a generation ended."""
    told = {"output": 1, "error": None, "tokens": 7, "cost": 0.5} | more
    return ChildEnded(1, "s", child_run_id("run_1", "s", generation), generation, status, **told)


def kinds(step: Step) -> list[str]:
    return [frame["type"] for frame in step.said]


def test_a_child_is_born_with_what_its_parent_has_left() -> None:
    """Design §4: its name follows from run, node and generation; budget, depth and lineage from its parent."""
    run = walk(depth=2)
    run.wall.ms += 20_000
    (birth,) = spawn(run).write.spawned
    assert (birth.run.run_id, birth.run.parent_node_id) == (child_run_id("run_1", "s", 0), "s")
    assert (birth.run.root_run_id, birth.run.parent_run_id, birth.run.status) == ("run_1", "run_1", "queued")
    assert orjson.loads(birth.run.ledger_json)["depth"] == 3
    envelope = orjson.loads(birth.envelope_json)
    assert envelope["policies"]["budget"]["tokens"] == 60
    assert envelope["policies"]["budget"]["wall_seconds"] == 40.0
    assert (envelope["inputs"], envelope["special_instructions"]) == ({"a": 1}, ["Be brief."])


def test_too_deep_is_an_error_of_the_node() -> None:
    """F6: the depth is bounded however a plan came to be."""
    step = spawn(walk(depth=MAX_DEPTH))
    assert step.write.spawned == []
    (error,) = [frame["payload"] for frame in step.said if frame["type"] == "node_error"]
    assert error["code"] == "too_deep"


def test_a_child_that_nobody_waits_for_is_paid_for_and_changes_nothing() -> None:
    """Design §4: mail of another generation, and mail that comes twice: superseded; what was spent was spent."""
    run = walk()
    spawn(run)
    step = run.step(ended(5))
    assert (step.answered, kinds(step)) == ([(1, "superseded")], [])
    assert run.machine.state.ledger.tokens == 47
    step = run.step(ended(0, "failed", output=None, error={"code": "x", "message": "no", "retryable": True}))
    assert (step.answered, kinds(step)) == ([(1, "applied")], ["run_resumed", "node_retry"])
    assert run.step(ended(0)).answered == [(1, "superseded")]
    run.revive()
    assert run.machine.state.children == set()


def test_a_child_that_says_no_is_not_tried_again() -> None:
    """F6: a failure for good (``retryable`` false) leaves the other attempts unused."""
    run = walk()
    spawn(run)
    error = {"code": "rejected", "message": "Rejected by user:ana.", "retryable": False}
    step = run.step(ended(0, "failed", output=None, error=error))
    assert kinds(step) == ["run_resumed", "node_error", "failed"]
    assert "rejected: Rejected by user:ana." in step.said[1]["payload"]["message"]
