"""Claiming, delegating, withdrawing, on both databases; each is written down (H3, H7, H9)."""

import asyncio
from typing import Any

import pytest

from contracts.access import Principal
from contracts.errors import (
    AlreadyVoted,
    ClaimNeedsOne,
    DelegateVoted,
    FlexError,
    Forbidden,
    InvalidRunState,
    NotAssigned,
    PromptClaimed,
    PromptNotFound,
    PromptSettled,
    QuorumUnreachable,
    RequesterExcluded,
    Unprocessable,
)
from tests.hitl.conftest import Office, operator

ADMIN = Principal("user:root", roles=frozenset({"admin", "operator"}))
PLAIN = Principal("user:eve", roles=frozenset({"submitter"}))
EXCLUDED: dict[str, Any] = {"policy": {"exclude_requester": True}, "requester": "user:ana"}


async def claim(office: Office, who: Principal | str, prompt_id: str = "prm_1", **body: Any) -> dict[str, Any]:
    return await office.handing.claim(operator(who) if isinstance(who, str) else who, prompt_id, body)


async def delegate(
    office: Office, who: Principal | str, to: str, prompt_id: str = "prm_1", **body: Any
) -> dict[str, Any]:
    principal = operator(who) if isinstance(who, str) else who
    return await office.handing.delegate(principal, prompt_id, {"to": f"user:{to}", **body})


async def test_a_claim_keeps_others_out_until_it_is_freed(office: Office) -> None:
    """H7: claiming again changes nothing; 409 says who has it; every change is written down once."""
    await office.run(office.prompt())
    for _ in range(2):
        assert (await claim(office, "ana"))["claimed_by"] == "user:ana"
    with pytest.raises(PromptClaimed) as refused:
        await office.say("ben", "approve")
    assert refused.value.extra["claimed_by"] == "user:ana"
    for release in (False, True):
        with pytest.raises(PromptClaimed):
            await claim(office, "ben", release=release)
    for _ in range(2):
        assert (await claim(office, "ana", release=True))["claimed_by"] is None
    assert (await office.say("ben", "approve")).settled
    with pytest.raises(PromptSettled):
        await claim(office, "ana")
    assert await office.kinds() == ["prompt.claimed", "prompt.released", "prompt.decided"]


async def test_of_many_who_claim_at_once_one_has_it(office: Office) -> None:
    """H7."""
    await office.run(office.prompt())
    names = ["ana", "ben", "cleo", "dora"]
    found = await asyncio.gather(*(claim(office, name) for name in names), return_exceptions=True)
    assert sum(isinstance(each, dict) for each in found) == 1
    assert sum(isinstance(each, PromptClaimed) for each in found) == 3
    assert await office.kinds() == ["prompt.claimed"]


@pytest.mark.parametrize(
    ("who", "changed", "body", "error"),
    [
        (PLAIN, {}, {}, NotAssigned),
        (operator("ana"), {"quorum": 2}, {}, ClaimNeedsOne),
        (operator("ana"), EXCLUDED, {}, RequesterExcluded),
        (operator("ana"), {"claimed_by": "user:ben"}, {"force": True}, Forbidden),
        (operator("ana"), {"claimed_by": "user:ben"}, {"release": True, "force": True}, Forbidden),
        (Principal("user:root", roles=frozenset({"admin"})), {"claimed_by": "user:ben"}, {"force": True}, NotAssigned),
        (operator("ana"), {}, {"for": "ben"}, Unprocessable),
        (Principal("user:ana", tenant="other", roles=frozenset({"operator"})), {}, {}, PromptNotFound),
    ],
)
async def test_a_claim_is_refused(
    office: Office, who: Principal, changed: dict[str, Any], body: dict[str, Any], error: type[FlexError]
) -> None:
    """H3, H7: only who may decide may claim; nothing is left of a refusal."""
    await office.run(office.prompt(**changed))
    with pytest.raises(error):
        await claim(office, who, **body)
    assert (await office.prompts.get(ADMIN, "prm_1"))["claimed_by"] == changed.get("claimed_by")
    assert await office.kinds() == []


async def test_an_administrator_who_is_asked_may_take_over_and_any_may_free(office: Office) -> None:
    """H7: and the record says from whom."""
    await office.run(office.prompt(claimed_by="user:ben"))
    assert (await claim(office, ADMIN, force=True))["claimed_by"] == "user:root"
    with pytest.raises(PromptClaimed):
        await office.say("ben", "approve")
    await claim(office, Principal("user:chief", roles=frozenset({"admin"})), release=True, force=True)
    assert (await office.say("ben", "approve")).settled
    taken, freed, _ = await office.records()
    assert (taken["kind"], taken["actor"], taken["taken_from"]) == ("prompt.claimed", "user:root", "user:ben")
    assert (freed["kind"], freed["actor"], freed["taken_from"]) == ("prompt.released", "user:chief", "user:root")


