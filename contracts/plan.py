"""The PlanGraph: frozen, hashed, JSON in and out (F4; wire §3).

Shape is read here; meaning (reachability, cycles, capabilities, limits) is checked by ``planner/validate``. Fields
that belong to one kind live in ``PlanNode.model_extra`` and are read by that kind's :class:`KindSpec`, so that a new
kind touches no file but its own and the list of kinds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from typing import Annotated, Any, Final, Literal

import orjson
from pydantic import ConfigDict, Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from contracts.ids import is_node_id
from contracts.wire import Wire

RUN_ROOT: Final = "/run/"
"""An envelope pointer below it is about the run: ``/run/id``, and ``/run/callbacks/<node_id>``, its address."""
Fallback = Literal["retry", "hitl", "abort", "replan", "continue"]
"""What happens when no attempt is left; ``continue``: the node completes with an :func:`error_entry` (R3)."""
_Id = Annotated[str, Field(min_length=1, max_length=128)]


class Binding(Wire):
    """Where a value comes from: an envelope pointer, a node's output, or a literal. Exactly one of them."""

    from_: str | None = None
    node_id: _Id | None = None
    pointer: str = ""
    value: Any = None

    @model_validator(mode="after")
    def _one(self) -> Binding:
        given = [self.from_ is not None, self.node_id is not None, "value" in self.model_fields_set]
        if sum(given) != 1:
            raise PydanticCustomError("ambiguous_binding", "Give exactly one of from, node_id, value.")
        for text in (self.from_ or "", self.pointer):
            if text and not text.startswith("/"):
                raise PydanticCustomError("bad_pointer", "A JSON pointer is empty or starts with a slash.")
        return self

    @property
    def is_value(self) -> bool:
        """Say whether this is a literal."""
        return self.from_ is None and self.node_id is None


class Adapter(Wire):
    """A change of shape on the way into the answer; ``at`` is a pointer, ``*`` stands for every item.

    ``rename`` moves keys as ``names`` says, ``keep`` drops every key that is not in ``keys``, ``wrap`` makes one item a
    list. There are no others.
    """

    op: Literal["rename", "keep", "wrap"]
    at: str = ""
    names: dict[str, str] | None = None
    keys: list[str] | None = None


class OutputBinding(Binding):
    """A binding of a part of the answer, with the adapters that apply to it, in order."""

    adapt: list[Adapter] = Field(default_factory=list)


class OutputMap(Wire):
    """How the answer is composed: pointer into the answer → where it comes from; ``""`` is the whole."""

    mode: Literal["map"] = "map"
    map: Annotated[dict[str, OutputBinding], Field(min_length=1)]


class NodeOutput(Wire):
    """What a node must put out: the facet(s) it is, and the JSON Schema it has to fit (its contract)."""

    facet: str | None = None
    facets: list[str] | None = None
    schema_: dict[str, Any] | bool | None = None


class PlanNode(Wire):
    """One step. Common fields here, the kind's own ones in ``model_extra``."""

    model_config = ConfigDict(extra="allow")

    node_id: _Id
    kind: Annotated[str, Field(min_length=1, max_length=40)]
    capability_id: _Id | None = None
    capability_version: _Id | None = None
    inputs: dict[str, Binding] = Field(default_factory=dict)
    output: NodeOutput | None = None
    max_attempts: Annotated[int, Field(ge=1, le=20)] | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=30 * 86_400)] | None = None
    fallback: Fallback = "abort"
    effects: Literal["none", "idempotent", "once"] = "none"
    rationale: list[str] = Field(default_factory=list)

    @field_validator("node_id")
    @classmethod
    def _node_id(cls, value: str) -> str:
        if not is_node_id(value) or "[" in value:
            raise PydanticCustomError(
                "bad_id", "A node id is 1 to 64 letters, digits, _ . or - and starts with a letter or _."
            )
        return value

    @property
    def own(self) -> dict[str, Any]:
        """Return the fields that belong to the node's kind."""
        return self.model_extra or {}


