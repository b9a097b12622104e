"""The agents folder as the doors and the engine know it: listed, judged, taken over while the service runs (R2, R3)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any, Final, Protocol

import structlog

from capabilities.agent_folder import AgentFolder
from capabilities.registry import Registry
from contracts.access import Principal
from contracts.agents import AgentFault, AgentRecord, GroupFlow
from contracts.plan import Finding
from service.capabilities import page_of_known

_log = structlog.get_logger(__name__)
INACTIVE: Final = "capability_inactive"


class Judge(Protocol):
    """``service.verdicts.Verdicts``: what is wrong with a document whose subflows hold their plans."""

    def findings(self, document: Mapping[str, Any]) -> list[Finding]:
        """Return what every check found."""


class Agents:
    """What the configured folder holds; without one there is nothing, and nothing is looked for."""

    def __init__(
        self, folder: AgentFolder | None, registry: Registry, judge: Judge, changed: Callable[[], None] = lambda: None
    ) -> None:
        """Take the folder and the registry that its agents go into; ``changed`` is called when that has happened."""
        self._folder, self._registry, self._judge, self._changed = folder, registry, judge, changed
        self._records: tuple[AgentRecord, ...] = ()
        self._looking = asyncio.Lock()

    def open(self) -> None:
        """Read the folder and take what can be taken: once, at start. Raises ``OSError`` without the folder."""
        if self._folder is not None and self._folder.read():
            self._take(self._folder)

    async def look(self) -> bool:
        """Take over what has changed in the folder since the last look; False: nothing has.

        Files are opened, and Python is run, in a thread. What runs under way have begun with stays theirs.
        """
        if self._folder is None:
            return False
        async with self._looking:
            changed = await asyncio.to_thread(self._folder.read)
            if changed:
                self._take(self._folder)
        return changed

    def list(self, principal: Principal, *, limit: int, cursor: str | None) -> dict[str, Any]:
        """Return ``{"items": [Agent], "next_cursor": …}`` by file and id; broken files are among them, with why."""
        known = sorted(self._records, key=_key)
        return page_of_known(known, _key, agent_item, limit, cursor)

    # --- contracts.agents.FolderFlows --------------------------------------------------------------------------------

    @property
    def default_id(self) -> str | None:
        """Return the flow of a run that names none."""
        return None if self._folder is None else self._folder.default_id

    def document(self, flow_id: str) -> Mapping[str, Any] | None:
        """Return the document of a group as it is now."""
        group = None if self._folder is None else self._folder.groups.get(flow_id)
        return None if group is None else group.document

    def records(self) -> tuple[AgentRecord, ...]:
        """Return every agent and every broken file."""
        return self._records

    # --- inside ------------------------------------------------------------------------------------------------------

    def _take(self, folder: AgentFolder) -> None:
        settled = folder.settle()
        self._registry.become(settled)
        self._changed()
        folder.judge(settled, self._check)
        before = set(self._records)
        self._records = tuple(folder.records())
        for record in self._records:
            if record not in before:
                _tell(record)

    def _check(self, flow: GroupFlow) -> AgentFault | str | None:
        """Judge a group's plan as every stored flow's is."""
        errors = [found for found in self._judge.findings(flow.document) if found.severity == "error"]
        asleep = [found for found in errors if found.code == INACTIVE]
        if not errors:
            return None
        if len(asleep) == len(errors):
            why = f": {asleep[0].fix}" if asleep[0].fix else ""
            return f"{asleep[0].message.rstrip('.')}{why}"
        first = next(found for found in errors if found.code != INACTIVE)
        where = f" at {first.pointer}" if first.pointer and first.node_id is None else ""
        line = flow.line_of(first.pointer, first.node_id)
        return AgentFault("plan_invalid", f"{first.code}{where}: {first.message}", line)


def _tell(record: AgentRecord) -> None:
    fault = record.fault
    if fault is not None:
        where = record.source if fault.line is None else f"{record.source}:{fault.line}"
        kept = record.status != "broken"
        _log.warning("agent_broken", agent=record.agent_id, place=where, code=fault.code, why=fault.message, kept=kept)
    else:
        _log.info("agent_loaded", agent=record.agent_id, kind=record.kind, place=record.place, status=record.status)


def _key(record: AgentRecord) -> str:
    return f"{record.source}#{record.capability_id or record.flow_id or record.agent_id or ''}"


def agent_item(record: AgentRecord) -> dict[str, Any]:
    """Return an agent as it is listed."""
    fault = record.fault
    return {
        "agent_id": record.agent_id,
        "kind": record.kind,
        "source": record.source,
        "line": record.line,
        "status": record.status,
        "reason": record.reason,
        "description": record.description,
        "capability_id": record.capability_id,
        "flow_id": record.flow_id,
        "tools": list(record.tools),
        "memory_scope": record.memory_scope,
        "wait_for": list(record.wait_for),
        "parallel": record.parallel,
        "default": record.default,
        "error": None if fault is None else {"code": fault.code, "message": fault.message, "line": fault.line},
    }
