"""Markdown agents: YAML front matter says what an agent is, the text below it are its instructions (R2)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Annotated, Any, Final

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from capabilities.authoring import CapabilityBase
from capabilities.llm_generate import TOKENS_IN, TOKENS_OUT, is_plain_text, messages
from capabilities.located_yaml import Located, YamlFault, read_yaml
from capabilities.world import World
from contracts.agents import AgentFault
from contracts.capability import Bundle, CallContext, CapabilityError, CapabilitySpec, Param, Talk
from contracts.errors import FlowInvalid
from contracts.memory import AGENT
from contracts.scopes import Scope
from contracts.wire import Wire, read_model

PREFIX: Final = "agent."
FLOW: Final = "flow."
"""A tool with this prefix is a stored flow or a group: ``flow.<flow_id>``, or ``flow.<flow_id>@<version>``."""
ISOLATED: Final = "isolated"
MAX_INSTRUCTIONS: Final = 100_000
AGENT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
AgentId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
_Token = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")]
_Tool = Annotated[str, Field(min_length=1, max_length=140, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*(@[1-9][0-9]{0,8})?$")]
_Parameter = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_]*\??$")]
_FENCE: Final = re.compile(r"---[ \t]*")
_TEXT: Final = {"type": "string", "minLength": 1}


class FrontMatter(Wire):
    """What stands between the two ``---`` lines.

    ``tools`` are capability ids and flows, ``max_rounds`` is how often the model may ask for them; ``memory_scope`` is
    ``isolated`` (the agent's own on each story) or ``shared:<namespace>``, ``remember`` the key there that holds its
    last answer; ``wait_for`` are document ids; ``parallel: false`` keeps it out of parallel groups.
    ``consumes`` is parameter → facet (``name?`` is optional), ``produces`` a facet or a list of them.
    ``scopes`` are what a caller must have been granted for its runs to call the agent.
    """

    id: AgentId
    description: Annotated[str, Field(max_length=4_000)] = ""
    tools: Annotated[list[_Tool], Field(max_length=64)] = Field(default_factory=list)
    max_rounds: Annotated[int, Field(ge=1, le=64)] = 8
    memory_scope: Annotated[str, Field(pattern=r"^(isolated|shared:[A-Za-z0-9][A-Za-z0-9_.-]{0,127})$")] | None = None
    remember: _Token | None = None
    wait_for: Annotated[list[_Token], Field(max_length=64)] = Field(default_factory=list)
    parallel: bool = True
    consumes: dict[_Parameter, _Token] = Field(default_factory=dict)
    produces: _Token | list[_Token] = Field(default_factory=list)
    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    version: _Token = "1.0.0"
    scopes: Annotated[list[Scope], Field(max_length=20)] = Field(default_factory=list)

    @property
    def capability_id(self) -> str:
        """Return what plans call it."""
        return PREFIX + self.id

    @property
    def facets(self) -> list[tuple[str, str]]:
        """Return every facet it names, with the pointer of its place."""
        made = [self.produces] if isinstance(self.produces, str) else self.produces
        taken = [(f"/consumes/{name}", facet) for name, facet in self.consumes.items()]
        single = isinstance(self.produces, str)
        return taken + [("/produces" if single else f"/produces/{place}", name) for place, name in enumerate(made)]

    @field_validator("tools")
    @classmethod
    def _distinct(cls, tools: list[str]) -> list[str]:
        if len(set(tools)) != len(tools):
            raise PydanticCustomError("tool_twice", "Name each tool once.")
        return tools

    @model_validator(mode="after")
    def _somewhere(self) -> FrontMatter:
        if self.remember is not None and self.memory_scope is None:
            raise PydanticCustomError("scope_missing", "remember needs a memory_scope to remember in.")
        return self

    @property
    def called(self) -> list[str]:
        """Return the capabilities among its tools; the others are flows."""
        return [name for name in self.tools if not name.startswith(FLOW)]

    @property
    def memory(self) -> str | None:
        """Return what it may touch of memory (:attr:`contracts.capability.CapabilitySpec.memory`)."""
        return f"{AGENT}:{self.id}" if self.memory_scope == ISOLATED else self.memory_scope


@dataclass(frozen=True, slots=True)
class MarkdownFile:
    """A file that was read: its front matter, the line of each of its keys, its instructions."""

    front: FrontMatter
    located: Located
    instructions: str
    source: str
    digest: str

    def fault(self, code: str, message: str, pointer: str) -> AgentFault:
        """Return a fault at the line of one of its keys."""
        return AgentFault(code, message, self.located.line_of(pointer))


def read_markdown(text: str, source: str) -> MarkdownFile | AgentFault:
    """Read a file's text; a fault says the line."""
    lines = text.removeprefix("\ufeff").splitlines()
    fences = [place for place, line in enumerate(lines) if _FENCE.fullmatch(line)]
    if not fences or fences[0] != 0:
        return AgentFault("bad_front_matter", "The first line must be ---, and the front matter below it.", 1)
    if len(fences) == 1:
        return AgentFault("bad_front_matter", "The front matter has no end: a second line --- is missing.", 1)
    try:
        located = read_yaml("\n".join(lines[1 : fences[1]]), first_line=2)
    except YamlFault as fault:
        return AgentFault("bad_yaml", fault.message, fault.line)
    if not isinstance(located.value, dict):
        return AgentFault("bad_front_matter", "The front matter must be keys and values; at least id.", 2)
    try:
        front = read_model(FrontMatter, located.value, FlowInvalid)
    except FlowInvalid as refused:
        item = refused.errors[0]
        name = item.pointer.removeprefix("/") or "The front matter"
        code = "bad_id" if item.pointer == "/id" and item.code != "required" else "bad_front_matter"
        return AgentFault(code, f"{name}: {item.message}", located.line_of(item.pointer))
    instructions = "\n".join(lines[fences[1] + 1 :]).strip()
    if not instructions or len(instructions) > MAX_INSTRUCTIONS:
        message = f"Below the front matter stand the instructions: 1 to {MAX_INSTRUCTIONS:,} characters."
        return AgentFault("bad_front_matter", message, fences[1] + 1)
    return MarkdownFile(front, located, instructions, source, sha256(text.encode()).hexdigest())


class MarkdownAgent(CapabilityBase):
    """``agent.<id>``: the model answers with the file's instructions and the bundle, in its node's contract.

    Without a contract the answer is a text. Its tools are called as a chat's are, by whoever runs its :class:`Talk`.
    ``address`` is the hash of the file: an approval of a call does not hold for an agent that was edited since (H5).
    """

    def __init__(self, file: MarkdownFile, world: World, place: str) -> None:
        """Take what was read; without a model the registry keeps it inactive."""
        self.front, self.instructions, self.place = file.front, file.instructions, place
        self.address = f"sha256:{file.digest}"
        self.spec = self._specify(world.model_cost(TOKENS_IN, TOKENS_OUT, file.front.model))

    def _specify(self, cost: float) -> CapabilitySpec:
        front = self.front
        made = (front.produces,) if isinstance(front.produces, str) else tuple(front.produces)
        return CapabilitySpec(
            front.capability_id,
            version=front.version,
            description=front.description,
            consumes=_parameters(front.consumes),
            produces=made,
            cost=cost,
            tokens=TOKENS_IN + TOKENS_OUT,
            latency_ms=8_000,
            quality=0.8,
            requires=("model",),
            in_process=False,
            tools=tuple(front.called),
            flows=tuple(name for name in front.tools if name not in front.called),
            memory=front.memory,
            documents=tuple(front.wait_for),
            scopes=tuple(front.scopes),
        )

    async def run(self, bundle: Bundle, _context: CallContext) -> Talk:
        """Return what the model is told, and the form of its answer.

        Raises :class:`CapabilityError` (not retryable): ``material_too_long``; ``story_missing``, when its memory is
        of a story and the run is of none.
        """
        contract = _TEXT if bundle.contract is True or bundle.contract == {} else bundle.contract
        scope = self._scope(bundle)
        # What was wrong with its last answer is said after the rounds with its tools, by whoever runs them.
        told = messages(replace(bundle, errors=()), self.instructions)
        schema = None if is_plain_text(contract) else contract
        key = self.front.remember
        remember = None if key is None or scope is None else (scope, key)
        return Talk(told, schema, self.front.max_rounds, self.front.model, remember)

    def _scope(self, bundle: Bundle) -> str | None:
        """Return the name of its scope in this run, which the bundle holds even when nothing is in it."""
        own = self.front.memory
        if own is None or self.front.memory_scope != ISOLATED:
            return own
        found = next((name for name in bundle.memory if name.startswith(f"{own}/")), None)
        if found is None:
            message = f"{self.spec.capability_id} remembers what belongs to a story; the run names none (story_id)."
            raise CapabilityError("story_missing", message, retryable=False)
        return found


def way_back(tools: Mapping[str, Sequence[str]], name: str, home: str) -> list[str] | None:
    """Return how tools lead from the tool ``name`` of an agent back to the agent itself, ``home``, if they do.

    ``tools`` are those of every agent.
    """
    ways, seen = [[home, name]], {name}
    while ways:
        way = ways.pop()
        if way[-1] == home:
            return way
        onward = [each for each in tools.get(way[-1], ()) if each not in seen]
        ways += [[*way, each] for each in onward]
        seen.update(onward)
    return None


def _parameters(consumes: Mapping[str, Any]) -> dict[str, Param]:
    return {name.removesuffix("?"): Param(facet, not name.endswith("?")) for name, facet in consumes.items()}