ERROR_ENTRY: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "node_id"],
            "properties": {"code": {"type": "string"}, "message": {"type": "string"}, "node_id": {"type": "string"}},
        }
    },
}
"""The JSON Schema of :func:`error_entry`."""


def error_entry(node_id: str, code: str, message: str) -> dict[str, Any]:
    """Return what stands for the output of a node that failed and says ``fallback: continue`` (R3)."""
    return {"error": {"code": code, "message": message, "node_id": node_id}}


def definition(node: PlanNode) -> dict[str, Any]:
    """Return what a node is, without why: the same whether the plan was just made or read from its row.

    A stored plan leaves out what is null or empty (:func:`plan_wire`).
    """
    shown = node.model_dump(mode="json", exclude={"rationale"})
    return {name: value for name, value in shown.items() if value is not None and value != []}


class Edge(Wire):
    """An order between two nodes; ``condition`` is CEL over ``nodes`` and ``inputs``, null is always."""

    from_: _Id
    to: _Id
    condition: Annotated[str, Field(min_length=1, max_length=2_000)] | None = None


class Goal(Wire):
    """What the planner took as a goal and how far types prove that its facet fits (rivals: what none has, 12)."""

    pointer: str
    facet: str | None = None
    verdict: Literal["fits", "may"]
    unproved: list[str] = Field(default_factory=list)


class Estimate(Wire):
    """What the plan will take: money, tokens, milliseconds along its longest path."""

    cost: float = 0.0
    tokens: int = 0
    latency_ms: int = 0


class Finding(Wire):
    """One verdict of a validation layer or of the planner (W4)."""

    layer: Literal["structure", "security", "capability", "resource"]
    code: str
    severity: Literal["error", "warning"] = "error"
    message: str
    pointer: str = ""
    node_id: str | None = None
    fix: str | None = None


class PlanGraph(Wire):
    """A plan: nodes, edges, how the answer is composed, and why it looks like that."""

    plan_version: Annotated[int, Field(ge=1)] = 1
    plan_hash: str = ""
    strategy: str = "submitted"
    nodes: Annotated[list[PlanNode], Field(min_length=1)]
    edges: list[Edge] = Field(default_factory=list)
    output: OutputMap
    goals: list[Goal] = Field(default_factory=list)
    unused_inputs: list[str] = Field(default_factory=list)
    estimate: Estimate = Field(default_factory=Estimate)
    findings: list[Finding] = Field(default_factory=list)

    @cached_property
    def by_id(self) -> dict[str, PlanNode]:
        """Return the nodes by id."""
        return {node.node_id: node for node in self.nodes}

    def sealed(self) -> PlanGraph:
        """Return the plan with ``plan_hash`` set: SHA-256 over what runs (nodes, edges, output)."""
        running = {
            "nodes": [node.model_dump(mode="json", exclude={"rationale"}) for node in self.nodes],
            "edges": [edge.model_dump(mode="json") for edge in self.edges],
            "output": {at: _binding_wire(bound) for at, bound in self.output.map.items()},
        }
        digest = sha256(orjson.dumps(running, option=orjson.OPT_SORT_KEYS)).hexdigest()
        return self.model_copy(update={"plan_hash": digest})

    def numbered(self, version: int) -> PlanGraph:
        """Return the plan as this version of a run's plan."""
        copy = self.model_copy(update={"plan_version": version})
        # A copy takes over what was worked out before, and the JSON holds the version.
        copy.__dict__.pop("wire", None)
        return copy

    @cached_property
    def wire(self) -> bytes:
        """Return the plan as JSON bytes, encoded once (unset optional members left out, nulls of edges kept)."""
        return orjson.dumps(plan_wire(self))


def plan_wire(plan: PlanGraph) -> dict[str, Any]:
    """Return the plan as it stands on the wire (§3): absent rather than null, but ``condition`` always there."""
    shown = plan.model_dump(mode="json", exclude_none=True)
    shown["nodes"] = [_node_wire(node) for node in plan.nodes]
    shown["edges"] = [edge.model_dump(mode="json") for edge in plan.edges]
    shown["output"] = {"mode": "map", "map": {at: _binding_wire(bound) for at, bound in plan.output.map.items()}}
    return shown


