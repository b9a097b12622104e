"""The schemas of flows as they go over the wire (W1, W2, W4); ``routes.shapes`` puts them among the others."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from pydantic import BaseModel

from contracts.flows import FlowDocument
from routes.spec import Schema, page_of, ref
from service.flows import FlowRunInput, PublishInput, RestoreInput

INPUTS: Final[tuple[type[BaseModel], ...]] = (FlowDocument, FlowRunInput, PublishInput, RestoreInput)

_TEXT: Final = {"type": "string"}
_TIME: Final = {"type": "string", "format": "date-time"}
_NUMBER: Final = {"type": "integer", "minimum": 1}
_TEXT_OR_NULL: Final = {"type": ["string", "null"]}
_NUMBER_OR_NULL: Final = {"type": ["integer", "null"], "minimum": 1}
_LAYERS: Final = ("structure", "security", "capability", "resource")


def record(about: str, *optional: str, **properties: Any) -> dict[str, Any]:
    """Return the schema of an object with these members; ``optional`` names those that may be missing."""
    required = [name for name in properties if name not in optional]
    return {
        "type": "object", "description": about, "required": required, "properties": properties,
        "additionalProperties": False,
    }  # fmt: skip


_ITEM: Final[Mapping[str, Any]] = {
    "flow_id": _TEXT, "name": _TEXT, "description": _TEXT, "revision": _NUMBER, "published_version": _NUMBER_OR_NULL,
    "created_by": _TEXT, "created_at": _TIME, "updated_at": _TIME,
}  # fmt: skip
_FINDINGS: Final = {"type": "array", "items": {"type": "object", "description": "At least `code` and `message`."}}

RENDERED: Final[Mapping[str, Schema]] = {
    "FlowItem": record("A flow in a list.", **_ITEM),
    "FlowPage": page_of("FlowItem"),
    "Flow": record(
        "A flow, its draft, and what is wrong with that.",
        **_ITEM, draft=ref("FlowDocument"), valid={"type": "boolean"}, validation=ref("Validation"),
    ),
    "Validation": record("Four verdicts, each for itself.", **{name: ref("LayerVerdict") for name in _LAYERS}),
    "LayerVerdict": record(
        "What one layer of checks says.", valid={"type": "boolean"}, errors=_FINDINGS, warnings=_FINDINGS
    ),
    "FlowVersion": record(
        "A published version; in lists without its document.", "document",
        flow_id=_TEXT, version=_NUMBER, digest=_TEXT, author=_TEXT, note=_TEXT, created_at=_TIME,
        document=ref("FlowDocument"),
    ),
    "FlowVersionPage": record(
        "A page of versions.", items={"type": "array", "items": ref("FlowVersion")}, next_before=_NUMBER_OR_NULL
    ),
    "FlowDiff": record(
        "How two documents differ; nodes and edges are found by name.",
        **{"from": _TEXT, "to": _TEXT, "changes": {"type": "array", "items": ref("FlowChange")}},
    ),
    "FlowChange": record(
        "One change.", "before", "after",
        op={"type": "string", "enum": ["added", "removed", "changed"]}, pointer=_TEXT, before={}, after={},
    ),
    "FlowUsage": record(
        "What runs this flow: nodes that name it, and the newest runs whose planner found it by itself.",
        items={"type": "array", "items": ref("FlowUse")}, runs={"type": "array", "items": ref("FlowPlannedRun")},
    ),
    "FlowUse": record(
        "A node of another flow, or of a template, that names it as a subflow or as a chat's tool.",
        flow_id=_TEXT_OR_NULL, template_id=_TEXT_OR_NULL, node_id=_TEXT, via={"enum": ["subflow", "tool"]},
        version=_NUMBER_OR_NULL,
    ),
    "FlowPlannedRun": record(
        "A run whose planner found the flow; `status` is that of the child run which its node began.",
        run_id=_TEXT, node_id=_TEXT, child_run_id=_TEXT, status=_TEXT, created_at=_TIME,
    ),
}  # fmt: skip
