"""Memory: what outlives runs, by scope and key (R5)."""

from __future__ import annotations

import re
from typing import Any, Final, Literal

from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from contracts.errors import BadHeader, ErrorItem
from contracts.memory import AGENT, NO_STORY, SHARED, Scope
from routes import describe
from routes.answers import Json
from routes.auth import principal_of
from routes.doors import doors_of
from routes.intake import json_body, limit_query, text_query
from routes.spec import JSON, Answer, Param, RouteSpec, ref

WRITERS: Final = ("operator", "builder", "admin")
KEEPERS: Final = ("operator", "admin")
MAX_PREFIX: Final = 128
_ETAG: Final = re.compile(r'(?:W/)?"([0-9]{1,15})"')


def _scope(request: Request) -> Scope:
    """Return the scope that the path names; the use case checks its parts."""
    path = request.path_params
    if "agent" in path:
        return Scope(AGENT, path["agent"], path["story"])
    return Scope(SHARED, path["namespace"], NO_STORY)


def _expected(request: Request) -> int | None:
    """Return the revision in ``If-Match``, 0 for ``If-None-Match: *``, None without either; else ``BadHeader``."""
    match, none_match = request.headers.getlist("if-match"), request.headers.getlist("if-none-match")
    if none_match and (match or none_match != ["*"]):
        raise _bad("If-None-Match", "It is * (create only), and not together with If-Match.")
    if none_match:
        return 0
    if not match:
        return None
    found = _ETAG.fullmatch(match[0].strip())
    if len(match) > 1 or found is None:
        raise _bad("If-Match", "It is the ETag of the entry, in quotes.")
    return int(found[1])


def _bad(name: str, message: str) -> BadHeader:
    return BadHeader(f"{name}: {message}", errors=[ErrorItem(f"/{name}", "bad_header", message)])


def _prefix(request: Request) -> str:
    text = text_query(request, "prefix") or ""
    if len(text) > MAX_PREFIX:
        message = f"At most {MAX_PREFIX} characters."
        raise errors.BadQuery(f"prefix: {message}", errors=[ErrorItem("/prefix", "too_long", message)])
    return text


async def scopes(request: Request) -> Response:
    """List the tenant's scopes that hold something."""
    memory = doors_of(request).memory
    return Json(
        await memory.scopes(principal_of(request), cursor=text_query(request, "cursor"), limit=limit_query(request))
    )


async def index(request: Request) -> Response:
    """List a scope's entries by key, without their values."""
    page = await doors_of(request).memory.page(
        principal_of(request), _scope(request), prefix=_prefix(request), cursor=text_query(request, "cursor"),
        limit=limit_query(request),
    )  # fmt: skip
    return Json(page)


async def detail(request: Request) -> Response:
    """Read an entry."""
    entry = await doors_of(request).memory.get(principal_of(request), _scope(request), request.path_params["key"])
    return Json(entry, headers={"ETag": f'"{entry["revision"]}"'})


async def put(request: Request) -> Response:
    """Write an entry, whatever was there, or only over what the header names."""
    scope, key, expected = _scope(request), request.path_params["key"], _expected(request)
    body = await json_body(request)
    kept = await doors_of(request).memory.put(principal_of(request), scope, key, body, expected)
    tag = {"ETag": f'"{kept.revision}"'}
    return Json(kept.entry, 201, tag | {"Location": request.url.path}) if kept.created else Json(kept.entry, 200, tag)


async def remove(request: Request) -> Response:
    """Forget an entry."""
    scope, key, expected = _scope(request), request.path_params["key"], _expected(request)
    await doors_of(request).memory.delete(principal_of(request), scope, key, expected)
    return Response(status_code=204)


async def forget(request: Request) -> Response:
    """Forget everything in a scope."""
    return Json(await doors_of(request).memory.forget(principal_of(request), _scope(request)))


def _part(name: str, what: str) -> Param:
    return Param(name, "path", what, describe.RUN_ID.schema, required=True)


