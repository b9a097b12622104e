"""What is inside a run: its plan, nodes with their attempts, and artifacts (F4, F10, T3)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from routes import describe
from routes.answers import Json
from routes.attach import path_id, path_node
from routes.auth import principal_of
from routes.doors import doors_of
from routes.intake import limit_query, number_query, text_query
from routes.spec import JSON, Answer, Param, RouteSpec, page_of

MAX_LIMIT = 100


async def plan(request: Request) -> Response:
    """Read the plan, the newest version or the one asked for."""
    run_id = path_id(request, "run_id", errors.RunNotFound)
    version = number_query(request, "version", 1, 2**31 - 1)
    return Json(await doors_of(request).reads.plan(principal_of(request), run_id, version))


async def nodes(request: Request) -> Response:
    """List the nodes of the plan with where they stand."""
    run_id = path_id(request, "run_id", errors.RunNotFound)
    page = await doors_of(request).reads.nodes(
        principal_of(request), run_id, cursor=text_query(request, "cursor"), limit=limit_query(request, MAX_LIMIT)
    )
    return Json(page)


async def node(request: Request) -> Response:
    """Read one node with its inputs, output and every attempt."""
    run_id = path_id(request, "run_id", errors.RunNotFound)
    return Json(await doors_of(request).reads.node(principal_of(request), run_id, path_node(request)))


async def artifacts(request: Request) -> Response:
    """List the stored outputs."""
    run_id = path_id(request, "run_id", errors.RunNotFound)
    page = await doors_of(request).reads.artifacts(
        principal_of(request), run_id, cursor=text_query(request, "cursor"), limit=limit_query(request, MAX_LIMIT)
    )
    return Json(page)


async def artifact(request: Request) -> Response:
    """Return a node's output itself."""
    run_id = path_id(request, "run_id", errors.RunNotFound)
    return Json(await doors_of(request).reads.artifact(principal_of(request), run_id, path_node(request)))


PLAN = RouteSpec(
    method="GET",
    path="/api/v1/runs/{run_id}/plan",
    handler=plan,
    name="get_run_plan",
    summary="Read a run's plan",
    tag="runs",
    params=(
        describe.RUN_ID,
        Param(
            "version",
            "query",
            "A plan version; the newest without it.",
            {"type": "integer", "minimum": 1, "maximum": 2**31 - 1},
        ),
    ),
    answers=describe.ok("PlanGraph", "The plan."),
    errors=(errors.RunNotFound, errors.NotFound, errors.BadQuery, errors.StoreUnavailable),
)

NODES = RouteSpec(
    method="GET",
    path="/api/v1/runs/{run_id}/nodes",
    handler=nodes,
    name="list_run_nodes",
    summary="List a run's nodes",
    tag="runs",
    params=(describe.RUN_ID, describe.LIMIT, describe.CURSOR),
    answers=(Answer(200, "The plan's nodes in its order, then what they unfolded into.", {JSON: page_of("NodeItem")}),),
    errors=(errors.RunNotFound, errors.BadQuery, errors.StoreUnavailable),
)

NODE = RouteSpec(
    method="GET",
    path="/api/v1/runs/{run_id}/nodes/{node_id}",
    handler=node,
    name="get_run_node",
    summary="Read a node with its attempts",
    tag="runs",
    params=(describe.RUN_ID, describe.NODE_ID),
    answers=describe.ok("Node", "The node."),
    errors=(errors.RunNotFound, errors.NotFound, errors.StoreUnavailable),
)

ARTIFACTS = RouteSpec(
    method="GET",
    path="/api/v1/runs/{run_id}/artifacts",
    handler=artifacts,
    name="list_run_artifacts",
    summary="List a run's artifacts",
    tag="runs",
    params=(describe.RUN_ID, describe.LIMIT, describe.CURSOR),
    answers=(Answer(200, "The outputs that are stored.", {JSON: page_of("Artifact")}),),
    errors=(errors.RunNotFound, errors.BadQuery, errors.StoreUnavailable),
)

ARTIFACT = RouteSpec(
    method="GET",
    path="/api/v1/runs/{run_id}/artifacts/{node_id}",
    handler=artifact,
    name="get_run_artifact",
    summary="Read a node's output",
    tag="runs",
    params=(describe.RUN_ID, describe.NODE_ID),
    answers=(Answer(200, "The output itself, any JSON value.", {JSON: {}}),),
    errors=(errors.RunNotFound, errors.NotFound, errors.StoreUnavailable),
)
