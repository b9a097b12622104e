"""Flows: saved as drafts, published as versions, compared, restored (W2).

Reading is open to the tenant; writing is for builders and administrators. A draft may be broken: every answer that
shows it says what is wrong with it. What is published is not.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from hashlib import sha256
from typing import Annotated, Any, Final

import orjson
from pydantic import Field

from contracts.access import Principal
from contracts.agents import FolderFlows
from contracts.clock import rfc3339
from contracts.errors import (
    BadQuery,
    EnvelopeInvalid,
    ErrorItem,
    FlowInUse,
    FlowInvalid,
    FlowNotFound,
    FlowVersionNotFound,
    StaleRevision,
)
from contracts.flows import FlowDocument, changes
from contracts.ports import Clock, Ids
from contracts.wire import MAX_DEPTH, Wire, deep_place, read_model
from service.offering import NO_OFFERING, NoOffering, Offering
from service.resolving import NO_FOLDER
from service.rights import check_build
from service.usages import uses_of
from service.verdicts import Verdicts
from store import flow_offers, flow_usages
from store import flows as stored
from store.connect import Database
from store.flow_usages import PlannedRow, UseRow
from store.flows import FlowRow, VersionRow
from store.unit import Unit

FLOW: Final = "flw"
DRAFT: Final = "draft"
MAX_VERSIONS: Final = 100
MAX_USES: Final = 200
MAX_RUNS: Final = 50
_ALL: Final = 2**62


class PublishInput(Wire):
    """Why a version is published."""

    note: Annotated[str, Field(max_length=2_000)] = ""


class FlowRunInput(Wire):
    """What a run of a flow is given; what is left out is the flow's. ``version`` None: the newest."""

    inputs: dict[str, Any] = Field(default_factory=dict)
    version: Annotated[int, Field(ge=1)] | None = None
    objective: Annotated[str, Field(min_length=1, max_length=20_000)] | None = None
    output_contract: Any = None
    policies: dict[str, Any] = Field(default_factory=dict)
    context: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)


class RestoreInput(Wire):
    """Which version becomes the draft."""

    version: Annotated[int, Field(ge=1)]


