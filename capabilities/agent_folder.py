"""The agents folder as a whole: read once, settled into a registry, judged; a broken file stops nobody else (R2, R3).

Three steps, so that each can run where it may: :meth:`AgentFolder.read` opens files and runs Python, and may do so in a
thread; :meth:`AgentFolder.settle` decides who is taken; :meth:`AgentFolder.judge` makes plans of groups.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from capabilities.agent_files import FoundFile, look, read_text
from capabilities.agent_groups import ReadGroup, build_group, read_group
from capabilities.agent_python import agent_name, load_python
from capabilities.declarations import DeclarationError, place_of
from capabilities.loading import Declared
from capabilities.markdown_agent import FLOW, PREFIX, MarkdownAgent, MarkdownFile, read_markdown, way_back
from capabilities.registry import Registry, RegistryConflict
from capabilities.world import World
from contracts.agents import AgentFault, AgentRecord, GroupFlow
from contracts.capability import Capability

Read = Declared | MarkdownFile | ReadGroup
Check = Callable[[GroupFlow], "AgentFault | str | None"]
"""Says what is wrong with a group's plan: a fault, or (a text) what would make it usable."""


@dataclass(slots=True)
class _Source:
    """A file as it is, and as it last was when it could be used."""

    file: FoundFile
    fresh: Read | AgentFault
    good: Read | None = None

    def candidates(self) -> Iterator[Read]:
        """Yield what may be taken, best first."""
        if not isinstance(self.fresh, AgentFault):
            yield self.fresh
        if self.good is not None and self.good is not self.fresh:
            yield self.good


