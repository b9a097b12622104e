"""``branch``: a CEL condition over ``nodes`` and ``inputs`` chooses which side runs; the other is skipped."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from contracts.expressions import ExpressionFailed, ExpressionRefused, compile_cel
from contracts.outcome import Choose, Fail, Outcome
from contracts.plan import KindSpec, PlanNode
from contracts.wire import Wire
from engine.kinds.base import Work

Targets = str | Annotated[list[str], Field(max_length=100)]


class BranchFields(Wire):
    """``then`` and ``else`` name the nodes of each side: one id or a list."""

    condition: Annotated[str, Field(min_length=1, max_length=2_000)]
    then: Targets = Field(default_factory=list)
    else_: Targets = Field(default_factory=list)


def _targets(_node: PlanNode, own: Any) -> list[str]:
    return [target for side in (own.then, own.else_) for target in ([side] if isinstance(side, str) else side)]


def _read(_node: PlanNode, own: Any) -> list[str]:
    """Return the nodes that the condition mentions: it is evaluated only once they have ended."""
    try:
        return sorted(compile_cel(own.condition).names)
    except ExpressionRefused:
        return []  # the check of expressions says so, with the column


class BranchKind:
    """Evaluates the condition; its output is ``{"taken": bool}``."""

    spec = KindSpec(
        name="branch",
        fields=BranchFields,
        summary="Chooses a side by a condition.",
        references=_read,
        targets=_targets,
        expressions=lambda own: [("/condition", "cel", own.condition)],
        output={"type": "object", "required": ["taken"], "properties": {"taken": {"type": "boolean"}}},
    )
    pure = True

    async def run(self, work: Work) -> Outcome:
        """Return the side, or fail for good: the same values would fail again."""
        try:
            taken = compile_cel(work.own.condition).holds(dict(work.outputs), dict(work.envelope_inputs))
        except ExpressionFailed as error:
            return Fail("condition_failed", str(error))
        return Choose(taken, {"taken": taken})


BRANCH = BranchKind()
