"""The birth of a child run: what its parent's transition writes of it (design §4, children)."""

from __future__ import annotations

from dataclasses import replace

import orjson

from contracts.answer import answer_schema
from contracts.envelope import TaskEnvelope, granting_json, kept_envelope
from contracts.events import Event, PlanGenerated, Start, encode
from contracts.flow_capability import FLOW_PREFIX
from contracts.history import PLANNED, Origin
from contracts.lifecycle import RunStatus
from contracts.plan import PlanGraph
from contracts.schema import compile_schema
from engine.newborn import below, queued_row
from engine.state import Ledger, RunState
from engine.turn import Child
from store.rows import Birth, EventRow, PlanRow, RunWrite


def birth_of(parent: RunState, child: Child, at_ms: int) -> Birth:
    """Return a child run as it is born: queued, nobody's, due at once; its plan was checked with its parent's.

    It belongs to its parent's tenant and principal, has its correlation id, and stands one level below it.
    """
    envelope = kept_envelope(child.envelope)
    workflow = envelope.workflow
    if workflow is None or workflow.plan is None:
        raise ValueError(f"the child run of {child.node_id} has no plan")
    plan = PlanGraph.model_validate(workflow.plan).sealed()
    contract_hash = compile_schema(answer_schema(envelope.contract, {})).content_hash
    events = _opening(parent, child, envelope, plan, contract_hash, at_ms)
    write = RunWrite(
        run_id=child.run_id,
        tenant=parent.tenant,
        epoch=0,
        before_seq=0,
        after_seq=len(events),
        status=RunStatus.QUEUED.value,
        wake_at=at_ms,
        plan_version=plan.plan_version,
        plan_hash=plan.plan_hash,
        ledger_json=orjson.dumps(
            Ledger(depth=parent.ledger.depth + 1, documents=dict(parent.ledger.documents))
        ).decode(),
        events=events,
        plan=PlanRow(plan.plan_version, plan.plan_hash, plan.wire.decode(), parent.principal, "subflow", at_ms),
    )
    run = queued_row(
        write,
        below(parent.run_id, parent.lineage, child.node_id, child.generation),
        principal=parent.principal,
        correlation_id=parent.correlation_id,
        objective=envelope.objective,
        contract_hash=contract_hash,
        now_ms=at_ms,
        origin=_origin(parent, child),
    )
    kept = granting_json(envelope.model_dump(mode="json"), envelope.granted)
    return Birth(run, orjson.dumps(kept).decode(), write)


def _origin(parent: RunState, child: Child) -> Origin:
    """Return which stored flow a child run is, where a planner found that by itself (W2)."""
    node = parent.nodes.get(child.node_id)
    capability_id = None if node is None else node.step.node.capability_id
    if capability_id is None or not capability_id.startswith(FLOW_PREFIX):
        return PLANNED
    return replace(PLANNED, flow_id=capability_id.removeprefix(FLOW_PREFIX))


def _opening(
    parent: RunState, child: Child, envelope: TaskEnvelope, plan: PlanGraph, contract_hash: str, at_ms: int
) -> list[EventRow]:
    links = {"events": f"/api/v1/runs/{child.run_id}/events"}
    whose = {"run_id": parent.run_id, "node_id": child.node_id}
    start = Start(envelope.objective, contract_hash, links, parent=whose)
    opening: list[Event] = [start, PlanGenerated(orjson.Fragment(plan.wire))]
    whom = {"run_id": child.run_id, "correlation_id": parent.correlation_id}
    frames = [encode(event, seq=seq, at_ms=at_ms, node_id=None, **whom) for seq, event in enumerate(opening, 1)]
    return [EventRow(seq, opening[seq - 1].type, None, data) for seq, data in enumerate(frames, 1)]
