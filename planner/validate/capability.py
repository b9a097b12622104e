"""Layer 3, capability: it exists, is active, gets what it takes, and what it gives fits (W4)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from contracts.flow_capability import FLOW_PREFIX
from contracts.plan import Binding, Finding
from contracts.wire import pointer_of
from planner.draft import Draft, Scene, Unit
from planner.fit import fit
from planner.schemas import follow, part, required, says_nothing
from planner.sources import UNKNOWN, resolve

COUNT: Final = "count"
"""The parameter by which a batch capability is told how many items to make."""


def existence(draft: Draft) -> Iterator[Finding]:
    """A capability that is missing, unknown, inactive, or lacks the pinned version."""
    index = draft.scene.index
    for unit in draft.everyone():
        name, version = unit.node.capability_id, unit.node.capability_version
        if name is not None and unit.node.own.get("plan") is not None and unit.node.kind == "subflow":
            continue  # the plan of a stored flow stands in the node: whatever was published since, it runs that
        if name is None:
            if unit.kind is not None and unit.kind.needs_capability:
                yield unit.finding("capability", "capability_missing", f"A {unit.node.kind} needs a capability_id.")
        elif name not in index.versions:
            message = f"There is no capability {name!r}."
            yield unit.finding("capability", "unknown_capability", message, "/capability_id")
        elif name not in index.active:
            why = index.catalogue.inactive_reasons.get(name)
            message = f"Capability {name!r} is not active."
            yield unit.finding("capability", "capability_inactive", message, "/capability_id", why)
        elif unit.spec is not None and unit.spec.kind == "subflow":
            message = f"{name!r} is a stored flow: a plan that people write runs it by its flow_id."
            fix = f'{{"kind": "subflow", "flow_id": "{name.removeprefix(FLOW_PREFIX)}"}}'
            yield unit.finding("capability", "flow_not_called", message, "/capability_id", fix)
        elif unit.spec is None:
            known = ", ".join(spec.version for spec in index.versions[name])
            message = f"Capability {name!r} has no version {version!r}."
            yield unit.finding("capability", "version_missing", message, "/capability_version", f"There is {known}.")
        elif (why := index.catalogue.inactive_versions.get((name, unit.spec.version))) is not None:
            message = f"Version {unit.spec.version} of {name!r} is not active."
            yield unit.finding("capability", "capability_inactive", message, "/capability_version", why)


def parameters(draft: Draft) -> Iterator[Finding]:
    """A required parameter without a value, or a value for a parameter that is not there."""
    for unit in draft.everyone():
        spec = unit.spec
        if spec is None:
            continue
        given = unit.node.inputs.keys() | ({unit.item} if unit.item else set())
        for name, param in spec.consumes.items():
            if param.required and name not in given:
                message = f"{spec.capability_id!r} needs {name!r} ({param.facet})."
                fix = f"Bind it, or give an input called {param.facet!r}."
                yield unit.finding("capability", "missing_param", message, "/inputs", fix)
        known = spec.consumes.keys() | ({COUNT} if spec.batch else set())
        for name in () if spec.generic or not spec.consumes else sorted(unit.node.inputs.keys() - known):
            message = f"{spec.capability_id!r} takes no {name!r}."
            fix = f"It takes {', '.join(sorted(known))}."
            yield unit.finding("capability", "unknown_param", message, pointer_of(["inputs", name]), fix)


def bindings(draft: Draft) -> Iterator[Finding]:
    """A value that cannot be what the parameter takes."""
    for unit in draft.everyone():
        if unit.spec is None:
            continue
        for name, bound in unit.node.inputs.items():
            param = unit.spec.consumes.get(name)
            if param is not None:
                yield from _binding(draft, unit, name, param.facet, bound)


def _binding(draft: Draft, unit: Unit, name: str, facet: str, bound: Binding) -> Iterator[Finding]:
    if bound.node_id is not None:
        where = _clash(draft, bound, facet)
        if where is not None:
            below = pointer_of(["inputs", name])
            message = f"The output of {bound.node_id!r} cannot be a {facet}: it breaks {where or 'the schema'}."
            yield unit.finding("capability", "incompatible_binding", message, below)
        return
    try:
        value = bound.value if bound.from_ is None else resolve(draft.scene.envelope, bound.from_)
    except KeyError:
        return
    if value is UNKNOWN or (bound.from_ is not None and bound.from_.startswith("/context/documents/")):
        return
    if not draft.scene.index.accepts(facet, value):
        code = "incompatible_binding" if bound.from_ is None else "input_mismatch"
        problem = draft.scene.index.compiled(facet).explain(value, 1)
        said = f": {problem[0].message}" if problem else "."
        message = f"The value of {name!r} is no {facet}{said}"
        yield unit.finding("capability", code, message, pointer_of(["inputs", name]))


def _clash(draft: Draft, bound: Binding, facet: str) -> str | None:
    """Return where the producer's promise breaks the facet, None when it may fit."""
    index = draft.scene.index
    place = draft.by_id.get(bound.node_id or "")
    unit = None if place is None else draft.units[place]
    output = None if unit is None else unit.node.output
    if output is None:
        return None
    whole = unit is not None and unit.spec is not None and output is index.output(unit.spec)
    if whole and output.facet is not None and not bound.pointer:
        verdict = index.meet(output.facet, facet)
    else:
        promised = draft.promised(bound)
        if promised is False:
            return bound.pointer
        verdict = fit(promised, index.schema(facet))
    broken = verdict.verdict == "clash" or any(adapter.op != "keep" for adapter in verdict.adapters)
    return (verdict.unproved or ("",))[0] if broken else None


