"""Random envelopes with plans of their own: every kind of node, every sort of trouble, small enough to read."""

from __future__ import annotations

import random
from typing import Any

from contracts.clock import rfc3339
from contracts.errors import FlexError
from contracts.ports import Planned
from service.intake import admit
from tests.simulation import abilities
from tests.simulation.ports import EPOCH_MS

Json = dict[str, Any]
KINDS = (
    *("call",) * 11, "branch", "branch", "map", "map", "join", "join", "ask", "ask", "transform", "delay", "wait",
    "loop", "subflow",
)  # fmt: skip
CALLS = ("sim.none", "sim.none", "sim.far", "sim.idempotent", "sim.once")
FALLBACKS = ("abort", "abort", "hitl", "retry", "replan", "continue")
ANSWER = {"type": "object", "required": ["by", "ok", "list"]}
WHOLE = {"required": ["last"], "properties": {"last": {"required": ["mended"]}}}
"""A contract that no call meets: people have to mend the whole answer."""


def random_envelope(chance: random.Random) -> Json:
    """An envelope that the service accepts; what it refuses is drawn again."""
    while True:
        body = _envelope(chance)
        try:
            admitted = admit(body, abilities.registry())
        except FlexError:
            continue
        if isinstance(abilities.planner().plan(admitted.envelope), Planned):
            return body


def _envelope(chance: random.Random) -> Json:
    seconds = chance.choice([1.0, 3.0, 10.0])
    schema = chance.choice([True, True, True, WHOLE])
    budget: Json = {"human_asks": chance.choice([2, 50])}
    if chance.random() < 0.05:
        budget["wall_seconds"] = chance.choice([2.0, 20.0])
    return {
        "objective": "Do it",
        "output_contract": {"mode": "json_schema", "schema": schema},
        "workflow": {"plan": random_plan(chance, seconds)},
        "policies": {
            "concurrency": chance.choice([1, 2, 8]),
            "retry": {
                "max_attempts": chance.choice([1, 2, 3]),
                "base_ms": chance.choice([0, 50, 400]),
                "max_ms": 1_000,
            },
            "timeouts": {"run_seconds": chance.choice([12.0, 300.0, 300.0]), "node_seconds": seconds},
            "budget": budget,
            "hitl": _gates(chance),
            "runtime": _rules(chance),
            "on_output_invalid": chance.choice(["ask", "ask", "fail"]),
        },
    } | ({"start_at": _time(chance.random() * 5)} if chance.random() < 0.08 else {})


def _time(seconds: float) -> str:
    """Return a time of the simulation, ``seconds`` after its beginning."""
    return rfc3339(EPOCH_MS + round(seconds * 1_000))


def _gates(chance: random.Random) -> list[Json]:
    """Gates now and then: on the whole answer, before or after calls, on the plan."""
    rules = []
    for when in ("output", "before", "after", "plan"):
        if chance.random() < 0.12:
            rule: Json = {"id": f"gate_{when}", "when": when} | _timing(chance)
            if when in ("before", "after"):
                rule["selector"] = {"capability_id": chance.choice(CALLS)}
            rules.append(rule)
    return rules


def _rules(chance: random.Random) -> list[Json]:
    """Rules that are watched while the run goes on; one may be fired by hand."""
    rules: list[Json] = []
    for number, trigger in enumerate(("on_start", "on_node_complete", "on_validation_fail", "on_timeout")):
        if chance.random() < 0.08:
            rules.append({"id": f"rule_{number}", "trigger": {"type": trigger}, "action": _action(chance)})
    if chance.random() < 0.15:
        rules.append({"id": "by_hand", "trigger": {"type": "manual"}, "action": _action(chance)})
    return rules


def _action(chance: random.Random) -> Json:
    return {"type": chance.choice(["replan", "hitl", "hitl", "pause", "emit", "fail"])}


def _timing(chance: random.Random) -> Json:
    """Who, how many, and until when."""
    timing: Json = {"quorum": chance.choice([1, 1, 1, 2]), "veto": chance.random() < 0.8}
    if chance.random() < 0.2:
        timing["assignees"] = {"users": ["user:ana", "user:ben"]}
    if chance.random() < 0.1:
        timing["exclude_requester"] = True
    if chance.random() < 0.2:
        timing["remind_seconds"] = [0.5, 4.0]
    if chance.random() < 0.35:
        timing["due_seconds"] = chance.choice([0.5, 3.0, 8.0])
        timing["on_timeout"] = chance.choice(["wait", "approve", "reject", "fail", "escalate"])
    if timing.get("on_timeout") == "escalate":
        step = {"assignees": {"roles": ["admin"]}, "due_seconds": 1.5}
        timing["escalation"] = [step] * chance.choice([1, 2])
        timing["after_escalation"] = chance.choice(["wait", "approve", "reject", "fail"])
    return timing


