"""The registry: built-in capabilities, files given at start, and plug-ins, as one directory (F4, F15).

It refuses to start with declarations that contradict one another, naming both places; it never guesses which one wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import Final

from capabilities.catalogue import CAPABILITIES, FACETS, Entry
from capabilities.declarations import DeclarationError, check_spec, place_of
from capabilities.loading import ENTRY_POINTS, Declared, from_entry_points, from_file
from capabilities.world import World
from contracts.capability import Capability, CapabilitySpec, Catalogue, Facet

REMEDIES: Final[Mapping[str, str]] = MappingProxyType({
    "model": "Set FLEX_MODEL_BASE_URL and FLEX_MODEL (and FLEX_MODEL_API_KEY if the endpoint wants one)",
})  # fmt: skip


class RegistryConflict(ValueError):
    """Two declarations contradict each other; the message names both places."""


class Registry:
    """A :class:`contracts.capability.CapabilityDirectory`. Built in one thread at start, then read from any."""

    def __init__(
        self,
        world: World | None = None,
        *,
        facets: Sequence[Facet] = FACETS,
        capabilities: Sequence[Entry] = CAPABILITIES,
    ) -> None:
        """Take the built-in ones, or others in their place. Raises :class:`RegistryConflict`."""
        self._world = world or World()
        self._configured = frozenset({"people"} | ({"model"} if self._world.model is not None else set()))
        self._facets: dict[str, Facet] = {}
        self._capabilities: dict[tuple[str, str], Capability] = {}
        self._catalogue: Catalogue | None = None
        self.add(facets, [_built(entry, self._world) for entry in capabilities])

    def load_file(self, path: str | Path) -> None:
        """Add what a Python file declares; :class:`capabilities.loading.CapabilityFileError` names file and line."""
        self._take(from_file(Path(path)))

    def load_entry_points(self, group: str = ENTRY_POINTS) -> None:
        """Add what installed distributions declare under an entry point group, in the order of their names."""
        for declared in from_entry_points(group):
            self._take(declared)

    def add(self, facets: Iterable[Facet], capabilities: Iterable[Capability]) -> None:
        """Add declarations, all or none. Raises :class:`RegistryConflict` or ``DeclarationError``."""
        known, callables = dict(self._facets), dict(self._capabilities)
        for facet in facets:
            _add_facet(known, facet)
        for capability in capabilities:
            _add_capability(callables, capability)
        for capability in callables.values():
            _check_facets(capability, known)
        _check_lists(known)
        self._facets, self._capabilities, self._catalogue = known, callables, None

    def fork(self) -> Registry:
        """Return another registry with the same declarations; adding to it changes nothing here."""
        copy = Registry(self._world, facets=(), capabilities=())
        copy._facets, copy._capabilities = dict(self._facets), dict(self._capabilities)
        return copy

    def become(self, other: Registry) -> None:
        """Hold what ``other`` holds from now on; callables that were found before stay as they are."""
        self._facets, self._capabilities, self._catalogue = dict(other._facets), dict(other._capabilities), None

    def declared(self, capability_id: str) -> list[Capability]:
        """Return every version of a capability, active or not, as they were added."""
        return [each for (name, _), each in self._capabilities.items() if name == capability_id]

    def catalogue(self) -> Catalogue:
        """Return what is there; the same object until something is added."""
        if self._catalogue is None:
            self._catalogue = self._snapshot()
        return self._catalogue

    def find(self, capability_id: str, version: str | None = None) -> Capability | None:
        """Return the active capability of that id and version, the newest active one without a version, or None."""
        if version is not None:
            found = self._capabilities.get((capability_id, version))
            if found is None or not found.spec.requires:
                return found
            return found if self._missing(found.spec) is None else None
        same = [each for (name, _), each in self._capabilities.items() if name == capability_id]
        active = [each for each in same if self._missing(each.spec) is None]
        return max(active, key=lambda each: newness(each.spec.version), default=None)

    def _missing(self, spec: CapabilitySpec) -> str | None:
        """Return the first thing that the capability requires and nobody configured."""
        if not spec.requires:
            return None
        return next((need for need in spec.requires if need not in self._configured), None)

    def _snapshot(self) -> Catalogue:
        specs = tuple(each.spec for each in self._capabilities.values())
        active = frozenset(spec.capability_id for spec in specs if self._missing(spec) is None)
        versions: dict[tuple[str, str], str] = {}
        for spec in specs:
            need = self._missing(spec)
            if need is not None:
                why = REMEDIES.get(need, f"It requires {need}, which is not configured")
                versions[spec.capability_id, spec.version] = why
        reasons = {name: why for (name, _), why in versions.items() if name not in active}
        facets = tuple(self._facets.values())
        return Catalogue(
            facets,
            specs,
            active,
            MappingProxyType(reasons),
            MappingProxyType(versions),
            models=self._world.model is not None,
            remembers=any(spec.memory for spec in specs),
            awaits=any(spec.documents for spec in specs),
            calls_flows=any(spec.flows for spec in specs),
        )

    def _take(self, declared: Declared) -> None:
        self.add(declared.facets, declared.capabilities)


def newness(version: str) -> tuple[tuple[int, int, str], ...]:
    """Return a key that sorts versions: numbers as numbers, words before numbers (``2.0.0-rc`` < ``2.0.0.1``)."""
    parts = version.replace("-", ".").replace("+", ".").split(".")
    return tuple((1, int(part), "") if part.isascii() and part.isdigit() else (0, 0, part) for part in parts)


def _built(entry: Entry, world: World) -> Capability:
    # A class with a class-level spec looks like a capability to isinstance, so ask for classes first.
    if isinstance(entry, type) or not isinstance(entry, Capability):
        return entry(world)
    return entry


def _add_facet(known: dict[str, Facet], facet: Facet) -> None:
    """Add a facet; the same declaration again only adds its aliases."""
    other = known.setdefault(facet.name, facet)
    if other.schema != facet.schema or other.list_of != facet.list_of:
        places = f"{place_of(other)} and {place_of(facet)}"
        raise RegistryConflict(f"The facet {facet.name} is declared twice and differently: {places}.")
    aliases = tuple(dict.fromkeys((*other.aliases, *facet.aliases)))
    if aliases != other.aliases:
        known[facet.name] = replace(other, aliases=aliases)


def _add_capability(known: dict[tuple[str, str], Capability], capability: Capability) -> None:
    spec = capability.spec
    check_spec(spec, place_of(capability))
    other = known.setdefault((spec.capability_id, spec.version), capability)
    if other is not capability:
        places = f"{place_of(other)} and {place_of(capability)}"
        raise RegistryConflict(f"The capability {spec.capability_id} {spec.version} is declared twice: {places}.")


def _check_facets(capability: Capability, known: Mapping[str, Facet]) -> None:
    spec = capability.spec
    named = [*(param.facet for param in spec.consumes.values()), *spec.produces]
    unknown = sorted({name for name in named if name not in known})
    if unknown:
        message = f"{spec.capability_id} names the facet {unknown[0]}, which nobody declares"
        raise DeclarationError(place_of(capability), message)


def _check_lists(known: Mapping[str, Facet]) -> None:
    for facet in known.values():
        if facet.list_of is not None and facet.list_of not in known:
            message = f"the facet {facet.name} is a list of {facet.list_of}, which nobody declares"
            raise DeclarationError(place_of(facet), message)
