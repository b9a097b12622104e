"""The auditor finds what it is for: each rule is shown a run that breaks it."""

import json
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.durability.auditor import Effect, Stored, audit


def frame(seq: int, type_: str, node_id: str | None = None, **payload: object) -> bytes:
    return json.dumps({"type": type_, "id": seq, "node_id": node_id, "payload": payload}).encode()


def called(node_id: str, key: str = "k", what: str = "begin") -> Effect:
    return Effect(what, "run", node_id, 1, key, 1)


def sound() -> Stored:
    """A run with a call and an answered question, as it should be."""
    prompt, decision = {"prompt_id": "prm"}, {"action": "approve"}
    return Stored(
        {
            1: frame(1, "start"),
            2: frame(2, "node_start", "a", kind="call"),
            3: frame(3, "node_complete", "a"),
            4: frame(4, "node_start", "ok", kind="ask"),
            5: frame(5, "hitl_request", "ok", prompt=prompt),
            6: frame(6, "run_waiting"),
            7: frame(7, "hitl_resolved", "ok", prompt_id="prm", decision=decision),
            8: frame(8, "run_resumed"),
            9: frame(9, "node_complete", "ok"),
            10: frame(10, "complete"),
        },
        status="completed",
        last_seq=10,
        nodes={"a": "completed", "ok": "completed"},
        effects=[called("a"), called("a", what="end")],
    )


def test_a_sound_run_has_no_fault() -> None:
    end = sound()
    assert audit(end, seen=end.log, before=[sound()], answers={"prm": "approve"}, once=["a"]) == []


def without(picture: Stored, seq: int) -> Stored:
    return replace(picture, log={at: data for at, data in picture.log.items() if at != seq})


def exchanged(picture: Stored, seq: int, data: bytes) -> Stored:
    return replace(picture, log={**picture.log, seq: data})


BROKEN: dict[str, Callable[[Stored], Stored]] = {
    "the log has the numbers": lambda run: without(run, 3),
    "last_seq is": lambda run: replace(run, last_seq=11),
    "another id than its row": lambda run: exchanged(run, 3, frame(4, "node_complete", "a")),
    "terminal frames": lambda run: exchanged(run, 9, frame(9, "complete")),
    "the run is failed": lambda run: replace(run, status="failed"),
    "do not alternate": lambda run: exchanged(run, 8, frame(8, "run_waiting")),
    "after node_complete": lambda run: exchanged(run, 4, frame(4, "node_start", "a", kind="call")),
    "without node_start": lambda run: exchanged(run, 2, frame(2, "log")),
    "its last frame is node_start": lambda run: exchanged(run, 9, frame(9, "log")),
    "asked 2 times": lambda run: exchanged(run, 8, frame(8, "hitl_request", "ok", prompt={"prompt_id": "prm"})),
    "resolved 2 times": lambda run: exchanged(run, 8, run.log[7].replace(b'"id": 7', b'"id": 8')),
    "reject instead of approve": lambda run: exchanged(run, 7, run.log[7].replace(b"approve", b"reject")),
    "called 2 times": lambda run: replace(run, effects=[*run.effects, called("a")]),
    "has the keys": lambda run: replace(run, effects=[*run.effects, called("b"), called("b", "other")]),
    "never called": lambda run: replace(run, effects=[]),
    "belongs to": lambda run: replace(run, worker="wrk"),
    "prompts are open": lambda run: replace(run, open_prompts=1),
    "never answered": lambda run: replace(run, pending_signals=1),
    "never ended": lambda run: replace(run, nodes={**run.nodes, "b": "running"}),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_each_fault_is_found(fault: str) -> None:
    found = audit(BROKEN[fault](sound()), seen={}, answers={"prm": "approve"}, once=["a"])
    assert any(fault in each for each in found), found


def test_what_was_seen_must_be_so() -> None:
    end = sound()
    assert audit(end, seen={**end.log, 3: b"{}"}) != []
    assert audit(end, seen={**end.log, 11: b"{}"}) != []


def test_what_was_committed_before_a_crash_must_stay() -> None:
    end = sound()
    changed = exchanged(sound(), 2, frame(2, "log"))
    again = replace(end, effects=[*end.effects, called("a")])
    assert audit(end, seen={}, before=[changed]) != []
    assert audit(again, seen={}, before=[end]) == ["a had completed and was called again"]
    assert audit(replace(end, nodes={**end.nodes, "a": "failed"}), seen={}, before=[end]) != []
