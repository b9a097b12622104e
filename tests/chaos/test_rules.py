"""The auditor finds what it is for: each rule is shown a history that breaks it, and one that does not."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from tests.chaos.crowd import Followed
from tests.chaos.history import DecisionSeen, History, NodeWrite, PromptSeen, RunWrite, SignalSeen, Stall
from tests.chaos.load import Glance, Spec
from tests.chaos.people import Called, Response
from tests.chaos.recovery import Mark, percentile, recoveries
from tests.chaos.rules import RULES, audited
from tests.chaos.test_rules_kept import BROKEN as KEPT
from tests.chaos.viewers import Viewer
from tests.durability.auditor import Effect, Stored

KEY = "test-0"


def frame(seq: int, type_: str, node_id: str | None = None, **payload: object) -> bytes:
    return json.dumps({"type": type_, "id": seq, "node_id": node_id, "payload": payload}).encode()


DECISION = {"decision_id": "dec", "action": "approve"}
LOG = {
    1: frame(1, "start"),
    2: frame(2, "node_start", "a", kind="call", attempt=1, capability_id="step.once"),
    3: frame(3, "node_complete", "a", attempt=1, output={"by": 0}),
    4: frame(4, "node_start", "q", kind="ask", attempt=1),
    5: frame(5, "hitl_request", "q", prompt={"prompt_id": "prm"}),
    6: frame(6, "run_waiting"),
    7: frame(7, "hitl_resolved", "q", prompt_id="prm", status="settled", decision=DECISION),
    8: frame(8, "run_resumed"),
    9: frame(9, "node_complete", "q", attempt=1, output=None),
    10: frame(10, "complete"),
}


def called(node_id: str = "a", key: str = "k", what: str = "begin", at: float = 5.0, pid: int = 1) -> Effect:
    return Effect(what, "run", node_id, 1, key, pid, at)


def viewer(seen: dict[int, bytes]) -> Viewer:
    found = Viewer([], "run", Glance(0, 0.0, ()))
    found.seen = dict(seen)
    return found


def moved(at: float, by: str, **changes: Any) -> RunWrite:
    """A change of the run's row; what is not said stays as it is at ``epoch``, ``seq``, ``status`` and ``worker``."""
    now: dict[str, Any] = {"epoch": 1, "seq": 6, "status": "waiting", "worker": None} | changes
    before: dict[str, Any] = {f"{name}_before": now[name] for name in ("epoch", "seq", "status", "worker")}
    return RunWrite(at=at, by=by, run_id="run", **(before | now))


def sound() -> History:
    """A run with a call and an answered question that changed hands once: as it should be."""
    spec = Spec(KEY, "approval", {}, {"q": "approve"})
    followed = Followed(spec, {"run"}, [viewer(LOG), viewer(LOG)], done=True)
    ended = {"a": "completed", "q": "completed"}
    run = Stored(LOG, "completed", None, 10, ended, effects=[called(), called(what="end")])
    return History(
        runs={"run": run},
        keys={"run": KEY},
        followed=[followed],
        responses=[Response("prm", "approve", 200, {"decision": DECISION}), Response("prm", "reject", 409)],
        writes=[
            moved(1, "one", status_before=None, status="running", worker="w1", epoch=1, seq=1, seq_before=0),
            moved(6, "one", status_before="running", worker_before="w1", seq_before=1),
            moved(8, "two", epoch_before=1, epoch=2, worker_before=None, worker="w2"),
            moved(
                9, "two", epoch=2, seq_before=6, seq=10, status_before="waiting", status="completed", worker_before="w2"
            ),
        ],
        nodes=[
            NodeWrite(2, "one", "run", "a", None, "running", 1, 0, None),
            NodeWrite(6, "one", "run", "a", "running", "completed", 1, 0, "{}"),
            NodeWrite(6, "one", "run", "q", None, "waiting", 1, 0, None),
            NodeWrite(9, "two", "run", "q", "waiting", "completed", 1, 0, "{}"),
        ],
        enlisted={"w1": "one", "w2": "two"},
        prompts=[PromptSeen("prm", "run", "q", "approval", ("open", "settled"))],
        decisions=[DecisionSeen("dec", "prm", "run", "approve", True)],
        signals=[SignalSeen("run", "decision", "applied")],
        pids={1: "one", 2: "two"},
    )


def test_a_sound_history_has_no_violation() -> None:
    assert audited(sound()) == []


# --- ways to break it ---

Break = Callable[[History], History]


def with_run(**changes: Any) -> Break:
    return lambda found: replace(found, runs={"run": replace(found.runs["run"], **changes)})


def with_frame(seq: int, data: bytes) -> Break:
    def change(found: History) -> History:
        log = {**LOG, seq: data}
        followed = replace(found.followed[0], viewers=[viewer(log)])
        return replace(found, runs={"run": replace(found.runs["run"], log=log)}, followed=[followed])

    return change


def with_followed(**changes: Any) -> Break:
    return lambda found: replace(found, followed=[replace(found.followed[0], **changes)])


def with_write(place: int, **changes: Any) -> Break:
    def change(found: History) -> History:
        writes = list(found.writes)
        writes[place] = replace(writes[place], **changes)
        return replace(found, writes=writes)

    return change


