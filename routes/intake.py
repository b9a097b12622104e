"""Reading requests: bodies by the piece, headers, query parameters. Whatever is wrong is a problem document (P3)."""

from __future__ import annotations

import re
from typing import Any, Final

from starlette.requests import Request

from contracts.errors import BadHeader, BadQuery, ErrorItem, NotJson, ServerBusy, TooLarge
from contracts.ids import is_header_token
from contracts.wire import read_json
from routes.doors import doors_of

_INTEGER: Final = re.compile(r"[0-9]{1,18}")
_WAIT: Final = re.compile(r"(?:^|[,;]\s*)wait\s*=\s*\"?([0-9]{1,9})\"?(?=\s*(?:[,;]|$))", re.IGNORECASE)
CORRELATION_KEYS: Final = ("correlation_id", "correlationId")
DEFAULT_LIMIT: Final = 50
MAX_LIMIT: Final = 100


def shield(request: Request) -> None:
    """Raise :class:`ServerBusy` when the backlog is past its limit, before the body is touched (F12)."""
    doors = doors_of(request)
    if doors.intake.busy():
        seconds = doors.limits.retry_after_seconds
        raise ServerBusy("More runs wait than this service takes; try again later.", retry_after=seconds)


async def json_body(request: Request, *, required: bool = True) -> Any:
    """Return the JSON body; None when it is not required and not there.

    Raises :class:`NotJson` (415), :class:`TooLarge` (413, before the rest is read), :class:`BadJson`.
    """
    if "content-type" in request.headers or required:
        _check_type(request)
    body = await raw_body(request)
    if not body and not required:
        return None
    if "content-type" not in request.headers:
        raise NotJson
    value = read_json(body)
    note_correlation(request, value)
    return value


async def raw_body(request: Request, limit: int | None = None) -> bytes:
    """Return the body; raises :class:`TooLarge` (413) before the rest is read. ``limit`` (bytes) is every body's."""
    limit = doors_of(request).limits.body_bytes if limit is None else limit
    _check_length(request, limit)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > limit:
            raise TooLarge(f"The body is larger than {limit} bytes.")
    return bytes(body)


def _check_length(request: Request, limit: int) -> None:
    length = request.headers.get("content-length")
    if length is None:
        return
    if not _INTEGER.fullmatch(length):
        raise BadHeader(
            "Content-Length is not a number.", errors=[_item("Content-Length", "bad_header", "Not a number.")]
        )
    if int(length) > limit:
        raise TooLarge(f"The body is larger than {limit} bytes.")


def _check_type(request: Request) -> None:
    media, _, parameters = request.headers.get("content-type", "").partition(";")
    charset = parameters.lower().replace(" ", "").replace('"', "")
    if media.strip().lower() != "application/json" or charset not in ("", "charset=utf-8"):
        raise NotJson


def note_correlation(request: Request, body: Any) -> None:
    """Take the body's correlation id for problem documents and logs, when it has a usable one."""
    if isinstance(body, dict):
        for key in CORRELATION_KEYS:
            value = body.get(key)
            if isinstance(value, str) and is_header_token(value):
                request.scope["flex.correlation"] = value
                return


def header(request: Request, name: str) -> str | None:
    """Return a header of 1 to 200 visible ASCII characters, None when absent; sent twice or else: ``bad_header``."""
    values = request.headers.getlist(name)
    if not values:
        return None
    if len(values) > 1 or not is_header_token(values[0]):
        message = "Send it once, as 1 to 200 visible ASCII characters."
        raise BadHeader(f"{name}: {message}", errors=[_item(name, "bad_header", message)])
    return values[0]


def last_event_id(request: Request) -> int | None:
    """Return ``Last-Event-ID`` as a number; empty counts as absent (that is how an EventSource begins)."""
    values = request.headers.getlist("last-event-id")
    if not values or values == [""]:
        return None
    if len(values) > 1 or not (values[0].isascii() and _INTEGER.fullmatch(values[0])):
        message = "It is the id of a frame: a whole number from 0."
        raise BadHeader(f"Last-Event-ID: {message}", errors=[_item("Last-Event-ID", "bad_header", message)])
    return int(values[0])


def wait_seconds(request: Request) -> int | None:
    """Return the seconds of ``Prefer: wait=N`` (RFC 7240), bounded; None without it. Other preferences are ignored."""
    found = _WAIT.search(",".join(request.headers.getlist("prefer")))
    return None if found is None else min(int(found[1]), doors_of(request).limits.wait_seconds)


def text_query(request: Request, name: str, *, allowed: frozenset[str] | None = None) -> str | None:
    """Return a query parameter that may be given once; outside ``allowed`` it is ``bad_query``."""
    values = request.query_params.getlist(name)
    if not values:
        return None
    if len(values) > 1:
        raise _bad_query(name, "given_twice", "Give it once.")
    if allowed is not None and values[0] not in allowed:
        raise _bad_query(name, "not_allowed", f"One of {', '.join(sorted(allowed))}.")
    if "\x00" in values[0]:
        raise _bad_query(name, "bad_text", "NUL characters are refused.")
    return values[0]


def number_query(request: Request, name: str, low: int, high: int) -> int | None:
    """Return a query parameter that is a whole number from ``low`` to ``high``; None when absent."""
    text = text_query(request, name)
    if text is None:
        return None
    if not (text.isascii() and _INTEGER.fullmatch(text)) or not low <= int(text) <= high:
        raise _bad_query(name, "not_a_number_in_range", f"A whole number from {low} to {high}.")
    return int(text)


def limit_query(request: Request, default: int = DEFAULT_LIMIT) -> int:
    """Return ``limit``, 1 to 100."""
    found = number_query(request, "limit", 1, MAX_LIMIT)
    return default if found is None else found


def check_query(request: Request, names: frozenset[str]) -> None:
    """Refuse query parameters that the route does not have: a misspelt one must not be dropped silently."""
    for name in request.query_params:
        if name not in names:
            known = f" Known: {', '.join(sorted(names))}." if names else ""
            raise _bad_query(name[:100], "unknown_parameter", f"Unknown query parameter.{known}")


def _bad_query(name: str, code: str, message: str) -> BadQuery:
    return BadQuery(f"{name}: {message}", errors=[_item(name, code, message)])


def _item(name: str, code: str, message: str) -> ErrorItem:
    escaped = name.replace("~", "~0").replace("/", "~1")
    return ErrorItem(f"/{escaped}", code, message)
