"""What an attempt reads of memory, and what it wants remembered: written when its node completes, or never (R5)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import orjson

from contracts.capability import CapabilityError
from contracts.errors import StoreUnavailable
from contracts.ids import is_token
from contracts.memory import (
    AGENT,
    CONFLICT,
    MAX_WRITES,
    SHARED,
    MemoryLimits,
    MemoryReader,
    MemoryWrite,
    Remembered,
    Scope,
    read_scope,
    write_from,
)
from contracts.outcome import Fail, Retry
from contracts.ports import Clock
from contracts.wire import MAX_DEPTH, deep_place, has_nul

UNNAMED = "memory_scope_unnamed"
INVALID = "memory_invalid"


def scopes_of(names: Iterable[str]) -> tuple[Scope, ...]:
    """Return the scopes that an envelope names (``context.memory``), each once, in its order."""
    return tuple(dict.fromkeys(scope for scope in map(read_scope, names) if scope is not None))


def scopes_for(own: str | None, named: tuple[Scope, ...], story_id: str | None) -> tuple[Scope, ...]:
    """Return the scopes that a capability may touch: those its run names, unless it has one of its own (``own``).

    One that has is given that and the shared ones of its run, but never another agent's, and its own in no other story.
    """
    if own is None:
        return named
    scope = read_scope(f"{own}/{story_id or ''}" if own.startswith(f"{AGENT}:") else own)
    shared = [each for each in named if each.kind == SHARED]
    return tuple(dict.fromkeys([*shared, *(() if scope is None else (scope,))]))


class Notebook:
    """One attempt's view of the scopes that its run may touch.

    A run touches no other scope: asking for one raises ``CapabilityError`` (``memory_scope_unnamed``), which no further
    attempt would mend.
    """

    def __init__(
        self,
        named: Sequence[Scope],
        reader: MemoryReader,
        limits: MemoryLimits,
        clock: Clock,
        whose: tuple[str, str, int],
        parked: Mapping[str, Any] | None = None,
    ) -> None:
        """Take the world; ``whose`` is tenant, node and attempt; ``parked`` is what it kept while it asked people."""
        self._named, self._reader, self._limits, self._clock = named, reader, limits, clock
        self._tenant, self._node_id, self._attempt = whose
        self._read: dict[Scope, dict[str, Remembered]] = {}
        self.writes: list[MemoryWrite] = [write_from(kept) for kept in (parked or {}).get("memory", ())]

    # --- reading -----------------------------------------------------------------------------------------------------

    async def open(self) -> list[str]:
        """Read what the named scopes hold, the newest first, up to the limit of bytes for all of them.

        Returns the scopes of which something was left out. Raises ``StoreUnavailable``.
        """
        left, short = self._limits.read_bytes, []
        for scope in self._named:
            found, whole = await self._reader.newest(self._tenant, scope, left)
            self._read[scope] = {one.key: one for one in found}
            left -= sum(len(orjson.dumps(one.value)) for one in found)
            if not whole:
                short.append(str(scope))
        return short

    def shown(self) -> dict[str, dict[str, Any]]:
        """Return scope → key → value, as a bundle has it."""
        return {
            str(scope): {key: one.value for key, one in sorted(found.items())} for scope, found in self._read.items()
        }

    def revision(self, scope: str, key: str) -> int:
        """Return the revision of a key as it was read, 0 when it was not there."""
        found = self._read.get(self._scope(scope), {}).get(key)
        return 0 if found is None else found.revision

    async def get(self, scope: str, key: str) -> Remembered | None:
        """Read one entry now. Raises ``CapabilityError``, ``StoreUnavailable``."""
        return await self._reader.get(self._tenant, self._scope(scope), self._key(key))

    async def keys(self, scope: str, prefix: str, most: int) -> list[Remembered]:
        """Read a scope's entries by key, without their values. Raises ``CapabilityError``, ``StoreUnavailable``."""
        return await self._reader.keys(self._tenant, self._scope(scope), prefix, most)

    # --- writing -----------------------------------------------------------------------------------------------------

    def remember(self, scope: str, key: str, value: Any, expected_revision: int | None = None) -> None:
        """Want a value remembered; raises ``CapabilityError`` for what could never be."""
        self._want(scope, key, self._text(value), expected_revision)

    def forget(self, scope: str, key: str, expected_revision: int | None = None) -> None:
        """Want a key forgotten; one that is not there is none to forget."""
        self._want(scope, key, None, expected_revision)

    def _want(self, scope: str, key: str, value_json: str | None, expected: Any) -> None:
        place, name = self._scope(scope), self._key(key)
        if expected is not None and (isinstance(expected, bool) or not isinstance(expected, int) or expected < 0):
            raise CapabilityError(INVALID, "A revision is a whole number; 0: not there yet.", retryable=False)
        if len(self.writes) >= MAX_WRITES:
            message = f"An attempt writes {MAX_WRITES} keys at most."
            raise CapabilityError("memory_too_many_writes", message, retryable=False)
        self.writes.append(
            MemoryWrite(
                place, name, value_json, expected, self._node_id, self._attempt, self._clock.now_ms(), self._limits.keys
            )
        )

    def _scope(self, name: Any) -> Scope:
        scope = read_scope(name) if isinstance(name, str) else None
        if scope is None:
            message = f"{name!r} is no scope: agent:<agent>/<story> or shared:<namespace>."
            raise CapabilityError(INVALID, message[:500], retryable=False)
        if scope not in self._named:
            raise CapabilityError(UNNAMED, f"The run does not name {scope} in context.memory.", retryable=False)
        return scope

    def _key(self, key: Any) -> str:
        if not isinstance(key, str) or not is_token(key):
            message = "A key is 1 to 128 letters, digits and . _ : - and starts with a letter or digit."
            raise CapabilityError(INVALID, message, retryable=False)
        return key

    def _text(self, value: Any) -> str:
        try:
            encoded = orjson.dumps(value)
        except TypeError as error:
            raise CapabilityError(INVALID, f"The value is not JSON: {error}.", retryable=False) from error
        if len(encoded) > self._limits.value_bytes:
            message = f"The value has {len(encoded):,} bytes; {self._limits.value_bytes:,} are kept."
            raise CapabilityError("memory_value_too_large", message, retryable=False)
        read = orjson.loads(encoded)
        if deep_place(read) is not None or has_nul(read):
            message = f"The value is nested over {MAX_DEPTH} levels, or holds a NUL character."
            raise CapabilityError(INVALID, message, retryable=False)
        return encoded.decode()

    # --- looking ahead -----------------------------------------------------------------------------------------------

    async def conflict(self, *, once: bool) -> Retry | None:
        """Return why what is wanted cannot be written as it stands now; the journal looks again, under a lock.

        ``once`` says that the attempt did something that must not be repeated.
        """
        seen: set[tuple[Scope, str]] = set()
        for write in self.writes:
            place = (write.scope, write.key)
            if write.expected is not None and place not in seen:
                try:
                    found = await self._reader.get(self._tenant, write.scope, write.key)
                except StoreUnavailable:
                    return None
                present = 0 if found is None else found.revision
                if present != write.expected:
                    return conflicting(write, once=once)
            seen.add(place)
        return None


