"""``error_handler``: runs when the node it handles has failed, and puts something out in its place (W5, F6)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from contracts.outcome import Iterate, Outcome
from contracts.plan import KindSpec, PlanNode
from contracts.wire import Wire
from engine.kinds.base import Work

_Code = Annotated[str, Field(min_length=1, max_length=100)]


class HandlerFields(Wire):
    """``node`` runs once, as ``name[0]``, when the node ``handles`` has failed; its parameter ``as`` gets the error.

    The error is ``{"node_id", "code", "message", "attempt"}``. ``codes`` are the ones that are handled; without it all
    but what people said no to: ``rejected`` and ``prompt_withdrawn`` are handled only by name.
    """

    handles: Annotated[str, Field(min_length=1, max_length=128)]
    node: dict[str, Any]
    as_: Annotated[str, Field(min_length=1, max_length=100)] = "error"
    codes: Annotated[list[_Code], Field(min_length=1, max_length=50)] | None = None

    def inner(self) -> PlanNode:
        """Return the node that runs; its id is replaced by the handler's."""
        return PlanNode.model_validate({"node_id": "item", **self.node})


class HandlerKind:
    """Runs its node once; whoever reads that one reads what came of it."""

    spec = KindSpec(
        name="error_handler",
        fields=HandlerFields,
        summary="Runs a node when another one failed, and stands in for it.",
        references=lambda _node, own: [own.handles],
        inner=lambda own: own.inner(),
        handles=lambda own: own.handles,
        waits=True,
        lists=lambda _own: False,
    )
    pure = True

    async def run(self, work: Work) -> Outcome:
        """Return the error, which the node gets."""
        return Iterate(work.bundle.inputs.get("error"))


ERROR_HANDLER = HandlerKind()
