"""The pure machine under random edits, rules and approvals at random times (F5, F10, H5, H6; design §4, plan edits).

A seed stands for a plan, its gates and rules, and everything that happens, edits included; the same seed is the same
run. No completed node changes, no node that has begun is lost or runs twice, nothing runs that was not approved.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.lifecycle import NodeStatus
from contracts.plan import definition
from engine.approvals import gate_of, would_run
from engine.asking import OUTPUT_REPAIR
from engine.signals import Decided, PlanEdited, Triggered
from tests.plans.walks import Steered
from tests.spine.test_machine import Watched, in_order
from tests.spine.walks import Step, Walk, begin, completed, lost

STEPS = 150
SEEDS = st.integers(0, 2**32)
often = settings(max_examples=150, derandomize=True, deadline=None, database=None)


class Steady(Watched):
    """What edits and rules may not do."""

    def __init__(self, walk: Walk) -> None:
        super().__init__(walk)
        self.calls: set[tuple[str, int, int]] = set()
        self.approved: dict[str, Any] = {}
        self.before: dict[str, tuple[str, int, int, str | None]] = {}
        self.prompts: set[str] = set()
        self.asks: dict[str, tuple[Any, Any]] = {}
        self.defined: dict[str, Any] = {}
        """gate → the definition that its last question was about"""
        self.gates: set[str] = set()

    def after(self, step: Step, signal: Any = None) -> None:
        """Check a step; ``signal`` is what it reacted to."""
        super().after(step, signal)
        if isinstance(signal, (PlanEdited, Triggered)):
            assert [signal_id for signal_id, _ in step.answered if signal_id == signal.signal_id]
        if isinstance(signal, PlanEdited):
            self._edited(step, signal)
        if isinstance(signal, Decided):
            self._decided(signal)
        self._started(step)
        self._asked(step)
        state = self.walk.machine.state
        self.before = {
            name: (node.status.value, node.attempt, node.generation, node.prompt_id)
            for name, node in state.nodes.items()
            if node.attempt > 0
        }
        self.prompts = set(state.prompts)

    def _statuses(self, step: Step) -> None:
        """A completed node keeps its output; a gate may ask again, and then it has another generation."""
        now = completed(self.walk)
        for name, (generation, output) in self.done.items():
            if name in now and now[name][0] == generation:
                assert now[name] == (generation, output), "a completed node changed"
            else:
                # Items go with what they are items of; a repaired answer is composed anew under a new plan.
                replaced = step.write.plan is not None and ("[" in name or name == OUTPUT_REPAIR)
                assert replaced or name in self.gates, f"{name} was reopened"
        self.done = now
        steps = self.walk.machine.state.plan.steps
        self.gates = {name for name in now if name in steps and steps[name].guards}

    def _edited(self, step: Step, signal: PlanEdited) -> None:
        """Taken: what has begun and was not cancelled stands as it stood. Not taken: nothing happened."""
        outcome = dict(step.answered)[signal.signal_id]
        if outcome != "applied":
            assert outcome == "superseded"
            assert not step.frames
            return
        assert step.write.plan is not None
        nodes, steps = self.walk.machine.state.nodes, self.walk.machine.state.plan.steps
        for name, (status, attempt, generation, prompt_id) in self.before.items():
            root = name.split("[", 1)[0]
            if root in signal.cancel or root not in steps or steps[root].guards or self.walk.over:
                continue
            now = nodes[name]
            if status == NodeStatus.READY:
                # There may be room for it now.
                continue
            assert (now.attempt, now.generation) == (attempt, generation), name
            if now.status.value != status:
                # An edit may give a join what it needs without this one.
                assert now.status is NodeStatus.SKIPPED, name
                assert status != NodeStatus.COMPLETED
            elif prompt_id is not None and status == NodeStatus.WAITING:
                assert prompt_id in self.walk.machine.state.prompts

    def _decided(self, signal: Decided) -> None:
        """Note what the people at a gate let pass."""
        asked = self.asks.get(signal.prompt_id)
        if asked is not None and signal.decision is not None and signal.prompt_id in self.prompts:
            node_id, proposed = asked
            self.approved[node_id] = proposed if signal.decision["action"] == "approve" else signal.decision["answer"]

    def _started(self, step: Step) -> None:
        """Nothing is begun twice under one key, unless it goes on; a guarded node runs with what was approved."""
        state = self.walk.machine.state
        resumed = {
            frame["node_id"]: frame["payload"]["resumed"] for frame in step.said if frame["type"] == "node_start"
        }
        for node_id in step.dispatch:
            node = state.nodes[node_id]
            key = (node_id, node.generation, node.attempt)
            assert key not in self.calls or resumed[node_id], f"{key} runs twice"
            self.calls.add(key)
            gate = gate_of(state, node)
            if gate is not None and node.parent is None:
                names = would_run(state, node.step)
                shown = {name: value for name, value in self.approved[gate].items() if name in names}
                assert names == shown, f"{node_id} runs with what nobody approved"
                assert self.defined[gate] == definition(node.step.node)

    def _asked(self, step: Step) -> None:
        """Note what gates show, and about which definition."""
        steps = self.walk.machine.state.plan.steps
        for frame in step.said:
            if frame["type"] == "hitl_request" and frame["node_id"] in steps:
                gate = steps[frame["node_id"]]
                if gate.guards == "before":
                    self.asks[frame["payload"]["prompt"]["prompt_id"]] = (
                        gate.node_id, frame["payload"]["prompt"]["proposed"],
                    )  # fmt: skip
                    self.defined[gate.node_id] = definition(steps[gate.own.target].node)


def walk_through(seed: int, disturb: Callable[[Walk, Steered], list[Step]], *, edits: float = 0.1) -> Steady:
    """Walk a seed's run to its end; ``disturb`` may do to it what it likes between two signals."""
    world = Steered(seed, edits=edits)
    plan = world.plan()
    walk = Walk(plan, world.envelope())
    watched = Steady(walk)
    first = walk.step(begin())
    world.noted(first)
    watched.after(first)
    for _ in range(STEPS):
        for step in [] if walk.over else disturb(walk, world):
            world.noted(step)
            watched.after(step)
        if not walk.over:
            signal = world.next(walk)
            if isinstance(signal, Decided):
                watched.decided.add(signal.prompt_id)
            step = walk.step(signal)
            world.noted(step)
            watched.after(step, signal)
    return watched


