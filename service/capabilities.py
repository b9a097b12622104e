"""What can be done here, for people and clients: capabilities and facets (F4)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from contracts.access import Principal
from contracts.capability import CapabilityDirectory, CapabilitySpec, Catalogue, Facet
from service.offering import Offering

T = TypeVar("T")


class Capabilities:
    """The use cases of looking around. Every caller sees every capability of the service, and its tenant's flows."""

    def __init__(self, directory: CapabilityDirectory, offering: Offering | None = None) -> None:
        """Take the directory, and who knows which flows are capabilities."""
        self._directory, self._offering = directory, offering

    async def _catalogue(self, principal: Principal) -> Catalogue:
        return (
            self._directory.catalogue() if self._offering is None else await self._offering.catalogue(principal.tenant)
        )

    async def list(self, principal: Principal, *, limit: int, cursor: str | None) -> dict[str, Any]:
        """Return ``{"items": [Capability], "next_cursor": …}`` by id; inactive ones say what would activate them."""
        catalogue = await self._catalogue(principal)
        return page_of_known(
            sorted(catalogue.capabilities, key=_spec_key),
            _spec_key,
            lambda spec: capability_item(spec, catalogue),
            limit,
            cursor,
        )

    async def facets(self, principal: Principal, *, limit: int, cursor: str | None) -> dict[str, Any]:
        """Return ``{"items": [Facet], "next_cursor": …}`` by name."""
        found = sorted((await self._catalogue(principal)).facets, key=_facet_key)
        return page_of_known(found, _facet_key, _facet, limit, cursor)


def page_of_known(
    found: Sequence[T],
    key: Callable[[T], str],
    render: Callable[[T], Mapping[str, Any]],
    limit: int,
    cursor: str | None,
) -> dict[str, Any]:
    """Return a page of ``found`` as it is listed: what comes after the cursor.

    The cursor is the key of the last item seen; one that is gone still has a place.
    """
    rest = [item for item in found if cursor is None or key(item) > cursor]
    page = rest[:limit]
    return {"items": [render(item) for item in page], "next_cursor": key(page[-1]) if len(rest) > limit else None}


def _spec_key(spec: CapabilitySpec) -> str:
    return f"{spec.capability_id}@{spec.version}"


def _facet_key(facet: Facet) -> str:
    return facet.name


def capability_item(spec: CapabilitySpec, catalogue: Catalogue) -> dict[str, Any]:
    """Return a capability as it is listed."""
    resting = catalogue.inactive_versions.get((spec.capability_id, spec.version))
    active = resting is None and spec.capability_id in catalogue.active
    reason = resting or catalogue.inactive_reasons.get(spec.capability_id, "It is not active.")
    return {
        "capability_id": spec.capability_id,
        "version": spec.version,
        "description": spec.description,
        "kind": spec.kind,
        "consumes": {name: {"facet": param.facet, "required": param.required} for name, param in spec.consumes.items()},
        "produces": [*spec.produces],
        "effects": spec.effects,
        "cost": spec.cost,
        "tokens": spec.tokens,
        "latency_ms": spec.latency_ms,
        "quality": spec.quality,
        "generic": spec.generic,
        "batch": spec.batch,
        "requires": [*spec.requires],
        "scopes": [*spec.scopes],
        "active": active,
        "inactive_reason": None if active else reason,
    }


def _facet(facet: Facet) -> dict[str, Any]:
    return {
        "name": facet.name,
        "aliases": [*facet.aliases],
        "description": facet.description,
        "schema": facet.schema if isinstance(facet.schema, bool) else dict(facet.schema),
        "list_of": facet.list_of,
    }
