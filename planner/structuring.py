"""What the structuring node reads: the most relevant facets that nothing else consumes (R7)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Final

from planner.goals import Want, relevance
from planner.makers import Key, Workshop, reach
from planner.rank import worth
from planner.search import GENERIC, Budget, Candidate, Search, structure_maker, wired
from planner.sources import OBJECTIVE

MOST_READ: Final = 3
_WAYS: Final = 200


def with_reads(candidate: Candidate, goals: Sequence[Want], shop: Workshop) -> Candidate:
    """Return the candidate with the facets its structuring node reads, and what makes them."""
    if candidate.structure is None or candidate.reads:
        return candidate
    spec = candidate.structure.spec
    asked = [goal for goal, choice in zip(goals, candidate.choices, strict=True) if choice == GENERIC]
    quiet = _without_objective(shop)
    ranked = sorted((-relevance(shop.scene, facet, asked), facet) for facet in quiet.derivable)
    picks: list[Key] = []
    for score, facet in ranked:
        key = shop.top(facet)
        if score >= 0 or len(picks) == MOST_READ:
            break
        if key in _consumed(candidate, shop):
            continue
        grown = _grown(candidate, key, quiet)
        if grown is not None:
            candidate = grown
            picks = [pick for pick in [*picks, key] if pick not in _consumed(candidate, shop)]
    structure = structure_maker(shop, spec, [facet for facet, _ in picks])
    return _pruned(replace(candidate, structure=structure, reads=tuple(picks)), shop)


def _without_objective(shop: Workshop) -> Workshop:
    """Return the workshop as if the objective were no input."""

    def available(key: Key) -> bool:
        return shop.available(key) and shop.scene.available.facets[key[0]].pointer != OBJECTIVE

    return replace(shop, reachable=reach(shop, available))


def _consumed(candidate: Candidate, shop: Workshop) -> set[Key]:
    """Return the keys that a chosen capability consumes (the structuring node itself is not one)."""
    found: set[Key] = set()
    for maker in candidate.makers:
        if maker.form != "structure":
            found.update(maker.wanted)
    for name, rows in wired(candidate, shop).items():
        if candidate.structure is None or name != candidate.structure.name:
            found.update(key for _, key, _ in rows)
    return found


def _grown(candidate: Candidate, key: Key, shop: Workshop) -> Candidate | None:
    """Return the candidate with the best way to make one more facet; None when there is none."""
    gives = {given for maker in candidate.makers for given in maker.gives}
    if key in candidate.by:
        return candidate
    if key in gives:
        maker = next(maker for maker in candidate.makers if key in maker.gives)
        return replace(candidate, by={**candidate.by, key: maker})
    ways = Search(shop, Budget(_WAYS)).ways(key, candidate.by)
    grown = [replace(candidate, by=by) for by in ways]
    return min(grown, key=lambda one: worth(one, shop, wired(one, shop)), default=None)


def _pruned(candidate: Candidate, shop: Workshop) -> Candidate:
    """Drop makers that no goal and no read facet needs any more (a dropped pick's own)."""
    needed: dict[Key, None] = dict.fromkeys(
        shop.top(choice) for choice in candidate.choices if choice in shop.scene.index.facets
    )
    if candidate.structure is not None:
        needed |= dict.fromkeys(candidate.structure.wanted)
    queue = list(needed)
    for key in queue:
        for below in candidate.by[key].wanted if key in candidate.by else ():
            if below not in needed:
                needed[below] = None
                queue.append(below)
    return replace(candidate, by={key: maker for key, maker in candidate.by.items() if key in needed})
