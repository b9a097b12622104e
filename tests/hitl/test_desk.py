"""Deciding, on both databases: who, what, exactly once (H3, H4; wire §5)."""

import asyncio
from typing import Any

import pytest

from contracts.access import Principal
from contracts.errors import (
    ActionNotAllowed,
    AlreadyVoted,
    AnswerInvalid,
    FlexError,
    InvalidRunState,
    NotAssigned,
    PromptNotFound,
    PromptSettled,
    PromptStale,
)
from hitl.desk import Decided
from tests.hitl.conftest import Office, operator


async def test_a_decision_settles_the_prompt_and_leaves_the_run_its_signal(office: Office) -> None:
    """H4: what the run acts on is exactly what was stored; its holder is nudged after the commit."""
    await office.run(office.prompt())
    decided = await office.say("ana", "edit", answer={"variants": ["one"]}, comment="shorter", bound_hash="h1")
    assert (decided.settled, decided.repeated, decided.status, decided.run_id) == (True, False, "settled", "run_1")
    assert decided.decision.answer == {"variants": ["one"]}
    assert office.nudges.told == [("run_1", "w1")]
    (signal,) = await office.mail()
    assert (signal["prompt_id"], signal["status"]) == ("prm_1", "settled")
    assert signal["decision"] == {
        "decision_id": decided.decision.decision_id, "action": "edit", "answer": {"variants": ["one"]},
        "comment": "shorter", "decided_by": "user:ana", "decided_at": "2026-01-05T09:00:00.000Z", "channel": "http",
    }  # fmt: skip


async def test_of_two_operators_at_once_one_decides_and_the_other_learns_who_and_when(office: Office) -> None:
    """H4, a hundred times: one 200, one 409 that names the winner, one signal (windmill#10262: one decide())."""
    names = [f"prm_{number}" for number in range(100)]
    for name in names:
        await office.run(office.prompt(name, f"run_{name}"), run_id=f"run_{name}")

    async def both(name: str) -> tuple[Decided | BaseException, Decided | BaseException]:
        return await asyncio.gather(
            office.say("ana", "approve", name), office.say("ben", "reject", name), return_exceptions=True
        )

    for name, (first, second) in zip(names, await asyncio.gather(*map(both, names)), strict=True):
        winner, loser = (first, second) if isinstance(first, Decided) else (second, first)
        assert isinstance(winner, Decided)
        assert isinstance(loser, PromptSettled)
        assert loser.extra["decided_by"] == winner.decision.decided_by
        assert loser.extra["decided_at"] == winner.decision.decided_at
        assert loser.extra["decision"]["action"] == winner.decision.action
        (signal,) = await office.mail(f"run_{name}")
        assert signal["decision"]["decision_id"] == winner.decision.decision_id


async def test_the_same_decision_sent_again_changes_nothing_even_when_sent_at_once(office: Office) -> None:
    """H4: a client that lost the answer may send again; key order is no difference, a comment neither."""
    await office.run(office.prompt())
    sent = [office.say("ana", "edit", answer={"variants": ["one"]}) for _ in range(5)]
    answers = await asyncio.gather(*sent)
    again = await office.say("ana", "edit", answer={"variants": ["one"]}, comment="again")
    assert len({answer.decision.decision_id for answer in (*answers, again)}) == 1
    assert [answer.repeated for answer in (*answers, again)].count(False) == 1
    assert again.status == "settled"
    assert len(await office.mail()) == 1
    assert len(office.nudges.told) == 1


@pytest.mark.parametrize(
    ("action", "more"), [("approve", {}), ("edit", {"answer": {"variants": ["two"]}}), ("edit", {}), ("dance", {})]
)
async def test_another_decision_by_the_same_person_is_refused_once_settled(
    office: Office, action: str, more: dict[str, Any]
) -> None:
    """H4."""
    await office.run(office.prompt())
    await office.say("ana", "edit", answer={"variants": ["one"]})
    with pytest.raises(PromptSettled) as refused:
        await office.say("ana", action, **more)
    assert refused.value.extra["decided_by"] == "user:ana"


async def test_a_quorum_needs_so_many_people_who_say_the_same(office: Office) -> None:
    """H3: below the quorum 200 and still open; differing edits do not add up; the last vote is the decision."""
    await office.run(office.prompt(quorum=2))
    one, two = {"variants": ["one"]}, {"variants": ["two"]}
    for vote in (
        office.say("ana", "approve"),
        office.say("ben", "edit", answer=one),
        office.say("cleo", "edit", answer=two),
    ):
        decided = await vote
        assert (decided.settled, decided.status) == (False, "open")
    assert await office.mail() == []
    shown = await office.prompts.get(operator("ana"), "prm_1")
    assert [(vote["decided_by"], vote["action"]) for vote in shown["votes"]] == [
        ("user:ana", "approve"), ("user:ben", "edit"), ("user:cleo", "edit"),
    ]  # fmt: skip
    assert (await office.say("dora", "edit", answer=two)).settled
    (signal,) = await office.mail()
    assert (signal["decision"]["decided_by"], signal["decision"]["answer"]) == ("user:dora", two)


async def test_a_vote_is_kept_and_counts_once(office: Office) -> None:
    """H3: repeating is fine, changing one's mind is a 409 of its own and changes nothing."""
    await office.run(office.prompt(quorum=2))
    first = await office.say("ana", "approve")
    assert (await office.say("ana", "approve")).repeated
    with pytest.raises(AlreadyVoted) as refused:
        await office.say("ana", "reject")
    assert refused.value.extra["decision"]["decision_id"] == first.decision.decision_id
    assert (await office.say("ben", "approve")).settled


