"""``/v1``: the paths that OpenAI's clients know, over the same runs as everything else (W6).

Errors have OpenAI's shape here, ``{"error": {"message", "type", "param", "code"}}``; what is refused before a handler
is asked (an unknown host, a foreign origin, a missing role) is a problem document as everywhere.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from functools import wraps
from typing import Any, Final

import orjson
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from contracts.errors import FlexError
from contracts.lifecycle import WaitingOn
from contracts.schema import SchemaRefused
from routes import describe
from routes.answers import Json, correlation_of
from routes.auth import principal_of
from routes.chunks import Ended, Telling
from routes.doors import doors_of
from routes.intake import header, json_body, shield
from routes.spec import JSON, Answer, Handler, Param, RouteSpec, ref
from routes.stream import MEDIA_TYPE, run_headers
from service.streams import Stream

LONGEST_SECONDS: Final = 600.0
"""How long an answer that is not streamed is waited for; OpenAI's clients wait no longer by themselves."""
FINAL: Final = {"x-should-retry": "false"}
"""OpenAI's clients send a request again after a 5xx; a run that has ended is not to be run again."""
_DONE: Final = b"data: [DONE]\n\n"


def in_their_shape(handler: Callable[[Request], Awaitable[Response]]) -> Handler:
    """Answer what a handler raises as OpenAI's clients read it."""

    @wraps(handler)
    async def answer(request: Request) -> Response:
        try:
            return await handler(request)
        except FlexError as error:
            status = 400 if error.status == 422 else error.status
            retry = {"Retry-After": str(error.extra.get("retry_after", 2))} if status == 503 else {}
            headers = {"X-Correlation-Id": correlation_of(request.scope), **retry}
            return Json({"error": _error(error, status)}, status, headers)

    return answer


def _error(error: FlexError, status: int) -> dict[str, Any]:
    first = error.errors[0] if error.errors else None
    message = error.message if first is None else f"{error.message} {first.pointer or '/'}: {first.message}"
    kind = "invalid_request_error" if status < 500 else "server_error"
    param = None if first is None else first.pointer.strip("/").replace("/", ".") or None
    return {"message": message, "type": kind, "param": param, "code": error.code if first is None else first.code}


@in_their_shape
async def complete(request: Request) -> Response:
    """Start a turn; answer with its chunks, or with the whole once it is there."""
    shield(request)
    doors, caller = doors_of(request), principal_of(request)
    key, correlation_id = header(request, "Idempotency-Key"), header(request, "X-Correlation-Id")
    asked = await doors.completions.read(caller, await json_body(request))
    doors.streams.admit()
    run = await doors.runs.submit(
        asked.envelope, caller, key=key, correlation_id=correlation_id, trigger="openai", way="chat"
    )
    stream = doors.streams.born(caller, run.run_id, run.correlation_id)
    url = f"{str(request.base_url).rstrip('/')}/api/v1/runs/{run.run_id}"
    telling = Telling(run.run_id, asked.model, url)
    headers = run_headers(run.run_id, run.correlation_id)
    if not asked.stream:
        return await _whole(stream, telling, headers)
    return EventSourceResponse(
        _chunks(stream, telling, include_usage=asked.include_usage),
        headers={**headers, "Content-Type": MEDIA_TYPE},
        ping=doors.pace.heartbeat_seconds,
        ping_message_factory=lambda: ServerSentEvent(comment="", sep="\n"),
        sep="\n",
        send_timeout=doors.pace.slow_seconds * 2,
    )


async def _chunks(stream: Stream, telling: Telling, *, include_usage: bool) -> AsyncIterator[bytes]:
    """Yield the chunks of a run; what waits for people is said in words, and the stream goes on after them."""
    opened = False
    batches = stream.batches()
    try:
        async for batch in batches:
            for frame in batch:
                deltas = list(telling.tell(orjson.loads(frame.data)))
                if not opened:
                    opened = True
                    yield _event(telling.chunk({"role": "assistant", "content": ""}))
                for delta in deltas:
                    yield _event(telling.chunk(delta))
    finally:
        await batches.aclose()
    ended = telling.ended
    if ended is None:
        message = f"This process is going down. The run goes on: {telling.run_id}."
        ended = Ended(error={"message": message, "type": "server_error", "param": None, "code": "draining"})
    if ended.error is not None:
        yield _event({"error": ended.error})
        return
    yield _event(telling.chunk({}, ended.finish))
    if include_usage:
        yield _event(telling.usage_chunk(ended.usage))
    yield _DONE


