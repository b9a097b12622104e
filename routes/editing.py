"""The plan of a living run, and its runtime rules, changed and fired by hand (F5, H2)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from contracts.ids import is_node_id
from contracts.wire import read_model
from routes import describe
from routes.answers import Json
from routes.attach import path_id
from routes.auth import principal_of
from routes.control import answered
from routes.doors import doors_of
from routes.intake import json_body, limit_query, text_query
from routes.spec import JSON, Answer, Param, RouteSpec, page_of, ref
from service.control import NothingInput


async def edit(request: Request) -> Response:
    """Have a run go on under another plan."""
    run_id, body = path_id(request, "run_id", errors.RunNotFound), await json_body(request)
    edited = await doors_of(request).editing.edit(principal_of(request), run_id, body)
    return Json(edited.wire(), 200 if edited.answered else 202)


async def versions(request: Request) -> Response:
    """List the versions of a run's plan, newest first."""
    page = await doors_of(request).editing.versions(
        principal_of(request),
        path_id(request, "run_id", errors.RunNotFound),
        cursor=text_query(request, "cursor"),
        limit=limit_query(request),
    )
    return Json(page)


async def trigger(request: Request) -> Response:
    """Fire a manual rule of a run."""
    run_id, policy_id = path_id(request, "run_id", errors.RunNotFound), request.path_params["policy_id"]
    body = await json_body(request, required=False)
    read_model(NothingInput, {} if body is None else body, errors.Unprocessable)
    if not is_node_id(policy_id):
        raise errors.PolicyNotFound
    return answered(await doors_of(request).editing.trigger(principal_of(request), run_id, policy_id))


_ERRORS = (
    *describe.BODY_ERRORS,
    errors.RunNotFound,
    errors.RunPruned,
    errors.Forbidden,
    errors.InvalidRunState,
    errors.StoreUnavailable,
)

EDIT = RouteSpec(
    method="PATCH",
    path="/api/v1/runs/{run_id}/plan",
    handler=edit,
    name="edit_run_plan",
    summary="Edit a run's plan",
    tag="runs",
    description=(
        "A whole plan on top of version `base_version`. Nodes that have begun are immutable unless `cancel` names "
        "them; completed ones always are. A plan that people approved is presented to them again."
    ),
    params=(describe.RUN_ID,),
    request=ref("PlanEditInput"),
    answers=(
        Answer(200, "The run goes on under the new version.", {JSON: ref("PlanEdited")}),
        Answer(202, "The edit is left for the run; whoever holds it has not answered yet.", {JSON: ref("PlanEdited")}),
    ),
    errors=(*_ERRORS, errors.Unprocessable, errors.PlanInvalid, errors.StalePlanVersion, errors.NodeImmutable),
    roles=describe.SUBMITTERS,
)

VERSIONS = RouteSpec(
    method="GET",
    path="/api/v1/runs/{run_id}/plan/versions",
    handler=versions,
    name="list_plan_versions",
    summary="List the versions of a run's plan, newest first",
    tag="runs",
    params=(describe.RUN_ID, describe.LIMIT, describe.CURSOR),
    answers=(Answer(200, "A page of versions.", {JSON: page_of("PlanVersion")}),),
    errors=(errors.RunNotFound, errors.RunPruned, errors.BadQuery, errors.StoreUnavailable),
)

TRIGGER = RouteSpec(
    method="POST",
    path="/api/v1/runs/{run_id}/policies/{policy_id}/trigger",
    handler=trigger,
    name="trigger_policy",
    summary="Fire a manual policy",
    tag="runs",
    params=(
        describe.RUN_ID,
        Param("policy_id", "path", "The runtime rule.", {"type": "string"}, required=True),
    ),
    request=ref("NothingInput"),
    body_required=False,
    answers=(
        Answer(200, "It fired; the run as it stands now.", {JSON: ref("Controlled")}),
        Answer(202, "The run has been asked; whoever holds it has not answered yet.", {JSON: ref("Controlled")}),
    ),
    errors=(*_ERRORS, errors.Unprocessable, errors.PolicyNotFound, errors.PolicyNotFired),
    roles=describe.SUBMITTERS,
)
