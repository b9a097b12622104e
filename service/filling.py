"""Finding templates and filling them in, for whoever makes a plan of one (W3)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

import orjson

from contracts.errors import EnvelopeInvalid, ErrorItem, TemplateInvalid
from contracts.schema import compile_schema
from contracts.templates import fill, with_defaults
from service.gallery import shipped
from store import templates as stored
from store.connect import Database
from store.templates import TemplateRow

FLEX: Final = "flex"
"""Who the shipped templates are by."""


async def find(database: Database, tenant: str, template_id: str) -> TemplateRow | None:
    """Return a template, the tenant's or one that comes with flex."""
    if template_id in shipped():
        return next(row for row in given() if row.template_id == template_id)
    return await stored.get(database, tenant, template_id)


def filled(document: Mapping[str, Any], params: Mapping[str, Any]) -> dict[str, Any]:
    """Return a template's flow with these parameters, defaults in the place of those that are not there."""
    flow: dict[str, Any] = fill(document["flow"], with_defaults(document.get("parameters", {}), params))
    return flow


def check_params(
    document: Mapping[str, Any], params: Mapping[str, Any], error: type[EnvelopeInvalid | TemplateInvalid], at: str
) -> None:
    """Raise ``error`` with a pointer below ``at`` for each parameter that the template does not take."""
    schema = document.get("parameters", {"type": "object"})
    found = compile_schema(schema).explain(with_defaults(schema, params))
    if found:
        errors = [ErrorItem(f"{at}{each.pointer}", "param_invalid", each.message) for each in found]
        raise error("The template does not take these parameters.", errors=errors)


def given() -> list[TemplateRow]:
    """Return the templates that come with flex, as rows that are older than every other."""
    return [
        TemplateRow(name, "", each["name"], each.get("category", ""), orjson.dumps(each).decode(), 1, FLEX, 0, 0)
        for name, each in shipped().items()
    ]