async def test_people_at_once_reach_a_quorum_exactly_once(office: Office) -> None:
    """H3, H4: five vote at the same time where three are needed: one settles, the rest are told or were counted."""
    await office.run(office.prompt(quorum=3))
    votes = [office.say(name, "approve") for name in ("ana", "ben", "cleo", "dora", "emil")]
    found = await asyncio.gather(*votes, return_exceptions=True)
    assert sum(isinstance(each, Decided) and each.settled for each in found) == 1
    assert sum(isinstance(each, Decided) and not each.settled for each in found) == 2
    assert sum(isinstance(each, PromptSettled) for each in found) == 2
    assert len(await office.mail()) == 1


async def test_a_single_rejection_is_a_veto(office: Office) -> None:
    """H3, H4: a rejection never continues as an approval."""
    await office.run(office.prompt(quorum=3))
    await office.say("ana", "approve")
    await office.say("ben", "approve")
    assert (await office.say("cleo", "reject")).settled
    (signal,) = await office.mail()
    assert signal["decision"]["action"] == "reject"


@pytest.mark.parametrize(
    ("who", "assignees", "allowed"),
    [
        (Principal("user:ana"), {"users": ["user:ana"]}, True),
        (Principal("user:ana", groups=frozenset({"press"})), {"groups": ["press"]}, True),
        (operator("ana"), {}, True),
        (Principal("user:ana", roles=frozenset({"submitter"})), {}, False),
        (operator("ana"), {"users": ["user:ben"], "groups": ["press"]}, False),
        (Principal("user:ana", roles=frozenset({"admin"})), {"roles": ["operator"]}, False),
    ],
)
async def test_only_assignees_decide(office: Office, who: Principal, assignees: dict[str, Any], allowed: bool) -> None:
    """H3: 403 not_assigned; being an administrator is not being asked."""
    await office.run(office.prompt(assignees=assignees))
    if allowed:
        assert (await office.say(who, "approve")).settled
        return
    with pytest.raises(NotAssigned) as refused:
        await office.say(who, "approve")
    assert (refused.value.status, refused.value.code) == (403, "not_assigned")
    assert await office.mail() == []


@pytest.mark.parametrize(
    ("action", "more", "error", "code"),
    [
        ("choose", {"answer": 1}, ActionNotAllowed, "action_not_allowed"),
        ("approve", {"bound_hash": "h2"}, PromptStale, "prompt_stale"),
        ("approve", {"answer": {"variants": []}}, AnswerInvalid, "answer_invalid"),
        ("edit", {}, AnswerInvalid, "answer_invalid"),
        ("edit", {"answer": None}, AnswerInvalid, "answer_invalid"),
    ],
)
async def test_a_refused_decision_leaves_nothing_behind(
    office: Office, action: str, more: dict[str, Any], error: type[FlexError], code: str
) -> None:
    """H4, H5: the prompt is still open for the same person; nothing counted, nothing told."""
    await office.run(office.prompt())
    with pytest.raises(error) as refused:
        await office.say("ana", action, **more)
    assert refused.value.code == code
    assert await office.mail() == []
    assert office.nudges.told == []
    assert (await office.say("ana", "approve", bound_hash="h1")).settled


async def test_an_answer_is_checked_and_every_failing_place_is_named(office: Office) -> None:
    """H4: the answer is validated before it is stored; pointers lead into the posted body."""
    await office.run(office.prompt())
    with pytest.raises(AnswerInvalid) as refused:
        await office.say("ana", "edit", answer={"variants": ["ok, long", "no", 3]})
    assert [item.pointer for item in refused.value.errors] == ["/answer/variants/1", "/answer/variants/2"]
    assert all(item.message for item in refused.value.errors)


@pytest.mark.parametrize("kind", ["question", "choice"])
async def test_questions_and_choices_are_answered_by_their_own_action(office: Office, kind: str) -> None:
    """H2."""
    await office.run(office.prompt(kind=kind, schema={"enum": ["red", "blue"]}))
    action = {"question": "answer", "choice": "choose"}[kind]
    with pytest.raises(ActionNotAllowed) as refused:
        await office.say("ana", "approve")
    assert refused.value.extra["actions"] == [action]
    assert (await office.say("ana", action, answer="blue")).decision.answer == "blue"


async def test_another_tenants_prompt_does_not_exist(office: Office) -> None:
    """P2."""
    await office.run(office.prompt(tenant="other"), tenant="other")
    with pytest.raises(PromptNotFound):
        await office.say("ana", "approve")
    with pytest.raises(PromptNotFound):
        await office.say("ana", "approve", "prm_none")


async def test_a_run_that_ended_takes_its_prompts_with_it(office: Office) -> None:
    """H4: 409 without anybody's name; nothing is left for a run that is over."""
    await office.run(office.prompt(quorum=2))
    await office.say("ana", "approve")
    await office.end()
    with pytest.raises(PromptSettled) as refused:
        await office.say("ben", "approve")
    assert (refused.value.extra["prompt_status"], refused.value.extra["decided_by"]) == ("withdrawn", None)
    assert (await office.say("ana", "approve")).repeated
    assert await office.mail() == []


async def test_deciding_while_the_run_ends_is_one_or_the_other(office: Office) -> None:
    """H4: a decision that was taken has its signal, one that came too late has no trace."""
    for number in range(10):
        name = f"run_{number}"
        await office.run(office.prompt(f"prm_{number}", name), run_id=name)
        decided, _ = await asyncio.gather(
            office.say("ana", "approve", f"prm_{number}"), office.end(name), return_exceptions=True
        )
        shown = await office.prompts.get(operator("ana"), f"prm_{number}")
        if isinstance(decided, Decided):
            assert shown["status"] == "settled"
        else:
            assert isinstance(decided, PromptSettled | InvalidRunState)
            assert (shown["status"], shown["votes"]) == ("withdrawn", [])
