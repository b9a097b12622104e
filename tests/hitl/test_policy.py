"""The rules of deciding, generated: what counts, when it settles, what a clock does (H2-H4)."""

from collections import Counter
from typing import Any

import orjson
from hypothesis import given
from hypothesis import strategies as st

from contracts.answers import DecisionForm
from contracts.prompts import ACTIONS, Assignees, EscalationStep, PromptKind, PromptPolicy
from hitl import policy
from hitl.policy import VETOES, Say

PEOPLE = ["user:ana", "user:ben", "user:cleo", "user:dora", "user:emil"]


def say(action: str, answer: bytes | None = None, who: str = "user:ana") -> Say:
    return Say(who, action, answer)


@st.composite
def ballots(draw: st.DrawFn) -> list[Say]:
    """One vote per person, in any order, over an approval's actions and a few answers."""
    people = draw(st.permutations(PEOPLE))[: draw(st.integers(0, len(PEOPLE)))]
    cast = []
    for person in people:
        action = draw(st.sampled_from(["approve", "approve", "edit", "edit", "reject"]))
        answer = draw(st.sampled_from([b'{"a":1}', b'{"a":2}'])) if action == "edit" else None
        cast.append(Say(person, action, answer))
    return cast


@given(ballots(), st.integers(1, 4), st.booleans())
def test_a_prompt_settles_exactly_at_the_vote_that_reaches_the_quorum_or_vetoes(
    cast: list[Say], quorum: int, veto: bool
) -> None:
    """H3: nothing settles early, nothing that settled is undone by a later vote; an independent count agrees."""
    counts: Counter[tuple[str, bytes | None]] = Counter()
    expected = None
    for vote in cast:
        counts[vote.content] += 1
        if (veto and vote.action == "reject") or counts[vote.content] == quorum:
            expected = vote
            break
    assert policy.winner(cast, quorum, veto=veto) == expected


@given(ballots(), ballots(), st.integers(1, 4), st.booleans())
def test_later_votes_never_change_who_won(first: list[Say], later: list[Say], quorum: int, veto: bool) -> None:
    """H4: decided exactly once."""
    won = policy.winner(first, quorum, veto=veto)
    rest = [vote for vote in later if vote.decided_by not in {early.decided_by for early in first}]
    if won is not None:
        assert policy.winner(first + rest, quorum, veto=veto) == won


@given(ballots(), st.integers(2, 4))
def test_a_rejection_never_continues_as_an_approval(cast: list[Say], quorum: int) -> None:
    """H4: whatever else was said, with a rejection before the quorum the outcome is a rejection."""
    won = policy.winner([say("reject", who="user:zoe"), *cast], quorum)
    assert won is not None
    assert won.action == "reject"


def test_without_a_veto_a_rejection_needs_the_quorum_like_any_answer() -> None:
    """H3: veto false."""
    cast = [say("reject", who="user:ana"), say("approve", who="user:ben")]
    assert policy.winner(cast, 2, veto=False) is None
    assert policy.winner([*cast, say("reject", who="user:cleo")], 2, veto=False) == say("reject", who="user:cleo")
    assert policy.winner([*cast, say("approve", who="user:cleo")], 2, veto=False) == say("approve", who="user:cleo")


def test_differing_edits_are_no_agreement() -> None:
    """H3: a quorum of two needs two people who said the same."""
    cast = [say("edit", b"1", "user:ana"), say("edit", b"2", "user:ben"), say("approve", None, "user:cleo")]
    assert policy.winner(cast, 2) is None
    assert policy.winner([*cast, say("edit", b"2", "user:dora")], 2) == say("edit", b"2", "user:dora")


def test_one_person_counts_once() -> None:
    """H3: m of n are m people, whatever the rows say."""
    assert policy.winner([say("approve"), say("approve")], 2) is None


def test_every_veto_is_an_action() -> None:
    """H2."""
    assert {action for actions in ACTIONS.values() for action in actions} >= VETOES


DEFAULTS = st.sampled_from([{"a": 1}, {"a": "x"}, None, 3])
SCHEMA = {"type": "object", "required": ["a"], "properties": {"a": {"type": "integer"}}}


@given(st.sampled_from(PromptKind), st.data(), st.sampled_from(["approve", "reject", "fail", "default"]), DEFAULTS)
def test_a_timeout_acts_only_as_the_prompt_allows_and_else_fails_closed(
    kind: PromptKind, data: st.DataObject, on_timeout: str, default: Any
) -> None:
    """H3: an unanswered prompt never resumes as if it had been answered unless the policy says exactly that.

    Would have survived claude-agent-sdk-python#304: approval times out and the tool runs anyway.
    """
    actions = data.draw(st.lists(st.sampled_from(ACTIONS[kind]), min_size=1, unique=True))
    form = DecisionForm(kind.value, tuple(actions), SCHEMA)
    ending = policy.at_timeout(on_timeout, form, default)
    if on_timeout == "default":
        fits = form.answering is not None and default == {"a": 1}
        assert (ending.action, ending.answer) == ((form.answering, b'{"a":1}') if fits else (None, None))
    else:
        assert ending == (policy.Ending(on_timeout) if on_timeout in actions else policy.EXPIRES)


def test_an_escalation_asks_one_step_after_the_other_and_ends_as_the_policy_says() -> None:
    """H3: each with a time of its own; what the clock does at the end is written with the last step."""
    steps = [
        EscalationStep(assignees=Assignees(users=["user:ben"]), due_seconds=2),
        EscalationStep(assignees=Assignees()),
    ]
    given_ = PromptPolicy(due_seconds=1, on_timeout="escalate", escalation=steps, after_escalation="reject")
    frozen = PromptPolicy.model_validate_json(given_.model_dump_json())
    first, last = (policy.escalated(frozen, level, 1_000) for level in (0, 1))
    assert (first.assignees.users, first.due_at, first.on_timeout) == (["user:ben"], 3_000, "escalate")
    assert (last.assignees.roles, last.due_at, last.on_timeout) == (["operator"], None, "reject")


@given(st.lists(st.integers(1, 60), max_size=6), st.integers(0, 70_000))
def test_reminders_come_one_after_the_other_each_once(seconds: list[int], created: int) -> None:
    """H3: whatever their order in the policy; equal ones are one."""
    frozen = PromptPolicy(remind_seconds=list(map(float, seconds)))
    seen, at = [], created
    while (following := policy.next_reminder(frozen, created, at)) is not None:
        seen.append(following - created)
        at = following
    assert seen == sorted({each * 1_000 for each in seconds})


@given(st.integers(1, 5), st.booleans(), st.booleans(), DEFAULTS)
def test_a_frozen_policy_is_read_back_as_it_was(quorum: int, veto: bool, excluded: bool, default: Any) -> None:
    """H3: frozen when the prompt is raised."""
    given_ = PromptPolicy(
        quorum=quorum, veto=veto, exclude_requester=excluded, due_seconds=1, on_timeout="default",
        default_answer=default, remind_seconds=[0.5],
    )  # fmt: skip
    assert PromptPolicy.model_validate_json(given_.policy().model_dump_json()) == given_
    assert orjson.loads(given_.model_dump_json())["default_answer"] == default
