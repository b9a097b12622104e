"""Whether a run that is not there was pruned (410) or never was (404): asked wherever one is not found (P6).

A run's row goes in the transaction that writes its tombstone, so no read has to look for one before it succeeds.
"""

from __future__ import annotations

import orjson

from contracts.clock import rfc3339
from contracts.errors import PromptNotFound, RunNotFound, RunPruned
from store.connect import Database
from store.tombstones import TombstoneRow, tombstone, tombstone_of_prompt


async def gone_or_missing(database: Database, tenant: str, run_id: str) -> RunPruned | RunNotFound:
    """Return the error to raise for a run that the tenant does not have; the caller says ``raise await``.

    ``RunPruned`` (410) carries ``run_id``, ``run_status`` and the times ``created_at``, ``ended_at``, ``pruned_at``
    of its history summary.
    """
    row = await tombstone(database, tenant, run_id)
    return RunNotFound(f"There is no run {run_id}.") if row is None else _pruned(row)


async def prompt_gone_or_missing(database: Database, tenant: str, prompt_id: str) -> RunPruned | PromptNotFound:
    """Return the error to raise for a prompt that the tenant does not have."""
    row = await tombstone_of_prompt(database, tenant, prompt_id)
    return PromptNotFound(f"There is no prompt {prompt_id}.") if row is None else _pruned(row)


def _pruned(row: TombstoneRow) -> RunPruned:
    summary = orjson.loads(row.summary_json)
    return RunPruned(
        f"The run ended at {summary['ended_at']} and was pruned at {rfc3339(row.pruned_at)}.",
        run_id=row.run_id,
        run_status=summary["status"],
        created_at=summary["created_at"],
        ended_at=summary["ended_at"],
        pruned_at=rfc3339(row.pruned_at),
    )
