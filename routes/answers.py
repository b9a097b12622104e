"""Rendering answers: JSON by orjson, problem documents (RFC 9457) with the request's correlation id."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson
from starlette.responses import Response
from starlette.types import Scope

from contracts.errors import FlexError
from contracts.ids import CORRELATION, is_header_token
from routes.doors import Doors

PROBLEM: Final = "application/problem+json"
NO_STORE: Final = {"Cache-Control": "no-store"}


class Json(Response):
    """A JSON answer; ``content`` is a JSON value, or bytes that are JSON already."""

    media_type = "application/json"

    def __init__(self, content: Any, status_code: int = 200, headers: Mapping[str, str] | None = None) -> None:
        """Encode; answers about runs are never cached."""
        super().__init__(content, status_code, {**NO_STORE, **(headers or {})})

    def render(self, content: Any) -> bytes:
        """Return the bytes."""
        return content if isinstance(content, bytes) else orjson.dumps(content)


def correlation_of(scope: Scope) -> str:
    """Return the request's correlation id: the body's or the header's if it is usable, else a new one."""
    known: str | None = scope.get("flex.correlation")
    if known is None:
        sent = [value.decode("latin-1") for name, value in scope["headers"] if name == b"x-correlation-id"]
        doors: Doors = scope["app"].state.doors
        known = sent[0] if len(sent) == 1 and is_header_token(sent[0]) else doors.ids.new(CORRELATION)
        scope["flex.correlation"] = known
    return known


def problem(error: FlexError, scope: Scope, headers: Mapping[str, str] | None = None) -> Response:
    """Return an error as a problem document; ``retry_after`` (seconds) also becomes the ``Retry-After`` header."""
    correlation_id = correlation_of(scope)
    shown = {**(headers or {}), **NO_STORE, "X-Correlation-Id": correlation_id}
    if error.status == 401:
        shown["WWW-Authenticate"] = "Bearer"
    if error.status == 503:
        shown["Retry-After"] = str(error.extra.get("retry_after", 2))
    return Response(orjson.dumps(error.as_problem(correlation_id)), error.status, shown, PROBLEM)
