"""Counting requests and naming them in the logs (P5, F14)."""

from __future__ import annotations

from starlette.types import ASGIApp, Message, Receive, Scope, Send
from structlog.contextvars import bound_contextvars

from routes.doors import Doors

UNMATCHED = "unmatched"


class Measure:
    """Counts every answer by method, route and status, and takes the time to its first byte."""

    def __init__(self, app: ASGIApp) -> None:
        """Wrap an application."""
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass on and measure."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        doors: Doors = scope["app"].state.doors
        now = doors.streams.clock.monotonic
        began = now()

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                # The route's pattern, never the path: a label per run id would grow for ever.
                route = scope.get("flex.route", UNMATCHED)
                doors.metrics.request(scope["method"], route, message["status"], now() - began)
            await send(message)

        with bound_contextvars(method=scope["method"], path=scope["path"]):
            await self._app(scope, receive, note)
