"""The auditor earns its keep: bugs planted in the engine and the store are found within a few seeds."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest

from contracts.outcome import Retry
from engine import answers, failures, mail
from engine.record import frames_of
from engine.state import NodeState
from engine.turn import Transition, Turn
from engine.walker import Walker
from store import dialect, signals
from store.unit import Unit
from tests.simulation.runner import simulate
from tests.simulation.world import Scenario

Json = dict[str, Any]
Plant = Callable[[pytest.MonkeyPatch], None]


def no_fence(patch: pytest.MonkeyPatch) -> None:
    """The journal writes whatever it is given, whoever holds the run."""
    fenced = "epoch = ?2 AND last_seq = ?3 AND worker IS NOT NULL"
    assert fenced in dialect.LITE_FENCE
    patch.setattr(dialect, "LITE_FENCE", dialect.LITE_FENCE.replace(fenced, "?2 = ?2 AND ?3 = ?3"))


def fence_without_epoch(patch: pytest.MonkeyPatch) -> None:
    """Only the last event is compared: who slept while the run was taken may still write before the next one does."""
    assert "epoch = ?2" in dialect.LITE_FENCE
    patch.setattr(dialect, "LITE_FENCE", dialect.LITE_FENCE.replace("epoch = ?2", "?2 = ?2"))


def release_without_a_look(patch: pytest.MonkeyPatch) -> None:
    """A run is let go of although a signal has just been left for it."""
    assert "(?11 AND inbox = ?10)" in dialect.LITE_FENCE
    patch.setattr(dialect, "LITE_FENCE", dialect.LITE_FENCE.replace("(?11 AND inbox = ?10)", "?11"))


def speak_before_the_commit(patch: pytest.MonkeyPatch) -> None:
    """Frames leave before what they say is durable."""
    append = Walker.append

    def eager(self: Walker, transition: Transition) -> None:
        self.shell.feed.publish(self.state.run_id, frames_of(self.state, transition))
        append(self, transition)

    patch.setattr(Walker, "append", eager)


def repeat_after_a_crash(patch: pytest.MonkeyPatch) -> None:
    """A call that must not be repeated is made again when its process died."""

    def again(turn: Turn, node: NodeState, *_why: Any) -> None:
        node.resumed = True
        turn.make_ready(node)

    patch.setattr(failures, "ask_effect", again)


def repeat_what_does_not_fit(patch: pytest.MonkeyPatch) -> None:
    """A call that has happened is made again because its output does not fit."""

    def may(node: NodeState, _outcome: Retry) -> bool:
        return node.attempt < node.step.max_attempts

    patch.setattr(failures, "_may_repeat", may)


def forget_the_backoff(patch: pytest.MonkeyPatch) -> None:
    """A run that was claimed while it backs off has no timer."""
    append, arm = Walker.append, Walker._arm
    appending: list[Walker] = []

    def quiet(self: Walker, transition: Transition) -> None:
        appending.append(self)
        append(self, transition)
        appending.pop()

    patch.setattr(Walker, "append", quiet)
    patch.setattr(Walker, "_arm", lambda self: None if appending else arm(self))


def linger_behind_a_release(patch: pytest.MonkeyPatch) -> None:
    """What a run does right after it was let go of is written later than that, when nobody holds it any more."""
    flush = Walker._flush

    def forgetful(self: Walker, *, release: bool = False) -> None:
        flush(self, release=release)
        self._releasing = False

    patch.setattr(Walker, "_flush", forgetful)


def take_no_for_yes(patch: pytest.MonkeyPatch) -> None:
    """A rejection goes on as an approval (H4)."""
    act = answers._act

    def agreeable(turn: Turn, node: NodeState, prompt: Any, decision: Any) -> None:
        action = "approve" if decision["action"] == "reject" else decision["action"]
        act(turn, node, prompt, {**decision, "action": action})

    patch.setattr(answers, "_act", agreeable)


def count_the_wait(patch: pytest.MonkeyPatch) -> None:
    """Waiting for people is not accounted for."""

    def forget(self: Turn) -> None:
        self.state.ledger.waiting_since = None

    patch.setattr(Turn, "_stop_waiting", forget)


def expire_in_silence(patch: pytest.MonkeyPatch) -> None:
    """A prompt expires and its run is not told."""
    leave = signals.leave

    async def silent(unit: Unit, run_id: str, tenant: str, kind: str, payload: str, now_ms: int) -> Any:
        expired = b'"status":"expired"' in payload.encode()
        return None if expired else await leave(unit, run_id, tenant, kind, payload, now_ms)

    patch.setattr(signals, "leave", silent)


def lose_the_second_letter(patch: pytest.MonkeyPatch) -> None:
    """The holder of a run never reads its second signal."""
    take = mail.Mail.take
    patch.setattr(mail.Mail, "take", lambda self, rows: take(self, [row for row in rows if row.signal_id != 2]))


def _body(nodes: list[Json], edges: list[tuple[str, str]]) -> Json:
    plan = {
        "nodes": nodes,
        "edges": [{"from": start, "to": end} for start, end in edges],
        "output": {"mode": "map", "map": {"/last": {"node_id": nodes[-1]["node_id"], "pointer": ""}}},
    }
    return {"objective": "Do it", "output_contract": {"schema": True}, "workflow": {"plan": plan}}


def _chain(name: str, many: int, **node: Any) -> tuple[list[Json], list[tuple[str, str]]]:
    names = [f"{name}{number}" for number in range(many)]
    return [{"node_id": each, **node} for each in names], list(pairwise(names))


def drawn(scenario: Scenario) -> Scenario:
    """What the seed says."""
    return scenario


def sleepy(scenario: Scenario) -> Scenario:
    """Processes that fall asleep right after a call has answered, and wake up when others have taken their runs."""
    call = {"kind": "call", "capability_id": "sim.far", "inputs": {"lands": {"value": 2}}}
    (first, one), (second, other) = _chain("a", 12, **call), _chain("b", 12, **call)
    return replace(
        scenario, kinds=("freeze_at",), points=("attempt.after_call",), trouble=6, until=16.0, processes=2, far=True,
        skewed=False, room=1_000, bodies=(_body([*first, *second], [*one, *other]),) * 4,
    )  # fmt: skip


def early(scenario: Scenario) -> Scenario:
    """Callbacks that come while their run still waits for a time."""
    delays, edges = _chain("d", 3, kind="delay", seconds=1.2)
    waits, more = _chain("w", 3, kind="wait")
    body = _body([*delays, *waits], [*edges, ("d2", "w0"), *more])
    return replace(scenario, trouble=0, bodies=(body,) * 2)


Scene = Callable[[Scenario], Scenario]
PLANTED: tuple[tuple[Plant, int, Scene], ...] = (
    (no_fence, 60, sleepy),
    (fence_without_epoch, 200, sleepy),
    (speak_before_the_commit, 60, sleepy),
    (release_without_a_look, 400, drawn),
    (repeat_after_a_crash, 60, drawn),
    (repeat_what_does_not_fit, 200, drawn),
    (forget_the_backoff, 400, drawn),
    (linger_behind_a_release, 30, early),
    (take_no_for_yes, 60, drawn),
    (count_the_wait, 30, drawn),
    (expire_in_silence, 90, drawn),
    (lose_the_second_letter, 60, drawn),
)
"""(the bug, within how many seeds it must be found, what is made of a seed's scenario)"""


@pytest.mark.parametrize(("plant", "seeds", "scene"), PLANTED, ids=[plant.__name__ for plant, _, _ in PLANTED])
def test_a_planted_bug_is_found(plant: Plant, seeds: int, scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of them is a promise of the design that somebody could break with one line."""
    plant(monkeypatch)
    assert any(simulate(scene(Scenario.draw(seed)))[1] for seed in range(1, seeds + 1))


@pytest.mark.parametrize("scene", [sleepy, early])
def test_the_scenes_are_without_fault_themselves(scene: Scene) -> None:
    """Without the bugs nothing is found there."""
    assert [simulate(scene(Scenario.draw(seed)))[1] for seed in range(1, 9)] == [[]] * 8
