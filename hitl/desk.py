"""Deciding: the only way a prompt gets an answer from a person, exactly once (H4; wire §5).

One transaction reads the prompt under a lock, checks who and what, stores the vote and, when it settles the prompt,
moves the prompt and leaves the run its signal. The run's holder is nudged after the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import orjson

from contracts.access import Principal
from contracts.clock import rfc3339
from contracts.errors import (
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
from contracts.prompts import Assignees, Decision, DecisionInput
from contracts.schema import compile_schema
from hitl import policy
from hitl.policy import Say
from hitl.render import to_decision
from store import prompts, signals
from store.connect import Database
from store.rows import DecisionRow, PromptRow
from store.unit import Unit


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

    def __init__(self, database: Database, clock: Clock, ids: Ids, nudge: Nudge) -> None:
        """Take the world."""
        self._database, self._clock, self._ids, self._nudge = database, clock, ids, nudge

    async def decide(self, principal: Principal, prompt_id: str, decision: DecisionInput, channel: str) -> Decided:
        """Store the principal's decision; settle the prompt when the rules in ``hitl.policy`` say so.

        ``channel`` is the door (``http``, ``cli``). Raises PromptNotFound, NotAssigned, PromptSettled, PromptStale,
        ActionNotAllowed, AnswerInvalid, AlreadyVoted, InvalidRunState, StoreUnavailable. Then nothing was stored.
        """
        async with self._database.unit("decide") as unit:
            decided = await self._store(unit, principal, prompt_id, decision, channel)
        if decided.settled:
            self._nudge.run(decided.run_id, decided.worker)
        return decided

    async def _store(
        self, unit: Unit, principal: Principal, prompt_id: str, decision: DecisionInput, channel: str
    ) -> Decided:
        row = await prompts.lock(unit, principal.tenant, prompt_id)
        if row is None:
            raise PromptNotFound(f"There is no prompt {prompt_id}.")
        # A single vote settles a prompt without a quorum: while it is open there is none to read.
        alone = row.quorum == 1 and row.status == PromptStatus.OPEN
        votes = [] if alone else await prompts.votes(unit, row.tenant, row.prompt_id)
        earlier = check(principal, row, votes, decision)
        if earlier is not None:
            return Decided(to_decision(earlier), row.status, row.run_id, settled=False, repeated=True)
        vote = self._vote(principal, row, decision, channel)
        won = policy.winner([*map(_say, votes), _say(vote)], row.quorum)
        vote.winning = won is not None
        await prompts.add_decision(unit, vote)
        if won is None:
            return Decided(to_decision(vote), row.status, row.run_id, settled=False, repeated=False)
        worker = await _settle(unit, row, vote)
        return Decided(to_decision(vote), PromptStatus.SETTLED, row.run_id, settled=True, repeated=False, worker=worker)

    def _vote(self, principal: Principal, row: PromptRow, decision: DecisionInput, channel: str) -> DecisionRow:
        answer = policy.read_answer(decision)
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
    principal: Principal, row: PromptRow, votes: Sequence[DecisionRow], decision: DecisionInput
) -> DecisionRow | None:
    """Return the person's own equal earlier vote, None when this is a new one that may be stored; else raise.

    A repeat is recognised before anything else about the prompt's state is said, so a client that lost the answer of
    its first request gets it again, also after the prompt was settled.
    """
    policy.check_assigned(principal, Assignees.model_validate_json(row.assignees_json))
    own = next((vote for vote in votes if vote.decided_by == principal.subject), None)
    stale = decision.bound_hash is not None and decision.bound_hash != row.bound_hash
    if own is not None and not stale and _same(own, decision):
        return own
    if row.status != PromptStatus.OPEN:
        raise _settled(row, votes)
    if stale:
        raise PromptStale(bound_hash=row.bound_hash)
    policy.check_action(decision.action, orjson.loads(row.actions_json))
    check_answer(policy.read_answer(decision), row.answer_schema_json)
    if own is not None:
        raise AlreadyVoted(decision=asdict(to_decision(own)))
    return None


def check_answer(answer: bytes | None, schema_json: str) -> None:
    """Raise AnswerInvalid with a pointer per failing place unless the answer fits the prompt's schema."""
    if answer is None:
        return
    found = compile_schema(orjson.loads(schema_json)).explain(orjson.loads(answer))
    if found:
        items = [ErrorItem("/answer" + each.pointer, each.keyword, each.message) for each in found]
        raise AnswerInvalid(errors=items)


async def _settle(unit: Unit, row: PromptRow, vote: DecisionRow) -> str | None:
    """Move the locked prompt to ``settled`` and leave the run its signal; return the worker that holds the run."""
    decision = orjson.dumps(to_decision(vote)).decode()
    moved = await prompts.settle(unit, row.tenant, row.prompt_id, decision, vote.decided_at)
    payload = signal_payload(row, PromptStatus.SETTLED, vote)
    left = await signals.leave(unit, row.run_id, row.tenant, "decision", payload, vote.decided_at) if moved else None
    if left is None:
        raise InvalidRunState("The run has ended.", run_id=row.run_id)
    return left.worker


def signal_payload(row: PromptRow, status: PromptStatus, vote: DecisionRow | None) -> str:
    """Return the JSON of the signal ``decision``: ``{prompt_id, status, decision, on_timeout}``."""
    decision = None if vote is None else to_decision(vote)
    said = {"prompt_id": row.prompt_id, "status": status, "decision": decision, "on_timeout": row.on_timeout}
    return orjson.dumps(said).decode()


def _say(vote: DecisionRow) -> Say:
    return Say(vote.decided_by, vote.action, None if vote.answer_json is None else vote.answer_json.encode())


def _same(own: DecisionRow, decision: DecisionInput) -> bool:
    if own.action != decision.action:
        return False
    try:
        answer = policy.read_answer(decision)
    except AnswerInvalid:
        return False
    return _say(own).answer == answer


def _settled(row: PromptRow, votes: Sequence[DecisionRow]) -> PromptSettled:
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
        PromptStatus.WITHDRAWN: "The prompt was withdrawn: its run has ended or its plan has changed.",
    }
    return PromptSettled(said[PromptStatus(row.status)], **extra)
