"""The search's rules once more, naively: every assignment of a producer to every facet, nothing clever."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from contracts.capability import CapabilitySpec


@dataclass(frozen=True)
class Question:
    """Goals as (facets it could be, is each only a ``may``); facets at hand; the selection."""

    goals: tuple[tuple[tuple[str, bool], ...], ...]
    inputs: tuple[str, ...]
    capabilities: tuple[CapabilitySpec, ...]
    require: frozenset[str] = frozenset()
    forbid: frozenset[str] = frozenset()
    prefer: frozenset[str] = frozenset()
    avoid: frozenset[str] = frozenset()
    said: frozenset[str] = frozenset()
    """facets whose only word the objective says"""


Answer = tuple[tuple[str, ...], frozenset[str]]
"""The goals' facets and the capabilities used."""


def answer(question: Question) -> Answer | None:
    """Return the best plan, None when there is none."""
    plans = {plan for plan in _plans(question) if question.require <= plan[1]}
    kept = [plan for plan in plans if not any(_makes_needless(other, plan, question) for other in plans)]
    return min(kept, key=lambda plan: _rank(plan, question), default=None)


def _makes_needless(other: Answer, plan: Answer, question: Question) -> bool:
    return other[1] < plan[1] and not (plan[1] & question.prefer) - other[1]


def _plans(question: Question) -> Iterator[Answer]:
    permitted = [spec for spec in question.capabilities if spec.capability_id not in question.forbid]
    facets = sorted({facet for spec in permitted for facet in spec.produces})
    makers: list[Sequence[CapabilitySpec]] = [
        [spec for spec in permitted if facet in spec.produces] for facet in facets
    ]
    for chosen in product(*makers):
        by = dict(zip(facets, chosen, strict=True))
        for goals in product(*[[facet for facet, _ in goal] for goal in question.goals]):
            used: set[str] = set()
            if all(_works(goal, by, question, (), used) for goal in goals):
                yield goals, frozenset(used)


def _works(
    facet: str, by: dict[str, CapabilitySpec], question: Question, waiting: tuple[str, ...], used: set[str]
) -> bool:
    """Make the facet, and everything its maker needs; a maker that waits for itself cannot."""
    spec = by.get(facet)
    if spec is None or spec.capability_id in waiting:
        return False
    used.add(spec.capability_id)
    needs = [param.facet for param in spec.consumes.values() if param.required and param.facet not in question.inputs]
    return all(_works(need, by, question, (*waiting, spec.capability_id), used) for need in needs)


def _rank(plan: Answer, question: Question) -> tuple[float | tuple[str, ...], ...]:
    goals, used = plan
    specs = [spec for spec in question.capabilities if spec.capability_id in used]
    read = {param.facet for spec in specs for param in spec.consumes.values()}
    may = sum(dict(goal)[facet] for goal, facet in zip(question.goals, goals, strict=True))
    return (
        len(question.prefer - used) + len(question.avoid & used),
        may,
        -sum(facet in question.said for facet in goals),
        len(set(question.inputs) - read),
        sum(spec.cost for spec in specs),
        goals,
    )
