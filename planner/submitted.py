"""A plan that somebody wrote: read, completed where it is silent, and drafted for the checks (wire §5a)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Any, Final

from contracts.errors import PlanInvalid
from contracts.expressions import ExpressionRefused, compile_cel
from contracts.plan import Binding, Edge, Finding, Goal, NodeOutput, OutputBinding, PlanGraph, PlanNode
from contracts.schema import SchemaRefused, compile_schema
from contracts.wire import pointer_of, read_model
from planner.draft import Draft, Scene, Unit, handlers_of, inner_of, unit_of
from planner.fit import fit
from planner.goals import asked_count
from planner.schemas import part
from planner.validate.capability import COUNT

_DERIVED: Final = (
    "plan_hash",
    "strategy",
    "goals",
    "unused_inputs",
    "estimate",
    "findings",
    "planHash",
    "unusedInputs",
)


def read_plan(data: Any, at: str) -> PlanGraph | tuple[Finding, ...]:
    """Read the JSON of a plan; what the service derives itself is ignored. Broken places become findings.

    Every schema in a plan that is returned can be used, and no part of its answer is mapped twice.
    """
    if isinstance(data, dict):
        data = {key: value for key, value in data.items() if key not in _DERIVED}
    try:
        plan = read_model(PlanGraph, data, PlanInvalid, at)
    except PlanInvalid as refused:
        return tuple(
            Finding(layer="structure", code=item.code, message=item.message, pointer=item.pointer)
            for item in refused.errors
        )
    return (*_schemas(plan, at), *_overlaps(plan, at)) or plan


def _schemas(plan: PlanGraph, at: str) -> Iterator[Finding]:
    """Find schemas of outputs that cannot be used, of nodes inside others too."""
    for place, node in enumerate(plan.nodes):
        inner = node.own.get("node")
        output = inner.get("output") if isinstance(inner, dict) else None
        found = [
            ("output/schema", None if node.output is None else node.output.schema_),
            ("node/output/schema", output.get("schema") if isinstance(output, dict) else None),
        ]
        for name, schema in found:
            why = None if schema is None else unusable(schema)
            if why is not None:
                yield Finding(
                    layer="structure", code="bad_schema", message=f"This schema cannot be used: {why}",
                    pointer=f"{at}/nodes/{place}/{name}", node_id=node.node_id,
                )  # fmt: skip


def unusable(schema: Any) -> str | None:
    """Return why a JSON Schema cannot be used; None when it can."""
    try:
        compile_schema(schema)
    except SchemaRefused as refused:
        return refused.errors[0].message if refused.errors else refused.message
    return None


def _overlaps(plan: PlanGraph, at: str) -> Iterator[Finding]:
    """Find parts of the answer that are mapped twice: as themselves and inside another part."""
    places = sorted(plan.output.map)
    for inner in places:
        outer = next((name for name in places if inner != name and inner.startswith(f"{name}/")), None)
        if outer is not None:
            message = f"{outer or 'The whole answer'!r} is mapped too; map the whole or its parts."
            pointer = at + pointer_of(["output", "map", inner])
            yield Finding(layer="structure", code="overlapping_output", message=message, pointer=pointer)


def draft_of(plan: PlanGraph, scene: Scene, at: str) -> Draft:
    """Return the plan with what was left out: versions, effects, contracts, attempts, inputs and implied edges."""
    units = [unit_of(scene, node, f"{at}/nodes/{place}", place) for place, node in enumerate(plan.nodes)]
    draft = Draft(scene, at, units, plan.output)
    for unit in units:
        inner = inner_of(scene, unit)
        if inner is not None:
            draft.inner[unit.place] = inner
    ways = _ways_in(plan.edges)
    for unit in draft.everyone():
        _complete(draft, unit, ways)
    for place, inner in draft.inner.items():
        _enclose(draft.units[place], inner)
    draft.edges = list(_edges(draft, plan.edges))
    draft.edges += _in_place(draft)
    draft.output = plan.output.model_copy(update={"map": dict(_adapted(draft))})
    draft.goals = list(_goals(draft))
    return draft


def _ways_in(edges: Iterable[Edge]) -> dict[str, list[str]]:
    ways: dict[str, list[str]] = {}
    for edge in edges:
        ways.setdefault(edge.to, []).append(edge.from_)
    return ways


def _complete(draft: Draft, unit: Unit, ways: dict[str, list[str]]) -> None:
    """Fill in what the node leaves open; what it says itself stays, except effects, which are the capability's."""
    node, spec, policies = unit.node, unit.spec, draft.scene.envelope.policies
    update: dict[str, Any] = {}
    if node.kind != "ask" and not (unit.kind is not None and unit.kind.waits):
        if node.max_attempts is None:
            update["max_attempts"] = policies.retry.max_attempts
        if node.timeout_seconds is None:
            update["timeout_seconds"] = policies.timeouts.node_seconds
    if spec is not None:
        if node.capability_version is None:
            update["capability_version"] = spec.version
        if node.effects != spec.effects:
            update["effects"] = spec.effects
        if node.output is None or node.output.schema_ is None:
            update["output"] = _output(draft, unit)
        missing = _missing_inputs(draft, unit, ways.get(draft.units[unit.place].node.node_id, []))
        if missing:
            update["inputs"] = {**node.inputs, **missing}
    if update:
        unit.node = node.model_copy(update={name: value for name, value in update.items() if value is not None})


