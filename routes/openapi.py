"""The OpenAPI 3.1 document, made from the table of routes; its own models check it (P3)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from openapi_pydantic.v3.v3_1 import (
    Components,
    Header,
    Info,
    MediaType,
    OpenAPI,
    Operation,
    Parameter,
    ParameterLocation,
    PathItem,
    Reference,
    RequestBody,
    Response,
    Schema,
    Tag,
)

from contracts.errors import FlexError, Forbidden, ForeignOrigin, PromptNotFound, RunNotFound, RunPruned
from routes.answers import PROBLEM
from routes.problems import HeadersTooLarge, Internal
from routes.shapes import component_schemas
from routes.spec import Param, RouteSpec, ref
from routes.spec import Schema as SchemaValue

TAGS = {
    "runs": "Envelope in, streamed plan out.",
    "prompts": "What people are asked, and their answers.",
    "catalogue": "What can be done here.",
    "documents": "What stories know: documents, their versions, and search in them.",
    "audit": "Who did what, and how long things are kept.",
    "service": "The service itself.",
}


def document(routes: Sequence[RouteSpec], version: str) -> dict[str, Any]:
    """Return the document as a JSON value."""
    paths: dict[str, PathItem] = {}
    for spec in routes:
        item = paths.setdefault(spec.path, PathItem())
        setattr(item, spec.method.lower(), _operation(spec))
    made = OpenAPI(
        openapi="3.1.1",
        info=Info(
            title="flex",
            version=version or "0",
            description="A streaming planner service with a human in the loop. Modelled input also takes camelCase.",
        ),
        tags=[Tag(name=name, description=text) for name, text in TAGS.items()],
        paths=paths,
        components=Components(schemas={name: _schema(value) for name, value in component_schemas().items()}),
    )
    shown: dict[str, Any] = made.model_dump(mode="json", by_alias=True, exclude_unset=True, exclude_none=True)
    # The models know JSON Schema's own keywords only in part; the schemas go in as they are.
    shown["components"]["schemas"] = component_schemas()
    return shown


def _operation(spec: RouteSpec) -> Operation:
    responses: dict[str, Response] = {}
    for answer in spec.answers:
        responses[str(answer.status)] = Response(
            description=answer.description,
            headers={
                name: Header(description=text, schema=_schema({"type": "string"}))
                for name, text in answer.headers.items()
            }
            or None,
            content={media: _media(schema) for media, schema in answer.media.items()} or None,
        )
    for status, errors in _by_status(spec).items():
        if status not in responses:
            responses[status] = _refusal(status, errors)
    shown: dict[str, Any] = {
        "operationId": spec.name,
        "summary": spec.summary,
        "tags": [spec.tag],
        "responses": responses,
    }
    if spec.description:
        shown["description"] = spec.description
    if spec.params:
        shown["parameters"] = [_parameter(param) for param in spec.params]
    if spec.request is not None:
        shown["requestBody"] = RequestBody(
            required=spec.body_required, content={media: _media(spec.request) for media in spec.body_media}
        )
    return Operation(**shown)


def _by_status(spec: RouteSpec) -> dict[str, list[type[FlexError]]]:
    """Return the refusals by status, with those that any route may give."""
    found: dict[str, list[type[FlexError]]] = {}
    everywhere: tuple[type[FlexError], ...] = (ForeignOrigin, HeadersTooLarge, Internal)
    by_role = (Forbidden,) if spec.roles else ()
    # What is not found may have been pruned: service/gone.py answers for all of them.
    pruned = (RunPruned,) if {RunNotFound, PromptNotFound} & set(spec.errors) else ()
    for error in (*spec.errors, *pruned, *by_role, *everywhere):
        codes = found.setdefault(str(error.status), [])
        if error not in codes:
            codes.append(error)
    return dict(sorted(found.items()))


def _refusal(status: str, errors: Sequence[type[FlexError]]) -> Response:
    lines = [f"`{error.code}`: {(error.__doc__ or '').strip().splitlines()[0]}" for error in errors]
    headers: dict[str, Header | Reference] | None = None
    if status == "503":
        headers = {"Retry-After": Header(description="Seconds to wait.", schema=_schema({"type": "string"}))}
    return Response(description="\n\n".join(lines), headers=headers, content={PROBLEM: _media(ref("Problem"))})


def _parameter(param: Param) -> Parameter:
    shown: dict[str, Any] = {
        "name": param.name,
        "in": ParameterLocation(param.where),
        "description": param.description,
        "required": param.required,
        "schema": _schema(param.schema),
    }
    return Parameter(**shown)


def _media(schema: SchemaValue) -> MediaType:
    return MediaType(schema=_schema(schema))


def _schema(value: SchemaValue) -> Any:
    return Schema.model_validate(value)
