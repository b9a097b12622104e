"""What can be done now: the registry of this process together with what was registered while it runs (F15).

Both are read on hot paths, so nothing here waits and nothing is worked out twice: the merged catalogue is one object
until a declaration comes or goes, or one of them falls silent or speaks again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Final

import structlog

from capabilities.egress import EgressPolicy
from capabilities.http_request import check_address
from capabilities.registry import Registry, newness
from capabilities.remote import RemoteCapability
from contracts.capability import Capability, CapabilitySpec, Catalogue, Facet
from contracts.errors import CapabilityConflict, Conflict, ErrorItem, FacetConflict, RegistrationInvalid
from contracts.ports import Clock
from contracts.registration import Registration, stored_registration
from contracts.schema import content_hash
from contracts.wire import pointer_of

_log = structlog.get_logger(__name__)
NEVER: Final = 2**62
Key = tuple[str, str]
"""(capability_id, version)"""


@dataclass(frozen=True, slots=True)
class Registered:
    """A registration as it is stored: its declaration's text and its last heartbeat (ms since the epoch)."""

    capability_id: str
    version: str
    declaration: str
    beat_at: int

    @property
    def key(self) -> Key:
        """Return id and version."""
        return self.capability_id, self.version


@dataclass(slots=True)
class _Entry:
    text: str
    declared: Registration
    capability: Capability
    beat_at: int
    conflict: str | None = None

    @property
    def silent_at(self) -> int:
        """Return when it falls silent; what is in conflict always is."""
        return -1 if self.conflict else self.beat_at + self.declared.heartbeat_seconds * 1_000


class LiveDirectory:
    """A :class:`contracts.capability.CapabilityDirectory` over a registry that does not change any more."""

    def __init__(self, registry: Registry, egress: EgressPolicy, clock: Clock) -> None:
        """Start with nothing registered; calls go where ``egress`` admits."""
        self._registry, self._egress, self._clock = registry, egress, clock
        self._entries: dict[Key, _Entry] = {}
        self._catalogue: Catalogue | None = None
        self._merged_from: Catalogue | None = None
        self._silent: frozenset[Key] = frozenset()
        self._changes_at = NEVER

    # --- what the planner and the engine ask -------------------------------------------------------------------------

    def catalogue(self) -> Catalogue:
        """Return what is there; the same object until something changes, silence included."""
        base = self._registry.catalogue()
        if not self._entries:
            return base
        if self._clock.now_ms() >= self._changes_at:
            self._listen()
        if self._catalogue is None or self._merged_from is not base:
            self._catalogue, self._merged_from = self._merge(base), base
        return self._catalogue

    def find(self, capability_id: str, version: str | None = None) -> Capability | None:
        """Return the active capability of that id and version, the newest active one without a version, or None."""
        if not self._entries:
            return self._registry.find(capability_id, version)
        if version is not None and (entry := self._entries.get((capability_id, version))) is not None:
            return entry.capability if self._speaks(entry) else self._registry.find(capability_id, version)
        found = self._registry.find(capability_id, version)
        if version is not None:
            return found
        mine = [
            entry.capability
            for (name, _), entry in self._entries.items()
            if name == capability_id and self._speaks(entry)
        ]
        both = [*mine, *([] if found is None else [found])]
        return max(both, key=lambda each: newness(each.spec.version), default=None)

    def _speaks(self, entry: _Entry) -> bool:
        return self._clock.now_ms() < entry.silent_at

    # --- what registering asks ---------------------------------------------------------------------------------------

    async def check_address(self, declared: Registration) -> None:
        """Raise :class:`contracts.capability.CapabilityError` for an address that a call would not reach."""
        await check_address(self._egress, declared.address.url)

    def check(self, declared: Registration, others: Iterable[Registered]) -> None:
        """Refuse a declaration that contradicts the registry or ``others``, or names a facet that is not there.

        Raises ``CapabilityConflict``, ``FacetConflict``, ``RegistrationInvalid`` (code ``unknown_facet`` per item).
        """
        base = self._registry.catalogue()
        if (declared.capability_id, declared.version) in {_key(spec) for spec in base.capabilities}:
            message = f"{declared.capability_id} {declared.version} is built into this service."
            raise CapabilityConflict(errors=[ErrorItem("/version", "capability_conflict", message)])
        problems = list(_unknown_facets(declared, base.facets))
        if problems:
            raise RegistrationInvalid("It names facets that nobody declares.", errors=problems)
        facets = {facet.name: facet for facet in base.facets}
        for other in filter(None, map(_read, others)):
            for facet in other.facets:
                facets.setdefault(facet.name, facet.as_facet())
        _check_facets(declared, facets)

    # --- what is registered ------------------------------------------------------------------------------------------

    def take(self, rows: Sequence[Registered]) -> None:
        """Take what is registered now in place of what was; equal rows change nothing."""
        made = ((row.key, self._entry(row)) for row in sorted(rows, key=lambda row: row.key))
        entries = {key: entry for key, entry in made if entry is not None}
        same = [(key, entry.text) for key, entry in entries.items()] == [
            (key, entry.text) for key, entry in self._entries.items()
        ]
        self._entries = entries
        if not same:
            self._settle()
            self._catalogue = None
        self._listen()

    def beaten(self, beats: Mapping[Key, int]) -> None:
        """Note the last heartbeats (ms since the epoch); what is not registered here is left out."""
        for key, beat_at in beats.items():
            if key in self._entries:
                self._entries[key].beat_at = beat_at
        self._listen()

    def redeclared(self) -> None:
        """Look again at what is registered: the service's own declarations have changed."""
        self._settle()
        self._catalogue = None
        self._listen()

    def _entry(self, row: Registered) -> _Entry | None:
        known = self._entries.get(row.key)
        if known is not None and known.text == row.declaration:
            known.beat_at = row.beat_at
            return known
        declared = _read(row)
        if declared is None:
            return None
        url, seconds = declared.address.url, declared.timeout_seconds
        remote = RemoteCapability(declared.spec(), url, self._egress, seconds)
        return _Entry(row.declaration, declared, remote, row.beat_at)

    def _settle(self) -> None:
        """Find what contradicts the registry: a file or a plug-in may have come since it was registered."""
        settled: list[Registered] = []
        for (name, version), entry in self._entries.items():
            try:
                self.check(entry.declared, settled)
                entry.conflict = None
                settled.append(Registered(name, version, entry.text, entry.beat_at))
            except (Conflict, RegistrationInvalid) as error:
                entry.conflict = error.errors[0].message if error.errors else error.message
                _log.warning("registration_unusable", capability_id=name, version=version, why=entry.conflict)

    def _listen(self) -> None:
        """Work out who is silent; only a change of that makes another catalogue."""
        now = self._clock.now_ms()
        ends = {key: entry.silent_at for key, entry in self._entries.items()}
        silent = frozenset(key for key, end in ends.items() if end <= now)
        self._changes_at = min((end for end in ends.values() if end > now), default=NEVER)
        if silent != self._silent:
            self._silent, self._catalogue = silent, None

    def _merge(self, base: Catalogue) -> Catalogue:
        built_in = {_key(spec) for spec in base.capabilities}
        shown = {key: entry for key, entry in self._entries.items() if key not in built_in}
        facets = {facet.name: facet for facet in base.facets}
        for entry in shown.values():
            for facet in () if entry.conflict else entry.declared.facets:
                _join(facets, facet.as_facet())
        active = base.active | {key[0] for key in shown if key not in self._silent}
        versions = dict(base.inactive_versions) | {key: _why(shown[key]) for key in shown if key in self._silent}
        specs = (*base.capabilities, *(entry.capability.spec for entry in shown.values()))
        reasons = dict(base.inactive_reasons) | {name: why for (name, _), why in versions.items()}
        reasons = {name: why for name, why in reasons.items() if name not in active}
        return replace(
            base,
            facets=tuple(facets.values()),
            capabilities=specs,
            active=active,
            inactive_reasons=MappingProxyType(reasons),
            inactive_versions=MappingProxyType(versions),
        )


