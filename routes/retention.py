"""How long things are kept (P6)."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from routes import describe
from routes.answers import Json
from routes.auth import principal_of
from routes.doors import doors_of
from routes.intake import json_body
from routes.spec import RouteSpec, ref

ADMINS: Final = ("admin",)


async def read(request: Request) -> Response:
    """Read the tenant's policy."""
    return Json(await doors_of(request).retention.read(principal_of(request)))


async def write(request: Request) -> Response:
    """Replace the tenant's policy."""
    body = await json_body(request)
    return Json(await doors_of(request).retention.write(principal_of(request), body))


READ = RouteSpec(
    method="GET",
    path="/api/v1/retention",
    handler=read,
    name="get_retention",
    summary="Read how long things are kept",
    tag="audit",
    answers=describe.ok("Retention", "The policy; without one of the tenant's own that of the service."),
    errors=(errors.StoreUnavailable,),
    roles=ADMINS,
)

WRITE = RouteSpec(
    method="PUT",
    path="/api/v1/retention",
    handler=write,
    name="put_retention",
    summary="Say how long things are kept",
    tag="audit",
    description=(
        "Days after its end that a run is kept, and days that an audit record is; days without a message, an upload or "
        "a write that a conversation, a document or an entry of memory is. Null keeps them for ever; what is left out "
        "of the last three stays as it is."
    ),
    request=ref("RetentionInput"),
    answers=describe.ok("Retention", "The policy; it holds from the next pruning on."),
    errors=(*describe.BODY_ERRORS, errors.Unprocessable, errors.StoreUnavailable),
    roles=ADMINS,
)
