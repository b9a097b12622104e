"""Plans that a model writes: what it said, read and checked (F4, F5).

A reply is any JSON value. What comes out is a sealed plan that every check of every other plan has passed, or findings;
nothing here raises for what a model says.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final

import orjson

from contracts.plan import Binding, Finding, NodeOutput, OutputBinding, PlanGraph, PlanNode
from contracts.ports import Planned, Unplannable
from contracts.schema import compile_schema
from contracts.wire import MAX_DEPTH, deep_place, has_nul, pointer_of
from planner.checking import check_plan
from planner.draft import Draft, Scene, spec_of
from planner.index import PEOPLE
from planner.offers import as_subflow
from planner.schemas import Schema, follow, part, standalone
from planner.sealing import sealed
from planner.solve import Problem, pose
from planner.sources import UNKNOWN, resolve
from planner.submitted import draft_of, read_plan
from planner.subplans import with_subplans
from planner.validate.capability import COUNT
from planner.writers import fallback_of

STRATEGY: Final = "model"
NOT_ITS_OWN: Final = frozenset(
    {"capability_version", "max_attempts", "timeout_seconds", "fallback", "effects", "policy_id", "guards", "target"}
)
"""Members of a node that are the service's to say: policies, versions and effects are never a model's choice.

How long a node without a capability waits is the plan's business, so there ``timeout_seconds`` stays.
"""
NOT_FOR_MODELS: Final[Mapping[str, tuple[str, str, str]]] = {
    "subflow": ("nested_plan", "A subflow holds a plan of its own.", "Put its nodes into this plan."),
    "chat": ("open_ended", "A chat decides by itself what it calls.", "Call the capabilities as nodes of this plan."),
}
"""Kinds that hide what will run: code, message and fix. A model writes it into its plan, where policies are checked."""
MAX_REASONS: Final = 5
MAX_REASON: Final = 500


def read_proposal(said: Any, scene: Scene) -> Planned | Unplannable:
    """Return the plan in a reply, complete, gated and sealed, or everything that is wrong with it."""
    answer = _read(said, scene)
    return answer if isinstance(answer, Planned) else Unplannable(tuple(_clipped(each) for each in answer.findings))


def _clipped(finding: Finding) -> Finding:
    """Return a finding that a frame can carry, however long the names were that the model made up."""
    if len(finding.message) <= MAX_REASON and len(finding.pointer) <= MAX_REASON:
        return finding
    return finding.model_copy(
        update={"message": finding.message[:MAX_REASON], "pointer": finding.pointer[:MAX_REASON], "node_id": None}
    )


def _read(said: Any, scene: Scene) -> Planned | Unplannable:
    unfit = _unspeakable(said)
    if unfit is not None:
        return Unplannable((unfit,))
    read = read_plan(_own_words(said, scene), "")
    if isinstance(read, tuple):
        return Unplannable(read)
    problem = pose(scene)
    plan, inside = with_subplans(_contracted(_repeated(read, scene), problem), scene, "", check_plan)
    draft = draft_of(plan, scene, "")
    draft.derived = [
        *inside,
        *_people(draft),
        *_nested(draft),
        *_given(draft),
        *(f for f in problem.findings if f.severity != "error"),
    ]
    return sealed(draft, STRATEGY)


def _finding(code: str, message: str, pointer: str = "", fix: str | None = None, layer: Any = "structure") -> Finding:
    return Finding(layer=layer, code=code, message=message, pointer=pointer, fix=fix)


def _unspeakable(said: Any) -> Finding | None:
    """Find what no frame could carry and no database could keep."""
    try:
        text = orjson.dumps(said)
    except TypeError as error:
        # Depth, integers beyond 64 bits, half a surrogate pair: parsers of model replies let them through.
        if deep_place(said) is not None:
            return _finding("too_deep", f"The reply is nested over {MAX_DEPTH} levels.", deep_place(said) or "")
        return _finding("bad_text", f"The reply cannot be written as JSON: {error}.")
    place = deep_place(said)
    if place is not None:
        return _finding("too_deep", f"The reply is nested over {MAX_DEPTH} levels.", place)
    if b"\\u0000" in text and has_nul(said):
        return _finding("bad_text", "The reply holds a NUL character; no database stores it.")
    return None


def _own_words(said: Any, scene: Scene) -> Any:
    """Return the plan in a reply without what is not the model's to say; any other shape is left for the reader."""
    if isinstance(said, dict) and isinstance(said.get("plan"), dict) and "nodes" not in said:
        said = said["plan"]
    if not isinstance(said, dict):
        return said
    kept = {name: said[name] for name in ("nodes", "edges", "output") if said.get(name) is not None}
    if isinstance(kept.get("nodes"), list):
        kept["nodes"] = [_own_node(node, scene) for node in kept["nodes"]]
    return kept