def _read(row: Registered) -> Registration | None:
    """Return a stored declaration; None for one that an earlier version of the service took and this one does not."""
    try:
        return stored_registration(row.declaration)
    except RegistrationInvalid as error:
        _log.warning("registration_unreadable", capability_id=row.capability_id, version=row.version, why=error.message)
        return None


def _key(spec: CapabilitySpec) -> Key:
    return spec.capability_id, spec.version


def _why(entry: _Entry) -> str:
    """Return what would make it active again."""
    declared = entry.declared
    if entry.conflict:
        return f"It contradicts this service's own declarations: {entry.conflict} Register another version"
    path = f"/api/v1/capabilities/{declared.capability_id}/heartbeat"
    return f"No heartbeat for {declared.heartbeat_seconds} seconds; start it, and POST {path}"


def _join(facets: dict[str, Facet], facet: Facet) -> None:
    """Add a facet; one that is there already gets its further aliases."""
    known = facets.setdefault(facet.name, facet)
    aliases = tuple(dict.fromkeys((*known.aliases, *facet.aliases)))
    if aliases != known.aliases:
        facets[facet.name] = replace(known, aliases=aliases)


def _unknown_facets(declared: Registration, base: Sequence[Facet]) -> Iterable[ErrorItem]:
    """Yield the names that neither the declaration nor the registry declares.

    A facet of another registration does not count: it would be gone with that one.
    """
    known = {facet.name for facet in base} | {facet.name for facet in declared.facets}
    named = [(pointer_of(["consumes", name, "facet"]), taken.facet) for name, taken in declared.consumes.items()]
    named += [(f"/produces/{place}", name) for place, name in enumerate(declared.produces)]
    named += [(f"/facets/{place}/list_of", each.list_of) for place, each in enumerate(declared.facets) if each.list_of]
    for pointer, name in named:
        if name not in known:
            message = f"Neither this declaration nor the service declares the facet {name}."
            yield ErrorItem(pointer, "unknown_facet", message)


def _check_facets(declared: Registration, known: Mapping[str, Facet]) -> None:
    problems = []
    for place, mine in enumerate(declared.facets):
        other = known.get(mine.name)
        if other is None:
            continue
        message = f"The facet {mine.name} is there already, and is something else."
        if content_hash(mine.schema_) != content_hash(_plain(other)):
            problems.append(ErrorItem(f"/facets/{place}/schema", "facet_conflict", message))
        elif mine.list_of != other.list_of:
            problems.append(ErrorItem(f"/facets/{place}/list_of", "facet_conflict", message))
    if problems:
        raise FacetConflict(errors=problems)


def _plain(facet: Facet) -> dict[str, object] | bool:
    return facet.schema if isinstance(facet.schema, bool) else dict(facet.schema)
