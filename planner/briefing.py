"""What a model is shown: the catalogue as far as it matters, the task, the present plan, the shape of the reply."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import orjson

from contracts.capability import CapabilitySpec, Facet
from contracts.envelope import FreeformContract
from contracts.flow_capability import FLOW_PREFIX
from contracts.plan import KindTable, PlanGraph, plan_wire
from planner.draft import Scene
from planner.goals import relevance
from planner.index import PEOPLE
from planner.proposal import NOT_FOR_MODELS, NOT_ITS_OWN
from planner.solve import Problem
from planner.sources import sources
from planner.ungated import ungated

MAX_CAPABILITIES: Final = 120
"""Capabilities that are shown; required, preferred and needed ones first, then by relevance."""
MAX_SCHEMA: Final = 6_000
"""Characters of a facet's or a kind's schema; of a longer one only the names of its members are shown."""
MAX_VALUE: Final = 300
"""Characters of an input's value."""
MAX_MEMBERS: Final = 40
GATE_FIELDS: Final = ("policy_id", "guards", "target")


def quoted(name: str, value: Any) -> str:
    """Return a value as JSON between ``<name>`` and ``</name>``; nothing inside can end it."""
    inside = _json(value).replace("</", "<\\/")
    return f"<{name}>\n{inside}\n</{name}>"


def _json(value: Any) -> str:
    return orjson.dumps(value, option=orjson.OPT_NON_STR_KEYS).decode()


def shown_plan(plan: PlanGraph, kinds: KindTable) -> dict[str, Any]:
    """Return a plan as a model would have written it: without gates, and without what the service fills in."""
    shown = plan_wire(ungated(plan, kinds))
    nodes = [{name: value for name, value in node.items() if name not in NOT_ITS_OWN} for node in shown["nodes"]]
    return {"nodes": nodes, "edges": shown["edges"], "output": shown["output"]}


# --- the catalogue ---------------------------------------------------------------------------------------------------


def catalogue(scene: Scene, problem: Problem) -> dict[str, Any]:
    """Return the permitted capabilities, their facets with schemas, and the permitted kinds with their fields."""
    shown = _chosen(scene, problem)
    named = {name for spec in shown for name in (*spec.produces, *(param.facet for param in spec.consumes.values()))}
    named |= {facet for goal in problem.goals for facet in goal.how}
    return {
        "capabilities": [_capability(spec) for spec in shown],
        "facets": {facet.name: _facet(facet) for facet in scene.index.catalogue.facets if facet.name in named},
        "kinds": _kinds(scene),
    }


def _chosen(scene: Scene, problem: Problem) -> list[CapabilitySpec]:
    selection, shop = scene.envelope.policies.planner.selection, problem.shop
    permitted = [*shop.permitted, *shop.generics, *([shop.people] if shop.people is not None else [])]
    if len(permitted) > MAX_CAPABILITIES:
        wished = {*selection.require, *selection.prefer}
        needed = _needed(problem, permitted)

        def order(spec: CapabilitySpec) -> tuple[bool, bool, float, str]:
            worth = max((relevance(scene, facet, problem.goals) for facet in spec.produces), default=0.0)
            name = spec.capability_id
            return name not in wished and not spec.generic, name not in needed, -worth, name

        permitted.sort(key=order)
    return sorted(permitted[:MAX_CAPABILITIES], key=lambda spec: spec.capability_id)


def _needed(problem: Problem, permitted: Sequence[CapabilitySpec]) -> set[str]:
    """Return the capabilities on some way from what is there to a goal."""
    queue = list(dict.fromkeys(facet for goal in problem.goals for facet in goal.how))
    seen, found = set(queue), set[str]()
    for facet in queue:
        for spec in permitted:
            if facet in spec.produces:
                found.add(spec.capability_id)
                below = [param.facet for param in spec.consumes.values() if param.facet not in seen]
                seen.update(below)
                queue += below
    return found


def _capability(spec: CapabilitySpec) -> dict[str, Any]:
    told: dict[str, Any] = {
        "description": spec.description,
        "effects": "" if spec.effects == "none" else spec.effects,
        "cost": spec.cost,
        "tokens": spec.tokens,
        "latency_ms": spec.latency_ms,
        "quality": spec.quality,
        "generic": spec.generic,
        "batch": spec.batch,
        "asks_people": PEOPLE in spec.requires,
    }
    return {
        "capability_id": spec.capability_id,
        # A stored flow is called like any other; the node that runs it is the service's to write.
        "kind": "call" if spec.capability_id.startswith(FLOW_PREFIX) else spec.kind,
        "consumes": {name: {"facet": at.facet, "required": at.required} for name, at in spec.consumes.items()},
        "produces": list(spec.produces),
        **{name: value for name, value in told.items() if value},
    }


def _facet(facet: Facet) -> dict[str, Any]:
    told = {"description": facet.description, "list_of": facet.list_of}
    return {"schema": _bounded(facet.schema), **{name: value for name, value in told.items() if value}}


def _bounded(schema: Any) -> Any:
    """Return a schema, or just the names of its properties when it is long."""
    if not isinstance(schema, Mapping) or len(_json(schema)) <= MAX_SCHEMA:
        return schema
    names = list(schema.get("properties", {}))[:MAX_MEMBERS]
    kept = {name: schema[name] for name in ("type", "title", "description", "required") if name in schema}
    return {**kept, "properties": dict.fromkeys(names, True)}


