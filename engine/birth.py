"""How a run begins: accepted, planned (or refused) and durable in one transaction (design §4, accept)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import orjson

from contracts.envelope import TaskEnvelope
from contracts.events import Event, Failed, Frame, PlanGenerated, PlanRejected, PlanRequested, Start, encode
from contracts.history import PLANNED, Ending, Origin, given_of
from contracts.lifecycle import RunStatus
from contracts.ports import Planned, Unplannable
from contracts.schema import CompiledSchema
from engine.documents import Supply, take_in
from engine.ending import history_row
from engine.machine import Machine
from engine.planning import UNPLANNED, open_question
from engine.record import Draft, ledger_json, plan_row, write_of
from engine.shell import Shell
from engine.signals import Begin
from engine.state import Ledger, RunState
from engine.turn import Transition
from engine.waiting import next_wake
from store.rows import Birth, EventRow, HistoryRow, RunRow, RunWrite

KEY_LIFE_MS = 24 * 3_600_000


@dataclass(frozen=True, slots=True)
class Order:
    """An accepted envelope on its way to become a run. ``fingerprint`` is of the parsed body (F2)."""

    run_id: str
    tenant: str
    principal: str
    envelope: TaskEnvelope
    envelope_json: Mapping[str, Any]
    contract: CompiledSchema
    planned: Planned | Unplannable | None
    """None: a model writes the plan once the run is durable"""
    correlation_id: str
    key: str | None = None
    fingerprint: str = ""
    strategy: str = "search"
    """who is asked for this run's plans: ``search`` or ``model``"""
    origin: Origin = PLANNED
    """where it comes from, for its history"""
    supply: Supply | None = None
    """its documents, and those it has to wait for"""

    @property
    def lacks(self) -> bool:
        """Say whether documents that it cannot begin without are missing."""
        return self.supply is not None and bool(self.supply.missing)


@dataclass(slots=True)
class Newborn:
    """What goes to the journal, and what to do once it is committed."""

    birth: Birth
    frames: list[Frame]
    machine: Machine | None
    transition: Transition | None


def conceive(order: Order, shell: Shell, worker: str | None, now_ms: int) -> Newborn:
    """Return the birth of a run: refused at once, queued (no ``worker``), or under way in this process."""
    opening = _opening(order)
    if isinstance(order.planned, Unplannable):
        return _refused(order, opening, now_ms)
    start_at = _start_at(order.envelope, now_ms)
    if order.planned is None:
        return _commissioned(order, opening, shell, worker, now_ms)
    plan = order.planned.plan
    later = start_at is not None or order.lacks
    worker = None if later else worker
    state = _state(order, shell, worker, now_ms)
    state.plan, state.plan_version = shell.compile(plan, order.envelope), plan.plan_version
    state.status = RunStatus.QUEUED if worker is None and not later else RunStatus.RUNNING
    machine = _machine(order, state, shell)
    transition = Transition(now_ms, 0)
    transition.events.extend((event, None) for event in opening)
    state.seq = len(opening)
    if later or (worker and not _has_opening_rules(order.envelope)):
        _begin(machine, transition, now_ms)
    draft = Draft(0)
    draft.add(state, transition)
    frames = draft.frames
    write = write_of(state, draft, release=False, wake_at=next_wake(state) if later else now_ms)
    write.plan = plan_row(plan, "planner" if plan.strategy != "submitted" else order.principal, plan.strategy, now_ms)
    newborn = Newborn(_birth(order, write, worker, now_ms), frames, machine, transition)
    newborn.birth.run.start_at = start_at
    return newborn


def _commissioned(order: Order, opening: list[Event], shell: Shell, worker: str | None, now_ms: int) -> Newborn:
    """Return the birth of a run whose plan a model will write: durable first, asked about once that is committed."""
    state = _state(order, shell, worker, now_ms)
    state.status = RunStatus.PLANNING if worker else RunStatus.QUEUED
    asked = open_question(state)
    machine = _machine(order, state, shell)
    transition = Transition(now_ms, 0)
    transition.events.extend((event, None) for event in opening)
    transition.replan = asked if worker else None
    state.seq = len(opening)
    draft = Draft(0)
    draft.add(state, transition)
    write = write_of(state, draft, release=False, wake_at=now_ms)
    newborn = Newborn(_birth(order, write, worker, now_ms), draft.frames, machine, transition)
    newborn.birth.run.start_at = state.start_at
    return newborn


def _machine(order: Order, state: RunState, shell: Shell) -> Machine:
    world = shell.world(order.envelope, order.contract)
    return Machine(state, world, lambda graph: shell.compile(graph, order.envelope))