class Flows:
    """The use cases of flows. Revisions come from ``If-Match``; a stale one changes nothing."""

    def __init__(
        self,
        database: Database,
        clock: Clock,
        ids: Ids,
        verdicts: Verdicts,
        folder: FolderFlows = NO_FOLDER,
        offering: Offering | NoOffering = NO_OFFERING,
    ) -> None:
        """Take the world; ``verdicts`` says what is wrong with a document, ``folder`` has the flows that are files.

        ``offering`` is told of what was published and deleted.
        """
        self._database, self._clock, self._ids, self._verdicts = database, clock, ids, verdicts
        self._folder, self._offering = folder, offering

    # --- drafts ------------------------------------------------------------------------------------------------------

    async def create(self, principal: Principal, body: Any) -> dict[str, Any]:
        """Store a new flow's draft (a document). Raises ``Forbidden``, ``FlowInvalid`` (not a document)."""
        check_build(principal)
        document, text = _read(body)
        now_ms = self._clock.now_ms()
        row = FlowRow(
            flow_id=self._ids.new(FLOW), tenant=principal.tenant, name=document.name, description=document.description,
            draft_json=text, revision=1, published=None, created_by=principal.subject, created_at=now_ms,
            updated_at=now_ms,
        )  # fmt: skip
        async with self._database.unit() as unit:
            await stored.add(unit, row)
        return await self._shown(row)

    async def page(self, principal: Principal, *, cursor: str | None, limit: int) -> dict[str, Any]:
        """Return ``{"items", "next_cursor"}``, newest first, without their documents."""
        page = await stored.page(self._database, principal.tenant, limit=limit, cursor=cursor)
        return {"items": [_item(row) for row in page.rows], "next_cursor": page.next_cursor}

    async def get(self, principal: Principal, flow_id: str) -> dict[str, Any]:
        """Return a flow with its draft and what is wrong with it. Raises ``FlowNotFound``."""
        return await self._shown(await self._row(principal, flow_id))

    async def save(self, principal: Principal, flow_id: str, body: Any, revision: int) -> dict[str, Any]:
        """Write the draft over. Raises ``Forbidden``, ``FlowNotFound``, ``FlowInvalid``, ``StaleRevision``."""
        check_build(principal)
        document, text = _read(body)
        async with self._database.unit() as unit:
            row = await self._locked(unit, principal, flow_id, revision)
            changed = await self._write(unit, row, document, text)
        return await self._shown(changed)

    async def remove(self, principal: Principal, flow_id: str, revision: int) -> None:
        """Delete a flow and its versions; its runs and their history stay.

        Raises ``Forbidden``, ``FlowNotFound``, ``StaleRevision``, ``FlowInUse`` (other flows run it).
        """
        check_build(principal)
        uses = await flow_usages.users(self._database, principal.tenant, flow_id, MAX_USES)
        others = sorted({use.user_id for use in uses if use.user_id != flow_id})
        if others:
            raise FlowInUse(f"{len(others)} other flows or templates run it.", used_by=others)
        async with self._database.unit() as unit:
            row = await self._locked(unit, principal, flow_id, revision)
            await stored.remove(unit, row.tenant, row.flow_id)
            await flow_usages.note(unit, row.tenant, row.flow_id, ())
            await flow_offers.removed(unit, row.tenant, row.flow_id)
        await self._offering.look()

    # --- versions ----------------------------------------------------------------------------------------------------

    async def publish(
        self, principal: Principal, flow_id: str, body: Any, revision: int
    ) -> tuple[dict[str, Any], bool]:
        """Make the draft a version; True: it is new, False: the newest version says the same already.

        Raises ``Forbidden``, ``FlowNotFound``, ``StaleRevision``, ``FlowInvalid`` (with the four verdicts).
        """
        check_build(principal)
        note = read_model(PublishInput, {} if body is None else body, FlowInvalid).note
        draft = await self._row(principal, flow_id)
        document = orjson.loads(draft.draft_json)
        if draft.revision == revision:
            await self._refuse_broken(draft, document)
        async with self._database.unit() as unit:
            row = await self._locked(unit, principal, flow_id, revision)
            newest = await stored.newest(unit, row.tenant, row.flow_id)
            digest = _digest(document)
            if newest is not None and newest.digest == digest:
                return _version(newest), False
            now_ms = self._clock.now_ms()
            made = VersionRow(
                row.flow_id, 1 if newest is None else newest.version + 1, row.tenant, row.draft_json, digest,
                principal.subject, note, now_ms,
            )  # fmt: skip
            await stored.publish(unit, made, now_ms)
            uses = uses_of("flow", made.flow_id, made.tenant, document["plan"])
            await flow_usages.note(unit, made.tenant, made.flow_id, uses)
            offered = document.get("capability") is not None
            await flow_offers.published(unit, made.tenant, made.flow_id, made.version, offered=offered)
        await self._offering.look()
        return _version(made), True

    async def versions(self, principal: Principal, flow_id: str, before: int | None, limit: int) -> dict[str, Any]:
        """Return a page of versions, newest first: ``{"items", "next_before"}``. Raises ``FlowNotFound``."""
        await self._row(principal, flow_id)
        found = await stored.versions(
            self._database, principal.tenant, flow_id, before=before or _ALL, limit=min(limit, MAX_VERSIONS) + 1
        )
        shown = found[:limit]
        following = shown[-1].version if len(found) > limit else None
        return {"items": [_version(row, whole=False) for row in shown], "next_before": following}

    async def version(self, principal: Principal, flow_id: str, number: int) -> dict[str, Any]:
        """Return a version with its document. Raises ``FlowNotFound``, ``FlowVersionNotFound``."""
        return _version(await self._version(principal, flow_id, number))

    async def restore(self, principal: Principal, flow_id: str, body: Any, revision: int) -> dict[str, Any]:
        """Copy a version into the draft. Raises what :meth:`save` and :meth:`version` raise."""
        check_build(principal)
        number = read_model(RestoreInput, body, FlowInvalid).version
        version = await self._version(principal, flow_id, number)
        document, text = _read(orjson.loads(version.document_json))
        async with self._database.unit() as unit:
            row = await self._locked(unit, principal, flow_id, revision)
            changed = await self._write(unit, row, document, text)
        return await self._shown(changed)

    async def diff(self, principal: Principal, flow_id: str, before: str, after: str) -> dict[str, Any]:
        """Compare two versions, each a number or ``draft``: ``{"from", "to", "changes"}``.

        Raises ``BadQuery``, ``FlowNotFound``, ``FlowVersionNotFound``.
        """
        row = await self._row(principal, flow_id)
        earlier = await self._side(principal, row, before, "from")
        later = await self._side(principal, row, after, "to")
        return {"from": before, "to": after, "changes": changes(earlier, later)}

    async def document(self, principal: Principal, flow_id: str, which: str) -> Any:
        """Return the document of a version, or of the ``draft``, as it was written. Raises what :meth:`diff` raises."""
        row = await self._row(principal, flow_id)
        return await self._side(principal, row, which, "version")

    async def usage(self, principal: Principal, flow_id: str) -> dict[str, Any]:
        """Return what runs this flow: ``{"items", "runs"}``. Raises ``FlowNotFound``.

        ``items`` are nodes of flows' newest versions and of templates that name it, as a subflow or as a chat's tool;
        ``runs`` the newest runs whose planner found it by itself.
        """
        await self._row(principal, flow_id)
        uses = await flow_usages.users(self._database, principal.tenant, flow_id, MAX_USES)
        planned = await flow_usages.planned(self._database, principal.tenant, flow_id, MAX_RUNS)
        return {"items": [_use(use) for use in uses], "runs": [_planned(run) for run in planned]}

    async def envelope(self, principal: Principal, flow_id: str, body: Any) -> dict[str, Any]:
        """Return the envelope that a run of a published flow is submitted as.

        Raises ``FlowNotFound``, ``FlowVersionNotFound``, ``EnvelopeInvalid`` (the body breaks its model).
        """
        given = read_model(FlowRunInput, {} if body is None else body, EnvelopeInvalid)
        filed = self._folder.document(flow_id) if given.version is None else None
        if filed is not None:
            return _envelope(given, filed, {"flow_id": flow_id})
        row = await stored.version(self._database, principal.tenant, flow_id, given.version)
        if row is None:
            await self._row(principal, flow_id)
            raise FlowVersionNotFound("It has no published version." if given.version is None else "")
        workflow = {"flow_id": flow_id, "version": row.version}
        return _envelope(given, orjson.loads(row.document_json), workflow)

    # --- inside ------------------------------------------------------------------------------------------------------

    async def _row(self, principal: Principal, flow_id: str) -> FlowRow:
        row = await stored.get(self._database, principal.tenant, flow_id)
        if row is None:
            raise FlowNotFound
        return row

    async def _locked(self, unit: Unit, principal: Principal, flow_id: str, revision: int) -> FlowRow:
        row = await stored.lock(unit, principal.tenant, flow_id)
        if row is None:
            raise FlowNotFound
        if row.revision != revision:
            raise StaleRevision(f"The draft is at revision {row.revision}.", revision=row.revision)
        return row

    async def _write(self, unit: Unit, row: FlowRow, document: FlowDocument, text: str) -> FlowRow:
        now_ms = self._clock.now_ms()
        changed = replace(row, name=document.name, description=document.description, draft_json=text, updated_at=now_ms)
        await stored.save(unit, changed, row.revision, now_ms)
        return replace(changed, revision=row.revision + 1)

    async def _version(self, principal: Principal, flow_id: str, number: int) -> VersionRow:
        row = await stored.version(self._database, principal.tenant, flow_id, number)
        if row is None:
            await self._row(principal, flow_id)
            raise FlowVersionNotFound(f"There is no version {number}.")
        return row

    async def _side(self, principal: Principal, row: FlowRow, which: str, name: str) -> Any:
        if which == DRAFT:
            return orjson.loads(row.draft_json)
        if not (which.isascii() and which.isdigit()) or len(which) > 9:
            raise BadQuery(errors=[ErrorItem(f"/{name}", "bad_query", "A version's number, or draft.")])
        return orjson.loads((await self._version(principal, row.flow_id, int(which))).document_json)

    async def _refuse_broken(self, row: FlowRow, document: Any) -> None:
        said = await self._verdicts.of_document(row.tenant, document, row.flow_id)
        if not said["valid"]:
            errors = [
                ErrorItem(found["pointer"], found["code"], found["message"])
                for layer in said["validation"].values()
                for found in layer["errors"]
            ]
            raise FlowInvalid("A flow with errors is not published.", errors=errors, validation=said["validation"])

    async def _shown(self, row: FlowRow) -> dict[str, Any]:
        document = orjson.loads(row.draft_json)
        verdicts = await self._verdicts.of_document(row.tenant, document, row.flow_id)
        return {**_item(row), "draft": document, **verdicts}


