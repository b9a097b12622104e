"""What the built-in capabilities are given by whoever puts the service together."""

from __future__ import annotations

from dataclasses import dataclass, field

from capabilities.egress import EgressPolicy
from contracts.ports import DocumentSearch, Model


@dataclass(frozen=True, slots=True)
class World:
    """What capabilities may use.

    The model, if one is configured, what a thousand tokens of it cost (in, out), where requests may go, and where the
    documents of stories are searched.
    """

    model: Model | None = None
    model_price_in: float = 0.0
    model_price_out: float = 0.0
    egress: EgressPolicy = field(default_factory=EgressPolicy)
    documents: DocumentSearch | None = None

    def model_cost(self, tokens_in: int, tokens_out: int) -> float:
        """Return what a model call of that size costs, in the operator's currency."""
        return (tokens_in * self.model_price_in + tokens_out * self.model_price_out) / 1_000
