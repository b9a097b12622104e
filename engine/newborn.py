"""The row of a run that is born without an owner: queued and due, whoever takes it (design §4, children; forks)."""

from __future__ import annotations

from contracts.history import PLANNED, Origin
from engine.state import Lineage
from store.rows import RunRow, RunWrite


def queued_row(
    write: RunWrite,
    lineage: Lineage,
    *,
    principal: str,
    correlation_id: str,
    objective: str,
    contract_hash: str,
    now_ms: int,
    origin: Origin = PLANNED,
) -> RunRow:
    """Return the run's row: who it is and where it comes from; where it stands is in its first write."""
    return RunRow(
        run_id=write.run_id,
        tenant=write.tenant,
        principal=principal,
        status=write.status,
        waiting_on_json=write.waiting_on_json,
        worker=None,
        epoch=0,
        last_seq=write.after_seq,
        inbox=0,
        seen=0,
        wake_at=None if write.ended_at is not None else now_ms,
        plan_version=write.plan_version,
        plan_hash=write.plan_hash,
        correlation_id=correlation_id,
        objective=objective,
        contract_hash=contract_hash,
        ledger_json=write.ledger_json,
        created_at=now_ms,
        ended_at=write.ended_at,
        root_run_id=lineage.root_run_id,
        parent_run_id=lineage.parent_run_id,
        parent_node_id=lineage.parent_node_id,
        parent_generation=lineage.parent_generation,
        origin_run_id=lineage.origin_run_id,
        origin_node_id=lineage.origin_node_id,
        flow_id=origin.flow_id,
        story_id=origin.story_id,
        origin_json=origin.to_json(),
    )


def below(run_id: str, lineage: Lineage, node_id: str, generation: int) -> Lineage:
    """Return the lineage of a child run of a run's node."""
    return Lineage(lineage.root_run_id or run_id, run_id, node_id, generation)