def random_plan(chance: random.Random, seconds: float, most: int = 7) -> Json:
    """A plan of one to seven nodes; ``seconds`` is how long an attempt may take."""
    many = chance.randint(1, most)
    names = [f"n{number}" for number in range(many)]
    before: dict[str, list[str]] = {name: [] for name in names}
    for place, name in enumerate(names[1:], 1):
        before[name] = chance.sample(names[:place], min(place, chance.choice([0, 1, 1, 1, 2, 3])))
    kinds = {name: chance.choice(KINDS) for name in names}
    edges = [_edge(chance, start, name, kinds) for name in names for start in before[name]]
    nodes = [
        _node(chance, seconds, name, kinds, before[name], [edge["to"] for edge in edges if edge["from"] == name])
        for name in names
    ]
    edges = [edge for edge in edges if kinds[edge["from"]] != "branch"]
    output = {"mode": "map", "map": {"/last": {"node_id": names[-1], "pointer": ""}}}
    return {"nodes": nodes, "edges": edges, "output": output}


def _edge(chance: random.Random, start: str, end: str, kinds: dict[str, str]) -> Json:
    edge: Json = {"from": start, "to": end}
    if kinds[start] == "call" and chance.random() < 0.15:
        edge["condition"] = f'nodes["{start}"].ok'
    return edge


def _node(
    chance: random.Random, seconds: float, name: str, kinds: dict[str, str], before: list[str], after: list[str]
) -> Json:
    node: Json = {"node_id": name, "kind": kinds[name]}
    match kinds[name]:
        case "call":
            node |= _call(chance, seconds, [one for one in before if kinds[one] != "branch"])
        case "branch":
            then = [target for target in after if chance.random() < 0.5]
            node |= {"condition": chance.choice(["true", "false"]), "then": then}
            node["else"] = [target for target in after if target not in then]
        case "map":
            node |= _map(chance, seconds, [one for one in before if kinds[one] == "call"])
        case "join":
            node["wait"] = chance.choice(["all", "any"])
        case "ask":
            node["prompt"] = _prompt(chance)
        case "delay" | "wait" | "loop" | "subflow":
            node |= _waiting(chance, seconds, name, kinds[name])
        case "transform":
            node["expression"] = '{"by": "transform", "ok": true, "list": [1]}'
    return node


def _waiting(chance: random.Random, seconds: float, name: str, kind: str) -> Json:
    """A node that waits for something else than people."""
    match kind:
        case "delay":
            return {"seconds": chance.choice([0, 0.05, 1.2, 4.0])}
        case "wait":
            timeout = {"timeout_seconds": chance.choice([0.5, 4.0])} if chance.random() < 0.5 else {}
            return {"on_timeout": chance.choice(["fail", "continue"])} | timeout
        case "loop":
            often = chance.choice([1, 2, 3])
            return {
                "node": {"kind": "call", **_call(chance, seconds, [])},
                "as": "item",
                "until": f'nodes["{name}"].iteration >= {often}',
                "max_iterations": chance.choice([2, 3]),
                "collect": chance.random() < 0.5,
                "on_exhausted": chance.choice(["fail", "complete"]),
            }
        case _:
            return {"plan": random_plan(chance, seconds, most=2)}


def _call(chance: random.Random, seconds: float, before: list[str]) -> Json:
    """A call; what it does to the world it does before its time is over, its answer may come too late."""
    script = (
        ["ok"] if chance.random() < 0.6 else [chance.choice(abilities.WORDS) for _ in range(chance.choice([1, 2, 3]))]
    )
    inputs: Json = {"script": {"value": script}, "seconds": {"value": chance.choice([0, 0.02, 1.5])}}
    inputs["lands"] = {"value": chance.choice([0, 0.02, 0.2, 0.9 * seconds])}
    if before and chance.random() < 0.7:
        inputs["up"] = {"node_id": chance.choice(before), "pointer": ""}
    return {
        "capability_id": chance.choice(CALLS),
        "inputs": inputs,
        "fallback": chance.choice(FALLBACKS),
    }  # fmt: skip


def _map(chance: random.Random, seconds: float, before: list[str]) -> Json:
    over: Json = {"value": list(range(chance.randrange(4)))}
    if before and chance.random() < 0.5:
        over = {"node_id": chance.choice(before), "pointer": "/list"}
    return {
        "over": over,
        "as": "item",
        "node": {"kind": "call", **_call(chance, seconds, [])},
        "concurrency": chance.choice([1, 2, 8]),
    }  # fmt: skip


def _prompt(chance: random.Random) -> Json:
    kind = chance.choice(["approval", "question", "question", "choice"])
    prompt: Json = {"kind": kind, "question": "Well?"} | _timing(chance)
    if kind == "approval":
        prompt["proposed"] = {"by": "plan", "ok": True, "list": []}
    prompt["answer_schema"] = ANSWER
    return prompt
