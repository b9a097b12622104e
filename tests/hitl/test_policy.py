"""The rules of deciding, generated: who may, what counts, when it settles, what a timeout does (H2-H4)."""

from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.access import Principal
from contracts.errors import ActionNotAllowed, AnswerInvalid, NotAssigned
from contracts.prompts import ACTIONS, ACTIONS_WITH_ANSWER, Assignees, DecisionInput, PromptKind
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


@given(ballots(), st.integers(1, 4))
def test_a_prompt_settles_exactly_at_the_vote_that_reaches_the_quorum_or_vetoes(cast: list[Say], quorum: int) -> None:
    """H3: nothing settles early, nothing that settled is undone by a later vote; an independent count agrees."""
    counts: Counter[tuple[str, bytes | None]] = Counter()
    expected = None
    for vote in cast:
        counts[vote.content] += 1
        if vote.action == "reject" or counts[vote.content] == quorum:
            expected = vote
            break
    assert policy.winner(cast, quorum) == expected


@given(ballots(), ballots(), st.integers(1, 4))
def test_later_votes_never_change_who_won(first: list[Say], later: list[Say], quorum: int) -> None:
    """H4: decided exactly once."""
    won = policy.winner(first, quorum)
    rest = [vote for vote in later if vote.decided_by not in {early.decided_by for early in first}]
    if won is not None:
        assert policy.winner(first + rest, quorum) == won


@given(ballots(), st.integers(2, 4))
def test_a_rejection_never_continues_as_an_approval(cast: list[Say], quorum: int) -> None:
    """H4: whatever else was said, with a rejection before the quorum the outcome is a rejection."""
    won = policy.winner([say("reject", who="user:zoe"), *cast], quorum)
    assert won is not None
    assert won.action == "reject"


def test_differing_edits_are_no_agreement() -> None:
    """H3: a quorum of two needs two people who said the same."""
    cast = [say("edit", b"1", "user:ana"), say("edit", b"2", "user:ben"), say("approve", None, "user:cleo")]
    assert policy.winner(cast, 2) is None
    assert policy.winner([*cast, say("edit", b"2", "user:dora")], 2) == say("edit", b"2", "user:dora")


def test_one_person_counts_once() -> None:
    """H3: m of n are m people, whatever the rows say."""
    assert policy.winner([say("approve"), say("approve")], 2) is None


SOME_ROLES = st.sets(st.sampled_from(["operator", "admin", "submitter"]))
SOME_GROUPS = st.sets(st.sampled_from(["press", "legal"]))


@given(st.sets(st.sampled_from(PEOPLE)), SOME_ROLES, SOME_GROUPS, st.sampled_from(PEOPLE), SOME_ROLES, SOME_GROUPS)
def test_only_listed_people_roles_and_groups_may_decide(
    users: set[str], roles: set[str], groups: set[str], who: str, own_roles: set[str], own_groups: set[str]
) -> None:
    """H3: nobody listed means operators."""
    assignees = Assignees(users=sorted(users), roles=sorted(roles), groups=sorted(groups))
    principal = Principal(who, roles=frozenset(own_roles), groups=frozenset(own_groups))
    expected = (
        "operator" in own_roles
        if not (users or roles or groups)
        else bool(who in users or own_roles & roles or own_groups & groups)
    )
    if expected:
        policy.check_assigned(principal, assignees)
    else:
        with pytest.raises(NotAssigned):
            policy.check_assigned(principal, assignees)


@given(st.sampled_from(PromptKind), st.sampled_from(sorted({a for actions in ACTIONS.values() for a in actions})))
def test_only_offered_actions_are_taken(kind: PromptKind, action: str) -> None:
    """H2: the refusal says what is offered."""
    if action in ACTIONS[kind]:
        policy.check_action(action, ACTIONS[kind])
        return
    with pytest.raises(ActionNotAllowed) as refused:
        policy.check_action(action, ACTIONS[kind])
    assert refused.value.extra["actions"] == list(ACTIONS[kind])


@pytest.mark.parametrize("action", sorted(ACTIONS_WITH_ANSWER))
def test_an_answer_is_required_where_one_is_taken(action: str) -> None:
    """H4: an absent answer is not null."""
    with pytest.raises(AnswerInvalid) as refused:
        policy.read_answer(DecisionInput(action=action))
    assert [(item.pointer, item.code) for item in refused.value.errors] == [("/answer", "required")]
    assert policy.read_answer(DecisionInput(action=action, answer=None)) == b"null"


@pytest.mark.parametrize("action", ["approve", "reject", "happened", "request_changes"])
def test_an_answer_that_nobody_reads_is_refused(action: str) -> None:
    """H4: an answer sent with approve is not what the run would act on, so it is not taken silently."""
    with pytest.raises(AnswerInvalid):
        policy.read_answer(DecisionInput(action=action, answer={"a": 1}))
    assert policy.read_answer(DecisionInput(action=action, answer=None)) is None


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers(-9, 9) | st.text("ab", max_size=2),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", max_size=2), inner, max_size=3),
    )
)
def test_equal_answers_are_equal_bytes(answer: object) -> None:
    """H4: the order of keys is no difference; NUL characters and what is not JSON are refused."""

    def turned(value: object) -> object:
        if isinstance(value, dict):
            return {key: turned(value[key]) for key in reversed(value)}
        return [turned(item) for item in value] if isinstance(value, list) else value

    assert policy.canonical(answer) == policy.canonical(turned(answer))


@pytest.mark.parametrize(
    ("answer", "code"),
    [({"a": "x\x00"}, "nul"), ({"a": {1, 2}}, "not_json"), ("x" * policy.MAX_ANSWER_BYTES, "too_large")],
)
def test_what_cannot_be_stored_is_refused(answer: object, code: str) -> None:
    """R6, H4."""
    with pytest.raises(AnswerInvalid) as refused:
        policy.read_answer(DecisionInput(action="edit", answer=answer))
    assert refused.value.errors[0].code == code


@given(st.sampled_from(PromptKind), st.sampled_from(["approve", "reject", "fail"]))
def test_a_timeout_acts_only_as_the_prompt_allows_and_else_fails_closed(kind: PromptKind, on_timeout: str) -> None:
    """H3: an unanswered prompt never resumes as if it had been approved unless the policy says exactly that."""
    ending = policy.at_timeout(on_timeout, ACTIONS[kind])
    assert ending.action in (None, on_timeout)
    assert ending.action is None or ending.action in ACTIONS[kind]
    if on_timeout == "fail":
        assert ending == policy.EXPIRES


def test_every_veto_is_an_action() -> None:
    """H2."""
    assert {action for actions in ACTIONS.values() for action in actions} >= VETOES


def test_an_answer_nested_too_deeply_is_refused_before_it_is_stored() -> None:
    """H4: what could not be put into a frame later must not be accepted now."""
    answer: object = "x"
    for _ in range(200):
        answer = [answer]
    with pytest.raises(AnswerInvalid) as refused:
        policy.read_answer(DecisionInput(action="edit", answer=answer))
    assert [item.code for item in refused.value.errors] == ["too_deep"]