def without_write(place: int) -> Break:
    return lambda found: replace(found, writes=[each for at, each in enumerate(found.writes) if at != place])


def with_node(*more: NodeWrite) -> Break:
    return lambda found: replace(found, nodes=[*found.nodes, *more])


def with_seen(seen: dict[int, bytes], *faults: str) -> Break:
    def change(found: History) -> History:
        other = viewer(seen)
        other.faults += faults
        return replace(found, followed=[replace(found.followed[0], viewers=[viewer(LOG), other])])

    return change


def with_effects(*more: Effect) -> Break:
    return lambda found: replace(
        found, runs={"run": replace(found.runs["run"], effects=[*found.runs["run"].effects, *more])}
    )


def with_prompt(**changes: Any) -> Break:
    return lambda found: replace(found, prompts=[replace(found.prompts[0], **changes)])


def with_decisions(*decisions: DecisionSeen) -> Break:
    return lambda found: replace(found, decisions=list(decisions))


def with_responses(*responses: Response) -> Break:
    return lambda found: replace(found, responses=list(responses))


def said(by: int, status: int) -> Called:
    return Called("run", "a", {"by": by}, status)


WINNER = DecisionSeen("dec", "prm", "run", "approve", True)
OTHER = DecisionSeen("dec2", "prm", "run", "reject", True)
LEFT = Spec(KEY, "unanswered", {}, {"q": "leave"})
BROKEN: tuple[tuple[str, str, Break], ...] = (
    ("accepted", "given the runs []", with_followed(run_ids=set())),
    ("accepted", "given the runs ['run', 'run2']", with_followed(run_ids={"run", "run2"})),
    ("accepted", "is not there", lambda found: replace(found, runs={}, keys={})),
    ("accepted", "is of test-9", lambda found: replace(found, keys={"run": "test-9"})),
    ("accepted", "0 callers were given it", lambda found: replace(found, followed=[])),
    ("accepted", "answered 422", with_followed(refusals=["it was answered 422"])),
    ("ended", "nobody moves it on", with_run(status="running", worker="w2")),
    ("ended", "nobody moves it on", with_run(status="waiting")),
    ("ended", "terminal frames", with_frame(9, frame(9, "complete"))),
    ("ended", "never saw its end", with_followed(done=False)),
    ("ended", "nothing is asked", lambda found: with_followed(spec=LEFT)(with_run(status="waiting")(found))),
    ("verdicts", "expected was ['completed']", with_run(status="failed")),
    ("verdicts", "expected was ['failed']", with_decisions(replace(WINNER, action="reject"))),
    ("results", "2 results of attempt 1", with_frame(8, frame(8, "node_retry", "q", attempt=1))),
    ("results", "had ended as completed", with_node(NodeWrite(9, "two", "run", "q", "completed", "ready", 1, 0, None))),
    (
        "results", "had ended as completed",
        with_node(NodeWrite(9, "two", "run", "q", "completed", "completed", 1, 0, '"another"')),
    ),
    ("epochs", "epoch fell from 2 to 1", with_write(3, epoch=1)),
    ("epochs", "a change is missing", without_write(2)),
    ("epochs", "committed by one while w2 (two) held it", with_write(3, by="one")),
    ("epochs", "while None (nobody) held it", with_write(3, worker_before=None)),
    ("epochs", "within a transition", with_write(1, epoch=2)),
    ("epochs", "claimed it without a new epoch", with_write(2, epoch=1)),
    ("epochs", "one claimed it for w2", with_write(2, by="one")),
    ("epochs", "took it from w1", with_write(2, worker_before="w1")),
    ("epochs", "its log shrank", with_write(3, seq=5)),
    ("epochs", "it had ended as completed", with_write(3, status_before="completed")),
    ("owners", "held by w2", with_run(worker="w2")),
    ("owners", "nobody holds the run", with_run(nodes={"a": "running"})),
    ("viewers", "saw frame 3 as", with_seen({**LOG, 3: b"{}"})),
    ("viewers", "saw 9 of 10 frames", with_seen({seq: LOG[seq] for seq in range(1, 10)})),
    ("viewers", "saw the frames", with_seen({seq: data for seq, data in LOG.items() if seq != 4})),
    ("viewers", "came after", with_seen(LOG, "frame 7 came after 5")),
    ("viewers", "frame 3 was rewritten", lambda found: replace(found, rewritten=[("run", 3)])),
    ("decisions", "with 2 winning decisions", with_decisions(WINNER, OTHER)),
    ("decisions", "with 0 winning decisions", with_decisions()),
    ("decisions", "went through", with_prompt(statuses=("open", "settled", "expired"))),
    ("decisions", "of another run", with_decisions(replace(WINNER, run_id="run2"))),
    ("decisions", "asked was", with_prompt(node_id="another")),
    ("decisions", "the winner is", with_decisions(replace(WINNER, decision_id="dec9"))),
    ("decisions", "accepted as dec", with_responses(Response("prm", "reject", 200, {"decision": DECISION}))),
    ("decisions", "was answered 404", with_responses(Response("prm", "approve", 404))),
    ("decisions", "answered approve and is failed", with_run(nodes={"a": "completed", "q": "failed"})),
    ("decisions", "0 decisions were applied", lambda found: replace(found, signals=[])),
    ("accepted", "its parent run0 is not there", lambda found: replace(found, parents={"run": "run0"})),
    ("callbacks", "answered twice", with_followed(calls=[said(0, 200), said(1, 202)])),
    ("callbacks", "put out {'by': 0}, taken was [{'by': 1}]", with_followed(calls=[said(1, 200)])),
    ("callbacks", "was answered 500", with_followed(calls=[said(0, 500)])),
    ("effects", "(once) was called 2 times", with_effects(called(key="k2"))),
    ("effects", "ms after it had completed", with_effects(called(at=500.0))),
    ("ended", "was called 2 times", with_effects(called())),
    ("ended", "has the keys", with_effects(called("q", "k"), called("q", "k2"))),
)  # fmt: skip


