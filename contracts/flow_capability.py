"""A stored flow as a capability: what its document declares, and what a planner is told of it (W2).

The facets of a declaration may be the service's. One that nobody declares is declared by the flow: its schema is the
document's own, of the input or of the output contract.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final, Protocol

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from contracts.wire import Wire

FLOW_PREFIX: Final = "flow."
"""The capability of a stored flow is ``flow.<flow_id>``."""
FacetName = Annotated[str, Field(min_length=1, max_length=100, pattern=r"^[A-Za-z][A-Za-z0-9_.-]*$")]


class Consumed(Wire):
    """The facet that an input of a flow takes, and whether the flow is impossible without it."""

    facet: FacetName
    required: bool = True


class FlowCapability(Wire):
    """What a flow takes and gives, for a planner; what is left out of the figures is estimated from its plan.

    ``consumes`` is input → facet (or ``{"facet", "required"}``). With one facet in ``produces`` the flow's output is
    that facet's value, with several an object of them by name. ``cost`` is money per run, ``latency_ms`` milliseconds,
    ``quality`` 0..1.
    """

    consumes: Annotated[dict[str, Consumed], Field(max_length=50)] = Field(default_factory=dict)
    produces: Annotated[list[FacetName], Field(min_length=1, max_length=20)]
    description: Annotated[str, Field(max_length=2_000)] = ""
    cost: Annotated[float, Field(ge=0)] | None = None
    tokens: Annotated[int, Field(ge=0)] | None = None
    latency_ms: Annotated[int, Field(ge=0)] | None = None
    quality: Annotated[float, Field(ge=0, le=1)] = 0.5

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        """Take ``"produces": "facet"`` and ``"consumes": {"input": "facet"}`` for what they mean."""
        if not isinstance(data, dict):
            return data
        produces, consumes = data.get("produces"), data.get("consumes")
        longer: dict[str, Any] = {}
        if isinstance(produces, str):
            longer["produces"] = [produces]
        if isinstance(consumes, dict):
            longer["consumes"] = {
                name: {"facet": taken} if isinstance(taken, str) else taken for name, taken in consumes.items()
            }
        return {**data, **longer}

    @field_validator("produces")
    @classmethod
    def _once(cls, value: list[str]) -> list[str]:
        if len(set(value)) < len(value):
            raise PydanticCustomError("duplicate_facet", "A facet is named twice.")
        return value


@dataclass(frozen=True, slots=True)
class FlowOffer:
    """The newest published version of a flow that declares itself a capability.

    ``document`` is that version with the plans of the flows it runs in it. ``broken`` says why it cannot be used.
    """

    flow_id: str
    version: int
    document: Mapping[str, Any]
    broken: str | None = None

    @property
    def capability_id(self) -> str:
        """Return the name that plans use."""
        return f"{FLOW_PREFIX}{self.flow_id}"


class FlowShelf(Protocol):
    """What each tenant's flows offer, at hand: reading it waits for nothing."""

    def of(self, tenant: str) -> Sequence[FlowOffer]:
        """Return the tenant's offers by id; the same object until they change."""


class NoOffers:
    """Nobody has any flow."""

    def of(self, tenant: str) -> Sequence[FlowOffer]:
        """Return nothing."""
        return ()