async def test_a_say_is_passed_on_and_back(office: Office) -> None:
    """H3: the delegator has none any more, the delegate needs no role; both ways stand on the wire in order."""
    await office.run(office.prompt())
    shown = await delegate(office, "ana", "ben", comment="On leave.")
    assert await delegate(office, "ana", "ben") == shown, "sent again"
    assert [(each["from"], each["to"]) for each in shown["delegations"]] == [("user:ana", "user:ben")]
    assert shown["delegations"][0]["at"] == "2026-01-05T09:00:00.000Z"
    with pytest.raises(NotAssigned):
        await office.say("ana", "approve")
    ben = Principal("user:ben")
    await office.handing.delegate(ben, "prm_1", {"to": "user:ana"})
    with pytest.raises(NotAssigned):
        await office.say(ben, "approve")
    assert (await office.say("ana", "approve")).settled
    first, second, _ = await office.records()
    assert (first["kind"], first["to"], first["comment"]) == ("prompt.delegated", "user:ben", "On leave.")
    assert (second["actor"], second["to"]) == ("user:ben", "user:ana")


async def test_a_claim_goes_with_the_say(office: Office) -> None:
    """H3, H7: who had it in hand gave it to somebody, not to everybody."""
    await office.run(office.prompt())
    await claim(office, "ana")
    assert (await delegate(office, "ana", "ben"))["claimed_by"] == "user:ben"
    with pytest.raises(PromptClaimed):
        await office.say("cleo", "approve")
    assert (await office.say(Principal("user:ben"), "approve")).settled


@pytest.mark.parametrize(
    ("who", "to", "changed", "error"),
    [
        (PLAIN, "ben", {}, NotAssigned),
        (operator("ana"), "ben", EXCLUDED, RequesterExcluded),
        (operator("ben"), "ana", EXCLUDED, RequesterExcluded),
        (operator("ana"), "ana", {}, Unprocessable),
        (operator("ana"), "two words", {}, Unprocessable),
        (
            Principal("user:ana"), "ben",
            {"assignees": {"users": ["user:ana", "user:ben"]}, "quorum": 2}, QuorumUnreachable,
        ),
    ],
)  # fmt: skip
async def test_a_delegation_is_refused(
    office: Office, who: Principal, to: str, changed: dict[str, Any], error: type[FlexError]
) -> None:
    """H3; windmill#7886: the way round by a delegate is closed too."""
    await office.run(office.prompt(**changed))
    with pytest.raises(error):
        await delegate(office, who, to)
    assert (await office.prompts.get(ADMIN, "prm_1"))["delegations"] == []
    assert await office.kinds() == []


async def test_who_has_spoken_has_no_say_left_to_give_or_take(office: Office) -> None:
    """H3: one vote per person, by whatever way."""
    await office.run(office.prompt(quorum=3))
    await office.say("ana", "approve")
    with pytest.raises(AlreadyVoted):
        await delegate(office, "ana", "ben")
    with pytest.raises(DelegateVoted):
        await delegate(office, "ben", "ana")
    await delegate(office, "ben", "cleo")
    assert not (await office.say(Principal("user:cleo"), "approve")).settled
    assert (await office.say("dora", "approve")).settled


async def test_deciding_and_delegating_at_once_is_one_or_the_other(office: Office) -> None:
    """H4: nobody's say counts after it was given up."""
    for number in range(10):
        name = f"prm_{number}"
        await office.run(office.prompt(name, f"run_{number}"), run_id=f"run_{number}")
        said, passed = await asyncio.gather(
            office.say("ana", "approve", name), delegate(office, "ana", "ben", name), return_exceptions=True
        )
        kinds = await office.kinds(name)
        if isinstance(passed, dict):
            assert isinstance(said, NotAssigned)
            assert kinds == ["prompt.delegated"]
        else:
            assert isinstance(passed, PromptSettled)
            assert kinds == ["prompt.decided"]


async def withdraw(office: Office, who: Principal, prompt_id: str = "prm_1", **body: Any) -> dict[str, Any]:
    return await office.handing.withdraw(who, prompt_id, body)


async def test_the_requester_takes_the_question_back_and_the_run_is_told(office: Office) -> None:
    """H7: nobody decides it any more; done twice it is done once."""
    await office.run(office.prompt(quorum=2))
    await office.say("ben", "approve")
    for _ in range(2):
        shown = await withdraw(office, Principal("user:ana"), comment="Asked too early.")
        assert (shown["status"], len(shown["votes"])) == ("withdrawn", 1)
    with pytest.raises(PromptSettled) as refused:
        await office.say("cleo", "approve")
    assert (refused.value.extra["prompt_status"], refused.value.extra["decided_by"]) == ("withdrawn", None)
    (signal,) = await office.mail()
    assert (signal["prompt_id"], signal["status"], signal["decision"]) == ("prm_1", "withdrawn", None)
    assert office.nudges.told == [("run_1", "w1")]
    _, record = await office.records()
    assert (record["kind"], record["actor"], record["comment"]) == (
        "prompt.withdrawn", "user:ana", "Asked too early.",
    )  # fmt: skip
    assert record["proposed"] == {"variants": []}