def _state(order: Order, shell: Shell, worker: str | None, now_ms: int) -> RunState:
    """Return the state of a run that is about to be born, without its plan."""
    start_at = _start_at(order.envelope, now_ms)
    state = RunState(
        run_id=order.run_id,
        tenant=order.tenant,
        principal=order.principal,
        correlation_id=order.correlation_id,
        envelope=order.envelope,
        envelope_json=order.envelope_json,
        plan=UNPLANNED,
        epoch=1 if worker else 0,
        created_at=now_ms,
        started_at=now_ms if worker and start_at is None and not order.lacks else None,
        ledger=Ledger(strategy=order.strategy),
        start_at=start_at,
        about=shell.addresses.of_run(order.tenant, order.run_id),
        origin=order.origin,
    )
    take_in(state, order.supply)
    return state


def _start_at(envelope: TaskEnvelope, now_ms: int) -> int | None:
    """Return when a scheduled run begins (wall ms); None for one that begins at once, also when its time has passed."""
    at_ms = envelope.starts_ms
    return None if at_ms is None or at_ms <= now_ms else at_ms


def _has_opening_rules(envelope: TaskEnvelope) -> bool:
    """Say whether rules fire before the first node: they may ask, plan again or end the run, so birth comes first."""
    return bool(envelope.policies.watching("on_start"))


def _begin(machine: Machine, transition: Transition, now_ms: int) -> None:
    """Start the roots in the birth's own transition: one commit less before the first node."""
    first = machine.step(Begin(), now_ms)
    transition.events.extend(first.events)
    transition.changed.update(first.changed)
    transition.dispatch.extend(first.dispatch)


def _opening(order: Order) -> list[Event]:
    links = {"events": f"/api/v1/runs/{order.run_id}/events"}
    start = Start(order.envelope.objective, order.contract.content_hash, links)
    if isinstance(order.planned, Unplannable):
        findings = [finding.model_dump(mode="json", exclude_none=True) for finding in order.planned.findings]
        message = "There is no plan for this objective; the findings say what is missing and what would help."
        return [
            start,
            PlanRequested(1, "search"),
            PlanRejected(1, findings),
            Failed("no_plan", message, None, findings, retryable=False),
        ]
    if order.planned is None:
        return [start, PlanRequested(1, order.strategy)]
    plan = order.planned.plan
    generated = PlanGenerated(orjson.Fragment(plan.wire))
    return [start, generated] if plan.strategy == "submitted" else [start, PlanRequested(1, plan.strategy), generated]


def _refused(order: Order, opening: list[Event], now_ms: int) -> Newborn:
    frames = [_frame(order, event, seq, now_ms) for seq, event in enumerate(opening, 1)]
    write = RunWrite(
        run_id=order.run_id,
        tenant=order.tenant,
        epoch=0,
        before_seq=0,
        after_seq=len(frames),
        status=RunStatus.FAILED.value,
        ledger_json=ledger_json(Ledger()),
        started_at=now_ms,
        ended_at=now_ms,
        events=[EventRow(frame.seq or 0, frame.type, None, frame.data) for frame in frames],
        history=_refused_history(order, opening[-1], now_ms),
    )
    return Newborn(_birth(order, write, None, now_ms), frames, None, None)


def _refused_history(order: Order, last: Event, now_ms: int) -> HistoryRow:
    """Return the history of a run that ended before its first node (T1)."""
    return history_row(
        order.origin,
        given_of(order.envelope_json),
        Ending(last.code, last.message) if isinstance(last, Failed) else Ending(),
        Ledger(),
        run_id=order.run_id,
        tenant=order.tenant,
        principal=order.principal,
        status=RunStatus.FAILED.value,
        objective=order.envelope.objective,
        created_at=now_ms,
        started_at=now_ms,
        ended_at=now_ms,
    )


def _frame(order: Order, event: Event, seq: int, now_ms: int) -> Frame:
    data = encode(event, seq=seq, at_ms=now_ms, run_id=order.run_id, correlation_id=order.correlation_id, node_id=None)
    return Frame(seq, event.type, data)


def _birth(order: Order, write: RunWrite, worker: str | None, now_ms: int) -> Birth:
    row = RunRow(
        run_id=order.run_id,
        tenant=order.tenant,
        principal=order.principal,
        status=write.status,
        waiting_on_json=write.waiting_on_json,
        worker=worker,
        epoch=write.epoch,
        last_seq=write.after_seq,
        inbox=0,
        seen=0,
        wake_at=write.wake_at,
        plan_version=write.plan_version,
        plan_hash=write.plan_hash,
        correlation_id=order.correlation_id,
        objective=order.envelope.objective,
        contract_hash=order.contract.content_hash,
        ledger_json=write.ledger_json,
        created_at=now_ms,
        started_at=write.started_at,
        ended_at=write.ended_at,
        flow_id=order.origin.flow_id,
        story_id=order.origin.story_id,
        origin_json=order.origin.to_json(),
    )
    return Birth(
        run=row,
        envelope_json=orjson.dumps(order.envelope_json).decode(),
        write=write,
        key=order.key,
        fingerprint=order.fingerprint,
        key_expires_at=None if order.key is None else now_ms + KEY_LIFE_MS,
        waits=[] if order.supply is None or write.ended_at else order.supply.waits(order.tenant, order.run_id, now_ms),
    )
