"""Going on from where a run stands, in another run: retry from a failure, fork at a node (F6; docs/decisions/0006)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Annotated, Any, Final

import orjson
from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from contracts.access import Principal
from contracts.envelope import GRANTED, granting_json, kept_envelope
from contracts.errors import ErrorItem, IdempotencyKeyReused, InvalidRunState, PlanInvalid, Unprocessable
from contracts.ids import AUDIT, RUN
from contracts.lifecycle import NodeStatus, RunStatus
from contracts.scopes import granted_to, refused_nodes
from contracts.wire import MAX_DEPTH, Wire, deep_place, read_model
from engine.birth import KEY_LIFE_MS
from engine.copying import Origin
from engine.documents import Supply
from engine.fork import ForkOrder, fork
from engine.shell import Shell
from engine.state import NOTHING
from service.control import ReasonInput
from service.gone import gone_or_missing
from service.reads import run_links
from service.rights import check_control
from service.supplies import supply_of
from store import idempotency, lineage, runs
from store.audit import AuditRow
from store.rows import Birth, NodeRow, PlanRow

_RETRIED: Final = frozenset({RunStatus.FAILED.value, RunStatus.CANCELLED.value})
_Reason = Annotated[str, Field(min_length=1, max_length=4_000)]


class ForkInput(Wire):
    """Where a fork begins again, and what is different there; at most one of ``inputs`` and ``output``.

    ``inputs`` are values in place of what the node's inputs are bound to; those that are not named stay as they are.
    ``output`` is taken as the node's output: the node does not run. With neither the node runs again.
    """

    node_id: Annotated[str, Field(min_length=1, max_length=128)]
    inputs: dict[str, Any] | None = None
    output: Any = None
    reason: _Reason | None = None

    @property
    def has_output(self) -> bool:
        """Say whether an ``output`` was sent (null counts)."""
        return "output" in self.model_fields_set

    @model_validator(mode="after")
    def _one(self) -> ForkInput:
        if self.inputs is not None and self.has_output:
            raise PydanticCustomError("ambiguous_fork", "Give at most one of inputs, output.")
        return self


@dataclass(frozen=True, slots=True)
class Forked:
    """What became of a retry or fork; ``status`` is the new run's, ``node_id`` where it began again."""

    run_id: str
    status: str
    correlation_id: str
    origin_run_id: str
    node_id: str | None

    def wire(self) -> dict[str, Any]:
        """Return ``{"run_id", "status", "links", "forked_from"}``."""
        whose = {"run_id": self.origin_run_id, "node_id": self.node_id}
        return {"run_id": self.run_id, "status": self.status, "links": run_links(self.run_id), "forked_from": whose}