@pytest.mark.parametrize(
    ("who", "error"),
    [
        (operator("ben"), Forbidden),
        (Principal("user:root", roles=frozenset({"admin"})), None),
        (Principal("user:ana", tenant="other"), PromptNotFound),
    ],
)
async def test_only_the_requester_or_an_administrator_withdraws(
    office: Office, who: Principal, error: type[FlexError] | None
) -> None:
    """H7: to be asked is no right to drop the question."""
    await office.run(office.prompt())
    if error is None:
        assert (await withdraw(office, who))["status"] == "withdrawn"
        return
    with pytest.raises(error):
        await withdraw(office, who)
    assert await office.mail() == []


async def test_what_is_decided_is_not_withdrawn(office: Office) -> None:
    """H4: also when both happen at once; and a run that ended is not told."""
    await office.run(office.prompt())
    await office.say("ben", "approve")
    with pytest.raises(PromptSettled) as refused:
        await withdraw(office, Principal("user:ana"))
    assert refused.value.extra["decided_by"] == "user:ben"
    for number in range(10):
        name = f"prm_x{number}"
        await office.run(office.prompt(name, f"run_x{number}"), run_id=f"run_x{number}")
        said, back = await asyncio.gather(
            office.say("ben", "approve", name), withdraw(office, Principal("user:ana"), name), return_exceptions=True
        )
        assert sum(isinstance(each, PromptSettled) for each in (said, back)) == 1
        assert len(await office.mail(f"run_x{number}")) == 1
        assert len(await office.records(name)) == 1


async def test_withdrawing_while_the_run_ends_is_one_or_the_other(office: Office) -> None:
    """H4: nothing is written for a run that is over."""
    for number in range(10):
        name = f"run_{number}"
        await office.run(office.prompt(f"prm_{number}", name), run_id=name)
        back, _ = await asyncio.gather(
            withdraw(office, Principal("user:ana"), f"prm_{number}"), office.end(name), return_exceptions=True
        )
        assert isinstance(back, dict | InvalidRunState)
        kinds = await office.kinds(f"prm_{number}")
        assert kinds in ([], ["prompt.withdrawn"])
        if isinstance(back, InvalidRunState):
            assert kinds == []


async def test_mine_is_what_i_am_asked_by_whatever_way(office: Office) -> None:
    """H7: delegated to me is mine, given away is not, and what I may not decide is not."""
    await office.run(
        office.prompt("prm_1"), office.prompt("prm_2"), office.prompt("prm_3", **EXCLUDED),
        office.prompt("prm_4", assignees={"users": ["user:ben"]}), office.prompt("prm_5"),
    )  # fmt: skip
    await delegate(office, "ana", "ben", "prm_2")
    await delegate(office, Principal("user:ben"), "ana", "prm_4")
    await claim(office, "ben", "prm_5")
    page = await office.prompts.list(operator("ana"), view="mine")
    assert [item["prompt_id"] for item in page["items"]] == ["prm_4", "prm_1"]


async def test_what_somebody_saw_and_changed_is_in_the_record(office: Office) -> None:
    """H9: who, role, channel, what they saw, before and after, why, waiting time."""
    await office.run(office.prompt(proposed={"variants": ["one", "two"]}, quorum=2))
    await office.say("ben", "approve", comment="As it is.")
    office.clock.now += 90_000
    await office.say("cleo", "reject", comment="Too loud.")
    voted, decided = await office.records()
    assert {name: voted[name] for name in ("kind", "actor", "run_id", "action", "settled", "changes", "comment")} == {
        "kind": "prompt.voted", "actor": "user:ben", "run_id": "run_1", "action": "approve", "settled": False,
        "changes": None, "comment": "As it is.",
    }  # fmt: skip
    assert (decided["kind"], decided["settled"], decided["waiting_ms"]) == ("prompt.decided", True, 90_000)
    await office.run(office.prompt("prm_2", "run_2", proposed={"variants": ["one", "two"]}), run_id="run_2")
    await office.say("ben", "edit", "prm_2", answer={"variants": ["one", "three"]})
    (record,) = await office.records("prm_2")
    assert record["changes"] == [{"op": "replace", "path": "/variants/1", "value": "three"}]
    assert record["proposed"] == {"variants": ["one", "two"]}
    assert record["answer"] == {"variants": ["one", "three"]}
    assert (record["roles"], record["channel"], record["bound_hash"]) == (["operator"], "http", "h1")


async def test_a_large_value_is_recorded_by_its_hash(office: Office) -> None:
    """H9, P6: records stay small."""
    large = {"variants": ["x" * 70_000]}
    await office.run(office.prompt(proposed=large))
    await office.say("ben", "edit", answer={"variants": ["y" * 70_000]})
    (record,) = await office.records()
    for name in ("proposed", "answer", "changes"):
        assert record[name] is None
        assert len(record[f"{name}_sha256"]) == 64
