"""Starting and ending runs (F1, F2, F12; design §4, accept)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any

import orjson

from contracts.access import Principal
from contracts.agents import FolderFlows
from contracts.errors import ErrorItem, IdempotencyKeyReused, PlanInvalid
from contracts.history import Origin, Trigger, Way
from contracts.ids import CORRELATION, RUN
from contracts.ports import Reconsider, Unplannable
from contracts.scopes import granted_to
from engine.birth import Order
from engine.documents import Supply
from engine.drafting import MODEL
from engine.worker import Worker
from service.agent_flows import with_agent_flows
from service.control import Control
from service.gone import gone_or_missing
from service.intake import Admitted, admit, check_start
from service.needs import needing
from service.offering import NO_OFFERING, NoOffering, Offering
from service.resolving import NO_FOLDER, resolve
from service.supplies import supply_of, without_missing
from service.support import refuse_undecidable
from store import idempotency, runs


@dataclass(frozen=True, slots=True)
class Accepted:
    """What became of a submitted envelope; ``created`` is False when the idempotency key named an earlier run."""

    run_id: str
    correlation_id: str
    created: bool


class Runs:
    """The use cases that change runs."""

    def __init__(
        self, worker: Worker, folder: FolderFlows = NO_FOLDER, offering: Offering | NoOffering = NO_OFFERING
    ) -> None:
        """Work with this process's worker; ``folder`` has flows that are files, ``offering`` those that plans use."""
        self._worker, self._folder, self._offering = worker, folder, offering
        self._shell = worker.shell

    async def submit(
        self,
        body: Any,
        principal: Principal,
        *,
        key: str | None = None,
        correlation_id: str | None = None,
        trigger: Trigger = "api",
        way: Way | None = None,
        run_id: str | None = None,
    ) -> Accepted:
        """Accept an envelope (a JSON value): validate, plan, make durable, and start it here or leave it queued.

        The same ``key`` and body of the same principal give the same run; ``correlation_id`` is the header's, the
        envelope's wins; ``trigger`` is the door; ``way`` says who said what to run where the envelope's own plan does
        not; ``run_id`` is a name that was chosen for the run beforehand. Raises ``EnvelopeInvalid``, ``Unsupported``,
        ``SchemaRefused``, ``PlanInvalid`` (a submitted plan), ``IdempotencyKeyReused``, ``StoreUnavailable``: then
        nothing is left behind.
        """
        fingerprint = "" if key is None else _fingerprint(body)
        if key is not None:
            known = await self._known(principal, key, fingerprint)
            if known is not None:
                return known
        resolved = await resolve(self._shell.database, principal, body, trigger, self._folder)
        if resolved.origin.way == "planned":
            await self._offering.ready(principal.tenant)
        shell, folder = self._shell, self._folder
        resolved = await with_agent_flows(resolved, shell.database, principal.tenant, shell.directory, folder)
        own, models = self._offering.at_hand(principal.tenant), shell.drafting.model is not None
        granted = granted_to(principal)
        admitted = admit(resolved.body, shell.directory, models=models, granted=granted, own=own)
        if resolved.workflow is not None:
            admitted = replace(admitted, envelope_json={**admitted.envelope_json, "workflow": resolved.workflow})
        check_start(admitted.envelope, self._shell.clock.now_ms())
        refuse_undecidable(admitted.envelope, principal.subject)
        origin = resolved.origin
        if way is not None and origin.way == "custom":
            origin = replace(origin, way=way)
        admitted = needing(admitted, self._shell.directory)
        supply = await supply_of(self._shell, principal.tenant, admitted.envelope.context, body=body)
        admitted = _supplied(admitted, supply)
        order = self._order(admitted, principal, origin, key, fingerprint, correlation_id)
        if isinstance(order.planned, Unplannable) and await self._offering.news_for(principal.tenant):
            order = self._order(admitted, principal, origin, key, fingerprint, correlation_id)
        needed = needing(admitted, shell.directory, order.planned)
        if needed is not admitted:
            supply = await supply_of(shell, principal.tenant, needed.envelope.context, body=body)
            order = self._order(_supplied(needed, supply), principal, origin, key, fingerprint, correlation_id)
        order = order if supply is None else replace(order, supply=supply)
        order = order if run_id is None else replace(order, run_id=run_id)
        born = await self._worker.accept(order)
        if born.existing:
            _same_body(born.fingerprint, fingerprint)
            return await self._earlier(principal, born.run_id)
        return Accepted(order.run_id, order.correlation_id, created=True)

    def _order(
        self,
        admitted: Admitted,
        principal: Principal,
        origin: Origin,
        key: str | None,
        fingerprint: str,
        correlation_id: str | None,
    ) -> Order:
        envelope = admitted.envelope
        story_id = envelope.context.story_id
        strategy = self._shell.drafting.strategy_of(envelope)
        # A model is asked once the run is durable: the stream speaks at once, and a crash leaves a record (design §4).
        written = strategy == MODEL and envelope.workflow is None
        planned = None if written else self._shell.planner.plan(envelope, Reconsider(1, tenant=principal.tenant))
        if isinstance(planned, Unplannable) and envelope.workflow is not None:
            raise PlanInvalid(errors=as_errors(planned))
        return Order(
            run_id=self._shell.ids.new(RUN),
            tenant=principal.tenant,
            principal=principal.subject,
            envelope=envelope,
            envelope_json=admitted.envelope_json,
            contract=admitted.contract,
            planned=planned,
            strategy=strategy,
            correlation_id=envelope.correlation_id or correlation_id or self._shell.ids.new(CORRELATION),
            key=key,
            fingerprint=fingerprint,
            origin=origin if story_id == origin.story_id else replace(origin, story_id=story_id),
        )

    async def _known(self, principal: Principal, key: str, fingerprint: str) -> Accepted | None:
        """Return the earlier run of a key, before anything is validated or planned again."""
        now_ms = self._shell.clock.now_ms()
        held = await idempotency.find(self._shell.database, principal.tenant, principal.subject, key, now_ms)
        if held is None:
            return None
        run_id, earlier = held
        _same_body(earlier, fingerprint)
        return await self._earlier(principal, run_id)

    async def _earlier(self, principal: Principal, run_id: str) -> Accepted:
        row = await runs.run_row(self._shell.database, principal.tenant, run_id)
        if row is None:
            raise await gone_or_missing(self._shell.database, principal.tenant, run_id)
        return Accepted(run_id, row.correlation_id, created=False)

    async def cancel(self, principal: Principal, run_id: str, reason: str | None = None) -> dict[str, Any]:
        """Ask a run to end; see :meth:`service.control.Control.cancel`."""
        return await Control(self._shell).cancel(principal, run_id, reason)


def _supplied(admitted: Admitted, supply: Supply | None) -> Admitted:
    """Return the envelope without the documents that the run begins without."""
    envelope = without_missing(admitted.envelope, supply)
    if envelope is admitted.envelope:
        return admitted
    context = {**admitted.envelope_json["context"], "documents": list(envelope.context.documents)}
    return replace(admitted, envelope=envelope, envelope_json={**admitted.envelope_json, "context": context})


def as_errors(refused: Unplannable) -> list[ErrorItem]:
    """Return a plan's error findings as the items of a problem document."""
    return [
        ErrorItem(finding.pointer, finding.code, finding.message)
        for finding in refused.findings
        if finding.severity == "error"
    ]


def _fingerprint(body: Any) -> str:
    """Return the hash of the parsed body: spacing and the order of keys do not matter (F2)."""
    return sha256(orjson.dumps(body, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _same_body(known: str, fingerprint: str) -> None:
    if known != fingerprint:
        raise IdempotencyKeyReused("This Idempotency-Key was used with another body.")
