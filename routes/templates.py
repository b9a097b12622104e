"""Templates: the gallery, writing one, making flows and runs of one, and how they went (W3)."""

from __future__ import annotations

from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from contracts import errors
from contracts.history import Wanted
from contracts.schema import SchemaRefused
from routes import describe
from routes.answers import Json
from routes.attach import path_id
from routes.auth import principal_of
from routes.doors import doors_of
from routes.executions import TIMES, time_query
from routes.intake import header, json_body, limit_query, shield, text_query
from routes.revisions import IF_MATCH, TAG, revision_of
from routes.spec import JSON, Answer, Param, RouteSpec, ref
from routes.stream import run_headers
from service.reads import run_links

BUILDERS: Final = ("builder", "admin")


def _template(request: Request) -> str:
    return path_id(request, "template_id", errors.TemplateNotFound)


def _with_tag(template: dict[str, Any], status: int = 200) -> Json:
    location = {"Location": f"/api/v1/templates/{template['template_id']}"} if status == 201 else {}
    return Json(template, status, {"ETag": f'"{template["revision"]}"', **location})


async def index(request: Request) -> Response:
    """List templates: the tenant's own, newest first, then those that come with flex."""
    cursor, limit = text_query(request, "cursor"), limit_query(request)
    return Json(await doors_of(request).templates.page(principal_of(request), cursor=cursor, limit=limit))


async def create(request: Request) -> Response:
    """Store a template."""
    body = await json_body(request)
    return _with_tag(await doors_of(request).templates.create(principal_of(request), body), 201)


async def detail(request: Request) -> Response:
    """Read a template with its document and what is wrong with it."""
    return _with_tag(await doors_of(request).templates.get(principal_of(request), _template(request)))


async def save(request: Request) -> Response:
    """Write a template over."""
    template_id, revision, body = _template(request), revision_of(request), await json_body(request)
    return _with_tag(await doors_of(request).templates.save(principal_of(request), template_id, body, revision))


async def remove(request: Request) -> Response:
    """Delete a template; its executions and the flows made of it stay."""
    await doors_of(request).templates.remove(principal_of(request), _template(request), revision_of(request))
    return Response(status_code=204)


async def validate(request: Request) -> Response:
    """Judge a template with these parameters, without a body with its example."""
    template_id, body = _template(request), await json_body(request, required=False)
    return Json(await doors_of(request).templates.validate(principal_of(request), template_id, body))


async def instantiate(request: Request) -> Response:
    """Make a flow's draft of a template."""
    template_id, body = _template(request), await json_body(request, required=False)
    flow = await doors_of(request).templates.instantiate(principal_of(request), template_id, body)
    headers = {"ETag": f'"{flow["revision"]}"', "Location": f"/api/v1/flows/{flow['flow_id']}"}
    return Json(flow, 201, headers)


async def run(request: Request) -> Response:
    """Start a run of a template."""
    shield(request)
    doors, caller, template_id = doors_of(request), principal_of(request), _template(request)
    key, correlation_id = header(request, "Idempotency-Key"), header(request, "X-Correlation-Id")
    envelope = await doors.templates.envelope(caller, template_id, await json_body(request, required=False))
    born = await doors.runs.submit(envelope, caller, key=key, correlation_id=correlation_id, trigger="run")
    answer = {"run_id": born.run_id, "status": "queued", "links": run_links(born.run_id)}
    return Json(answer, 202, run_headers(born.run_id, born.correlation_id))


async def analytics(request: Request) -> Response:
    """Say how a template's executions went."""
    wanted = Wanted(after_ms=time_query(request, "since"), before_ms=time_query(request, "until"))
    return Json(await doors_of(request).templates.analytics(principal_of(request), _template(request), wanted))


_ID: Final = Param("template_id", "path", "The template.", {"type": "string"}, required=True)
_READ: Final = (errors.TemplateNotFound, errors.StoreUnavailable)
_WRITE: Final = (
    *describe.BODY_ERRORS, errors.TemplateNotFound, errors.TemplateInvalid, errors.StaleRevision,
    errors.RevisionRequired, errors.StoreUnavailable,
)  # fmt: skip


def _answer(status: int, description: str) -> tuple[Answer, ...]:
    return (Answer(status, description, {JSON: ref("Template")}, TAG),)


