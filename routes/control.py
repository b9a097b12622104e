"""What is done to a living run by hand, and the door through which the outside world answers it (F6, J6)."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from routes import describe
from routes.answers import Json
from routes.attach import path_id, path_node
from routes.auth import principal_of
from routes.doors import doors_of
from routes.intake import json_body, text_query
from routes.spec import JSON, Answer, Param, RouteSpec, ref
from service.control import Asked


async def pause(request: Request) -> Response:
    """Let nothing more of a run be started."""
    run_id, body = path_id(request, "run_id", errors.RunNotFound), await json_body(request, required=False)
    return answered(await doors_of(request).control.pause(principal_of(request), run_id, body))


async def resume(request: Request) -> Response:
    """End a run's pause."""
    run_id, body = path_id(request, "run_id", errors.RunNotFound), await json_body(request, required=False)
    return answered(await doors_of(request).control.resume(principal_of(request), run_id, body))


async def callback(request: Request) -> Response:
    """Take the answer of the outside world to a node; the token is the credential."""
    run_id, node_id = path_id(request, "run_id", errors.RunNotFound), path_node(request)
    body: Any = await json_body(request)
    token = text_query(request, "token") or _bearer(request)
    return answered(await doors_of(request).callbacks.call(run_id, node_id, token, body))


def answered(asked: Asked) -> Response:
    """Return 200 once the run's holder has taken it, 202 while the answer is still out."""
    return Json(asked.wire(), 200 if asked.answered else 202)


def _bearer(request: Request) -> str | None:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


_ANSWERS = (
    Answer(200, "It is done; the run as it stands now.", {JSON: ref("Controlled")}),
    Answer(202, "The run has been asked; whoever holds it has not answered yet.", {JSON: ref("Controlled")}),
)
_ERRORS = (
    *describe.BODY_ERRORS,
    errors.RunNotFound,
    errors.RunPruned,
    errors.InvalidRunState,
    errors.Unprocessable,
    errors.StoreUnavailable,
)

PAUSE = RouteSpec(
    method="POST",
    path="/api/v1/runs/{run_id}/pause",
    handler=pause,
    name="pause_run",
    summary="Pause a run",
    tag="runs",
    description="Nothing more is started, no attempt is repeated; what runs may end. Decisions are still taken.",
    params=(describe.RUN_ID,),
    request=ref("ReasonInput"),
    body_required=False,
    answers=_ANSWERS,
    errors=_ERRORS,
    roles=describe.SUBMITTERS,
)

RESUME = RouteSpec(
    method="POST",
    path="/api/v1/runs/{run_id}/resume",
    handler=resume,
    name="resume_run",
    summary="Resume a paused run",
    tag="runs",
    params=(describe.RUN_ID,),
    request=ref("NothingInput"),
    body_required=False,
    answers=_ANSWERS,
    errors=_ERRORS,
    roles=describe.SUBMITTERS,
)

CALLBACK = RouteSpec(
    method="POST",
    path="/api/stitch/callback/{run_id}/{node_id}",
    handler=callback,
    name="call_back",
    summary="Answer a node that waits for the outside world",
    tag="runs",
    description=(
        "The token of the node's address is the credential, in the query or as `Authorization: Bearer`. Saying the "
        "same again changes nothing; 202 says that the callback came before its node waits, and is kept for it."
    ),
    params=(
        describe.RUN_ID,
        describe.NODE_ID,
        Param("token", "query", "The token that came with the address.", {"type": "string", "maxLength": 1_000}),
        Param("Authorization", "header", "`Bearer` and the token, instead of the query.", {"type": "string"}),
    ),
    request=ref("CallbackInput"),
    answers=_ANSWERS,
    errors=(*_ERRORS, errors.BadToken, errors.BadQuery, errors.NotFound, errors.NodeSettled, errors.CallbackInvalid),
)
