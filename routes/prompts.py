"""What people are asked, their answers, and who has a question in hand (H4, H7)."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from contracts.ids import is_token
from contracts.lifecycle import PromptStatus
from routes import describe
from routes.answers import Json, correlation_of
from routes.attach import path_id
from routes.auth import principal_of
from routes.doors import doors_of
from routes.intake import json_body, limit_query, text_query
from routes.spec import JSON, Answer, Param, RouteSpec, page_of, ref

VIEWS = ("mine", "unassigned", "overdue", "done")
_STATUSES = frozenset(status.value for status in PromptStatus)


async def index(request: Request) -> Response:
    """List prompts, newest first; open ones unless asked otherwise."""
    run_id = text_query(request, "run_id")
    if run_id is not None and not is_token(run_id):
        raise errors.RunNotFound
    page = await doors_of(request).prompts.list(
        principal_of(request),
        view=text_query(request, "view", allowed=frozenset(VIEWS)),
        status=text_query(request, "status", allowed=_STATUSES),
        run_id=run_id,
        limit=limit_query(request),
        cursor=text_query(request, "cursor"),
    )
    return Json(page)


async def detail(request: Request) -> Response:
    """Read one prompt."""
    prompt_id = path_id(request, "prompt_id", errors.PromptNotFound)
    return Json(await doors_of(request).prompts.get(principal_of(request), prompt_id))


async def decide(request: Request) -> Response:
    """Store a person's decision; exactly one settles the prompt."""
    prompt_id = path_id(request, "prompt_id", errors.PromptNotFound)
    body = await json_body(request)
    return Json(await doors_of(request).prompts.decide(principal_of(request), prompt_id, body, channel="http"))


async def decide_many(request: Request) -> Response:
    """Decide several prompts of one sort; each is answered for by itself."""
    body = await json_body(request)
    items = await doors_of(request).batches.decide(principal_of(request), body)
    correlation_id = correlation_of(request.scope)
    return Json({"items": [item.as_wire(correlation_id) for item in items]})


async def claim(request: Request) -> Response:
    """Take a prompt in hand, or let go of it."""
    prompt_id = path_id(request, "prompt_id", errors.PromptNotFound)
    body = await json_body(request, required=False)
    given = {} if body is None else body
    return Json(await doors_of(request).handing.claim(principal_of(request), prompt_id, given))


async def delegate(request: Request) -> Response:
    """Pass one's say on."""
    prompt_id = path_id(request, "prompt_id", errors.PromptNotFound)
    body = await json_body(request)
    return Json(await doors_of(request).handing.delegate(principal_of(request), prompt_id, body))


async def withdraw(request: Request) -> Response:
    """Take a question back."""
    prompt_id = path_id(request, "prompt_id", errors.PromptNotFound)
    body = await json_body(request, required=False)
    given = {} if body is None else body
    return Json(await doors_of(request).handing.withdraw(principal_of(request), prompt_id, given))


_LIST_PARAMS = (
    Param("view", "query", "A selection for people.", {"type": "string", "enum": list(VIEWS)}),
    Param(
        "status",
        "query",
        "Only prompts in this status; open without it.",
        {"type": "string", "enum": sorted(_STATUSES)},
    ),
    Param("run_id", "query", "Only prompts of this run.", {"type": "string"}),
    describe.LIMIT,
    describe.CURSOR,
)
_LIST_ERRORS = (errors.BadQuery, errors.RunNotFound, errors.StoreUnavailable)

INDEX = RouteSpec(
    method="GET",
    path="/api/v1/prompts",
    handler=index,
    name="list_prompts",
    summary="List prompts, newest first",
    tag="prompts",
    params=_LIST_PARAMS,
    answers=(Answer(200, "A page of prompts.", {JSON: page_of("PromptDetail")}),),
    errors=_LIST_ERRORS,
)

PENDING = RouteSpec(
    method="GET",
    path="/api/hitl/pending",
    handler=index,
    name="list_pending_prompts",
    summary="List what people are asked now",
    tag="prompts",
    params=_LIST_PARAMS,
    answers=(Answer(200, "A page of prompts.", {JSON: page_of("PromptDetail")}),),
    errors=_LIST_ERRORS,
)

