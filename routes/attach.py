"""Answering with a run's frames: as a stream, as JSON, or with 204 when there is nothing left (wire §4)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from contracts.access import Principal
from contracts.errors import NotFound
from contracts.ids import is_node_id, is_token
from routes.answers import Json
from routes.doors import doors_of
from routes.intake import last_event_id, number_query
from routes.stream import MEDIA_TYPE, RunStream
from service.streams import EventPage, Stream

EVENTS_LIMIT = 1_000
FAR = 10**18 - 1


def path_id(request: Request, name: str, refusal: type[NotFound]) -> str:
    """Return an id from the path; one that no thing can have is not found."""
    text: str = request.path_params[name]
    if not is_token(text):
        raise refusal
    return text


def path_node(request: Request) -> str:
    """Return the node id from the path (map items end in ``[0]``)."""
    text: str = request.path_params["node_id"]
    if not is_node_id(text):
        raise NotFound("There is no such node.")
    return text


def start_after(request: Request) -> int:
    """Return the larger of ``?after=`` and ``Last-Event-ID``, else 0 (an EventSource keeps its URL)."""
    return max(number_query(request, "after", 0, FAR) or 0, last_event_id(request) or 0)


def prefers_json(request: Request) -> bool:
    """Say whether ``Accept`` asks for JSON rather than for a stream; the stream wins when both weigh the same."""
    return prefers(request, "application/json", MEDIA_TYPE)


def prefers(request: Request, media_type: str, usual: str) -> bool:
    """Say whether ``Accept`` asks for ``media_type`` rather than for the ``usual`` one."""
    weights = {media_type: 0.0, usual: 0.0}
    for part in ",".join(request.headers.getlist("accept")).split(","):
        media, *parameters = [piece.strip().lower() for piece in part.split(";")]
        if media in weights:
            weights[media] = max(weights[media], _quality(parameters))
    return weights[media_type] > weights[usual]


def _quality(parameters: list[str]) -> float:
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                return float(value)
            except ValueError:
                return 0.0
    return 1.0


async def attach(request: Request, caller: Principal, run_id: str, after: int) -> Response:
    """Return the stream of what follows ``after``, or 204 at or past the terminal frame."""
    stream = await doors_of(request).streams.attach(caller, run_id, after)
    if stream is None:
        return Response(status_code=204, headers={"X-Run-Id": run_id, "Cache-Control": "no-store"})
    return streaming(request, stream)


def streaming(request: Request, stream: Stream) -> Response:
    """Return a stream as the answer."""
    return RunStream(stream, doors_of(request).pace)


def event_page(run_id: str, page: EventPage | None) -> Response:
    """Return frames as one JSON document, or 204 at or past the terminal frame."""
    if page is None:
        return Response(status_code=204, headers={"X-Run-Id": run_id, "Cache-Control": "no-store"})
    end = b"true" if page.terminal else b"false"
    body = b'{"items":[%b],"next_after":%d,"terminal":%b}' % (b",".join(page.items), page.next_after, end)
    return Json(body, headers={"X-Run-Id": run_id})
