"""Stored flows and groups among an agent's tools, put into the plan that calls the agent (R2, W2).

As with a chat's, what runs is resolved once, when the run is accepted: a later publication changes no run. Flows belong
to a tenant and the agents folder to all of them, so whether a flow is there is known only then.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from contracts.agents import FolderFlows
from contracts.capability import CapabilityDirectory
from contracts.descent import MAX_DEPTH
from contracts.errors import EnvelopeInvalid, ErrorItem, FlowVersionNotFound
from service.resolving import TOOL, Resolved, expand
from store import flows
from store.connect import Database

PLAN: Final = "/workflow/plan"


async def with_agent_flows(
    resolved: Resolved, database: Database, tenant: str, directory: CapabilityDirectory, folder: FolderFlows
) -> Resolved:
    """Return the body with the flows of every agent that its plan calls, if one has some.

    Raises ``EnvelopeInvalid`` at the node whose agent names a flow that the tenant does not have, or that would run
    itself (``flow_cycle``).
    """
    catalogue = directory.catalogue()
    workflow = resolved.body.get("workflow") if isinstance(resolved.body, dict) else None
    plan = workflow.get("plan") if isinstance(workflow, dict) else None
    if not catalogue.calls_flows or not isinstance(workflow, dict) or not isinstance(plan, dict):
        return resolved
    named = {spec.capability_id: spec.flows for spec in catalogue.capabilities if spec.flows}
    filling = _Filling(database, tenant, folder, named)
    whole = await filling.plan(plan, PLAN, ())
    if filling.missing:
        raise EnvelopeInvalid("An agent has flows called that cannot be.", errors=filling.missing)
    return Resolved({**resolved.body, "workflow": {**workflow, "plan": whole}}, resolved.workflow, resolved.origin)


@dataclass(slots=True)
class _Filling:
    """Walks a plan and everything inside it. ``named`` is agent → the flows among its tools."""

    database: Database
    tenant: str
    folder: FolderFlows
    named: Mapping[str, tuple[str, ...]]
    missing: list[ErrorItem] = field(default_factory=list)

    async def plan(self, plan: Any, at: str, above: tuple[str, ...]) -> Any:
        """Return a plan whose nodes have their agents' flows; ``above`` are the flows that it is inside of."""
        nodes = plan.get("nodes") if isinstance(plan, dict) else None
        if not isinstance(nodes, list):
            return plan
        whole = [await self._node(node, f"{at}/nodes/{place}", above) for place, node in enumerate(nodes)]
        return {**plan, "nodes": whole}

    async def _node(self, node: Any, at: str, above: tuple[str, ...]) -> Any:
        if not isinstance(node, dict):
            return node
        whole = dict(node)
        if "node" in node:
            whole["node"] = await self._node(node["node"], f"{at}/node", above)
        if "plan" in node:
            whole["plan"] = await self.plan(node["plan"], f"{at}/plan", above)
        if isinstance(node.get("flows"), list):
            given = [each for each in node["flows"] if isinstance(each, dict)]
            whole["flows"] = [{**each, "plan": await self.plan(each.get("plan"), at, above)} for each in given]
        capability_id = node.get("capability_id")
        if isinstance(capability_id, str) and capability_id in self.named:
            tools = [await self._flow(tool, at, above) for tool in self.named[capability_id]]
            whole["flows"] = [tool for tool in tools if tool is not None]
        return whole

    async def _flow(self, tool: str, at: str, above: tuple[str, ...]) -> dict[str, Any] | None:
        """Return a flow as a tool, with everything inside it; None when it is among what is missing."""
        flow_id, _, version = tool.removeprefix(TOOL).partition("@")
        document = await self._document(flow_id, int(version) if version else None)
        if document is None or flow_id in above or len(above) >= MAX_DEPTH:
            code, why = ("flow_cycle", "runs itself, or is too deep in flows")
            if document is None:
                code, why = FlowVersionNotFound.code, "is not there"
            self.missing.append(ErrorItem(f"{at}/capability_id", code, f"The agent's tool {tool} {why}."))
            return None
        expanded, missing = await expand(self.database, self.tenant, document["plan"], at, (*above, flow_id))
        self.missing += missing
        inputs, about = document.get("inputs"), str(document.get("description", ""))[:2_000]
        return {
            "name": str(document["name"])[:200],
            "description": about,
            "inputs": inputs if isinstance(inputs, dict) else {},
            "plan": await self.plan(expanded, at, (*above, flow_id)),
        }

    async def _document(self, flow_id: str, version: int | None) -> Mapping[str, Any] | None:
        """Return a group of the folder, or a published version of a flow of this tenant."""
        filed = self.folder.document(flow_id) if version is None else None
        if filed is not None:
            return filed
        row = await flows.version(self.database, self.tenant, flow_id, version)
        return None if row is None else orjson.loads(row.document_json)
