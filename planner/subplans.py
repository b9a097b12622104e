"""Plans inside plans: what a node runs as a child run is checked and completed with the plan that it stands in.

So a mistake three levels down is refused when the envelope is handed in, with a pointer to it, and a child run is born
with a plan that needs no planner any more.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from contracts.descent import MAX_DEPTH, child_envelope
from contracts.envelope import TaskEnvelope, kept_envelope
from contracts.plan import Binding, Finding, PlanGraph, PlanNode, plan_wire
from contracts.ports import Planned, Unplannable
from planner.draft import Scene, Unit, inner_of, unit_of
from planner.gates import selects
from planner.schemas import part, says_nothing, standalone
from planner.sources import UNKNOWN, resolve
from planner.submitted import unusable

_INPUTS: Final = "/inputs/"
Check = Callable[[Any, Scene, str], Planned | Unplannable]
"""(a plan's JSON, what it is made for, its pointer) → the plan, complete and sealed, or what is wrong"""


def with_subplans(plan: PlanGraph, scene: Scene, at: str, check: Check) -> tuple[PlanGraph, list[Finding]]:
    """Return the plan with every plan inside it completed, and what was found in those; pointers begin with ``at``."""
    if not any(_may_hold(node, scene) for node in plan.nodes):
        return plan, []
    work = _Work(plan, scene, check)
    nodes = [work.node(node, f"{at}/nodes/{place}", place) for place, node in enumerate(plan.nodes)]
    return plan.model_copy(update={"nodes": nodes}), work.findings


def _may_hold(node: PlanNode, scene: Scene) -> bool:
    return node.kind in scene.kinds and ("plan" in node.own or "node" in node.own or "flows" in node.own)


@dataclass(slots=True)
class _Work:
    plan: PlanGraph
    scene: Scene
    check: Check
    findings: list[Finding] = field(default_factory=list)

    def node(self, node: PlanNode, pointer: str, place: int) -> PlanNode:
        """Return a node with the plan inside it, or inside the node inside it, completed."""
        if not _may_hold(node, self.scene):
            return node
        unit = unit_of(self.scene, node, pointer, place)
        if unit.own is not None and "flows" in node.own:
            return node.model_copy(update={"flows": self._flows(unit)})
        made = self._completed(unit)
        if made is not None:
            return node.model_copy(update={"plan": made, "effects": _effects(made)})
        inner = inner_of(self.scene, unit)
        if inner is not None and inner.own is not None and "flows" in inner.node.own:
            return node.model_copy(update={"node": {**node.own["node"], "flows": self._flows(inner)}})
        made = None if inner is None else self._completed(inner)
        if made is None:
            return node
        return node.model_copy(update={"node": {**node.own["node"], "plan": made, "effects": _effects(made)}})

    def _flows(self, unit: Unit) -> list[dict[str, Any]]:
        """Return the plans that a chat may have run, completed; wrong ones as they are."""
        flows: list[dict[str, Any]] = []
        for place, flow in enumerate(unit.own.flows):
            shown = flow.model_dump(mode="json")
            below = f"/flows/{place}"
            why = unusable(flow.parameters)
            if why is not None:
                message = f"This schema cannot be used: {why}"
                self.findings.append(unit.finding("structure", "bad_schema", message, f"{below}/inputs"))
                continue
            own = {"objective": self.scene.envelope.objective, "output_contract": {"schema": True}}
            envelope = kept_envelope(child_envelope(self.scene.envelope, own))
            given = dict.fromkeys(_may_be_given(flow.inputs, flow.plan), UNKNOWN)
            made = self._checked(unit, flow.plan, envelope.model_copy(update={"inputs": given}), f"{below}/plan")
            flows.append({**shown, "plan": made or flow.plan})
        return flows

    def _completed(self, unit: Unit) -> dict[str, Any] | None:
        """Return the plan inside a node as it will run; None when there is none, or a wrong one."""
        inside = None if unit.kind is None or unit.own is None else unit.kind.subplan(unit.own)
        return None if inside is None else self._checked(unit, inside, self._envelope(unit), "/plan")

    def _checked(self, unit: Unit, inside: Any, envelope: TaskEnvelope, below: str) -> dict[str, Any] | None:
        """Return a plan inside a node, complete; None when it is wrong, and the findings say why."""
        if self.scene.depth >= MAX_DEPTH:
            message = f"Child runs may stand {MAX_DEPTH} deep."
            self.findings.append(unit.finding("structure", "too_deep", message, below))
            return None
        scene = replace(self.scene, envelope=envelope, depth=self.scene.depth + 1, notes=())
        answer = self.check(inside, scene, f"{unit.pointer}{below}")
        if isinstance(answer, Planned):
            self.findings += self._ungated(unit, answer.plan)
        found = answer.plan.findings if isinstance(answer, Planned) else answer.findings
        self.findings += [item.model_copy(update={"node_id": unit.node.node_id}) for item in found]
        return plan_wire(answer.plan.model_copy(update={"findings": []})) if isinstance(answer, Planned) else None

    def _ungated(self, unit: Unit, plan: PlanGraph) -> Iterator[Finding]:
        """Yield a warning per gate of the envelope that would ask about a node of the plan inside, and does not."""
        for rule in self.scene.envelope.policies.gates():
            around = rule.when in ("before", "after")
            outside = unit.node.model_copy(update={"effects": _effects(plan_wire(plan))})
            every_call = rule.selector is None and "flows" in unit.node.own
            if around and (every_call or selects(rule.selector, outside, self.scene.kinds)):
                continue  # it asks about the whole
            if around and any(selects(rule.selector, node, self.scene.kinds) for node in _all_nodes(plan)):
                message = f"Policy {rule.id!r} does not ask inside {unit.node.node_id!r}: gates are about one plan."
                found = unit.finding("security", "gate_not_inherited", message, "/plan", "Put an ask node there.")
                yield found.model_copy(update={"severity": "warning"})

    def _envelope(self, unit: Unit) -> TaskEnvelope:
        """Return the child's envelope as far as it is known; what comes out of nodes is not."""
        parent = self.scene.envelope
        own = {
            "objective": unit.own.objective or parent.objective,
            "output_contract": {"mode": "json_schema", "schema": self._contract(unit.node)},
        }
        inputs = {name: self._value(bound) for name, bound in unit.node.inputs.items()}
        if unit.item is not None:
            inputs[unit.item] = UNKNOWN
        child = child_envelope(parent, own, within=unit.node.capability_id)
        return kept_envelope(child).model_copy(update={"inputs": inputs})

    def _value(self, bound: Binding) -> Any:
        if bound.is_value:
            return bound.value
        if bound.from_ is None:
            return UNKNOWN
        try:
            return resolve(self.scene.envelope, bound.from_)
        except KeyError:
            return UNKNOWN  # the check of references says so, or only the run will know

    def _contract(self, node: PlanNode) -> Any:
        """Return what the child's answer must be: the node's own contract, and the caller's where it is the answer."""
        schemas: list[Any] = []
        if node.output is not None:
            facet = node.output.facet
            if facet is not None and any(known.name == facet for known in self.scene.index.catalogue.facets):
                schemas.append(self.scene.index.schema(facet))
            if node.output.schema_ is not None:
                schemas.append(node.output.schema_)
        for pointer, bound in self.plan.output.map.items():
            if bound.node_id == node.node_id and not bound.pointer and not bound.adapt:
                schemas.append(self._asked(pointer))
        wanted = [schema for schema in schemas if not says_nothing(schema)]
        plain = [dict(schema) if isinstance(schema, Mapping) else schema for schema in wanted]
        return True if not plain else plain[0] if len(plain) == 1 else {"allOf": plain}

    def _asked(self, pointer: str) -> Any:
        try:
            return standalone(part(self.scene.answer, pointer), self.scene.answer)
        except KeyError:
            return True  # the check of the answer says that the contract forbids it


def _may_be_given(schema: Mapping[str, Any], plan: Any) -> set[str]:
    """Return the inputs that a call may bring: those the flow's schema names and, left open, those its plan reads."""
    named = {*schema.get("properties", {}), *schema.get("required", ())}
    return named if schema.get("additionalProperties", True) is False else named | set(_read(plan))


def _read(value: Any) -> Iterator[str]:
    """Yield the inputs that bindings of a plan name."""
    if isinstance(value, Mapping):
        source = value.get("from")
        if isinstance(source, str) and source.startswith(_INPUTS):
            yield source[len(_INPUTS) :].partition("/")[0].replace("~1", "/").replace("~0", "~")
    inside = value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else ()
    for each in inside:
        yield from _read(each)


def _effects(plan: Mapping[str, Any]) -> str:
    """Return what a (completed) plan does to the world: the most that one of its nodes does."""
    found = {node.get("effects", "none") for node in plan["nodes"]}
    return next((effects for effects in ("once", "idempotent") if effects in found), "none")


def _all_nodes(plan: PlanGraph) -> Iterator[PlanNode]:
    """Yield every node of a (valid) plan and of the plans inside it."""
    for node in plan.nodes:
        yield node
        inside = node.own.get("plan") or (node.own.get("node") or {}).get("plan")
        if inside is not None:
            yield from _all_nodes(PlanGraph.model_validate(inside))