@pytest.mark.parametrize(("rule", "text", "change"), BROKEN, ids=[f"{rule}: {text}" for rule, text, _ in BROKEN])
def test_each_violation_is_found(rule: str, text: str, change: Break) -> None:
    found = [violation for violation in audited(change(sound())) if violation.rule == rule]
    assert any(text in violation.text for violation in found), found


def test_every_rule_is_shown_broken() -> None:
    assert {rule for rule, _, _ in (*BROKEN, *KEPT)} == set(RULES)


def test_what_a_sleeping_process_does_when_it_wakes_up_is_known() -> None:
    """A call that was about to be made when its process was stopped is made late; nothing outside can prevent it."""
    late = replace(with_effects(called(at=500.0, pid=2))(sound()))
    woke = replace(late, stalls=[Stall("two", 4.0, 495.0)])
    again = [violation for violation in audited(late) if "had completed" in violation.text]
    assert again
    assert not [violation for violation in audited(woke) if "had completed" in violation.text]


def test_a_second_call_at_a_persons_word_is_none() -> None:
    """``not_happened`` calls a ``once`` step again, under another key."""
    found = with_effects(called(key="k2"))(sound())
    check = PromptSeen("chk", "run", "a", "effect_check", ("open", "settled"))
    word = DecisionSeen("dec3", "chk", "run", "not_happened", True)
    found = replace(found, prompts=[*found.prompts, check], decisions=[*found.decisions, word])
    assert not [violation for violation in audited(found) if violation.rule == "effects"]


# --- how long it took ---


def test_recovery_counts_from_the_fault_to_the_next_owner() -> None:
    """From the death of ``one`` (at 2) to the first frame of ``two`` (at 9); ``two`` itself was not hit."""
    history = sound()
    history.writes = [
        moved(1, "one", status_before=None, status="running", worker="w1", epoch=1, seq=1, seq_before=0),
        moved(5, "two", epoch_before=1, epoch=2, worker_before="w1", worker=None, seq=1, status="running"),
        moved(6, "two", epoch_before=2, epoch=3, worker="w2", worker_before=None, seq=1, status="running"),
        moved(9, "two", epoch=3, worker="w2", seq_before=1, seq=3, status="running"),
    ]
    assert recoveries(history, [Mark(2, "one", elsewhere=True)]) == [7]
    assert recoveries(history, [Mark(2, "two", elsewhere=True)]) == []
    assert recoveries(history, [Mark(0.5)]) == [], "it was not there yet"
    rested = [
        *history.writes[:1],
        moved(3, "one", worker="w1", seq_before=1, seq=2, status="waiting"),
        *history.writes[1:],
    ]
    assert recoveries(replace(history, writes=rested), [Mark(2, "one", elsewhere=True)]) == [], "it waited by then"
    assert recoveries(history, [Mark(7)]) == [2], "an outage: it moved on under the same owner"


def test_recovery_counts_from_when_somebody_was_there_to_see_it() -> None:
    """``one`` dies at 2, and ``two``, which would have seen it, at 4; ``one`` is the first to be back, at 5."""
    came = [(0, "one", "w1"), (0, "two", "w2"), (5, "one", "w3"), (6, "two", "w4")]
    history = replace(sound(), arrivals=came)
    history.writes = [
        moved(1, "one", status_before=None, status="running", worker="w1", epoch=1, seq=1, seq_before=0),
        moved(
            9, "two", epoch_before=1, epoch=2, worker_before=None, worker="w2", seq_before=1, seq=2, status="running"
        ),
    ]
    both = [Mark(2, "one", elsewhere=True), Mark(4, "two", elsewhere=True)]
    assert recoveries(history, both) == [4]
    assert recoveries(history, both[:1]) == [7], "the other one was there all the time"
    again = [*both, Mark(7, "one", elsewhere=True)]
    assert recoveries(history, again) == [3], "who came back first was hit again"


def test_percentiles_are_values_that_were_measured() -> None:
    assert percentile([], 0.5) is None
    assert percentile([3.0, 1.0, 2.0], 0.5) == 2.0
    assert percentile([float(n) for n in range(1, 101)], 0.99) == 99.0