@often
@given(SEEDS)
def test_edits_at_any_time_lose_and_repeat_nothing(seed: int) -> None:
    """Plan edits, F5, H5: the invariants above, whatever happens in whatever order."""
    walk_through(seed, lambda _walk, _world: [])


@often
@given(SEEDS)
def test_crashes_among_edits_lose_nothing(seed: int) -> None:
    """F10, H6: what a rule holds and what an approval covers is read from the rows again."""

    def crash(walk: Walk, world: Steered) -> list[Step]:
        if world.chance.random() > 0.3:
            return []
        world.asked = None
        walk.revive()
        return [walk.step(lost(walk))]

    walk_through(seed, crash)


@often
@given(SEEDS)
def test_a_revived_machine_takes_edits_like_the_one_that_never_stopped(seed: int) -> None:
    """F10: two machines get the same signals, edits and triggers too; one is read from its rows before each of them."""
    world = Steered(seed, pauses=False, edits=0.15)
    plan, envelope = world.plan(), world.envelope()
    envelope["policies"]["concurrency"] = 256
    steady, shaken = Walk(plan, envelope), Walk(plan, envelope)
    shaken.step(begin())
    world.noted(steady.step(begin()))
    for _ in range(STEPS // 2):
        if steady.over:
            break
        signal = world.next(steady)
        shaken.wall.ms = steady.wall.ms
        shaken.revive()
        step, other = steady.step(signal), shaken.step(signal)
        world.noted(step)
        assert other.said == step.said
        assert set(other.dispatch) == set(step.dispatch)
        assert in_order(other) == in_order(step)
    assert shaken.over == steady.over
    assert shaken.rows.events == steady.rows.events


def test_the_walks_meet_what_they_are_about() -> None:
    """These seeds come across edits that are taken and refused, every trigger and action, and gates that ask again."""
    told: set[str] = set()
    for seed in range(250):
        watched = walk_through(seed, lambda _walk, _world: [], edits=0.2)
        for data in watched.walk.rows.events:
            frame = orjson.loads(data)
            if frame["type"] == "policy_triggered":
                told |= {frame["payload"]["trigger"], frame["payload"]["action"]}
            elif frame["type"] == "plan_updated":
                told.add(f"plan by {frame['payload']['author'].split(':')[0]}")
            elif frame["type"] == "hitl_request" and "\n\n" in frame["payload"]["prompt"]["question"]:
                told.add(f"again {frame['node_id'].split('_')[0]}")
    assert told >= {
        "on_start", "on_node_complete", "on_validation_fail", "on_timeout", "manual", "replan", "hitl", "fail", "pause",
        "emit", "plan by user", "plan by policy", "again review", "again guard",
    }  # fmt: skip
