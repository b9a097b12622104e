"""Registering capabilities while the service runs, keeping them alive, and taking them away (F15).

A registration is stored first and then taken into this process; other processes look once a second
(:meth:`Registrations.look`). Why they belong to one tenant for now: docs/decisions/0005-registered-capabilities.md.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any, Final

from capabilities.directory import LiveDirectory, Registered
from contracts.access import DEFAULT_TENANT, Principal
from contracts.capability import CapabilityError
from contracts.errors import (
    CapabilityConflict,
    CapabilityNotFound,
    ErrorItem,
    Forbidden,
    RegistrationInvalid,
    TooManyCapabilities,
)
from contracts.registration import Registration, read_registration
from service.capabilities import capability_item
from store import registrations as stored
from store.connect import Database
from store.registrations import Pulse, RegistrationRow
from store.unit import Unit

MOST: Final = 1_000
"""How many capabilities can be registered in one service."""
RESOLVE_SECONDS: Final = 5.0


class Registrations:
    """The use cases of registered capabilities; ``tenant`` is the one whose registrations this process serves."""

    def __init__(
        self, database: Database, directory: LiveDirectory, tenant: str = DEFAULT_TENANT, most: int = MOST
    ) -> None:
        """Take the database and the directory to keep up to date; no more than ``most`` are taken."""
        self._database, self._directory, self._tenant, self._most = database, directory, tenant, most
        self._seen: Pulse | None = None
        self._taking = asyncio.Lock()

    async def register(self, principal: Principal, body: Any) -> tuple[dict[str, Any], bool]:
        """Store a declaration (a JSON value) and return the capability as it is listed, and whether it is new.

        The same declaration again counts as a heartbeat. Raises ``RegistrationInvalid``, ``SchemaRefused``,
        ``Unsupported``, ``CapabilityConflict``, ``FacetConflict``, ``TooManyCapabilities``, ``Forbidden``.
        """
        self._check(principal)
        declared = read_registration(body)
        await self._check_address(declared)
        async with self._database.unit() as unit:
            created = await self._store(unit, principal, declared)
        await self.look()
        return capability_item(declared.spec(), self._directory.catalogue()), created

    async def heartbeat(self, principal: Principal, capability_id: str, version: str | None) -> None:
        """Say that a version, or every version without one, is there. Raises ``CapabilityNotFound``, ``Forbidden``."""
        self._check(principal)
        now_ms = self._database.clock.now_ms()
        async with self._database.unit() as unit:
            versions = await stored.beat(unit, self._tenant, capability_id, version, now_ms)
        if not versions:
            raise CapabilityNotFound
        self._directory.beaten({(capability_id, each): now_ms for each in versions})

    async def remove(self, principal: Principal, capability_id: str, version: str | None) -> None:
        """Take a version, or every version without one, away. Raises ``CapabilityNotFound``, ``Forbidden``."""
        self._check(principal)
        async with self._database.unit() as unit:
            await stored.touch(unit, self._tenant)
            if not await stored.remove(unit, self._tenant, capability_id, version):
                raise CapabilityNotFound
        await self.look()

    async def look(self) -> None:
        """Take over what changed since the last look. Raises ``StoreUnavailable``.

        It reads everything after a registration or a deletion, the times of heartbeats after a heartbeat, else nothing.
        """
        async with self._taking:
            pulse = await stored.pulse(self._database, self._tenant)
            if self._seen is None or pulse.changes != self._seen.changes:
                async with self._database.reader() as reader:
                    self._directory.take(_registered(await stored.all_of(reader, self._tenant)))
            elif pulse.beats != self._seen.beats:
                self._directory.beaten(await stored.beats(self._database, self._tenant))
            self._seen = pulse

    def _check(self, principal: Principal) -> None:
        if principal.tenant != self._tenant:
            raise Forbidden("Capabilities can only be registered for the tenant that this service serves.")

    async def _check_address(self, declared: Registration) -> None:
        """Refuse an address that no call would reach; one whose name does not resolve yet may do so later."""
        try:
            async with asyncio.timeout(RESOLVE_SECONDS):
                await self._directory.check_address(declared)
        except CapabilityError as error:
            if error.code != "host_unknown":
                items = [ErrorItem("/address/url", error.code, error.message)]
                raise RegistrationInvalid(error.message, errors=items) from error
        except TimeoutError:
            return

    async def _store(self, unit: Unit, principal: Principal, declared: Registration) -> bool:
        """Store a declaration under the tenant's lock; False: it is there already, word for word."""
        await stored.touch(unit, self._tenant)
        rows = {(row.capability_id, row.version): row for row in await stored.all_of(unit, self._tenant)}
        text, now_ms = declared.canonical(), self._database.clock.now_ms()
        name, version = declared.capability_id, declared.version
        known = rows.pop((name, version), None)
        if known is not None and known.declaration_json != text:
            message = f"{name} {version} is registered already, and is something else."
            raise CapabilityConflict(errors=[ErrorItem("/version", "capability_conflict", message)])
        self._directory.check(declared, _registered(rows.values()))
        if known is not None:
            await stored.beat(unit, self._tenant, name, version, now_ms)
            return False
        if len(rows) >= self._most:
            raise TooManyCapabilities
        await stored.add(unit, RegistrationRow(self._tenant, name, version, principal.subject, now_ms, 0, now_ms, text))
        return True


def _registered(rows: Iterable[RegistrationRow]) -> list[Registered]:
    return [Registered(row.capability_id, row.version, row.declaration_json, row.beat_at) for row in rows]