class NoNotebook:
    """Memory of a run that names no scope: there is none to read or write."""

    writes: Sequence[MemoryWrite] = ()

    def revision(self, scope: str, key: str) -> int:
        """Refuse."""
        raise _none(scope)

    def remember(self, scope: str, key: str, value: Any, expected_revision: int | None = None) -> None:
        """Refuse."""
        raise _none(scope)

    def forget(self, scope: str, key: str, expected_revision: int | None = None) -> None:
        """Refuse."""
        raise _none(scope)


NO_NOTEBOOK = NoNotebook()


def _none(scope: str) -> CapabilityError:
    return CapabilityError(UNNAMED, f"The run does not name {scope} in context.memory.", retryable=False)


def conflicting(write: MemoryWrite, *, once: bool) -> Retry:
    """Return what a compare-and-set that came too late amounts to: another attempt reads what is there now."""
    wanted = f"at revision {write.expected}" if write.expected else "not there"
    return Retry(CONFLICT, f"{write.key!r} in {write.scope} was expected {wanted}; it is not.", ambiguous=once)


def refused(code: str, message: str, *, once: bool) -> Retry | Fail:
    """Return what a write that the journal refused amounts to: only a conflict is worth another attempt."""
    if code == CONFLICT:
        return Retry(code, message, ambiguous=once)
    return Fail(code, message, ambiguous=once)


def meets(writes: Iterable[MemoryWrite], saving: Iterable[Sequence[MemoryWrite]]) -> MemoryWrite | None:
    """Return the first conditional write to what is being saved already: what it was made from is past."""
    under_way = {(write.scope, write.key) for some in saving for write in some}
    return next((one for one in writes if one.expected is not None and (one.scope, one.key) in under_way), None)
