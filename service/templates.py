"""Templates: a gallery, instantiating, executing, and how well they do (W3).

Those that come with flex are read-only and everybody's; a tenant's own are rows. Both are used alike.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Annotated, Any, Final

import orjson
from pydantic import Field

from contracts.access import Principal
from contracts.clock import rfc3339, rfc3339_or_none
from contracts.errors import (
    EnvelopeInvalid,
    ErrorItem,
    Forbidden,
    StaleRevision,
    TemplateInvalid,
    TemplateNotFound,
)
from contracts.flows import FlowDocument
from contracts.history import Wanted
from contracts.plan import Finding
from contracts.ports import Clock, Ids
from contracts.schema import SchemaRefused, compile_schema
from contracts.scopes import Granted, granted_to
from contracts.templates import TemplateDocument, placeholders, with_defaults
from contracts.wire import MAX_DEPTH, Wire, deep_place, read_model
from service import filling
from service.filling import FLEX
from service.flows import Flows
from service.gallery import shipped
from service.rights import check_build
from service.usages import uses_of
from service.verdicts import Verdicts, verdict
from store import analytics, flow_usages
from store import templates as stored
from store.analytics import Sums
from store.connect import Database
from store.keyset import decode, page_of
from store.templates import TemplateRow
from store.unit import Unit

TEMPLATE: Final = "tpl"


class InstantiateInput(Wire):
    """What a template's holes are filled with, and what the flow is called; None: as the template says."""

    params: dict[str, Any] = Field(default_factory=dict)
    name: Annotated[str, Field(min_length=1, max_length=200)] | None = None


class TemplateRunInput(Wire):
    """What a run of a template is given; what is left out is the template's."""

    params: dict[str, Any] = Field(default_factory=dict)
    objective: Annotated[str, Field(min_length=1, max_length=20_000)] | None = None
    output_contract: Any = None
    policies: dict[str, Any] = Field(default_factory=dict)
    context: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)


