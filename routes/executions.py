"""Executions: a flow's history, everybody's history, counts, and one with all its attempts (T1-T3, T5)."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from contracts.errors import BadQuery, ErrorItem
from contracts.history import TRIGGERS, WAYS, Wanted
from contracts.lifecycle import RunStatus
from routes import describe
from routes.answers import Json
from routes.attach import path_id
from routes.auth import principal_of
from routes.doors import doors_of
from routes.intake import limit_query, number_query, text_query
from routes.spec import Param, RouteSpec
from service.executions import DEEPEST, read_words

STATUSES: Final = frozenset(status.value for status in RunStatus)
YEAR_MS: Final = 366 * 86_400_000


def time_query(request: Request, name: str) -> int | None:
    """Return a query parameter that is a time (RFC 3339 with an offset) as wall ms; None when absent."""
    text = text_query(request, name)
    if text is None:
        return None
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise BadQuery(errors=[ErrorItem(f"/{name}", "bad_time", "A time like 2026-01-05T09:00:00Z.")])
    return max(0, round(at.timestamp() * 1_000))


def _id(request: Request, name: str) -> str | None:
    text = text_query(request, name)
    if text is not None and not 1 <= len(text) <= 128:
        raise BadQuery(errors=[ErrorItem(f"/{name}", "bad_query", "An id of at most 128 characters.")])
    return text


def _wanted(request: Request) -> Wanted:
    return Wanted(
        flow_id=_id(request, "flow_id"),
        template_id=_id(request, "template_id"),
        story_id=_id(request, "story_id"),
        status=text_query(request, "status", allowed=STATUSES),
        trigger=text_query(request, "trigger", allowed=TRIGGERS),
        way=text_query(request, "way", allowed=WAYS),
        after_ms=time_query(request, "since"),
        before_ms=time_query(request, "until"),
        longer_ms=number_query(request, "min_duration_ms", 0, YEAR_MS),
        shorter_ms=number_query(request, "max_duration_ms", 0, YEAR_MS),
        words=read_words(text_query(request, "q")),
    )


async def of_flow(request: Request) -> Response:
    """List a flow's executions, newest first."""
    flow_id = path_id(request, "flow_id", errors.FlowNotFound)
    page, cursor = number_query(request, "page", 1, DEEPEST), text_query(request, "cursor")
    if page is not None and cursor is not None:
        raise BadQuery(errors=[ErrorItem("/page", "ambiguous_page", "Give page or cursor, not both.")])
    found = await doors_of(request).executions.of_flow(
        principal_of(request),
        flow_id,
        page=page or 1,
        limit=limit_query(request, 20),
        cursor=cursor,
        status=text_query(request, "status", allowed=STATUSES),
    )
    return Json(found)


async def one_of_flow(request: Request) -> Response:
    """Read one execution of a flow."""
    flow_id = path_id(request, "flow_id", errors.FlowNotFound)
    execution_id = path_id(request, "execution_id", errors.ExecutionNotFound)
    return Json(await doors_of(request).executions.detail(principal_of(request), execution_id, flow_id))


async def index(request: Request) -> Response:
    """List executions across flows, newest first."""
    cursor, limit = text_query(request, "cursor"), limit_query(request)
    return Json(
        await doors_of(request).executions.page(principal_of(request), _wanted(request), cursor=cursor, limit=limit)
    )


async def counts(request: Request) -> Response:
    """Count executions by status."""
    wanted = Wanted(
        flow_id=_id(request, "flow_id"),
        story_id=_id(request, "story_id"),
        after_ms=time_query(request, "since"),
        before_ms=time_query(request, "until"),
    )
    return Json(await doors_of(request).executions.counts(principal_of(request), wanted))


async def detail(request: Request) -> Response:
    """Read one execution."""
    execution_id = path_id(request, "execution_id", errors.ExecutionNotFound)
    return Json(await doors_of(request).executions.detail(principal_of(request), execution_id))


def _choice(name: str, about: str, values: frozenset[str]) -> Param:
    return Param(name, "query", about, {"type": "string", "enum": sorted(values)})


