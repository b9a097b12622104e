"""Who may call from a browser: known hosts, own or configured origins, and CORS for the configured ones (P2).

A page of another site must not change anything here, and a name that is rebound to a loopback address must not read
anything: so a state change from a foreign ``Origin`` and any call to an unknown ``Host`` is refused.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.errors import ForeignOrigin
from routes.answers import problem
from routes.doors import Access, Doors

SAFE: Final = frozenset({"GET", "HEAD", "OPTIONS"})
LOOPBACK: Final = frozenset({"localhost", "127.0.0.1", "::1"})
EXPOSED: Final = (
    "X-Run-Id, X-Correlation-Id, Location, Retry-After, ETag, Deprecation, Link, Preference-Applied,"
    " Content-Disposition, WWW-Authenticate, Allow"
)
"""What a page may read of an answer besides what every page may (Fetch, CORS-safelisted response headers)."""
ALLOWED_HEADERS: Final = (
    "Content-Type, Idempotency-Key, If-Match, If-None-Match, Last-Event-ID, X-Correlation-Id, Prefer, Authorization"
)
ALLOWED_METHODS: Final = "GET, POST, PUT, PATCH, DELETE"
ANY_HOST: Final = frozenset({"/livez", "/readyz", "/metrics"})
"""Probes call by address; these tell nothing about anybody's data."""


class Origins:
    """Checks ``Host`` and ``Origin``, answers preflights, and adds the CORS headers for configured origins."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Refuse, answer a preflight, or pass on."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        doors: Doors = scope["app"].state.doors
        origin = headers.get("origin")
        if not _host_known(scope, headers, doors.access):
            await problem(ForeignOrigin("This service does not answer to that Host."), scope)(scope, receive, send)
            return
        shared = origin is not None and origin in doors.access.origins
        if scope["method"] == "OPTIONS" and origin is not None and "access-control-request-method" in headers:
            await _preflight(origin if shared else None)(scope, receive, send)
            return
        answer = _with_cors(send, origin) if shared and origin is not None else send
        if origin is not None and not shared and scope["method"] not in SAFE and not _same_origin(origin, headers):
            await problem(ForeignOrigin("A state change from a foreign Origin is refused."), scope)(
                scope, receive, send
            )
            return
        await self._app(scope, receive, answer)


def _host_known(scope: Scope, headers: Headers, access: Access) -> bool:
    if scope["path"] in ANY_HOST:
        return True
    name = host_name(headers.get("host", ""))
    return name in LOOPBACK or name.endswith(".localhost") or name in access.hosts


def host_name(host: str) -> str:
    """Return the lower-case name of a ``Host`` value without its port, without IPv6's brackets; "" if malformed."""
    if any(mark in host for mark in "/?#@\\ "):
        return ""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _same_origin(origin: str, headers: Headers) -> bool:
    """Compare by host and port; the scheme may differ behind a proxy that ends TLS."""
    try:
        theirs, own = urlsplit(origin), urlsplit(f"//{headers.get('host', '')}")
        default = 443 if theirs.scheme == "https" else 80
        return (
            theirs.scheme in ("http", "https")
            and theirs.hostname is not None
            and theirs.hostname == own.hostname
            and (theirs.port or default) == (own.port or default)
        )
    except ValueError:
        return False


def _preflight(origin: str | None) -> Response:
    headers = {"Vary": "Origin"}
    if origin is not None:
        headers |= {
            "Access-Control-Allow-Origin": origin,
            "Access-Control-Allow-Credentials": "true",
            "Access-Control-Allow-Methods": ALLOWED_METHODS,
            "Access-Control-Allow-Headers": ALLOWED_HEADERS,
            "Access-Control-Max-Age": "600",
        }
    return Response(status_code=204 if origin is not None else 403, headers=headers)


def _with_cors(send: Send, origin: str) -> Send:
    async def answer(message: Message) -> None:
        if message["type"] == "http.response.start":
            headers = MutableHeaders(scope=message)
            headers["Access-Control-Allow-Origin"] = origin
            headers["Access-Control-Allow-Credentials"] = "true"
            headers["Access-Control-Expose-Headers"] = EXPOSED
            headers.add_vary_header("Origin")
        await send(message)

    return answer
