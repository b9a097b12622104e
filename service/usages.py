"""Which stored flows a plan names: as subflows, and among the tools of its chats (W2)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from contracts.flow_capability import FLOW_PREFIX
from store.flow_usages import UseRow

SUBFLOW: Final = "subflow"
TOOL: Final = "tool"


def uses_of(user_kind: Literal["flow", "template"], user_id: str, tenant: str, plan: Any) -> list[UseRow]:
    """Return the nodes of a plan, as it is stored, that run stored flows, each flow once per node and way."""
    found: dict[tuple[str, str, str], UseRow] = {}
    nodes = plan.get("nodes") if isinstance(plan, Mapping) else None
    for node in nodes if isinstance(nodes, list) else ():
        for flow_id, via, version in _named(node) if isinstance(node, Mapping) else ():
            use = UseRow(user_id, str(node.get("node_id")), flow_id, via, tenant, user_kind, version)
            found.setdefault((use.node_id, flow_id, via), use)
    return list(found.values())


def _named(node: Mapping[str, Any]) -> Iterator[tuple[str, str, int | None]]:
    flow_id, version, tools = node.get("flow_id"), node.get("version"), node.get("tools")
    if node.get("kind") == SUBFLOW and isinstance(flow_id, str):
        yield flow_id, SUBFLOW, version if type(version) is int else None
    if node.get("kind") == "chat" and isinstance(tools, list):
        for tool in tools:
            if isinstance(tool, str) and tool.startswith(FLOW_PREFIX):
                name, _, number = tool.removeprefix(FLOW_PREFIX).partition("@")
                yield name, TOOL, int(number) if number.isascii() and number.isdigit() and len(number) < 10 else None
