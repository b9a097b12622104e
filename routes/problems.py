"""Every error becomes a problem document; a bug becomes a bare 500 and a log entry, never a stack trace (F8, P3)."""

from __future__ import annotations

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from contracts.errors import FlexError, NotFound
from routes.answers import problem

_log = structlog.get_logger(__name__)
MAX_HEADER_BYTES = 32 * 1024
MAX_TARGET_BYTES = 8 * 1024


class Internal(FlexError):
    """Something went wrong inside; it has been recorded."""

    status, code, title = 500, "internal", "Internal error"


class MethodNotAllowed(FlexError):
    """This path has no such method."""

    status, code, title = 405, "method_not_allowed", "Method not allowed"


class NoRoute(NotFound):
    """There is nothing at this path."""


class HeadersTooLarge(FlexError):
    """The headers or the address are larger than this service takes."""

    status, code, title = 431, "headers_too_large", "Headers too large"


class Problems:
    """Renders what handlers raise."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Run the application; answer its errors unless an answer has begun."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        begun = False

        async def note(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            _check_head(scope)
            await self._app(scope, receive, note)
        except FlexError as error:
            if begun:
                raise
            await problem(error, scope)(scope, receive, send)
        except ClientDisconnect:
            _log.debug("client_gone", path=scope["path"])
        except Exception as error:  # the last resort: whatever a bug raises must not reach the caller
            _log.exception(
                "request_failed", method=scope["method"], path=scope["path"], error_type=type(error).__name__
            )
            if begun:
                raise
            await problem(Internal(), scope)(scope, receive, send)


def _check_head(scope: Scope) -> None:
    """Bound the request's head."""
    size = sum(len(name) + len(value) for name, value in scope["headers"])
    if size > MAX_HEADER_BYTES or len(scope.get("raw_path") or b"") + len(scope["query_string"]) > MAX_TARGET_BYTES:
        raise HeadersTooLarge


async def router_error(request: Request, error: Exception) -> Response:
    """Answer the router's own 404 and 405 (Starlette's HTTPException)."""
    if isinstance(error, HTTPException) and error.status_code == 405:
        raised: FlexError = MethodNotAllowed()
    else:
        raised = NoRoute()
    headers = error.headers if isinstance(error, HTTPException) else None
    return problem(raised, request.scope, headers)
