"""Memory: what outlives a run, by scope and key (R5).

A scope is isolated, ``agent:<agent>/<story>``, or shared, ``shared:<namespace>``. Its parts are kept apart wherever it
is stored, so no two of them can run into each other.
"""

from __future__ import annotations

from collections.abc import Awaitable, Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal, Protocol

from contracts.ids import is_token

AGENT: Final = "agent"
SHARED: Final = "shared"
NO_STORY: Final = ""
"""The story of a shared scope: it has none. No name is empty, so it is nobody's."""
CONFLICT: Final = "memory_conflict"
FULL: Final = "memory_full"
MAX_WRITES: Final = 100
"""How many keys one attempt may write."""

ScopeKind = Literal["agent", "shared"]


@dataclass(frozen=True, slots=True, order=True)
class Scope:
    """Whose memory it is: an agent's in a story, or everybody's who names the namespace (``owner``)."""

    kind: str
    owner: str
    story: str = NO_STORY

    def __str__(self) -> str:
        """Return the name as it stands in envelopes and plans."""
        return f"{self.kind}:{self.owner}/{self.story}" if self.kind == AGENT else f"{self.kind}:{self.owner}"


def read_scope(text: str) -> Scope | None:
    """Return the scope of a name such as ``shared:brand`` or ``agent:writer/spring``; None for anything else.

    Names have the form of ids (``contracts.ids.is_token``), which has no slash: there is one way to read each.
    """
    kind, colon, rest = text.partition(":")
    owner, slash, story = rest.partition("/")
    if not colon or not is_token(owner):
        return None
    if kind == SHARED and not slash:
        return Scope(SHARED, owner)
    if kind == AGENT and slash and is_token(story):
        return Scope(AGENT, owner, story)
    return None


@dataclass(frozen=True, slots=True)
class MemoryLimits:
    """How much is kept: bytes of a value as JSON, keys of a scope, and bytes that one node is given of it all."""

    value_bytes: int = 64 * 1024
    keys: int = 1_000
    read_bytes: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Remembered:
    """One entry as it is read; ``revision`` is what a compare-and-set names, ``updated_at`` is ms since the epoch."""

    key: str
    value: Any
    revision: int
    updated_at: int


@dataclass(frozen=True, slots=True)
class MemoryWrite:
    """What an attempt wants to be remembered, or forgotten: committed with the node's completion, or not at all.

    ``value_json`` null: forget the key. ``expected`` is the revision that it must have, 0: it must not be there,
    None: whatever it has. ``room`` is how many keys the scope may hold.
    """

    scope: Scope
    key: str
    value_json: str | None
    expected: int | None
    node_id: str
    attempt: int
    at_ms: int
    room: int

    def as_json(self) -> dict[str, Any]:
        """Return it as it is kept with an attempt that waits for people."""
        return {
            "scope": str(self.scope), "key": self.key, "value_json": self.value_json, "expected": self.expected,
            "node_id": self.node_id, "attempt": self.attempt, "at_ms": self.at_ms, "room": self.room,
        }  # fmt: skip


def write_from(kept: Mapping[str, Any]) -> MemoryWrite:
    """Return what :meth:`MemoryWrite.as_json` kept. Raises ``ValueError`` for a scope that is none."""
    scope = read_scope(kept["scope"])
    if scope is None:
        raise ValueError(f"no scope: {kept['scope']!r}")
    return MemoryWrite(**{**kept, "scope": scope})


class MemoryReader(Protocol):
    """How a node reads what is remembered; the store fills it in. Raises ``StoreUnavailable``."""

    def get(self, tenant: str, scope: Scope, key: str) -> Awaitable[Remembered | None]:
        """Return one entry."""

    def newest(self, tenant: str, scope: Scope, most_bytes: int) -> Awaitable[tuple[list[Remembered], bool]]:
        """Return what was written last, up to so many bytes, and whether that is all there is."""

    def keys(self, tenant: str, scope: Scope, prefix: str, most: int) -> Awaitable[list[Remembered]]:
        """Return entries by key, without their values, at most so many."""
