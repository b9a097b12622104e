"""Who one is here, and what a client may know of the settings."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from routes import describe
from routes.answers import Json
from routes.auth import principal_of
from routes.doors import doors_of
from routes.spec import RouteSpec


async def me(request: Request) -> Response:
    """Return the caller."""
    caller = principal_of(request)
    return Json(
        {
            "subject": caller.subject,
            "tenant": caller.tenant,
            "roles": sorted(caller.roles),
            "groups": sorted(caller.groups),
            "scopes": sorted(caller.scopes),
        }
    )


async def config(request: Request) -> Response:
    """Return feature flags and limits."""
    doors = doors_of(request)
    return Json({"version": doors.version, **doors.config})


ME = RouteSpec(
    method="GET",
    path="/api/v1/me",
    handler=me,
    name="get_me",
    summary="Read who the caller is",
    tag="service",
    answers=describe.ok("Me", "The caller."),
)

CONFIG = RouteSpec(
    method="GET",
    path="/api/v1/config",
    handler=config,
    name="get_config",
    summary="Read feature flags and limits",
    tag="service",
    answers=describe.ok("Config", "What a client may know of the settings."),
)
