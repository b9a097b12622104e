"""Markdown agents: YAML front matter says what an agent is, the text below it are its instructions (R2)."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Annotated, Any, Final

from pydantic import Field

from capabilities.llm_generate import TOKENS_IN, TOKENS_OUT, LlmGenerate
from capabilities.located_yaml import Located, YamlFault, read_yaml
from capabilities.world import World
from contracts.agents import AgentFault
from contracts.capability import Bundle, CallContext, CapabilitySpec, Param, Result
from contracts.errors import FlowInvalid
from contracts.scopes import Scope
from contracts.wire import Wire, read_model

PREFIX: Final = "agent."
MAX_INSTRUCTIONS: Final = 100_000
AGENT_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
AgentId = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.-]*$")]
_Token = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[A-Za-z0-9][A-Za-z0-9_.:-]*$")]
_Parameter = Annotated[str, Field(min_length=1, max_length=64, pattern=r"^[A-Za-z_][A-Za-z0-9_]*\??$")]
_FENCE: Final = re.compile(r"---[ \t]*")
_TEXT: Final = {"type": "string", "minLength": 1}


class FrontMatter(Wire):
    """What stands between the two ``---`` lines.

    ``tools`` are capability ids; ``memory_scope`` is ``isolated`` (the agent's own on each story) or
    ``shared:<namespace>``; ``wait_for`` are document ids; ``parallel: false`` keeps it out of parallel groups.
    ``consumes`` is parameter → facet (``name?`` is optional), ``produces`` a facet or a list of them.
    ``scopes`` are what a caller must have been granted for its runs to call the agent.
    """

    id: AgentId
    description: Annotated[str, Field(max_length=4_000)] = ""
    tools: Annotated[list[_Token], Field(max_length=64)] = Field(default_factory=list)
    memory_scope: Annotated[str, Field(pattern=r"^(isolated|shared:[A-Za-z0-9][A-Za-z0-9_.-]{0,127})$")] | None = None
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

    @property
    def unsupported(self) -> list[str]:
        """Return the members that ask for something beyond a model call, if they do."""
        return [name for name in ("tools", "memory_scope", "wait_for") if getattr(self, name)]


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


class MarkdownAgent(LlmGenerate):
    """``agent.<id>``: one model call with the file's instructions and the bundle, in its node's contract.

    Without a contract the answer is a text. ``front`` is its front matter, for whoever carries out what stands there
    besides a model call. ``address`` is the hash of the file: an approval of a call does not hold
    for an agent that was edited since (H5).
    """

    def __init__(self, file: MarkdownFile, world: World, place: str) -> None:
        """Take what was read; without a model the registry keeps it inactive."""
        self.front, self.instructions, self.place = file.front, file.instructions, place
        self.address = f"sha256:{file.digest}"
        super().__init__(world)

    def specify(self, cost: float) -> CapabilitySpec:
        """Return the spec; ``cost`` is the estimate for one call."""
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
            scopes=tuple(front.scopes),
        )

    async def run(self, bundle: Bundle, context: CallContext) -> Result:
        """See :meth:`LlmGenerate.run`."""
        if bundle.contract is True or bundle.contract == {}:
            bundle = replace(bundle, contract=_TEXT)
        return await super().run(bundle, context)


def _parameters(consumes: Mapping[str, Any]) -> dict[str, Param]:
    return {name.removesuffix("?"): Param(facet, not name.endswith("?")) for name, facet in consumes.items()}