@dataclass(slots=True)
class AgentFolder:
    """What the folder holds. ``registry`` is what the service can do without it; it is never changed here."""

    root: Path
    world: World
    registry: Registry
    groups: dict[str, GroupFlow] = field(default_factory=dict)
    default_id: str | None = None
    _sources: dict[str, _Source] = field(default_factory=dict)
    _records: list[AgentRecord] = field(default_factory=list)
    _of_groups: list[AgentRecord] = field(default_factory=list)

    def read(self) -> bool:
        """Read what is new or changed; False: everything is as it was. Raises ``OSError`` without the folder."""
        found = {file.source: file for file in look(self.root)}
        known = {source: each.file for source, each in self._sources.items()}
        if found == known:
            return False
        sources: dict[str, _Source] = {}
        for source, file in found.items():
            before = self._sources.get(source)
            if before and before.file == file:
                sources[source] = before
            else:
                sources[source] = _Source(file, self._read(file), None if before is None else before.good)
        self._sources = sources
        return True

    def settle(self) -> Registry:
        """Return the registry with every agent that can be taken, and note what became of each file."""
        trial = self.registry.fork()
        self._records = []
        there = self._ids()
        for source in self._sources.values():
            if source.file.kind != "group":
                self._records += self._settled(source, trial, there)
        return trial

    def judge(self, settled: Registry, check: Check) -> None:
        """Make a flow of every group; ``check`` looks at its plan, with ``settled`` as what can be done."""
        self.groups, self._of_groups = {}, []
        self._settle_default(None)
        for source in self._sources.values():
            if source.file.kind == "group":
                self._of_groups.append(self._judged(source, settled, check))
        if self.default_id is None and "default" in self.groups:
            self._settle_default("default")

    def records(self) -> Sequence[AgentRecord]:
        """Return every agent and every broken file, in the order in which they were read."""
        return [*self._records, *self._of_groups]

    # --- reading -----------------------------------------------------------------------------------------------------

    def _read(self, file: FoundFile) -> Read | AgentFault:
        if file.fault is not None:
            return file.fault
        if file.kind == "python":
            return load_python(file)
        text = read_text(file)
        if isinstance(text, AgentFault):
            return text
        if file.kind == "markdown":
            return read_markdown(text, file.source)
        return read_group(text, file.source, file.path.stem)

    def _ids(self) -> frozenset[str]:
        """Return every capability id that there is or may be, for what names others."""
        found = {spec.capability_id for spec in self.registry.catalogue().capabilities}
        for source in self._sources.values():
            for read in source.candidates():
                if isinstance(read, MarkdownFile):
                    found.add(read.front.capability_id)
                elif isinstance(read, Declared):
                    found.update(each.spec.capability_id for each in read.capabilities)
        return frozenset(found)

    # --- agents ------------------------------------------------------------------------------------------------------

    def _settled(self, source: _Source, trial: Registry, there: frozenset[str]) -> list[AgentRecord]:
        """Take the file as it is, else as it last was; return its records, with what is wrong with it now."""
        fault = source.fresh if isinstance(source.fresh, AgentFault) else None
        for read in source.candidates():
            found = self._take(read, trial, there)
            if isinstance(found, AgentFault):
                fault = fault or found
                continue
            if fault is None:
                source.good = read
            records = [self._record(each, read, source, trial) for each in found]
            # A file may declare facets alone.
            records = records or [AgentRecord(None, source.file.kind, source.file.source, "loaded")]
            return [replace(record, fault=fault) for record in records]
        return [self._broken(source, fault)]

    def _take(self, read: Read, trial: Registry, there: frozenset[str]) -> Sequence[Capability] | AgentFault:
        if isinstance(read, MarkdownFile):
            fault = self._unfit(read, trial, there)
            place = f"{(self.root / read.source).resolve()}:{read.located.line_of('/id')}"
            return fault or self._add(Declared(read.source, (), (MarkdownAgent(read, self.world, place),)), trial)
        return self._add(read, trial) if isinstance(read, Declared) else ()

    def _add(self, declared: Declared, trial: Registry) -> Sequence[Capability] | AgentFault:
        """Add all that a file declares, or nothing."""
        for each in declared.capabilities:
            spec = each.spec
            whole = isinstance(each, MarkdownAgent) or spec.capability_id.startswith(PREFIX)
            same = [
                other for other in trial.declared(spec.capability_id) if whole or other.spec.version == spec.version
            ]
            if same:
                place, first = self._relative(place_of(each)), self._relative(place_of(same[0]))
                message = f"{spec.capability_id} is there twice: {first} and {place}."
                return AgentFault("duplicate_id", message, _line(place))
        try:
            trial.add(declared.facets, declared.capabilities)
        except RegistryConflict as conflict:
            return AgentFault("conflict", self._relative(str(conflict)))
        except DeclarationError as error:
            code = "unknown_facet" if "nobody declares" in error.message else "conflict"
            return AgentFault(code, f"{error.message}.", _line(error.place))
        return declared.capabilities

    def _unfit(self, read: MarkdownFile, trial: Registry, there: frozenset[str]) -> AgentFault | None:
        """Return what keeps a Markdown agent from being what it says it is."""
        front = read.front
        facets = {facet.name for facet in trial.catalogue().facets}
        for pointer, name in front.facets:
            if name not in facets:
                return read.fault("unknown_facet", f"Nobody declares the facet {name}.", pointer)
        for place, name in enumerate(front.tools):
            if name.startswith(FLOW):
                if front.produces:
                    why = "An agent with flows among its tools cannot be planned with: it produces no facet."
                    return read.fault("unsupported", why, "/produces")
                continue
            if name not in there:
                return read.fault("unknown_tool", f"There is no capability {name!r}.", f"/tools/{place}")
            if (way := way_back(self._tools(), name, front.capability_id)) is not None:
                return read.fault("agent_cycle", f"It would call itself: {' → '.join(way)}.", f"/tools/{place}")
        model = self.world.model
        if front.model is not None and model is not None and not self.world.may_ask(front.model):
            why = f"This service's model is {model.name} (FLEX_MODEL); others need a price (FLEX_MODEL_PRICES)."
            return read.fault("unsupported", why, "/model")
        return None

    def _tools(self) -> dict[str, list[str]]:
        """Return the tools of every Markdown agent, as its file is now."""
        fronts = [source.fresh.front for source in self._sources.values() if isinstance(source.fresh, MarkdownFile)]
        return {front.capability_id: front.tools for front in fronts}

    def _record(self, made: Capability, read: Read, source: _Source, trial: Registry) -> AgentRecord:
        spec = made.spec
        reason = trial.catalogue().inactive_versions.get((spec.capability_id, spec.version))
        record = AgentRecord(
            agent_id=spec.capability_id.removeprefix(PREFIX),
            kind=source.file.kind,
            source=source.file.source,
            status="loaded" if reason is None else "inactive",
            line=_line(self._relative(place_of(made))),
            description=spec.description,
            capability_id=spec.capability_id,
            reason=reason,
        )
        return _with_front(record, read) if isinstance(read, MarkdownFile) else record

    def _broken(self, source: _Source, fault: AgentFault | None) -> AgentRecord:
        record = AgentRecord(None, source.file.kind, source.file.source, "broken", fault=fault)
        if isinstance(source.fresh, MarkdownFile):
            return _with_front(replace(record, agent_id=source.fresh.front.id), source.fresh)
        if isinstance(source.fresh, ReadGroup):
            return replace(record, agent_id=source.fresh.flow_id)
        named = agent_name(source.file) if source.file.kind == "python" else None
        return replace(record, agent_id=named)

    def _relative(self, text: str) -> str:
        """Return a text with the folder's own files named as they are listed."""
        return text.replace(f"{self.root.resolve()}/", "")

    # --- groups ------------------------------------------------------------------------------------------------------

    def _judged(self, source: _Source, settled: Registry, check: Check) -> AgentRecord:
        specs = {spec.capability_id: spec for spec in settled.catalogue().capabilities}
        fault = source.fresh if isinstance(source.fresh, AgentFault) else None
        for read in source.candidates():
            if not isinstance(read, ReadGroup):
                continue
            flow = build_group(read, specs, self._apart(), self._awaited())
            said = flow if isinstance(flow, AgentFault) else self._clash(flow) or check(flow)
            if isinstance(said, AgentFault) or isinstance(flow, AgentFault):
                fault = fault or (said if isinstance(said, AgentFault) else None)
                continue
            if fault is None:
                source.good = read
            return self._taken(flow, fault, said)
        return self._broken(source, fault)

    def _taken(self, flow: GroupFlow, fault: AgentFault | None, reason: str | None) -> AgentRecord:
        self.groups[flow.flow_id] = flow
        if flow.default:
            self._settle_default(flow.flow_id)
        return AgentRecord(
            agent_id=flow.flow_id,
            kind="group",
            source=flow.source,
            status="loaded" if reason is None else "inactive",
            line=flow.line,
            description=str(flow.document.get("description", "")),
            flow_id=flow.flow_id,
            default=flow.default or flow.flow_id == "default",
            fault=fault,
            reason=reason,
        )

    def _settle_default(self, flow_id: str | None) -> None:
        self.default_id = flow_id

    def _clash(self, flow: GroupFlow) -> AgentFault | None:
        other = self.groups.get(flow.flow_id)
        if other is not None:
            places = f"{other.source}:{other.line} and {flow.source}:{flow.line}"
            return AgentFault("duplicate_id", f"The flow {flow.flow_id} is there twice: {places}.", flow.line)
        if flow.default and self.default_id is not None:
            first = self.groups[self.default_id].source
            return AgentFault("duplicate_id", f"The default is {self.default_id} ({first}) already.", flow.line)
        return None

    def _apart(self) -> frozenset[str]:
        return frozenset(
            str(record.capability_id) for record in self._records if not record.parallel and record.capability_id
        )

    def _awaited(self) -> dict[str, tuple[str, ...]]:
        return {str(record.capability_id): record.wait_for for record in self._records if record.wait_for}


def _with_front(record: AgentRecord, read: MarkdownFile) -> AgentRecord:
    front = read.front
    return replace(
        record,
        description=front.description,
        tools=tuple(front.tools),
        memory_scope=front.memory_scope,
        wait_for=tuple(front.wait_for),
        parallel=front.parallel,
        line=read.located.line_of("/id"),
    )


def _line(place: str) -> int | None:
    """Return the line of ``file:line``."""
    line = place.rpartition(":")[2]
    return int(line) if line.isdigit() else None
