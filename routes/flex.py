"""``/api/v1/flex``: an envelope in, its stream out; and going on after a decision (F1, H10)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from contracts.history import Trigger
from contracts.schema import SchemaRefused
from routes import describe
from routes.answers import Json
from routes.attach import attach, prefers_json, start_after, streaming
from routes.auth import principal_of
from routes.doors import AcceptedRun, doors_of
from routes.intake import header, json_body, last_event_id, shield
from routes.spec import JSON, Answer, RouteSpec, ref
from routes.stream import run_headers


async def submit(request: Request, trigger: Trigger = "api") -> AcceptedRun:
    """Read an envelope with its headers and hand it in; every refusal comes before anything is streamed."""
    shield(request)
    key = header(request, "Idempotency-Key")
    correlation_id = header(request, "X-Correlation-Id")
    body = await json_body(request)
    caller = principal_of(request)
    return await doors_of(request).runs.submit(body, caller, key=key, correlation_id=correlation_id, trigger=trigger)


async def run_stream(request: Request) -> Response:
    """Accept an envelope and stream its run; with a known key attach to the run that is there."""
    doors = doors_of(request)
    after = start_after(request)
    if last_event_id(request) is not None and "idempotency-key" not in request.headers:
        raise errors.ReattachWithGet
    doors.streams.admit()
    run = await submit(request, "stream")
    request.scope["flex.correlation"] = run.correlation_id
    if run.created:
        return streaming(request, doors.streams.born(principal_of(request), run.run_id, run.correlation_id))
    return await attach(request, principal_of(request), run.run_id, after)


async def run_resume(request: Request) -> Response:
    """Store a decision, then stream what follows it; 202 with the run as JSON when Accept asks for JSON."""
    shield(request)
    doors, caller = doors_of(request), principal_of(request)
    as_json = prefers_json(request)
    # Before anything is decided: a refusal must not leave a decision behind.
    doors.streams.check_staying() if as_json else doors.streams.admit()
    resumed = await doors.prompts.resume(caller, await json_body(request))
    if not as_json:
        return await attach(request, caller, resumed.run_id, resumed.after)
    run = await doors.reads.run(caller, resumed.run_id)
    return Json(run, 202, run_headers(resumed.run_id, run["correlation_id"]))


RUN_STREAM = RouteSpec(
    method="POST",
    path="/api/v1/flex/run.stream",
    handler=run_stream,
    name="run_stream",
    summary="Submit an envelope and stream its run",
    tag="runs",
    description=(
        "Answers with Server-Sent Events up to the terminal frame. The run goes on when the client leaves. "
        "A known `Idempotency-Key` with an equal body attaches to the earlier run by the rules of its events."
    ),
    request=ref("TaskEnvelope"),
    params=(describe.IDEMPOTENCY_KEY, describe.CORRELATION_ID, describe.LAST_EVENT_ID, describe.AFTER),
    answers=(
        Answer(200, "The run's frames.", describe.STREAM, describe.RUN_HEADERS),
        Answer(204, "The key names a run whose last frame the caller has already."),
    ),
    errors=(
        *describe.BODY_ERRORS, errors.EnvelopeInvalid, SchemaRefused, errors.Unsupported, errors.PlanInvalid,
        errors.IdempotencyKeyReused, errors.ReattachWithGet, errors.ServerBusy, errors.StoreUnavailable,
    ),
    roles=describe.SUBMITTERS,
)  # fmt: skip

RUN_RESUME = RouteSpec(
    method="POST",
    path="/api/v1/flex/run.resume",
    handler=run_resume,
    name="run_resume",
    summary="Decide a waiting run's prompt and stream what follows",
    tag="runs",
    description="With `Accept: application/json` the answer is 202 with the run's detail instead of a stream.",
    request=ref("ResumeInput"),
    params=(describe.CORRELATION_ID,),
    answers=(
        Answer(200, "The frames after the decision.", describe.STREAM, describe.RUN_HEADERS),
        Answer(202, "The decision is stored; the run's detail.", {JSON: ref("Run")}, describe.RUN_HEADERS),
        Answer(204, "The run has ended and nothing is left to send."),
    ),
    errors=(
        *describe.BODY_ERRORS, *describe.DECISION_ERRORS, errors.RunNotFound, errors.StalePlanVersion,
        errors.HumanPayloadRequired, errors.Unprocessable, errors.ServerBusy, errors.StoreUnavailable,
    ),
)  # fmt: skip
