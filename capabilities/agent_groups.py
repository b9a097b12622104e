"""Groups: agents one after the other and beside each other, from ``flows/*.yaml``, as a plan like any other (R3).

A member that fails stops nobody: an error entry stands for its output. Only the flow's last member, whose output is the
result, and members that say ``required``, end the run when they fail.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from capabilities.located_yaml import Located, YamlFault, read_yaml
from capabilities.markdown_agent import AGENT_ID, PREFIX, AgentId
from contracts.agents import AgentFault, GroupFlow
from contracts.capability import CapabilitySpec
from contracts.errors import FlowInvalid
from contracts.flows import FlowDocument, FlowSettings
from contracts.plan import Binding
from contracts.wire import Wire, read_model

MAX_MEMBERS: Final = 200
INPUT: Final = "input"
PREVIOUS: Final = "previous"
_Name = Annotated[str, Field(min_length=1, max_length=48, pattern=r"^[A-Za-z_][A-Za-z0-9_.-]*$")]
_Token = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")]


class Step(Wire):
    """Exactly one of an agent, a sequence and a parallel group; a text alone is an agent.

    ``as`` is the node's name. ``inputs`` are bindings as in a plan; without them a member gets what its parameters
    name, or, if it names none, the run's required inputs, ``input`` (all of them) and ``previous``. ``output`` is the
    JSON Schema of what it must put out.
    """

    agent: _Token | None = None
    sequence: Annotated[list[Step], Field(min_length=1, max_length=MAX_MEMBERS)] | None = None
    parallel: Annotated[list[Step], Field(min_length=1, max_length=MAX_MEMBERS)] | None = None
    as_: _Name | None = None
    inputs: dict[str, Binding] | None = None
    output: dict[str, Any] | None = None
    required: bool = False
    max_attempts: Annotated[int, Field(ge=1, le=20)] | None = None
    timeout_seconds: Annotated[float, Field(gt=0, le=30 * 86_400)] | None = None

    @model_validator(mode="before")
    @classmethod
    def _short(cls, data: Any) -> Any:
        return {"agent": data} if isinstance(data, str) else data

    @model_validator(mode="after")
    def _one(self) -> Step:
        if sum(part is not None for part in (self.agent, self.sequence, self.parallel)) != 1:
            raise PydanticCustomError("ambiguous_step", "Give exactly one of agent, sequence, parallel.")
        own = {"inputs", "output", "max_attempts", "timeout_seconds", "required"} & self.model_fields_set
        if self.agent is None and own:
            name = min(own)
            raise PydanticCustomError("ambiguous_step", "{key} belongs to an agent.", {"key": name})
        return self


class GroupFile(Wire):
    """A file of ``flows/``: exactly one of ``sequence`` and ``parallel``, and what a stored flow says besides.

    ``id`` is the file's name unless it is given; ``default: true`` makes it the flow of runs that name none.
    ``output`` is the JSON Schema of the result.
    """

    id: AgentId | None = None
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    description: Annotated[str, Field(max_length=4_000)] = ""
    default: bool = False
    objective: Annotated[str, Field(min_length=1, max_length=20_000)] | None = None
    inputs: dict[str, Any] | bool = True
    output: dict[str, Any] | bool = True
    policies: dict[str, Any] = Field(default_factory=dict)
    settings: FlowSettings = Field(default_factory=FlowSettings)
    sequence: Annotated[list[Step], Field(min_length=1, max_length=MAX_MEMBERS)] | None = None
    parallel: Annotated[list[Step], Field(min_length=1, max_length=MAX_MEMBERS)] | None = None

    @model_validator(mode="after")
    def _one(self) -> GroupFile:
        if (self.sequence is None) == (self.parallel is None):
            raise PydanticCustomError("ambiguous_step", "Give exactly one of sequence, parallel.")
        return self


@dataclass(frozen=True, slots=True)
class ReadGroup:
    """A group's file that was read."""

    flow_id: str
    file: GroupFile
    located: Located
    source: str


