"""Enumerate every plan: open facets are expanded by each producer until none is open (R4)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import product
from typing import Final

from contracts.capability import CapabilitySpec
from planner.goals import Want
from planner.makers import Key, Maker, Workshop

GENERIC: Final = "*"
"""Stands for the structuring node where a facet is chosen for a goal."""
INPUT: Final = "="
"""Stands for the input that serves the goal."""


Rows = dict[str, list[tuple[str, Key, Maker | None]]]
"""Maker → its parameters: (name, key, who makes it; None for the envelope)."""


@dataclass(frozen=True)
class Candidate:
    """One plan: what each goal is (a facet, the structuring node, an input), and who makes each opened facet."""

    choices: tuple[str, ...]
    by: Mapping[Key, Maker]
    structure: Maker | None = None
    reads: tuple[Key, ...] = ()

    @cached_property
    def makers(self) -> list[Maker]:
        """Return the makers, each once, in the order they were chosen."""
        made = {maker.name: maker for maker in self.by.values()}
        if self.structure is not None:
            made[self.structure.name] = self.structure
        return list(made.values())

    @cached_property
    def used(self) -> frozenset[str]:
        """Return the ids of the capabilities it uses."""
        return frozenset(maker.spec.capability_id for maker in self.makers)


@dataclass(slots=True)
class Budget:
    """How many states may still be looked at; ``spent`` is set when there were more."""

    left: int
    spent: bool = False

    def take(self) -> bool:
        """Count one state; False when none is left."""
        if self.left <= 0:
            self.spent = True
            return False
        self.left -= 1
        return True


@dataclass(slots=True)
class Search:
    """An enumeration over one workshop."""

    shop: Workshop
    budget: Budget
    ranked: Mapping[str, tuple[float, ...]] = field(default_factory=dict)

    def plans(
        self, goals: Sequence[Want], structurer: CapabilitySpec | None, reads: Sequence[str]
    ) -> Iterator[Candidate]:
        """Yield every plan in which the structurer, if any, makes the unserved goals (or is preferred for others)."""
        preferred = self.shop.scene.envelope.policies.planner.selection.prefer
        free = structurer is not None and structurer.capability_id in preferred
        options = [self._options(goal, structurer is not None, free) for goal in goals]
        structure = None if structurer is None else structure_maker(self.shop, structurer, reads)
        for choices in self._choices(options):
            if (structure is not None) != (GENERIC in choices):
                continue
            start = [self.shop.top(choice) for choice in choices if choice not in (GENERIC, INPUT)]
            opened = list(dict.fromkeys(start))
            if structure is not None:
                opened += [key for key in structure.wanted if not self.shop.available(key) and key not in opened]
            for by in self._expand(opened, {}):
                yield Candidate(choices, by, structure, tuple(self.shop.top(facet) for facet in reads))

    def _options(self, goal: Want, structured: bool, free: bool) -> list[str]:
        """Return what a goal may be. What nothing produces is taken from the input of its name, if there is one."""
        made = [facet for facet in goal.how if self.shop.top(facet) in self.shop.reachable]
        if goal.source is not None:
            made = [INPUT]
        elif not goal.how and structured and (free or not goal.ambiguous):
            return [GENERIC]
        return [*made, GENERIC] if free and structured else made

    def _choices(self, options: Sequence[Sequence[str]]) -> Iterator[tuple[str, ...]]:
        for choices in product(*options):
            if not self.budget.take():
                return
            yield choices

    def _expand(self, opened: Sequence[Key], by: dict[Key, Maker]) -> Iterator[dict[Key, Maker]]:
        """Yield every way to close the open keys, first open one first."""
        stack = [(list(opened), by)]
        while stack:
            opened, by = stack.pop()
            if not self.budget.take():
                return
            if not opened:
                yield by
                continue
            key, rest = opened[0], opened[1:]
            for maker in reversed(self._producers(key)):
                chosen = {**by, key: maker}
                if not _reaches_itself(maker, chosen, self.shop):
                    new = (need for need in maker.wanted if not self.shop.available(need) and need not in chosen)
                    stack.append(([*rest, *dict.fromkeys(need for need in new if need not in rest)], chosen))

    def _producers(self, key: Key) -> list[Maker]:
        made = self.shop.by_key.get(key, [])
        possible = [
            m for m in made if all(self.shop.available(need) or need in self.shop.reachable for need in m.wanted)
        ]
        return sorted(possible, key=lambda maker: (self.ranked.get(maker.spec.capability_id, ()), maker.name))

    def ways(self, key: Key, by: Mapping[Key, Maker]) -> Iterator[dict[Key, Maker]]:
        """Yield every way to make one more facet, given what is chosen already."""
        yield from self._expand([] if key in by else [key], dict(by))


def structure_maker(shop: Workshop, spec: CapabilitySpec, reads: Sequence[str]) -> Maker:
    """Return the structuring node: it needs what its spec requires and the facets it is told to read."""
    needs = [(name, shop.top(param.facet)) for name, param in spec.consumes.items() if param.required]
    takes = [(name, shop.top(param.facet)) for name, param in spec.consumes.items() if not param.required]
    taken = {name for name, _ in (*needs, *takes)}
    needs += [(facet if facet not in taken else f"{facet}_read", shop.top(facet)) for facet in reads]
    return Maker(spec.capability_id, spec, "structure", (), tuple(needs), tuple(takes))


def _reaches_itself(maker: Maker, by: Mapping[Key, Maker], shop: Workshop) -> bool:
    """Say whether what the maker needs is made, at the end, by the maker."""
    stack, seen = [maker], set()
    while stack:
        for need in stack.pop().wanted:
            below = None if shop.available(need) else by.get(need)
            if below is None or below.name in seen:
                continue
            if below.name == maker.name:
                return True
            seen.add(below.name)
            stack.append(below)
    return False


def wired(candidate: Candidate, shop: Workshop) -> Rows:
    """Return the parameters of each maker: (name, key, who makes it, None for the envelope).

    Required ones come first; optional ones are bound when they are at hand and close no cycle.
    """
    makers = {maker.name: maker for maker in candidate.makers}
    gives = dict(candidate.by)
    for maker in makers.values():
        for key in maker.gives:
            gives.setdefault(key, maker)
    inputs: dict[str, list[tuple[str, Key, Maker | None]]] = {}
    behind: dict[str, set[str]] = {}
    for maker in makers.values():
        inputs[maker.name] = [(name, key, None if shop.available(key) else gives[key]) for name, key in maker.needs]
        behind[maker.name] = {gives[key].name for key in maker.wanted if not shop.available(key)}
    for maker in makers.values():
        for name, key in maker.takes:
            if shop.available(key):
                inputs[maker.name].append((name, key, None))
            elif key in gives and not _before(gives[key].name, maker.name, behind):
                inputs[maker.name].append((name, key, gives[key]))
                behind[maker.name].add(gives[key].name)
    return inputs


def ordered(candidate: Candidate, shop: Workshop, rows: Rows) -> list[Maker]:
    """Return the makers, each after everything it reads; ``rows`` is what :func:`wired` said."""
    makers = candidate.makers
    below = {name: [one.name for _, _, one in given if one is not None] for name, given in rows.items()}
    for maker in makers:
        if maker.over is not None and not shop.available(maker.over):
            below[maker.name].append(candidate.by[maker.over].name)
    by_name = {maker.name: maker for maker in makers}
    done: dict[str, Maker] = {}
    stack = [maker.name for maker in reversed(makers)]
    while stack:
        name = stack[-1]
        waits = [one for one in reversed(below[name]) if one not in done]
        if waits and name not in done:
            stack += waits
            continue
        stack.pop()
        done.setdefault(name, by_name[name])
    return list(done.values())


def _before(late: str, early: str, behind: Mapping[str, set[str]]) -> bool:
    """Say whether ``late`` waits for ``early`` (or is it)."""
    stack, seen = [late], {late}
    while stack:
        name = stack.pop()
        if name == early:
            return True
        new = behind.get(name, set()) - seen
        seen |= new
        stack.extend(new)
    return False