def _output(draft: Draft, unit: Unit) -> NodeOutput | None:
    output, spec = unit.node.output, unit.spec
    if output is not None and output.facet is not None:
        schema = draft.scene.index.schema(output.facet)
        return output.model_copy(update={"schema_": dict(schema) if isinstance(schema, dict) else schema})
    return None if spec is None else draft.scene.index.output(spec)


def _missing_inputs(draft: Draft, unit: Unit, before: list[str]) -> dict[str, Binding]:
    """Bind required parameters that the plan leaves out: from a node before, else from the envelope."""
    spec = unit.spec
    if spec is None:
        return {}
    found: dict[str, Binding] = {}
    for name, param in spec.consumes.items():
        if not param.required or name in unit.node.inputs or name == unit.item:
            continue
        bound = _from_before(draft, param.facet, before) or _from_envelope(draft, param.facet)
        if bound is not None:
            found[name] = bound
    if spec.batch and COUNT not in unit.node.inputs:
        found[COUNT] = Binding(value=draft.scene.envelope.policies.planner.topology.variant_count or 1)
    return found


def _from_before(draft: Draft, facet: str, before: list[str]) -> Binding | None:
    for node_id in before:
        place = draft.by_id.get(node_id)
        spec = None if place is None else draft.units[place].spec
        if spec is not None and facet in spec.produces:
            return Binding(node_id=node_id, pointer="" if len(spec.produces) == 1 else f"/{facet}")
    return None


def _from_envelope(draft: Draft, facet: str) -> Binding | None:
    source = draft.scene.available.facets.get(facet)
    return None if source is None else Binding(from_=source.pointer)


def _enclose(unit: Unit, inner: Unit) -> None:
    """Write the completed inner node back into its map or loop, and let that promise what comes of it."""
    shown = inner.node.model_dump(mode="json", exclude_none=True, exclude_defaults=True)
    if inner.node.inputs:
        # A literal null is a value.
        given = inner.node.inputs.items()
        shown["inputs"] = {name: bound.model_dump(mode="json", exclude_unset=True) for name, bound in given}
    if "node_id" not in unit.node.own["node"]:
        shown.pop("node_id", None)
    update: dict[str, Any] = {"node": shown, "effects": inner.node.effects}
    made = inner.node.output
    if unit.node.output is None and made is not None and made.schema_ is not None:
        lists = unit.kind is None or unit.kind.lists(unit.own)
        update["output"] = NodeOutput(schema_={"type": "array", "items": made.schema_} if lists else made.schema_)
    unit.node = unit.node.model_copy(update=update)


def _edges(draft: Draft, given: Iterable[Edge]) -> Iterator[Edge]:
    """Yield the given edges, then those that inputs, references and targets imply, each once."""
    seen: set[tuple[str, str]] = set()
    exact: set[tuple[str, str, str | None]] = set()
    given = list(given)
    for edge in given:
        key = (edge.from_, edge.to, edge.condition)
        if key not in exact:
            exact.add(key)
            seen.add(key[:2])
            yield edge
    implied = chain.from_iterable(_implied(draft, unit) for unit in draft.everyone())
    for start, end in chain(implied, _awaited(given)):
        if (start, end) not in seen and start in draft.by_id and end in draft.by_id:
            seen.add((start, end))
            yield Edge(from_=start, to=end)


