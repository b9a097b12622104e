"""Flows: drafts, versions, comparison, export and import, and running them (W1, W2)."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from contracts.errors import ErrorItem
from contracts.schema import SchemaRefused
from routes import describe
from routes.answers import Json
from routes.attach import path_id
from routes.auth import principal_of
from routes.doors import doors_of
from routes.intake import header, json_body, limit_query, number_query, raw_body, shield, text_query
from routes.revisions import IF_MATCH, TAG, revision_of
from routes.spec import JSON, Answer, Param, RouteSpec, ref
from routes.stream import run_headers
from service.exchange import from_yaml, to_yaml
from service.reads import run_links

YAML: Final = "application/yaml"
BUILDERS: Final = ("builder", "admin")
MOST: Final = 10**9


def _flow(request: Request) -> str:
    return path_id(request, "flow_id", errors.FlowNotFound)


def _with_tag(flow: dict[str, Any], status: int = 200) -> Json:
    location = {"Location": f"/api/v1/flows/{flow['flow_id']}"} if status == 201 else {}
    return Json(flow, status, {"ETag": f'"{flow["revision"]}"', **location})


async def create(request: Request) -> Response:
    """Store a new flow's draft."""
    body = await json_body(request)
    return _with_tag(await doors_of(request).flows.create(principal_of(request), body), 201)


async def index(request: Request) -> Response:
    """List the tenant's flows, newest first."""
    page = await doors_of(request).flows.page(
        principal_of(request), cursor=text_query(request, "cursor"), limit=limit_query(request)
    )
    return Json(page)


async def detail(request: Request) -> Response:
    """Read a flow with its draft and what is wrong with it."""
    return _with_tag(await doors_of(request).flows.get(principal_of(request), _flow(request)))


async def save(request: Request) -> Response:
    """Write the draft over."""
    flow_id, revision, body = _flow(request), revision_of(request), await json_body(request)
    return _with_tag(await doors_of(request).flows.save(principal_of(request), flow_id, body, revision))


async def remove(request: Request) -> Response:
    """Delete a flow and its versions; its runs stay."""
    await doors_of(request).flows.remove(principal_of(request), _flow(request), revision_of(request))
    return Response(status_code=204)


async def publish(request: Request) -> Response:
    """Make the draft a version."""
    flow_id, revision = _flow(request), revision_of(request)
    body = await json_body(request, required=False)
    version, new = await doors_of(request).flows.publish(principal_of(request), flow_id, body, revision)
    return Json(version, 201 if new else 200)


async def versions(request: Request) -> Response:
    """List a flow's versions, newest first."""
    before = number_query(request, "before", 1, MOST)
    flows = doors_of(request).flows
    return Json(await flows.versions(principal_of(request), _flow(request), before, limit_query(request)))


async def version(request: Request) -> Response:
    """Read a version."""
    text = request.path_params["version"]
    if not (text.isascii() and text.isdigit()) or len(text) > 9:
        raise errors.FlowVersionNotFound
    return Json(await doors_of(request).flows.version(principal_of(request), _flow(request), int(text)))


async def restore(request: Request) -> Response:
    """Copy a version into the draft."""
    flow_id, revision, body = _flow(request), revision_of(request), await json_body(request)
    return _with_tag(await doors_of(request).flows.restore(principal_of(request), flow_id, body, revision))


async def diff(request: Request) -> Response:
    """Compare two versions, or one with the draft."""
    before, after = text_query(request, "from") or "draft", text_query(request, "to") or "draft"
    return Json(await doors_of(request).flows.diff(principal_of(request), _flow(request), before, after))


async def usage(request: Request) -> Response:
    """Say which flows run this one."""
    return Json(await doors_of(request).flows.usage(principal_of(request), _flow(request)))


async def export(request: Request) -> Response:
    """Return a version's document, or the draft's, as JSON or YAML."""
    which = text_query(request, "version") or "draft"
    form = text_query(request, "format", allowed=frozenset({"json", "yaml"})) or "json"
    document = await doors_of(request).flows.document(principal_of(request), _flow(request), which)
    if form == "json":
        return Json(document)
    return Response(to_yaml(document), media_type=YAML)


