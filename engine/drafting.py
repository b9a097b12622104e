"""Asking a model for a plan: one round, bounded in time; whatever goes wrong is a finding (F4, F5).

The model is outside: nothing is asked before the round's ``plan_requested`` is committed, and what it says is only
ever data for :class:`contracts.ports.PlanWriter`.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from typing import Final

import structlog

from contracts.capability import CapabilityError
from contracts.envelope import TaskEnvelope
from contracts.lifecycle import NodeStatus
from contracts.outcome import NO_USAGE, Usage
from contracts.plan import Finding
from contracts.ports import Commission, Model, ModelReply, Planned, PlanWriter, Reconsider, Unplannable
from engine.signals import ReplanAsked, Replanned
from engine.state import RunState

_log = structlog.get_logger("flex.engine")
MODEL_ROUNDS: Final = 3
"""How often a model is asked per question; then the search is."""
MODEL, SEARCH = "model", "search"
MODEL_AUTHOR: Final = "planner:model"
MAX_SAID: Final = 40_000
"""Characters of a refused reply that are kept for the next round."""


@dataclass(frozen=True, slots=True)
class Proposal:
    """What one round gave. ``hopeless``: another one could not end otherwise. ``after_ms``: when the model has time."""

    result: Planned | Unplannable
    usage: Usage = NO_USAGE
    said: str = ""
    hopeless: bool = False
    after_ms: int | None = None


@dataclass(frozen=True, slots=True)
class Drafting:
    """Who writes plans by a model, and which strategy is the service's own choice. Without a model there is none."""

    writer: PlanWriter | None = None
    model: Model | None = None
    default: str = SEARCH

    def strategy_of(self, envelope: TaskEnvelope) -> str:
        """Return ``model`` or ``search``: the envelope's, else the service's."""
        return envelope.policies.planner.strategy or self.default

    async def propose(self, envelope: TaskEnvelope, commission: Commission) -> Proposal:
        """Ask once, for at most ``timeouts.node_seconds``. Raises nothing but ``asyncio.CancelledError``."""
        if self.model is None or self.writer is None:
            fix = "Configure FLEX_MODEL and FLEX_MODEL_BASE_URL."
            return Proposal(_refusal("model_missing", "No model is configured in this process.", fix), hopeless=True)
        brief = self.writer.brief(envelope, commission)
        if isinstance(brief, Unplannable):
            return Proposal(brief, hopeless=True)
        seconds = envelope.policies.timeouts.node_seconds
        try:
            async with asyncio.timeout(seconds):
                reply = await self.model.generate(brief.messages, schema=brief.schema, timeout_seconds=seconds)
        except CapabilityError as error:
            return Proposal(_refusal(error.code, error.message), error.usage, after_ms=error.after_ms)
        except TimeoutError:
            return Proposal(_refusal("model_unreachable", f"The model did not finish within {seconds:g} seconds."))
        return Proposal(self.writer.read(reply.value, envelope, commission), reply.usage, _kept(reply))

    async def answer(self, state: RunState, asked: ReplanAsked) -> Replanned:
        """Put a run's question to the model and return what its machine gets to know."""
        commission = commission_of(state, asked)
        await asyncio.sleep(asked.delay_ms / 1_000)
        said = await self.propose(state.envelope, commission)
        refused = isinstance(said.result, Unplannable)
        _log.info("model_planned", run_id=state.run_id, round=asked.round, refused=refused, tokens=said.usage.tokens)
        return Replanned(
            said.result,
            MODEL_AUTHOR,
            asked.reason if asked.author == MODEL_AUTHOR else f"{asked.reason} ({asked.author})",
            asked.node_id,
            asked.round,
            usage=said.usage,
            said=said.said,
            hopeless=said.hopeless,
            after_ms=said.after_ms,
        )


async def draft(drafting: Drafting, envelope: TaskEnvelope, tenant: str = "") -> Planned | Unplannable:
    """Have a plan written without a run: the rounds of one question, within ``timeouts.run_seconds`` in all."""
    commission = Commission(Reconsider(round=1, tenant=tenant))
    refused: Planned | Unplannable = Unplannable(())
    try:
        async with asyncio.timeout(envelope.policies.timeouts.run_seconds):
            for _ in range(MODEL_ROUNDS):
                said = await drafting.propose(envelope, commission)
                refused = said.result
                if isinstance(refused, Planned) or said.hopeless:
                    break
                findings = tuple(finding.model_dump(mode="json", exclude_none=True) for finding in refused.findings)
                commission = replace(commission, said=said.said, findings=findings)
    except TimeoutError:
        _log.info("dry_run_out_of_time")
    return refused


def reconsidered(state: RunState, asked: ReplanAsked) -> Reconsider:
    """Return why a plan is asked for again, with what the new one has to do with of the run."""
    present = state.plan.graph if state.plan.steps else None
    completed = frozenset(name for name, node in state.nodes.items() if node.status is NodeStatus.COMPLETED)
    return Reconsider(asked.round, asked.without, asked.notes, present, completed, state.tenant)


def commission_of(state: RunState, asked: ReplanAsked) -> Commission:
    """Return what the model is to know of the run's question."""
    return Commission(reconsidered(state, asked), asked.reason, asked.said, asked.findings)


def _refusal(code: str, message: str, fix: str | None = None) -> Unplannable:
    return Unplannable((Finding(layer="capability", code=code, message=message, fix=fix),))


def _kept(reply: ModelReply) -> str:
    """Return the reply as it can be stored, for the round after this one."""
    return reply.text[:MAX_SAID].replace("\x00", "\ufffd")
