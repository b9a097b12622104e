"""Memory as one transaction finds it under its locks and leaves it: who may write what, without any SQL (R5)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from contracts.memory import CONFLICT, FULL, MemoryWrite, Scope

Place = tuple[str, str, str, str]
"""Tenant, kind, owner, story: the key of a scope's row."""


class MemoryRefused(Exception):
    """A write of an attempt cannot be: nothing of its run's transition is stored, and the attempt has failed."""

    def __init__(self, code: str, message: str, node_id: str, attempt: int) -> None:
        """Keep the code (``memory_conflict``, ``memory_full``), a sentence, and whose write it was."""
        self.code, self.message, self.node_id, self.attempt = code, message, node_id, attempt
        super().__init__(f"{code}: {message}")


@dataclass(frozen=True, slots=True)
class ScopeState:
    """A scope's row: the last revision given in it, how many entries it has, when it was last written."""

    revision: int = 0
    entries: int = 0
    updated_at: int = 0


@dataclass(frozen=True, slots=True)
class Left:
    """What a write leaves at a key: an entry with its revision, or nothing (``value_json`` null)."""

    value_json: str | None
    revision: int
    at_ms: int
    run_id: str
    node_id: str
    attempt: int


@dataclass(slots=True)
class Staged:
    """What the writes of one run change, if its transition is stored."""

    scopes: dict[Place, ScopeState] = field(default_factory=dict)
    keys: dict[tuple[Place, str], Left] = field(default_factory=dict)


def place_of(tenant: str, scope: Scope) -> Place:
    """Return the key of a scope's row."""
    return (tenant, scope.kind, scope.owner, scope.story)


class Sheet:
    """Scopes and revisions as they were read, and what is to become of them.

    Load every scope and key that the writes name before :meth:`stage`; a key that was not loaded is not there.
    """

    def __init__(self) -> None:
        """Start with nothing loaded."""
        self.scopes: Final[dict[Place, ScopeState]] = {}
        self.revisions: Final[dict[tuple[Place, str], int]] = {}
        self.left: Final[dict[tuple[Place, str], Left]] = {}
        self.changed: Final[dict[Place, None]] = {}

    def stage(self, tenant: str, run_id: str, writes: Sequence[MemoryWrite]) -> Staged:
        """Return what the writes change, one after the other; raise :class:`MemoryRefused` when one cannot be."""
        staged = Staged()
        for write in writes:
            self._stage(staged, place_of(tenant, write.scope), run_id, write)
        return staged

    def keep(self, staged: Staged) -> None:
        """Take over what was staged: the transition is stored."""
        self.scopes.update(staged.scopes)
        self.left.update(staged.keys)
        self.revisions.update(
            {key: 0 if left.value_json is None else left.revision for key, left in staged.keys.items()}
        )
        self.changed.update(dict.fromkeys(staged.scopes))

    def _stage(self, staged: Staged, place: Place, run_id: str, write: MemoryWrite) -> None:
        key = (place, write.key)
        earlier = staged.keys.get(key)
        present = self.revisions.get(key, 0)
        if earlier is not None:
            present = 0 if earlier.value_json is None else earlier.revision
        _check(write, present)
        if write.value_json is None and not present:
            return
        scope = staged.scopes.get(place) or self.scopes.get(place) or ScopeState()
        more = (write.value_json is not None) - bool(present)
        if more > 0 and scope.entries >= write.room:
            message = f"{write.scope} holds {scope.entries:,} keys; no more fit."
            raise MemoryRefused(FULL, message, write.node_id, write.attempt)
        revision = scope.revision + 1
        staged.scopes[place] = replace(
            scope, revision=revision, entries=scope.entries + more, updated_at=max(scope.updated_at, write.at_ms)
        )
        staged.keys[key] = Left(write.value_json, revision, write.at_ms, run_id, write.node_id, write.attempt)


def _check(write: MemoryWrite, present: int) -> None:
    if write.expected is None or write.expected == present:
        return
    found = f"it is at revision {present}" if present else "it is not there"
    wanted = f"at revision {write.expected}" if write.expected else "not there"
    message = f"{write.key!r} in {write.scope} was expected {wanted}; {found}."
    raise MemoryRefused(CONFLICT, message, write.node_id, write.attempt)
