"""What runs of one tree tell each other when one of them ends (design §4, children)."""

from __future__ import annotations

from typing import Any, Final

from contracts.events import Cancelled, Complete, Event, Failed
from contracts.lifecycle import RunStatus
from engine.state import RunState

_ENDED: Final = {RunStatus.COMPLETED: "completed", RunStatus.FAILED: "failed", RunStatus.CANCELLED: "was cancelled"}


def of_end(state: RunState, status: RunStatus, event: Event) -> dict[str, Any]:
    """Return what a child run tells the run whose node waits for it: how it ended, with what, at what cost."""
    return {
        "node_id": state.lineage.parent_node_id,
        "child_run_id": state.run_id,
        "generation": state.lineage.parent_generation,
        "status": status.value,
        "output": event.output if isinstance(event, Complete) else None,
        "error": _error_of(event),
        "tokens": state.ledger.tokens,
        "cost": state.ledger.cost,
    }


def _error_of(event: Event) -> dict[str, Any] | None:
    if isinstance(event, Failed):
        return {"code": event.code, "message": event.message, "retryable": event.retryable}
    if isinstance(event, Cancelled):
        reason = f" {event.reason}" if event.reason else ""
        return {"code": "cancelled", "message": f"Cancelled by {event.by}.{reason}", "retryable": False}
    return None


def why_called_off(state: RunState, status: RunStatus, event: Event) -> tuple[str, str]:
    """Return by whom and why the children of a run are cancelled when it ends: as it was, if it was cancelled."""
    by, why = f"run:{state.run_id}", f"The run that it is a part of {_ENDED[status]}."
    return (event.by, event.reason or why) if isinstance(event, Cancelled) else (by, why)
