"""From a name to a plan: what ``workflow`` refers to, resolved once, before anything is written (W1, W2).

What is stored says which version it was; a later publication changes no run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from contracts.access import Principal
from contracts.agents import FolderFlows, NoFolder
from contracts.descent import MAX_DEPTH
from contracts.errors import EnvelopeInvalid, ErrorItem, FlowNotFound, FlowVersionNotFound, TemplateNotFound
from contracts.flow_capability import FLOW_PREFIX
from contracts.history import PLANNED, Origin, Trigger
from contracts.schema import compile_schema
from service import filling
from store import flows
from store.connect import Database

DOCUMENTS: Final = "/context/documents/"
TOOL: Final = FLOW_PREFIX
"""A tool of a chat with this prefix is a stored flow: ``flow.<flow_id>``, or ``flow.<flow_id>@<version>``."""
LISTS: Final = ("hitl", "runtime")
"""Policies of which a run has its flow's and its caller's."""
NO_FOLDER: Final = NoFolder()


@dataclass(frozen=True, slots=True)
class Resolved:
    """An envelope's body whose workflow is a plan, and the workflow as it is kept; None: it was one already.

    ``origin`` is what the run's history will say of it.
    """

    body: Any
    workflow: Mapping[str, Any] | None = None
    origin: Origin = PLANNED


async def resolve(
    database: Database,
    principal: Principal,
    body: Any,
    trigger: Trigger = "api",
    folder: FolderFlows = NO_FOLDER,
) -> Resolved:
    """Put the plan of a stored flow, its policies and its rules for inputs into an envelope's body.

    Raises ``EnvelopeInvalid`` with pointers into the body: an unknown flow or version, inputs that the flow does not
    take. Bodies of another shape are left to their reader. ``folder`` has the flows that are files.
    """
    workflow = body.get("workflow") if isinstance(body, dict) else None
    if isinstance(workflow, dict) and _is_template(workflow):
        return await _template(database, principal, body, workflow, trigger)
    named = _named(workflow)
    if named is None:
        whole = await _with_subflows(database, principal.tenant, body, workflow)
        return Resolved(whole, origin=Origin("planned" if workflow is None else "custom", trigger))
    flow_id, version = named
    filed = folder.document(flow_id) if version is None else None
    if filed is not None:
        origin = Origin("definition", trigger, flow_id=flow_id, flow_name=str(filed["name"]))
        return Resolved(_of_document(filed, body, filed["plan"]), {"flow_id": flow_id}, origin)
    row = await flows.version(database, principal.tenant, flow_id, version)
    if row is None:
        raise await _missing(database, principal, flow_id, version)
    document = orjson.loads(row.document_json)
    plan, missing = await expand(database, principal.tenant, document["plan"])
    if missing:
        raise EnvelopeInvalid("The flow runs flows that are not there any more.", errors=missing)
    origin = Origin(
        "definition", trigger, flow_id=row.flow_id, flow_version=row.version, flow_name=str(document["name"])
    )
    whole = _of_document(document, body, plan)
    return Resolved(whole, {"flow_id": row.flow_id, "version": row.version}, origin)


def _is_template(workflow: Mapping[str, Any]) -> bool:
    """Say whether a workflow is a template with parameters; every other shape is left to its reader."""
    template_id, params = workflow.get("template_id", workflow.get("templateId")), workflow.get("params", {})
    known = {"template_id", "templateId", "params"}
    return isinstance(template_id, str) and isinstance(params, dict) and known.issuperset(workflow)


async def _template(
    database: Database, principal: Principal, body: Any, workflow: Mapping[str, Any], trigger: Trigger
) -> Resolved:
    """Put the plan and policies of a template, filled in with its parameters, into an envelope's body (W3)."""
    template_id, params = workflow.get("template_id", workflow.get("templateId")), workflow.get("params", {})
    row = await filling.find(database, principal.tenant, str(template_id))
    if row is None:
        item = ErrorItem("/workflow/template_id", TemplateNotFound.code, "There is no such template.")
        raise EnvelopeInvalid(errors=[item])
    template = orjson.loads(row.document_json)
    filling.check_params(template, params, EnvelopeInvalid, "/workflow/params")
    document = filling.filled(template, params)
    plan, missing = await expand(database, principal.tenant, document["plan"])
    if missing:
        raise EnvelopeInvalid("The template runs flows that are not there any more.", errors=missing)
    kept = {"template_id": row.template_id, "params": params}
    origin = Origin("template", trigger, template_id=row.template_id, template_name=row.name)
    return Resolved(_of_document(document, body, plan), kept, origin)


