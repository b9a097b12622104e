"""The search planner's main line: goals, facets, plans, the best of them, refusals (R1 to R9)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

from contracts.capability import CapabilitySpec
from contracts.plan import Finding
from contracts.ports import Planned, Unplannable
from planner.compose import draft_plan
from planner.draft import Scene
from planner.fit import fit
from planner.goals import Count, Want, choose_facets, counts, reads_marked, relevance, wants
from planner.makers import Workshop, open_workshop, with_people
from planner.rank import Rank, Scores, best, rank
from planner.refusal import dead_end, refusals
from planner.sealing import sealed
from planner.search import Budget, Candidate, Search
from planner.structuring import with_reads
from planner.validate.capability import unknown_selection
from planner.writers import Build

_READERS: Final = 200
"""How many plans with a structuring node get what it reads worked out."""


@dataclass(slots=True)
class Problem:
    """One planning question, worked out as far as the facets."""

    scene: Scene
    shop: Workshop
    goals: list[Want]
    optional: list[Want]
    counts: dict[str, Count] = field(default_factory=dict)
    reads: list[str] = field(default_factory=list)
    findings: list[Finding] = field(default_factory=list)


def search_plan(scene: Scene) -> Planned | Unplannable:
    """Return the best plan for the envelope, or why there is none."""
    problem = pose(scene)
    if any(finding.severity == "error" for finding in problem.findings):
        return Unplannable(tuple(problem.findings))
    if problem.goals and all(goal.source is not None for goal in problem.goals):
        return Unplannable((_nothing_to_do(),))
    budget = Budget(scene.limits.max_states)
    found = _candidates(problem, problem.shop, budget)
    if not found and problem.shop.people is not None:
        problem.shop = with_people(problem.shop)
        found = _candidates(problem, problem.shop, budget)
    if not found:
        refused = refusals(problem.shop, problem.goals, problem.reads)
        return Unplannable((*problem.findings, *(refused or [dead_end(problem.shop, budget.spent)])))
    if budget.spent:
        problem.findings.append(_truncated(scene))
    return _first_sound(problem, found)


def pose(scene: Scene) -> Problem:
    """Return the question worked out as far as the facets: goals, counts, and what is wrong with the envelope."""
    goals, optional = wants(scene)
    shop = open_workshop(scene)
    problem = Problem(scene, shop, goals, optional, findings=list(unknown_selection(scene)))
    if len(goals) > scene.limits.max_goals:
        message = f"The contract has {len(goals):,} required parts; this service plans for {scene.limits.max_goals:,}."
        problem.findings.append(Finding(layer="resource", code="too_many_goals", message=message))
        return problem
    produced, derivable = shop.produced, shop.derivable
    for goal in goals:
        choose_facets(scene, goal, produced, derivable)
    for goal in optional[: scene.limits.max_goals]:
        choose_facets(scene, goal, produced, derivable, by_shape=False)
    problem.counts, faults = counts(scene, goals)
    problem.findings += faults
    problem.reads = reads_marked(scene, [goal for goal in goals if not goal.served])
    return problem


def _structurers(problem: Problem, shop: Workshop) -> list[CapabilitySpec | None]:
    """Return who may be the structuring node; None stands for a plan without one."""
    preferred = problem.scene.envelope.policies.planner.selection.prefer
    wished: list[CapabilitySpec | None] = [spec for spec in shop.generics if spec.capability_id in preferred]
    if any(goal.ambiguous for goal in problem.goals):
        return wished
    if all(goal.served for goal in problem.goals):
        return [None, *wished]
    return list(shop.generics) or ([shop.people] if shop.people is not None else [])


def _candidates(problem: Problem, shop: Workshop, budget: Budget) -> list[Candidate]:
    """Return the permitted plans, best first."""
    selection = problem.scene.envelope.policies.planner.selection
    search = Search(shop, budget, _leanings(shop))
    required = frozenset(selection.require)
    found: list[Candidate] = []
    for structurer in _structurers(problem, shop):
        reads = problem.reads if structurer is not None else []
        found += search.plans(problem.goals, structurer, reads)
    scores = dict(_scores(problem))
    ranked = [(rank(one, problem.goals, shop, scores), one) for one in found]
    if any(one.structure is not None and not one.reads for one in found):
        ranked = _with_reads(problem, shop, ranked, scores)
    return best([pair for pair in ranked if required <= pair[1].used], selection.prefer)


def _with_reads(
    problem: Problem, shop: Workshop, ranked: list[tuple[Rank, Candidate]], scores: Scores
) -> list[tuple[Rank, Candidate]]:
    near = [one for _, one in sorted(ranked, key=lambda pair: pair[0])[:_READERS]]
    read = [with_reads(one, problem.goals, shop) for one in near]
    return [(rank(one, problem.goals, shop, scores), one) for one in read]


def _scores(problem: Problem) -> Iterator[tuple[tuple[str, str], tuple[bool, float]]]:
    """Yield how each alternative fits its goal (a counted list as long as it will be), and its relevance."""
    for goal in problem.goals:
        count = problem.counts.get(goal.pointer)
        for facet in goal.how:
            schema = problem.scene.index.schema(facet)
            if count is not None and count.explicit and isinstance(schema, dict):
                schema = {**schema, "minItems": count.number, "maxItems": count.number}
            may = fit(schema, goal.schema, problem.scene.answer).verdict == "may"
            yield (goal.pointer, facet), (may, relevance(problem.scene, facet, [goal]))


def _leanings(shop: Workshop) -> dict[str, tuple[float, ...]]:
    """Return the order in which producers are tried, so that a search that is cut short has seen the likely ones."""
    selection = shop.scene.envelope.policies.planner.selection
    return {
        spec.capability_id: (
            float(spec.capability_id in selection.avoid) - float(spec.capability_id in selection.prefer),
            spec.cost,
            float(spec.latency_ms),
        )
        for spec in shop.permitted
    }


def _first_sound(problem: Problem, found: Sequence[Candidate]) -> Planned | Unplannable:
    """Return the best plan that holds against the envelope's limits; the best one's findings if none does."""
    refusal: Unplannable | None = None
    for place, candidate in enumerate(found):
        runner_up = next((one for one in found[place + 1 :] if one.used != candidate.used), None)
        build = Build(problem.shop, candidate, problem.goals, problem.counts, runner_up)
        draft = draft_plan(build, problem.optional)
        draft.derived = [*problem.findings, *draft.derived]
        answer = sealed(draft, "search")
        if isinstance(answer, Planned):
            return answer
        refusal = refusal or answer
    return refusal or Unplannable(tuple(problem.findings))


def _nothing_to_do() -> Finding:
    message = "Every part of the answer is an input already; there is nothing to run."
    return Finding(
        layer="capability", code="nothing_to_do", message=message, fix="Ask for something that has to be made."
    )


def _truncated(scene: Scene) -> Finding:
    message = f"The search was stopped after {scene.limits.max_states:,} states; a better plan may exist."
    return Finding(layer="resource", code="search_truncated", severity="warning", message=message)