class Lineages:
    """The use cases that make a run out of another one."""

    def __init__(self, shell: Shell) -> None:
        """Work with what this process's walkers share."""
        self._shell = shell
        self._database = shell.database

    async def retry(
        self,
        principal: Principal,
        run_id: str,
        body: Any = None,
        *,
        key: str | None = None,
        correlation_id: str | None = None,
    ) -> Forked:
        """Start a run that goes on where a failed or cancelled one stopped. Body: ``{"reason"?}``.

        What completed is copied, everything else begins afresh. Raises what :meth:`fork` raises, and
        ``InvalidRunState`` for a run that did not fail and was not cancelled.
        """
        given = read_model(ReasonInput, {} if body is None else body, Unprocessable)
        request = _Request(principal, run_id, "run.retried", _Parts(reason=given.reason), key, correlation_id)
        return await self._start(request, {"retry": run_id, "body": body})

    async def fork(
        self,
        principal: Principal,
        run_id: str,
        body: Any,
        *,
        key: str | None = None,
        correlation_id: str | None = None,
    ) -> Forked:
        """Start a run that begins again at a node of another one, whatever that one's state. Body: ``ForkInput``.

        The same ``key`` and body of the same principal give the same run. Raises ``RunNotFound``, ``RunPruned``,
        ``Forbidden``, ``InvalidRunState`` (it has no plan), ``NodeNotFound``, ``ForkInvalid`` (pointers ``/inputs/…``,
        ``/output…``), ``PlanInvalid`` (it calls what the caller has no scope for),
        ``Unprocessable``, ``IdempotencyKeyReused``, ``StoreUnavailable``; then nothing was started.
        """
        place = deep_place(body)
        if place is not None:
            raise Unprocessable(errors=[ErrorItem(place, "too_deep", f"Nested over {MAX_DEPTH} levels.")])
        given = read_model(ForkInput, body, Unprocessable)
        output = given.output if given.has_output else NOTHING
        parts = _Parts(given.node_id, given.inputs, output, given.reason)
        return await self._start(
            _Request(principal, run_id, "run.forked", parts, key, correlation_id), {"fork": run_id, "body": body}
        )

    async def _start(self, request: _Request, asked: Any) -> Forked:
        fingerprint = sha256(orjson.dumps(asked, option=orjson.OPT_SORT_KEYS)).hexdigest()
        known = await self._known(request, fingerprint)
        if known is not None:
            return known
        origin = await self._origin(request)
        now_ms = self._shell.clock.now_ms()
        order = ForkOrder(
            run_id=self._shell.ids.new(RUN),
            principal=request.principal.subject,
            correlation_id=request.correlation_id or origin.run.correlation_id,
            origin=origin,
            node_id=request.parts.node_id,
            inputs=request.parts.inputs,
            output=request.parts.output,
            reason=request.parts.reason,
            supply=await self._supply(origin),
        )
        birth, frames = fork(order, self._shell, now_ms)
        birth.records = [self._record(request, order, now_ms)]
        if request.key is not None:
            birth.key, birth.fingerprint, birth.key_expires_at = request.key, fingerprint, now_ms + KEY_LIFE_MS
        born = await self._shell.journal.birth(birth)
        if born.existing:
            return await self._earlier(request, born.run_id, born.fingerprint, fingerprint)
        self._shell.feed.publish(order.run_id, frames)
        self._shell.nudge.events(order.run_id, len(frames))
        for child in (birth, *birth.write.spawned):
            self._shell.nudge.run(child.run.run_id, None)
        return self._forked(request, birth, order.correlation_id)

    def _forked(self, request: _Request, birth: Birth, correlation_id: str) -> Forked:
        return Forked(birth.run.run_id, birth.run.status, correlation_id, request.run_id, request.parts.node_id)

    async def _origin(self, request: _Request) -> Origin:
        """Return the run as it stands, if the caller may go on from it."""
        found = await lineage.origin(self._database, request.principal.tenant, request.run_id)
        if found is None:
            raise await gone_or_missing(self._database, request.principal.tenant, request.run_id)
        run, envelope_json, plan, nodes = found
        check_control(request.principal, run.principal)
        if request.parts.node_id is None and run.status not in _RETRIED:
            why = f"The run is {run.status}; only one that failed or was cancelled is retried. Fork it at a node."
            raise InvalidRunState(why, run_id=run.run_id, run_status=run.status)
        if plan is None:
            why = "The run has no plan to go on with; send its envelope again."
            raise InvalidRunState(why, run_id=run.run_id, run_status=run.status)
        kept = self._entrusted(request.principal, envelope_json, plan)
        return Origin(run, kept, plan, nodes, await self._children(request.principal, run.run_id, nodes))

    def _entrusted(self, principal: Principal, envelope_json: str, plan: PlanRow) -> str:
        """Return the envelope of a run that goes on in the caller's name: it may use what the caller may (W4).

        Raises ``PlanInvalid`` when the plan calls what the caller has no scope for.
        """
        granted, kept = granted_to(principal), orjson.loads(envelope_json)
        if granted is None and GRANTED not in kept:
            return envelope_json
        items = refused_nodes(orjson.loads(plan.plan_json), self._shell.directory.catalogue(), granted, "/plan")
        if items:
            raise PlanInvalid("The plan calls what the caller has no scope for.", errors=items)
        return orjson.dumps(granting_json(kept, granted)).decode()

    async def _supply(self, origin: Origin) -> Supply | None:
        """Return the documents of a run that goes on: the versions it held on to, and what it has to wait for."""
        context = kept_envelope(orjson.loads(origin.envelope_json)).context
        held = orjson.loads(origin.run.ledger_json).get("documents", {})
        return await supply_of(self._shell, origin.run.tenant, context, held)

    async def _children(self, principal: Principal, run_id: str, nodes: Sequence[NodeRow]) -> dict[str, Origin]:
        """Return the last child runs of nodes that have not completed: a fork goes on in those too, however deep."""
        unfinished = {row.node_id for row in nodes if row.kind == "subflow" and row.status != NodeStatus.COMPLETED}
        if not unfinished:
            return {}
        found, tenant = {}, principal.tenant
        for node_id, child_id in (await lineage.last_children(self._database, tenant, run_id)).items():
            known = await lineage.origin(self._database, tenant, child_id) if node_id in unfinished else None
            if known is None:
                continue
            run, envelope_json, plan, inside = known
            if plan is not None:
                children = await self._children(principal, child_id, inside)
                kept = self._entrusted(principal, envelope_json, plan)
                found[node_id] = Origin(run, kept, plan, inside, children)
        return found

    async def _known(self, request: _Request, fingerprint: str) -> Forked | None:
        if request.key is None:
            return None
        who, now_ms = request.principal, self._shell.clock.now_ms()
        held = await idempotency.find(self._database, who.tenant, who.subject, request.key, now_ms)
        return None if held is None else await self._earlier(request, held[0], held[1], fingerprint)

    async def _earlier(self, request: _Request, run_id: str, known: str, fingerprint: str) -> Forked:
        if known != fingerprint:
            raise IdempotencyKeyReused("This Idempotency-Key was used with another body.")
        row = await runs.run_row(self._database, request.principal.tenant, run_id)
        if row is None:
            raise await gone_or_missing(self._database, request.principal.tenant, run_id)
        return Forked(run_id, row.status, row.correlation_id, request.run_id, request.parts.node_id)

    def _record(self, request: _Request, order: ForkOrder, now_ms: int) -> AuditRow:
        """Return what the audit keeps: what was started out of what, and what was changed by hand."""
        told = {"forked_run_id": order.run_id, "node_id": order.node_id, "reason": order.reason}
        edited: dict[str, Any] = {} if order.inputs is None else {"inputs": order.inputs}
        if order.output is not NOTHING:
            edited["output"] = order.output
        return AuditRow(
            record_id=self._shell.ids.new(AUDIT),
            tenant=request.principal.tenant,
            at=now_ms,
            kind=request.kind,
            actor=request.principal.subject,
            run_id=request.run_id,
            prompt_id=None,
            body_json=orjson.dumps({**told, **edited}).decode(),
        )


@dataclass(frozen=True, slots=True)
class _Parts:
    """What the caller said about the fork."""

    node_id: str | None = None
    inputs: dict[str, Any] | None = None
    output: Any = NOTHING
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class _Request:
    """Who asks for what; ``kind`` is the audit record's."""

    principal: Principal
    run_id: str
    kind: str
    parts: _Parts
    key: str | None
    correlation_id: str | None