def _of_document(document: Mapping[str, Any], body: Mapping[str, Any], plan: Any) -> dict[str, Any]:
    """Return an envelope's body with a flow's plan and policies in it; refuse inputs that the flow does not take."""
    _check_inputs(document, body.get("inputs", {}))
    policies = _merged(_of_flow(document), body.get("policies") or {})
    return {**body, "policies": policies, "workflow": {"plan": plan}, **_context(document, body)}


async def expand(
    database: Database, tenant: str, plan: Any, at: str = "", above: tuple[str, ...] = ()
) -> tuple[Any, list[ErrorItem]]:
    """Return a plan whose subflows hold their plans instead of naming a stored flow, and what could not be found.

    ``at`` is the plan's pointer, ``above`` the flows that it is inside of: one that runs itself has no end.
    """
    if not isinstance(plan, dict) or not isinstance(plan.get("nodes"), list):
        return plan, []
    nodes, missing = [], []
    for place, node in enumerate(plan["nodes"]):
        pointer = f"{at}/nodes/{place}"
        resolver = _tools if _names_tool(node) else _subflow
        whole, found = await resolver(database, tenant, node, pointer, above) if _names_flow(node) else (node, [])
        nodes.append(whole)
        missing += found
    return {**plan, "nodes": nodes}, missing


async def _with_subflows(database: Database, tenant: str, body: Any, workflow: Any) -> Any:
    """Return a body whose plan, if it brings one, holds the plans of the stored flows that it runs."""
    plan = workflow.get("plan") if isinstance(workflow, dict) else None
    if not isinstance(plan, dict) or not any(map(_names_flow, _nodes(plan))):
        return body
    whole, missing = await expand(database, tenant, plan, "/workflow/plan")
    if missing:
        raise EnvelopeInvalid("A subflow names a flow that is not there.", errors=missing)
    return {**body, "workflow": {**workflow, "plan": whole}}


def _nodes(plan: Mapping[str, Any]) -> list[Any]:
    nodes = plan.get("nodes")
    return nodes if isinstance(nodes, list) else []


def _names_flow(node: Any) -> bool:
    kind = node.get("kind") if isinstance(node, dict) else None
    return (kind == "subflow" and isinstance(node.get("flow_id"), str)) or (kind == "chat" and _names_tool(node))


def _names_tool(node: Any) -> bool:
    """Say whether a chat names stored flows among its tools."""
    tools = node.get("tools") if isinstance(node, dict) and node.get("kind") == "chat" else None
    return isinstance(tools, list) and any(isinstance(tool, str) and tool.startswith(TOOL) for tool in tools)


async def _tools(
    database: Database, tenant: str, node: Mapping[str, Any], pointer: str, above: tuple[str, ...]
) -> tuple[Any, list[ErrorItem]]:
    """Return a chat whose flows stand in it, instead of being named among its tools."""
    tools, flows_of, missing = [], list(node.get("flows") or ()), []
    for place, tool in enumerate(node["tools"]):
        if not isinstance(tool, str) or not tool.startswith(TOOL):
            tools.append(tool)
            continue
        at = f"{pointer}/tools/{place}"
        flow_id, sign, version = tool.removeprefix(TOOL).partition("@")
        number = int(version) if version.isascii() and version.isdigit() and len(version) < 10 else None
        row = None if sign and number is None else await flows.version(database, tenant, flow_id, number)
        if row is None or flow_id in above or len(above) >= MAX_DEPTH:
            code = FlowVersionNotFound.code if row is None else "flow_cycle"
            why = (
                "There is no such published flow." if row is None else "The flow runs itself, or is too deep in flows."
            )
            missing.append(ErrorItem(at, code, why))
            continue
        document = orjson.loads(row.document_json)
        plan, found = await expand(database, tenant, document["plan"], f"{at}/plan", (*above, flow_id))
        missing += found
        given = document.get("inputs")
        inputs = given if isinstance(given, dict) else {}
        about = str(document.get("description", ""))[:2_000]
        flows_of.append({"name": str(document["name"])[:200], "description": about, "inputs": inputs, "plan": plan})
    return {**node, "tools": tools, "flows": flows_of}, missing


