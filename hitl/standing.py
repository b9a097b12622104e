"""Who may decide a prompt now, as pure functions: assignees, delegations, the requester, a claim (H3, H7).

- Any listed user, role or group suffices; nobody listed means the role ``operator``. Being an administrator is not
  being asked.
- With ``exclude_requester`` who asked for the run may not, whatever else they are.
- Who passes their say on gives it up, and who gets it has it, until it is passed on again, even back. An escalation
  begins anew: what was delegated before it no longer counts.
- A claim keeps others from deciding a prompt of quorum 1.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from contracts.access import Principal
from contracts.errors import (
    AlreadyVoted,
    ClaimNeedsOne,
    DelegateVoted,
    NotAssigned,
    PromptClaimed,
    QuorumUnreachable,
    RequesterExcluded,
    TooManyDelegations,
)
from contracts.prompts import OPERATORS, Assignees, PromptPolicy
from store.rows import PromptRow

MAX_DELEGATIONS: Final = 50
"""per prompt: its row holds them all"""


@dataclass(frozen=True, slots=True)
class Standing:
    """Who is asked. ``delegations`` (``{"from", "to", "at"}``, in order) are those since the last escalation."""

    assignees: Assignees
    requester: str | None
    """who may not decide, whatever else they are; None when nobody is kept out"""
    delegations: tuple[Mapping[str, Any], ...]
    claimed_by: str | None
    quorum: int

    def passed(self) -> tuple[frozenset[str], frozenset[str]]:
        """Return who has given their say up, and who has got one."""
        gave: set[str] = set()
        got: set[str] = set()
        for each in self.delegations:
            gave.add(each["from"])
            got.discard(each["from"])
            got.add(each["to"])
            gave.discard(each["to"])
        return frozenset(gave), frozenset(got)


def standing_of(row: PromptRow, policy: PromptPolicy) -> Standing:
    """Return who is asked by a prompt as it is stored."""
    assignees = Assignees.model_validate_json(row.assignees_json)
    made: Sequence[Mapping[str, Any]] = orjson.loads(row.delegations_json)
    return Standing(
        assignees=OPERATORS if assignees.nobody else assignees,
        requester=row.requester if policy.exclude_requester else None,
        delegations=tuple(each for each in made if each["level"] == row.level),
        claimed_by=row.claimed_by,
        quorum=row.quorum,
    )


def may_decide(principal: Principal, standing: Standing) -> bool:
    """Say whether the principal is one of those who are asked."""
    if principal.subject == standing.requester:
        return False
    gave, got = standing.passed()
    return principal.subject not in gave and (principal.subject in got or _listed(principal, standing.assignees))


def check_may(principal: Principal, standing: Standing) -> None:
    """Raise RequesterExcluded or NotAssigned unless the principal may decide."""
    if principal.subject == standing.requester:
        raise RequesterExcluded
    if not may_decide(principal, standing):
        raise NotAssigned(assignees=standing.assignees.model_dump())


def check_unclaimed(principal: Principal, standing: Standing) -> None:
    """Raise PromptClaimed when somebody else has claimed the prompt and its quorum is 1."""
    if standing.quorum == 1 and standing.claimed_by not in (None, principal.subject):
        raise PromptClaimed(f"{standing.claimed_by} has claimed this prompt.", claimed_by=standing.claimed_by)


def check_claimable(standing: Standing) -> None:
    """Raise ClaimNeedsOne for a prompt that several people have to decide."""
    if standing.quorum > 1:
        raise ClaimNeedsOne(f"{standing.quorum} people have to decide this prompt.", quorum=standing.quorum)


def passes_again(principal: Principal, to: str, standing: Standing) -> bool:
    """Say whether this is what the principal did last: a delegation that is sent once more changes nothing."""
    own = [each["to"] for each in standing.delegations if each["from"] == principal.subject]
    return bool(own) and own[-1] == to and principal.subject in standing.passed()[0]


def check_delegation(principal: Principal, to: str, standing: Standing, voted: Collection[str]) -> None:
    """Raise the reason why the principal, who may decide, cannot pass their say on to ``to``.

    RequesterExcluded, AlreadyVoted (they have spoken), DelegateVoted, QuorumUnreachable (named people alone decide,
    and too few of them would be left), TooManyDelegations.
    """
    if to == standing.requester:
        raise RequesterExcluded(f"{to} asked for the run and may not decide this prompt.")
    if principal.subject in voted:
        raise AlreadyVoted("You have voted; there is no say left to pass on.")
    if to in voted:
        raise DelegateVoted(f"{to} has voted already.")
    if len(standing.delegations) >= MAX_DELEGATIONS:
        raise TooManyDelegations(f"A prompt is passed on at most {MAX_DELEGATIONS} times.")
    named = not (standing.assignees.roles or standing.assignees.groups)
    if named and len(_voices(principal.subject, to, standing, voted)) < standing.quorum:
        raise QuorumUnreachable(f"{to} has one vote, and {standing.quorum} people have to decide.")


def _voices(giver: str, to: str, standing: Standing, voted: Collection[str]) -> frozenset[str | None]:
    """Return who could have voted in the end if ``giver`` passed their say on, of named people."""
    gave, got = standing.passed()
    left = (frozenset(standing.assignees.users) - gave | got | {to}) - {giver, standing.requester}
    return left | frozenset(voted)


def _listed(principal: Principal, assignees: Assignees) -> bool:
    return (
        principal.subject in assignees.users
        or not principal.roles.isdisjoint(assignees.roles)
        or not principal.groups.isdisjoint(assignees.groups)
    )
