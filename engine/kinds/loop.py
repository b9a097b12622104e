"""``loop``: one inner node again and again, each round with the last output; items are ``name[0]``, ``name[1]``."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from contracts.expressions import ExpressionRefused, compile_cel
from contracts.outcome import Iterate, Outcome
from contracts.plan import Binding, KindSpec, PlanNode
from contracts.wire import Wire
from engine.kinds.base import Work

MAX_ITERATIONS = 1_000

_Condition = Annotated[str, Field(min_length=1, max_length=2_000)]


class LoopFields(Wire):
    """``node`` runs once per round; its parameter ``as`` gets the last output, in the first round ``initial``.

    Without ``initial`` the first round gets no such parameter, unless the inner node binds it itself. ``while`` is
    read before every round, also the first; ``until`` after every round. Both are CEL over ``nodes`` and ``inputs``;
    under its own id the loop finds ``{"output", "iteration"}``: the last output and how many rounds have ended. After
    ``max_iterations`` rounds ``on_exhausted`` decides. With ``collect`` its output is the list of all outputs.
    """

    node: dict[str, Any]
    as_: Annotated[str, Field(min_length=1, max_length=100)] = "item"
    initial: Binding | None = None
    until: _Condition | None = None
    while_: _Condition | None = None
    max_iterations: Annotated[int, Field(ge=1, le=MAX_ITERATIONS)]
    collect: bool = False
    on_exhausted: Literal["fail", "complete"] = "fail"

    @model_validator(mode="after")
    def _one(self) -> LoopFields:
        if (self.until is None) == (self.while_ is None):
            raise PydanticCustomError("ambiguous_loop", "Give exactly one of until, while.")
        return self

    @property
    def condition_text(self) -> str:
        """Return the condition, whichever it is."""
        return self.until or self.while_ or ""

    def inner(self) -> PlanNode:
        """Return the node that runs per round; its id is replaced by the round's."""
        return PlanNode.model_validate({"node_id": "item", **self.node})


def _read(node: PlanNode, own: Any) -> list[str]:
    """Return the nodes it reads besides itself: they have ended before it starts."""
    found = [own.initial.node_id] if own.initial is not None and own.initial.node_id else []
    try:
        return [*found, *sorted(compile_cel(own.condition_text).names - {node.node_id})]
    except ExpressionRefused:
        return found  # the check of expressions says so, with the column


class LoopKind:
    """Begins the rounds; the machine runs them and completes the loop."""

    spec = KindSpec(
        name="loop",
        fields=LoopFields,
        summary="Runs a node again and again until a condition holds, a bounded number of times.",
        references=_read,
        inner=lambda own: own.inner(),
        expressions=lambda own: [("/until" if own.until is not None else "/while", "cel", own.condition_text)],
        waits=True,
        fed="initial",
        lists=lambda own: bool(own.collect),
    )
    pure = True

    async def run(self, work: Work) -> Outcome:
        """Return what the first round gets."""
        return Iterate(work.bundle.inputs.get("initial"))


LOOP = LoopKind()
