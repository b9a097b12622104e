"""``/api/v1/stories/{story_id}/documents``: put, read, delete and search what a story knows (R4)."""

from __future__ import annotations

import re
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from contracts.errors import BadHeader, BadQuery, DocumentInvalid, DocumentNotFound, ErrorItem
from contracts.ids import is_token
from routes import describe
from routes.answers import Json
from routes.auth import principal_of
from routes.doors import doors_of
from routes.intake import limit_query, number_query, raw_body, text_query
from routes.spec import JSON, Answer, Param, RouteSpec, ref
from service.conditions import ANY, Conditions
from service.documents import Upload

BASE: Final = "/api/v1/stories/{story_id}/documents"
ONE: Final = BASE + "/{document_id}"
BYTES: Final = "application/octet-stream"
TEXT: Final = "text/plain"
FAR: Final = 10**9
USUAL_PASSAGES: Final = 10
MAX_QUESTION: Final = 500
_TAG: Final = re.compile(r'(?:W/)?"([\x21\x23-\x7e]{0,100})"')
_CHARSET: Final = re.compile(r";\s*charset\s*=\s*\"?([A-Za-z0-9_.:-]{1,40})\"?", re.IGNORECASE)
# What people upload is shown by no browser as if it were ours.
_CAUTION: Final = {
    "Content-Security-Policy": "default-src 'none'; sandbox", "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}  # fmt: skip


def _place(request: Request) -> tuple[str, str]:
    """Return story and document from the path; ids that nothing can have are not found."""
    story_id, document_id = request.path_params["story_id"], request.path_params.get("document_id", "none")
    if not is_token(story_id) or not is_token(document_id):
        raise DocumentNotFound
    return story_id, document_id


def _own_place(request: Request) -> tuple[str, str]:
    """Return story and document for what writes: there a bad id is refused as such."""
    found = request.path_params["story_id"], request.path_params["document_id"]
    message = "Ids are 1 to 128 letters, digits and . _ : - and start with a letter or digit."
    bad = [name for name, text in zip(("story_id", "document_id"), found, strict=True) if not is_token(text)]
    if bad:
        raise DocumentInvalid(errors=[ErrorItem(f"/{name}", "bad_id", message) for name in bad])
    return found


def _conditions(request: Request) -> Conditions:
    return Conditions(_tags(request, "If-Match"), _tags(request, "If-None-Match"))


def _tags(request: Request, name: str) -> frozenset[str] | None:
    sent = request.headers.getlist(name)
    if not sent:
        return None
    said = [part.strip() for part in ",".join(sent).split(",")]
    if said == [ANY]:
        return frozenset({ANY})
    found = [_TAG.fullmatch(part) for part in said]
    if not all(found):
        message = "Entity tags in quotes, separated by commas, or *."
        raise BadHeader(f"{name}: {message}", errors=[ErrorItem(f"/{name}", "bad_header", message)])
    return frozenset(each[1] for each in found if each is not None)


def _tagged(shown: dict[str, Any], status: int = 200) -> Json:
    location = {"Location": shown["links"]["self"]} if status == 201 else {}
    return Json(shown, status, {"ETag": f'"{shown["version"]}"', **location})


async def index(request: Request) -> Response:
    """List a story's documents by id."""
    story_id, _ = _place(request)
    cursor = text_query(request, "cursor") or ""
    if cursor and not is_token(cursor):
        raise BadQuery("The cursor is not one of ours.", errors=[ErrorItem("/cursor", "bad_cursor", "Unknown.")])
    documents = doors_of(request).documents
    return Json(await documents.page(principal_of(request), story_id, after=cursor, limit=limit_query(request)))


async def put(request: Request) -> Response:
    """Store a version of a document."""
    story_id, document_id = _own_place(request)
    doors, conditions = doors_of(request), _conditions(request)
    said = request.headers.get("content-type", "")
    charset = _CHARSET.search(said)
    content = await raw_body(request, doors.limits.document_bytes)
    upload = Upload(content, said, None if charset is None else charset[1])
    shown, created = await doors.documents.put(principal_of(request), story_id, document_id, upload, conditions)
    return _tagged(shown, 201 if created else 200)


async def detail(request: Request) -> Response:
    """Read what is known of a document's newest version."""
    story_id, document_id = _place(request)
    conditions = _conditions(request)
    shown = await doors_of(request).documents.get(principal_of(request), story_id, document_id)
    return _unchanged(conditions, shown) or _tagged(shown)


def _unchanged(conditions: Conditions, shown: dict[str, Any]) -> Response | None:
    version = str(shown["version"])
    if not conditions.unchanged(version):
        return None
    return Response(status_code=304, headers={"ETag": f'"{version}"', "Cache-Control": "no-store"})


async def remove(request: Request) -> Response:
    """Delete a document with its versions."""
    story_id, document_id = _place(request)
    conditions = _conditions(request)
    await doors_of(request).documents.remove(principal_of(request), story_id, document_id, conditions)
    return Response(status_code=204)


async def status(request: Request) -> Response:
    """Say whether a document is there, and who waits for it."""
    story_id, document_id = _place(request)
    return Json(await doors_of(request).documents.status(principal_of(request), story_id, document_id))


async def versions(request: Request) -> Response:
    """List a document's kept versions, newest first."""
    story_id, document_id = _place(request)
    before, limit = number_query(request, "before", 1, FAR), limit_query(request)
    found = await doors_of(request).documents.versions(principal_of(request), story_id, document_id, before, limit)
    return Json(found)


async def version(request: Request) -> Response:
    """Read what is known of a version."""
    story_id, document_id = _place(request)
    text = request.path_params["version"]
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise errors.DocumentVersionNotFound
    return _tagged(await doors_of(request).documents.get(principal_of(request), story_id, document_id, int(text)))


async def content(request: Request) -> Response:
    """Return what was uploaded, as a download."""
    story_id, document_id = _place(request)
    conditions, number = _conditions(request), number_query(request, "version", 1, FAR)
    documents = doors_of(request).documents
    shown, body = await documents.content(principal_of(request), story_id, document_id, number)
    attachment = {"Content-Disposition": f'attachment; filename="{document_id}"', "ETag": f'"{shown["version"]}"'}
    whole = Response(body, media_type=_safe(shown["media_type"]), headers={**_CAUTION, **attachment})
    return _unchanged(conditions, shown) or whole


def _safe(media_type: str) -> str:
    return media_type if re.fullmatch(r"[a-z0-9!#$&^_.+-]{1,100}/[a-z0-9!#$&^_.+-]{1,100}", media_type) else BYTES


async def text(request: Request) -> Response:
    """Return a document's text, as it is searched and as capabilities get it."""
    story_id, document_id = _place(request)
    conditions, number = _conditions(request), number_query(request, "version", 1, FAR)
    documents = doors_of(request).documents
    shown, body = await documents.text(principal_of(request), story_id, document_id, number)
    whole = Response(body, media_type=TEXT, headers={**_CAUTION, "ETag": f'"{shown["version"]}"'})
    return _unchanged(conditions, shown) or whole


async def search(request: Request) -> Response:
    """Find passages in a story's documents."""
    story_id, _ = _place(request)
    query = text_query(request, "q") or ""
    if len(query) > MAX_QUESTION:
        message = f"At most {MAX_QUESTION} characters."
        raise BadQuery(f"q: {message}", errors=[ErrorItem("/q", "too_long", message)])
    limit = limit_query(request, USUAL_PASSAGES)
    return Json(await doors_of(request).documents.search(principal_of(request), story_id, query, limit))


_ID_SCHEMA: Final = {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.:-]{0,127}$"}
_STORY: Final = Param("story_id", "path", "The story.", _ID_SCHEMA, required=True)
_ID: Final = Param("document_id", "path", "The document.", _ID_SCHEMA, required=True)
_ITS: Final = (_STORY, _ID)
_IF_MATCH: Final = Param("If-Match", "header", "Only if the document has one of these ETags.", {"type": "string"})
_IF_NONE_MATCH: Final = Param(
    "If-None-Match", "header", "Only if it has none of these ETags; `*`: only if it is not there.", {"type": "string"}
)
_WHICH: Final = Param("version", "query", "Which version; the newest without it.", {"type": "integer", "minimum": 1})
_ETAG: Final = {"ETag": "The version."}
_READ: Final = (errors.BadQuery, errors.DocumentNotFound, errors.StoreUnavailable)
_READ_VERSION: Final = (errors.BadHeader, errors.DocumentVersionNotFound, *_READ)
_UNCHANGED: Final = Answer(304, "The caller has this version already.")
_QUESTION: Final = {"type": "string", "minLength": 1, "maxLength": MAX_QUESTION}
_BINARY: Final = {"type": "string", "format": "binary"}


def _one(status: int, about: str) -> Answer:
    return Answer(status, about, {JSON: ref("Document")}, _ETAG)


INDEX = RouteSpec(
    method="GET", path=BASE, handler=index, name="list_documents", summary="List a story's documents", tag="documents",
    params=(_STORY, describe.LIMIT, describe.CURSOR), answers=describe.ok("DocumentPage", "A page, by id."),
    errors=_READ,
)  # fmt: skip
SEARCH = RouteSpec(
    method="GET", path=BASE + "/search", handler=search, name="search_documents",
    summary="Find passages in a story's documents", tag="documents",
    params=(
        _STORY,
        Param("q", "query", "What to look for.", _QUESTION, required=True),
        describe.LIMIT,
    ),
    answers=describe.ok("Passages", "The best passages of the newest versions."), errors=_READ,
)  # fmt: skip
DETAIL = RouteSpec(
    method="GET", path=ONE, handler=detail, name="get_document", summary="Read what is known of a document",
    tag="documents", params=(*_ITS, _IF_NONE_MATCH), answers=(_one(200, "Its newest version."), _UNCHANGED),
    errors=(errors.BadHeader, *_READ),
)  # fmt: skip
PUT = RouteSpec(
    method="PUT", path=ONE, handler=put, name="put_document", summary="Store a version of a document",
    tag="documents",
    description=(
        "The body is the document, its `Content-Type` says what it is. Equal content is no new version. Runs that wait "
        "for the document go on."
    ),
    params=(*_ITS, _IF_MATCH, _IF_NONE_MATCH), request=_BINARY, body_media=("*/*",),
    answers=(_one(200, "The document was there before."), _one(201, "The document is new.")),
    errors=(
        errors.BadHeader, errors.TooLarge, errors.DocumentInvalid, errors.PreconditionFailed, errors.ServerBusy,
        errors.StoreUnavailable,
    ), roles=describe.SUBMITTERS,
)  # fmt: skip
REMOVE = RouteSpec(
    method="DELETE", path=ONE, handler=remove, name="delete_document", summary="Delete a document with its versions",
    tag="documents", params=(*_ITS, _IF_MATCH), answers=(Answer(204, "Gone."),),
    errors=(errors.BadHeader, errors.PreconditionFailed, errors.DocumentNotFound, errors.StoreUnavailable),
    roles=describe.SUBMITTERS,
)  # fmt: skip
STATUS = RouteSpec(
    method="GET", path=ONE + "/status", handler=status, name="get_document_status",
    summary="Read whether a document is there, and which runs wait for it", tag="documents", params=_ITS,
    answers=describe.ok("DocumentStatus", "Also of a document that is not there."), errors=_READ,
)  # fmt: skip
VERSIONS = RouteSpec(
    method="GET", path=ONE + "/versions", handler=versions, name="list_document_versions",
    summary="List a document's versions", tag="documents",
    params=(
        *_ITS, describe.LIMIT,
        Param("before", "query", "Only versions below this one (`next_before`).", {"type": "integer", "minimum": 1}),
    ),
    answers=describe.ok("DocumentVersionPage", "Kept versions, newest first."), errors=_READ,
)  # fmt: skip
VERSION = RouteSpec(
    method="GET", path=ONE + "/versions/{version}", handler=version, name="get_document_version",
    summary="Read what is known of a version", tag="documents",
    params=(*_ITS, Param("version", "path", "Its number.", {"type": "integer", "minimum": 1}, required=True)),
    answers=(_one(200, "The version."),), errors=_READ_VERSION,
)  # fmt: skip
CONTENT = RouteSpec(
    method="GET", path=ONE + "/content", handler=content, name="get_document_content",
    summary="Download what was uploaded", tag="documents", params=(*_ITS, _WHICH, _IF_NONE_MATCH),
    answers=(Answer(200, "The bytes, under their media type.", {"*/*": _BINARY}, _ETAG), _UNCHANGED),
    errors=_READ_VERSION,
)  # fmt: skip
READ_TEXT = RouteSpec(
    method="GET", path=ONE + "/text", handler=text, name="get_document_text", summary="Read a document's text",
    tag="documents", params=(*_ITS, _WHICH, _IF_NONE_MATCH),
    answers=(Answer(200, "The text.", {TEXT: {"type": "string"}}, _ETAG), _UNCHANGED), errors=_READ_VERSION,
)  # fmt: skip
# The search first: else it would be a document of that name.
ROUTES: Final = (INDEX, SEARCH, DETAIL, PUT, REMOVE, STATUS, VERSIONS, VERSION, CONTENT, READ_TEXT)