def _own_node(node: Any, scene: Scene) -> Any:
    if not isinstance(node, dict):
        return node
    ours = NOT_ITS_OWN if node.get("capability_id") is not None else NOT_ITS_OWN - {"timeout_seconds"}
    kept = {name: value for name, value in node.items() if name not in ours and value is not None}
    kept = as_subflow(kept, scene)
    reasons = kept.pop("rationale", [])
    reasons = [reasons] if isinstance(reasons, str) else reasons
    if isinstance(reasons, list):
        kept["rationale"] = [text[:MAX_REASON] for text in reasons if isinstance(text, str)][:MAX_REASONS]
    if isinstance(kept.get("node"), dict):
        kept["node"] = {name: value for name, value in _own_node(kept["node"], scene).items() if name != "fallback"}
    if kept.get("kind") != "ask":
        kept["fallback"] = fallback_of(scene)
    return kept


def _repeated(plan: PlanGraph, scene: Scene) -> PlanGraph:
    """Return the plan with completed nodes as they ran, where the model repeats them: it need not copy every word."""
    if not scene.done:
        return plan
    nodes = []
    for node in plan.nodes:
        ran = scene.done.get(node.node_id)
        same = ran is not None and (ran.kind, ran.capability_id) == (node.kind, node.capability_id)
        nodes.append(ran if ran is not None and same else node)
    return plan.model_copy(update={"nodes": nodes})


# --- what the answer asks of the nodes that make it ------------------------------------------------------------------


def _contracted(plan: PlanGraph, problem: Problem) -> PlanGraph:
    """Return the plan with the contracts that the search would give: exact counts, the caller's shape (R6, R7)."""
    places: dict[str, list[tuple[str, OutputBinding]]] = {}
    for pointer, bound in plan.output.map.items():
        if bound.node_id is not None:
            places.setdefault(bound.node_id, []).append((pointer, bound))
    nodes = [_node_contract(node, places.get(node.node_id, []), problem) for node in plan.nodes]
    return plan.model_copy(update={"nodes": nodes})


def _node_contract(node: PlanNode, places: list[tuple[str, OutputBinding]], problem: Problem) -> PlanNode:
    spec = spec_of(problem.scene.index, node)
    if spec is None or not places or (node.output is not None and node.output.schema_ is not None):
        return node
    if spec.generic:
        schema = _asked(places, problem)
        return node if schema is None else node.model_copy(update={"output": NodeOutput(schema_=schema)})
    whole = [pointer for pointer, bound in places if bound.pointer == ""]
    if len(spec.produces) != 1 or not whole:
        return node
    return _counted(node, spec.produces[0], whole[0], problem, batch=spec.batch)