async def take_in(request: Request) -> Response:
    """Store a new flow from a document in JSON or YAML."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media == YAML:
        try:
            body = from_yaml((await raw_body(request)).decode())
        except UnicodeDecodeError as error:
            raise errors.FlowInvalid(errors=[ErrorItem("", "bad_yaml", "The text is not UTF-8.")]) from error
    else:
        body = await json_body(request)
    return _with_tag(await doors_of(request).flows.create(principal_of(request), body), 201)


async def run(request: Request) -> Response:
    """Start a run of a published flow."""
    shield(request)
    doors, caller, flow_id = doors_of(request), principal_of(request), _flow(request)
    key, correlation_id = header(request, "Idempotency-Key"), header(request, "X-Correlation-Id")
    body = await json_body(request, required=False)
    envelope = await doors.flows.envelope(caller, flow_id, body)
    born = await doors.runs.submit(envelope, caller, key=key, correlation_id=correlation_id, trigger="run")
    answer = {"run_id": born.run_id, "status": "queued", "links": run_links(born.run_id)}
    return Json(answer, 202, run_headers(born.run_id, born.correlation_id))


_ID: Final = Param("flow_id", "path", "The flow.", {"type": "string"}, required=True)
_READ: Final = (errors.FlowNotFound, errors.StoreUnavailable)
_WRITE: Final = (
    *describe.BODY_ERRORS, errors.FlowNotFound, errors.FlowInvalid, errors.StaleRevision, errors.RevisionRequired,
    errors.StoreUnavailable,
)  # fmt: skip
_WHICH: Final = {"type": "string", "pattern": "^(draft|[0-9]{1,9})$"}


def _flow_answer(status: int, description: str) -> tuple[Answer, ...]:
    return (Answer(status, description, {JSON: ref("Flow")}, TAG),)


CREATE = RouteSpec(
    method="POST", path="/api/v1/flows", handler=create, name="create_flow", summary="Store a flow", tag="flows",
    description="The document is the draft; a broken one is kept, and the answer says what is wrong with it.",
    request=ref("FlowDocument"), answers=_flow_answer(201, "The flow."),
    errors=(*describe.BODY_ERRORS, errors.FlowInvalid, errors.StoreUnavailable), roles=BUILDERS,
)  # fmt: skip
INDEX = RouteSpec(
    method="GET", path="/api/v1/flows", handler=index, name="list_flows", summary="List flows, newest first",
    tag="flows", params=(describe.LIMIT, describe.CURSOR), answers=describe.ok("FlowPage", "A page of flows."),
    errors=(errors.BadQuery, errors.StoreUnavailable),
)  # fmt: skip
IMPORT = RouteSpec(
    method="POST", path="/api/v1/flows/import", handler=take_in, name="import_flow",
    summary="Store a flow from JSON or YAML", tag="flows",
    description="`application/json` or `application/yaml`; keys that flex does not know are kept.",
    request=ref("FlowDocument"), answers=_flow_answer(201, "The flow."),
    errors=(*describe.BODY_ERRORS, errors.FlowInvalid, errors.StoreUnavailable), roles=BUILDERS,
)  # fmt: skip
DETAIL = RouteSpec(
    method="GET", path="/api/v1/flows/{flow_id}", handler=detail, name="get_flow", summary="Read a flow", tag="flows",
    params=(_ID,), answers=_flow_answer(200, "The flow, its draft, and four verdicts on it."), errors=_READ,
)  # fmt: skip
SAVE = RouteSpec(
    method="PUT", path="/api/v1/flows/{flow_id}", handler=save, name="save_flow", summary="Write the draft over",
    tag="flows", params=(_ID, IF_MATCH), request=ref("FlowDocument"), answers=_flow_answer(200, "The flow."),
    errors=_WRITE, roles=BUILDERS,
)  # fmt: skip
REMOVE = RouteSpec(
    method="DELETE", path="/api/v1/flows/{flow_id}", handler=remove, name="delete_flow", summary="Delete a flow",
    tag="flows", description="Its versions go; its runs keep the plans they have.", params=(_ID, IF_MATCH),
    answers=(Answer(204, "Gone."),),
    errors=(
        errors.BadHeader, errors.FlowNotFound, errors.StaleRevision, errors.FlowInUse, errors.RevisionRequired,
        errors.StoreUnavailable,
    ), roles=BUILDERS,
)  # fmt: skip
PUBLISH = RouteSpec(
    method="POST", path="/api/v1/flows/{flow_id}/publish", handler=publish, name="publish_flow",
    summary="Publish the draft as a version", tag="flows", params=(_ID, IF_MATCH), request=ref("PublishInput"),
    body_required=False,
    answers=(
        Answer(200, "The newest version says the same already.", {JSON: ref("FlowVersion")}),
        Answer(201, "The version.", {JSON: ref("FlowVersion")}),
    ),
    errors=_WRITE, roles=BUILDERS,
)  # fmt: skip
VERSIONS = RouteSpec(
    method="GET", path="/api/v1/flows/{flow_id}/versions", handler=versions, name="list_flow_versions",
    summary="List a flow's versions", tag="flows",
    params=(
        _ID, describe.LIMIT,
        Param("before", "query", "Only versions below this one (`next_before`).", {"type": "integer", "minimum": 1}),
    ),
    answers=describe.ok("FlowVersionPage", "A page of versions, newest first."), errors=(errors.BadQuery, *_READ),
)  # fmt: skip
VERSION = RouteSpec(
    method="GET", path="/api/v1/flows/{flow_id}/versions/{version}", handler=version, name="get_flow_version",
    summary="Read a version", tag="flows",
    params=(_ID, Param("version", "path", "Its number.", {"type": "integer", "minimum": 1}, required=True)),
    answers=describe.ok("FlowVersion", "The version with its document."), errors=(errors.FlowVersionNotFound, *_READ),
)  # fmt: skip
RESTORE = RouteSpec(
    method="POST", path="/api/v1/flows/{flow_id}/restore", handler=restore, name="restore_flow",
    summary="Copy a version into the draft", tag="flows", params=(_ID, IF_MATCH), request=ref("RestoreInput"),
    answers=_flow_answer(200, "The flow."), errors=(errors.FlowVersionNotFound, *_WRITE), roles=BUILDERS,
)  # fmt: skip
DIFF = RouteSpec(
    method="GET", path="/api/v1/flows/{flow_id}/diff", handler=diff, name="diff_flow", summary="Compare two versions",
    tag="flows",
    params=(
        _ID, Param("from", "query", "A version's number, or `draft`.", _WHICH),
        Param("to", "query", "A version's number, or `draft`.", _WHICH),
    ),
    answers=describe.ok("FlowDiff", "What was added, removed and changed."),
    errors=(errors.BadQuery, errors.FlowVersionNotFound, *_READ),
)  # fmt: skip
USAGE = RouteSpec(
    method="GET", path="/api/v1/flows/{flow_id}/usage", handler=usage, name="get_flow_usage",
    summary="Read which flows run this one", tag="flows", params=(_ID,),
    answers=describe.ok("FlowUsage", "Nodes of other flows' newest versions."), errors=_READ,
)  # fmt: skip
EXPORT = RouteSpec(
    method="GET", path="/api/v1/flows/{flow_id}/export", handler=export, name="export_flow",
    summary="Read a document as JSON or YAML", tag="flows",
    params=(
        _ID, Param("version", "query", "A version's number, or `draft`.", _WHICH),
        Param("format", "query", "How it is written.", {"type": "string", "enum": ["json", "yaml"]}),
    ),
    answers=(Answer(200, "The document, every key kept.", {JSON: ref("FlowDocument"), YAML: {"type": "string"}}),),
    errors=(errors.BadQuery, errors.FlowVersionNotFound, *_READ),
)  # fmt: skip
_RUN: Final[dict[str, Any]] = {
    "method": "POST", "handler": run, "tag": "flows", "request": ref("FlowRunInput"), "body_required": False,
    "params": (_ID, describe.IDEMPOTENCY_KEY, describe.CORRELATION_ID),
    "answers": (Answer(202, "The run is accepted.", {JSON: ref("AcceptedRun")}, describe.RUN_HEADERS),),
    "errors": (
        *describe.BODY_ERRORS, errors.FlowNotFound, errors.FlowVersionNotFound, errors.EnvelopeInvalid, SchemaRefused,
        errors.Unsupported, errors.PlanInvalid, errors.IdempotencyKeyReused, errors.ServerBusy,
        errors.StoreUnavailable,
    ), "roles": describe.SUBMITTERS,
}  # fmt: skip
RUN = RouteSpec(path="/api/v1/flows/{flow_id}/run", name="run_flow", summary="Start a run of a flow", **_RUN)
RUN_EARLIER = RouteSpec(
    path="/api/flows/{flow_id}/run", name="run_flow_unversioned", summary="Start a run of a flow (earlier path)", **_RUN
)
ROUTES: Final = (
    CREATE, INDEX, IMPORT, DETAIL, SAVE, REMOVE, PUBLISH, VERSIONS, VERSION, RESTORE, DIFF, USAGE, EXPORT, RUN,
    RUN_EARLIER,
)  # fmt: skip
