"""``/api/v1/runs/{run_id}/retry`` and ``/fork``: another run from where one stands (F6)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from routes import describe
from routes.answers import Json
from routes.attach import path_id
from routes.auth import principal_of
from routes.doors import doors_of
from routes.intake import header, json_body, shield
from routes.spec import JSON, Answer, RouteSpec, ref
from routes.stream import run_headers
from service.lineage import Forked


async def retry(request: Request) -> Response:
    """Go on where a run stopped."""
    run_id, key, correlation_id = _asked(request)
    body = await json_body(request, required=False)
    lineages, caller = doors_of(request).lineages, principal_of(request)
    return _started(await lineages.retry(caller, run_id, body, key=key, correlation_id=correlation_id))


async def fork(request: Request) -> Response:
    """Begin again at a node of a run."""
    run_id, key, correlation_id = _asked(request)
    body = await json_body(request)
    lineages, caller = doors_of(request).lineages, principal_of(request)
    return _started(await lineages.fork(caller, run_id, body, key=key, correlation_id=correlation_id))


def _asked(request: Request) -> tuple[str, str | None, str | None]:
    shield(request)
    run_id = path_id(request, "run_id", errors.RunNotFound)
    return run_id, header(request, "Idempotency-Key"), header(request, "X-Correlation-Id")


def _started(forked: Forked) -> Response:
    return Json(forked.wire(), 202, run_headers(forked.run_id, forked.correlation_id))


_PARAMS = (describe.RUN_ID, describe.IDEMPOTENCY_KEY, describe.CORRELATION_ID)
_ANSWERS = (Answer(202, "The new run is accepted.", {JSON: ref("ForkedRun")}, describe.RUN_HEADERS),)
_ERRORS = (
    *describe.BODY_ERRORS,
    errors.Forbidden,
    errors.RunNotFound,
    errors.RunPruned,
    errors.InvalidRunState,
    errors.PlanInvalid,
    errors.Unprocessable,
    errors.IdempotencyKeyReused,
    errors.ServerBusy,
    errors.StoreUnavailable,
)

RETRY = RouteSpec(
    method="POST",
    path="/api/v1/runs/{run_id}/retry",
    handler=retry,
    name="retry_run",
    summary="Retry a failed or cancelled run from where it stopped",
    tag="runs",
    description=(
        "Starts a new run. Nodes that completed are copied, everything else begins afresh; the old run stays as it is. "
        "A call that must not be repeated, and had begun, is asked about first."
    ),
    params=_PARAMS,
    request=ref("ReasonInput"),
    body_required=False,
    answers=_ANSWERS,
    errors=_ERRORS,
    roles=describe.SUBMITTERS,
)

FORK = RouteSpec(
    method="POST",
    path="/api/v1/runs/{run_id}/fork",
    handler=fork,
    name="fork_run",
    summary="Fork a run at a node, with its inputs or its output edited",
    tag="runs",
    description=(
        "Starts a new run from one in any state. The node and what comes after it run again; other nodes that "
        "completed are copied. The old run stays as it is."
    ),
    params=_PARAMS,
    request=ref("ForkInput"),
    answers=_ANSWERS,
    errors=(*_ERRORS, errors.NodeNotFound, errors.ForkInvalid),
    roles=describe.SUBMITTERS,
)
