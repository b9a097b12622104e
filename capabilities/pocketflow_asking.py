"""People asked from inside a PocketFlow flow: it ends with an ``Ask`` and goes on at the next node (H2, R2).

What ran before the question does not run again: ``shared`` is kept as JSON, with the place where the flow ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final

import orjson

from contracts.capability import Ask, CapabilityError

PLACE: Final = "flex_place"
"""The attribute by which a copied node knows which of its graph's nodes it is."""
ANSWER: Final = "answer"
_OURS: Final = frozenset({"bundle", "last_action"})


class Course:
    """The way through a flow: an action that leads nowhere ends it quietly, and where it ended is known.

    ``nodes`` are the graph's, by place.
    """

    def __init__(self) -> None:
        self.ended: int | None = None
        self.nodes: list[Any] = []

    def next(self, current: Any, action: str | None) -> Any:
        """Return the successor for an action, or None: the flow ends (PocketFlow's ``get_next_node``)."""
        following = current.successors.get(action or "default")
        if following is None:
            self.ended = getattr(current, PLACE, None)
        return following


def park(asked: Ask, shared: Mapping[str, Any], result: str, place: int | None, node: str) -> Ask:
    """Return the question with what is needed to go on at ``place``, where a ``node`` of that class stands.

    Raises :class:`CapabilityError` ``state_not_json`` (not retryable) for a value that no database keeps.
    """
    kept = {str(name): value for name, value in shared.items() if name not in _OURS and name != result}
    for name, value in kept.items():
        try:
            orjson.dumps(value)
        except TypeError as error:
            message = f"A flow that asks keeps only JSON; shared[{name!r}] is {type(value).__name__}."
            raise CapabilityError("state_not_json", message, retryable=False) from error
    return replace(asked, state={"shared": kept, "place": place, "node": node, "state": asked.state})


def following(node: Any, answer: Any) -> Any:
    """Return the node that an answer leads to from ``node``, or None.

    The action is the answer if it is a text, an object's ``action``, else ``default``.
    """
    if isinstance(answer, Mapping):
        answer = answer.get("action")
    ways = node.successors
    return (ways.get(answer) if isinstance(answer, str) else None) or ways.get("default")
