"""Forks of generated runs at any point of their life, walked to the end (F6; design §1.2)."""

from __future__ import annotations

from copy import deepcopy
from dataclasses import replace

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.lifecycle import NODE_TERMINAL, NodeStatus
from engine.copying import Origin
from engine.fork import ForkOrder, fork
from engine.revive import machine_of
from engine.signals import Decided, Signal
from store.rows import RunRow
from tests.spine.test_machine import Watched
from tests.spine.walks import Rows, Step, Walk, World, begin, lost

STEPS = 300
often = settings(max_examples=200, derandomize=True, deadline=None, database=None)


def walked(world: World, walk: Walk, steps: int) -> None:
    """Let things happen to a run for a while."""
    world.noted(walk.step(begin()))
    for _ in range(steps):
        if not walk.over:
            world.noted(walk.step(world.next(walk)))


def forked(walk: Walk, node_id: str | None) -> Walk:
    """A run forked from another one as it stands, as whoever claims it reads it."""
    rows = walk.rows
    origin = Origin(rows.run, rows.envelope_json, rows.plans[rows.run.plan_version], list(rows.nodes.values()))
    order = ForkOrder("run_2", "user:ben", "cid", origin, node_id)
    birth, _ = fork(order, walk.shell, walk.wall.ms)
    run: RunRow = replace(birth.run, worker="wrk_2", epoch=1, last_seq=0)
    assert birth.write.plan is not None
    made = object.__new__(Walk)
    made.ids, made.wall, made.shell = walk.ids, walk.wall, walk.shell
    made.rows = Rows(run, birth.envelope_json, {})
    made.rows.apply(birth.write)
    made.machine = machine_of(made.rows.loaded(), made.shell)
    return made


@often
@given(st.integers(0, 2**32), st.integers(0, 60))
def test_a_fork_ends_and_repeats_nothing_that_was_copied(seed: int, steps: int) -> None:
    """F6: copied nodes are never dispatched and keep their output; the run they come from stays as it is."""
    world = World(seed, cancels=False, pauses=False)
    first = Walk(world.plan(), world.envelope())
    walked(world, first, steps)
    if first.machine.state.ledger.asked is not None:
        return
    before = deepcopy(first.rows)
    names = list(first.machine.state.plan.steps)
    second = forked(first, world.chance.choice([None, *names]))
    assert first.rows == before
    copies = {name: row.output_json for name, row in second.rows.nodes.items() if row.status == NodeStatus.COMPLETED}
    assert copies.items() <= {name: row.output_json for name, row in first.rows.nodes.items()}.items()
    world.asked = None
    _to_the_end(world, second, copies)


def _to_the_end(world: World, walk: Walk, copies: dict[str, str | None]) -> None:
    watched = Watched(walk)
    watched.types = ["start"]
    signal: Signal = lost(walk) if walk.machine.state.nodes else begin()
    for _ in range(STEPS):
        if walk.over:
            break
        step = walk.step(signal)
        world.noted(step)
        if isinstance(signal, Decided):
            watched.decided.add(signal.prompt_id)
        watched.after(step, signal)
        _not_again(walk, step, copies)
        if not walk.over:
            signal = world.next(walk)
    assert walk.over or len(watched.types) > STEPS // 2
    if walk.over:
        assert all(NodeStatus(row.status) in NODE_TERMINAL for row in walk.rows.nodes.values())


def _not_again(walk: Walk, step: Step, copies: dict[str, str | None]) -> None:
    """What was copied does not run; unless a new plan dropped it, it keeps its output."""
    if step.write.plan is not None:
        copies.clear()
    assert not copies.keys() & set(step.dispatch)
    for name in copies.keys() - set(step.write.forgotten):
        assert walk.rows.nodes[name].output_json == copies[name]
    for name in step.write.forgotten:
        copies.pop(name, None)
