"""Memory through the doors (R5): read, written, forgotten by people, each change under the scope's lock.

Reading is open to the tenant, writing a key to operators, builders and admins, forgetting a whole scope to operators
and admins. What a person changes leaves an audit record, which names the key and never holds the value.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Final

import orjson
from pydantic import Field

from contracts.access import Principal
from contracts.clock import rfc3339
from contracts.errors import ErrorItem, MemoryFull, MemoryInvalid, MemoryNotFound, StaleRevision
from contracts.ids import AUDIT, is_token
from contracts.memory import AGENT, NO_STORY, MemoryLimits, Scope
from contracts.ports import Clock, Ids
from contracts.wire import MAX_DEPTH, Wire, deep_place, read_model
from service.rights import check_empty_memory, check_write_memory
from store import audit
from store import memory as stored
from store.audit import AuditRow
from store.connect import Database
from store.memory import EntryRow, ScopeRow
from store.memory_sheet import ScopeState
from store.unit import Unit

ABSENT: Final = 0
"""The revision of what is not there."""


class MemoryInput(Wire):
    """What is to be remembered: any JSON value; its keys are the caller's and never rewritten."""

    value: Any = Field()


@dataclass(frozen=True, slots=True)
class Kept:
    """An entry after it was written, and whether it is new."""

    entry: dict[str, Any]
    revision: int
    created: bool


class Memory:
    """The use cases of memory; no state of its own."""

    def __init__(self, database: Database, clock: Clock, ids: Ids, limits: MemoryLimits) -> None:
        """Take the world and how much is kept."""
        self._database, self._clock, self._ids, self._limits = database, clock, ids, limits

    async def scopes(self, principal: Principal, *, cursor: str | None, limit: int) -> dict[str, Any]:
        """Return ``{"items", "next_cursor"}``: the tenant's scopes that hold something, by name."""
        page = await stored.scope_page(self._database, principal.tenant, limit=limit, cursor=cursor)
        return {"items": [_scope(row) for row in page.rows], "next_cursor": page.next_cursor}

    async def page(
        self, principal: Principal, scope: Scope, *, prefix: str, cursor: str | None, limit: int
    ) -> dict[str, Any]:
        """Return a page of entries by key, without their values. Raises ``MemoryInvalid`` (names), ``BadQuery``."""
        _check(scope)
        page = await stored.page(self._database, principal.tenant, scope, prefix=prefix, limit=limit, cursor=cursor)
        return {"items": [_item(row) for row in page.rows], "next_cursor": page.next_cursor}

    async def get(self, principal: Principal, scope: Scope, key: str) -> dict[str, Any]:
        """Return an entry with its value. Raises ``MemoryInvalid`` (names), ``MemoryNotFound``."""
        _check(scope, key)
        row = await stored.entry(self._database, principal.tenant, scope, key)
        if row is None:
            raise MemoryNotFound
        return _entry(row)

    async def put(self, principal: Principal, scope: Scope, key: str, body: Any, expected: int | None) -> Kept:
        """Write an entry; ``expected`` is the revision it must have, 0: it must not be there, None: whatever it has.

        Raises ``Forbidden``, ``MemoryInvalid``, ``StaleRevision``, ``MemoryFull``.
        """
        check_write_memory(principal)
        _check(scope, key)
        text = self._text(read_model(MemoryInput, body, MemoryInvalid).value)
        now_ms = self._clock.now_ms()
        async with self._database.unit() as unit:
            state = await stored.lock(unit, principal.tenant, scope, now_ms)
            earlier = await self._expected(unit, principal, scope, key, expected)
            if earlier is None and state.entries >= self._limits.keys:
                raise MemoryFull(f"{scope} holds {state.entries:,} keys; no more fit.")
            made = EntryRow(
                principal.tenant, scope.kind, scope.owner, scope.story, key, text, state.revision + 1,
                now_ms if earlier is None else earlier.created_at, now_ms, person=principal.subject,
            )  # fmt: skip
            await stored.put(unit, made, _after(state, now_ms, more=int(earlier is None)))
            await self._record(unit, principal, "memory.written", scope, now_ms, key=key, revision=made.revision)
        return Kept(_entry(made), made.revision, earlier is None)

    async def delete(self, principal: Principal, scope: Scope, key: str, expected: int | None) -> None:
        """Forget an entry. Raises ``Forbidden``, ``MemoryInvalid``, ``MemoryNotFound``, ``StaleRevision``."""
        check_write_memory(principal)
        _check(scope, key)
        now_ms = self._clock.now_ms()
        async with self._database.unit() as unit:
            state = await stored.lock(unit, principal.tenant, scope, now_ms)
            earlier = await self._expected(unit, principal, scope, key, expected)
            if earlier is None:
                raise MemoryNotFound
            await stored.delete(unit, principal.tenant, scope, key, _after(state, now_ms, more=-1))
            told = {"key": key, "revision": earlier.revision}
            await self._record(unit, principal, "memory.forgotten", scope, now_ms, **told)

    async def forget(self, principal: Principal, scope: Scope) -> dict[str, Any]:
        """Forget everything in a scope: ``{"scope", "forgotten"}``. Raises ``Forbidden``, ``MemoryInvalid``."""
        check_empty_memory(principal)
        _check(scope)
        now_ms = self._clock.now_ms()
        async with self._database.unit() as unit:
            state = await stored.lock(unit, principal.tenant, scope, now_ms)
            gone = await stored.empty(unit, principal.tenant, scope, _after(state, now_ms, more=-state.entries))
            if gone:
                await self._record(unit, principal, "memory.emptied", scope, now_ms, entries=gone)
        return {"scope": str(scope), "forgotten": gone}

    # --- inside ------------------------------------------------------------------------------------------------------

    def _text(self, value: Any) -> str:
        place = deep_place(value)
        if place is not None:
            raise MemoryInvalid(errors=[ErrorItem(f"/value{place}", "too_deep", f"Nested over {MAX_DEPTH} levels.")])
        text = orjson.dumps(value)
        if len(text) > self._limits.value_bytes:
            message = f"The value has {len(text):,} bytes; {self._limits.value_bytes:,} are kept."
            raise MemoryInvalid(message, errors=[ErrorItem("/value", "value_too_large", message)])
        return text.decode()

    async def _expected(
        self, unit: Unit, principal: Principal, scope: Scope, key: str, expected: int | None
    ) -> EntryRow | None:
        """Return the entry as it stands; raise ``StaleRevision`` unless it has the expected revision."""
        row = await stored.locked_entry(unit, principal.tenant, scope, key)
        revision = ABSENT if row is None else row.revision
        if expected is not None and expected != revision:
            found = f"It is at revision {revision}." if revision else "It is not there."
            raise StaleRevision(found, revision=revision or None)
        return row

    async def _record(
        self, unit: Unit, principal: Principal, kind: str, scope: Scope, now_ms: int, **told: Any
    ) -> None:
        said = {"roles": sorted(principal.roles), "scope": str(scope), **told}
        await audit.add(
            unit,
            AuditRow(
                self._ids.new(AUDIT), principal.tenant, now_ms, kind, principal.subject, None, None,
                orjson.dumps(said).decode(),
            ),
        )  # fmt: skip