async def _subflow(
    database: Database, tenant: str, node: Mapping[str, Any], pointer: str, above: tuple[str, ...]
) -> tuple[Any, list[ErrorItem]]:
    flow_id, version = node["flow_id"], node.get("version")
    if "plan" in node:
        return node, [ErrorItem(f"{pointer}/flow_id", "ambiguous_subflow", "Give a plan or a flow_id, not both.")]
    if flow_id in above or len(above) >= MAX_DEPTH:
        return node, [ErrorItem(f"{pointer}/flow_id", "flow_cycle", "The flow runs itself, or is too deep in flows.")]
    number = version if isinstance(version, int) and not isinstance(version, bool) else None
    row = await flows.version(database, tenant, flow_id, number)
    if row is None:
        message = "There is no such flow, or it has no such published version."
        return node, [ErrorItem(f"{pointer}/flow_id", FlowVersionNotFound.code, message)]
    inner = _by_name(orjson.loads(row.document_json))
    plan, missing = await expand(database, tenant, inner, f"{pointer}/plan", (*above, flow_id))
    return {name: value for name, value in node.items() if name not in ("flow_id", "version")} | {"plan": plan}, missing


def _by_name(document: Mapping[str, Any]) -> Any:
    """Return a flow's plan with its documents by name: inside of another flow they have other places."""
    needed = document.get("settings", {}).get("documents", [])
    return _renamed(document["plan"], needed) if needed else document["plan"]


def _renamed(value: Any, needed: Sequence[str]) -> Any:
    if isinstance(value, list):
        return [_renamed(each, needed) for each in value]
    if not isinstance(value, dict):
        return value
    renamed = {name: _renamed(each, needed) for name, each in value.items()}
    source = value.get("from")
    if isinstance(source, str) and source.startswith(DOCUMENTS):
        place, slash, below = source[len(DOCUMENTS) :].partition("/")
        if place.isascii() and place.isdigit() and int(place) < len(needed):
            renamed["from"] = f"{DOCUMENTS}{needed[int(place)]}{slash}{below}"
    return renamed


def _named(workflow: Any) -> tuple[str, int | None] | None:
    """Return the flow and version that a workflow names, if that is what it does."""
    if not isinstance(workflow, dict):
        return None
    flow_id = workflow.get("flow_id", workflow.get("flowId"))
    version = workflow.get("version")
    known = {"flow_id", "flowId", "version"}
    if not isinstance(flow_id, str) or not known.issuperset(workflow) or isinstance(version, bool):
        return None
    return (flow_id, version) if version is None or isinstance(version, int) else None


async def _missing(database: Database, principal: Principal, flow_id: str, version: int | None) -> EnvelopeInvalid:
    flow = await flows.get(database, principal.tenant, flow_id)
    if flow is None:
        return EnvelopeInvalid(errors=[ErrorItem("/workflow/flow_id", FlowNotFound.code, "There is no such flow.")])
    what = "It has no published version." if version is None else f"It has no version {version}."
    pointer = "/workflow/flow_id" if version is None else "/workflow/version"
    return EnvelopeInvalid(errors=[ErrorItem(pointer, FlowVersionNotFound.code, what)])


def _context(document: Mapping[str, Any], body: Mapping[str, Any]) -> dict[str, Any]:
    """Return the context of a run with the documents that its flow needs (R1).

    Those come first, in the flow's order: its plan names them by their places.
    """
    settings, given = document.get("settings", {}), body.get("context", {})
    needed = settings.get("documents", [])
    named = given.get("documents", []) if isinstance(given, dict) else None
    if not needed or not isinstance(given, dict) or not isinstance(named, list):
        return {}
    context = {**given, "documents": [*needed, *(each for each in named if each not in needed)]}
    how = settings.get("on_missing_doc")
    if how is not None and not {"on_missing_doc", "onMissingDoc"} & context.keys():
        context["on_missing_doc"] = how
    return {"context": context}


def _check_inputs(document: Mapping[str, Any], inputs: Any) -> None:
    found = compile_schema(document.get("inputs", True)).explain(inputs)
    if found:
        errors = [ErrorItem(f"/inputs{each.pointer}", "input_invalid", each.message) for each in found]
        raise EnvelopeInvalid("The flow does not take these inputs.", errors=errors)


def _of_flow(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return a flow's policies, its deadline among them (T4)."""
    policies = dict(document.get("policies", {}))
    seconds = document.get("settings", {}).get("deadline_seconds")
    if seconds is not None:
        policies["timeouts"] = {"run_seconds": seconds, **(policies.get("timeouts") or {})}
    return policies


def _merged(flow: Mapping[str, Any], caller: Any) -> Any:
    """Return the policies of a run: the flow's hold, the caller's come on top and take nothing back."""
    if not isinstance(caller, dict):
        return caller
    merged = {**caller, **flow}
    for name in LISTS:
        both = [*_items(flow, name), *_items(caller, name)]
        if both:
            merged[name] = both
    return merged


def _items(policies: Mapping[str, Any], name: str) -> list[Any]:
    items = policies.get(name)
    return items if isinstance(items, list) else []