def read_group(text: str, source: str, name: str) -> ReadGroup | AgentFault:
    """Read a file's text; ``name`` is its id unless it says another. A fault says the line."""
    try:
        located = read_yaml(text)
    except YamlFault as fault:
        return AgentFault("bad_yaml", fault.message, fault.line)
    try:
        file = read_model(GroupFile, located.value, FlowInvalid)
        read_model(FlowDocument, _document(file, name, {}), FlowInvalid)
    except FlowInvalid as refused:
        item = refused.errors[0]
        what = item.pointer.removeprefix("/") or "The file"
        code = "bad_id" if item.pointer == "/id" else "bad_group"
        return AgentFault(code, f"{what}: {item.message}", located.line_of(item.pointer))
    if file.id is None and AGENT_ID.fullmatch(name) is None:
        return AgentFault("bad_id", f"{name!r} is no id; give one with id.", 1)
    return ReadGroup(file.id or name, file, located, source)


def build_group(
    group: ReadGroup,
    specs: Mapping[str, CapabilitySpec],
    apart: frozenset[str],
    awaited: Mapping[str, Sequence[str]] | None = None,
) -> GroupFlow | AgentFault:
    """Return a group as a flow. ``specs`` are the capabilities that are there, ``apart`` those that say not parallel.

    A member's name is an agent's, or any capability's. ``awaited`` are the documents that an agent waits for: the
    group waits for all of them before its first member.
    """
    builder = _Builder(group, specs, apart)
    try:
        builder.build()
    except _Refused as refused:
        return refused.fault
    document = _document(group.file, group.flow_id, builder.plan)
    needed = _needed(document, awaited or {})
    if needed:
        document["settings"] = {**document["settings"], "documents": needed}
    line = group.located.line_of("/id")
    lines = group.located.lines
    return GroupFlow(group.flow_id, document, group.source, line, group.file.default, builder.lines, lines)


def _needed(document: Mapping[str, Any], awaited: Mapping[str, Sequence[str]]) -> list[str]:
    """Return the documents of a group's settings, then those of its members, each once."""
    named: dict[str, None] = dict.fromkeys(document["settings"].get("documents", ()))
    for node in document["plan"]["nodes"]:
        named |= dict.fromkeys(awaited.get(node.get("capability_id", ""), ()))
    return list(named)


def _document(file: GroupFile, name: str, plan: Mapping[str, Any]) -> dict[str, Any]:
    document: dict[str, Any] = {
        "name": file.name or name,
        "description": file.description,
        "inputs": file.inputs,
        "output_contract": {"schema": file.output},
        "plan": dict(plan),
        "policies": file.policies,
        "settings": file.settings.model_dump(mode="json", exclude_none=True),
    }
    return document if file.objective is None else {**document, "objective": file.objective}


class _Refused(Exception):
    def __init__(self, fault: AgentFault) -> None:
        self.fault = fault
        super().__init__(fault.message)


@dataclass(frozen=True, slots=True)
class _Place:
    """Where in the group a step stands: what must end before it, what it follows, whether it makes the result."""

    pointer: str
    after: tuple[str, ...] = ()
    previous: str | None = None
    last: bool = True
    beside: bool = False

    def inner(self, part: str, number: int, **changes: Any) -> _Place:
        """Return the place of a step inside this one."""
        known = {"after": self.after, "previous": self.previous, "last": self.last, "beside": self.beside}
        return _Place(f"{self.pointer}/{part}/{number}", **{**known, **changes})


