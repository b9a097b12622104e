"""What can be done here: capabilities, facets, and what a plan for an envelope would be (F4)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from contracts.schema import SchemaRefused
from routes import describe
from routes.answers import Json
from routes.auth import principal_of
from routes.doors import doors_of
from routes.intake import MAX_LIMIT, json_body, limit_query, shield, text_query
from routes.spec import JSON, Answer, RouteSpec, page_of, ref


async def capabilities(request: Request) -> Response:
    """List capabilities by id."""
    limit, cursor = limit_query(request, MAX_LIMIT), text_query(request, "cursor")
    return Json(await doors_of(request).capabilities.list(principal_of(request), limit=limit, cursor=cursor))


async def facets(request: Request) -> Response:
    """List facets by name."""
    limit, cursor = limit_query(request, MAX_LIMIT), text_query(request, "cursor")
    return Json(await doors_of(request).capabilities.facets(principal_of(request), limit=limit, cursor=cursor))


async def dry_run(request: Request) -> Response:
    """Plan an envelope without starting anything."""
    shield(request)
    return Json(await doors_of(request).plans.dry_run(principal_of(request), await json_body(request)))


CAPABILITIES = RouteSpec(
    method="GET",
    path="/api/v1/capabilities",
    handler=capabilities,
    name="list_capabilities",
    summary="List capabilities",
    tag="catalogue",
    params=(describe.LIMIT, describe.CURSOR),
    answers=(Answer(200, "A page of capabilities by id.", {JSON: page_of("Capability")}),),
    errors=(errors.BadQuery,),
)

FACETS = RouteSpec(
    method="GET",
    path="/api/v1/facets",
    handler=facets,
    name="list_facets",
    summary="List facets",
    tag="catalogue",
    params=(describe.LIMIT, describe.CURSOR),
    answers=(Answer(200, "A page of facets by name.", {JSON: page_of("Facet")}),),
    errors=(errors.BadQuery,),
)

PLANS = RouteSpec(
    method="POST",
    path="/api/v1/plans",
    handler=dry_run,
    name="plan_envelope",
    summary="Plan an envelope without running it",
    tag="catalogue",
    description="Nothing is stored and nothing is executed. Without a plan the findings say what is missing.",
    request=ref("TaskEnvelope"),
    answers=describe.ok("DryRun", "The plan, or why there is none."),
    errors=(*describe.BODY_ERRORS, errors.EnvelopeInvalid, SchemaRefused, errors.Unsupported, errors.ServerBusy),
    roles=describe.SUBMITTERS,
)
