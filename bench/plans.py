"""The plans that the benchmark submits."""

from __future__ import annotations

from itertools import pairwise
from typing import Any


def envelope(plan: dict[str, Any], **more: Any) -> dict[str, Any]:
    """Return an envelope that runs a submitted plan; any answer fits."""
    return {"objective": "bench", "output_contract": {"schema": True}, "workflow": {"plan": plan}, **more}


def _call(node_id: str, source: str | None = None, capability: str = "bench.noop") -> dict[str, Any]:
    inputs = {"value": {"node_id": source, "pointer": ""}} if source else {"value": {"value": 1}}
    return {"node_id": node_id, "kind": "call", "capability_id": capability, "inputs": inputs}


def _plan(nodes: list[dict[str, Any]], edges: list[tuple[str, str]], last: str) -> dict[str, Any]:
    return {
        "nodes": nodes,
        "edges": [{"from": start, "to": end} for start, end in edges],
        "output": {"map": {"": {"node_id": last, "pointer": ""}}},
    }


def chain(length: int) -> dict[str, Any]:
    """Return ``length`` no-ops, each reading the one before."""
    nodes = [_call(f"n{i}", f"n{i - 1}" if i else None) for i in range(length)]
    return _plan(nodes, [(f"n{i}", f"n{i + 1}") for i in range(length - 1)], f"n{length - 1}")


def fan(width: int) -> dict[str, Any]:
    """Return 1 → ``width`` → 1."""
    middle = [f"b{i}" for i in range(width)]
    nodes = [_call("a"), *[_call(name, "a") for name in middle], _call("z", middle[0])]
    return _plan(nodes, [*[("a", name) for name in middle], *[(name, "z") for name in middle]], "z")


def asked_chain(before: int, after: int) -> dict[str, Any]:
    """Return no-ops, a question to people, then a node that marks its start and more no-ops."""
    names = [*[f"n{i}" for i in range(before)], "ask", "mark", *[f"m{i}" for i in range(after)]]
    nodes = [_call(name) for name in names]
    ask = {"node_id": "ask", "kind": "ask", "prompt": {"kind": "approval", "question": "Go on?", "proposed": 1}}
    nodes[before] = ask
    nodes[before + 1] = _call("mark", None, "bench.mark")
    return _plan(nodes, list(pairwise(names)), "mark")
