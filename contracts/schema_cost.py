"""What a schema may cost to check: loops are refused, expensive schemas are recognised (F3).

A chain ``a0 = allOf [a1, a1]``, ``a1 = allOf [a2, a2]`` … doubles the work per link, a tree that refers to itself twice
doubles it per level of the value, and nested ``unevaluatedProperties`` multiplies it too. Such schemas are legal and
sometimes sensible, so they are not refused: they are *metered* (``contracts/schema.py``).
"""

from __future__ import annotations

from contracts.errors import ErrorItem
from contracts.schema_refs import Node, Survey

METER_ABOVE = 100_000
"""Worst-case evaluations per path into the value above which a schema is metered."""

_LEVELS = 64
# Measured with jsonschema-rs 0.60: every nested unevaluated* multiplies the work by almost four.
_UNEVALUATED_FACTOR = 4
# A child of the value meets at most one of these siblings, but all of the other keywords.
_SIBLINGS = frozenset({"properties", "prefixItems"})


def find_loop(survey: Survey) -> tuple[list[Node], ErrorItem | None]:
    """Return the nodes, referred-to ones first, or a finding: a schema that applies itself to the same value."""
    order: list[Node] = []
    open_: set[Node] = set()
    done: set[Node] = set()
    for start in survey.nodes.values():
        stack = [(start, iter(start.same))] if start not in done else []
        open_.update(node for node, _ in stack)
        while stack:
            node, rest = stack[-1]
            child = next(rest, None)
            if child is None:
                stack.pop()
                open_.discard(node)
                done.add(node)
                order.append(node)
            elif child in open_:
                return [], ErrorItem(node.pointer, "ref_loop", "Refers to itself without looking into the value.")
            elif child not in done:
                open_.add(child)
                stack.append((child, iter(child.same)))
    return order, None


def is_expensive(order: list[Node]) -> bool:
    """Return whether checking may take more than ``METER_ABOVE`` evaluations along one path into a deep value.

    ``order`` is what ``find_loop`` gave. Bounded: 64 rounds over the edges, fewer when the costs stop growing.
    """
    costs: dict[Node, int] = dict.fromkeys(order, 0)
    for _ in range(_LEVELS):
        now: dict[Node, int] = {}
        for node in order:
            now[node] = _price(node, now, costs)
            if now[node] > METER_ABOVE:
                return True
        if now == costs:
            return False
        costs = now
    return False


def _price(node: Node, now: dict[Node, int], before: dict[Node, int]) -> int:
    """Return a node's price: itself, what it applies to the same value, and what it applies to one child."""
    own = 1 + sum(now[child] for child in node.same)
    siblings: dict[str, int] = {}
    for keyword, child in node.parts:
        if keyword in _SIBLINGS:
            siblings[keyword] = max(siblings.get(keyword, 0), before[child])
        else:
            own += before[child]
    own += max(siblings.values(), default=0)
    nested = "unevaluatedProperties" in node.schema or "unevaluatedItems" in node.schema
    return own * _UNEVALUATED_FACTOR if nested and node.same else own
