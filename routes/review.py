"""Review links: ``GET`` shows a page, only ``POST`` decides (H8; n8n#27870, #25311).

The page works without scripts and takes nothing from other sites. Its token is its only credential, so it is kept out
of referrers, caches and search engines.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from datetime import datetime
from functools import lru_cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl

from minijinja import Environment
from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from contracts.lifecycle import PromptStatus
from routes.answers import NO_STORE, Json
from routes.doors import doors_of
from routes.intake import json_body, raw_body
from routes.review_form import MAX_FIELDS, form_of, pretty, read_form
from routes.spec import JSON, Answer, Param, RouteSpec, ref
from service.review import Review

_STATIC: Final = Path(__file__).with_name("static")
_HTML: Final = "text/html"
_FORM: Final = "application/x-www-form-urlencoded"
_TITLES: Final[Mapping[str, str]] = {
    "link_not_found": "There is no such link",
    "link_used": "This link has been used",
    "link_expired": "This link has expired",
}


async def show(request: Request) -> Response:
    """Show what the link is for; nothing changes, however often it is opened."""
    token = request.path_params["token"]
    try:
        review = await doors_of(request).reviews.show(token)
    except errors.FlexError as error:
        if wants_json(request):
            raise
        return page(error.status, _TITLES.get(error.code, error.title), notice=error.message, tone="bad")
    if wants_json(request):
        return Json({"prompt": review.prompt, "objective": review.objective, "used": review.used})
    return _shown(review)


async def decide(request: Request) -> Response:
    """Decide as the person the link was sent to; the link is used up by it."""
    token = request.path_params["token"]
    if _media(request) != _FORM:
        review = await doors_of(request).reviews.decide(token, await json_body(request))
        return Json({"prompt": review.prompt, "objective": review.objective, "used": review.used})
    sent = _fields(await raw_body(request))
    reviews = doors_of(request).reviews
    before: Review | None = None
    try:
        before = await reviews.show(token)
        done = await reviews.decide(token, read_form(before.prompt, sent))
    except errors.FlexError as error:
        return _refused(before, error, sent)
    return _shown(done)


def _fields(body: bytes) -> dict[str, str]:
    try:
        return dict(parse_qsl(body.decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS + 10))
    except ValueError as error:
        raise errors.Unprocessable("The form could not be read.") from error


def wants_json(request: Request) -> bool:
    """Say whether the caller asked for JSON and not for a page."""
    accept = request.headers.get("accept", "")
    return JSON in accept and _HTML not in accept


def _media(request: Request) -> str:
    return request.headers.get("content-type", "").partition(";")[0].strip().lower()


def _shown(review: Review, **more: Any) -> Response:
    prompt = review.prompt
    is_open = prompt["status"] == PromptStatus.OPEN
    if review.used and is_open:
        more = {"notice": "Your vote is stored. Others have still to decide.", "tone": "good"}
    elif not is_open:
        more = {"notice": _ended(review), "tone": "good" if review.decision else "plain"}
    form = form_of(prompt) if is_open and not review.used else None
    return page(200, prompt["question"], **_facts(review), form=form, **more)


def _facts(review: Review) -> dict[str, Any]:
    proposed = review.prompt["proposed"]
    return {
        "prompt": review.prompt,
        "objective": review.objective,
        "holder": review.holder,
        "due": _due(review.prompt["due_at"]),
        "proposed": None if proposed is None else pretty(proposed),
    }


def _due(text: str | None) -> str | None:
    return None if text is None else datetime.fromisoformat(text).strftime("%-d %B %Y, %H:%M UTC")


def _ended(review: Review) -> str:
    if review.decision is None:
        return {
            "expired": "Nobody decided in time.",
            "withdrawn": "This question was withdrawn.",
        }.get(review.prompt["status"], "This question is closed.")
    said = review.decision
    return f"Decided: {said['action'].replace('_', ' ')}, by {said['decided_by']} at {said['decided_at']}."


def _refused(review: Review | None, error: errors.FlexError, sent: Mapping[str, str]) -> Response:
    found = [{"pointer": item.pointer, "message": item.message} for item in error.errors]
    if review is None or error.code in _TITLES:
        return page(error.status, _TITLES.get(error.code, error.title), notice=error.message, tone="bad")
    form = form_of(review.prompt, sent) if error.status == 422 else None
    shown = _facts(review) | {"errors": found, "form": form}
    return page(error.status, review.prompt["question"], **shown, notice=error.message, tone="bad")


@lru_cache(maxsize=1)
def _pages() -> tuple[Environment, str, dict[str, str]]:
    style = (_STATIC / "review.css").read_text()
    digest = base64.b64encode(sha256(style.encode()).digest()).decode()
    headers = {
        **NO_STORE,
        "X-Content-Type-Options": "nosniff",
        "X-Robots-Tag": "noindex, nofollow",
        "Referrer-Policy": "no-referrer",
        "Content-Security-Policy": f"default-src 'none'; style-src 'sha256-{digest}'; form-action 'self'; "
        "base-uri 'none'; frame-ancestors 'none'",
    }
    return Environment(templates={"review.html": (_STATIC / "review.html").read_text()}), style, headers


def page(status: int, title: str, **values: Any) -> Response:
    """Return the page."""
    environment, style, headers = _pages()
    shown = {"notice": None, "tone": "plain", "errors": [], "prompt": None, "proposed": None, "form": None, **values}
    text = environment.render_template("review.html", title=title, style=style, **shown)
    return Response(text, status, headers, media_type=_HTML)


_TOKEN: Final = Param("token", "path", "The link's token.", {"type": "string"}, required=True)
_ERRORS: Final = (errors.LinkNotFound, errors.LinkExpired, errors.StoreUnavailable)
_PAGE: Final = {_HTML: {"type": "string"}, JSON: ref("Review")}

SHOW = RouteSpec(
    method="GET",
    path="/review/{token}",
    handler=show,
    name="show_review",
    summary="Look at what a review link is for",
    tag="prompts",
    params=(_TOKEN,),
    answers=(Answer(200, "A page, or JSON if only that is accepted. Nothing changes.", _PAGE),),
    errors=_ERRORS,
)

DECIDE = RouteSpec(
    method="POST",
    path="/review/{token}",
    handler=decide,
    name="decide_review",
    summary="Decide by a review link",
    description="Takes the page's form (`application/x-www-form-urlencoded`) or a decision as JSON. Once per link.",
    tag="prompts",
    params=(_TOKEN,),
    request=ref("DecisionInput"),
    answers=(Answer(200, "The decision is stored and the link is used up.", _PAGE),),
    errors=(
        *_ERRORS, errors.LinkUsed, errors.RequesterExcluded, errors.NotAssigned, errors.PromptSettled,
        errors.PromptClaimed, errors.PromptStale, errors.ActionNotAllowed, errors.AnswerInvalid, errors.AlreadyVoted,
        errors.InvalidRunState, errors.Unprocessable, errors.NotJson, errors.TooLarge, errors.BadJson,
    ),
)  # fmt: skip
