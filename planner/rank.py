"""Which plan is best: the order of R4, most important first."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from planner.goals import Want
from planner.makers import Workshop
from planner.search import GENERIC, INPUT, Candidate, Rows, ordered, wired

Rank = tuple[Any, ...]
Scores = Mapping[tuple[str, str], tuple[bool, float]]
"""(goal's pointer, facet) → whether the fit is only a ``may``, and the facet's relevance."""
_KEPT: Final = 20
"""How many plans are held against the envelope's limits before the best one is refused."""


def rank(candidate: Candidate, goals: Sequence[Want], shop: Workshop, scores: Scores) -> Rank:
    """Return the key by which the smallest plan is the best one."""
    selection = shop.scene.envelope.policies.planner.selection
    used, rows = candidate.used, wired(candidate, shop)
    served = [
        (goal, choice) for goal, choice in zip(goals, candidate.choices, strict=True) if choice not in (GENERIC, INPUT)
    ]
    return (
        sum(maker.form == "people" or maker.spec is shop.people for maker in candidate.makers),
        sum(name not in used for name in selection.prefer) + sum(name in used for name in selection.avoid),
        sum(choice == GENERIC for choice in candidate.choices),
        sum(scores[goal.pointer, choice][0] for goal, choice in served),
        -round(sum(scores[goal.pointer, choice][1] for goal, choice in served), 9),
        _unused(candidate, shop, goals, rows),
        *worth(candidate, shop, rows),
        candidate.choices,
        tuple((key, maker.name) for key, maker in sorted(candidate.by.items())),
    )


def _unused(candidate: Candidate, shop: Workshop, goals: Sequence[Want], rows: Rows) -> int:
    """Count the inputs that nothing reads; a structuring node reads every one."""
    if candidate.structure is not None:
        return 0
    read = {
        shop.scene.available.facets[key[0]].pointer
        for given in rows.values()
        for _, key, maker in given
        if maker is None
    }
    for maker in candidate.makers:
        if maker.over is not None and shop.available(maker.over):
            read.add(shop.scene.available.facets[maker.over[0]].pointer)
    for goal, choice in zip(goals, candidate.choices, strict=True):
        if choice == INPUT and goal.source is not None:
            read.add(goal.source.pointer)
    return sum(source.pointer not in read for source in shop.scene.available.given)


def worth(candidate: Candidate, shop: Workshop, rows: Rows) -> Rank:
    """Return the plan's worth by the envelope's objective, then its size, then its ids."""
    makers = candidate.makers
    cost = round(sum(maker.spec.cost for maker in makers), 9)
    speed = critical(candidate, shop, rows)
    quality = -min((maker.spec.quality for maker in makers), default=0.0)
    order: dict[str, Rank] = {
        "cost": (cost, speed, quality),
        "speed": (speed, cost),
        "quality": (quality, cost),
    }
    chosen = order[shop.scene.envelope.policies.planner.optimisation.objective]
    return (*chosen, len(makers), tuple(sorted(maker.name for maker in makers)))


def critical(candidate: Candidate, shop: Workshop, rows: Rows) -> int:
    """Return the milliseconds along the longest path."""
    until: dict[str, int] = {}
    for maker in ordered(candidate, shop, rows):
        before = [below.name for _, _, below in rows[maker.name] if below is not None]
        if maker.over is not None and not shop.available(maker.over):
            before.append(candidate.by[maker.over].name)
        until[maker.name] = maker.spec.latency_ms + max((until[name] for name in before), default=0)
    return max(until.values(), default=0)


def best(ranked: Sequence[tuple[Rank, Candidate]], prefer: Sequence[str]) -> list[Candidate]:
    """Return the plans in order, without those that only add to another plan (R4)."""
    ordered = [candidate for _, candidate in sorted(ranked, key=lambda pair: pair[0])]
    wished = frozenset(prefer)
    smaller = sorted({candidate.used for candidate in ordered}, key=len)

    def adds_nothing(candidate: Candidate) -> bool:
        used = candidate.used
        return any(other < used and not (used - other) & wished for other in smaller)

    kept: list[Candidate] = []
    for candidate in ordered:
        if not adds_nothing(candidate):
            kept.append(candidate)
        if len(kept) == _KEPT:
            break
    return kept
