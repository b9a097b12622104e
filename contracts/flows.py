"""Flows: plans that people wrote, with what they take and what they give (W2).

A document is JSON. Keys that flex does not know stay as they are: whoever wrote them reads them again.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import ConfigDict, Field

from contracts.flow_capability import FlowCapability
from contracts.wire import Wire, pointer_of

MAX_CHANGES: Final = 500
"""Changes that a diff lists; it says how many there are."""

Name = Annotated[str, Field(min_length=1, max_length=200)]
FlowId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")]

DocumentId = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")]


class FlowSettings(Wire):
    """What holds for every run of a flow. Seconds."""

    model_config = ConfigDict(extra="allow")

    deadline_seconds: Annotated[float, Field(gt=0, le=30 * 86_400)] | None = None
    """how long a run may go without progress, waiting excluded (T4); None: five minutes"""
    documents: Annotated[list[DocumentId], Field(max_length=100)] = Field(default_factory=list)
    """documents of its story that every run needs (R1)"""
    on_missing_doc: Literal["wait", "skip", "error"] | None = None
    """what happens without them, where the caller does not say"""


class FlowDocument(Wire):
    """A flow as it is stored. ``inputs`` is the JSON Schema of what a run is given, ``plan`` what it walks.

    ``output_contract`` is the contract of a run whose caller brings none; ``policies`` are every run's. With a
    ``capability`` the planner finds the flow by itself.
    """

    model_config = ConfigDict(extra="allow")

    name: Name
    description: Annotated[str, Field(max_length=4_000)] = ""
    objective: Annotated[str, Field(min_length=1, max_length=20_000)] | None = None
    inputs: dict[str, Any] | bool = True
    output_contract: Any = None
    plan: dict[str, Any]
    policies: dict[str, Any] = Field(default_factory=dict)
    settings: FlowSettings = Field(default_factory=FlowSettings)
    capability: FlowCapability | None = None


def changes(before: Any, after: Any) -> list[dict[str, Any]]:
    """Return how two documents differ: ``{"op": added|removed|changed, "pointer", "before"?, "after"?}``, by pointer.

    Nodes are told apart by their ``node_id`` and edges by both ends and the condition, so moving one in its list is no
    change; everything else goes by its place.
    """
    return list(_changes(_keyed(before), _keyed(after), ()))[:MAX_CHANGES]


def _keyed(document: Any) -> Any:
    """Return a document whose nodes and edges are objects by name."""
    plan = document.get("plan") if isinstance(document, Mapping) else None
    if not isinstance(plan, Mapping):
        return document
    named = dict(plan)
    for part, name in (("nodes", _node_name), ("edges", _edge_name)):
        if isinstance(plan.get(part), list):
            named[part] = {name(item, place): item for place, item in enumerate(plan[part])}
    return {**document, "plan": named}


def _node_name(node: Any, place: int) -> str:
    name = node.get("node_id") if isinstance(node, Mapping) else None
    return name if isinstance(name, str) else str(place)


def _edge_name(edge: Any, place: int) -> str:
    if not isinstance(edge, Mapping):
        return str(place)
    condition = edge.get("condition")
    return f"{edge.get('from')} → {edge.get('to')}" + ("" if condition is None else f" if {condition}")


def _changes(before: Any, after: Any, path: tuple[str | int, ...]) -> Iterator[dict[str, Any]]:
    if isinstance(before, Mapping) and isinstance(after, Mapping):
        for key in sorted({*before, *after}, key=str):
            if key not in after:
                yield {"op": "removed", "pointer": pointer_of([*path, key]), "before": before[key]}
            elif key not in before:
                yield {"op": "added", "pointer": pointer_of([*path, key]), "after": after[key]}
            else:
                yield from _changes(before[key], after[key], (*path, key))
    elif before != after or type(before) is not type(after):
        yield {"op": "changed", "pointer": pointer_of(path), "before": before, "after": after}
