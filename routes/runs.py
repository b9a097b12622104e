"""``/api/v1/runs``: start, list, read, watch and cancel runs."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from contracts.lifecycle import RUN_TERMINAL, RunStatus
from contracts.schema import SchemaRefused
from contracts.wire import Wire, read_model
from routes import describe
from routes.answers import Json
from routes.attach import EVENTS_LIMIT, attach, event_page, path_id, prefers_json, start_after
from routes.auth import principal_of
from routes.doors import doors_of
from routes.flex import submit
from routes.intake import json_body, limit_query, number_query, text_query, wait_seconds
from routes.spec import JSON, Answer, Param, RouteSpec, page_of, ref
from routes.stream import run_headers
from service.reads import run_links

_STATUSES = frozenset(status.value for status in RunStatus)


class CancelInput(Wire):
    """Why a run is cancelled, for its last frame and the people who read it."""

    reason: str | None = None


async def create(request: Request) -> Response:
    """Accept an envelope; ``Prefer: wait=N`` waits for its end, N seconds at most."""
    doors, caller = doors_of(request), principal_of(request)
    seconds = wait_seconds(request)
    run = await submit(request)
    headers = run_headers(run.run_id, run.correlation_id)
    if seconds is None:
        status = RunStatus.QUEUED.value if run.created else (await doors.reads.run(caller, run.run_id))["status"]
        return Json({"run_id": run.run_id, "status": status, "links": run_links(run.run_id)}, 202, headers)
    await doors.streams.settled(caller, run.run_id, seconds)
    detail = await doors.reads.run(caller, run.run_id)
    ended = RunStatus(detail["status"]) in RUN_TERMINAL
    return Json(detail, 200 if ended else 202, headers | {"Preference-Applied": f"wait={seconds}"})


async def index(request: Request) -> Response:
    """List the caller's tenant's runs, newest first."""
    page = await doors_of(request).reads.page(
        principal_of(request),
        status=text_query(request, "status", allowed=_STATUSES),
        cursor=text_query(request, "cursor"),
        limit=limit_query(request),
    )
    return Json(page)


async def detail(request: Request) -> Response:
    """Read one run."""
    run_id = path_id(request, "run_id", errors.RunNotFound)
    return Json(await doors_of(request).reads.run(principal_of(request), run_id))


async def events(request: Request) -> Response:
    """Watch a run from any point, live or long after it ended."""
    run_id = path_id(request, "run_id", errors.RunNotFound)
    after = start_after(request)
    limit = number_query(request, "limit", 1, EVENTS_LIMIT) or EVENTS_LIMIT
    if not prefers_json(request):
        return await attach(request, principal_of(request), run_id, after)
    return event_page(run_id, await doors_of(request).streams.page(principal_of(request), run_id, after, limit))


async def cancel(request: Request) -> Response:
    """Ask a run to end; its last frame says who asked."""
    run_id = path_id(request, "run_id", errors.RunNotFound)
    body: Any = await json_body(request, required=False)
    given = read_model(CancelInput, {} if body is None else body, errors.Unprocessable)
    return Json(await doors_of(request).runs.cancel(principal_of(request), run_id, given.reason), 202)


_ACCEPTED = {"anyOf": [ref("AcceptedRun"), ref("Run")]}

CREATE = RouteSpec(
    method="POST",
    path="/api/v1/runs",
    handler=create,
    name="create_run",
    summary="Submit an envelope",
    tag="runs",
    request=ref("TaskEnvelope"),
    params=(
        describe.IDEMPOTENCY_KEY,
        describe.CORRELATION_ID,
        describe.PREFER,
    ),
    answers=(
        Answer(200, "The run ended while the caller waited.", {JSON: ref("Run")}, describe.RUN_HEADERS),
        Answer(202, "The run is accepted, or not at its end yet.", {JSON: _ACCEPTED}, describe.RUN_HEADERS),
    ),
    errors=(
        *describe.BODY_ERRORS, errors.EnvelopeInvalid, SchemaRefused, errors.Unsupported, errors.PlanInvalid,
        errors.IdempotencyKeyReused, errors.ServerBusy, errors.StoreUnavailable,
    ),
    roles=describe.SUBMITTERS,
)  # fmt: skip

INDEX = RouteSpec(
    method="GET",
    path="/api/v1/runs",
    handler=index,
    name="list_runs",
    summary="List runs, newest first",
    tag="runs",
    params=(describe.RUN_STATUS, describe.LIMIT, describe.CURSOR),
    answers=(Answer(200, "A page of runs.", {JSON: page_of("RunItem")}),),
    errors=(errors.BadQuery, errors.StoreUnavailable),
)

DETAIL = RouteSpec(
    method="GET",
    path="/api/v1/runs/{run_id}",
    handler=detail,
    name="get_run",
    summary="Read a run",
    tag="runs",
    params=(describe.RUN_ID,),
    answers=describe.ok("Run", "The run as it stands."),
    errors=(errors.RunNotFound, errors.StoreUnavailable),
)

EVENTS = RouteSpec(
    method="GET",
    path="/api/v1/runs/{run_id}/events",
    handler=events,
    name="get_run_events",
    summary="Stream or page a run's frames",
    tag="runs",
    description="`Accept: text/event-stream` (the default) follows the run; `application/json` returns what is there.",
    params=(
        describe.RUN_ID, describe.AFTER, describe.LAST_EVENT_ID,
        Param("limit", "query", "Frames per JSON page.", {"type": "integer", "minimum": 1, "maximum": EVENTS_LIMIT}),
    ),
    answers=(
        Answer(200, "The frames.", {**describe.STREAM, JSON: ref("EventPage")}, {"X-Run-Id": "The run."}),
        Answer(204, "The caller is at or past the terminal frame."),
    ),
    errors=(errors.RunNotFound, errors.BadQuery, errors.BadHeader, errors.ServerBusy, errors.StoreUnavailable),
)  # fmt: skip

CANCEL = RouteSpec(
    method="POST",
    path="/api/v1/runs/{run_id}/cancel",
    handler=cancel,
    name="cancel_run",
    summary="Cancel a run",
    tag="runs",
    params=(describe.RUN_ID,),
    request=ref("CancelInput"),
    body_required=False,
    answers=(Answer(202, "The run has been asked to end.", {JSON: ref("Cancelling")}),),
    errors=(
        *describe.BODY_ERRORS,
        errors.RunNotFound,
        errors.InvalidRunState,
        errors.Unprocessable,
        errors.StoreUnavailable,
    ),
    roles=describe.SUBMITTERS,
)
