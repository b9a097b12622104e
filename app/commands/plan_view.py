"""A plan and its reasons, for people: pure (F4; wire §3)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from rich.text import Text
from rich.tree import Tree

from app.commands.text import clean, compact, duration, line


def plan_tree(plan: Mapping[str, Any]) -> Tree:
    """Return the plan as a tree: each node under the first one it waits for, with what it reads and why."""
    tree = Tree(
        Text(f"plan {plan['plan_version']} ({clean(plan['strategy'])}, {plan['plan_hash'][:12]})", style="bold")
    )
    nodes = {node["node_id"]: node for node in plan["nodes"]}
    branches: dict[str, Tree] = {}
    for node_id, parents in _in_order(nodes, plan["edges"]):
        under = branches[parents[0]] if parents else tree
        branches[node_id] = under.add(_title(nodes[node_id], parents[1:]))
        for text in _details(nodes[node_id]):
            branches[node_id].add(Text(text, style="dim"))
    return tree


def _in_order(nodes: Mapping[str, Any], edges: Sequence[Mapping[str, Any]]) -> Iterator[tuple[str, list[str]]]:
    """Yield node ids, predecessors first, each with its predecessors; a cycle's nodes come last, without any."""
    before = {name: [edge["from"] for edge in edges if edge["to"] == name and edge["from"] in nodes] for name in nodes}
    done: set[str] = set()
    while waiting := [name for name in nodes if name not in done]:
        ready = [name for name in waiting if done.issuperset(before[name])]
        for name in ready or waiting:
            done.add(name)
            yield name, before[name] if ready else []


def _title(node: Mapping[str, Any], others: Sequence[str]) -> Text:
    text = Text(clean(node["node_id"]), style="bold cyan")
    what = node.get("capability_id") or node.get("policy_id")
    text.append(f"  {clean(node['kind'])}{f' {clean(what)}' if what else ''}", style="not bold")
    if others:
        text.append(f"  (also after {', '.join(map(clean, others))})", style="not bold dim")
    return text


def _details(node: Mapping[str, Any]) -> Iterator[str]:
    for name, bound in (node.get("inputs") or {}).items():
        yield f"{clean(name)} ← {_source(bound)}"
    for reason in node.get("rationale") or ():
        yield f"because: {line(reason)}"


def _source(bound: Mapping[str, Any]) -> str:
    if "from" in bound:
        return clean(bound["from"])
    if "node_id" in bound:
        return clean(f"{bound['node_id']}{bound.get('pointer', '')}")
    return compact(bound.get("value"), 60)


def plan_notes(plan: Mapping[str, Any]) -> list[str]:
    """Return what else is worth knowing: goals and what types prove of them, the answer's parts, what stays unused."""
    notes = [_goal(goal) for goal in plan.get("goals") or ()]
    for pointer, bound in plan["output"]["map"].items():
        notes.append(f"answer {pointer or '(whole)'} ← {_source(bound)}")
    if plan.get("unused_inputs"):
        notes.append(f"not used: {', '.join(map(clean, plan['unused_inputs']))}")
    estimate = plan.get("estimate") or {}
    notes.append(
        f"estimate: {duration(estimate.get('latency_ms', 0))}, {estimate.get('tokens', 0)} tokens, "
        f"cost {estimate.get('cost', 0):g}"
    )
    return notes


def _goal(goal: Mapping[str, Any]) -> str:
    where = clean(goal["pointer"]) or "(whole)"
    if goal["verdict"] == "fits":
        return f"goal {where}: {clean(goal.get('facet') or 'structured')}; its type proves that it fits"
    unproved = ", ".join(map(clean, goal.get("unproved") or ()))
    checked = f": {unproved}" if unproved else ""
    return f"goal {where}: {clean(goal.get('facet') or 'structured')}; checked at run time{checked}"


def finding_lines(findings: Iterable[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Return (text, style) per finding and per remedy."""
    lines = []
    for item in findings:
        where = item.get("node_id") or item.get("pointer")
        at = f" at {clean(where)}" if where else ""
        style = "yellow" if item.get("severity") == "warning" else "red"
        lines.append((f"{clean(item.get('code', ''))}{at}: {line(item.get('message', ''))}", style))
        if item.get("fix"):
            lines.append((f"  try: {line(item['fix'])}", "yellow"))
    return lines


def next_steps(findings: Iterable[Mapping[str, Any]]) -> list[str]:
    """Return what a person can do about a refusal: what the findings speak of first, then what always helps."""
    codes = {str(item.get("code")) for item in findings}
    steps = []
    if "no_structurer" in codes:
        steps.append(
            "Let a model write what no capability yields: set FLEX_MODEL_BASE_URL and FLEX_MODEL, then try again."
        )
    if codes & {"missing_facet", "input_mismatch", "unserved"}:
        steps.append("Give what is missing in the envelope, as an input or a bundle of that name.")
    steps.append('Let a person provide it: "policies": {"planner": {"selection": {"humans": "last_resort"}}}.')
    steps.append("Add a capability that yields it: --capabilities FILE.py (`flex capabilities` lists what is there).")
    return steps