def _asked(places: list[tuple[str, OutputBinding]], problem: Problem) -> Any:
    """Return the schema of what a generic node has to write: one part of the answer, or an object of several."""
    scene = problem.scene
    parts = {bound.pointer: _part(scene, pointer, problem) for pointer, bound in places}
    if "" in parts:
        return _plain(standalone(parts[""], scene.answer)) if len(parts) == 1 else None
    names = {pointer: pointer[1:].replace("~1", "/").replace("~0", "~") for pointer in parts if "/" not in pointer[1:]}
    if len(names) < len(parts):
        return None
    whole = {names[pointer]: schema for pointer, schema in parts.items()}
    schema = {"type": "object", "required": list(whole), "properties": whole, "additionalProperties": False}
    return standalone(schema, scene.answer)


def _part(scene: Scene, pointer: str, problem: Problem) -> Schema:
    try:
        schema = part(scene.answer, pointer)
    except KeyError:
        return True  # the check of the answer says that the contract forbids it
    count = problem.counts.get(pointer)
    if count is None or not count.explicit or not isinstance(schema, Mapping):
        return schema
    return {**schema, "minItems": count.number, "maxItems": count.number}


def _counted(node: PlanNode, facet: str, pointer: str, problem: Problem, *, batch: bool) -> PlanNode:
    """Return a node that makes a list with its number of items: told to a batch capability, demanded of all."""
    count, schema = problem.counts.get(pointer), problem.scene.index.schema(facet)
    if count is None or not isinstance(schema, Mapping):
        return node
    number, update = count.number, {}
    if batch:
        told = node.inputs.get(COUNT)
        if told is not None and told.is_value and type(told.value) is int and not count.explicit:
            number = told.value
        elif told is None or told.is_value:
            update["inputs"] = {**node.inputs, COUNT: Binding(value=number)}
        else:
            return node
    elif not count.explicit:
        return node
    exact = {**schema, "minItems": number, "maxItems": number}
    return node.model_copy(update={**update, "output": NodeOutput(facet=facet, schema_=exact)})


def _plain(schema: Any) -> Any:
    return dict(schema) if isinstance(schema, Mapping) else schema


# --- checks that only concern what a model wrote ---------------------------------------------------------------------


def _people(draft: Draft) -> Iterator[Finding]:
    """Find people in a plan where the selection says that planning does without them; gates are not planned."""
    if draft.scene.envelope.policies.planner.selection.humans != "never":
        return
    for unit in draft.everyone():
        by_call = unit.spec is not None and PEOPLE in unit.spec.requires
        if by_call or unit.node.kind == "ask":
            message = f"{unit.node.node_id!r} asks people, and the selection says humans: never."
            yield unit.finding("security", "people_not_allowed", message, fix="Use another capability.")


def _nested(draft: Draft) -> Iterator[Finding]:
    """Find nodes that hide what will run: plans inside the plan, and chats."""
    for unit in draft.everyone():
        if unit.node.kind in NOT_FOR_MODELS and unit.node.capability_id not in draft.scene.index.flows:
            code, message, fix = NOT_FOR_MODELS[unit.node.kind]
            yield unit.finding("structure", code, message, "/kind", fix)


def _given(draft: Draft) -> Iterator[Finding]:
    """Find parts of the answer that are literals, or values of the envelope that do not fit the contract."""
    root = draft.scene.answer
    for pointer, bound in draft.output.map.items():
        at = pointer_of(["output", "map", pointer])
        if bound.is_value:
            message = "The answer is made by nodes or taken from the task, never written into the plan."
            yield _finding("literal_output", message, at, "Bind a node or a part of the task.", "security")
        elif bound.from_ is not None and not bound.adapt:
            yield from _misfit(draft, root, pointer, bound.from_, at)


def _misfit(draft: Draft, root: Schema, pointer: str, source: str, at: str) -> Iterator[Finding]:
    try:
        value, schema = resolve(draft.scene.envelope, source), part(root, pointer)
    except KeyError:
        return  # the checks of every plan name what is not there
    if value is UNKNOWN:
        return
    found = compile_schema(_plain(standalone(follow(schema, root), root))).explain(value, 1)
    if found:
        message = f"{source} cannot be {pointer or 'the answer'!r}: {found[0].message}"
        yield _finding("output_clash", message, at, layer="capability")
