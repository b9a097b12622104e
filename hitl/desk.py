"""Deciding: the only way a prompt gets an answer from a person, exactly once (H4; wire §5).

One transaction reads the prompt under a lock, checks who and what, stores the vote with its audit record and, when it
settles the prompt, moves the prompt and leaves the run its signal. The run's holder is nudged after the commit.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from contracts.access import Principal
from contracts.clock import rfc3339
from contracts.errors import (
    ActionNotAllowed,
    AlreadyVoted,
    AnswerInvalid,
    ErrorItem,
    InvalidRunState,
    PromptNotFound,
    PromptSettled,
    PromptStale,
)
from contracts.ids import DECISION
from contracts.lifecycle import PromptStatus
from contracts.ports import Clock, Ids, Nudge
from contracts.prompts import Decision, DecisionInput, PromptKind, PromptPolicy
from hitl import records
from hitl.policy import Say, winner
from hitl.render import form_of, policy_of, to_decision
from hitl.standing import check_may, check_unclaimed, standing_of
from store import audit, prompts, signals
from store.connect import Database
from store.rows import DecisionRow, PromptRow
from store.unit import Unit

Within = Callable[[Unit], Awaitable[None]]
Review = Callable[[Principal, PromptRow, Any], Awaitable[Sequence[ErrorItem]]]
"""(who edited it, plan review, the edited plan) → what is wrong with it, with pointers below ``/answer``"""


@dataclass(frozen=True, slots=True)
class Decided:
    """What became of a decision.

    ``decision`` is the caller's own stored one; ``status`` the prompt's now. ``settled`` says that this very call
    settled the prompt, ``repeated`` that it had been said before and nothing changed. ``worker`` holds the run.
    """

    decision: Decision
    status: str
    run_id: str
    settled: bool
    repeated: bool
    worker: str | None = None


class Desk:
    """Where decisions are made; one per process, without state of its own."""

    def __init__(self, database: Database, clock: Clock, ids: Ids, nudge: Nudge, review: Review | None = None) -> None:
        """Take the world; ``review`` checks the plans that reviewers edit, none are checked without it."""
        self._database, self._clock, self._ids, self._nudge = database, clock, ids, nudge
        self._review = review

    async def decide(
        self,
        principal: Principal,
        prompt_id: str,
        decision: DecisionInput,
        channel: str,
        *,
        within: Within | None = None,
    ) -> Decided:
        """Store the principal's decision; settle the prompt when the rules in ``hitl.policy`` say so.

        ``channel`` is the door (``http``, ``cli``). ``within`` is awaited in the same transaction once the decision is
        taken, also when it only repeats an earlier one; what it raises undoes the decision. Raises PromptNotFound,
        RequesterExcluded, NotAssigned, PromptSettled, PromptClaimed, PromptStale, ActionNotAllowed, AnswerInvalid,
        AlreadyVoted, InvalidRunState, StoreUnavailable. Then nothing was stored.
        """
        wrong = await self._wrong(principal, prompt_id, decision)
        async with self._database.unit("decide") as unit:
            decided = await self._store(unit, principal, prompt_id, decision, channel, wrong)
            if within is not None:
                await within(unit)
        if decided.settled:
            self._nudge.run(decided.run_id, decided.worker)
        return decided

    async def _wrong(self, principal: Principal, prompt_id: str, decision: DecisionInput) -> Sequence[ErrorItem]:
        """Return what is wrong with an edited plan; worked out before the transaction, in which nothing is awaited."""
        if self._review is None or decision.action != "edit":
            return ()
        row = await prompts.get(self._database, principal.tenant, prompt_id)
        reviewed = row is not None and row.kind == PromptKind.PLAN_REVIEW and row.status == PromptStatus.OPEN
        return await self._review(principal, row, decision.answer) if row is not None and reviewed else ()

    async def _store(
        self,
        unit: Unit,
        principal: Principal,
        prompt_id: str,
        decision: DecisionInput,
        channel: str,
        wrong: Sequence[ErrorItem] = (),
    ) -> Decided:
        row = await prompts.lock(unit, principal.tenant, prompt_id)
        if row is None:
            raise PromptNotFound(f"There is no prompt {prompt_id}.")
        # A single vote settles a prompt without a quorum: while it is open there is none to read.
        alone = row.quorum == 1 and row.status == PromptStatus.OPEN
        votes = [] if alone else await prompts.votes(unit, row.tenant, row.prompt_id)
        policy = policy_of(row)
        earlier, answer = check(principal, row, policy, votes, decision)
        if earlier is not None:
            return Decided(to_decision(earlier), row.status, row.run_id, settled=False, repeated=True)
        if wrong:
            raise AnswerInvalid("The edited plan cannot be run.", errors=wrong)
        vote = self._vote(principal, row, decision, answer, channel)
        vote.winning = winner([*map(_say, votes), _say(vote)], row.quorum, veto=policy.veto) is not None
        return await self._count(unit, principal, row, vote)

    async def _count(self, unit: Unit, principal: Principal, row: PromptRow, vote: DecisionRow) -> Decided:
        """Store a vote that was checked, and settle the prompt if it won."""
        kind = "prompt.decided" if vote.winning else "prompt.voted"
        more = records.of_vote(row, vote)
        note = records.by_person(self._ids, principal, row, kind, vote.decided_at, vote.channel, **more)
        if not vote.winning:
            await prompts.add_decision(unit, vote)
            await audit.add(unit, note)
            return Decided(to_decision(vote), row.status, row.run_id, settled=False, repeated=False)
        decision = orjson.dumps(to_decision(vote)).decode()
        moved = await prompts.settle_by(unit, vote, decision, note)
        worker = await tell_run(unit, row, PromptStatus.SETTLED, vote, vote.decided_at, moved=moved)
        return Decided(to_decision(vote), PromptStatus.SETTLED, row.run_id, settled=True, repeated=False, worker=worker)

    def _vote(
        self, principal: Principal, row: PromptRow, decision: DecisionInput, answer: bytes | None, channel: str
    ) -> DecisionRow:
        return DecisionRow(
            decision_id=self._ids.new(DECISION),
            prompt_id=row.prompt_id,
            run_id=row.run_id,
            tenant=row.tenant,
            action=decision.action,
            answer_json=None if answer is None else answer.decode(),
            comment=decision.comment,
            decided_by=principal.subject,
            decided_at=self._clock.now_ms(),
            channel=channel,
        )


def check(
    principal: Principal, row: PromptRow, policy: PromptPolicy, votes: Sequence[DecisionRow], decision: DecisionInput
) -> tuple[DecisionRow | None, bytes | None]:
    """Return the person's own equal earlier vote, or the answer of a new one that may be stored; else raise.

    A repeat is recognised before anything else about the prompt's state is said, so a client that lost the answer of
    its first request gets it again, also after the prompt was settled.
    """
    standing = standing_of(row, policy)
    own = next((vote for vote in votes if vote.decided_by == principal.subject), None)
    stale = decision.bound_hash is not None and decision.bound_hash != row.bound_hash
    if own is not None and not stale and _same(own, row, decision):
        return own, None
    check_may(principal, standing)
    if row.status != PromptStatus.OPEN:
        raise ended(row, votes)
    check_unclaimed(principal, standing)
    if stale:
        raise PromptStale(bound_hash=row.bound_hash)
    answer = form_of(row).check(decision)
    if own is not None:
        raise AlreadyVoted(decision=asdict(to_decision(own)))
    return None, answer


async def tell_run(
    unit: Unit, row: PromptRow, status: PromptStatus, vote: DecisionRow | None, now_ms: int, *, moved: bool
) -> str | None:
    """Leave the run the signal that its locked prompt was ``moved`` by a person; return the worker that holds the run.

    Raises InvalidRunState when the run has ended, and then nothing is to be kept of it.
    """
    payload = signal_payload(row, status, vote)
    left = await signals.leave(unit, row.run_id, row.tenant, "decision", payload, now_ms) if moved else None
    if left is None:
        raise InvalidRunState("The run has ended.", run_id=row.run_id)
    return left.worker


def signal_payload(row: PromptRow, status: PromptStatus, vote: DecisionRow | None) -> str:
    """Return the JSON of the signal ``decision``: ``{prompt_id, status, decision, on_timeout}``."""
    decision = None if vote is None else to_decision(vote)
    said = {"prompt_id": row.prompt_id, "status": status, "decision": decision, "on_timeout": row.on_timeout}
    return orjson.dumps(said).decode()


def ended(row: PromptRow, votes: Sequence[DecisionRow]) -> PromptSettled:
    """Return the 409 that says who decided what and when."""
    won = next((vote for vote in votes if vote.winning), None)
    extra: dict[str, Any] = {"prompt_status": row.status, "decided_by": None, "decided_at": None, "decision": None}
    if won is not None:
        extra |= {
            "decided_by": won.decided_by,
            "decided_at": rfc3339(won.decided_at),
            "decision": asdict(to_decision(won)),
        }
    said = {
        PromptStatus.SETTLED: f"{extra['decided_by']} has decided this prompt.",
        PromptStatus.EXPIRED: "The prompt's due time has passed.",
        PromptStatus.WITHDRAWN: "The prompt was withdrawn: taken back, or its run has ended or its plan has changed.",
    }
    return PromptSettled(said[PromptStatus(row.status)], **extra)


def _say(vote: DecisionRow) -> Say:
    return Say(vote.decided_by, vote.action, None if vote.answer_json is None else vote.answer_json.encode())


def _same(own: DecisionRow, row: PromptRow, decision: DecisionInput) -> bool:
    if own.action != decision.action:
        return False
    try:
        answer = form_of(row).check(decision)
    except (ActionNotAllowed, AnswerInvalid):
        return False
    return _say(own).answer == answer
