"""The unified door: whatever is to be run, by one request (W1); and what was used (W6)."""

from __future__ import annotations

from typing import Any, Final, get_args

from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from contracts.history import By, Wanted, Way
from contracts.schema import SchemaRefused
from routes import describe
from routes.answers import Json
from routes.attach import attach, path_id, streaming
from routes.auth import principal_of
from routes.doors import doors_of
from routes.executions import TIMES, time_query
from routes.intake import header, json_body, limit_query, shield, text_query, wait_seconds
from routes.spec import JSON, Answer, Param, RouteSpec, ref
from routes.stream import run_headers
from service.executing import ExecuteInput

SUNSET: Final = {"Deprecation": "@1795219200", "Link": '</api/v1/workflows/execute>; rel="successor-version"'}
"""RFC 9745: deprecated since that second (2026-11-21); the earlier path keeps working."""
_BY: Final[frozenset[str]] = frozenset(get_args(By))


async def execute(request: Request) -> Response:
    """Run what the request says; wait for its end as long as the service lets anybody wait, or stream it."""
    shield(request)
    given = doors_of(request).executing.read(await json_body(request))
    return await _execute(request, given, {})


async def execute_definition(request: Request) -> Response:
    """Run a stored flow by the earlier path."""
    shield(request)
    flow_id = path_id(request, "flow_id", errors.FlowNotFound)
    body = await json_body(request)
    whole = {"workflow_type": "definition", **body, "flow_id": flow_id} if isinstance(body, dict) else body
    return await _execute(request, doors_of(request).executing.read(whole), SUNSET)


async def _execute(request: Request, given: ExecuteInput, more: dict[str, str]) -> Response:
    doors, caller = doors_of(request), principal_of(request)
    key, correlation_id = header(request, "Idempotency-Key"), header(request, "X-Correlation-Id")
    if given.config.streaming:
        doors.streams.admit()
    envelope = await doors.executing.envelope(caller, given)
    way: Way | None = "chat" if given.workflow_type == "chat" else None
    run = await doors.runs.submit(envelope, caller, key=key, correlation_id=correlation_id, trigger="execute", way=way)
    if given.config.streaming:
        request.scope["flex.correlation"] = run.correlation_id
        if run.created:
            stream = doors.streams.born(caller, run.run_id, run.correlation_id)
            return streaming(request, stream)
        return await attach(request, caller, run.run_id, 0)
    seconds = wait_seconds(request)
    await doors.streams.settled(caller, run.run_id, doors.limits.wait_seconds if seconds is None else seconds)
    answer = await doors.executing.answer(caller, run.run_id, given)
    headers = run_headers(run.run_id, run.correlation_id) | more
    return Json(answer, 202 if answer["success"] is None else 200, headers)


async def validate(request: Request) -> Response:
    """Judge what a request would run, without running it."""
    return Json(await doors_of(request).executing.validate(principal_of(request), await json_body(request)))


async def usage(request: Request) -> Response:
    """Add up tokens, cost and time of executions, by flow, template, story, person, way or door."""
    by: Any = text_query(request, "by", allowed=_BY) or "flow_id"
    wanted = Wanted(after_ms=time_query(request, "since"), before_ms=time_query(request, "until"))
    return Json(await doors_of(request).executions.usage(principal_of(request), by, wanted, limit_query(request)))


_ERRORS: Final = (
    *describe.BODY_ERRORS, errors.EnvelopeInvalid, SchemaRefused, errors.Unsupported, errors.PlanInvalid,
    errors.FlowNotFound, errors.FlowVersionNotFound, errors.TemplateNotFound, errors.IdempotencyKeyReused,
    errors.ServerBusy, errors.StoreUnavailable,
)  # fmt: skip
_ANSWERS: Final = (
    Answer(
        200, "It ended (`success` says how), or its frames when `config.streaming` is true.",
        {JSON: ref("ExecuteAnswer"), **describe.STREAM}, describe.RUN_HEADERS,
    ),
    Answer(202, "It goes on, or waits for somebody; `success` is null.", {JSON: ref("ExecuteAnswer")},
           describe.RUN_HEADERS),
)  # fmt: skip

EXECUTE = RouteSpec(
    method="POST", path="/api/v1/workflows/execute", handler=execute, name="execute_workflow",
    summary="Run a plan, a flow, a template or an objective", tag="workflows",
    description=(
        "Waits for the end at most `FLEX_WAIT_SECONDS`, or as long as `Prefer: wait=N` says. "
        "A failed execution is 200 with `success: false`. Members of another `workflow_type` are refused."
    ),
    request=ref("ExecuteInput"), params=(describe.IDEMPOTENCY_KEY, describe.CORRELATION_ID, describe.PREFER),
    answers=_ANSWERS, errors=_ERRORS, roles=describe.SUBMITTERS,
)  # fmt: skip
DEFINITION = RouteSpec(
    method="POST", path="/api/v1/workflows/definitions/{flow_id}/execute", handler=execute_definition,
    name="execute_definition", summary="Run a stored flow (earlier path)", tag="workflows",
    description="Answers as `POST /api/v1/workflows/execute`, with a `Deprecation` header.",
    request=ref("ExecuteInput"),
    params=(
        Param("flow_id", "path", "The flow.", {"type": "string"}, required=True), describe.IDEMPOTENCY_KEY,
        describe.CORRELATION_ID, describe.PREFER,
    ),
    answers=_ANSWERS, errors=_ERRORS, roles=describe.SUBMITTERS,
)  # fmt: skip
VALIDATE = RouteSpec(
    method="POST", path="/api/v1/workflows/validate", handler=validate, name="validate_workflow",
    summary="Judge what a request would run", tag="workflows", request=ref("ExecuteInput"),
    answers=describe.ok("Verdicts", "Four verdicts, each for itself."),
    errors=(*describe.BODY_ERRORS, errors.EnvelopeInvalid, errors.StoreUnavailable),
)  # fmt: skip
USAGE = RouteSpec(
    method="GET", path="/api/v1/usage", handler=usage, name="get_usage", summary="Read what executions used",
    tag="executions", params=(
        describe.LIMIT, *TIMES,
        Param("by", "query", "What belongs together.", {"type": "string", "enum": sorted(_BY)}),
    ),
    answers=describe.ok("Usage", "The sum, and the most expensive groups."),
    errors=(errors.BadQuery, errors.StoreUnavailable),
)  # fmt: skip
ROUTES: Final = (EXECUTE, DEFINITION, VALIDATE, USAGE)