@dataclass
class _Builder:
    """Walks the steps and writes nodes and edges; every step ends in one node."""

    group: ReadGroup
    specs: Mapping[str, CapabilitySpec]
    apart: frozenset[str]
    nodes: list[dict[str, Any]] = field(default_factory=list)
    edges: list[dict[str, Any]] = field(default_factory=list)
    lines: dict[str, int] = field(default_factory=dict)
    result: str = ""

    def build(self) -> None:
        file = self.group.file
        whole = Step(sequence=file.sequence, parallel=file.parallel)
        self.result = self._step(whole, _Place(""))

    @property
    def plan(self) -> dict[str, Any]:
        output = {"": {"node_id": self.result, "pointer": ""}}
        return {"nodes": self.nodes, "edges": self.edges, "output": {"mode": "map", "map": output}}

    def _step(self, step: Step, place: _Place) -> str:
        if step.agent is not None:
            return self._member(step, step.agent, place)
        if step.parallel is not None:
            return self._beside(step, step.parallel, place)
        return self._one_by_one(step, step.sequence or [], place)

    def _one_by_one(self, step: Step, steps: list[Step], place: _Place) -> str:
        after, previous = place.after, place.previous
        for number, each in enumerate(steps):
            last = place.last and number == len(steps) - 1
            previous = self._step(each, place.inner("sequence", number, after=after, previous=previous, last=last))
            after = (previous,)
        return previous or ""

    def _beside(self, step: Step, steps: list[Step], place: _Place) -> str:
        several = len(steps) > 1
        ends = [
            self._step(each, place.inner("parallel", number, last=False, beside=several))
            for number, each in enumerate(steps)
        ]
        name = self._name(step.as_ or "together", place)
        inputs = {end: {"node_id": end, "pointer": ""} for end in ends}
        self.nodes.append({"node_id": name, "kind": "join", "wait": "all", "inputs": inputs})
        return name

    def _member(self, step: Step, agent: str, place: _Place) -> str:
        spec = self.specs.get(PREFIX + agent) or self.specs.get(agent)
        if spec is None:
            raise self._refused("unknown_agent", f"There is no agent and no capability {agent!r}.", place)
        if place.beside and spec.capability_id in self.apart:
            raise self._refused("bad_group", f"{agent} says parallel: false, and stands beside others.", place)
        short = spec.capability_id.removeprefix(PREFIX).replace(":", "_")
        name = self._name(step.as_ or (short if short[0].isalpha() else f"_{short}"), place)
        node: dict[str, Any] = {
            "node_id": name,
            "kind": "call",
            "capability_id": spec.capability_id,
            "capability_version": spec.version,
            "inputs": self._inputs(step, spec, place),
            "fallback": "abort" if step.required or place.last else "continue",
        }
        output = None if step.output is None else {"schema": step.output}
        said = {"max_attempts": step.max_attempts, "timeout_seconds": step.timeout_seconds, "output": output}
        node |= {name: value for name, value in said.items() if value is not None}
        self.nodes.append(node)
        self.edges.extend({"from": before, "to": name, "condition": None} for before in place.after)
        return name

    def _inputs(self, step: Step, spec: CapabilitySpec, place: _Place) -> dict[str, Any]:
        if step.inputs is not None:
            return {name: bound.model_dump(mode="json", exclude_unset=True) for name, bound in step.inputs.items()}
        schema = self.group.file.inputs
        declared = schema if isinstance(schema, dict) else {}
        required = declared.get("required")
        needed = [name for name in required if isinstance(name, str)] if isinstance(required, list) else []
        found = {name: {"from": f"/inputs/{_escaped(name)}"} for name in needed}
        found[INPUT] = {"from": "/inputs"}
        if place.previous is not None:
            found[PREVIOUS] = {"node_id": place.previous, "pointer": ""}
        if spec.consumes:
            return {name: bound for name, bound in found.items() if name in spec.consumes}
        return found

    def _name(self, wanted: str, place: _Place) -> str:
        name, number = wanted[:56], 1
        while name in self.lines:
            number += 1
            name = f"{wanted[:56]}_{number}"
        self.lines[name] = self.group.located.line_of(place.pointer)
        if len(self.lines) > MAX_MEMBERS:
            raise self._refused("bad_group", f"A group has at most {MAX_MEMBERS} members.", place)
        return name

    def _refused(self, code: str, message: str, place: _Place) -> _Refused:
        return _Refused(AgentFault(code, message, self.group.located.line_of(place.pointer)))


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
