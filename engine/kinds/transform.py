"""``transform``: a JSONata expression over the node's bound inputs; sandboxed, bounded, pure."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from contracts.expressions import ExpressionFailed, compile_jsonata
from contracts.outcome import Done, Fail, Outcome
from contracts.plan import KindSpec
from contracts.wire import Wire
from engine.kinds.base import Work


class TransformFields(Wire):
    """``expression`` reads the object of the node's inputs."""

    expression: Annotated[str, Field(min_length=1, max_length=10_000)]


class TransformKind:
    """Evaluates the expression."""

    spec = KindSpec(
        name="transform",
        fields=TransformFields,
        summary="Reshapes its inputs with JSONata.",
        expressions=lambda own: [("/expression", "jsonata", own.expression)],
    )
    pure = True

    async def run(self, work: Work) -> Outcome:
        """Return the value, or fail for good: the same inputs would fail again."""
        try:
            return Done(compile_jsonata(work.own.expression).apply(dict(work.bundle.inputs)))
        except ExpressionFailed as error:
            return Fail("expression_failed", str(error))


TRANSFORM = TransformKind()
