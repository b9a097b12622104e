"""Ways to make a facet: a call, a map, several copies, or people; and what can be reached with them (R4, R5, R8)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from contracts.capability import CapabilitySpec
from planner.draft import Scene
from planner.index import PEOPLE

Key = tuple[str, int]
"""A facet, and how many required refiners its value went through (R8)."""
Form = Literal["call", "map", "copies", "people", "structure"]


@dataclass(frozen=True, slots=True)
class Maker:
    """A way to make facets. ``needs`` and ``takes`` are (parameter, key): required and optional ones.

    A map has the list in ``over`` and the parameter that gets the item in ``item``; ``name`` tells makers apart.
    """

    name: str
    spec: CapabilitySpec
    form: Form
    gives: tuple[Key, ...]
    needs: tuple[tuple[str, Key], ...]
    takes: tuple[tuple[str, Key], ...] = ()
    over: Key | None = None
    item: str | None = None

    @property
    def wanted(self) -> tuple[Key, ...]:
        """Return every key without which it cannot run."""
        return tuple(key for _, key in self.needs) + (() if self.over is None else (self.over,))


@dataclass(slots=True)
class Workshop:
    """The permitted makers by what they give, what can be reached, and who may structure."""

    scene: Scene
    permitted: list[CapabilitySpec]
    generics: list[CapabilitySpec]
    people: CapabilitySpec | None
    tops: Mapping[str, int]
    by_key: dict[Key, list[Maker]] = field(default_factory=dict)
    reachable: frozenset[Key] = frozenset()

    def available(self, key: Key) -> bool:
        """Say whether the envelope holds it."""
        return key[1] == 0 and key[0] in self.scene.available.facets

    def top(self, facet: str) -> Key:
        """Return the key that consumers of a facet read."""
        return (facet, self.tops.get(facet, 0))

    @property
    def produced(self) -> frozenset[str]:
        """Return the facets that some permitted maker gives."""
        return frozenset(facet for facet, _ in self.by_key)

    @property
    def derivable(self) -> frozenset[str]:
        """Return the facets that can be made from what is there."""
        return frozenset(facet for facet, _ in self.reachable if any(key[0] == facet for key in self.by_key))


def open_workshop(scene: Scene) -> Workshop:
    """Return what may be used for this envelope."""
    selection = scene.envelope.policies.planner.selection
    forbidden_kinds = scene.envelope.policies.planner.topology.forbidden_kinds
    allowed = [
        spec
        for spec in scene.index.active.values()
        if scene.forbidden.isdisjoint((spec.capability_id, *spec.tools))
        and spec.kind not in forbidden_kinds
        and not scene.lacking(spec)
    ]
    people = [spec for spec in allowed if PEOPLE in spec.requires]
    permitted = [spec for spec in allowed if spec not in people and not spec.generic]
    shop = Workshop(
        scene,
        permitted,
        [spec for spec in allowed if spec.generic and spec not in people],
        people[0] if people and selection.humans == "last_resort" else None,
        _tops(permitted, selection.require),
    )
    _stock(shop, selection.require)
    return shop


def _refines(spec: CapabilitySpec, facet: str) -> bool:
    return facet in spec.produces and any(param.required and param.facet == facet for param in spec.consumes.values())


def _tops(permitted: Iterable[CapabilitySpec], require: list[str]) -> dict[str, int]:
    """Return how many required refiners each facet has."""
    tops: dict[str, int] = {}
    for spec in permitted:
        for facet in spec.produces if spec.capability_id in require else ():
            if _refines(spec, facet):
                tops[facet] = tops.get(facet, 0) + 1
    return tops


def _stock(shop: Workshop, require: list[str]) -> None:
    """Fill ``by_key`` with direct makers, then maps, then copies, for lists that nothing makes directly (R5)."""
    stages: dict[tuple[str, str], int] = {}
    for name in dict.fromkeys(require):
        spec = next((spec for spec in shop.permitted if spec.capability_id == name), None)
        for facet in spec.produces if spec is not None else ():
            if spec is not None and _refines(spec, facet):
                stages[name, facet] = sum(key[1] == facet for key in stages)
    for spec in shop.permitted:
        _add(shop, _call(shop, spec, stages))
    shop.reachable = reach(shop, shop.available)
    lists = [
        facet for facet in shop.scene.index.facets.values() if facet.list_of and (facet.name, 0) not in shop.by_key
    ]
    forbidden = shop.scene.envelope.policies.planner.topology.forbidden_kinds
    items = {facet.name: shop.by_key.get((facet.list_of or "", 0), []) for facet in lists}
    maps = [
        maker
        for name, made in items.items()
        if "map" not in forbidden
        for one in made
        for maker in _maps(shop, one, name)
    ]
    for maker in maps:
        if all(shop.available(key) or key in shop.reachable for key in maker.wanted):
            _add(shop, maker)
    for name, made in items.items():
        if (name, 0) not in shop.by_key and "transform" not in forbidden:
            for one in made:
                if one.form == "call":
                    _add(shop, Maker(f"{one.name}…", one.spec, "copies", ((name, 0),), one.needs, one.takes))
    shop.reachable = reach(shop, shop.available)


def _add(shop: Workshop, maker: Maker) -> None:
    for key in maker.gives:
        shop.by_key.setdefault(key, []).append(maker)


def _call(shop: Workshop, spec: CapabilitySpec, stages: Mapping[tuple[str, str], int]) -> Maker:
    def read(facet: str) -> Key:
        stage = stages.get((spec.capability_id, facet))
        return shop.top(facet) if stage is None else (facet, stage)

    def given(facet: str) -> Key:
        stage = stages.get((spec.capability_id, facet))
        return (facet, 0) if stage is None else (facet, stage + 1)

    return Maker(
        spec.capability_id,
        spec,
        "call",
        tuple(given(facet) for facet in spec.produces),
        tuple((name, read(param.facet)) for name, param in spec.consumes.items() if param.required),
        tuple((name, read(param.facet)) for name, param in spec.consumes.items() if not param.required),
    )


def _maps(shop: Workshop, one: Maker, made: str) -> Iterable[Maker]:
    """Yield the maps of an item's producer over every list of one of its inputs."""
    for name, (facet, _) in (*one.needs, *one.takes):
        for many in shop.scene.index.facets.values():
            if many.list_of == facet and many.name != made and len(one.gives) == 1:
                needs = tuple(pair for pair in one.needs if pair[0] != name)
                takes = tuple(pair for pair in one.takes if pair[0] != name)
                over = shop.top(many.name)
                label = f"{one.name}[{name}:{many.name}]"
                yield Maker(label, one.spec, "map", ((made, 0),), needs, takes, over, name)


