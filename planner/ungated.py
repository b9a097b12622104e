"""A plan without its gates, as it was before they were put in: what a model is shown and may write again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from contracts.expressions import compile_cel, rename_node
from contracts.plan import Binding, Edge, KindTable, OutputBinding, PlanGraph, PlanNode

_Way = tuple[str, str, str | None]


def ungated(plan: PlanGraph, kinds: KindTable) -> PlanGraph:
    """Return the plan with every gate taken out and every reader of a gate reading what the gate passed on."""
    gates = {node.node_id: node for node in plan.nodes if "guards" in node.own}
    if not gates:
        return plan
    undo = _Undo(gates, kinds)
    bound = {at: _kept(binding, undo.binding(binding)) for at, binding in plan.output.map.items()}
    return plan.model_copy(
        update={
            "nodes": [undo.node(node) for node in plan.nodes if node.node_id not in gates],
            "edges": [Edge(from_=start, to=end, condition=text) for start, end, text in undo.edges(plan.edges)],
            "output": plan.output.model_copy(update={"map": bound}),
        }
    )


def _kept(before: OutputBinding, after: Binding) -> OutputBinding:
    return before.model_copy(update={"node_id": after.node_id, "pointer": after.pointer})


@dataclass(frozen=True, slots=True)
class _Undo:
    """The gates of one plan, and what they stand in front of."""

    gates: Mapping[str, PlanNode]
    kinds: KindTable

    def binding(self, bound: Binding) -> Binding:
        """Return what a binding read before a gate came between."""
        while (gate := self.gates.get(bound.node_id or "")) is not None:
            name, rest = "proposed", bound.pointer
            if gate.own["guards"] == "before":
                name, _, below = bound.pointer[1:].partition("/")
                name, rest = name.replace("~1", "/").replace("~0", "~"), f"/{below}" if below else ""
            passed = gate.inputs.get(name)
            if passed is None:
                return bound
            bound = passed.model_copy(update={"pointer": passed.pointer + rest}) if rest else passed
        return bound

    def node(self, node: PlanNode) -> PlanNode:
        """Return a node that reads past the gates, and leads past them if its kind leads anywhere."""
        spec = self.kinds[node.kind]
        leads = bool(spec.targets(node, spec.fields.model_validate(node.own)))
        own: dict[str, Any] = {}
        for name, value in node.own.items():
            reads = name in ("condition", "until", "while")
            own[name] = self._text(value) if reads else value if name == "plan" else self._own(value, leads=leads)
        return node.model_copy(
            update={"inputs": {name: self.binding(bound) for name, bound in node.inputs.items()}, **own}
        )

    def _own(self, value: Any, *, leads: bool) -> Any:
        """Rewrite bindings and targets inside a kind's own fields, as :mod:`planner.gates` rewrote them."""
        if isinstance(value, list):
            return [self._own(item, leads=leads) for item in value]
        if isinstance(value, str) and leads and value in self.gates:
            return self.gates[value].own.get("target", value)
        if not isinstance(value, dict):
            return value
        if "kind" not in value and value.get("node_id") in self.gates:
            return self.binding(Binding.model_validate(value)).model_dump(mode="json", exclude_unset=True)
        return {key: item if key == "plan" else self._own(item, leads=leads) for key, item in value.items()}

    def _text(self, text: Any) -> Any:
        """Rename the gates that a condition reads to what they are behind."""
        if not isinstance(text, str):
            return text
        for name in sorted(compile_cel(text).names & self.gates.keys()):
            text = rename_node(text, name, self.binding(Binding(node_id=name)).node_id or name)
        return text

    def edges(self, edges: list[Edge]) -> Iterator[_Way]:
        """Yield the edges between what is left; a way through gates becomes one edge, with its condition."""
        ways: dict[str, list[Edge]] = {}
        for edge in edges:
            ways.setdefault(edge.from_, []).append(edge)
        seen: set[_Way] = set()
        for edge in edges:
            if edge.from_ in self.gates:
                continue
            for way in self._onward(edge, ways):
                if way not in seen:
                    seen.add(way)
                    yield way

    def _onward(self, edge: Edge, ways: Mapping[str, list[Edge]]) -> Iterator[_Way]:
        gate = self.gates.get(edge.to)
        if gate is None:
            yield edge.from_, edge.to, self._text(edge.condition)
        elif gate.own["guards"] in ("before", "after"):
            for onward in ways.get(edge.to, []):
                condition = edge.condition or onward.condition
                yield from self._onward(Edge(from_=edge.from_, to=onward.to, condition=condition), ways)
