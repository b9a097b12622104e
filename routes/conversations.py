"""``/api/v1/conversations``: what was said, kept; each answer is a run (W6)."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from contracts.schema import SchemaRefused
from routes import describe
from routes.answers import Json
from routes.attach import attach, path_id, prefers, streaming
from routes.auth import principal_of
from routes.doors import doors_of
from routes.intake import header, json_body, limit_query, number_query, shield, text_query
from routes.spec import JSON, Answer, Param, RouteSpec, ref
from routes.stream import MEDIA_TYPE, run_headers
from service.conversations import Turn
from service.reads import run_links


def _conversation(request: Request) -> str:
    return path_id(request, "conversation_id", errors.ConversationNotFound)


async def create(request: Request) -> Response:
    """Store a new conversation."""
    body = await json_body(request, required=False)
    made = await doors_of(request).conversations.create(principal_of(request), body)
    return Json(made, 201, {"Location": f"/api/v1/conversations/{made['conversation_id']}"})


async def index(request: Request) -> Response:
    """List the tenant's conversations, newest first."""
    page = await doors_of(request).conversations.page(
        principal_of(request), cursor=text_query(request, "cursor"), limit=limit_query(request)
    )
    return Json(page)


async def detail(request: Request) -> Response:
    """Read a conversation with its messages."""
    before = number_query(request, "before", 1, 10**9)
    found = await doors_of(request).conversations.get(
        principal_of(request), _conversation(request), before=before, limit=limit_query(request)
    )
    return Json(found)


async def remove(request: Request) -> Response:
    """Delete a conversation; its runs stay."""
    await doors_of(request).conversations.remove(principal_of(request), _conversation(request))
    return Response(status_code=204)


async def turn(request: Request) -> Response:
    """Say something; the answer is a run."""
    shield(request)
    doors, caller, conversation_id = doors_of(request), principal_of(request), _conversation(request)
    if _streams(request):
        doors.streams.admit()
    key, correlation_id = header(request, "Idempotency-Key"), header(request, "X-Correlation-Id")
    body = await json_body(request)
    made = await doors.conversations.turn(caller, conversation_id, body, key=key, correlation_id=correlation_id)
    return await _answered(request, conversation_id, made)


async def retry(request: Request) -> Response:
    """Have a message answered again."""
    shield(request)
    doors, caller, conversation_id = doors_of(request), principal_of(request), _conversation(request)
    message_id = path_id(request, "message_id", errors.MessageNotFound)
    if _streams(request):
        doors.streams.admit()
    correlation_id = header(request, "X-Correlation-Id")
    made = await doors.conversations.retry(caller, conversation_id, message_id, correlation_id=correlation_id)
    return await _answered(request, conversation_id, made)


def _streams(request: Request) -> bool:
    return prefers(request, MEDIA_TYPE, "application/json")


async def _answered(request: Request, conversation_id: str, made: Turn) -> Response:
    """Answer with the run's frames, or with its name."""
    doors, caller = doors_of(request), principal_of(request)
    if _streams(request):
        if made.created:
            return streaming(request, doors.streams.born(caller, made.run_id, made.correlation_id))
        return await attach(request, caller, made.run_id, 0)
    shown = {
        "conversation_id": conversation_id,
        "message_id": made.message_id,
        "parent_id": made.parent_id,
        "run_id": made.run_id,
        "links": run_links(made.run_id),
    }
    return Json(shown, 202, run_headers(made.run_id, made.correlation_id))


_ID: Final = Param("conversation_id", "path", "The conversation.", {"type": "string"}, required=True)
_MESSAGE: Final = Param("message_id", "path", "The message.", {"type": "string"}, required=True)
_READ: Final = (errors.ConversationNotFound, errors.StoreUnavailable)
_TURN: Final[dict[str, Any]] = {
    "method": "POST",
    "tag": "chat",
    "description": "With `Accept: text/event-stream` the answer is the run's frames, else 202 and the run's name.",
    "answers": (
        Answer(200, "The frames of the run that answers.", describe.STREAM, describe.RUN_HEADERS),
        Answer(202, "The run has begun.", {JSON: ref("Turn")}, describe.RUN_HEADERS),
    ),
    "errors": (
        *describe.BODY_ERRORS, errors.ConversationNotFound, errors.MessageNotFound, errors.ConversationInvalid,
        errors.ConversationFull, errors.TurnUnderWay, errors.IdempotencyKeyReused, errors.EnvelopeInvalid,
        SchemaRefused, errors.Unsupported, errors.PlanInvalid, errors.FlowNotFound, errors.FlowVersionNotFound,
        errors.ServerBusy, errors.StoreUnavailable,
    ),
    "roles": describe.SUBMITTERS,
}  # fmt: skip

CREATE = RouteSpec(
    method="POST", path="/api/v1/conversations", handler=create, name="create_conversation",
    summary="Begin a conversation", tag="chat", request=ref("ConversationInput"), body_required=False,
    answers=(Answer(201, "The conversation.", {JSON: ref("ConversationItem")}, {"Location": "Where it can be read."}),),
    errors=(*describe.BODY_ERRORS, errors.ConversationInvalid, errors.StoreUnavailable), roles=describe.SUBMITTERS,
)  # fmt: skip
INDEX = RouteSpec(
    method="GET", path="/api/v1/conversations", handler=index, name="list_conversations",
    summary="List conversations, newest first", tag="chat", params=(describe.LIMIT, describe.CURSOR),
    answers=describe.ok("ConversationPage", "A page of conversations."),
    errors=(errors.BadQuery, errors.StoreUnavailable),
)  # fmt: skip
DETAIL = RouteSpec(
    method="GET", path="/api/v1/conversations/{conversation_id}", handler=detail, name="get_conversation",
    summary="Read a conversation", tag="chat",
    params=(
        _ID, describe.LIMIT,
        Param("before", "query", "Only earlier messages (`next_before`).", {"type": "integer", "minimum": 1}),
    ),
    answers=describe.ok("Conversation", "The conversation and its newest messages, oldest first."),
    errors=(errors.BadQuery, *_READ),
)  # fmt: skip
REMOVE = RouteSpec(
    method="DELETE", path="/api/v1/conversations/{conversation_id}", handler=remove, name="delete_conversation",
    summary="Delete a conversation", tag="chat", description="Its messages go; its runs stay.", params=(_ID,),
    answers=(Answer(204, "Gone."),), errors=_READ, roles=describe.SUBMITTERS,
)  # fmt: skip
TURN = RouteSpec(
    path="/api/v1/conversations/{conversation_id}/turns", handler=turn, name="post_turn", summary="Say something",
    request=ref("TurnInput"), params=(_ID, describe.IDEMPOTENCY_KEY, describe.CORRELATION_ID), **_TURN,
)  # fmt: skip
RETRY = RouteSpec(
    path="/api/v1/conversations/{conversation_id}/messages/{message_id}/retry", handler=retry, name="retry_turn",
    summary="Have a message answered again", params=(_ID, _MESSAGE, describe.CORRELATION_ID), **_TURN,
)  # fmt: skip
ROUTES: Final = (CREATE, INDEX, DETAIL, REMOVE, TURN, RETRY)
