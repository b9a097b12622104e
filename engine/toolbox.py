"""Capabilities as a model sees them: tools with a name, a description and the schema of their arguments (W6)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

import orjson
from pydantic import Field

from contracts.capability import Capability, CapabilityDirectory, CapabilitySpec, identity
from contracts.outcome import Asked
from contracts.ports import Tool, ToolCall
from contracts.schema import CompiledSchema, compile_schema
from contracts.schema_embed import EMBEDDED_ID, embedded
from contracts.wire import Wire, deep_place, has_nul

COUNT: Final = "count"
"""The parameter by which a batch capability is told how many items to make."""
LONGEST_NAME: Final = 64
MAX_ARGUMENTS: Final = 200_000
MAX_FAULTS: Final = 5
_NOT_IN_NAMES: Final = re.compile(r"[^A-Za-z0-9_-]")


class FlowTool(Wire):
    """A plan that the model may ask to be run; ``inputs`` is the JSON Schema of what it takes, an object."""

    name: Annotated[str, Field(min_length=1, max_length=200)]
    description: Annotated[str, Field(max_length=2_000)] = ""
    inputs: dict[str, Any] = Field(default_factory=dict)
    plan: dict[str, Any]

    @property
    def parameters(self) -> dict[str, Any]:
        """Return the schema of its arguments."""
        return {"type": "object", **self.inputs}

    @property
    def effects(self) -> str:
        """Return what its (completed) plan does to the world: the most that one of its nodes does."""
        found = {node.get("effects", "none") for node in self.plan["nodes"]}
        return next((effects for effects in ("once", "idempotent") if effects in found), "none")


@dataclass(frozen=True, slots=True)
class Offer:
    """What the model may ask for: a capability, or a plan."""

    tool: Tool
    arguments: CompiledSchema
    behind: Capability | FlowTool


def tool_names(capability_ids: Sequence[str]) -> dict[str, str]:
    """Return tool name → capability: what endpoints do not take in a name becomes ``_``; doubles get a number."""
    names: dict[str, str] = {}
    for capability_id in capability_ids:
        plain = _NOT_IN_NAMES.sub("_", capability_id)[:LONGEST_NAME]
        name, number = plain, 1
        while name in names:
            number += 1
            name = f"{plain[: LONGEST_NAME - 4]}_{number}"
        names[name] = capability_id
    return names


def toolbox(
    capability_ids: Sequence[str], directory: CapabilityDirectory, flows: Sequence[FlowTool] = ()
) -> dict[str, Offer]:
    """Return tool name → offer, newest versions; a capability that is not active now is not offered."""
    facets = {facet.name: facet.schema for facet in directory.catalogue().facets}
    offers = {}
    names = list(tool_names([*capability_ids, *(flow.name for flow in flows)]))
    for name, capability_id in zip(names, capability_ids, strict=False):
        capability = directory.find(capability_id)
        if capability is not None:
            parameters = parameters_of(capability.spec, facets)
            tool = Tool(name, capability.spec.description or capability_id, parameters)
            offers[name] = Offer(tool, compile_schema(parameters), capability)
    for name, flow in zip(names[len(capability_ids) :], flows, strict=True):
        tool = Tool(name, f"{flow.name}. {flow.description}".strip(), flow.parameters)
        offers[name] = Offer(tool, compile_schema(flow.parameters), flow)
    return offers


def parameters_of(spec: CapabilitySpec, facets: Mapping[str, Any]) -> dict[str, Any]:
    """Return the JSON Schema of a capability's inputs; one that declares none takes any."""
    properties: dict[str, Any] = {}
    for name, param in spec.consumes.items():
        part = embedded(facets.get(param.facet, True), f"#/properties/{name}")
        if isinstance(part, dict) and part.get("$id") == EMBEDDED_ID:
            part = {**part, "$id": f"urn:flex:facet:{param.facet}"}
        # Endpoints want an object where JSON Schema would also take a boolean.
        properties[name] = {} if part is True else part
    if spec.batch:
        properties.setdefault(COUNT, {"type": "integer", "minimum": 1, "maximum": 100})
    required = [name for name, param in spec.consumes.items() if param.required]
    shown = {"type": "object", "properties": properties, "required": required}
    return shown if spec.generic or not spec.consumes else {**shown, "additionalProperties": False}


def asked(call: ToolCall, offers: Mapping[str, Offer]) -> Asked:
    """Return what becomes of a call: the node that runs it, or why there is none."""
    offer = offers.get(call.name)
    if offer is None:
        known = ", ".join(sorted(offers)) or "none"
        return _refused(call, f"There is no tool {call.name[:100]!r}. There are: {known}.")
    if len(call.arguments) > MAX_ARGUMENTS:
        return _refused(call, f"The arguments are longer than {MAX_ARGUMENTS:,} characters.")
    try:
        value = orjson.loads(call.arguments or "{}")
    except orjson.JSONDecodeError as error:
        return _refused(call, f"The arguments are not JSON: {error}.")
    problem = _problem(value, offer)
    return _refused(call, problem) if problem is not None else _called(call, value, offer)


def _problem(value: Any, offer: Offer) -> str | None:
    """Return what is wrong with arguments, as a sentence for the model."""
    if not isinstance(value, dict):
        return "The arguments are not an object."
    if deep_place(value) is not None or has_nul(value):
        return "The arguments are nested too deeply, or hold a NUL character."
    faults = offer.arguments.explain(value, MAX_FAULTS)
    if not faults:
        return None
    return "The arguments do not fit. " + " ".join(f"At {at.pointer or '/'}: {at.message}" for at in faults)


def _called(call: ToolCall, value: dict[str, Any], offer: Offer) -> Asked:
    behind = offer.behind
    if isinstance(behind, FlowTool):
        inputs = {name: {"value": value[name]} for name in value}
        run = {"kind": "subflow", "plan": behind.plan, "effects": behind.effects, "inputs": inputs}
        return Asked(call.call_id, call.name, call.arguments, run, None, offer.arguments.schema)
    spec = behind.spec
    given = {COUNT: 1, **value} if spec.batch else value
    node: dict[str, Any] = {
        "kind": "call",
        "capability_id": spec.capability_id,
        "capability_version": spec.version,
        "effects": spec.effects,
        "inputs": {name: {"value": given[name]} for name in given},
    }
    if len(spec.produces) == 1:
        node["output"] = {"facet": spec.produces[0]}
    shown_as = identity(behind)
    return Asked(call.call_id, call.name, call.arguments, node, None, offer.arguments.schema, shown_as)


def _refused(call: ToolCall, why: str) -> Asked:
    return Asked(call.call_id, call.name, call.arguments[:MAX_ARGUMENTS], error=why)
