"""``/openapi.json`` and a page that shows it, without anything from another site."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from routes.spec import JSON, Answer, RouteSpec

_STATIC: Final = Path(__file__).with_name("static")
_HEADERS: Final = {
    "Cache-Control": "no-cache",
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
}


@lru_cache(maxsize=8)
def _asset(name: str) -> bytes:
    return (_STATIC / name).read_bytes()


async def openapi(request: Request) -> Response:
    """Return the OpenAPI document."""
    return Response(request.app.state.openapi(), headers={"Cache-Control": "no-cache"}, media_type=JSON)


async def docs(_request: Request) -> Response:
    """Return the page."""
    return Response(_asset("docs.html"), headers=_HEADERS, media_type="text/html")


async def docs_script(_request: Request) -> Response:
    """Return the page's script."""
    return Response(_asset("docs.js"), headers=_HEADERS, media_type="text/javascript")


async def docs_style(_request: Request) -> Response:
    """Return the page's style."""
    return Response(_asset("docs.css"), headers=_HEADERS, media_type="text/css")


OPENAPI = RouteSpec(
    method="GET",
    path="/openapi.json",
    handler=openapi,
    name="openapi",
    summary="Read this description",
    tag="service",
    answers=(Answer(200, "OpenAPI 3.1.", {JSON: {"type": "object"}}),),
)

DOCS = RouteSpec(
    method="GET",
    path="/docs",
    handler=docs,
    name="docs",
    summary="Read this description as a page",
    tag="service",
    answers=(Answer(200, "A page.", {"text/html": {"type": "string"}}),),
)

DOCS_SCRIPT = RouteSpec(
    method="GET",
    path="/docs/docs.js",
    handler=docs_script,
    name="docs_script",
    summary="Read the page's script",
    tag="service",
    answers=(Answer(200, "The script.", {"text/javascript": {"type": "string"}}),),
)

DOCS_STYLE = RouteSpec(
    method="GET",
    path="/docs/docs.css",
    handler=docs_style,
    name="docs_style",
    summary="Read the page's style",
    tag="service",
    answers=(Answer(200, "The style.", {"text/css": {"type": "string"}}),),
)