def maps(draft: Draft) -> Iterator[Finding]:
    """A map over something that is no list."""
    for place in draft.inner:
        unit = draft.units[place]
        over = getattr(unit.own, "over", None)
        if not isinstance(over, Binding):
            continue
        if over.node_id is not None:
            listed = _may_be_list(draft.promised(over))
        else:
            try:
                value = over.value if over.from_ is None else resolve(draft.scene.envelope, over.from_)
            except KeyError:
                continue
            listed = isinstance(value, list) or value is UNKNOWN
        if not listed:
            yield unit.finding("capability", "not_a_list", "A map runs over a list; this is none.", "/over")


def _may_be_list(schema: Any) -> bool:
    return fit(schema, {"type": "array"}).verdict != "clash" and not fit(schema, {"type": "array"}).wraps


def answer(draft: Draft) -> Iterator[Finding]:
    """An answer that cannot satisfy the caller's contract: a part is missing, forbidden, or of another type."""
    root = draft.scene.answer
    mapped = draft.output.map
    if "" not in mapped:
        yield from _missing_parts(draft, root)
    for pointer, bound in mapped.items():
        at = draft.at + pointer_of(["output", "map", pointer])
        try:
            asked = part(root, pointer)
        except KeyError:
            message = f"The contract forbids {pointer!r}."
            yield Finding(layer="capability", code="output_not_asked", message=message, pointer=at)
            continue
        if bound.adapt or (bound.node_id is not None and bound.node_id not in draft.by_id):
            continue
        if bound.node_id is not None:
            promised = draft.promised(bound)
            found = None if promised is False else fit(promised, asked, root)
            if found is None or found.verdict == "clash":
                where = (bound.pointer if found is None else found.unproved[0]) or "the schema"
                message = f"The output of {bound.node_id!r} cannot be {pointer or 'the answer'!r}: it breaks {where}."
                code = "output_clash"
                yield Finding(layer="capability", code=code, message=message, pointer=at, node_id=bound.node_id)


def _missing_parts(draft: Draft, root: Any) -> Iterator[Finding]:
    schema = follow(root, root)
    at = f"{draft.at}/output/map"
    wanted = required(schema)
    may_be_object = isinstance(schema, dict) and schema.get("type", "object") == "object"
    if not wanted and not says_nothing(schema) and not may_be_object:
        message = "The contract asks for one value; map it at the empty pointer."
        yield Finding(layer="structure", code="unmapped_output", message=message, pointer=at)
    for name in wanted:
        pointer = pointer_of([name])
        if not any(key == pointer or key.startswith(pointer + "/") for key in draft.output.map):
            message = f"The contract requires {pointer!r}, and nothing is mapped to it."
            yield Finding(layer="structure", code="unmapped_output", message=message, pointer=at)


def required_capabilities(draft: Draft) -> Iterator[Finding]:
    """A capability that the envelope requires and the plan does not use."""
    used = {unit.node.capability_id for unit in draft.everyone()}
    for place, name in enumerate(draft.scene.envelope.policies.planner.selection.require):
        if name not in used:
            pointer = f"/policies/planner/selection/require/{place}"
            message = f"The plan does not use {name!r}, which is required."
            yield Finding(layer="capability", code="require_unmet", message=message, pointer=pointer)


def selection_names(draft: Draft) -> Iterator[Finding]:
    """A selection that names a capability that does not exist."""
    yield from unknown_selection(draft.scene)


def unknown_selection(scene: Scene) -> Iterator[Finding]:
    """Yield an error per name of the envelope's selection that is no capability."""
    selection = scene.envelope.policies.planner.selection
    for group in ("require", "forbid", "prefer", "avoid"):
        for place, name in enumerate(getattr(selection, group)):
            # A flow that is gone can be forbidden: its own child runs forbid it.
            gone = group == "forbid" and name.startswith(FLOW_PREFIX)
            if name not in scene.index.versions and not gone:
                pointer = f"/policies/planner/selection/{group}/{place}"
                message = f"There is no capability {name!r}."
                yield Finding(layer="capability", code="unknown_capability", message=message, pointer=pointer)


CHECKS: Final = (existence, parameters, bindings, maps, answer, required_capabilities, selection_names)