def _kinds(scene: Scene) -> dict[str, Any]:
    """Return the kinds that may be used; asking people is one only where the selection allows it."""
    return {
        name: {
            "summary": spec.summary,
            "needs_capability": spec.needs_capability,
            "fields": _bounded(_own_fields(spec.fields.model_json_schema(mode="serialization"))),
        }
        for name, spec in scene.kinds.items()
        if name not in kinds_out(scene)
    }


def kinds_out(scene: Scene) -> set[str]:
    """Return the kinds that a model must not use here."""
    policies = scene.envelope.policies.planner
    people = {"ask"} if policies.selection.humans == "never" else set()
    # Memory is of use only where a scope is named.
    memory = () if scene.envelope.context.memory else (name for name, spec in scene.kinds.items() if spec.remembers)
    return {*policies.topology.forbidden_kinds, *NOT_FOR_MODELS, *people, *memory}


def _own_fields(schema: Mapping[str, Any]) -> dict[str, Any]:
    fields = {name: value for name, value in schema.get("properties", {}).items() if name not in GATE_FIELDS}
    return {**schema, "properties": fields}


# --- the task --------------------------------------------------------------------------------------------------------


def task(scene: Scene, problem: Problem) -> dict[str, Any]:
    """Return what is wanted and what is there: names and types whole, values cut short."""
    envelope, policies = scene.envelope, scene.envelope.policies
    at_hand: dict[str, list[str]] = {}
    for facet, source in scene.available.facets.items():
        at_hand.setdefault(source.pointer, []).append(facet)
    told = {
        "objective": envelope.objective,
        "special_instructions": envelope.special_instructions,
        "constraints": envelope.constraints,
        "directives": policies.directives,
        "given": [_given(source, at_hand.get(source.pointer, [])) for source in sources(envelope)],
        "memory": envelope.context.memory,
        "contract": _contract(scene),
        "goals": [_goal(problem, goal) for goal in problem.goals],
        "policies": {
            "planner": policies.planner.model_dump(mode="json", exclude={"strategy"}, exclude_defaults=True),
            "budget": policies.budget.model_dump(mode="json", include={"tokens", "cost"}, exclude_none=True),
            "timeouts": policies.timeouts.model_dump(mode="json"),
        },
    }
    return {name: value for name, value in told.items() if value}


def _given(source: Any, facets: Iterable[str]) -> dict[str, Any]:
    shown: dict[str, Any] = {"from": source.pointer, "name": source.name, "facets": list(facets)}
    if source.known:
        shown |= {"type": _type(source.value)} | _value(source.value)
    return shown


def _value(value: Any) -> dict[str, Any]:
    text = _json(value)
    if len(text) <= MAX_VALUE:
        return {"value": value}
    cut: dict[str, Any] = {"starts": text[:MAX_VALUE], "characters": len(text)}
    if isinstance(value, Mapping):
        cut["members"] = {name: _type(item) for name, item in list(value.items())[:MAX_MEMBERS]}
    return cut


def _type(value: Any) -> str:
    for types, name in (((bool,), "boolean"), ((int,), "integer"), ((float,), "number"), ((str,), "string")):
        if isinstance(value, types):
            return name
    return "null" if value is None else "object" if isinstance(value, Mapping) else "array"


def _contract(scene: Scene) -> dict[str, Any]:
    contract = scene.envelope.contract
    shown: dict[str, Any] = {"schema": scene.answer}
    if isinstance(contract, FreeformContract):
        shown |= {"instructions": contract.instructions, "expected_format": contract.expected_format}
    return {name: value for name, value in shown.items() if value is not None}


def _goal(problem: Problem, goal: Any) -> dict[str, Any]:
    """Return a part of the answer, the facets it could be, and how many items are asked for."""
    shown: dict[str, Any] = {"pointer": goal.pointer, "facets": list(goal.how)}
    count = problem.counts.get(goal.pointer)
    if count is not None and count.explicit:
        shown["items"] = count.number
    if goal.source is not None:
        shown["from"] = goal.source.pointer
    return shown


# --- the reply -------------------------------------------------------------------------------------------------------

_TEXT: Final = {"type": "string"}
_BINDING: Final = {
    "type": "object",
    "properties": {"from": _TEXT, "node_id": _TEXT, "pointer": _TEXT, "value": {}},
    "additionalProperties": False,
}


def reply_schema(scene: Scene) -> dict[str, Any]:
    """Return the JSON Schema of the reply: structured output for models that can, and told to all."""
    node = {
        "type": "object",
        "required": ["node_id", "kind", "rationale"],
        "properties": {
            "node_id": _TEXT,
            "kind": {"enum": sorted(scene.kinds.keys() - kinds_out(scene))},
            "capability_id": _TEXT,
            "inputs": {"type": "object", "additionalProperties": _BINDING},
            "output": {"type": "object", "properties": {"facet": _TEXT, "schema": {}}},
            "rationale": {"type": "array", "items": _TEXT},
        },
    }
    edge = {
        "type": "object",
        "required": ["from", "to"],
        "properties": {"from": _TEXT, "to": _TEXT, "condition": {"type": ["string", "null"]}},
        "additionalProperties": False,
    }
    places = {"type": "object", "minProperties": 1, "additionalProperties": _BINDING}
    placed = {"type": "object", "required": ["map"], "properties": {"mode": {"const": "map"}, "map": places}}
    return {
        "type": "object",
        "required": ["nodes", "output"],
        "properties": {
            "nodes": {"type": "array", "minItems": 1, "items": node},
            "edges": {"type": "array", "items": edge},
            "output": placed,
        },
        "additionalProperties": False,
    }
