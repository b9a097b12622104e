"""Small random plans: acyclic, with branches, maps, joins, questions and an output gate now and then."""

from __future__ import annotations

import random
from typing import Any

from contracts.plan import PlanGraph

EnvelopeJson = dict[str, Any]
KINDS = (
    "call", "call", "call", "call", "branch", "map", "join", "ask", "delay", "wait", "loop", "subflow",
    "memory", "variable", "chat", "chat",
)  # fmt: skip
HANDLED = ("call", "ask", "delay", "wait", "subflow", "memory")
INNER = ("call", "call", "ask", "delay", "subflow")
FALLBACKS = ("abort", "hitl", "retry", "replan", "continue")


def random_envelope(chance: random.Random) -> EnvelopeJson:
    """An envelope whose contract the composed answer fits, or breaks as a whole (so that people are asked)."""
    schema: Any = chance.choice([True, True, {"required": ["zz"]}])
    rule = {"id": "again", "trigger": {"type": "on_validation_fail"}, "action": {"type": "replan"}}
    return {
        "objective": "x",
        "output_contract": {"mode": "json_schema", "schema": schema},
        "policies": {
            "concurrency": chance.choice([1, 2, 8]),
            "retry": {"max_attempts": 2, "base_ms": 10, "max_ms": 100},
            "timeouts": {"run_seconds": 86_400.0, "node_seconds": 60.0},
            "budget": {"human_asks": chance.choice([1, 50])}
            | ({"wall_seconds": 90.0} if chance.random() < 0.1 else {}),
            "hitl": [
                {"id": "gate", "when": "output"},
                *({"id": f"calls_{when}", "when": when} for when in ("before", "after") if chance.random() < 0.3),
            ],
            "runtime": [rule] if chance.random() < 0.3 else [],
            "on_output_invalid": chance.choice(["ask", "ask", "fail"]),
        },
    }


def random_plan(chance: random.Random) -> PlanGraph:
    """A plan of one to seven nodes, sealed."""
    many = chance.randrange(1, 8)
    names = [f"n{number}" for number in range(many)]
    edges: list[dict[str, Any]] = []
    for place, name in enumerate(names[1:], 1):
        chosen = chance.sample(names[:place], chance.randrange(min(3, place + 1)))
        edges += [{"from": before, "to": name, "condition": None} for before in chosen]
    nodes = [_node(chance, name, [edge["to"] for edge in edges if edge["from"] == name]) for name in names]
    for edge in edges:
        if chance.random() < 0.1 and not _leads(nodes, edge["from"]):
            edge["condition"] = chance.choice(["true", "false"])
    if chance.random() < 0.3:
        _handle(chance, nodes, edges)
    if chance.random() < 0.3:
        sinks = [name for name in names if name not in {edge["from"] for edge in edges}]
        sinks += [node["node_id"] for node in nodes if node["kind"] == "error_handler" and not _after(edges, node)]
        nodes.append({"node_id": "gate", "kind": "ask", "policy_id": "gate", "guards": "output"})
        edges += [{"from": name, "to": "gate", "condition": None} for name in sinks]
    output = {"mode": "map", "map": {"/x": {"node_id": names[-1], "pointer": ""}}}
    return PlanGraph.model_validate({"nodes": nodes, "edges": edges, "output": output}).sealed()


def _handle(chance: random.Random, nodes: list[dict[str, Any]], edges: list[dict[str, Any]]) -> None:
    """Let a handler stand in for one of the nodes, before all that comes after that."""
    targets = [node["node_id"] for node in nodes if node["kind"] in HANDLED]
    if not targets:
        return
    target = chance.choice(targets)
    after = [edge for edge in edges if edge["from"] == target]
    codes = {"codes": ["broken", "prompt_expired"]} if chance.random() < 0.3 else {}
    nodes.append({"node_id": "h", "kind": "error_handler", "handles": target, "node": _inner(chance)} | codes)
    edges += [edge | {"from": "h"} for edge in after]
    edges.append({"from": target, "to": "h", "condition": None})


def _after(edges: list[dict[str, Any]], node: dict[str, Any]) -> list[dict[str, Any]]:
    return [edge for edge in edges if edge["from"] == node["node_id"]]