def reach(shop: Workshop, available: Callable[[Key], bool]) -> frozenset[Key]:
    """Return every key that the makers can reach from what ``available`` says is there."""
    reached: set[Key] = set()
    makers = {maker.name: maker for made in shop.by_key.values() for maker in made}
    while True:
        ready = [
            name for name, maker in makers.items() if all(available(key) or key in reached for key in maker.wanted)
        ]
        if not ready:
            return frozenset(reached)
        for name in ready:
            reached.update(makers.pop(name).gives)


def with_people(shop: Workshop) -> Workshop:
    """Return the workshop where people provide every facet that nothing produces (R7, last resort)."""
    spec = shop.people
    if spec is None:
        return shop
    more = Workshop(
        shop.scene, shop.permitted, shop.generics, spec, shop.tops, {k: list(v) for k, v in shop.by_key.items()}
    )
    wanted = {key for made in shop.by_key.values() for maker in made for key in maker.wanted}
    named = {(facet, 0) for facet in shop.scene.index.facets}
    for key in sorted(wanted | named):
        if key[1] == 0 and key not in shop.by_key and not shop.available(key):
            _add(more, Maker(f"{spec.capability_id}:{key[0]}", spec, "people", (key,), ()))
    more.reachable = reach(more, more.available)
    return more