def _after(state: ScopeState, now_ms: int, *, more: int) -> ScopeState:
    return replace(state, revision=state.revision + 1, entries=state.entries + more, updated_at=now_ms)


def _check(scope: Scope, key: str | None = None) -> None:
    """Raise ``MemoryInvalid`` with a pointer per part of a name that is none (R6)."""
    parts = [("agent" if scope.kind == AGENT else "namespace", scope.owner)]
    if scope.story != NO_STORY or scope.kind == AGENT:
        parts.append(("story", scope.story))
    if key is not None:
        parts.append(("key", key))
    message = "Names are 1 to 128 letters, digits and . _ : - and start with a letter or digit."
    errors = [ErrorItem(f"/{name}", "bad_id", message) for name, text in parts if not is_token(text)]
    if errors:
        raise MemoryInvalid(message, errors=errors)


def _scope(row: ScopeRow) -> dict[str, Any]:
    scope = Scope(row.kind, row.owner, row.story)
    return {"scope": str(scope), "entries": row.entries, "updated_at": rfc3339(row.updated_at)}


def _item(row: EntryRow) -> dict[str, Any]:
    by_run = {"run_id": row.run_id, "node_id": row.node_id, "attempt": row.attempt}
    return {
        "scope": str(Scope(row.kind, row.owner, row.story)),
        "key": row.key,
        "revision": row.revision,
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
        "written_by": {"person": row.person} if row.person is not None else by_run,
    }


def _entry(row: EntryRow) -> dict[str, Any]:
    return {**_item(row), "value": orjson.loads(row.value_json)}
