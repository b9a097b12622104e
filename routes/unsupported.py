"""Actions that have a place on the wire and are refused as ``unsupported`` (wire §2: never ignored)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from routes import describe
from routes.attach import path_id
from routes.spec import Handler, Param, RouteSpec


def _refuse(what: str) -> Handler:
    async def handler(request: Request) -> Response:
        path_id(request, "run_id", errors.RunNotFound)
        raise errors.Unsupported(f"This service does not {what} yet.")

    return handler


def _route(action: str, what: str) -> RouteSpec:
    return RouteSpec(
        method="POST",
        path=f"/api/v1/runs/{{run_id}}/{action}",
        handler=_refuse(what),
        name=f"{action}_run",
        summary=f"{action.capitalize()} a run (unsupported)",
        tag="runs",
        params=(describe.RUN_ID,),
        answers=(),
        errors=(errors.RunNotFound, errors.Unsupported),
    )


PAUSE = _route("pause", "pause runs")
RESUME = _route("resume", "resume paused runs")
RETRY = _route("retry", "retry failed runs")
FORK = _route("fork", "fork runs")

PATCH_PLAN = RouteSpec(
    method="PATCH",
    path="/api/v1/runs/{run_id}/plan",
    handler=_refuse("edit plans"),
    name="edit_run_plan",
    summary="Edit a run's plan (unsupported)",
    tag="runs",
    params=(describe.RUN_ID,),
    answers=(),
    errors=(errors.RunNotFound, errors.Unsupported),
)

TRIGGER = RouteSpec(
    method="POST",
    path="/api/v1/runs/{run_id}/policies/{policy_id}/trigger",
    handler=_refuse("fire policies by hand"),
    name="trigger_policy",
    summary="Fire a manual policy (unsupported)",
    tag="runs",
    params=(describe.RUN_ID, Param("policy_id", "path", "The runtime rule.", {"type": "string"}, required=True)),
    answers=(),
    errors=(errors.RunNotFound, errors.Unsupported),
)
