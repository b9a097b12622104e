"""The clock of prompts (H3): due times, escalations and reminders, each exactly once, whoever looks first.

Every move is one guarded UPDATE of the prompt's own row, with its audit record and, where the run has to know, its
signal in the same transaction. ``on_timeout`` decides what the run is told: ``approve``, ``reject`` and ``default``
become a decision of the timer's where the prompt offers that; everything else is no decision at all and fails closed.
``wait`` never ends by itself.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, Final

import orjson
import structlog

from contracts.clock import rfc3339, rfc3339_or_none
from contracts.errors import StoreUnavailable
from contracts.ids import DECISION
from contracts.lifecycle import PromptStatus
from contracts.ports import Clock, Ids, Nudge
from hitl import records
from hitl.desk import signal_payload
from hitl.policy import TIMER, TIMER_CHANNEL, at_timeout, escalated, next_reminder
from hitl.render import form_of, policy_of
from hitl.teller import Nobody, Teller
from store import audit, prompt_timers, prompts, signals
from store.connect import Database
from store.prompt_timers import Step
from store.rows import DecisionRow, PromptRow
from store.unit import Unit

_log = structlog.get_logger("flex.hitl")

BATCH: Final = 100
LOOK_SECONDS: Final = 1.0


class Sweep:
    """Moves prompts when their time has come; one per process, any number of processes."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        ids: Ids,
        nudge: Nudge,
        *,
        batch: int = BATCH,
        tell: Teller | None = None,
    ) -> None:
        """Take the world; ``batch`` bounds how many prompts one transaction moves, ``tell`` writes notices."""
        self._database, self._clock, self._ids, self._nudge, self._batch = database, clock, ids, nudge, batch
        self._tell: Teller = tell or Nobody()

    async def tick(self) -> int:
        """Do everything that is due now, batch by batch; return how many moves were made. Raises StoreUnavailable."""
        due = await prompt_timers.look(self._database, self._clock.now_ms())
        moves = 0
        for wanted, batch in ((due.ends, self._end), (due.escalates, self._escalate), (due.tells, self._remind)):
            if wanted:
                moves += await self._all(batch)
        return moves

    async def run(self, look_seconds: float = LOOK_SECONDS) -> None:
        """Look every ``look_seconds`` until cancelled; a database that does not answer is asked again."""
        while True:
            try:
                await self.tick()
            except StoreUnavailable as error:
                _log.warning("sweep_failed", error=error.message)
            except Exception:  # noqa: BLE001  # one broken look must not end all looking; the log has it
                _log.exception("sweep_broke")
            await asyncio.sleep(look_seconds)

    async def _all(self, batch: Callable[[], Awaitable[tuple[int, int]]]) -> int:
        """Work through batch after batch until one is not full; return how many moves were made."""
        moves = 0
        while True:
            found, moved = await batch()
            moves += moved
            if found < self._batch:
                return moves

    # --- due times ---------------------------------------------------------------------------------------------------

    async def _end(self) -> tuple[int, int]:
        now_ms = self._clock.now_ms()
        async with self._database.unit() as unit:
            due = await prompt_timers.expire_due(unit, now_ms, self._batch)
            told = [(row.run_id, await self._expired(unit, row, now_ms)) for row in due]
        for run_id, worker in told:
            self._nudge.run(run_id, worker)
        return len(due), len(due)

    async def _expired(self, unit: Unit, row: PromptRow, now_ms: int) -> str | None:
        """Store the timer's decision, if it takes one, and leave the run its signal; return who holds the run."""
        vote = self._vote(row, now_ms)
        more: dict[str, Any] = {"on_timeout": row.on_timeout, "action": None, **records.seen(row)}
        if vote is not None:
            await prompts.add_decision(unit, vote)
            more |= records.of_vote(row, vote)
        await audit.add(unit, records.by_clock(self._ids, row, "prompt.expired", now_ms, **more))
        payload = signal_payload(row, PromptStatus.EXPIRED, vote)
        left = await signals.leave(unit, row.run_id, row.tenant, "decision", payload, now_ms)
        return None if left is None else left.worker

    def _vote(self, row: PromptRow, now_ms: int) -> DecisionRow | None:
        ending = at_timeout(row.on_timeout, form_of(row), policy_of(row).default_answer)
        if ending.action is None:
            return None
        return DecisionRow(
            decision_id=self._ids.new(DECISION),
            prompt_id=row.prompt_id,
            run_id=row.run_id,
            tenant=row.tenant,
            action=ending.action,
            answer_json=None if ending.answer is None else ending.answer.decode(),
            comment=None,
            decided_by=TIMER,
            decided_at=now_ms,
            channel=TIMER_CHANNEL,
            winning=True,
        )

    # --- escalations -------------------------------------------------------------------------------------------------

    async def _escalate(self) -> tuple[int, int]:
        now_ms = self._clock.now_ms()
        async with self._database.unit() as unit:
            due = await prompt_timers.to_escalate(unit, now_ms, self._batch)
            moved = [await self._escalated(unit, row, now_ms) for row in due]
        return len(due), sum(moved)

    async def _escalated(self, unit: Unit, row: PromptRow, now_ms: int) -> bool:
        """Ask the next people; False: somebody was faster."""
        after = escalated(policy_of(row), row.level, now_ms)
        step = Step(after.assignees.model_dump_json(), after.due_at, after.on_timeout)
        if not await prompt_timers.escalate(unit, row, step, now_ms):
            return False
        more: dict[str, Any] = {
            "from_assignees": orjson.loads(row.assignees_json),
            "to_assignees": after.assignees.model_dump(),
            "taken_from": row.claimed_by,
            "due_at": rfc3339_or_none(after.due_at),
        }
        await audit.add(unit, records.by_clock(self._ids, row, "prompt.escalated", now_ms, **more))
        row.assignees_json, row.due_at, row.on_timeout = step.assignees_json, step.due_at, step.on_timeout
        row.level, row.claimed_by = row.level + 1, None
        await self._tell.notice(unit, row, "escalated")
        return True

    # --- notices -----------------------------------------------------------------------------------------------------

    async def _remind(self) -> tuple[int, int]:
        now_ms = self._clock.now_ms()
        async with self._database.unit() as unit:
            due = await prompt_timers.to_tell(unit, now_ms, self._batch)
            moved = [await self._reminded(unit, row, now_ms) for row in due]
        return len(due), sum(moved)

    async def _reminded(self, unit: Unit, row: PromptRow, now_ms: int) -> bool:
        """Tell people of a prompt once for each time that has come; False: somebody was faster."""
        at = row.notify_at
        if at is None or not await prompt_timers.told(unit, row, next_reminder(policy_of(row), row.created_at, at)):
            return False
        kind = "raised" if at <= row.created_at else "reminded"
        if kind == "reminded":
            note = records.by_clock(self._ids, row, "prompt.reminded", now_ms, reminder_at=rfc3339(at))
            await audit.add(unit, note)
        await self._tell.notice(unit, row, kind)
        return True
