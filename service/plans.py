"""What a plan for an envelope would be, without starting anything (F4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contracts.access import Principal
from contracts.envelope import TaskEnvelope
from contracts.plan import plan_wire
from contracts.ports import Planned, Planner, Reconsider, Unplannable
from contracts.scopes import granted_to
from engine.drafting import MODEL, Drafting, draft
from service.offering import NO_OFFERING, NoOffering, Offering

Read = Callable[[Any, str], TaskEnvelope]
"""A JSON value and a tenant → an envelope that would be accepted; raises the same refusals as accepting it does."""


class Plans:
    """The dry run. ``read`` is the intake's own reading, so that it refuses exactly what a submission would."""

    def __init__(
        self,
        planner: Planner,
        read: Read,
        drafting: Drafting | None = None,
        offering: Offering | NoOffering = NO_OFFERING,
    ) -> None:
        """Take the planner, the intake's reading, who writes plans by a model, and which flows plans may use."""
        self._planner, self._read, self._drafting = planner, read, drafting or Drafting()
        self._offering = offering

    async def dry_run(self, principal: Principal, body: Any) -> dict[str, Any]:
        """Return ``{"plan", "findings", "estimate"}``; without a plan it is null and the findings say why.

        With the strategy ``model`` the model is asked as a run would ask it, its repairs and the search included, for
        at most ``timeouts.run_seconds``; what that costs is nobody's budget. Raises :class:`EnvelopeInvalid`,
        :class:`Unsupported`.
        """
        await self._offering.ready(principal.tenant)
        envelope = self._read(body, principal.tenant).granting(granted_to(principal))
        answer = await self._answer(envelope, principal.tenant)
        if isinstance(answer, Unplannable) and await self._offering.news_for(principal.tenant):
            answer = await self._answer(envelope, principal.tenant)
        if isinstance(answer, Planned):
            plan = plan_wire(answer.plan)
            return {"plan": plan, "findings": plan["findings"], "estimate": plan["estimate"]}
        findings = [finding.model_dump(mode="json", exclude_none=True) for finding in answer.findings]
        return {"plan": None, "findings": findings, "estimate": None}

    async def _answer(self, envelope: TaskEnvelope, tenant: str) -> Planned | Unplannable:
        if envelope.workflow is None and self._drafting.strategy_of(envelope) == MODEL:
            written = await draft(self._drafting, envelope, tenant)
            if isinstance(written, Planned):
                return written
        return self._planner.plan(envelope, Reconsider(1, tenant=tenant))
