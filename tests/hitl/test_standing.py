"""Who may decide, generated: assignees, delegations, the requester (H3, H7)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.access import Principal
from contracts.errors import (
    AlreadyVoted,
    ClaimNeedsOne,
    DelegateVoted,
    FlexError,
    NotAssigned,
    PromptClaimed,
    QuorumUnreachable,
    RequesterExcluded,
    TooManyDelegations,
)
from contracts.prompts import OPERATORS, Assignees
from hitl import standing
from hitl.standing import MAX_DELEGATIONS, Standing

PEOPLE = ["user:ana", "user:ben", "user:cleo", "user:dora", "user:emil"]
SOME_PEOPLE = st.sets(st.sampled_from(PEOPLE))
SOME_ROLES = st.sets(st.sampled_from(["operator", "admin", "submitter"]))
SOME_GROUPS = st.sets(st.sampled_from(["press", "legal"]))


def asked(assignees: Assignees = OPERATORS, **changed: Any) -> Standing:
    given_: dict[str, Any] = {"requester": None, "delegations": (), "claimed_by": None, "quorum": 1}
    return Standing(assignees=assignees, **(given_ | changed))


def passed(*pairs: tuple[str, str]) -> tuple[dict[str, str], ...]:
    return tuple({"from": f"user:{one}", "to": f"user:{other}", "at": ""} for one, other in pairs)


@given(SOME_PEOPLE, SOME_ROLES, SOME_GROUPS, st.sampled_from(PEOPLE), SOME_ROLES, SOME_GROUPS, st.booleans())
def test_only_listed_people_roles_and_groups_may_decide(
    users: set[str], roles: set[str], groups: set[str], who: str, own_roles: set[str], own_groups: set[str], kept: bool
) -> None:
    """H3: and never the requester where they are kept out, whatever else they are (windmill#10262)."""
    assignees = Assignees(users=sorted(users), roles=sorted(roles), groups=sorted(groups))
    principal = Principal(who, roles=frozenset(own_roles), groups=frozenset(own_groups))
    where = asked(assignees, requester=who if kept else None)
    listed = bool(who in users or own_roles & roles or own_groups & groups)
    assert standing.may_decide(principal, where) is (listed and not kept)
    if listed and not kept:
        standing.check_may(principal, where)
        return
    with pytest.raises(RequesterExcluded if kept else NotAssigned):
        standing.check_may(principal, where)


@given(SOME_PEOPLE, st.lists(st.tuples(st.sampled_from(PEOPLE), st.sampled_from(PEOPLE)), max_size=6))
def test_a_say_is_had_by_one_person_at_a_time(users: set[str], moves: list[tuple[str, str]]) -> None:
    """H3: who gives it up has none, who gets it has it; delegating never makes more voices than there were.

    The moves that are legal are applied to an independent account of who has a say.
    """
    holders = set(users)
    made: tuple[dict[str, str], ...] = ()
    for giver, to in moves:
        if giver not in holders or giver == to:
            continue
        holders = (holders - {giver}) | {to}
        made += ({"from": giver, "to": to, "at": ""},)
    where = asked(Assignees(users=sorted(users)), delegations=made)
    assert {who for who in PEOPLE if standing.may_decide(Principal(who), where)} == holders
    assert len(holders) <= max(len(users), 0)


def test_a_delegate_needs_no_role_and_a_delegator_of_a_role_keeps_none() -> None:
    """H3: the say is passed on, the role is not a way back; the delegate may hand it back."""
    ana = Principal("user:ana", roles=frozenset({"operator"}))
    one = asked(delegations=passed(("ana", "ben")))
    assert not standing.may_decide(ana, one)
    assert standing.may_decide(Principal("user:ben"), one)
    back = asked(delegations=passed(("ana", "ben"), ("ben", "ana")))
    assert standing.may_decide(ana, back)
    assert not standing.may_decide(Principal("user:ben"), back)


@pytest.mark.parametrize(
    ("changed", "to", "voted", "error"),
    [
        ({}, "user:ben", set(), None),
        ({"requester": "user:ben"}, "user:ben", set(), RequesterExcluded),
        ({"quorum": 2}, "user:ben", {"user:ana"}, AlreadyVoted),
        ({"quorum": 2}, "user:ben", {"user:ben"}, DelegateVoted),
        ({"delegations": passed(*[("x", "y")] * MAX_DELEGATIONS)}, "user:ben", set(), TooManyDelegations),
        ({"assignees": Assignees(users=["user:ana", "user:ben"]), "quorum": 2}, "user:ben", set(), QuorumUnreachable),
        ({"assignees": Assignees(users=["user:ana", "user:ben"]), "quorum": 2}, "user:cleo", set(), None),
        ({"assignees": Assignees(users=["user:ana", "user:ben"]), "quorum": 2}, "user:cleo", {"user:ben"}, None),
        (
            {"assignees": Assignees(users=["user:ana", "user:ben", "user:x"]), "requester": "user:x", "quorum": 2},
            "user:ben", set(), QuorumUnreachable,
        ),
        ({"assignees": Assignees(users=["user:ana"], roles=["operator"]), "quorum": 2}, "user:ben", set(), None),
    ],
)  # fmt: skip
def test_who_a_say_may_be_passed_on_to(
    changed: dict[str, Any], to: str, voted: set[str], error: type[FlexError] | None
) -> None:
    """H3, windmill#7886: not to the requester who is kept out, not to somebody who has spoken, not for a deadlock."""
    where = asked(**{"assignees": Assignees(users=["user:ana"], roles=["operator"]), **changed})
    ana = Principal("user:ana")
    if error is None:
        standing.check_delegation(ana, to, where, voted)
        return
    with pytest.raises(error):
        standing.check_delegation(ana, to, where, voted)


def test_a_claim_keeps_others_out_of_a_prompt_that_one_decides() -> None:
    """H7."""
    ana, ben = Principal("user:ana"), Principal("user:ben")
    standing.check_unclaimed(ana, asked(claimed_by="user:ana"))
    with pytest.raises(PromptClaimed) as refused:
        standing.check_unclaimed(ben, asked(claimed_by="user:ana"))
    assert refused.value.extra["claimed_by"] == "user:ana"
    with pytest.raises(ClaimNeedsOne):
        standing.check_claimable(asked(quorum=2))