def changed_plan(chance: random.Random, old: PlanGraph, done: set[str]) -> PlanGraph:
    """Another plan for the same run: what is done stays (now and then it does not), the rest is drawn again."""
    nodes = []
    for node in old.nodes:
        shown = node.model_dump(mode="json", exclude_unset=True)
        after = [edge.to for edge in old.edges if edge.from_ == node.node_id]
        keeps = node.node_id == "gate" or (node.node_id in done and chance.random() < 0.98)
        nodes.append(shown if keeps else _node(chance, node.node_id, after))
    edges = [edge.model_dump(mode="json") for edge in old.edges]
    for edge in edges:
        if _leads(nodes, edge["from"]):
            edge["condition"] = None
    if chance.random() < 0.5:
        nodes.append(_node(chance, f"m{len(nodes)}", []))
    output = old.output.model_dump(mode="json", exclude_unset=True)
    return PlanGraph.model_validate({"nodes": nodes, "edges": edges, "output": output}).sealed()


def _leads(nodes: list[dict[str, Any]], name: str) -> bool:
    return any(node["node_id"] == name and node["kind"] == "branch" for node in nodes)


def _node(chance: random.Random, name: str, after: list[str]) -> dict[str, Any]:
    kind = chance.choice(KINDS)
    node: dict[str, Any] = {"node_id": name, "kind": kind}
    if kind == "call":
        node |= _call(chance)
    elif kind == "branch":
        side = [target for target in after if chance.random() < 0.5]
        node |= {"condition": "true", "then": side, "else": [target for target in after if target not in side]}
    elif kind == "map":
        inner = _inner(chance)
        node |= {
            "over": {"value": list(range(chance.randrange(4)))},
            "as": "v",
            "node": inner,
            "concurrency": chance.choice([1, 2]),
        }
    elif kind == "join":
        node["wait"] = chance.choice(["all", "any"])
    elif kind == "loop":
        node |= _loop(chance, name)
    elif kind == "subflow":
        node |= _subflow(chance)
    elif kind == "chat":
        node |= {"fallback": chance.choice(FALLBACKS), "max_attempts": chance.choice([1, 2])}
    elif kind == "delay":
        node["seconds"] = chance.choice([0, 0.5, 30])
    elif kind == "memory":
        node |= {"op": "get", "scope": "shared:x", "key": "k", "fallback": chance.choice(FALLBACKS)}
    elif kind == "variable":
        node["default"] = 1
    elif kind == "wait":
        node |= {"timeout_seconds": 40.0} if chance.random() < 0.5 else {}
        node |= {"on_timeout": chance.choice(["fail", "continue"]), "fallback": chance.choice(FALLBACKS)}
    else:
        node["prompt"] = {"question": "?"}
    return node


def _call(chance: random.Random) -> dict[str, Any]:
    return {
        "capability_id": chance.choice(["one", "two"]),
        "effects": chance.choice(["none", "none", "once"]),
        "fallback": chance.choice(FALLBACKS),
        "max_attempts": chance.choice([1, 2]),
    }


def _inner(chance: random.Random) -> dict[str, Any]:
    """A node that runs inside another one."""
    kind = chance.choice(INNER)
    more: dict[str, Any] = {"prompt": {"question": "?"}}
    if kind == "call":
        more = _call(chance)
    elif kind == "delay":
        more = {"seconds": chance.choice([0, 0.5])}
    elif kind == "subflow":
        more = _subflow(chance)
    return {"kind": kind} | more


def _loop(chance: random.Random, name: str) -> dict[str, Any]:
    """A loop of at most three rounds, and sometimes of none."""
    ends = chance.choice([{"until": f"nodes.{name}.iteration >= 2"}, {"while": f"nodes.{name}.iteration < 2"}])
    ends = ends if chance.random() < 0.8 else {"until": "false"}
    given = {"initial": {"value": 7}} if chance.random() < 0.5 else {}
    exhausted = chance.choice(["fail", "complete"])
    bounds = {"max_iterations": chance.choice([1, 3]), "collect": chance.random() < 0.5, "on_exhausted": exhausted}
    return {"as": "v", "node": _inner(chance), "fallback": chance.choice(FALLBACKS)} | ends | given | bounds


def _subflow(chance: random.Random) -> dict[str, Any]:
    """A child run; what it does is made up."""
    inside = {"nodes": [{"node_id": "j", "kind": "join"}], "output": {"mode": "map", "map": {"": {"node_id": "j"}}}}
    return {"plan": inside, "fallback": chance.choice(FALLBACKS), "max_attempts": chance.choice([1, 2])}
