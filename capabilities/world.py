"""What the built-in capabilities are given by whoever puts the service together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from capabilities.egress import EgressPolicy
from contracts.ports import DocumentSearch, Model


@dataclass(frozen=True, slots=True)
class World:
    """What capabilities may use.

    The model, if one is configured, what a thousand tokens of it cost (in, out), the same of models by name, where
    requests may go, and where the documents of stories are searched.
    """

    model: Model | None = None
    model_price_in: float = 0.0
    model_price_out: float = 0.0
    model_prices: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    egress: EgressPolicy = field(default_factory=EgressPolicy)
    documents: DocumentSearch | None = None

    def model_cost(self, tokens_in: int, tokens_out: int, model: str | None = None) -> float:
        """Return what a call of that size costs, in the operator's currency; ``model`` is the configured one's name."""
        name = model or (None if self.model is None else self.model.name)
        per_in, per_out = self.model_prices.get(name or "", (self.model_price_in, self.model_price_out))
        return (tokens_in * per_in + tokens_out * per_out) / 1_000

    def may_ask(self, model: str) -> bool:
        """Say whether a model may be named: the configured one, or one that has a price of its own."""
        return self.model is None or model == self.model.name or model in self.model_prices
