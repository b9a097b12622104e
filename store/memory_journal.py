"""Memory writes of runs, in the transaction that completes their nodes: scopes are locked last, in order of names.

A run whose write cannot be (:class:`~store.memory_sheet.MemoryRefused`) stores nothing of its transition; the others of
the batch are stored.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final

from store import memory
from store.journal_pile import Entry
from store.memory_sheet import Left, MemoryRefused, Place, ScopeState, Sheet, Staged, place_of
from store.sqlite import SqliteStore

Fetch = Callable[..., Awaitable[Sequence[Any]]]

_SCOPE: Final = ("tenant", "kind", "owner", "story")
_OF_SCOPE: Final = ", ".join(_SCOPE)
_SCOPE_ARRAYS: Final = "$1::text[], $2::text[], $3::text[], $4::text[]"
_PLACED: Final = " AND ".join(f"m.{name} = i.{name}" for name in _SCOPE)

PG_LOCK_SCOPES: Final = f"""
INSERT INTO memory_scopes ({_OF_SCOPE}, revision, entries, updated_at)
SELECT {_OF_SCOPE}, 0, 0, $5::int8 FROM unnest({_SCOPE_ARRAYS}) WITH ORDINALITY AS i({_OF_SCOPE}, at) ORDER BY at
ON CONFLICT ({_OF_SCOPE}) DO UPDATE SET updated_at = memory_scopes.updated_at
RETURNING {_OF_SCOPE}, revision, entries, updated_at"""
PG_REVISIONS: Final = (
    f"SELECT m.tenant, m.kind, m.owner, m.story, m.key, m.revision FROM memory_entries m"
    f" JOIN unnest({_SCOPE_ARRAYS}, $5::text[]) AS i({_OF_SCOPE}, key) ON {_PLACED} AND m.key = i.key"
)
_GIVEN: Final = f"{_OF_SCOPE}, key, value_json, revision, created_at, updated_at, run_id, node_id, attempt"
PG_PUT: Final = f"""
INSERT INTO memory_entries ({_GIVEN}) SELECT {_GIVEN}
FROM unnest({_SCOPE_ARRAYS}, $5::text[], $6::text[], $7::int8[], $8::int8[], $9::int8[], $10::text[], $11::text[],
  $12::int8[]) AS i({_GIVEN})
