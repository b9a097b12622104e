"""The auditor finds what is wrong with memory, documents and turns: each rule is shown histories that break it."""

import json
import random
from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.chaos.crowd import Followed
from tests.chaos.draft import Draft, Paper
from tests.chaos.history import History, MemorySeen, MessageSeen, NodeWrite, PaperSeen
from tests.chaos.kept import COUNTER, context
from tests.chaos.load import DRAWN, Spec, mix
from tests.chaos.rules import RULES
from tests.chaos.rules_kept import memory, papers, turns
from tests.chaos.talks import ANSWER, Told
from tests.durability.auditor import Stored

KEY, SCOPE = "test-0", "test-1"
TOLD = Told("cnv", 202, "run", "msg-2")
SAID = MessageSeen("cnv", "msg-1", None, "user", 1, None)
ANSWERED = MessageSeen("cnv", "msg-2", "msg-1", "assistant", 2, "run")


def spoken(text: str) -> bytes:
    return json.dumps({"type": "complete", "payload": {"output": {"text": text}}}).encode()


SPOKEN = spoken(ANSWER)
Break = Callable[[History], History]


def wrote(revision: int, node_id: str, key: str = COUNTER, value: str = "1") -> MemorySeen:
    return MemorySeen(6, "one", SCOPE, key, revision, value, "run", node_id, 2)


def ended(node_id: str, at: float = 6, attempt: int = 2) -> NodeWrite:
    return NodeWrite(at, "one", "run", node_id, "running", "completed", attempt, 0, "{}")


def sound() -> History:
    """A turn that needed two documents, and then wrote a counter twice and a key of its own, each at the second try."""
    needed = tuple(Paper(story, name, 0.0, 0) for story, name in ((KEY, "a"), (KEY, "b"), (f"{KEY}-other", "a")))
    spec = Spec(KEY, "papers", {}, writes=("m0", "m1", "m2", "m3"), papers=needed, talks=True)
    nodes = {"m0": "completed", "m1": "completed", "m2": "completed", "m3": "cancelled"}
    return History(
        runs={"run": Stored({1: SPOKEN}, "completed", None, 1, nodes)},
        keys={"run": KEY},
        followed=[Followed(spec, {"run"}, told=[TOLD, TOLD], done=True)],
        nodes=[NodeWrite(5, "one", "run", "m0", None, "running", 1, 0, None), *map(ended, ("m0", "m1", "m2"))],
        memory=[wrote(1, "m0"), wrote(3, "m2", "0.m2"), wrote(2, "m1", value="2")],
        remembered={(SCOPE, COUNTER): 2, (SCOPE, "0.m2"): 3},
        given={SCOPE: 3},
        messages=[SAID, ANSWERED],
        papers=[PaperSeen(4, f"{KEY}-other", "a"), PaperSeen(2, KEY, "a"), PaperSeen(4, KEY, "b")],
    )


def test_a_sound_history_has_no_violation() -> None:
    assert [*memory(sound()), *papers(sound()), *turns(sound())] == []


def with_memory(*writes: MemorySeen) -> Break:
    return lambda found: replace(found, memory=list(writes))


def with_run(status: str, **nodes: str) -> Break:
    def change(found: History) -> History:
        run = found.runs["run"]
        return replace(found, runs={"run": replace(run, status=status, nodes=run.nodes | nodes)})

    return change


def with_told(*told: Told) -> Break:
    return lambda found: replace(found, followed=[replace(found.followed[0], told=list(told))])


def with_messages(*messages: MessageSeen) -> Break:
    return lambda found: replace(found, messages=list(messages))


def with_log(frame: bytes) -> Break:
    return lambda found: replace(found, runs={"run": replace(found.runs["run"], log={1: frame})})


M0, M1, M2 = wrote(1, "m0"), wrote(2, "m1", value="2"), wrote(3, "m2", "0.m2")
LOST = {(SCOPE, "0.m2"): 3, (SCOPE, COUNTER): 1}
BROKEN: list[tuple[str, str, Break]] = [
    ("memory", "m1 is completed and wrote memory 0 times", with_memory(M0, M2)),
    ("memory", "m1 is completed and wrote memory 2 times", with_memory(M0, M1, M2, wrote(4, "m1", value="3"))),
    ("memory", "m3 is cancelled and wrote memory 1 times", with_memory(M0, M1, M2, wrote(4, "m3", value="3"))),
    ("memory", "m0 in attempt 1, an attempt that did not complete", with_memory(replace(M0, attempt=1), M1, M2)),
    (
        "memory",
        "was written by None",
        with_memory(M0, M1, M2, replace(M2, revision=4, key="x", run_id=None, node_id=None, attempt=None)),
    ),
    ("memory", "was forgotten by nobody", with_memory(M0, M1, M2, replace(M0, key="x", revision=None))),
    ("memory", "the revisions of test-1 are [1, 2, 4]", with_memory(M0, M1, replace(M2, revision=4))),
    ("memory", "the revisions of test-1 are [1, 2, 2]", with_memory(M0, M1, replace(M2, revision=2))),
    ("memory", "stands at revision 3, written were 2", with_memory(M0, M1)),
    ("memory", "stands at revision 1, written last was 2", lambda found: replace(found, remembered=LOST)),
    ("memory", "was counted ['1', '1']", with_memory(M0, replace(M1, value="1"), M2)),
    ("papers", "m0 was running before its documents", lambda found: replace(found, papers=[PaperSeen(5.5, KEY, "b")])),
    (
        "papers",
        "m0 was running before its documents",
        lambda found: replace(found, papers=[PaperSeen(2, KEY, "a"), PaperSeen(9, KEY, "b")]),
    ),
    ("papers", "it waits, and its documents are there", with_run("waiting")),
    ("turns", "one turn was told as", with_told(TOLD, replace(TOLD, message_id="msg-4"))),
    ("turns", "its conversation holds", with_messages(SAID)),
    ("turns", "its conversation holds", with_messages(SAID, ANSWERED, replace(SAID, place=3))),
    ("turns", "its conversation holds", with_messages(SAID, replace(ANSWERED, run_id="other"))),
    ("turns", "msg-2 was told", with_messages(SAID, replace(ANSWERED, message_id="msg-4"))),
    ("turns", "msg-2 was told", with_messages(SAID, replace(ANSWERED, parent_id=None))),
    ("turns", "it said [{'text': 'No.'}]", with_log(spoken("No."))),
    ("papers", "it is noted to wait for b", lambda found: replace(found, waits=[("run", "b")])),
]


@pytest.mark.parametrize(("rule", "says", "change"), BROKEN)
def test_what_is_broken_is_found(rule: str, says: str, change: Break) -> None:
    """By its own rule, in words that say so."""
    found = [text for _, text in RULES[rule](change(sound()))]
    assert any(says in text for text in found), found


def test_the_load_has_runs_that_remember_and_runs_that_need_documents() -> None:
    """The same seed gives the same ones, whatever the scenario is called; some share of the load is theirs."""
    drawn = mix(300, random.Random(1), "one-7")
    again = mix(300, random.Random(1), "two-7")
    assert [each.writes for each in drawn] == [each.writes for each in again]
    assert [[paper.delay for paper in each.papers] for each in drawn] == [
        [paper.delay for paper in each.papers] for each in again
    ]
    for shape in ("remember", "papers", "talk"):
        share = sum(each.shape == shape for each in drawn)
        assert abs(share - 300 * sum(each.__name__ == shape for each in DRAWN) / len(DRAWN)) < 20
    draft = Draft(random.Random(1), "key-1")
    assert context(draft) == {}