def _event(value: Mapping[str, Any]) -> bytes:
    return b"data: " + orjson.dumps(value) + b"\n\n"


async def _whole(stream: Stream, telling: Telling, headers: Mapping[str, str]) -> Response:
    """Return the completion, or what is there when the run waits for people; a failed run is an error."""
    batches = stream.batches()
    try:
        async with asyncio.timeout(LONGEST_SECONDS):
            async for batch in batches:
                for frame in batch:
                    list(telling.tell(orjson.loads(frame.data)))
                if _for_people(telling):
                    break
    except TimeoutError:
        message = f"The run takes longer than {LONGEST_SECONDS:.0f} seconds and goes on: {telling.run_id}."
        error = {"message": message, "type": "server_error", "param": None, "code": "still_running"}
        return Json({"error": error}, 504, {**headers, **FINAL})
    finally:
        await batches.aclose()
    ended = telling.ended
    if ended is None and telling.waiting is None:
        raise errors.ServerBusy("This process is going down; the run goes on.", retry_after=1)
    if ended is not None and ended.error is not None:
        return Json({"error": ended.error}, 500, {**headers, **FINAL})
    said = ended or Ended(usage={"prompt_tokens": 0, "completion_tokens": 0, "total_tokens": 0})
    return Json(telling.whole(said.finish, said.usage), 200, headers)


def _for_people(telling: Telling) -> bool:
    waiting = telling.waiting
    return waiting is not None and WaitingOn.HITL in waiting["waiting_on"]


@in_their_shape
async def models(request: Request) -> Response:
    """List what may be named as ``model``."""
    found = await doors_of(request).completions.models(principal_of(request))
    return Json({"object": "list", "data": found})


@in_their_shape
async def model(request: Request) -> Response:
    """Read one of them."""
    return Json(await doors_of(request).completions.model(principal_of(request), request.path_params["model"]))


_ERRORS: Final = (
    *describe.BODY_ERRORS, errors.CompletionInvalid, errors.ModelNotFound, errors.EnvelopeInvalid, SchemaRefused,
    errors.Unsupported, errors.PlanInvalid, errors.IdempotencyKeyReused, errors.ServerBusy, errors.StoreUnavailable,
)  # fmt: skip

COMPLETE = RouteSpec(
    method="POST",
    path="/v1/chat/completions",
    handler=complete,
    name="create_chat_completion",
    summary="Answer a conversation, as OpenAI's clients ask",
    tag="chat",
    description=(
        "`model` is `flex`, or `flow:<id>` for the chat of a published flow. Tools are run here: the calls in the "
        "answer are shown, not asked for. Errors have OpenAI's shape."
    ),
    request=ref("CompletionInput"),
    params=(describe.IDEMPOTENCY_KEY, describe.CORRELATION_ID),
    answers=(
        Answer(
            200,
            "The completion, or its chunks.",
            {JSON: ref("Completion"), MEDIA_TYPE: {"type": "string", "description": "Each `data:` is a chunk."}},
            describe.RUN_HEADERS,
        ),
    ),
    errors=_ERRORS,
    roles=describe.SUBMITTERS,
)
MODELS = RouteSpec(
    method="GET", path="/v1/models", handler=models, name="list_models", summary="List models, as OpenAI's clients ask",
    tag="chat", answers=describe.ok("ModelList", "`flex`, and the newest published flows with a chat."),
    errors=(errors.StoreUnavailable,),
)  # fmt: skip
MODEL = RouteSpec(
    method="GET", path="/v1/models/{model}", handler=model, name="get_model", summary="Read a model", tag="chat",
    params=(Param("model", "path", "Its name.", {"type": "string"}, required=True),),
    answers=describe.ok("Model", "The model."), errors=(errors.ModelNotFound, errors.StoreUnavailable),
)  # fmt: skip
ROUTES: Final = (COMPLETE, MODELS, MODEL)
