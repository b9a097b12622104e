"""The history summary of a run: what is kept when the run itself is pruned (P6)."""

from __future__ import annotations

from typing import Any, Final

import orjson

from contracts.clock import rfc3339, rfc3339_or_none
from contracts.lifecycle import RunStatus
from store.retention import Remains
from store.rows import RunRow
from store.tombstones import TombstoneRow

MOST_OBJECTIVE: Final = 1_000
"""Characters of an objective that are kept."""


def summary_of(remains: Remains) -> dict[str, Any]:
    """Return the summary: what was asked by whom, how it ended, times, usage, counts and lineage; no data of the run.

    ``flow`` is the flow or template it was made of, ``strategy`` how it was planned, ``error_code`` that of a failure.
    """
    run, envelope = remains.run, orjson.loads(remains.envelope_json or "{}")
    workflow = envelope.get("workflow") or {}
    planner = (envelope.get("policies") or {}).get("planner") or {}
    return {
        "status": run.status,
        "objective": run.objective[:MOST_OBJECTIVE],
        "principal": run.principal,
        "correlation_id": run.correlation_id,
        "flow": workflow.get("flow_id") or workflow.get("template_id"),
        "strategy": planner.get("strategy"),
        "plan_hash": run.plan_hash,
        "plan_version": run.plan_version,
        "contract_hash": run.contract_hash,
        "created_at": rfc3339(run.created_at),
        "started_at": rfc3339_or_none(run.started_at),
        "ended_at": rfc3339_or_none(run.ended_at),
        **_account(run),
        "events": run.last_seq,
        "nodes": remains.counts,
        "prompts": remains.prompts,
        "error_code": _error_code(run, remains.last_frame),
        "root_run_id": run.root_run_id,
        "parent_run_id": run.parent_run_id,
        "parent_node_id": run.parent_node_id,
        "origin_run_id": run.origin_run_id,
        "origin_node_id": run.origin_node_id,
    }


def stone_of(remains: Remains, now_ms: int) -> TombstoneRow:
    """Return the tombstone of a run that is pruned now."""
    run = remains.run
    return TombstoneRow(
        run.run_id, run.tenant, run.created_at, now_ms, None, orjson.dumps(summary_of(remains)).decode()
    )


def _account(run: RunRow) -> dict[str, Any]:
    ledger = orjson.loads(run.ledger_json)
    waited = int(ledger.get("waited_ms", 0))
    worked = None
    if run.started_at is not None and run.ended_at is not None:
        worked = max(0, run.ended_at - run.started_at - waited)
    usage = {"tokens": ledger.get("tokens", 0), "cost": ledger.get("cost", 0)}
    return {"duration_ms": worked, "waited_ms": waited, "usage": usage}


def _error_code(run: RunRow, last_frame: bytes | None) -> str | None:
    if run.status != RunStatus.FAILED or last_frame is None:
        return None
    code = orjson.loads(last_frame).get("payload", {}).get("code")
    return code if isinstance(code, str) else None
