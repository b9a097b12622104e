"""Layer 1, structure: shape, references, cycles, reachability, expressions (W4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

from contracts.expressions import ExpressionRefused, compile_cel, compile_jsonata
from contracts.plan import RUN_ROOT, Binding, Finding
from contracts.wire import pointer_of
from planner.draft import Draft, Unit, handlers_of
from planner.sources import resolve

CALLBACKS: Final = f"{RUN_ROOT}callbacks/"


def duplicate_ids(draft: Draft) -> Iterator[Finding]:
    """Two nodes with one id."""
    for place, unit in enumerate(draft.units):
        if draft.by_id[unit.node.node_id] != place:
            yield unit.finding(
                "structure", "duplicate_id", f"Another node is called {unit.node.node_id!r}.", "/node_id"
            )


def kinds(draft: Draft) -> Iterator[Finding]:
    """A kind that does not exist, or fields that the kind does not have."""
    for unit in draft.everyone():
        if unit.kind is None:
            known = ", ".join(sorted(draft.scene.kinds))
            yield unit.finding(
                "structure", "unknown_kind", f"There is no kind {unit.node.kind!r}.", "/kind", f"One of {known}."
            )
        for problem in unit.problems:
            yield Finding(
                layer="structure",
                code=problem.code,
                message=problem.message,
                pointer=problem.pointer,
                node_id=unit.node.node_id,
            )


def inner_nodes(draft: Draft) -> Iterator[Finding]:
    """A node inside a map that leads elsewhere or holds a node itself."""
    for unit in draft.inner.values():
        if unit.kind is None or unit.own is None:
            continue
        if unit.kind.targets(unit.node, unit.own) or "node" in unit.node.own:
            message = f"A {unit.node.kind} cannot run inside a {draft.units[unit.place].node.kind}."
            yield unit.finding("structure", "inner_node_invalid", message, "/kind")


def misfits(draft: Draft) -> Iterator[Finding]:
    """Fields and inputs of a node that do not fit together, as its kind has it."""
    for unit in draft.everyone():
        if unit.kind is not None and unit.own is not None:
            for code, message, below in unit.kind.misfits(unit.node, unit.own):
                yield unit.finding("structure", code, message, below)


def handlers(draft: Draft) -> Iterator[Finding]:
    """A node with two handlers, or one that has none: what unfolds, leads, or asks for a policy."""
    first = handlers_of(draft)
    for unit in draft.units:
        target = None if unit.kind is None or unit.own is None else unit.kind.handles(unit.own)
        place = draft.by_id.get(target or "")
        if target is None or place is None:
            continue
        if first[target] != unit.node.node_id:
            message = f"{target!r} has a handler already: {first[target]!r}."
            yield unit.finding("structure", "handler_twice", message, "/handles")
        why = _unhandled(draft.units[place])
        if why is not None:
            message = f"{target!r} {why}, so nothing can stand in for it."
            fix = "Put it into a subflow, and handle that."
            yield unit.finding("structure", "handler_misplaced", message, "/handles", fix)


def _unhandled(unit: Unit) -> str | None:
    """Return why a node cannot have a handler, None when it can."""
    if "guards" in unit.node.own:
        return "is a gate"
    if unit.kind is None or unit.own is None:
        return None
    if "node" in unit.node.own:
        return "has a node inside"
    if unit.kind.targets(unit.node, unit.own):
        return "chooses a way"
    return None


def places(draft: Draft) -> Iterator[Finding]:
    """A start that something comes before, an end that something comes after, gates aside; or a second start."""
    gates = {unit.node.node_id for unit in draft.units if "guards" in unit.node.own}
    started = False
    after = {edge.to for edge in draft.edges if edge.from_ not in gates}
    before = {edge.from_ for edge in draft.edges if edge.to not in gates}
    for unit in draft.units:
        place = None if unit.kind is None else unit.kind.place
        if place == "first":
            if unit.node.node_id in after:
                yield unit.finding("structure", "start_not_first", "Something comes before this start.")
            if started:
                yield unit.finding("structure", "start_twice", "The plan has another start.")
            started = True
        if place == "last" and unit.node.node_id in before:
            yield unit.finding("structure", "end_not_last", "Something comes after this end.")


def edges(draft: Draft) -> Iterator[Finding]:
    """An edge from or to a node that does not exist."""
    for place, edge in enumerate(draft.edges):
        for side, name in (("from", edge.from_), ("to", edge.to)):
            if name not in draft.by_id:
                pointer = f"{draft.at}/edges/{place}/{side}"
                yield Finding(
                    layer="structure", code="dangling_edge", message=f"There is no node {name!r}.", pointer=pointer
                )


def references(draft: Draft) -> Iterator[Finding]:
    """An input, or a field of the kind, that names a node or a part of the envelope that is not there."""
    for unit in draft.everyone():
        for name, bound in unit.node.inputs.items():
            if bound.from_ is not None or bound.node_id not in draft.by_id:
                yield from _binding(draft, unit, bound, pointer_of(["inputs", name]), _is_optional(unit, name))
        if unit.kind is None or unit.own is None:
            continue
        fed = getattr(unit.own, unit.kind.fed, None) if unit.kind.fed is not None else None
        if isinstance(fed, Binding) and fed.from_ is not None:
            yield from _binding(draft, unit, fed, f"/{unit.kind.fed}", optional=False)
        for name in (*unit.kind.references(unit.node, unit.own), *unit.kind.targets(unit.node, unit.own)):
            if name not in draft.by_id:
                yield unit.finding("structure", "dangling_reference", f"There is no node {name!r}.")


def _is_optional(unit: Unit, name: str) -> bool:
    param = unit.spec.consumes.get(name) if unit.spec is not None else None
    return param is not None and not param.required


def _binding(draft: Draft, unit: Unit, bound: Binding, below: str, optional: bool) -> Iterator[Finding]:
    if bound.node_id is not None and bound.node_id not in draft.by_id:
        yield unit.finding("structure", "dangling_reference", f"There is no node {bound.node_id!r}.", below)
    missing = None if bound.from_ is None else _missing(draft, bound.from_)
    if missing is not None:
        found = unit.finding("structure", *missing, below)
        harmless = optional and found.code == "dangling_input"
        yield found.model_copy(update={"severity": "warning"}) if harmless else found


def _missing(draft: Draft, pointer: str) -> tuple[str, str] | None:
    """Return a code and why, when an envelope pointer leads nowhere."""
    if f"{pointer}/".startswith(RUN_ROOT):
        return _missing_of_run(draft, pointer)
    try:
        resolve(draft.scene.envelope, pointer)
    except KeyError:
        return "dangling_input", f"The envelope has nothing at {pointer!r}."
    return None


def _missing_of_run(draft: Draft, pointer: str) -> tuple[str, str] | None:
    """Return what is wrong with a pointer about the run: its id, or the address of a node that is called back."""
    of_callback = pointer.removeprefix(CALLBACKS)
    if pointer == f"{RUN_ROOT}id":
        return None
    if of_callback == pointer:
        return "dangling_reference", f"{RUN_ROOT} holds id and callbacks/<node_id>, not {pointer!r}."
    place = draft.by_id.get(of_callback)
    if place is None:
        return "dangling_reference", f"There is no node {of_callback!r}."
    kind = draft.units[place].kind
    if kind is None or not kind.called_back:
        return "not_called_back", f"{of_callback!r} is no node that is called back."
    return None


def output_map(draft: Draft) -> Iterator[Finding]:
    """An output map that points to nothing, or leaves a part of the answer out."""
    for pointer, bound in draft.output.map.items():
        at = draft.at + pointer_of(["output", "map", pointer])
        if pointer and not pointer.startswith("/"):
            message = "A key of the map is a JSON pointer: empty, or starting with a slash."
            yield Finding(layer="structure", code="bad_pointer", message=message, pointer=at)
        if bound.node_id is not None and bound.node_id not in draft.by_id:
            message = f"There is no node {bound.node_id!r}."
            yield Finding(layer="structure", code="dangling_reference", message=message, pointer=at)
        missing = None if bound.from_ is None else _missing(draft, bound.from_)
        if missing is not None:
            yield Finding(layer="structure", code=missing[0], message=missing[1], pointer=at)


def cycles(draft: Draft) -> Iterator[Finding]:
    """Nodes that wait for each other, nodes that only such nodes lead to, and a plan without an end."""
    if len(draft.order) == len(draft.units):
        return
    stuck = set(range(len(draft.units))) - set(draft.order)
    inside = _inside(draft, stuck)
    names = [draft.units[place].node.node_id for place in sorted(inside)]
    shown = " → ".join(names[:10]) + (" → …" if len(names) > 10 else "")
    first = draft.units[min(inside)]
    yield first.finding(
        "structure", "cycle", f"These nodes wait for each other: {shown}.", fix="Remove an edge between them."
    )
    for place in sorted(stuck - inside):
        unit = draft.units[place]
        yield unit.finding(
            "structure", "unreachable", f"{unit.node.node_id!r} is never reached: a cycle comes before it."
        )
    if all(draft.onward):
        message = "No node ends the plan."
        yield Finding(layer="structure", code="no_terminal", message=message, pointer=f"{draft.at}/edges")


def _inside(draft: Draft, stuck: set[int]) -> set[int]:
    """Return the stuck nodes from which a stuck node is reachable for ever: the cycles and what joins them."""
    count = {place: sum(end in stuck for end in draft.onward[place]) for place in stuck}
    before: dict[int, list[int]] = {place: [] for place in stuck}
    for place in stuck:
        for end in draft.onward[place]:
            if end in stuck:
                before[end].append(place)
    leaves = [place for place, ways in count.items() if ways == 0]
    for leaf in leaves:
        for place in before[leaf]:
            count[place] -= 1
            if count[place] == 0:
                leaves.append(place)
    return stuck - set(leaves)


def idle_nodes(draft: Draft) -> Iterator[Finding]:
    """A node whose output nobody reads and that does nothing to the world."""
    read = {bound.node_id for bound in draft.output.map.values()}
    for place, unit in enumerate(draft.units):
        ends = not draft.onward[place] and unit.node.node_id not in read
        if ends and unit.spec is not None and unit.spec.effects == "none":
            message = f"Nothing uses the output of {unit.node.node_id!r}."
            found = unit.finding("structure", "idle_node", message, fix="Remove it, or map it into the answer.")
            yield found.model_copy(update={"severity": "warning"})


def conditions(draft: Draft) -> Iterator[Finding]:
    """A condition on an edge that does not compile, or names a node that is not there."""
    for place, edge in enumerate(draft.edges):
        if edge.condition is not None:
            pointer = f"{draft.at}/edges/{place}/condition"
            yield from _expression(draft, "cel", edge.condition, pointer, None)


def expressions(draft: Draft) -> Iterator[Finding]:
    """An expression of a node that does not compile, or names a node that is not there."""
    for unit in draft.everyone():
        if unit.kind is not None and unit.own is not None:
            for below, language, text in unit.kind.expressions(unit.own):
                yield from _expression(draft, language, text, unit.pointer + below, unit.node.node_id)


def _expression(draft: Draft, language: str, text: str, pointer: str, node_id: str | None) -> Iterator[Finding]:
    unknown: Sequence[str] = ()
    try:
        if language == "cel":
            unknown = sorted(compile_cel(text).names - draft.by_id.keys())
        else:
            compile_jsonata(text)
    except ExpressionRefused as refused:
        place = "" if refused.column is None else f" (column {refused.column})"
        message = refused.message.rstrip(".") + place + "."
        yield Finding(layer="structure", code="bad_expression", message=message, pointer=pointer, node_id=node_id)
    for name in unknown:
        message = f"The condition names {name!r}, which is no node."
        yield Finding(layer="structure", code="unknown_node", message=message, pointer=pointer, node_id=node_id)


def gate_policies(draft: Draft) -> Iterator[Finding]:
    """A gate whose policy is not in the envelope."""
    rules = {rule.id for rule in draft.scene.envelope.policies.gates()}
    for unit in draft.everyone():
        policy = unit.node.own.get("policy_id")
        if policy is not None and unit.own is not None and policy not in rules:
            message = f"The envelope has no hitl policy {policy!r}."
            yield unit.finding(
                "structure", "unknown_policy", message, "/policy_id", "Add it, or give the node a prompt."
            )


CHECKS: Final = (
    duplicate_ids,
    kinds,
    inner_nodes,
    misfits,
    handlers,
    places,
    edges,
    references,
    output_map,
    cycles,
    idle_nodes,
    conditions,
    expressions,
    gate_policies,
)
