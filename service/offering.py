"""Flows as capabilities, at hand for the planner in every process (W2).

A tenant that never published such a flow is in no table and costs a look into a dictionary. For one that did, every
acceptance of a planned run reads one counter, so a publication or a deletion holds for the next run whichever process
takes it. Every process learns of new tenants within a second, and before it says that there is no plan.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import orjson

from contracts.capability import Catalogue
from contracts.flow_capability import FlowOffer
from contracts.plan import Finding
from planner.planner import SearchPlanner
from service.resolving import expand
from store import flow_offers as stored
from store.connect import Database

MAX_OFFERS: Final = 100
"""Flows of a tenant that may be capabilities: each is judged anew, on the event loop, when one of them changes."""
UNNAMED: Final = "~"
"""Stands for the id of a flow that has none yet: it comes after every other."""


class Shelf:
    """What each tenant's flows offer, in memory: a :class:`contracts.flow_capability.FlowShelf`."""

    def __init__(self) -> None:
        """Begin empty."""
        self._offers: dict[str, tuple[FlowOffer, ...]] = {}

    def of(self, tenant: str) -> Sequence[FlowOffer]:
        """Return the tenant's offers by id; the same object until they change."""
        return self._offers.get(tenant, ())

    def put(self, tenant: str, offers: Sequence[FlowOffer]) -> None:
        """Have a tenant's offers taken in place of those before."""
        self._offers[tenant] = tuple(offers)


class Offering:
    """Keeps the shelf as the database says. Every method raises ``StoreUnavailable``."""

    def __init__(self, database: Database, planner: SearchPlanner, shelf: Shelf) -> None:
        """Take the planner that reads the shelf; it judges declarations too."""
        self._database, self._planner, self._shelf = database, planner, shelf
        self._counts: dict[str, int] = {}
        self._pulse = 0

    async def ready(self, tenant: str) -> None:
        """See to it that the tenant's offers are what was published last; costs nothing where there never was one."""
        if tenant in self._counts:
            await self._refresh(tenant, await stored.count(self._database, tenant))

    async def look(self) -> None:
        """Take over what changed since the last look; without a change it reads one number."""
        pulse = await stored.pulse(self._database)
        if pulse == self._pulse:
            return
        for tenant, count in (await stored.counts(self._database)).items():
            await self._refresh(tenant, count)
        self._pulse = pulse

    async def news_for(self, tenant: str) -> bool:
        """Look, and say whether the tenant's offers are others now."""
        before = self._shelf.of(tenant)
        await self.look()
        return self._shelf.of(tenant) is not before

    async def catalogue(self, tenant: str) -> Catalogue:
        """Return what the tenant's plans may be made of now."""
        await self.look()
        return self._planner.index(tenant).catalogue

    def at_hand(self, tenant: str) -> Callable[[], Catalogue] | None:
        """Return what returns the tenant's catalogue as this process knows it; None: it is the service's."""
        return (lambda: self._planner.index(tenant).catalogue) if self._shelf.of(tenant) else None

    async def findings(
        self, tenant: str, document: Mapping[str, Any], plan: Any, flow_id: str | None = None
    ) -> list[Finding]:
        """Return what is wrong with the capability that a document declares; ``plan`` is its plan with flows in it."""
        if document.get("capability") is None:
            return []
        await self.look()
        offer = FlowOffer(flow_id or UNNAMED, 1, {**document, "plan": plan})
        others = [each for each in self._shelf.of(tenant) if each.flow_id != offer.flow_id]
        if len(others) >= MAX_OFFERS:
            message = f"{len(others):,} flows are capabilities already; {MAX_OFFERS:,} may be."
            return [
                Finding(layer="resource", code="too_many_flow_capabilities", message=message, pointer="/capability")
            ]
        return self._planner.declared(tenant, offer)

    async def _refresh(self, tenant: str, count: int) -> None:
        if self._counts.get(tenant, -1) >= count:
            return
        offers = [await self._offer(tenant, *row) for row in await stored.offered(self._database, tenant)]
        # Another look may have read later rows meanwhile; a counter is read before its rows, so the higher is newer.
        if self._counts.get(tenant, -1) < count:
            self._shelf.put(tenant, offers)
            self._counts[tenant] = count

    async def _offer(self, tenant: str, flow_id: str, version: int, text: str) -> FlowOffer:
        document = orjson.loads(text)
        plan, missing = await expand(self._database, tenant, document["plan"], "/plan", (flow_id,))
        broken = missing[0].message if missing else None
        return FlowOffer(flow_id, version, {**document, "plan": plan}, broken)


class NoOffering:
    """Where no flow is a capability."""

    async def ready(self, tenant: str) -> None:
        """There is nothing to see to."""

    def at_hand(self, tenant: str) -> Callable[[], Catalogue] | None:
        """It is the service's catalogue."""
        return None

    async def look(self) -> None:
        """There is nothing to look at."""

    async def news_for(self, tenant: str) -> bool:
        """There is no news."""
        return False

    async def findings(
        self, tenant: str, document: Mapping[str, Any], plan: Any, flow_id: str | None = None
    ) -> list[Finding]:
        """Find nothing."""
        return []


NO_OFFERING: Final = NoOffering()
