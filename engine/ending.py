"""What the history says of a run that ends (T1, T2): made once, written in the transaction that ends it."""

from __future__ import annotations

from typing import Any

from contracts.history import MOST_ERROR, MOST_OBJECTIVE, Ending, Origin, preview_of, words_of
from engine.state import Ledger
from store.rows import HistoryRow


def history_row(
    origin: Origin,
    inputs: Any,
    ending: Ending,
    ledger: Ledger,
    *,
    run_id: str,
    tenant: str,
    principal: str,
    status: str,
    objective: str,
    created_at: int,
    started_at: int | None,
    ended_at: int,
    origin_run_id: str | None = None,
) -> HistoryRow:
    """Return the row of an execution. Times are wall ms.

    ``duration_ms`` is what the last frame says of it: from when it was accepted, without what was spent waiting.
    """
    preview, shown = preview_of(inputs), objective[:MOST_OBJECTIVE]
    message = None if ending.message is None else ending.message[:MOST_ERROR]
    return HistoryRow(
        run_id=run_id,
        tenant=tenant,
        principal=principal,
        status=status,
        way=origin.way,
        trigger=origin.trigger,
        flow_id=origin.flow_id,
        flow_version=origin.flow_version,
        flow_name=origin.flow_name,
        template_id=origin.template_id,
        template_name=origin.template_name,
        story_id=origin.story_id,
        tool=origin.tool,
        objective=shown,
        preview=preview,
        words=words_of(origin.flow_name, origin.template_name, origin.tool, preview, shown, message),
        created_at=created_at,
        started_at=started_at,
        ended_at=ended_at,
        duration_ms=max(0, ended_at - created_at - ledger.waited_ms),
        waited_ms=ledger.waited_ms,
        asks=ledger.asks,
        tokens=ledger.tokens,
        cost=ledger.cost,
        error_code=ending.code,
        error_message=message,
        failed_node_id=ending.node_id,
        origin_run_id=origin_run_id,
    )
