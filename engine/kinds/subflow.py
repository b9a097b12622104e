"""``subflow``: a plan of its own that runs as a child run (F6; design §4, children)."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from contracts.outcome import Outcome, Spawn
from contracts.plan import KindSpec
from contracts.wire import Wire
from engine.kinds.base import Work


class SubflowFields(Wire):
    """``plan`` is what the child run walks; ``objective`` says what for, else it has its parent's.

    The node's inputs are the child's ``inputs``, its contract the child's, its ``timeout_seconds`` the child's time.
    """

    plan: dict[str, Any] | None = None
    objective: Annotated[str, Field(min_length=1, max_length=20_000)] | None = None
    flow_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    version: Annotated[int, Field(ge=1)] | None = None

    @field_validator("flow_id")
    @classmethod
    def _stored(cls, value: str | None) -> str | None:
        if value is not None:
            raise PydanticCustomError("unsupported", "Stored flows are named where a run is submitted; give the plan.")
        return value

    @model_validator(mode="after")
    def _one(self) -> SubflowFields:
        if self.plan is None:
            raise PydanticCustomError("plan_missing", "A subflow needs a plan.")
        return self


class SubflowKind:
    """Asks for its child run; the child's output is its own."""

    spec = KindSpec(
        name="subflow",
        fields=SubflowFields,
        summary="Runs a plan of its own as a child run, in any process.",
        waits=True,
        subplan=lambda own: own.plan,
    )
    pure = True

    async def run(self, work: Work) -> Outcome:
        """Return what the node decides of its child's envelope; the rest is inherited."""
        contract = work.bundle.contract
        return Spawn(
            {
                "objective": work.own.objective or work.bundle.objective,
                "inputs": dict(work.bundle.inputs),
                "output_contract": {"mode": "json_schema", "schema": True if contract == {} else contract},
                "workflow": {"plan": work.own.plan},
            }
        )


SUBFLOW = SubflowKind()
