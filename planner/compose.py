"""From a chosen plan to a draft: nodes, edges, the output map and the goals (F4; wire §3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from contracts.plan import Edge, Finding, Goal, OutputBinding, OutputMap, PlanGraph
from contracts.wire import pointer_of
from planner.checking import check_plan
from planner.draft import Draft, Scene, inner_of, unit_of
from planner.fit import Fit, fit
from planner.goals import Want
from planner.makers import Maker
from planner.search import GENERIC, INPUT, ordered, wired
from planner.subplans import with_subplans
from planner.writers import WRITERS, Build, chosen_as, inner_bindings, made_by, promise


def draft_plan(build: Build, optional: Sequence[Want]) -> Draft:
    """Return the draft of the chosen plan."""
    build.rows = wired(build.candidate, build.shop)
    for maker in ordered(build.candidate, build.shop, build.rows):
        WRITERS[maker.form](build, maker)
    places: dict[str, OutputBinding] = {}
    goals: list[Goal] = []
    for goal, choice in zip(build.goals, build.candidate.choices, strict=True):
        _serve(build, goal, choice, places, goals)
    for goal in optional:
        _serve_optional(build, goal, places, goals)
    inside = _complete(build, places)
    units = [unit_of(build.scene, node, f"/nodes/{place}", place) for place, node in enumerate(build.nodes.values())]
    draft = Draft(build.scene, "", units, OutputMap(map=places), list(_edges(build)), goals=goals)
    for unit in units:
        inner = inner_of(build.scene, unit)
        if inner is not None:
            draft.inner[unit.place] = inner
    draft.derived = [*_mismatches(build), *inside]
    return draft


def _complete(build: Build, places: dict[str, OutputBinding]) -> list[Finding]:
    """Complete the plans of the stored flows that are used; return what was found in them."""
    if not build.scene.index.flows:
        return []
    plan = PlanGraph.model_construct(nodes=list(build.nodes.values()), output=OutputMap.model_construct(map=places))
    whole, found = with_subplans(plan, build.scene, "", check_plan)
    build.nodes.update({node.node_id: node for node in whole.nodes})
    return found


def _serve(build: Build, goal: Want, choice: str, places: dict[str, OutputBinding], goals: list[Goal]) -> None:
    """Put one goal into the output map."""
    if choice == INPUT and goal.source is not None:
        places[goal.pointer] = OutputBinding(from_=goal.source.pointer)
        goals.append(Goal(pointer=goal.pointer, verdict="fits"))
    elif choice == GENERIC and build.candidate.structure is not None:
        alone = len(chosen_as(build, GENERIC)) == 1
        node_id = build.written[build.candidate.structure.name]
        places[goal.pointer] = OutputBinding(node_id=node_id, pointer="" if alone else pointer_of([goal.name]))
        goals.append(Goal(pointer=goal.pointer, verdict="fits"))
    else:
        maker = build.candidate.by[build.shop.top(choice)]
        _place(build, goal, choice, maker, places, goals)


def _place(
    build: Build, goal: Want, facet: str, maker: Maker, places: dict[str, OutputBinding], goals: list[Goal]
) -> None:
    found: Fit = fit(promise(build, maker, facet), goal.schema, build.scene.answer)
    verdict = "may" if found.verdict == "clash" else found.verdict
    bound = made_by(build, build.shop.top(facet), maker)
    place: dict[str, Any] = {"node_id": bound.node_id, "pointer": bound.pointer}
    places[goal.pointer] = OutputBinding.model_validate(
        place | ({"adapt": list(found.adapters)} if found.adapters else {})
    )
    goals.append(Goal(pointer=goal.pointer, facet=facet, verdict=verdict, unproved=list(found.unproved)))


def _serve_optional(build: Build, goal: Want, places: dict[str, OutputBinding], goals: list[Goal]) -> None:
    """Fill an optional part of the answer if its facet is at hand (R1)."""
    gives = {key: maker for maker in build.candidate.makers for key in maker.gives} | dict(build.candidate.by)
    for facet in goal.how:
        maker = gives.get(build.shop.top(facet))
        if maker is not None:
            _place(build, goal, facet, maker, places, goals)
            return
    sources = [build.scene.available.facets.get(facet) for facet in goal.how]
    source = goal.source or next((found for found in sources if found is not None), None)
    if source is not None:
        places[goal.pointer] = OutputBinding(from_=source.pointer)
        goals.append(
            Goal(
                pointer=goal.pointer, facet=next(iter(goal.how), None), verdict="may" if goal.source is None else "fits"
            )
        )


def _edges(build: Build) -> list[Edge]:
    """Return an edge per node that another one reads, in the order of the nodes."""
    found: dict[tuple[str, str], None] = {}
    for node in build.nodes.values():
        read = [bound.node_id for bound in node.inputs.values()]
        read += [bound.get("node_id") for bound in inner_bindings(node)]
        found |= dict.fromkeys((name, node.node_id) for name in read if name is not None)
    return [Edge(from_=start, to=end) for start, end in found]


def _mismatches(build: Build) -> list[Finding]:
    """Warn of inputs that name a facet this plan reads and do not fit it (R3)."""
    wanted = {key[0] for maker in build.candidate.makers for key in (*maker.wanted, *(key for _, key in maker.takes))}
    return [mismatch(build.scene, facet, "warning") for facet in build.scene.available.mismatched if facet in wanted]


def mismatch(scene: Scene, facet: str, severity: Any = "error") -> Finding:
    """Return the finding about an input whose value does not fit the facet it names."""
    source = scene.available.mismatched[facet]
    problems = scene.index.compiled(facet).explain(source.value, 1)
    said = f": {problems[0].message}" if problems else "."
    return Finding(
        layer="capability",
        code="input_mismatch",
        severity=severity,
        message=f"{source.pointer} is called like the facet {facet!r} and does not fit it{said}",
        pointer=source.pointer + (problems[0].pointer if problems else ""),
        fix=f"Give a value that fits {facet!r}, or call it something else.",
    )