ON CONFLICT ({_OF_SCOPE}, key) DO UPDATE SET value_json = excluded.value_json, revision = excluded.revision,
  updated_at = excluded.updated_at, run_id = excluded.run_id, node_id = excluded.node_id, attempt = excluded.attempt,
  person = NULL"""
PG_DELETE: Final = (
    f"DELETE FROM memory_entries m USING unnest({_SCOPE_ARRAYS}, $5::text[]) AS i({_OF_SCOPE}, key)"
    f" WHERE {_PLACED} AND m.key = i.key"
)
PG_SCOPES: Final = (
    "UPDATE memory_scopes m SET revision = i.revision, entries = i.entries, updated_at = i.updated_at"
    f" FROM unnest({_SCOPE_ARRAYS}, $5::int8[], $6::int8[], $7::int8[])"
    f" AS i({_OF_SCOPE}, revision, entries, updated_at) WHERE {_PLACED}"
)


class PostgresMemory:
    """The memory of one transaction of the PostgreSQL journal: a handful of statements, however many write."""

    def __init__(self, fetch: Fetch, now_ms: int) -> None:
        """Work inside the transaction that ``fetch`` runs in."""
        self._fetch, self._now, self._sheet = fetch, now_ms, Sheet()

    async def settle(self, entries: Iterable[Entry]) -> dict[str, MemoryRefused]:
        """Lock what these runs write, and return which of them cannot: run id → why. The runs' rows are locked."""
        writing = [entry for entry in entries if entry.write.memory]
        if not writing:
            return {}
        keys = sorted(
            {(place_of(entry.write.tenant, one.scope), one.key) for entry in writing for one in entry.write.memory}
        )
        places = sorted({place for place, _ in keys})
        for *place, revision, count, updated_at in await self._fetch(
            PG_LOCK_SCOPES, *zip(*places, strict=True), self._now
        ):
            self._sheet.scopes[_place(place)] = ScopeState(revision, count, updated_at)
        of_keys = [(*place, key) for place, key in keys]
        for *place, key, revision in await self._fetch(PG_REVISIONS, *zip(*of_keys, strict=True)):
            self._sheet.revisions[_place(place), key] = revision
        refused = {}
        for entry in writing:
            try:
                self._sheet.keep(self._sheet.stage(entry.write.tenant, entry.run_id, entry.write.memory))
            except MemoryRefused as why:
                refused[entry.run_id] = why
        return refused

    async def write(self) -> None:
        """Write what :meth:`settle` has let through."""
        put = [_row(place, key, left) for (place, key), left in self._sheet.left.items() if left.value_json is not None]
        gone = [(*place, key) for (place, key), left in self._sheet.left.items() if left.value_json is None]
        if put:
            await self._fetch(PG_PUT, *zip(*put, strict=True))
        if gone:
            await self._fetch(PG_DELETE, *zip(*gone, strict=True))
        if self._sheet.changed:
            states = [(place, self._sheet.scopes[place]) for place in self._sheet.changed]
            rows = [(*place, state.revision, state.entries, state.updated_at) for place, state in states]
            await self._fetch(PG_SCOPES, *zip(*rows, strict=True))


class SqliteMemory:
    """The memory of one transaction of the SQLite journal, which holds the only write lock."""

    def __init__(self, store: SqliteStore, now_ms: int) -> None:
        """Work on the connection that writes."""
        self._store, self._now, self._sheet = store, now_ms, Sheet()

    def stage(self, entry: Entry) -> Staged:
        """Return what a run's writes change; raise :class:`~store.memory_sheet.MemoryRefused`."""
        for one in entry.write.memory:
            place = place_of(entry.write.tenant, one.scope)
            if place not in self._sheet.scopes:
                given = dict(zip(_SCOPE, place, strict=True))
                rows = self._store.run(memory.LOCK, {**given, "revision": 0, "entries": 0, "updated_at": self._now})
                self._sheet.scopes[place] = ScopeState(*rows.fetchall()[0])
            if (place, one.key) not in self._sheet.revisions:
                found = self._store.run(memory.REVISION, {**_at(place), "which": one.key}).fetchall()
                self._sheet.revisions[place, one.key] = found[0][0] if found else 0
        return self._sheet.stage(entry.write.tenant, entry.run_id, entry.write.memory)

    def keep(self, staged: Staged) -> None:
        """The run passed its fence: write what was staged."""
        self._sheet.keep(staged)
        for (place, key), left in staged.keys.items():
            if left.value_json is None:
                self._store.run(memory.DELETE, {**_at(place), "which": key})
            else:
                row = dict(zip(memory.ENTRY, (*_row(place, key, left), None), strict=True))
                self._store.run(memory.PUT, row)
        for place, state in staged.scopes.items():
            numbers = {"revision": state.revision, "entries": state.entries, "updated_at": state.updated_at}
            self._store.run(memory.SCOPE_WRITTEN, {**_at(place), **numbers})


def _place(parts: Sequence[str]) -> Place:
    tenant, kind, owner, story = parts
    return (tenant, kind, owner, story)


def _at(place: Place) -> dict[str, str]:
    return {f"of_{name}": part for name, part in zip(_SCOPE, place, strict=True)}


def _row(place: Place, key: str, left: Left) -> tuple[Any, ...]:
    at = (left.at_ms, left.at_ms)
    return (*place, key, left.value_json, left.revision, *at, left.run_id, left.node_id, left.attempt)