def _in_place(draft: Draft) -> list[Edge]:
    """Return the edges from handlers to what follows their targets: one of the two puts something out."""
    handlers = handlers_of(draft)
    there = {(edge.from_, edge.to) for edge in draft.edges}
    found = []
    for edge in draft.edges:
        handler = handlers.get(edge.from_)
        if handler is not None and edge.to != handler and (handler, edge.to) not in there:
            found.append(Edge(from_=handler, to=edge.to, condition=edge.condition))
    return found


def _awaited(given: Iterable[Edge]) -> Iterator[tuple[str, str]]:
    """Yield what an edge's condition reads besides its start: it must have ended before the start ends."""
    for edge in given:
        if edge.condition is not None:
            try:
                names = compile_cel(edge.condition).names
            except ExpressionRefused:
                continue  # the check of expressions says so, with the column
            for name in sorted(names - {edge.from_}):
                yield name, edge.from_


def _implied(draft: Draft, unit: Unit) -> Iterator[tuple[str, str]]:
    outer = draft.units[unit.place].node.node_id
    for bound in unit.node.inputs.values():
        if bound.node_id is not None:
            yield bound.node_id, outer
    if unit.kind is not None and unit.own is not None:
        for name in unit.kind.references(unit.node, unit.own):
            yield name, outer
        for name in unit.kind.targets(unit.node, unit.own):
            yield outer, name


def _adapted(draft: Draft) -> Iterator[tuple[str, OutputBinding]]:
    """Yield the output map with the adapters that the types call for, where the plan gives none."""
    for pointer, bound in draft.output.map.items():
        if bound.node_id in draft.by_id and "adapt" not in bound.model_fields_set:
            try:
                found = fit(draft.promised(bound), part(draft.scene.answer, pointer), draft.scene.answer)
            except KeyError:
                found = None
            if found is not None and found.adapters:
                yield pointer, bound.model_copy(update={"adapt": list(found.adapters)})
                continue
        yield pointer, bound


def _goals(draft: Draft) -> Iterator[Goal]:
    """Yield every mapped place of the answer with how far the types prove it."""
    for pointer, bound in draft.output.map.items():
        try:
            asked = part(draft.scene.answer, pointer)
        except KeyError:
            continue
        place = draft.by_id.get(bound.node_id or "")
        if place is None:
            yield Goal(pointer=pointer, verdict="fits" if bound.node_id is None else "may")
            continue
        output = draft.units[place].node.output
        facet = None if output is None else output.facet or _named(output, bound.pointer)
        found = fit(draft.promised(bound), asked, draft.scene.answer)
        if found.verdict != "clash":
            yield Goal(pointer=pointer, facet=facet, verdict=found.verdict, unproved=list(found.unproved))


def _named(output: NodeOutput, pointer: str) -> str | None:
    name = pointer[1:]
    return name if name in (output.facets or ()) else None


def unused_inputs(nodes: Iterable[PlanNode], bound: Iterable[Binding], scene: Scene) -> list[str]:
    """Return the pointers of the inputs, bundles and documents that no binding reads."""
    read = {binding.from_ for node in nodes for binding in _bindings(node)} | {binding.from_ for binding in bound}
    read.add(asked_count(scene.envelope)[1] or None)
    whole = {pointer for pointer in read if pointer in ("/inputs", "/context", "")}
    return [
        source.pointer
        for source in scene.available.given
        if source.pointer not in read
        and not any(pointer is not None and pointer.startswith(source.pointer + "/") for pointer in read)
        and not any(pointer == "" or source.pointer.startswith(f"{pointer}/") for pointer in whole)
    ]


def _bindings(node: PlanNode) -> Iterator[Binding]:
    yield from node.inputs.values()
    for fed in ("over", "initial"):
        if isinstance(node.own.get(fed), dict):
            yield Binding.model_validate(node.own[fed])
    inner = node.own.get("node")
    for bound in inner.get("inputs", {}).values() if isinstance(inner, dict) else ():
        yield Binding.model_validate(bound)
