"""Agents from the operator's folder: what is known of each, and where a group's plan is found (R2, R3).

The folder is read at start and, in development, when a file in it changes; no request ever names a file (R6).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

AgentKind = Literal["python", "markdown", "group"]
AgentStatus = Literal["loaded", "inactive", "broken"]


@dataclass(frozen=True, slots=True)
class AgentFault:
    """Why a file or an agent in it cannot be used; ``line`` is 1-based, None when no line is to blame.

    Codes: ``unreadable, outside_folder, too_large, bad_yaml, bad_front_matter, bad_id, python_error, no_agent,
    duplicate_id, unknown_facet, unknown_tool, unknown_agent, agent_cycle, unsupported, bad_group, plan_invalid,
    conflict``.
    """

    code: str
    message: str
    line: int | None = None


@dataclass(frozen=True, slots=True)
class AgentRecord:
    """An agent, or a file that should have held one.

    ``source`` is relative to the folder. ``capability_id`` is what plans call, ``flow_id`` what runs are started by (a
    group). ``fault`` beside the status ``loaded`` says that the file was changed since and cannot be used as it is: the
    version before goes on.
    """

    agent_id: str | None
    kind: AgentKind
    source: str
    status: AgentStatus
    line: int | None = None
    description: str = ""
    capability_id: str | None = None
    flow_id: str | None = None
    tools: tuple[str, ...] = ()
    memory_scope: str | None = None
    wait_for: tuple[str, ...] = ()
    parallel: bool = True
    default: bool = False
    fault: AgentFault | None = None
    reason: str | None = None
    """what would activate it"""

    @property
    def place(self) -> str:
        """Return ``file:line`` for people."""
        return self.source if self.line is None else f"{self.source}:{self.line}"


@dataclass(frozen=True, slots=True)
class GroupFlow:
    """A group as a flow's document (``contracts.flows.FlowDocument``).

    ``lines`` says where each node was written, ``places`` where everything else was, by its pointer in the document.
    """

    flow_id: str
    document: Mapping[str, Any]
    source: str
    line: int | None = None
    default: bool = False
    lines: Mapping[str, int] = field(default_factory=dict)
    places: Mapping[str, int] = field(default_factory=dict)

    def line_of(self, pointer: str, node_id: str | None = None) -> int | None:
        """Return the line of a node, else of a place of the document, or of the nearest one around it."""
        line = None if node_id is None else self.lines.get(node_id)
        if line is not None:
            return line
        while pointer and pointer not in self.places:
            pointer = pointer.rpartition("/")[0]
        return self.places.get(pointer, self.line)


class FolderFlows(Protocol):
    """Flows that are files: they have no drafts and no versions, and belong to every tenant."""

    @property
    def default_id(self) -> str | None:
        """Return the flow of a run that names none."""

    def document(self, flow_id: str) -> Mapping[str, Any] | None:
        """Return a flow's document as it is now; None: there is no such file, or it is broken."""


class NoFolder:
    """No folder is configured."""

    default_id: str | None = None

    def document(self, flow_id: str) -> Mapping[str, Any] | None:
        """Return None."""
        return None


class AgentShelf(FolderFlows, Protocol):
    """What the folder holds now."""

    def records(self) -> Sequence[AgentRecord]:
        """Return every agent and every broken file, by source and id."""
