"""Gates: the places where policies ask people, put into a finished plan (R8, H5).

A gate is an ``ask`` node. ``plan`` comes before every root, ``before`` binds its target's inputs, ``after`` passes on
its target's output to every consumer, ``output`` comes after every sink. They come last: nothing is planned after them.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import count
from typing import Any, Final, TypeVar

from contracts.envelope import HitlRule, Selector
from contracts.expressions import compile_cel, rename_node
from contracts.plan import Binding, Edge, Finding, KindTable, OutputMap, PlanNode
from contracts.wire import pointer_of

_DEFAULT_KINDS: Final = frozenset({"call", "structure"})
_LONGEST_ID: Final = 64
_Key = tuple[str, str, str | None]
GatePlace = tuple[str | None, str | None, str | None]
"""A gate's policy, what it guards, and its target."""


def place_of(node: PlanNode) -> GatePlace:
    """Return where a gate stands."""
    return node.own.get("policy_id"), node.own.get("guards"), node.own.get("target")


@dataclass(slots=True)
class Gated:
    """A plan's graph while gates are put into it."""

    kinds: KindTable
    nodes: dict[str, PlanNode]
    output: OutputMap
    edges: dict[_Key, Edge] = field(default_factory=dict)
    ins: dict[str, dict[_Key, Edge]] = field(default_factory=dict)
    outs: dict[str, dict[_Key, Edge]] = field(default_factory=dict)
    tails: dict[str, str] = field(default_factory=dict)
    """target → the last gate after it"""
    entries: dict[str, str] = field(default_factory=dict)
    """target → the first gate before it"""
    chained: set[str] = field(default_factory=set)
    """gates that show a target's own output"""
    findings: list[Finding] = field(default_factory=list)
    known: Mapping[GatePlace, str] = field(default_factory=dict)
    """names that gates had in the plan before this one, and keep"""
    taken: frozenset[str] = frozenset()
    """names that are somebody else's"""
    tools: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """capability → the capabilities that it has called by itself"""

    def add(self, start: str, end: str, condition: str | None = None) -> None:
        """Add an edge."""
        key = (start, end, condition)
        edge = Edge(from_=start, to=end, condition=condition)
        self.edges[key] = self.outs.setdefault(start, {})[key] = self.ins.setdefault(end, {})[key] = edge

    def remove(self, key: _Key) -> None:
        """Remove an edge."""
        del self.edges[key], self.outs[key[0]][key], self.ins[key[1]][key]

    def sinks(self) -> list[str]:
        """Return the nodes that end the plan; one that only its handler follows ends it when it has not failed."""
        handled = handled_by(self.nodes.values(), self.kinds)
        ways = {name: {edge.to for edge in self.outs.get(name, {}).values()} for name in self.nodes}
        return [name for name, after in ways.items() if after <= {handled.get(name)}]

    def gate(self, rule: HitlRule, target: str | None, inputs: Mapping[str, Binding]) -> str:
        """Add the gate's node and return its id: the one it had, else the rule's, with a number when that is taken."""
        node_id = self.known.get((rule.id, rule.when, target), "")
        if not node_id or node_id in self.nodes:
            node_id = free_id(rule.id, self.nodes, self.taken)
        node: dict[str, Any] = {"node_id": node_id, "kind": "ask", "inputs": dict(inputs)}
        node |= {"policy_id": rule.id, "guards": rule.when} | ({} if target is None else {"target": target})
        self.nodes[node_id] = PlanNode.model_validate(node)
        return node_id


def handled_by(nodes: Iterable[PlanNode], kinds: KindTable) -> dict[str, str]:
    """Return target → the node that stands in for it when it has failed."""
    found = {}
    for node in nodes:
        spec = kinds.get(node.kind)
        # Reading the fields of every node of a long plan would take its time.
        if spec is not None and "handles" in node.own:
            target = spec.handles(spec.fields.model_validate(node.own))
            if target is not None:
                found[target] = node.node_id
    return found


def free_id(wanted: str, *taken: Container[str]) -> str:
    """Return ``wanted``, or the first of ``wanted_2``, ``wanted_3`` … that is free; at most 64 characters."""
    if not any(wanted in names for names in taken):
        return wanted
    for number in count(2):
        name = f"{wanted[: _LONGEST_ID - len(str(number)) - 1]}_{number}"
        if not any(name in names for names in taken):
            return name
    raise AssertionError("there is always another number")


