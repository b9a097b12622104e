"""What the agents folder holds (R2)."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from routes import describe
from routes.answers import Json
from routes.auth import principal_of
from routes.doors import doors_of
from routes.intake import MAX_LIMIT, limit_query, text_query
from routes.spec import JSON, Answer, RouteSpec, page_of


async def index(request: Request) -> Response:
    """List agents and broken files, by file."""
    limit, cursor = limit_query(request, MAX_LIMIT), text_query(request, "cursor")
    return Json(doors_of(request).agents.list(principal_of(request), limit=limit, cursor=cursor))


INDEX = RouteSpec(
    method="GET",
    path="/api/v1/agents",
    handler=index,
    name="list_agents",
    summary="List agents",
    tag="catalogue",
    description="Every agent of the configured folder, and every file in it that cannot be used, with its line.",
    params=(describe.LIMIT, describe.CURSOR),
    answers=(Answer(200, "A page of agents by file.", {JSON: page_of("Agent")}),),
    errors=(errors.BadQuery,),
)

_TEXT: Final = {"type": "string"}
_TEXT_OR_NULL: Final = {"type": ["string", "null"]}
_TEXTS: Final = {"type": "array", "items": {"type": "string"}}
_LINE: Final = {"type": ["integer", "null"], "minimum": 1}
_FAULT: Final[dict[str, Any]] = {
    "type": ["object", "null"],
    "description": "What is wrong with the file as it is now.",
    "required": ["code", "message", "line"],
    "properties": {"code": _TEXT, "message": _TEXT, "line": _LINE},
    "additionalProperties": False,
}
AGENT: Final[dict[str, Any]] = {
    "agent_id": _TEXT_OR_NULL,
    "kind": {"type": "string", "enum": ["python", "markdown", "group"]},
    "source": {"type": "string", "description": "The file, relative to the folder."},
    "line": _LINE,
    "status": {"type": "string", "enum": ["loaded", "inactive", "broken"]},
    "reason": {"type": ["string", "null"], "description": "What would make an inactive one active."},
    "description": _TEXT,
    "capability_id": _TEXT_OR_NULL,
    "flow_id": _TEXT_OR_NULL,
    "tools": _TEXTS,
    "memory_scope": _TEXT_OR_NULL,
    "wait_for": _TEXTS,
    "parallel": {"type": "boolean"},
    "default": {"type": "boolean", "description": "Whether runs that name no flow run this one."},
    "error": _FAULT,
}
"""The properties of an agent as it is listed."""
