"""What outputs must fit: a node's own schemas, its facet, and the caller's sub-schema, before it completes (F11).

The caller's sub-schema is taken where the plan's output map puts the node's output, after the adapters of that entry.
Only rules across properties are left for the finish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from contracts.composition import adapt
from contracts.plan import OutputBinding
from contracts.schema import CompiledSchema, compile_schema
from contracts.wire import resolve_pointer
from engine.compiled import CompiledPlan, Step
from engine.held import Hashed, Held

_ROOT_ID = "urn:flex:contract"


@dataclass(frozen=True, slots=True)
class Part:
    """A place of the caller's answer that a node's output fills."""

    binding: OutputBinding
    schema: CompiledSchema

    def view(self, output: Any) -> Any:
        """Return the output as it will stand in the answer; raises ``KeyError`` when the part is not there."""
        return adapt(resolve_pointer(output, self.binding.pointer), self.binding.adapt)


@dataclass(frozen=True, slots=True)
class NodeContract:
    """Everything one node's output is checked against."""

    own: tuple[CompiledSchema, ...] = ()
    parts: tuple[Part, ...] = ()
    shown: Any = field(init=False)
    """one JSON Schema for people and models: what the output must be"""

    def __post_init__(self) -> None:
        """Make once what every attempt's bundle shows."""
        object.__setattr__(self, "shown", self._shown())

    def findings(self, output: Any) -> list[dict[str, Any]]:
        """Return every failing place as wire findings; empty when the output fits. The hot path only asks yes or no."""
        found: list[dict[str, Any]] = []
        for schema in self.own:
            if not schema.is_valid(output):
                found.extend(as_wire(schema, output))
        if found:
            return _distinct(found)
        for part in self.parts:
            found.extend(self._part(part, output))
        return _distinct(found) if found else found

    def _part(self, part: Part, output: Any) -> list[dict[str, Any]]:
        try:
            shown = part.view(output)
        except KeyError:
            message = "The answer needs this part of the output."
            return [{"pointer": part.binding.pointer, "keyword": "required", "message": message}]
        if part.schema.is_valid(shown):
            return []
        at = part.binding.pointer
        return [{**item, "pointer": at + item["pointer"]} for item in as_wire(part.schema, shown)]

    def _shown(self) -> Any:
        schemas = [schema.schema for schema in self.own if schema.schema not in ({}, True)]
        schemas += [
            part.schema.schema
            for part in self.parts
            if part.binding.pointer == "" and not part.binding.adapt and part.schema.schema not in [{}, True, *schemas]
        ]
        if not schemas:
            return {}
        return schemas[0] if len(schemas) == 1 else {"allOf": schemas}


def as_wire(schema: CompiledSchema, value: Any) -> list[dict[str, Any]]:
    """Return a schema's findings as they stand in frames and bundles."""
    return [{"pointer": at.pointer, "keyword": at.keyword, "message": at.message} for at in schema.explain(value)]


def _distinct(found: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    seen: dict[tuple[str, str], dict[str, Any]] = {}
    for item in found:
        seen.setdefault((item["pointer"], item["message"]), item)
    return sorted(seen.values(), key=lambda item: str(item["pointer"]))


@dataclass(slots=True)
class RunContracts:
    """The caller's compiled schema, and each node's contract, worked out when a node first needs it.

    Shared by all runs of the same plan, caller's schema and facets, because compiling costs more than checking.
    """

    caller: CompiledSchema
    facets: Mapping[str, Any]
    _plan: CompiledPlan | None = None
    _nodes: dict[str, NodeContract] = field(default_factory=dict)

    def of(self, step: Step, plan: CompiledPlan) -> NodeContract:
        """Return the contract of a step; map items share their inner node's."""
        if self._plan is not plan:
            self._plan = plan
            self._nodes = _shared(plan.graph.plan_hash, self.caller.content_hash, Held(self.facets))
        name = step.node_id if step.node_id[-1] != "]" else _item_name(step)
        known = self._nodes.get(name)
        if known is None:
            known = self._nodes[name] = self._build(step, plan)
        return known

    def _build(self, step: Step, plan: CompiledPlan) -> NodeContract:
        of_kind = step.kind.spec.output
        own: list[CompiledSchema] = [] if of_kind is None else [compile_schema(dict(of_kind))]
        output = step.node.output
        if output is not None:
            if output.facet is not None and output.facet in self.facets:
                own.append(compile_schema(self.facets[output.facet]))
            if output.schema_ is not None:
                own.append(compile_schema(output.schema_))
        handled = step.handled
        if handled is not None and step.node_id in plan.steps:
            target = self._build(plan.steps[handled], plan)
            return NodeContract((*own, *target.own), (*self._parts(step.node_id, plan), *target.parts))
        return NodeContract(tuple(own), tuple(self._parts(step.node_id, plan)))

    def _parts(self, node_id: str, plan: CompiledPlan) -> list[Part]:
        found = []
        for pointer, binding in plan.graph.output.map.items():
            if binding.node_id == node_id:
                schema = caller_part(self.caller, pointer)
                if schema is not None:
                    found.append(Part(binding, schema))
        return found


@lru_cache(maxsize=512)
def _shared(_plan_hash: str, _caller_hash: str, _facets: Held[Mapping[str, Any]]) -> dict[str, NodeContract]:
    return {}


def _item_name(step: Step) -> str:
    """Return one name for all items of a map; of the calls of a chat for those of one capability."""
    name = step.node_id.split("[", 1)[0] + "[]" * step.node_id.count("[")
    return f"{name} {step.node.capability_id} {step.node.capability_version}"


def caller_part(caller: CompiledSchema, pointer: str) -> CompiledSchema | None:
    """Return the caller's schema for one place of the answer, or None when it says nothing about it."""
    return _caller_part(caller.content_hash, pointer, Hashed(caller))


@lru_cache(maxsize=1_024)
def _caller_part(_content_hash: str, pointer: str, held: Hashed[CompiledSchema]) -> CompiledSchema | None:
    root = held.value.schema
    if pointer == "":
        return held.value
    if not isinstance(root, dict):
        return None
    path = "".join(f"/properties/{part}" for part in pointer[1:].split("/"))
    try:
        part = resolve_pointer(root, path)
    except KeyError:
        return None
    if not _refers(part):
        dialect = {"$schema": root["$schema"]} if "$schema" in root and isinstance(part, dict) else {}
        return compile_schema({**dialect, **part} if isinstance(part, dict) else part)
    embedded = {"$id": _ROOT_ID, **root}
    escaped = path.replace("%", "%25")
    wrapper = {"$defs": {"contract": embedded}, "$ref": f"{embedded['$id']}#{escaped}"}
    return compile_schema({"$schema": root["$schema"], **wrapper} if "$schema" in root else wrapper)


def _refers(schema: Any) -> bool:
    """Say whether a schema holds a reference, which needs its root."""
    stack = [schema]
    while stack:
        item = stack.pop()
        if isinstance(item, dict):
            if "$ref" in item or "$dynamicRef" in item:
                return True
            stack.extend(item.values())
        elif isinstance(item, list):
            stack.extend(item)
    return False