INDEX = RouteSpec(
    method="GET", path="/api/v1/templates", handler=index, name="list_templates", summary="List templates",
    tag="templates", description="The tenant's own, newest first, then those that come with flex.",
    params=(describe.LIMIT, describe.CURSOR), answers=describe.ok("TemplatePage", "A page of the gallery."),
    errors=(errors.BadQuery, errors.StoreUnavailable),
)  # fmt: skip
CREATE = RouteSpec(
    method="POST", path="/api/v1/templates", handler=create, name="create_template", summary="Store a template",
    tag="templates", request=ref("TemplateDocument"), answers=_answer(201, "The template."),
    errors=(*describe.BODY_ERRORS, errors.TemplateInvalid, errors.StoreUnavailable), roles=BUILDERS,
)  # fmt: skip
DETAIL = RouteSpec(
    method="GET", path="/api/v1/templates/{template_id}", handler=detail, name="get_template",
    summary="Read a template", tag="templates", params=(_ID,),
    answers=_answer(200, "The template, and four verdicts on it filled with its example."), errors=_READ,
)  # fmt: skip
SAVE = RouteSpec(
    method="PUT", path="/api/v1/templates/{template_id}", handler=save, name="save_template",
    summary="Write a template over", tag="templates", params=(_ID, IF_MATCH), request=ref("TemplateDocument"),
    answers=_answer(200, "The template."), errors=_WRITE, roles=BUILDERS,
)  # fmt: skip
REMOVE = RouteSpec(
    method="DELETE", path="/api/v1/templates/{template_id}", handler=remove, name="delete_template",
    summary="Delete a template", tag="templates", description="Its executions and the flows made of it stay.",
    params=(_ID, IF_MATCH), answers=(Answer(204, "Gone."),),
    errors=(
        errors.BadHeader, errors.TemplateNotFound, errors.StaleRevision, errors.RevisionRequired,
        errors.StoreUnavailable,
    ), roles=BUILDERS,
)  # fmt: skip
VALIDATE = RouteSpec(
    method="POST", path="/api/v1/templates/{template_id}/validate", handler=validate, name="validate_template",
    summary="Judge a template with parameters", tag="templates", params=(_ID,), request=ref("InstantiateInput"),
    body_required=False, answers=describe.ok("Verdicts", "Four verdicts, each for itself."),
    errors=(*describe.BODY_ERRORS, errors.TemplateInvalid, *_READ),
)  # fmt: skip
INSTANTIATE = RouteSpec(
    method="POST", path="/api/v1/templates/{template_id}/instantiate", handler=instantiate,
    name="instantiate_template", summary="Make a flow of a template", tag="templates", params=(_ID,),
    request=ref("InstantiateInput"), body_required=False,
    answers=(Answer(201, "The flow, as a draft.", {JSON: ref("Flow")}, TAG),),
    errors=(*describe.BODY_ERRORS, errors.TemplateInvalid, errors.FlowInvalid, *_READ), roles=BUILDERS,
)  # fmt: skip
RUN = RouteSpec(
    method="POST", path="/api/v1/templates/{template_id}/run", handler=run, name="run_template",
    summary="Start a run of a template", tag="templates",
    params=(_ID, describe.IDEMPOTENCY_KEY, describe.CORRELATION_ID), request=ref("TemplateRunInput"),
    body_required=False,
    answers=(Answer(202, "The run is accepted.", {JSON: ref("AcceptedRun")}, describe.RUN_HEADERS),),
    errors=(
        *describe.BODY_ERRORS, errors.EnvelopeInvalid, SchemaRefused, errors.Unsupported, errors.PlanInvalid,
        errors.IdempotencyKeyReused, errors.ServerBusy, *_READ,
    ), roles=describe.SUBMITTERS,
)  # fmt: skip
ANALYTICS = RouteSpec(
    method="GET", path="/api/v1/templates/{template_id}/analytics", handler=analytics, name="get_template_analytics",
    summary="Read how a template's executions went", tag="templates", params=(_ID, *TIMES),
    answers=describe.ok("TemplateAnalytics", "Sums over the history of the template."),
    errors=(errors.BadQuery, *_READ),
)  # fmt: skip
ROUTES: Final = (INDEX, CREATE, DETAIL, SAVE, REMOVE, VALIDATE, INSTANTIATE, RUN, ANALYTICS)