def place_gates(
    rules: Sequence[HitlRule],
    kinds: KindTable,
    nodes: Sequence[PlanNode],
    edges: Sequence[Edge],
    output: OutputMap,
    *,
    known: Mapping[GatePlace, str] | None = None,
    taken: frozenset[str] = frozenset(),
    tools: Mapping[str, Sequence[str]] | None = None,
) -> Gated:
    """Return the graph with the gates of every rule; those that are already there are left alone.

    ``known`` gives gates the names they had in an earlier plan of the run, ``taken`` are names not to be used,
    ``tools`` are the capabilities that a capability has called by itself.
    """
    known = known or {}
    names = frozenset(known.values()) | taken
    named = {node.node_id: node for node in nodes}
    graph = Gated(kinds, named, output, known=known, taken=names, tools=tools or {})
    for edge in edges:
        graph.add(edge.from_, edge.to, edge.condition)
    there = {place_of(node) for node in nodes}
    for place, rule in enumerate(rules):
        if rule.when in ("before", "after"):
            _around(graph, rule, place, nodes, there)
    for rule in rules:
        if rule.when == "output" and (rule.id, "output", None) not in there:
            sinks = graph.sinks()
            gate = graph.gate(rule, None, {})
            for name in sinks:
                graph.add(name, gate)
    first = [rule for rule in rules if rule.when == "plan" and (rule.id, "plan", None) not in there]
    for rule in reversed(first):
        roots = [name for name in graph.nodes if not graph.ins.get(name)]
        gate = graph.gate(rule, None, {})
        for name in roots:
            graph.add(gate, name)
    if graph.tails or graph.entries:
        _rewire(graph)
    return graph


def _around(graph: Gated, rule: HitlRule, place: int, nodes: Sequence[PlanNode], there: set[Any]) -> None:
    targets = [node for node in nodes if selects(rule.selector, node, graph.kinds)]
    if not targets and not any(_may_call(rule.selector, node, graph) for node in nodes):
        graph.findings.append(
            Finding(
                layer="structure",
                code="selector_matches_nothing",
                severity="warning",
                message=f"No node of the plan is what policy {rule.id!r} selects; it will not ask.",
                pointer=f"/policies/hitl/{place}/selector",
            )
        )
    handled = handled_by(nodes, graph.kinds)
    for node in targets:
        if (rule.id, rule.when, node.node_id) in there:
            continue
        if rule.when == "before":
            _before(graph, rule, node.node_id)
        elif _leads(graph.kinds, node) or node.node_id in handled or node.node_id in handled.values():
            why = "it chooses a way" if _leads(graph.kinds, node) else "another node may stand in for it, or it does"
            message = f"Policy {rule.id!r} cannot ask after {node.node_id!r}: {why}. Ask before it."
            pointer = f"/policies/hitl/{place}"
            graph.findings.append(Finding(layer="structure", code="gate_unplaceable", message=message, pointer=pointer))
        else:
            _after(graph, rule, node.node_id)


def selects(selector: Selector | None, node: PlanNode, kinds: KindTable) -> bool:
    """Say whether a rule is about a node, or about the node inside it; gates are never selected."""
    if "guards" in node.own:
        return False
    inside = inner_node(node, kinds)
    return _matches(selector, node) or (inside is not None and _matches(selector, inside))


def _may_call(selector: Selector | None, node: PlanNode, graph: Gated) -> bool:
    """Say whether a rule may be about what a node calls by itself; which effects that has is seen when it does."""
    spec = graph.kinds.get(node.kind)
    called = [] if spec is None else [*spec.calls(spec.fields.model_validate(node.own))]
    inside = inner_node(node, graph.kinds)
    for name in (node.capability_id, None if inside is None else inside.capability_id):
        called += graph.tools.get(name or "", ())
    if selector is None or not called:
        return bool(called or node.own.get("flows"))
    return selector.node_id is None and (selector.capability_id is None or selector.capability_id in called)


def inner_node(node: PlanNode, kinds: KindTable) -> PlanNode | None:
    """Return the node that runs inside a (valid) node."""
    spec = kinds.get(node.kind)
    return None if spec is None or "node" not in node.own else spec.inner(spec.fields.model_validate(node.own))


def _matches(selector: Selector | None, node: PlanNode) -> bool:
    if selector is None:
        return node.kind in _DEFAULT_KINDS
    return all(
        wanted is None or wanted == has
        for wanted, has in (
            (selector.node_id, node.node_id),
            (selector.capability_id, node.capability_id),
            (selector.kind, node.kind),
            (selector.effects, node.effects),
        )
    )


def _before(graph: Gated, rule: HitlRule, target: str) -> None:
    node = graph.nodes[target]
    fed = graph.kinds[node.kind].fed or ""
    over = node.own.get(fed)
    shown = dict(node.inputs) | ({} if over is None else {fed: Binding.model_validate(over)})
    gate = graph.gate(rule, target, shown)
    edited = {name: Binding(node_id=gate, pointer=pointer_of([name])) for name in node.inputs}
    own = {} if over is None else {fed: {"node_id": gate, "pointer": pointer_of([fed])}}
    graph.nodes[target] = _with(node, inputs=edited, own=own)
    for key, edge in list(graph.ins.get(target, {}).items()):
        graph.remove(key)
        graph.add(edge.from_, gate, edge.condition)
    graph.add(gate, target)
    graph.entries.setdefault(target, gate)


def _after(graph: Gated, rule: HitlRule, target: str) -> None:
    tail = graph.tails.get(target, target)
    gate = graph.gate(rule, target, {"proposed": Binding(node_id=tail, pointer="")})
    for key, edge in list(graph.outs.get(tail, {}).items()):
        graph.remove(key)
        graph.add(gate, edge.to, edge.condition)
    graph.add(tail, gate)
    graph.tails[target] = gate
    graph.chained.add(gate)


