"""``map``: one inner node per item of a list; items are nodes ``name[0]``, ``name[1]`` and so on."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from contracts.outcome import Expand, Fail, Outcome
from contracts.plan import Binding, KindSpec, PlanNode
from contracts.wire import Wire
from engine.kinds.base import Work

MAX_ITEMS = 10_000


class MapFields(Wire):
    """``over`` is the list, ``node`` what runs per item, ``as`` the parameter that gets the item."""

    over: Binding
    node: dict[str, Any]
    as_: Annotated[str, Field(min_length=1, max_length=100)] = "item"
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8

    def inner(self) -> PlanNode:
        """Return the node that runs per item; its id is replaced by the item's."""
        return PlanNode.model_validate({"node_id": "item", **self.node})


class MapKind:
    """Unfolds into items; the machine runs them and completes the map with the list of their outputs, in order."""

    spec = KindSpec(
        name="map",
        fields=MapFields,
        summary="Runs a node for every item of a list, several at a time.",
        references=lambda _node, own: [own.over.node_id] if own.over.node_id else [],
        inner=lambda own: own.inner(),
        fed="over",
    )
    pure = True

    async def run(self, work: Work) -> Outcome:
        """Return the items; anything but a list is a failure for good."""
        if "over" not in work.bundle.inputs:
            return Fail("input_missing", "The list that it maps over is not there: what should have made it did not.")
        items = work.bundle.inputs["over"]
        if not isinstance(items, list):
            return Fail("not_a_list", f"A map needs a list; it was given {type(items).__name__}.")
        if len(items) > MAX_ITEMS:
            return Fail("too_many_items", f"A map takes {MAX_ITEMS:,} items; it was given {len(items):,}.")
        return Expand(items)


MAP = MapKind()
