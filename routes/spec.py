"""How a route is described, once: from this come the router, the OpenAPI document and the table in the docs."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from starlette.requests import Request
from starlette.responses import Response

from contracts.errors import FlexError

Handler = Callable[[Request], Awaitable[Response]]
Schema = Mapping[str, Any]
"""A JSON Schema (2020-12) as a JSON value; ``{"$ref": "#/components/schemas/Name"}`` names one of ``routes.shapes``."""
JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Param:
    """A query, path or header parameter. A query name that no parameter has is refused (``bad_query``)."""

    name: str
    where: Literal["query", "path", "header"]
    description: str
    schema: Schema
    required: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """One status a route answers with when all is well; ``media`` maps each media type to the schema of its body."""

    status: int
    description: str
    media: Mapping[str, Schema] = field(default_factory=dict)
    headers: Mapping[str, str] = field(default_factory=dict)
    """Header name → description; all are strings."""


@dataclass(frozen=True, slots=True)
class RouteSpec:
    """A method on a path: who handles it, what goes in, what comes out, what may be refused, who may ask.

    ``roles`` empty: any caller. ``request`` is the schema of a JSON body, ``body_required`` whether it must be
    there, ``body_media`` how it may be written.
    """

    method: Literal["GET", "POST", "PATCH", "PUT", "DELETE"]
    path: str
    handler: Handler
    name: str
    summary: str
    tag: str
    answers: tuple[Answer, ...]
    description: str = ""
    request: Schema | None = None
    body_required: bool = True
    body_media: tuple[str, ...] = (JSON,)
    params: tuple[Param, ...] = ()
    errors: tuple[type[FlexError], ...] = ()
    roles: tuple[str, ...] = ()

    @property
    def query_names(self) -> frozenset[str]:
        """Return the names of the query parameters."""
        return frozenset(param.name for param in self.params if param.where == "query")


def ref(name: str) -> Schema:
    """Return a reference to a schema of ``routes.shapes``."""
    return {"$ref": f"#/components/schemas/{name}"}


def page_of(name: str) -> Schema:
    """Return the schema of a list page: items of the named schema and the cursor of the next page."""
    return {
        "type": "object",
        "required": ["items", "next_cursor"],
        "additionalProperties": False,
        "properties": {
            "items": {"type": "array", "items": ref(name)},
            "next_cursor": {"type": ["string", "null"], "description": "Pass as `cursor`; null on the last page."},
        },
    }
