"""A run as Server-Sent Events (wire §4): ``retry`` first, then one event per frame; heartbeats are comments.

Frames arrive encoded; here they only get their ``id:`` and ``data:`` lines, as many per write as are there. A client
that goes away ends its stream, never the run.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Final

import structlog
from sse_starlette import EventSourceResponse, ServerSentEvent
from sse_starlette.sse import SendTimeoutError
from starlette.types import Receive, Scope, Send

from contracts.events import sse
from service.streams import Stream

_log = structlog.get_logger(__name__)

RETRY: Final = b"retry: 2000\n\n"
MEDIA_TYPE: Final = "text/event-stream"


@dataclass(frozen=True, slots=True)
class Pace:
    """Seconds between heartbeats, and how long one write may take before the viewer counts as slow."""

    heartbeat_seconds: float = 15.0
    slow_seconds: float = 20.0


class RunStream(EventSourceResponse):
    """The streaming answer: headers name the run, the body is its frames."""

    def __init__(self, stream: Stream, pace: Pace, *, status_code: int = 200) -> None:
        """Prepare; the feed is attached when the body is first asked for."""
        self._run_id = stream.run_id
        super().__init__(
            _body(stream, pace.slow_seconds),
            status_code=status_code,
            headers={**run_headers(stream.run_id, stream.correlation_id), "Content-Type": MEDIA_TYPE},
            ping=pace.heartbeat_seconds,
            ping_message_factory=_heartbeat,
            sep="\n",
            # A write that takes longer than ``slow_seconds`` but ends gets a stream_end; one that never ends, this.
            send_timeout=pace.slow_seconds * 2,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Stream; a viewer that takes nothing any more is dropped quietly."""
        try:
            await super().__call__(scope, receive, send)
        except SendTimeoutError:
            _log.info("stream_dropped", run_id=self._run_id, reason="slow_viewer")


def run_headers(run_id: str, correlation_id: str) -> dict[str, str]:
    """Return the headers that name a run (F1)."""
    return {"X-Run-Id": run_id, "X-Correlation-Id": correlation_id, "Location": f"/api/v1/runs/{run_id}"}


def _heartbeat() -> ServerSentEvent:
    return ServerSentEvent(comment="", sep="\n")


async def _body(stream: Stream, slow_seconds: float) -> AsyncIterator[bytes]:
    yield RETRY
    batches = stream.batches()
    try:
        async for batch in batches:
            began = stream.clock.monotonic()
            yield b"".join(map(sse, batch))
            if stream.clock.monotonic() - began > slow_seconds and not stream.over:
                yield sse(stream.ending("slow_viewer"))
                return
        if not stream.over:
            yield sse(stream.ending("draining"))
    finally:
        await batches.aclose()
