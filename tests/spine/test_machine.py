"""The pure machine under generated plans, outcomes, people and crashes (F6, F10, H4, H6; design §1.2, §4).

A seed stands for a plan, an envelope and everything that happens to the run; the same seed is the same run.
Would have survived mastra#24581, #15552, #9288, #10746 (parallel width, pause order, answer order), dbos#453 (work
never picked up), n8n#14863 (a wait that never resumes) and prefect#20388.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import orjson
from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.events import FAILURE_CODES, TERMINAL
from contracts.lifecycle import NODE_TERMINAL, NodeStatus, RunStatus
from contracts.memory import MemoryWrite
from contracts.outcome import Choose, Done, Pause
from engine.signals import AttemptEnded, CancelAsked, ChildEnded, Decided, PauseAsked, ResumeAsked
from engine.waiting import awaited
from tests.spine.walks import Step, Walk, World, begin, completed, drain, lost

STEPS = 400
SEEDS = st.integers(0, 2**32)
often = settings(max_examples=400, derandomize=True, deadline=None, database=None)


class Watched:
    """Checks after every step that nothing was promised which does not hold."""

    def __init__(self, walk: Walk) -> None:
        self.walk = walk
        self.types: list[str] = []
        self.done: dict[str, tuple[int, str | None]] = {}
        self.ended: dict[str, str] = {}
        self.waiting: tuple[list[str], list[str]] | None = None
        self.decided: set[str] = set()
        """prompts that were decided: the desk closes those, not the run"""
        self.children: set[str] = set()
        """child runs that were born and neither ended nor were called off"""
        self.born: set[str] = set()
        self.held: set[str] = set()
        """child runs that were paused with this one"""
        self.kept: dict[str, list[MemoryWrite]] = {}
        """call of a chat → what is to be remembered once its result is approved"""

    def after(self, step: Step, signal: Any = None) -> None:
        frames = step.said
        self.types += [frame["type"] for frame in frames]
        assert sum(kind in TERMINAL for kind in self.types) == (1 if self.walk.over else 0)
        assert not self.walk.over or not frames or frames[-1]["type"] in TERMINAL
        self._statuses(step)
        self._waits(frames)
        self._alive()
        self._family(step, signal)
        self._paused(step)
        self._remembered(step, signal)
        if isinstance(signal, (Decided, CancelAsked, PauseAsked, ResumeAsked, ChildEnded)):
            # What it decides may make an earlier callback useless.
            (first, _), *others = step.answered
            assert (first, [outcome for _, outcome in others]) == (signal.signal_id, ["superseded"] * len(others))
        for frame in frames:
            if frame["type"] == "failed":
                assert frame["payload"]["code"] in FAILURE_CODES
                assert frame["payload"]["code"] not in ("stalled", "internal"), frame

    def _remembered(self, step: Step, signal: Any) -> None:
        """R5: what an attempt wants remembered is written with its completion, all of it, and by nothing else.

        Of a call whose result people look at first, with their approval of exactly that result.
        """
        completed = [frame["node_id"] for frame in step.said if frame["type"] == "node_complete"]
        if isinstance(signal, Decided):
            kept = [write for node_id in completed for write in self.kept.pop(node_id, ())]
            approved = (signal.decision or {}).get("action") == "approve"
            # An edit that changes nothing is an approval.
            assert step.write.memory == kept or (not approved and step.write.memory == [])
            return
        # A node that goes on without its output completes too, with an error entry and nothing to remember.
        worked = isinstance(signal, AttemptEnded) and isinstance(signal.report.outcome, (Choose, Done))
        completes = worked and signal.node_id in completed
        assert step.write.memory == (list(signal.report.memory) if completes else [])
        if isinstance(signal, AttemptEnded) and isinstance(signal.report.outcome, (Pause, Done)) and not completes:
            node = self.walk.machine.state.nodes[signal.node_id]
            if signal.report.memory and node.status == "waiting":
                assert len((node.parked or {})["memory"]) == len(signal.report.memory)
                if isinstance(signal.report.outcome, Done):
                    self.kept[signal.node_id] = list(signal.report.memory)

    def _family(self, step: Step, signal: Any) -> None:
        """A child is born once; at the end of the run every one has ended or was called off; nobody else gets mail.

        As long as the run is paused, so are its children (F6).
        """
        for birth in step.write.spawned:
            assert birth.run.run_id not in self.born
            assert (birth.run.parent_run_id, birth.run.status) == (self.walk.rows.run.run_id, "queued")
            self.born.add(birth.run.run_id)
            self.children.add(birth.run.run_id)
        if isinstance(signal, ChildEnded) and ("applied" in [outcome for _, outcome in step.answered]):
            self.children.discard(signal.child_run_id)
        for letter in step.write.mail:
            assert letter.run_id in self.children
            if letter.kind == "cancel":
                self.children.discard(letter.run_id)
            else:
                assert letter.kind == ("resume" if letter.run_id in self.held else "pause")
                self.held ^= {letter.run_id}
        assert not self.walk.over or not self.children
        state = self.walk.machine.state
        self.held &= self.children
        assert self.held == (self.children if state.ledger.paused is not None else set())
        assert {state.nodes[node_id].child_run_id for node_id in state.children} == self.children

    def _statuses(self, step: Step) -> None:
        """A completed node keeps its output for ever; other ends change only when a new plan drops the node."""
        now = completed(self.walk)
        if step.write.plan is None:
            assert {name: now.get(name) for name in self.done} == self.done, "a completed node changed"
            for name, status in self.ended.items():
                assert self.walk.rows.nodes[name].status == status
        else:
            kept = {name: entry for name, entry in self.done.items() if "[" not in name}
            assert {name: now.get(name) for name in kept} == kept
        self.done = now
        self.ended = {
            name: row.status for name, row in self.walk.rows.nodes.items() if NodeStatus(row.status) in NODE_TERMINAL
        }

    def _waits(self, frames: list[dict[str, Any]]) -> None:
        """``run_waiting`` and ``run_resumed`` take turns; a wait that goes on is said again only when it changed."""
        for frame in frames:
            if frame["type"] == "run_waiting":
                said = (frame["payload"]["waiting_on"], frame["payload"]["prompt_ids"])
                assert said[0]
                assert self.waiting != said
                self.waiting = said
            elif frame["type"] == "run_resumed":
                assert self.waiting
                self.waiting = None
            elif frame["type"] in ("node_start", "node_retry"):
                assert self.waiting is None, frame
        state = self.walk.machine.state
        if not self.walk.over:
            assert (self.waiting is not None) == (state.status is RunStatus.WAITING)
            assert self.waiting is None or self.waiting == (list(awaited(state)), list(state.prompts))

    def _paused(self, step: Step) -> None:
        """A pause is a gate before every dispatch; with nothing running the run waits for its end."""
        state = self.walk.machine.state
        if not self.walk.over and state.ledger.paused is not None:
            assert not step.dispatch
            assert "node_start" not in [frame["type"] for frame in step.said]
            still = state.running or state.status is RunStatus.PLANNING
            assert still or (state.status is RunStatus.WAITING and "paused" in state.waiting_on)

    def _alive(self) -> None:
        """Over, or waiting for something, or something runs or will: nothing stalls silently."""
        state = self.walk.machine.state
        if self.walk.over:
            assert not any((state.running, state.prompts, state.backoff, state.ready, state.timers, state.callbacks))
            assert not state.children
            assert all(NodeStatus(row.status) in NODE_TERMINAL for row in self.walk.rows.nodes.values())
            assert all(row.status != "open" or row.prompt_id in self.decided for row in self.walk.rows.prompts.values())
        elif state.status is RunStatus.WAITING:
            assert state.waiting_on == awaited(state) != ()
            assert not state.running
            assert state.ledger.paused is not None or not state.backoff
        elif state.status is RunStatus.PLANNING:
            assert state.ledger.asked is not None
        else:
            assert state.running or state.backoff


def walk_through(seed: int, disturb: Callable[[Walk, World], list[Step]]) -> Watched:
    """Walk a seed's run to its end; ``disturb`` may do to it what it likes between two signals."""
    world = World(seed)
    walk = Walk(world.plan(), world.envelope())
    watched = Watched(walk)
    watched.after(walk.step(begin()))
    for _ in range(STEPS):
        for step in [] if walk.over else disturb(walk, world):
            world.noted(step)
            watched.after(step)
        if not walk.over:
            _go_on(watched, world)
    return watched


