"""Capabilities that are registered while the service runs (F15)."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from contracts.ids import is_token
from contracts.schema import SchemaRefused
from routes import describe
from routes.answers import Json
from routes.attach import path_id
from routes.auth import principal_of
from routes.doors import doors_of
from routes.intake import json_body, text_query
from routes.spec import JSON, Answer, Param, RouteSpec, ref

ADMINS: Final = ("admin",)


async def register(request: Request) -> Response:
    """Register a capability; the same declaration again is a heartbeat."""
    body = await json_body(request)
    shown, created = await doors_of(request).registrations.register(principal_of(request), body)
    return Json(shown, 201 if created else 200)


async def heartbeat(request: Request) -> Response:
    """Keep a registered capability active."""
    name, version = _named(request)
    await doors_of(request).registrations.heartbeat(principal_of(request), name, version)
    return Response(status_code=204)


async def remove(request: Request) -> Response:
    """Take a registered capability away."""
    name, version = _named(request)
    await doors_of(request).registrations.remove(principal_of(request), name, version)
    return Response(status_code=204)


def _named(request: Request) -> tuple[str, str | None]:
    """Return the capability and the version that the request is about."""
    version = text_query(request, "version")
    if version is not None and not is_token(version):
        raise errors.CapabilityNotFound
    return path_id(request, "capability_id", errors.CapabilityNotFound), version


_PARAMS: Final = (
    Param("capability_id", "path", "The registered capability.", {"type": "string"}, required=True),
    Param("version", "query", "Only this version; every registered one without it.", {"type": "string"}),
)
_ERRORS: Final = (errors.BadQuery, errors.CapabilityNotFound, errors.StoreUnavailable)

REGISTER = RouteSpec(
    method="POST",
    path="/api/v1/capabilities",
    handler=register,
    name="register_capability",
    summary="Register a capability behind an address",
    tag="catalogue",
    description="The same declaration again changes nothing and counts as a heartbeat.",
    request=ref("Registration"),
    answers=(
        Answer(200, "It was registered before, in the same words.", {JSON: ref("Capability")}),
        Answer(201, "It is registered.", {JSON: ref("Capability")}),
    ),
    errors=(
        *describe.BODY_ERRORS, errors.RegistrationInvalid, SchemaRefused, errors.Unsupported,
        errors.CapabilityConflict, errors.FacetConflict, errors.TooManyCapabilities, errors.StoreUnavailable,
    ),
    roles=ADMINS,
)  # fmt: skip

HEARTBEAT = RouteSpec(
    method="POST",
    path="/api/v1/capabilities/{capability_id}/heartbeat",
    handler=heartbeat,
    name="beat_capability",
    summary="Keep a registered capability active",
    tag="catalogue",
    description="Send it at a third of `heartbeat_seconds`. A 404 says that it has to be registered again.",
    params=_PARAMS,
    answers=(Answer(204, "Noted."),),
    errors=_ERRORS,
    roles=ADMINS,
)

REMOVE = RouteSpec(
    method="DELETE",
    path="/api/v1/capabilities/{capability_id}",
    handler=remove,
    name="remove_capability",
    summary="Take a registered capability away",
    tag="catalogue",
    params=_PARAMS,
    answers=(Answer(204, "It is gone. Runs that need it ask people what to do."),),
    errors=_ERRORS,
    roles=ADMINS,
)