_KEY: Final = _part("key", "The key.")
_IF_MATCH: Final = Param("If-Match", "header", "The ETag of the entry as you read it.", {"type": "string"})
_IF_NONE: Final = Param("If-None-Match", "header", "`*`: only if it is not there yet.", {"const": "*"})
_TAG: Final = {"ETag": "The revision; send it as `If-Match`."}
_BAD: Final = (errors.MemoryInvalid, errors.StoreUnavailable)
_ENTRY: Final = {JSON: ref("MemoryEntry")}

SCOPES = RouteSpec(
    method="GET", path="/api/v1/memory", handler=scopes, name="list_memory_scopes",
    summary="List the scopes that hold something", tag="memory", params=(describe.LIMIT, describe.CURSOR),
    answers=describe.ok("MemoryScopePage", "A page of scopes, by name."),
    errors=(errors.BadQuery, errors.StoreUnavailable),
)  # fmt: skip


def _routes(kind: Literal["agent", "shared"], at: str, whose: str, parts: tuple[Param, ...]) -> tuple[RouteSpec, ...]:
    """Return the routes of one kind of scope, which lives at the path ``at``."""
    common: dict[str, Any] = {"tag": "memory", "path": at}
    of_key: dict[str, Any] = {"tag": "memory", "path": f"{at}/{{key}}"}
    return (
        RouteSpec(
            method="GET", handler=index, name=f"list_{kind}_memory", summary=f"List what is remembered {whose}",
            params=(*parts, Param("prefix", "query", "Only keys that begin so.", {"type": "string"}), describe.LIMIT,
                    describe.CURSOR),
            answers=describe.ok("MemoryPage", "A page of entries by key, without their values."),
            errors=(errors.BadQuery, *_BAD), **common,
        ),
        RouteSpec(
            method="DELETE", handler=forget, name=f"forget_{kind}_memory", summary=f"Forget everything {whose}",
            params=parts, answers=describe.ok("MemoryForgotten", "How much there was."),
            errors=(errors.Forbidden, *_BAD), roles=KEEPERS, **common,
        ),
        RouteSpec(
            method="GET", handler=detail, name=f"get_{kind}_memory", summary=f"Read a key {whose}",
            params=(*parts, _KEY), answers=(Answer(200, "The entry.", _ENTRY, _TAG),),
            errors=(errors.MemoryNotFound, *_BAD), **of_key,
        ),
        RouteSpec(
            method="PUT", handler=put, name=f"put_{kind}_memory", summary=f"Write a key {whose}",
            description="Without a header it is written over whatever is there.",
            params=(*parts, _KEY, _IF_MATCH, _IF_NONE), request=ref("MemoryInput"),
            answers=(
                Answer(200, "The entry.", _ENTRY, _TAG),
                Answer(201, "The new entry.", _ENTRY, {**_TAG, "Location": "Where it is read."}),
            ),
            errors=(*describe.BODY_ERRORS, errors.Forbidden, errors.StaleRevision, errors.MemoryFull, *_BAD),
            roles=WRITERS, **of_key,
        ),
        RouteSpec(
            method="DELETE", handler=remove, name=f"delete_{kind}_memory", summary=f"Forget a key {whose}",
            params=(*parts, _KEY, _IF_MATCH), answers=(Answer(204, "Gone."),),
            errors=(errors.BadHeader, errors.Forbidden, errors.MemoryNotFound, errors.StaleRevision, *_BAD),
            roles=WRITERS, **of_key,
        ),
    )  # fmt: skip


ROUTES: Final = (
    SCOPES,
    *_routes("shared", "/api/v1/memory/shared/{namespace}", "in a namespace", (_part("namespace", "The namespace."),)),
    *_routes(
        "agent", "/api/v1/memory/agent/{agent}/{story}", "by an agent in a story",
        (_part("agent", "The agent."), _part("story", "The story.")),
    ),
)  # fmt: skip