_FLOW: Final = Param("flow_id", "path", "The flow.", {"type": "string"}, required=True)
_ONE: Final = Param("execution_id", "path", "The execution: its run's id.", {"type": "string"}, required=True)
_STATUS: Final = _choice("status", "Only these.", STATUSES)
_TEXT: Final[dict[str, Any]] = {"type": "string", "maxLength": 128}
_TIME: Final[dict[str, Any]] = {"type": "string", "format": "date-time"}
_MS: Final[dict[str, Any]] = {"type": "integer", "minimum": 0, "maximum": YEAR_MS}
_OF_FLOW: Final = Param("flow_id", "query", "Only this flow's.", _TEXT)
_OF_STORY: Final = Param("story_id", "query", "Only this story's.", _TEXT)
TIMES: Final = (
    Param("since", "query", "Only those accepted at or after this time.", _TIME),
    Param("until", "query", "Only those accepted before this time.", _TIME),
)
_READ: Final = (errors.BadQuery, errors.StoreUnavailable)

OF_FLOW = RouteSpec(
    method="GET", path="/api/flows/{flow_id}/executions", handler=of_flow, name="list_flow_executions",
    summary="List a flow's executions, newest first", tag="executions",
    description=(
        "By `page` down to execution 10,000, by `cursor` (`next_cursor`) at the same cost at any depth. "
        "`has_pending_executions` is the whole flow's, whatever the page and the filter."
    ),
    params=(
        _FLOW, Param("page", "query", "Which page, from 1.", {"type": "integer", "minimum": 1, "maximum": DEEPEST}),
        describe.LIMIT, describe.CURSOR, _STATUS,
    ),
    answers=describe.ok("FlowExecutionPage", "A page of executions."), errors=(errors.FlowNotFound, *_READ),
)  # fmt: skip
ONE_OF_FLOW = RouteSpec(
    method="GET", path="/api/flows/{flow_id}/executions/{execution_id}", handler=one_of_flow,
    name="get_flow_execution", summary="Read one execution of a flow", tag="executions", params=(_FLOW, _ONE),
    answers=describe.ok("ExecutionDetail", "The execution with its parameters and every attempt."),
    errors=(errors.FlowNotFound, errors.ExecutionNotFound, errors.StoreUnavailable),
)  # fmt: skip
INDEX = RouteSpec(
    method="GET", path="/api/v1/executions", handler=index, name="list_executions",
    summary="List executions across flows, newest first", tag="executions",
    params=(
        describe.LIMIT, describe.CURSOR, _STATUS, _OF_FLOW,
        Param("template_id", "query", "Only this template's.", _TEXT), _OF_STORY,
        _choice("trigger", "Only those that came through this door.", TRIGGERS),
        _choice("way", "Only those of which this said what to run.", WAYS), *TIMES,
        Param("min_duration_ms", "query", "Only ended ones that took at least so long.", _MS),
        Param("max_duration_ms", "query", "Only ended ones that took less.", _MS),
        Param("q", "query", "Beginnings of words in name, objective, first parameter and error.", _TEXT),
    ),
    answers=describe.ok("ExecutionPage", "A page of executions."), errors=_READ,
)  # fmt: skip
COUNTS = RouteSpec(
    method="GET", path="/api/v1/executions/counts", handler=counts, name="count_executions",
    summary="Count executions by status", tag="executions",
    description="A count stops at 10,000, and then `exact` is false.", params=(_OF_FLOW, _OF_STORY, *TIMES),
    answers=describe.ok("ExecutionCounts", "How many there are of each status."), errors=_READ,
)  # fmt: skip
DETAIL = RouteSpec(
    method="GET", path="/api/v1/executions/{execution_id}", handler=detail, name="get_execution",
    summary="Read one execution", tag="executions", params=(_ONE,),
    answers=describe.ok("ExecutionDetail", "The execution with its parameters and every attempt."),
    errors=(errors.ExecutionNotFound, errors.StoreUnavailable),
)  # fmt: skip
ROUTES: Final = (OF_FLOW, ONE_OF_FLOW, INDEX, COUNTS, DETAIL)