def _go_on(watched: Watched, world: World) -> None:
    signal = world.next(watched.walk)
    if isinstance(signal, Decided):
        watched.decided.add(signal.prompt_id)
    step = watched.walk.step(signal)
    world.noted(step)
    watched.after(step, signal)


@often
@given(SEEDS)
def test_whatever_happens_the_invariants_hold(seed: int) -> None:
    """F6, F10: moves follow the tables, the log has no gap, one end, completed nodes stay, nothing stalls silently."""
    watched = walk_through(seed, lambda _walk, _world: [])
    assert watched.walk.over or len(watched.types) > STEPS // 2


@often
@given(SEEDS)
def test_a_crash_at_any_point_loses_nothing(seed: int) -> None:
    """F10: the machine is thrown away and read from the rows, now and then in the middle of everything."""

    def crash(walk: Walk, world: World) -> list[Step]:
        if world.chance.random() > 0.3:
            return []
        world.asked = None
        walk.revive()
        return [walk.step(lost(walk))]

    walk_through(seed, crash)


@often
@given(SEEDS)
def test_a_drain_at_any_point_gives_back_what_runs(seed: int) -> None:
    """P5: what was given back goes on in the next process, in the same attempt; a ``once`` effect is asked about."""

    def stop(walk: Walk, world: World) -> list[Step]:
        if world.chance.random() > 0.2:
            return []
        first = walk.step(drain(walk))
        if walk.over:
            return [first]
        running = {name for name, row in walk.rows.nodes.items() if row.status == NodeStatus.RUNNING}
        assert all(walk.machine.state.nodes[name].step.node.effects == "once" for name in running)
        world.asked = None
        walk.revive()
        # Between the two nothing runs and nobody holds the run, so only the second has to leave it alive.
        second = walk.step(lost(walk))
        return [Step([*first.frames, *second.frames], second.write, second.dispatch, second.replan, [])]

    walk_through(seed, stop)


@often
@given(SEEDS)
def test_the_same_signals_give_the_same_run(seed: int) -> None:
    """Design §1.2: given the same state and signals the machine says the same, byte for byte."""
    logs = [walk_through(seed, lambda _walk, _world: []).walk.rows.events for _ in range(2)]
    assert logs[0] == logs[1]


def in_order(step: Step) -> dict[str, Any]:
    """What a step wrote, where the order of node rows does not show."""
    write = asdict(step.write)
    return write | {"ledger_json": orjson.loads(write["ledger_json"]), "forgotten": sorted(write["forgotten"])}


@often
@given(SEEDS)
def test_a_revived_machine_reacts_like_the_one_that_never_stopped(seed: int) -> None:
    """F10: rows hold everything. Two machines get the same signals; one is read from its rows before each of them."""
    # With room for all and no pause, the order of the queue is the order of events; the queue itself is not stored.
    world = World(seed, pauses=False)
    plan, envelope = world.plan(), world.envelope()
    envelope["policies"]["concurrency"] = 256
    steady, shaken = Walk(plan, envelope), Walk(plan, envelope)
    for walk in (steady, shaken):
        step = walk.step(begin())
    for _ in range(STEPS // 4):
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
