"""Envelopes with plans of their own: every node is one whose calls can be counted."""

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

Json = dict[str, Any]


def call(node_id: str, effects: str = "none", *, gate: str | None = None, **more: Any) -> Json:
    """A step of the given effects; with a gate it does not end before the gate is open.

    Whether a ``once`` step that a crash cut off happened is asked when its time is over, so that is short.
    """
    if effects == "once":
        more.setdefault("timeout_seconds", 1.5)
    inputs = {"gate": {"value": gate}} if gate is not None else {}
    return {"node_id": node_id, "kind": "call", "capability_id": f"step.{effects}", "inputs": inputs, **more}


def ask(node_id: str = "ok") -> Json:
    """A question in the middle of the plan."""
    return {"node_id": node_id, "kind": "ask", "prompt": {"kind": "approval", "question": "Go on?"}}


def envelope(nodes: Sequence[Json], edges: Sequence[tuple[str, str]], **policies: Any) -> Json:
    """An envelope whose plan is these nodes; its answer is the last node's output."""
    plan = {
        "nodes": list(nodes),
        "edges": [{"from": one, "to": other} for one, other in edges],
        "output": {"mode": "map", "map": {"": {"node_id": nodes[-1]["node_id"], "pointer": ""}}},
    }
    return {
        "objective": "Do the steps",
        "output_contract": {"schema": {"type": ["object", "null"]}},
        "workflow": {"plan": plan},
        **({"policies": policies} if policies else {}),
    }


def chain(*nodes: Json, **policies: Any) -> Json:
    """One node after the other."""
    ids = [node["node_id"] for node in nodes]
    return envelope(nodes, list(pairwise(ids)), **policies)


def mixed() -> Json:
    """A chain with every sort of effect around a question, and a branch beside it that goes on meanwhile."""
    nodes = [
        call("first"),
        call("second", "idempotent"),
        call("third", "once"),
        ask(),
        call("fourth"),
        call("beside"),
        call("beside_too", "idempotent"),
        call("last", "once"),
    ]
    edges = [
        ("first", "second"), ("second", "third"), ("third", "ok"), ("ok", "fourth"), ("fourth", "last"),
        ("first", "beside"), ("beside", "beside_too"), ("beside_too", "last"),
    ]  # fmt: skip
    return envelope(nodes, edges)
