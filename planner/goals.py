"""What the answer is made of, and which facet each part could be (R1, R2, R6)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from contracts.capability import Catalogue
from contracts.envelope import FacetsContract, FreeformContract, TaskEnvelope
from contracts.errors import ErrorItem
from contracts.plan import Finding
from contracts.schema import compile_schema
from contracts.wire import pointer_of
from planner.contract import FACET_MARK, READS_MARK
from planner.contract import unknown_facets as _unknown_facets
from planner.draft import Scene
from planner.fit import fit
from planner.schemas import Schema, follow, is_object, of_property, properties, required, standalone
from planner.sources import Source
from planner.words import norm, share

How = Literal["marked at", "name of", "alias of", "shape of", "most relevant to"]
_NAMES_FOR_SHAPE: Final = 2
VARIANTS: Final = "variant_count"


@dataclass(slots=True)
class Want:
    """A part of the answer: where it goes, its schema, the facets it could be, or the input that serves it."""

    pointer: str
    name: str
    schema: Schema
    texts: tuple[str, ...] = ()
    how: dict[str, How] = field(default_factory=dict)
    """facet → why it is an alternative, in order"""
    clashes: dict[str, str] = field(default_factory=dict)
    """facet that was tried → where its type breaks the schema"""
    ambiguous: tuple[str, ...] = ()
    source: Source | None = None
    """an input of that name whose value validates (R2d)"""

    @property
    def served(self) -> bool:
        """Say whether there is a facet or an input for it."""
        return bool(self.how) or self.source is not None

    def where(self) -> str:
        """Return the place for people."""
        return self.pointer or "the answer"


@dataclass(frozen=True, slots=True)
class Count:
    """How many items an array goal gets; ``explicit`` when the caller said so."""

    number: int
    explicit: bool = False


def unknown_facets(envelope: TaskEnvelope, catalogue: Catalogue) -> list[ErrorItem]:
    """Return one item per facet that the contract names and the catalogue lacks (doors answer 422)."""
    return _unknown_facets(envelope, catalogue)


def wants(scene: Scene) -> tuple[list[Want], list[Want]]:
    """Return the goals, and the optional parts that are filled when they are at hand (R1); no facet is chosen yet."""
    contract, root = scene.envelope.contract, scene.answer
    if isinstance(contract, FreeformContract):
        return [Want("", "", root)], []
    schema = follow(root, root)
    listed = properties(schema)
    named = required(schema) or tuple(listed)
    marked = isinstance(schema, Mapping) and FACET_MARK in schema
    if not is_object(schema) or marked or not named:
        return [_want(scene, "", "", schema)], []
    ordered = [*(name for name in listed if name in named), *(name for name in named if name not in listed)]
    goals = [_want(scene, pointer_of([name]), name, of_property(schema, name)) for name in ordered]
    rest = [_want(scene, pointer_of([name]), name, at) for name, at in listed.items() if name not in named]
    return goals, rest


def _want(scene: Scene, pointer: str, name: str, schema: Schema) -> Want:
    schema = follow(schema, scene.answer)
    said = [schema.get("title"), schema.get("description")] if isinstance(schema, Mapping) else []
    return Want(pointer, name, schema, (name, *(text for text in said if isinstance(text, str))))


def asked_texts(scene: Scene) -> tuple[str, ...]:
    """Return what the caller said in words, besides a goal's own (wire §6, relevance)."""
    contract = scene.envelope.contract
    own = (contract.instructions, contract.expected_format) if isinstance(contract, FreeformContract) else ()
    return (scene.envelope.objective, *(text for text in own if text), *scene.notes)


def relevance(scene: Scene, facet: str, goals: Iterable[Want]) -> float:
    """Return the share of a facet's words that the caller said, for these goals."""
    texts = [*asked_texts(scene), *(text for goal in goals for text in goal.texts)]
    return share(scene.index.facet_words[facet], texts)


def choose_facets(
    scene: Scene, goal: Want, produced: frozenset[str], derivable: frozenset[str], *, by_shape: bool = True
) -> None:
    """Fill in the goal's alternatives (R2). ``produced`` has a permitted producer, ``derivable`` can be reached."""
    if isinstance(scene.envelope.contract, FreeformContract):
        _freeform(scene, goal, derivable)
        return
    for facet, how in _named(scene, goal):
        _consider(scene, goal, facet, how)
        if how == "marked at" and goal.how:
            break
    if not goal.how and by_shape:
        _by_shape(scene, goal)
    if not any(facet in produced for facet in goal.how):
        goal.source = _input_of(scene, goal)


def _named(scene: Scene, goal: Want) -> Iterator[tuple[str, How]]:
    """Yield the facets that (a) and (b) offer."""
    marked = goal.schema.get(FACET_MARK) if isinstance(goal.schema, Mapping) else None
    if isinstance(marked, str) and marked in scene.index.facets:
        yield marked, "marked at"
    if isinstance(scene.envelope.contract, FacetsContract):
        yield goal.name, "name of"
        return
    for facet in scene.index.named(goal.name) if norm(goal.name) else ():
        yield facet, "name of" if norm(facet) == norm(goal.name) else "alias of"


def _consider(scene: Scene, goal: Want, facet: str, how: How) -> None:
    found = fit(scene.index.schema(facet), goal.schema, scene.answer)
    if found.verdict == "clash":
        goal.clashes[facet] = found.unproved[0]
    else:
        goal.how.setdefault(facet, how)


