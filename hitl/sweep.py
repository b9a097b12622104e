"""Prompts whose due time has passed (H3): each ends exactly once, whoever looks first.

The end is one guarded UPDATE, and the signal that tells the run is in the same transaction. ``on_timeout`` decides what
the run is told: ``approve`` and ``reject`` become a decision of the timer's where the prompt offers that action,
everything else is no decision at all and fails closed. ``wait`` never ends by itself.
"""

from __future__ import annotations

import asyncio
from typing import Final

import orjson
import structlog

from contracts.errors import StoreUnavailable
from contracts.ids import DECISION
from contracts.lifecycle import PromptStatus
from contracts.ports import Clock, Ids, Nudge
from hitl.desk import signal_payload
from hitl.policy import TIMER, TIMER_CHANNEL, at_timeout
from store import prompts, signals
from store.connect import Database
from store.rows import DecisionRow, PromptRow
from store.unit import Unit

_log = structlog.get_logger("flex.hitl")

BATCH: Final = 100
LOOK_SECONDS: Final = 1.0


class Sweep:
    """Lets prompts expire; one per process, any number of processes."""

    def __init__(self, database: Database, clock: Clock, ids: Ids, nudge: Nudge, *, batch: int = BATCH) -> None:
        """Take the world; ``batch`` bounds how many prompts one transaction ends."""
        self._database, self._clock, self._ids, self._nudge, self._batch = database, clock, ids, nudge, batch

    async def tick(self) -> int:
        """End every prompt that is due now, batch by batch; return how many. Raises StoreUnavailable."""
        ended = 0
        if not await prompts.any_due(self._database, self._clock.now_ms()):
            return ended
        while True:
            told = await self._one_batch()
            ended += len(told)
            for run_id, worker in told:
                self._nudge.run(run_id, worker)
            if len(told) < self._batch:
                return ended

    async def run(self, look_seconds: float = LOOK_SECONDS) -> None:
        """Look every ``look_seconds`` until cancelled; a database that does not answer is asked again."""
        while True:
            try:
                await self.tick()
            except StoreUnavailable as error:
                _log.warning("sweep_failed", error=error.message)
            await asyncio.sleep(look_seconds)

    async def _one_batch(self) -> list[tuple[str, str | None]]:
        now_ms = self._clock.now_ms()
        async with self._database.unit() as unit:
            due = await prompts.expire_due(unit, now_ms, self._batch)
            return [(row.run_id, await self._tell(unit, row, now_ms)) for row in due]

    async def _tell(self, unit: Unit, row: PromptRow, now_ms: int) -> str | None:
        """Store the timer's decision, if it takes one, and leave the run its signal; return who holds the run."""
        vote = self._vote(row, now_ms)
        if vote is not None:
            await prompts.add_decision(unit, vote)
        payload = signal_payload(row, PromptStatus.EXPIRED, vote)
        left = await signals.leave(unit, row.run_id, row.tenant, "decision", payload, now_ms)
        return None if left is None else left.worker

    def _vote(self, row: PromptRow, now_ms: int) -> DecisionRow | None:
        action = at_timeout(row.on_timeout, orjson.loads(row.actions_json)).action
        if action is None:
            return None
        return DecisionRow(
            decision_id=self._ids.new(DECISION),
            prompt_id=row.prompt_id,
            run_id=row.run_id,
            tenant=row.tenant,
            action=action,
            answer_json=None,
            comment=None,
            decided_by=TIMER,
            decided_at=now_ms,
            channel=TIMER_CHANNEL,
            winning=True,
        )
