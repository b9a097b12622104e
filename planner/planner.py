"""The planner: an envelope and a catalogue in, a sealed plan or findings out (F4; wire §6)."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Sequence
from hashlib import blake2b
from typing import Any, Final, Protocol

import orjson

from contracts.capability import Catalogue
from contracts.envelope import TaskEnvelope
from contracts.flow_capability import FlowOffer, FlowShelf, NoOffers
from contracts.plan import Finding, KindTable, PlanGraph
from contracts.ports import Planned, Reconsider, Unplannable
from planner.checking import check_plan
from planner.draft import PlanLimits, Scene
from planner.index import CatalogueIndex
from planner.offers import declared, with_offers
from planner.solve import search_plan

CACHED_PLANS: Final = 512
CACHED_TENANTS: Final = 256
NOTHING: Final = Reconsider(round=1)


class Directory(Protocol):
    """Who knows the catalogue. An unchanged catalogue is the same object."""

    def catalogue(self) -> Catalogue:
        """Return what may be chosen from now."""


class SearchPlanner:
    """Plans by search, and checks plans that people wrote. Pure: the same questions get the same answers."""

    def __init__(
        self, directory: Directory, kinds: KindTable, limits: PlanLimits | None = None, shelf: FlowShelf | None = None
    ) -> None:
        """Keep the catalogue's owner, the node kinds, the limits, and who knows what stored flows offer."""
        self._directory = directory
        self._kinds = kinds
        self._limits = limits or PlanLimits()
        self._shelf: FlowShelf = shelf or NoOffers()
        self._epochs: dict[str, tuple[Sequence[FlowOffer], int]] = {}
        self._tenants: OrderedDict[str, tuple[Sequence[FlowOffer], CatalogueIndex]] = OrderedDict()
        self._index: CatalogueIndex | None = None
        self._answers: OrderedDict[Hashable, Planned | Unplannable] = OrderedDict()

    def plan(self, envelope: TaskEnvelope, reconsider: Reconsider | None = None) -> Planned | Unplannable:
        """Return a sealed plan with its gates, or why there is none; ``workflow.plan`` is checked instead."""
        if envelope.workflow is not None and envelope.workflow.plan is not None:
            tenant = "" if reconsider is None else reconsider.tenant
            return self.check(envelope.workflow.plan, envelope, at="/workflow/plan", tenant=tenant)
        again = reconsider or NOTHING
        rest = (sorted(again.without), again.notes, *_of_run(again.present, again.completed))
        key = _key(envelope, "plan", self._whose(again.tenant), *rest, *self._rights(envelope))
        known = self._recall(key)
        if known is None:
            known = search_plan(self.scene(envelope, again))
            self._keep(key, known)
        return known

    def check(
        self, plan: Any, envelope: TaskEnvelope, at: str = "", present: PlanGraph | None = None, tenant: str = ""
    ) -> Planned | Unplannable:
        """Complete, gate, validate and seal a plan's JSON; every broken place becomes a finding."""
        whose, of_run = self._whose(tenant), _of_run(present, frozenset())
        key = _key(envelope, "check", whose, plan, at, *of_run, *self._rights(envelope))
        known = self._recall(key)
        if known is not None:
            return known
        answer = check_plan(plan, self.scene(envelope, Reconsider(round=1, present=present, tenant=tenant)), at)
        self._keep(key, answer)
        return answer

    def scene(self, envelope: TaskEnvelope, reconsider: Reconsider = NOTHING) -> Scene:
        """Return everything that a plan for the envelope is made from now."""
        return Scene(
            envelope,
            self.index(reconsider.tenant),
            self._kinds,
            self._limits,
            reconsider.without,
            reconsider.notes,
            present=reconsider.present,
            completed=reconsider.completed,
        )

    def index(self, tenant: str = "") -> CatalogueIndex:
        """Return the index of what a tenant's plans are made of now: the catalogue, and what its flows offer."""
        base = self._indexed()
        offers = self._shelf.of(tenant) if tenant else ()
        if not offers:
            return base
        known = self._tenants.get(tenant)
        if known is None or known[0] is not offers:
            known = self._tenants[tenant] = offers, with_offers(base, offers, self._kinds, self._limits)
            if len(self._tenants) > CACHED_TENANTS:
                self._tenants.popitem(last=False)
        return known[1]

    def declared(self, tenant: str, offer: FlowOffer) -> list[Finding]:
        """Return what is wrong with what a flow's document declares; pointers lead into the document."""
        return declared(self._indexed(), self._shelf.of(tenant), offer, self._kinds, self._limits)

    def _whose(self, tenant: str) -> str:
        """Return what an answer depends on of a tenant: which offers of its flows; nothing when there are none."""
        self._indexed()
        offers = self._shelf.of(tenant) if tenant else ()
        if not offers:
            return ""
        known, epoch = self._epochs.get(tenant, ((), 0))
        if known is not offers:
            epoch += 1
            self._epochs[tenant] = offers, epoch
        return f"{epoch} {tenant}"

    def _indexed(self) -> CatalogueIndex:
        """Return the index of the present catalogue; a new catalogue forgets every answer."""
        catalogue = self._directory.catalogue()
        if self._index is None or self._index.catalogue is not catalogue:
            self._index = CatalogueIndex(catalogue)
            self._answers.clear()
            self._tenants.clear()
        return self._index

    def _rights(self, envelope: TaskEnvelope) -> tuple[list[str], ...]:
        """Return what an answer depends on of the scopes that were granted; nothing while none is required."""
        if self._index is None or not self._index.scopes or envelope.granted is None:
            return ()
        return (sorted(envelope.granted),)

    def _recall(self, key: Hashable | None) -> Planned | Unplannable | None:
        """Return the kept answer to a question; plans are immutable, so they are shared."""
        known = self._answers.get(key)
        if known is not None:
            self._answers.move_to_end(key)
        return known

    def _keep(self, key: Hashable | None, answer: Planned | Unplannable) -> None:
        if key is None:
            return
        self._answers[key] = answer
        if len(self._answers) > CACHED_PLANS:
            self._answers.popitem(last=False)


def _key(envelope: TaskEnvelope, *rest: Any) -> bytes | None:
    """Return a digest of everything an answer depends on besides the catalogue; None when it cannot be written."""
    context = envelope.context
    asked = [
        envelope.objective,
        envelope.inputs,
        envelope.constraints,
        envelope.metadata,
        envelope.special_instructions,
        [[bundle.type, bundle.payload] for bundle in context.bundles],
        [context.story_id, context.documents, context.memory],
        envelope.policies.model_dump_json(),
        envelope.contract.model_dump_json(),
        rest,
    ]
    try:
        return blake2b(orjson.dumps(asked), digest_size=24).digest()
    except TypeError:  # a value orjson cannot write (depth, integers beyond 64 bits) is simply not kept
        return None


def _of_run(present: PlanGraph | None, completed: frozenset[str]) -> tuple[str, list[str]]:
    """Return what an answer depends on of the run that it is for."""
    return ("" if present is None else present.plan_hash), sorted(completed)
