"""The schemas of templates, the unified door and usage as they go over the wire (W1, W3, W6)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from contracts.lifecycle import RunStatus
from contracts.templates import TemplateDocument
from routes.spec import Schema, page_of, ref
from service.executing import ExecuteInput
from service.templates import InstantiateInput, TemplateRunInput

INPUTS: Final[tuple[type[BaseModel], ...]] = (TemplateDocument, InstantiateInput, TemplateRunInput, ExecuteInput)

_TEXT: Final = {"type": "string"}
_TEXT_OR_NULL: Final = {"type": ["string", "null"]}
_TIME_OR_NULL: Final = {"type": ["string", "null"], "format": "date-time"}
_COUNT: Final = {"type": "integer", "minimum": 0}
_COUNT_OR_NULL: Final = {"type": ["integer", "null"], "minimum": 0}
_RATE: Final = {"type": ["number", "null"], "minimum": 0, "maximum": 1}
_TRUTH: Final = {"type": "boolean"}


def _record(about: str, *optional: str, **properties: Any) -> dict[str, Any]:
    required = [name for name in properties if name not in optional]
    return {
        "type": "object", "description": about, "required": required, "properties": properties,
        "additionalProperties": False,
    }  # fmt: skip


_ITEM: Final[Mapping[str, Any]] = {
    "template_id": _TEXT, "name": _TEXT, "description": _TEXT, "category": _TEXT,
    "tags": {"type": "array", "items": _TEXT}, "parameters": {"type": "object", "description": "A JSON Schema."},
    "example": {"type": "object", "description": "Parameters of an example run."},
    "shipped": {"type": "boolean", "description": "It comes with flex and is read-only."},
    "revision": {"type": "integer", "minimum": 1}, "created_by": _TEXT, "created_at": _TIME_OR_NULL,
    "updated_at": _TIME_OR_NULL,
}  # fmt: skip
_USED: Final[Mapping[str, Any]] = {
    "executions": _COUNT, "completed": _COUNT, "failed": _COUNT, "cancelled": _COUNT, "tokens": _COUNT,
    "cost": {"type": "number"}, "duration_ms": _COUNT, "waited_ms": _COUNT,
}  # fmt: skip

RENDERED: Final[Mapping[str, Schema]] = {
    "TemplateItem": _record("A template in the gallery.", **_ITEM),
    "TemplatePage": page_of("TemplateItem"),
    "Template": _record(
        "A template, its document, and what is wrong with it filled with its example.",
        **_ITEM, template=ref("TemplateDocument"), valid=_TRUTH, validation=ref("Validation"),
    ),
    "Verdicts": _record("Whether it may run, and why not.", valid=_TRUTH, validation=ref("Validation")),
    "TemplateAnalytics": _record(
        "How a template's executions went; rates are null where there is nothing to divide by.",
        template_id=_TEXT, executions=_COUNT, completed=_COUNT, failed=_COUNT, cancelled=_COUNT, success_rate=_RATE,
        average_ms=_COUNT_OR_NULL, p95_ms=_COUNT_OR_NULL, tokens=_COUNT, cost={"type": "number"}, hitl_rate=_RATE,
        average_hitl_wait_ms=_COUNT_OR_NULL, last_used_at=_TIME_OR_NULL, last_succeeded_at=_TIME_OR_NULL,
        last_failed_at=_TIME_OR_NULL,
    ),
    "ExecuteAnswer": _record(
        "What became of an execution so far.", "debug",
        execution_id={"type": "string", "description": "Its run's id."},
        success={"type": ["boolean", "null"], "description": "Null while it goes on or waits."},
        status={"type": "string", "enum": sorted(status.value for status in RunStatus)}, output={},
        error={"type": ["object", "null"]}, waiting_on={"type": "array", "items": _TEXT},
        open_prompts={"type": "array", "items": ref("Prompt")},
        metrics=_record(
            "What it took.", execution_time_ms=_COUNT_OR_NULL, waited_ms=_COUNT_OR_NULL, tokens_used=_COUNT,
            cost={"type": "number"},
        ),
        metadata=_record(
            "What was run.", workflow_type=_TEXT, template_id=_TEXT_OR_NULL, template_name=_TEXT_OR_NULL,
            flow_id=_TEXT_OR_NULL, correlation_id=_TEXT,
        ),
        debug={"type": "object", "description": "With `debug_mode`: inputs, output and attempts of each node."},
    ),
    "Usage": _record(
        "What ended executions used.", by=_TEXT, total=_record("The sum.", **_USED),
        items={"type": "array", "items": _record("One group.", key=_TEXT, name=_TEXT_OR_NULL, **_USED)},
    ),
}  # fmt: skip