def _envelope(given: FlowRunInput, document: Mapping[str, Any], workflow: dict[str, Any]) -> dict[str, Any]:
    """Return the envelope of a run of a flow; what the caller leaves out is the flow's."""
    contract = given.output_contract if given.output_contract is not None else document.get("output_contract")
    return {
        "objective": given.objective or document.get("objective") or document["name"],
        "inputs": given.inputs,
        "output_contract": {"schema": True} if contract is None else contract,
        "policies": given.policies,
        "context": given.context,
        "metadata": given.metadata,
        "workflow": workflow,
    }


def _read(body: Any) -> tuple[FlowDocument, str]:
    """Return a document and its text, every key kept; raise ``FlowInvalid`` with a pointer per broken place."""
    place = deep_place(body)
    if place is not None:
        raise FlowInvalid(errors=[ErrorItem(place, "too_deep", f"Nested over {MAX_DEPTH} levels.")])
    return read_model(FlowDocument, body, FlowInvalid), orjson.dumps(body).decode()


def _digest(document: Any) -> str:
    return sha256(orjson.dumps(document, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _use(use: UseRow) -> dict[str, Any]:
    of_flow = use.user_kind == "flow"
    return {
        "flow_id": use.user_id if of_flow else None,
        "template_id": None if of_flow else use.user_id,
        "node_id": use.node_id,
        "via": use.via,
        "version": use.version,
    }


def _planned(run: PlannedRow) -> dict[str, Any]:
    return {
        "run_id": run.run_id,
        "node_id": run.node_id,
        "child_run_id": run.child_run_id,
        "status": run.status,
        "created_at": rfc3339(run.created_at),
    }


def _item(row: FlowRow) -> dict[str, Any]:
    return {
        "flow_id": row.flow_id,
        "name": row.name,
        "description": row.description,
        "revision": row.revision,
        "published_version": row.published,
        "created_by": row.created_by,
        "created_at": rfc3339(row.created_at),
        "updated_at": rfc3339(row.updated_at),
    }


def _version(row: VersionRow, *, whole: bool = True) -> dict[str, Any]:
    shown: dict[str, Any] = {
        "flow_id": row.flow_id,
        "version": row.version,
        "digest": row.digest,
        "author": row.author,
        "note": row.note,
        "created_at": rfc3339(row.created_at),
    }
    return {**shown, "document": orjson.loads(row.document_json)} if whole else shown