def _leads(kinds: KindTable, node: PlanNode) -> bool:
    spec = kinds[node.kind]
    return bool(spec.targets(node, spec.fields.model_validate(node.own)))


def _rewire(graph: Gated) -> None:
    """Let every consumer of a target read the gate after it, and every branch lead to the gate before it."""
    for name, node in graph.nodes.items():
        if name not in graph.chained:
            graph.nodes[name] = _reread(graph, node)
    for key, edge in list(graph.edges.items()):
        if edge.condition is not None:
            text = _renamed(edge.condition, graph.tails)
            if text != edge.condition:
                graph.remove(key)
                graph.add(edge.from_, edge.to, text)
    bound = {at: _passed(binding, graph.tails) for at, binding in graph.output.map.items()}
    graph.output = graph.output.model_copy(update={"map": bound})


def _reread(graph: Gated, node: PlanNode) -> PlanNode:
    inputs = {name: _passed(bound, graph.tails) for name, bound in node.inputs.items()}
    own: dict[str, Any] = {}
    for name, value in node.own.items():
        if name in ("policy_id", "guards", "target", "prompt", "plan"):
            continue
        if name in ("condition", "until", "while") and isinstance(value, str):
            changed: Any = _renamed(value, graph.tails)
        else:
            changed = _redirected(_rebound(value, graph.tails), graph.entries if _leads(graph.kinds, node) else {})
        if changed != value:
            own[name] = changed
    return _with(node, inputs=inputs, own=own) if own or inputs != node.inputs else node


_Bound = TypeVar("_Bound", bound=Binding)


def _passed(bound: _Bound, tails: Mapping[str, str]) -> _Bound:
    """Return the binding, reading the gate when there is one after the node it reads."""
    tail = tails.get(bound.node_id or "")
    return bound if tail is None else bound.model_copy(update={"node_id": tail})


def _rebound(value: Any, tails: Mapping[str, str]) -> Any:
    """Rewrite every binding inside a kind's own fields (a node, which has a kind, is no binding)."""
    if isinstance(value, list):
        return [_rebound(item, tails) for item in value]
    if not isinstance(value, dict):
        return value
    # A plan inside has nodes of its own.
    changed = {key: item if key == "plan" else _rebound(item, tails) for key, item in value.items()}
    if "kind" not in value and value.get("node_id") in tails:
        changed["node_id"] = tails[value["node_id"]]
    return changed


def _redirected(value: Any, entries: Mapping[str, str]) -> Any:
    if isinstance(value, list):
        return [_redirected(item, entries) for item in value]
    return entries.get(value, value) if isinstance(value, str) else value


def _renamed(text: str, tails: Mapping[str, str]) -> str:
    for name in sorted(compile_cel(text).names & tails.keys()):
        text = rename_node(text, name, tails[name])
    return text


def _with(node: PlanNode, *, inputs: Mapping[str, Binding], own: Mapping[str, Any]) -> PlanNode:
    return node.model_copy(update={"inputs": dict(inputs), **own})


def broken_gates(
    nodes: Sequence[PlanNode], edges: Sequence[Edge], output: OutputMap, kinds: KindTable
) -> Iterator[tuple[str, str]]:
    """Yield (gate, what is wrong) for every gate of a submitted plan that something goes around."""
    handled = handled_by(nodes, kinds)
    ins: dict[str, set[str]] = {node.node_id: set() for node in nodes}
    outs: dict[str, set[str]] = {node.node_id: set() for node in nodes}
    for edge in edges:
        outs.get(edge.from_, set()).add(edge.to)
        ins.get(edge.to, set()).add(edge.from_)
    guards = {node.node_id: node.own.get("guards") for node in nodes}
    inputs = {node.node_id: node.inputs.values() for node in nodes}
    for node in nodes:
        target = str(node.own.get("target"))
        match guards[node.node_id]:
            case "before" if any(guards.get(name) != "before" for name in ins.get(target, {""})) or not ins.get(target):
                yield node.node_id, f"{target!r} can start without it"
            case "before" if any(guards.get(bound.node_id or "") != "before" for bound in inputs[target]):
                yield node.node_id, f"{target!r} reads around it"
            case "after" if any(guards.get(name) != "after" for name in outs.get(target, {""})) or not outs.get(target):
                yield node.node_id, f"the output of {target!r} goes around it"
            case "output" if any(outs[name] <= {handled.get(name)} and guards[name] != "output" for name in outs):
                yield node.node_id, "a node ends the plan without it"
            case "plan" if any(not ways and guards[name] != "plan" for name, ways in ins.items()):
                yield node.node_id, "a node starts without it"
    for bound in output.map.values():
        for gate in outs.get(bound.node_id or "", ()):
            if guards.get(gate) == "after":
                yield gate, f"the answer reads {bound.node_id!r} around it"
