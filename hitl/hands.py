"""Who has a prompt in hand: claim, release, delegate, withdraw, each with its audit record (H7, H9).

Like a decision, each is one transaction that locks the prompt first: whoever comes second sees what the first one did.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import orjson

from contracts.access import Principal
from contracts.clock import rfc3339
from contracts.errors import Forbidden, PromptClaimed, PromptNotFound
from contracts.lifecycle import PromptStatus
from contracts.ports import Clock, Ids, Nudge
from hitl import records
from hitl.desk import ended, tell_run
from hitl.render import policy_of
from hitl.standing import (
    Standing,
    check_claimable,
    check_delegation,
    check_may,
    check_unclaimed,
    may_decide,
    passes_again,
    standing_of,
)
from hitl.teller import Nobody, Teller
from store import audit, prompts
from store.connect import Database
from store.rows import DecisionRow, PromptRow
from store.unit import Unit


class Hands:
    """Hands prompts over; one per process, without state of its own. Every method returns the prompt as it is now."""

    def __init__(self, database: Database, clock: Clock, ids: Ids, nudge: Nudge, *, tell: Teller | None = None) -> None:
        """Take the world; ``tell`` writes to who got somebody's say (H8)."""
        self._database, self._clock, self._ids, self._nudge = database, clock, ids, nudge
        self._tell: Teller = tell or Nobody()

    async def claim(self, principal: Principal, prompt_id: str, channel: str, *, force: bool = False) -> PromptRow:
        """Keep others from deciding a prompt of quorum 1; claiming again what one has changes nothing.

        ``force`` lets an administrator who may decide take over somebody's claim. Raises PromptNotFound,
        RequesterExcluded, NotAssigned, PromptSettled, ClaimNeedsOne, PromptClaimed, Forbidden, StoreUnavailable.
        """
        async with self._database.unit() as unit:
            row, standing, _ = await self._open(unit, principal, prompt_id)
            check_may(principal, standing)
            check_claimable(standing)
            if row.claimed_by == principal.subject:
                return row
            if force:
                _check_admin(principal)
            else:
                check_unclaimed(principal, standing)
            await self._note(unit, principal, row, "prompt.claimed", channel, taken_from=row.claimed_by)
            await prompts.claim(unit, row.tenant, row.prompt_id, principal.subject)
            return replace(row, claimed_by=principal.subject)

    async def release(self, principal: Principal, prompt_id: str, channel: str, *, force: bool = False) -> PromptRow:
        """Free a prompt that one has claimed; one that nobody has claimed stays as it is.

        ``force`` lets an administrator free somebody else's. Raises PromptNotFound, PromptSettled, PromptClaimed,
        Forbidden, StoreUnavailable.
        """
        async with self._database.unit() as unit:
            row, standing, _ = await self._open(unit, principal, prompt_id)
            if row.claimed_by is None:
                return row
            if force and row.claimed_by != principal.subject:
                _check_admin(principal)
            elif row.claimed_by != principal.subject:
                raise PromptClaimed(f"{standing.claimed_by} has claimed this prompt.", claimed_by=row.claimed_by)
            await self._note(unit, principal, row, "prompt.released", channel, taken_from=row.claimed_by)
            await prompts.claim(unit, row.tenant, row.prompt_id, None)
            return replace(row, claimed_by=None)

    async def delegate(
        self, principal: Principal, prompt_id: str, to: str, comment: str | None, channel: str
    ) -> PromptRow:
        """Pass one's say on to ``to`` (a subject), and with it one's claim; sent again, it changes nothing.

        Raises PromptNotFound, RequesterExcluded, NotAssigned, PromptSettled, AlreadyVoted, DelegateVoted,
        QuorumUnreachable, TooManyDelegations, StoreUnavailable.
        """
        async with self._database.unit() as unit:
            row, standing, votes = await self._open(unit, principal, prompt_id)
            if not may_decide(principal, standing) and passes_again(principal, to, standing):
                return row
            check_may(principal, standing)
            check_delegation(principal, to, standing, {vote.decided_by for vote in votes})
            now_ms = self._clock.now_ms()
            made = {"from": principal.subject, "to": to, "at": rfc3339(now_ms), "level": row.level}
            delegations = orjson.dumps([*orjson.loads(row.delegations_json), made]).decode()
            claimed_by = to if row.claimed_by == principal.subject else row.claimed_by
            await prompts.delegate(unit, row, delegations, claimed_by)
            await self._note(unit, principal, row, "prompt.delegated", channel, to=to, comment=comment)
            passed = replace(row, delegations_json=delegations, claimed_by=claimed_by)
            if row.notify_at is None or row.notify_at > now_ms:
                # Otherwise they are about to be told with everybody else.
                await self._tell.notice(unit, passed, "delegated", [to])
            return passed

    async def withdraw(self, principal: Principal, prompt_id: str, comment: str | None, channel: str) -> PromptRow:
        """Take the question back: nobody decides it, and its node fails. A withdrawn one stays as it is.

        Who may is the caller's to check. Raises PromptNotFound, PromptSettled, InvalidRunState, StoreUnavailable.
        """
        async with self._database.unit("decide") as unit:
            row = await self._locked(unit, principal, prompt_id)
            if row.status == PromptStatus.WITHDRAWN:
                return row
            if row.status != PromptStatus.OPEN:
                raise ended(row, await prompts.votes(unit, row.tenant, row.prompt_id))
            now_ms = self._clock.now_ms()
            more = {**records.seen(row), "comment": comment}
            await self._note(unit, principal, row, "prompt.withdrawn", channel, **more)
            moved = await prompts.withdraw(unit, row.tenant, row.prompt_id, now_ms)
            worker = await tell_run(unit, row, PromptStatus.WITHDRAWN, None, now_ms, moved=moved)
        self._nudge.run(row.run_id, worker)
        return replace(row, status=PromptStatus.WITHDRAWN.value, settled_at=now_ms)

    async def _open(
        self, unit: Unit, principal: Principal, prompt_id: str
    ) -> tuple[PromptRow, Standing, list[DecisionRow]]:
        """Lock an open prompt; return it with who is asked and what was voted."""
        row = await self._locked(unit, principal, prompt_id)
        votes = await prompts.votes(unit, row.tenant, row.prompt_id)
        if row.status != PromptStatus.OPEN:
            raise ended(row, votes)
        return row, standing_of(row, policy_of(row)), votes

    async def _locked(self, unit: Unit, principal: Principal, prompt_id: str) -> PromptRow:
        row = await prompts.lock(unit, principal.tenant, prompt_id)
        if row is None:
            raise PromptNotFound(f"There is no prompt {prompt_id}.")
        return row

    async def _note(
        self, unit: Unit, principal: Principal, row: PromptRow, kind: str, channel: str, **more: Any
    ) -> None:
        now_ms = self._clock.now_ms()
        await audit.add(unit, records.by_person(self._ids, principal, row, kind, now_ms, channel, **more))


def _check_admin(principal: Principal) -> None:
    if "admin" not in principal.roles:
        raise Forbidden("Only an administrator may take a claim away.")
