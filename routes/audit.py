"""Who did what: audit records, their export, and whether their chain holds (H9)."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from contracts import errors
from routes import describe
from routes.answers import NO_STORE, Json
from routes.attach import prefers
from routes.auth import principal_of
from routes.doors import doors_of
from routes.intake import limit_query, number_query, text_query
from routes.spec import JSON, Answer, Param, RouteSpec, page_of

LINES: Final = "application/x-ndjson"
AUDITORS: Final = ("admin", "operator")
_FILTERS: Final = ("run_id", "prompt_id", "kind", "actor")
_FAR: Final = 2**53


async def index(request: Request) -> Response:
    """List audit records, newest first, or export the chain as JSON lines."""
    chosen = {name: value for name in _FILTERS if (value := text_query(request, name)) is not None}
    audit, caller = doors_of(request).audit, principal_of(request)
    if prefers(request, LINES, JSON):
        return StreamingResponse(await audit.export(caller, chosen), headers=NO_STORE, media_type=LINES)
    page = await audit.page(caller, chosen, limit=limit_query(request), cursor=text_query(request, "cursor"))
    return Json(page)


async def verify(request: Request) -> Response:
    """Verify a piece of the chain."""
    from_seq = number_query(request, "from_seq", 1, _FAR)
    return Json(await doors_of(request).audit.verify(principal_of(request), from_seq))


INDEX = RouteSpec(
    method="GET",
    path="/api/v1/audit",
    handler=index,
    name="list_audit_records",
    summary="List or export audit records",
    tag="audit",
    description=(
        "`Accept: application/x-ndjson` streams the sealed records in the order of their chain, all of them or those "
        "chosen. A page by `kind` or `actor` alone may be shorter than `limit` and still have a next one."
    ),
    params=(
        Param("run_id", "query", "Only records of this run.", {"type": "string"}),
        Param("prompt_id", "query", "Only records of this prompt.", {"type": "string"}),
        Param("kind", "query", "Only records of this kind (`prompt.decided` …).", {"type": "string"}),
        Param("actor", "query", "Only what this one did (`user:ana`).", {"type": "string"}),
        describe.LIMIT,
        describe.CURSOR,
    ),
    answers=(
        Answer(
            200,
            "A page, newest first, or a line per record in the chain's order.",
            {JSON: page_of("AuditRecord"), LINES: {"type": "string", "description": "Each line is an AuditRecord."}},
        ),
    ),
    errors=(errors.BadQuery, errors.StoreUnavailable),
    roles=AUDITORS,
)

VERIFY = RouteSpec(
    method="GET",
    path="/api/v1/audit/verify",
    handler=verify,
    name="verify_audit",
    summary="Verify the chain of audit records",
    tag="audit",
    description="At most 5,000 records per request: go on at `next_seq` until it is null.",
    params=(
        Param(
            "from_seq",
            "query",
            "Begin at this record; the chain's beginning without it.",
            {"type": "integer", "minimum": 1, "maximum": _FAR},
        ),
    ),
    answers=describe.ok("AuditVerdict", "What was found."),
    errors=(errors.BadQuery, errors.StoreUnavailable),
    roles=AUDITORS,
)
