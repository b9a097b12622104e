"""What a plan for an envelope would be, without starting anything (F4)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from contracts.access import Principal
from contracts.envelope import TaskEnvelope
from contracts.plan import plan_wire
from contracts.ports import Planned, Planner

Read = Callable[[Any], TaskEnvelope]
"""A JSON value → an envelope that would be accepted; raises the same refusals as accepting it does."""


class Plans:
    """The dry run. ``read`` is the intake's own reading, so that it refuses exactly what a submission would."""

    def __init__(self, planner: Planner, read: Read) -> None:
        """Take the planner and the intake's reading."""
        self._planner, self._read = planner, read

    async def dry_run(self, principal: Principal, body: Any) -> dict[str, Any]:
        """Return ``{"plan", "findings", "estimate"}``; without a plan it is null and the findings say why.

        Raises :class:`EnvelopeInvalid`, :class:`Unsupported`.
        """
        answer = self._planner.plan(self._read(body))
        if isinstance(answer, Planned):
            plan = plan_wire(answer.plan)
            return {"plan": plan, "findings": plan["findings"], "estimate": plan["estimate"]}
        findings = [finding.model_dump(mode="json", exclude_none=True) for finding in answer.findings]
        return {"plan": None, "findings": findings, "estimate": None}
