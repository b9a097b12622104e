"""The schemas of executions as they go over the wire (T1-T3); ``routes.shapes`` puts them among the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from contracts.history import TRIGGERS, WAYS
from contracts.lifecycle import RunStatus
from routes.spec import Schema, ref

_TEXT: Final = {"type": "string"}
_TEXT_OR_NULL: Final = {"type": ["string", "null"]}
_TIME: Final = {"type": "string", "format": "date-time"}
_TIME_OR_NULL: Final = {"type": ["string", "null"], "format": "date-time"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_TRUTH: Final = {"type": "boolean"}
_STATUS: Final = {"type": "string", "enum": sorted(status.value for status in RunStatus)}
_ERROR: Final = {
    "type": ["object", "null"], "description": "Why it failed: at least `code` and `message`; `node_id` in lists."
}  # fmt: skip


def _record(about: str, **properties: Any) -> dict[str, Any]:
    return {
        "type": "object", "description": about, "required": list(properties), "properties": properties,
        "additionalProperties": False,
    }  # fmt: skip


_ITEM: Final[Mapping[str, Any]] = {
    "id": {"type": "string", "description": "Its run's id."},
    "way": {"type": "string", "enum": sorted(WAYS), "description": "Who said what to run."},
    "trigger": {"type": "string", "enum": sorted(TRIGGERS), "description": "The door it came through."},
    "flow_id": {"type": ["string", "null"], "description": "Null also once the flow is deleted; its name stays."},
    "flow_version": {"type": ["integer", "null"]},
    "flow_name": _TEXT_OR_NULL,
    "template_id": _TEXT_OR_NULL,
    "template_name": _TEXT_OR_NULL,
    "story_id": _TEXT_OR_NULL,
    "tool_name": _TEXT_OR_NULL,
    "status": _STATUS,
    "objective": {"type": "string", "maxLength": 200},
    "preview": {"type": "string", "maxLength": 50, "description": "The first parameter."},
    "principal": _TEXT,
    "created_at": _TIME,
    "started_at": _TIME_OR_NULL,
    "ended_at": _TIME_OR_NULL,
    "duration_ms": {"type": "integer", "minimum": 0, "description": "Without `waited_ms`."},
    "waited_ms": _COUNT,
    "asks": {"type": "integer", "minimum": 0, "description": "How often people were asked."},
    "usage": {"type": "object", "properties": {"tokens": _COUNT, "cost": {"type": "number"}}},
    "error": _ERROR,
    "forked_from": _TEXT_OR_NULL,
}
_ITEMS: Final = {"type": "array", "items": ref("Execution")}

RENDERED: Final[Mapping[str, Schema]] = {
    "Execution": _record("A run that somebody asked for, in a list.", **_ITEM),
    "ExecutionPage": _record("A page of executions.", items=_ITEMS, next_cursor=_TEXT_OR_NULL),
    "FlowExecutionPage": _record(
        "A page of a flow's executions.",
        items=_ITEMS,
        total={"type": "integer", "minimum": 0, "description": "At most 10,000; then `total_is_exact` is false."},
        total_is_exact=_TRUTH,
        page={"type": ["integer", "null"], "minimum": 1, "description": "Null behind a cursor."},
        limit={"type": "integer", "minimum": 1},
        total_pages=_COUNT,
        next_cursor=_TEXT_OR_NULL,
        has_pending_executions=_TRUTH,
    ),
    "ExecutionCounts": _record(
        "How many executions there are.",
        counts={"type": "object", "additionalProperties": _COUNT, "description": "By status."},
        total=_COUNT,
        exact=_TRUTH,
    ),
    "ExecutionDetail": _record(
        "An execution with everything that happened in it.",
        **_ITEM,
        pruned={"type": "boolean", "description": "Its data is gone by retention; what lists show stays."},
        inputs={"description": "Its initial parameters; null when pruned."},
        output={"description": "The validated answer; null without one."},
        nodes={
            "type": "array",
            "description": "Inputs, output, attempts, duration and error of each node, 200 at most.",
            "items": {"type": "object"},
        },
        more_nodes={"type": "boolean", "description": "There are more: `GET /api/v1/runs/{run_id}/nodes`."},
    ),
}
