"""For operators: is it alive, should it get traffic, what has it counted (P5)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from routes.answers import NO_STORE, Json
from routes.doors import doors_of
from routes.spec import JSON, Answer, RouteSpec, ref


async def live(_request: Request) -> Response:
    """Answer as long as the event loop turns."""
    return Json({"status": "ok"})


async def ready(request: Request) -> Response:
    """Say whether this process should get traffic: the database answers and it is not going down."""
    problems = await doors_of(request).health.problems()
    return Json({"status": "unready" if problems else "ok", "problems": problems}, 503 if problems else 200)


async def metrics(request: Request) -> Response:
    """Return everything counted, in Prometheus' text format."""
    body, content_type = doors_of(request).metrics.render()
    return Response(body, headers={**NO_STORE, "Content-Type": content_type})


LIVE = RouteSpec(
    method="GET",
    path="/livez",
    handler=live,
    name="livez",
    summary="Say that the process is alive",
    tag="service",
    answers=(Answer(200, "It is.", {JSON: ref("Alive")}),),
)

READY = RouteSpec(
    method="GET",
    path="/readyz",
    handler=ready,
    name="readyz",
    summary="Say whether the process should get traffic",
    tag="service",
    answers=(Answer(200, "It should.", {JSON: ref("Ready")}), Answer(503, "It should not.", {JSON: ref("Ready")})),
)

METRICS = RouteSpec(
    method="GET",
    path="/metrics",
    handler=metrics,
    name="metrics",
    summary="Read the metrics",
    tag="service",
    answers=(Answer(200, "Prometheus' text format.", {"text/plain": {"type": "string"}}),),
)