class Templates:
    """The use cases of templates."""

    def __init__(self, database: Database, clock: Clock, ids: Ids, verdicts: Verdicts, flows: Flows) -> None:
        """Take the world; ``flows`` takes what is instantiated."""
        self._database, self._clock, self._ids = database, clock, ids
        self._verdicts, self._flows = verdicts, flows

    # --- gallery -----------------------------------------------------------------------------------------------------

    async def page(self, principal: Principal, *, cursor: str | None, limit: int) -> dict[str, Any]:
        """Return ``{"items", "next_cursor"}``: the tenant's own, newest first, then those that come with flex."""
        at = decode(cursor)
        own = await stored.newest(self._database, principal.tenant, at, limit + 1)
        given = [row for row in sorted(filling.given(), key=_key, reverse=True) if _key(row) < at]
        page = page_of([*own, *given][: limit + 1], limit, _key)
        return {"items": [_item(row) for row in page.rows], "next_cursor": page.next_cursor}

    async def get(self, principal: Principal, template_id: str) -> dict[str, Any]:
        """Return a template with its document and what is wrong with it. Raises ``TemplateNotFound``."""
        return await self._shown(await self.row(principal.tenant, template_id))

    async def create(self, principal: Principal, body: Any) -> dict[str, Any]:
        """Store a template. Raises ``Forbidden``, ``TemplateInvalid``."""
        check_build(principal)
        document, text = _read(body)
        now_ms = self._clock.now_ms()
        row = TemplateRow(
            self._ids.new(TEMPLATE), principal.tenant, document.name, document.category, text, 1, principal.subject,
            now_ms, now_ms,
        )  # fmt: skip
        async with self._database.unit() as unit:
            await stored.add(unit, row)
            await _note(unit, row)
        return await self._shown(row)

    async def save(self, principal: Principal, template_id: str, body: Any, revision: int) -> dict[str, Any]:
        """Write a template over. Raises ``Forbidden``, ``TemplateNotFound``, ``TemplateInvalid``, ``StaleRevision``."""
        check_build(principal)
        document, text = _read(body)
        async with self._database.unit() as unit:
            row = await self._locked(unit, principal, template_id, revision)
            changed = replace(
                row, name=document.name, category=document.category, document_json=text,
                updated_at=self._clock.now_ms(),
            )  # fmt: skip
            await stored.save(unit, changed)
            await _note(unit, changed)
        return await self._shown(replace(changed, revision=row.revision + 1))

    async def remove(self, principal: Principal, template_id: str, revision: int) -> None:
        """Delete a template; its executions and the flows made of it stay. Raises what :meth:`save` raises."""
        check_build(principal)
        async with self._database.unit() as unit:
            row = await self._locked(unit, principal, template_id, revision)
            await stored.remove(unit, row.tenant, row.template_id)
            await flow_usages.note(unit, row.tenant, row.template_id, ())

    # --- use ---------------------------------------------------------------------------------------------------------

    async def validate(self, principal: Principal, template_id: str, body: Any) -> dict[str, Any]:
        """Return the four verdicts on a template with these parameters; without a body on its example.

        Raises ``TemplateNotFound``, ``TemplateInvalid`` (the body breaks its model).
        """
        row = await self.row(principal.tenant, template_id)
        document = orjson.loads(row.document_json)
        if body is not None:
            document["example"] = read_model(InstantiateInput, body, TemplateInvalid).params
        return await self.verdicts(principal.tenant, document, granted_to(principal))

    async def verdicts(self, tenant: str, document: Mapping[str, Any], granted: Granted = None) -> dict[str, Any]:
        """Return the four verdicts on a template filled with its example; pointers lead into the filled flow."""
        findings = list(_findings(document))
        if findings:
            return verdict(findings)
        flow = filling.filled(document, document.get("example", {}))
        return await self._verdicts.of_document(tenant, flow, granted=granted)

    async def instantiate(self, principal: Principal, template_id: str, body: Any) -> dict[str, Any]:
        """Make a flow's draft of a template. Raises ``Forbidden``, ``TemplateNotFound``, ``TemplateInvalid``."""
        check_build(principal)
        given = read_model(InstantiateInput, {} if body is None else body, TemplateInvalid)
        row = await self.row(principal.tenant, template_id)
        document = orjson.loads(row.document_json)
        filling.check_params(document, given.params, TemplateInvalid, "/params")
        flow = filling.filled(document, given.params)
        return await self._flows.create(principal, {**flow, "name": given.name or flow["name"]})

    async def envelope(self, principal: Principal, template_id: str, body: Any) -> dict[str, Any]:
        """Return the envelope that a run of a template is submitted as.

        Raises ``TemplateNotFound``, ``EnvelopeInvalid`` (the body, or the parameters, break their schema).
        """
        given = read_model(TemplateRunInput, {} if body is None else body, EnvelopeInvalid)
        document = orjson.loads((await self.row(principal.tenant, template_id)).document_json)
        filling.check_params(document, given.params, EnvelopeInvalid, "/params")
        flow = filling.filled(document, given.params)
        contract = given.output_contract if given.output_contract is not None else flow.get("output_contract")
        return {
            "objective": given.objective or flow.get("objective") or flow["name"],
            "output_contract": {"schema": True} if contract is None else contract,
            "policies": given.policies,
            "context": given.context,
            "metadata": given.metadata,
            "workflow": {"template_id": template_id, "params": given.params},
        }

    async def analytics(self, principal: Principal, template_id: str, wanted: Wanted) -> dict[str, Any]:
        """Return how the executions of a template went (W3). Raises ``TemplateNotFound``."""
        await self.row(principal.tenant, template_id)
        mine = replace(wanted, template_id=template_id)
        sums = await analytics.sums(self._database, principal.tenant, mine)
        slow = await analytics.p95_ms(self._database, principal.tenant, mine, sums.completed)
        return {"template_id": template_id, **told(sums), "p95_ms": slow}

    async def row(self, tenant: str, template_id: str) -> TemplateRow:
        """Return a template, the tenant's or one that comes with flex. Raises ``TemplateNotFound``."""
        return await filling.find(self._database, tenant, template_id) or _missing(template_id)

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _locked(self, unit: Unit, principal: Principal, template_id: str, revision: int) -> TemplateRow:
        if template_id in shipped():
            raise Forbidden("This template comes with flex; store one of your own instead.")
        row = await stored.lock(unit, principal.tenant, template_id)
        if row is None:
            raise TemplateNotFound
        if row.revision != revision:
            raise StaleRevision(f"The template is at revision {row.revision}.", revision=row.revision)
        return row

    async def _shown(self, row: TemplateRow) -> dict[str, Any]:
        document = orjson.loads(row.document_json)
        return {**_item(row), "template": document, **await self.verdicts(row.tenant, document)}