def _by_shape(scene: Scene, goal: Want) -> None:
    """Offer the only facet whose shape may be the goal's, or the strictly most relevant one (R2c)."""
    items = follow(goal.schema.get("items"), scene.answer) if isinstance(goal.schema, Mapping) else None
    if max(len(required(goal.schema)), len(required(items))) < _NAMES_FOR_SHAPE:
        return
    fits = {name: fit(facet.schema, goal.schema, scene.answer) for name, facet in scene.index.facets.items()}
    whole = [name for name, found in fits.items() if found.verdict != "clash"]
    # A list is a better candidate for a list than one item that would have to be wrapped.
    near = [name for name in whole if not fits[name].wraps] or whole
    best = _strictly_best(scene, goal, near)
    if len(near) == 1:
        goal.how[near[0]] = "shape of"
    elif best is not None:
        goal.how[best] = "shape of"
    else:
        goal.ambiguous = tuple(sorted(near))


def _strictly_best(scene: Scene, goal: Want, facets: Iterable[str]) -> str | None:
    ranked = sorted(((relevance(scene, name, [goal]), name) for name in facets), key=lambda pair: (-pair[0], pair[1]))
    if not ranked or ranked[0][0] <= 0 or (len(ranked) > 1 and ranked[1][0] == ranked[0][0]):
        return None
    return ranked[0][1]


def _freeform(scene: Scene, goal: Want, derivable: frozenset[str]) -> None:
    texts = [name for name in sorted(derivable) if _is_text(scene.index.schema(name), goal)]
    best = _strictly_best(scene, goal, texts)
    if best is not None:
        goal.how[best] = "most relevant to"


def _is_text(schema: Schema, goal: Want) -> bool:
    schema = follow(schema, schema)
    return (
        isinstance(schema, Mapping) and schema.get("type") == "string" and fit(schema, goal.schema).verdict != "clash"
    )


def _input_of(scene: Scene, goal: Want) -> Source | None:
    """Return the input of the goal's name whose value validates (R2d)."""
    compiled = compile_schema(standalone(goal.schema, scene.answer))
    found = (source for source in scene.available.inputs_named(goal.name) if compiled.is_valid(source.value))
    return next(found, None) if norm(goal.name) else None


def reads_marked(scene: Scene, goals: Iterable[Want]) -> list[str]:
    """Return the facets that ``x-flex-from`` names at the goals or at the root."""
    root = follow(scene.answer, scene.answer)
    found: list[str] = []
    for schema in (root, *(goal.schema for goal in goals)):
        marked = schema.get(READS_MARK, []) if isinstance(schema, Mapping) else []
        found += [marked] if isinstance(marked, str) else [name for name in marked if isinstance(name, str)]
    return [name for name in dict.fromkeys(found) if name in scene.index.facets]


def counts(scene: Scene, goals: list[Want]) -> tuple[dict[str, Count], list[Finding]]:
    """Return how many items each array goal gets, by pointer, and what is wrong with the caller's number (R6)."""
    arrays = [goal for goal in goals if isinstance(goal.schema, Mapping) and goal.schema.get("type") == "array"]
    found = {goal.pointer: Count(_bound(goal.schema, "minItems") or 1) for goal in arrays}
    number, pointer = asked_count(scene.envelope)
    if number is None:
        return found, []
    lists = [goal for goal in arrays if any(scene.index.facets[facet].list_of for facet in goal.how)]
    chosen = arrays if len(arrays) == 1 else lists
    if not arrays:
        message = f"{number} variants are asked for, and no part of the answer is a list."
        return found, [_finding("variant_count_unused", message, pointer, "warning")]
    if len(chosen) != 1:
        names = ", ".join(goal.where() for goal in chosen or arrays)
        message = f"{number} variants are asked for, and each of {names} could be meant."
        return found, [_finding("ambiguous_variants", message, pointer, "error", "Leave the number out; use minItems.")]
    goal = chosen[0]
    least, most = _bound(goal.schema, "minItems") or 0, _bound(goal.schema, "maxItems")
    if number < least or (most is not None and number > most):
        upper = "any number" if most is None else most
        message = f"{number} variants are asked for; {goal.where()} takes {least} to {upper}."
        return found, [
            _finding("variant_count_conflict", message, pointer, "error", "Change the number or the contract.")
        ]
    return {**found, goal.pointer: Count(number, explicit=True)}, []


def asked_count(envelope: TaskEnvelope) -> tuple[int | None, str]:
    """Return the number of variants that the caller asks for, and the pointer that says so."""
    asked = envelope.policies.planner.topology.variant_count
    if asked is not None:
        return asked, f"/policies/planner/topology/{VARIANTS}"
    for key, value in envelope.inputs.items():
        if norm(key) == VARIANTS and isinstance(value, int) and not isinstance(value, bool) and value > 0:
            return value, pointer_of(["inputs", key])
    return None, ""


def _bound(schema: Any, keyword: str) -> int | None:
    value = schema.get(keyword)
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else None


def _finding(code: str, message: str, pointer: str, severity: Any, fix: str | None = None) -> Finding:
    return Finding(layer="capability", code=code, severity=severity, message=message, pointer=pointer, fix=fix)