DETAIL = RouteSpec(
    method="GET",
    path="/api/v1/prompts/{prompt_id}",
    handler=detail,
    name="get_prompt",
    summary="Read a prompt",
    tag="prompts",
    params=(describe.PROMPT_ID,),
    answers=describe.ok("PromptDetail", "The prompt as it stands."),
    errors=(errors.PromptNotFound, errors.StoreUnavailable),
)

DECIDE = RouteSpec(
    method="POST",
    path="/api/v1/prompts/{prompt_id}/decisions",
    handler=decide,
    name="decide_prompt",
    summary="Decide a prompt",
    tag="prompts",
    params=(describe.PROMPT_ID,),
    request=ref("DecisionInput"),
    answers=describe.ok("Decided", "The decision is stored, once; repeating it changes nothing."),
    errors=(*describe.BODY_ERRORS, *describe.DECISION_ERRORS, errors.Unprocessable, errors.StoreUnavailable),
)

DECIDE_MANY = RouteSpec(
    method="POST",
    path="/api/v1/prompts/decisions",
    handler=decide_many,
    name="decide_prompts",
    summary="Decide several prompts of one sort",
    tag="prompts",
    description=(
        "The prompts must agree in kind, actions and form. Each is decided in its own transaction: `status_code` and "
        "`problem` of an item are what deciding it alone would have been answered with."
    ),
    request=ref("BatchInput"),
    answers=describe.ok("BatchDecided", "What became of each prompt, in the order of the body."),
    errors=(*describe.BODY_ERRORS, errors.MixedPrompts, errors.Unprocessable, errors.StoreUnavailable),
)

_HANDING_ERRORS = (
    *describe.BODY_ERRORS, errors.PromptNotFound, errors.RequesterExcluded, errors.NotAssigned, errors.Forbidden,
    errors.PromptSettled, errors.Unprocessable, errors.StoreUnavailable,
)  # fmt: skip

CLAIM = RouteSpec(
    method="POST",
    path="/api/v1/prompts/{prompt_id}/claim",
    handler=claim,
    name="claim_prompt",
    summary="Claim a prompt, or free it",
    tag="prompts",
    params=(describe.PROMPT_ID,),
    request=ref("ClaimInput"),
    body_required=False,
    answers=describe.ok("PromptDetail", "The prompt as it stands; claiming again what one has changes nothing."),
    errors=(*_HANDING_ERRORS, errors.PromptClaimed, errors.ClaimNeedsOne),
)

DELEGATE = RouteSpec(
    method="POST",
    path="/api/v1/prompts/{prompt_id}/delegate",
    handler=delegate,
    name="delegate_prompt",
    summary="Pass one's say on a prompt on",
    tag="prompts",
    params=(describe.PROMPT_ID,),
    request=ref("DelegateInput"),
    answers=describe.ok("PromptDetail", "The prompt as it stands; the caller has no say in it any more."),
    errors=(
        *_HANDING_ERRORS, errors.AlreadyVoted, errors.DelegateVoted, errors.QuorumUnreachable,
        errors.TooManyDelegations,
    ),
)  # fmt: skip

WITHDRAW = RouteSpec(
    method="POST",
    path="/api/v1/prompts/{prompt_id}/withdraw",
    handler=withdraw,
    name="withdraw_prompt",
    summary="Take a question back",
    tag="prompts",
    description="Who started the run, or an administrator. The prompt's node fails with `prompt_withdrawn`.",
    params=(describe.PROMPT_ID,),
    request=ref("WithdrawInput"),
    body_required=False,
    answers=describe.ok("PromptDetail", "The prompt as it stands; nobody decides it any more."),
    errors=(
        *describe.BODY_ERRORS, errors.PromptNotFound, errors.Forbidden, errors.PromptSettled, errors.InvalidRunState,
        errors.Unprocessable, errors.StoreUnavailable,
    ),
)  # fmt: skip