async def _note(unit: Unit, row: TemplateRow) -> None:
    """Write which stored flows a template names; one that a parameter names is known only when it is filled in."""
    plan = orjson.loads(row.document_json)["flow"].get("plan")
    await flow_usages.note(unit, row.tenant, row.template_id, uses_of("template", row.template_id, row.tenant, plan))


def _missing(template_id: str) -> TemplateRow:
    raise TemplateNotFound(f"There is no template {template_id}.")


def told(sums: Sums) -> dict[str, Any]:
    """Return sums as they are shown: rates from 0 to 1, null where there is nothing to divide by."""
    ended = sums.completed + sums.failed
    return {
        "executions": sums.executions,
        "completed": sums.completed,
        "failed": sums.failed,
        "cancelled": sums.cancelled,
        "success_rate": _part(sums.completed, ended),
        "average_ms": _mean(sums.duration_ms, sums.executions),
        "tokens": sums.tokens,
        "cost": round(sums.cost, 6),
        "hitl_rate": _part(sums.asked, sums.executions),
        "average_hitl_wait_ms": _mean(sums.waited_for_people_ms, sums.asked),
        "last_used_at": rfc3339_or_none(sums.last_used_at),
        "last_succeeded_at": rfc3339_or_none(sums.last_completed_at),
        "last_failed_at": rfc3339_or_none(sums.last_failed_at),
    }


def _part(some: int, all_: int) -> float | None:
    return None if all_ == 0 else round(some / all_, 4)


def _mean(total: int, many: int) -> int | None:
    return None if many == 0 else round(total / many)


def _read(body: Any) -> tuple[TemplateDocument, str]:
    place = deep_place(body)
    if place is not None:
        raise TemplateInvalid(errors=[ErrorItem(place, "too_deep", f"Nested over {MAX_DEPTH} levels.")])
    return read_model(TemplateDocument, body, TemplateInvalid), orjson.dumps(body).decode()


def _findings(document: Mapping[str, Any]) -> list[Finding]:
    """Return what is wrong with a template's own parts: its schema, its example, its placeholders."""
    schema = document.get("parameters", {"type": "object"})
    try:
        compiled = compile_schema(schema)
    except SchemaRefused as refused:
        return [_finding(item.code, f"/parameters{item.pointer}", item.message) for item in refused.errors]
    given = with_defaults(schema, document.get("example", {}))
    found = [_finding("example_invalid", f"/example{each.pointer}", each.message) for each in compiled.explain(given)]
    known = schema.get("properties", {})
    for pointer, names in placeholders(document["flow"]):
        name = names[1:].split("/")[0].replace("~1", "/").replace("~0", "~")
        if not names.startswith("/") or name not in known:
            message = f"No parameter is called {name!r}." if names.startswith("/") else "It is no pointer."
            found.append(_finding("param_unknown", f"/flow{pointer}", message))
    return found or _shape(filling.filled(document, document.get("example", {})))


def _shape(flow: Any) -> list[Finding]:
    try:
        read_model(FlowDocument, flow, TemplateInvalid)
    except TemplateInvalid as refused:
        return [_finding(item.code, f"/flow{item.pointer}", item.message) for item in refused.errors]
    return []


def _finding(code: str, pointer: str, message: str) -> Finding:
    return Finding(layer="structure", code=code, message=message, pointer=pointer)


def _key(row: TemplateRow) -> tuple[int, str]:
    return row.created_at, row.template_id


def _item(row: TemplateRow) -> dict[str, Any]:
    document = orjson.loads(row.document_json)
    own = row.created_by != FLEX
    return {
        "template_id": row.template_id,
        "name": row.name,
        "description": document.get("description", ""),
        "category": row.category,
        "tags": document.get("tags", []),
        "parameters": document.get("parameters", {"type": "object"}),
        "example": document.get("example", {}),
        "shipped": not own,
        "revision": row.revision,
        "created_by": row.created_by,
        "created_at": rfc3339(row.created_at) if own else None,
        "updated_at": rfc3339(row.updated_at) if own else None,
    }
