"""``POST /run``: a flow, an input, a story; the result or what is missing (R1)."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from contracts.schema import SchemaRefused
from routes import describe
from routes.answers import Json
from routes.auth import principal_of
from routes.doors import doors_of
from routes.intake import header, json_body, shield, wait_seconds
from routes.spec import JSON, Answer, Param, RouteSpec, ref
from routes.stream import run_headers


async def run(request: Request) -> Response:
    """Start a run and wait for its end, or until it waits for somebody."""
    shield(request)
    doors, asked = doors_of(request), wait_seconds(request)
    answer = await doors.story_runs.run(
        principal_of(request),
        await json_body(request),
        seconds=doors.limits.wait_seconds if asked is None else asked,
        key=header(request, "Idempotency-Key"),
        correlation_id=header(request, "X-Correlation-Id"),
    )
    return Json(answer.body, answer.status, run_headers(answer.run_id, answer.correlation_id))


RUN: Final = RouteSpec(
    method="POST", path="/run", handler=run, name="run_story_flow", summary="Run a flow and wait for its result",
    tag="runs",
    description=(
        "While documents are missing nothing is executed: the answer is 200 with `pending_docs`, and the run begins by "
        "itself once they are there. It waits as long as the setting allows; `Prefer: wait=N` makes that shorter."
    ),
    request=ref("StoryRunInput"),
    params=(
        describe.IDEMPOTENCY_KEY, describe.CORRELATION_ID,
        Param("Prefer", "header", "`wait=N` waits up to N seconds (RFC 7240).", {"type": "string"}),
    ),
    answers=(
        Answer(200, "The result, or `pending_docs`.", {JSON: ref("StoryRun")}, describe.RUN_HEADERS),
        Answer(202, "It waits for people, or goes on.", {JSON: ref("StoryRun")}, describe.RUN_HEADERS),
    ),
    errors=(
        *describe.BODY_ERRORS, errors.FlowNotFound, errors.FlowVersionNotFound, errors.EnvelopeInvalid, SchemaRefused,
        errors.Unsupported, errors.PlanInvalid, errors.IdempotencyKeyReused, errors.RunFailed, errors.ServerBusy,
        errors.StoreUnavailable,
    ), roles=describe.SUBMITTERS,
)  # fmt: skip