def _node_wire(node: PlanNode) -> dict[str, Any]:
    shown = {key: value for key, value in node.model_dump(mode="json").items() if value is not None and value != []}
    if node.inputs:
        shown["inputs"] = {name: _binding_wire(bound) for name, bound in node.inputs.items()}
    else:
        shown.pop("inputs", None)
    if node.output is not None:
        shown["output"] = node.output.model_dump(mode="json", exclude_none=True)
    if node.kind == "ask":
        for name in ("fallback", "effects"):
            if name not in node.model_fields_set:
                shown.pop(name, None)
    return shown


def _binding_wire(bound: Binding) -> dict[str, Any]:
    if bound.from_ is not None:
        shown: dict[str, Any] = {"from": bound.from_}
    elif bound.node_id is not None:
        shown = {"node_id": bound.node_id, "pointer": bound.pointer}
    else:
        shown = {"value": bound.value}
    if isinstance(bound, OutputBinding) and bound.adapt:
        shown["adapt"] = [adapter.model_dump(mode="json", exclude_none=True) for adapter in bound.adapt]
    return shown


@dataclass(frozen=True, slots=True)
class KindSpec:
    """What planner and doors know of a node kind: its name, the model of its own fields, what it refers to.

    ``fields`` reads ``PlanNode.own`` (extra forbidden). ``references(node, own)`` returns the ids of the nodes whose
    output it reads besides ``inputs``; ``targets(node, own)`` the ids it leads to (an edge is implied).
    ``needs_capability`` says that ``capability_id`` is required. ``inner(own)`` returns a node that runs inside it.
    ``expressions(own)`` returns (pointer, language, text) of every expression, for compile checks at save time.
    ``waits`` says that its time is spent waiting: no attempts and no time limit are filled in. ``called_back`` says
    that it ends by a callback, so ``/run/callbacks/<node_id>`` is its address. ``fed`` names the own field whose
    binding it is fed by instead of ``inputs``. ``lists(own)`` says whether it puts out the list of what its inner node
    puts out, or one of them. ``subplan(own)`` returns the plan (JSON) that it runs as a child run. ``output`` is the
    JSON Schema that every output of the kind fits, also one that a person gives. ``remembers`` says that it reads or
    writes memory by itself. ``misfits(node, own)`` returns (code, message, pointer below the node) of what does not fit
    together; ``scopes(own)`` (pointer, name) of every scope of memory that it touches.
    ``handles(own)`` returns the node that it stands in for when that has failed. ``place`` says that nothing comes
    before it, or nothing after it, but gates. ``calls(own)`` returns the capabilities that it may call by itself, each
    as a node of its own; ``needs_model`` says that it asks the model.
    """

    name: str
    fields: type[Wire]
    summary: str
    needs_capability: bool = False
    references: Callable[[PlanNode, Any], Sequence[str]] = lambda _node, _own: ()
    targets: Callable[[PlanNode, Any], Sequence[str]] = lambda _node, _own: ()
    inner: Callable[[Any], PlanNode | None] = lambda _own: None
    expressions: Callable[[Any], Sequence[tuple[str, str, str]]] = lambda _own: ()
    waits: bool = False
    called_back: bool = False
    fed: str | None = None
    lists: Callable[[Any], bool] = lambda _own: True
    subplan: Callable[[Any], Any] = lambda _own: None
    output: Mapping[str, Any] | None = None
    remembers: bool = False
    misfits: Callable[[PlanNode, Any], Sequence[tuple[str, str, str]]] = lambda _node, _own: ()
    scopes: Callable[[Any], Sequence[tuple[str, str]]] = lambda _own: ()
    handles: Callable[[Any], str | None] = lambda _own: None
    place: Literal["first", "last"] | None = None
    calls: Callable[[Any], Sequence[str]] = lambda _own: ()
    needs_model: bool = False


KindTable = Mapping[str, KindSpec]
