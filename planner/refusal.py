"""Why there is no plan: per goal the facets tried, why each producer is out, and a remedy (R9)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from contracts.capability import CapabilitySpec
from contracts.plan import Finding
from contracts.scopes import SCOPE_MISSING, sentence
from planner.compose import mismatch
from planner.draft import Scene
from planner.goals import Want
from planner.index import PEOPLE
from planner.makers import Workshop


def refusals(shop: Workshop, goals: Sequence[Want], reads: Sequence[str]) -> list[Finding]:
    """Return the findings for goals that nothing can serve, and for facets that the structurer was told to read."""
    found: list[Finding] = []
    for goal in goals:
        if goal.ambiguous:
            found.append(_ambiguous(goal))
        elif not goal.served:
            found += [_unserved(shop, goal)] if not shop.generics and shop.people is None else []
        elif goal.source is None:
            reachable = any(shop.top(facet) in shop.reachable for facet in goal.how)
            found += [] if reachable else list(_missing(shop, goal))
    for facet in reads:
        if not shop.available(shop.top(facet)) and shop.top(facet) not in shop.reachable:
            found += list(_lacks(shop, facet, ""))
    distinct = {(finding.code, finding.pointer, finding.message): finding for finding in found}
    return list(distinct.values())


def _ambiguous(goal: Want) -> Finding:
    names = ", ".join(goal.ambiguous)
    return Finding(
        layer="capability",
        code="ambiguous_shape",
        message=f"{goal.where()} has the shape of {names}, and nothing says which one is meant.",
        pointer=goal.pointer,
        fix="Put x-flex-facet with one of these names at its schema.",
    )


def _unserved(shop: Workshop, goal: Want) -> Finding:
    index = shop.scene.index
    tried = "; ".join(f"{facet} was tried and breaks {at or 'the schema'}" for facet, at in goal.clashes.items())
    generic = [
        spec for specs in index.versions.values() for spec in specs[:1] if spec.generic and PEOPLE not in spec.requires
    ]
    why = "; ".join(f"{spec.capability_id} is out: {_out(shop.scene, spec) or 'not permitted'}" for spec in generic)
    remedies = [index.catalogue.inactive_reasons[s.capability_id] for s in generic if s.capability_id in _reasons(shop)]
    return Finding(
        layer="capability",
        code="no_structurer",
        message=". ".join(
            text
            for text in (f"No capability yields {goal.where()}, and no active capability could write it", tried, why)
            if text
        )
        + ".",
        pointer=goal.pointer,
        fix="; ".join(remedies)
        or f"Name a facet with x-flex-facet, or give an input called {goal.name or 'like it'!r}.",
    )


def _reasons(shop: Workshop) -> set[str]:
    return set(shop.scene.index.catalogue.inactive_reasons) - shop.scene.index.catalogue.active


def _missing(shop: Workshop, goal: Want) -> Iterator[Finding]:
    for facet in goal.how:
        yield from _lacks(shop, facet, goal.pointer)


def _lacks(shop: Workshop, facet: str, pointer: str) -> Iterator[Finding]:
    """Yield one finding per facet that is missing at the bottom of what ``facet`` needs."""
    for leaf, chain in _leaves(shop, facet):
        if leaf in shop.scene.available.mismatched:
            yield mismatch(shop.scene, leaf)
        yield from _unscoped(shop, leaf, pointer)
        yield Finding(
            layer="capability",
            code="missing_facet",
            message=_sentence(shop, facet, leaf, chain),
            pointer=pointer,
            fix=_remedy(shop, leaf),
        )


def _unscoped(shop: Workshop, leaf: str, pointer: str) -> Iterator[Finding]:
    """Yield a finding per capability that would give a facet and that only a scope keeps out (W4)."""
    for name, spec in shop.scene.index.active.items() if shop.scene.index.scopes else ():
        lacks = shop.scene.lacking(spec)
        if leaf in spec.produces and lacks and name not in shop.scene.forbidden:
            message, fix = sentence(name, lacks), f"Have {', '.join(lacks)} granted to the caller."
            yield Finding(layer="security", code=SCOPE_MISSING, message=message, pointer=pointer, fix=fix)


def _leaves(shop: Workshop, facet: str) -> list[tuple[str, tuple[str, ...]]]:
    """Return (missing facet, the capabilities on the way to it), breadth first."""
    found: dict[str, tuple[str, ...]] = {}
    queue: list[tuple[str, tuple[str, ...]]] = [(facet, ())]
    seen = {facet}
    for name, chain in queue:
        makers = {
            maker.name: maker
            for stage in range(shop.tops.get(name, 0) + 1)
            for maker in shop.by_key.get((name, stage), [])
        }
        if not makers:
            found.setdefault(name, chain)
            continue
        for maker in makers.values():
            for below, stage in maker.wanted:
                if below not in seen and not shop.available((below, stage)) and (below, stage) not in shop.reachable:
                    seen.add(below)
                    queue.append((below, (*chain, maker.spec.capability_id)))
    return list(found.items()) or [(facet, ())]


def _sentence(shop: Workshop, facet: str, leaf: str, chain: tuple[str, ...]) -> str:
    start = f"Nothing gives {leaf}"
    if chain:
        start = f"{facet} needs {leaf} (by way of {', '.join(chain)}), and nothing gives {leaf}"
    outs = []
    for specs in shop.scene.index.versions.values():
        spec = specs[0]
        if leaf in spec.produces and not (spec.generic or PEOPLE in spec.requires):
            outs.append(f"{spec.capability_id} is out: {_out(shop.scene, spec) or _own_lack(shop, spec)}")
    return f"{start}: {'; '.join(outs)}." if outs else f"{start}: no input, no bundle and no capability does."


def _out(scene: Scene, spec: CapabilitySpec) -> str | None:
    """Return why a capability may not be used, None when it may."""
    if spec.capability_id in scene.forbidden:
        return "forbidden by the selection"
    if tools := sorted(scene.forbidden.intersection(spec.tools)):
        return f"its tool {tools[0]} is forbidden by the selection"
    if spec.capability_id not in scene.index.active:
        return scene.index.catalogue.inactive_reasons.get(spec.capability_id, "not active")
    if spec.kind in scene.envelope.policies.planner.topology.forbidden_kinds:
        return f"the kind {spec.kind} is forbidden"
    lacks = scene.lacking(spec)
    if lacks:
        return f"the scope {', '.join(lacks)} was not granted"
    return None


def _own_lack(shop: Workshop, spec: CapabilitySpec) -> str:
    lacks = [
        param.facet
        for param in spec.consumes.values()
        if param.required and not shop.available(shop.top(param.facet)) and shop.top(param.facet) not in shop.reachable
    ]
    return f"it lacks {', '.join(lacks)}" if lacks else "it would wait for itself"


def _remedy(shop: Workshop, leaf: str) -> str:
    index = shop.scene.index
    reasons = [
        index.catalogue.inactive_reasons[name]
        for name, specs in index.versions.items()
        if leaf in specs[0].produces and name in _reasons(shop)
    ]
    return "; ".join([f"Give an input or a bundle called {leaf!r}", *reasons]) + "."


def dead_end(shop: Workshop, spent: bool) -> Finding:
    """Return the finding for goals that could each be served, and not together."""
    required = shop.scene.envelope.policies.planner.selection.require
    if spent:
        message = "The search was stopped at its limit before it found a plan."
        return Finding(
            layer="resource", code="search_limit", message=message, fix="Ask for less, or forbid capabilities."
        )
    if required:
        message = f"No plan uses {', '.join(required)}, as required."
        pointer = "/policies/planner/selection/require"
        return Finding(layer="capability", code="require_unmet", message=message, pointer=pointer, fix="Require less.")
    message = "Every plan would wait for itself: each producer needs what it helps to make."
    return Finding(layer="capability", code="circular", message=message, fix="Give one of the facets as an input.")
