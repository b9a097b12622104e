"""Writing a chosen plan's nodes: one writer per way of making a facet, with the reason for each (F4; wire §3)."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from contracts.plan import Binding, Fallback, NodeOutput, PlanNode, definition
from contracts.wire import pointer_of
from planner.draft import Scene
from planner.gates import free_id
from planner.goals import Count, Want, asked_count
from planner.makers import Key, Maker, Workshop
from planner.schemas import properties, standalone
from planner.search import GENERIC, INPUT, Candidate
from planner.validate.capability import COUNT

_UNFIT: Final = re.compile(r"[^A-Za-z0-9_.-]")
_LONGEST_ID: Final = 60


@dataclass(slots=True)
class Build:
    """A chosen plan while it is written down."""

    shop: Workshop
    candidate: Candidate
    goals: Sequence[Want]
    counts: Mapping[str, Count]
    runner_up: Candidate | None
    nodes: dict[str, PlanNode] = field(default_factory=dict)
    home: dict[Key, Binding] = field(default_factory=dict)
    """key → where its value is"""
    written: dict[str, str] = field(default_factory=dict)
    """maker → the node that its consumers read"""
    rows: dict[str, list[tuple[str, Key, Maker | None]]] = field(default_factory=dict)

    @property
    def scene(self) -> Scene:
        """Return what the plan is for."""
        return self.shop.scene

    def node(self, wanted: str, kind: str, **rest: Any) -> str:
        """Write a node and return its id."""
        node_id = free_id(node_name(wanted), self.nodes)
        policies = self.scene.envelope.policies
        common: dict[str, Any] = {
            "max_attempts": policies.retry.max_attempts,
            "timeout_seconds": policies.timeouts.node_seconds,
            "fallback": fallback_of(self.scene),
        }
        if "plan" in rest:
            # It waits for a run of its own, which has attempts and times of its own.
            del common["max_attempts"], common["timeout_seconds"]
        node = PlanNode.model_validate({"node_id": node_id, "kind": kind, **common, **rest})
        ran = self.scene.done
        if node_id in ran and not _same(node, ran[node_id]):
            # What has run keeps its name; this is other work.
            node_id = free_id(node_name(wanted), self.nodes, ran)
            node = node.model_copy(update={"node_id": node_id})
        self.nodes[node_id] = node
        return node_id


def _same(node: PlanNode, ran: PlanNode | None) -> bool:
    return ran is not None and definition(node) == definition(ran)


def fallback_of(scene: Scene) -> Fallback:
    """People take over a failed node where the envelope names people who watch the run."""
    policies = scene.envelope.policies
    return "hitl" if policies.gates() and policies.on_output_invalid == "ask" else "abort"


def node_name(wanted: str) -> str:
    """Return a node id made of a name."""
    plain = _UNFIT.sub("_", wanted)[:_LONGEST_ID]
    return plain if plain[:1].isalpha() or plain[:1] == "_" else f"n_{plain}"


def _inputs(build: Build, maker: Maker) -> dict[str, Binding]:
    """Return the maker's bindings, in the order of its parameters."""
    found: dict[str, Binding] = {}
    for name, key, below in build.rows[maker.name]:
        found[name] = _at_hand(build, key) if below is None else made_by(build, key, below)
    order = list(maker.spec.consumes)
    return dict(sorted(found.items(), key=lambda pair: order.index(pair[0]) if pair[0] in order else len(order)))


def _at_hand(build: Build, key: Key) -> Binding:
    return Binding(from_=build.scene.available.facets[key[0]].pointer)


def made_by(build: Build, key: Key, maker: Maker) -> Binding:
    """Return where a facet that a maker gives is."""
    node_id = build.written[maker.name]
    several = maker.form == "call" and len(maker.spec.produces) > 1
    return Binding(node_id=node_id, pointer=pointer_of([key[0]]) if several else "")


def _called(build: Build, maker: Maker) -> dict[str, Any]:
    """Return what a node calls; of a stored flow the plan as well."""
    name = maker.spec.capability_id
    called = {"capability_id": name, "capability_version": maker.spec.version, "effects": maker.spec.effects}
    return {**called, **build.scene.index.flows.get(name, {}), **build.scene.held.get(name, {})}


def _call(build: Build, maker: Maker) -> None:
    inputs = _inputs(build, maker)
    if maker.spec.batch:
        inputs[COUNT] = Binding(value=_count(build, maker).number)
    build.written[maker.name] = build.node(
        maker.spec.produces[0],
        maker.spec.kind,
        **_called(build, maker),
        inputs=inputs,
        output=_output(build, maker),
        rationale=_rationale(build, maker),
    )


def _map(build: Build, maker: Maker) -> None:
    over = _over(build, maker)
    inner = {
        "kind": maker.spec.kind,
        **_called(build, maker),
        "inputs": {name: _shown(bound) for name, bound in _inputs(build, maker).items()},
        "output": _shown(build.scene.index.output(maker.spec)),
    }
    build.written[maker.name] = build.node(
        maker.gives[0][0],
        "map",
        over=_shown(over),
        node=inner,
        effects=maker.spec.effects,
        output=_output(build, maker),
        rationale=_rationale(build, maker),
        **{"as": maker.item},
    )


def _over(build: Build, maker: Maker) -> Binding:
    """Return where the list of a map is."""
    key = maker.over
    if key is None:
        raise ValueError(f"{maker.name} is no map")
    below = None if build.shop.available(key) else build.candidate.by[key]
    return _at_hand(build, key) if below is None else made_by(build, key, below)


def _copies(build: Build, maker: Maker) -> None:
    item, made = maker.spec.produces[0], maker.gives[0][0]
    inputs, copies = _inputs(build, maker), []
    for _ in range(_count(build, maker).number):
        output = build.scene.index.output(maker.spec)
        copies.append(build.node(item, maker.spec.kind, **_called(build, maker), inputs=inputs, output=output))
    several = len(maker.spec.produces) > 1
    build.written[maker.name] = build.node(
        made,
        "transform",
        inputs={
            f"i{n}": Binding(node_id=name, pointer=pointer_of([item]) if several else "")
            for n, name in enumerate(copies)
        },
        expression=f"[{', '.join(f'i{n}' for n in range(len(copies)))}]",
        output=_output(build, maker),
        rationale=_rationale(build, maker),
    )


def _people(build: Build, maker: Maker) -> None:
    facet = maker.gives[0][0]
    build.written[maker.name] = build.node(
        facet,
        maker.spec.kind,
        **_called(build, maker),
        inputs=_inputs(build, maker),
        output=NodeOutput(facet=facet, schema_=_plain(build.scene.index.schema(facet))),
        rationale=[f"nothing else produces {facet}; people are the last resort"],
    )


def _structure(build: Build, maker: Maker) -> None:
    inputs = _inputs(build, maker)
    read = {bound.from_ for node in build.nodes.values() for bound in node.inputs.values()}
    read |= {bound.get("from") for node in build.nodes.values() for bound in inner_bindings(node)}
    read |= {goal.source.pointer for goal, choice in chosen_as(build, INPUT) if goal.source is not None}
    for source in build.scene.available.given:
        if source.pointer not in read | {bound.from_ for bound in inputs.values()}:
            inputs[free_id(source.name, inputs)] = Binding(from_=source.pointer)
    asked = [goal for goal, _ in chosen_as(build, GENERIC)]
    build.written[maker.name] = build.node(
        "structure" if len(asked) > 1 or not asked[0].name else asked[0].name,
        "structure" if maker.spec.kind == "call" else maker.spec.kind,
        **_called(build, maker),
        inputs=inputs,
        output=NodeOutput(schema_=_structured(build, asked)),
        rationale=[f"writes {', '.join(goal.where() for goal in asked)}, which no capability yields"],
    )


def inner_bindings(node: PlanNode) -> list[dict[str, Any]]:
    """Return the bindings in a map's own fields: its list, and its inner node's inputs."""
    inner, over = node.own.get("node"), node.own.get("over")
    inside = list(inner.get("inputs", {}).values()) if isinstance(inner, dict) else []
    return [*inside, *([over] if isinstance(over, dict) else [])]


def _structured(build: Build, asked: Sequence[Want]) -> Any:
    """Return the contract of the structuring node: the goal's schema, or an object of the goals' by name."""
    answer = build.scene.answer
    if len(asked) == 1:
        return _plain(standalone(_counted(asked[0].schema, build.counts.get(asked[0].pointer)), answer))
    whole = {goal.name: _counted(goal.schema, build.counts.get(goal.pointer)) for goal in asked}
    schema = {"type": "object", "required": list(whole), "properties": whole, "additionalProperties": False}
    return standalone(schema, answer)


def _counted(schema: Any, count: Count | None) -> Any:
    if count is None or not count.explicit or not isinstance(schema, Mapping):
        return schema
    return {**schema, "minItems": count.number, "maxItems": count.number}


WRITERS: Final = {"call": _call, "map": _map, "copies": _copies, "people": _people, "structure": _structure}


def chosen_as(build: Build, what: str) -> list[tuple[Want, str]]:
    """Return the goals that are ``what`` (the structuring node, an input)."""
    pairs = zip(build.goals, build.candidate.choices, strict=True)
    return [(goal, choice) for goal, choice in pairs if choice == what]


def _served(build: Build, maker: Maker) -> list[tuple[Want, str]]:
    """Return the goals that a maker's node is, with the facet."""
    pairs = zip(build.goals, build.candidate.choices, strict=True)
    return [(goal, facet) for goal, facet in pairs if build.candidate.by.get(build.shop.top(facet)) is maker]


def _count(build: Build, maker: Maker) -> Count:
    """Return how many items the maker is told to make (R5, R6)."""
    counts = [build.counts[goal.pointer] for goal, _ in _served(build, maker) if goal.pointer in build.counts]
    explicit = [count for count in counts if count.explicit]
    if counts:
        return (explicit or counts)[0]
    asked = None if any(count.explicit for count in build.counts.values()) else asked_count(build.scene.envelope)[0]
    return Count(asked or 1, explicit=asked is not None)


def _output(build: Build, maker: Maker) -> NodeOutput | None:
    """Return the node's contract: its facets' schemas; for a counted list just the count, the facet says the rest."""
    told = maker.spec.batch or maker.form == "copies"
    made = [key[0] for key in maker.gives]
    exact = {}
    for goal, facet in _served(build, maker):
        count = build.counts.get(goal.pointer)
        if count is not None and (count.explicit or told):
            exact[facet] = {"type": "array", "minItems": count.number, "maxItems": count.number}
    if len(made) == 1:
        return NodeOutput(facet=made[0], schema_=exact.get(made[0], _plain(build.scene.index.schema(made[0]))))
    whole = build.scene.index.output(maker.spec)
    if whole is None or not exact or not isinstance(whole.schema_, dict):
        return whole
    return whole.model_copy(update={"schema_": {**whole.schema_, "properties": _narrowed(whole.schema_, exact)}})


def _narrowed(schema: Mapping[str, Any], exact: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    return {name: {**_open(at), **exact[name]} if name in exact else at for name, at in properties(schema).items()}


def _open(schema: Any) -> Mapping[str, Any]:
    return schema if isinstance(schema, Mapping) else {}


def promise(build: Build, maker: Maker, facet: str) -> Any:
    """Return what the node promises for one facet: the facet's schema with the node's own count."""
    schema = build.scene.index.schema(facet)
    output = build.nodes[build.written[maker.name]].output
    own = output.schema_ if output is not None else None
    if output is not None and output.facets:
        own = properties(own).get(facet)
    if not isinstance(schema, Mapping) or not isinstance(own, Mapping):
        return schema
    return {**schema, **{name: own[name] for name in ("minItems", "maxItems") if name in own}}


def _rationale(build: Build, maker: Maker) -> list[str]:
    """Say why this node is there and why it is this capability."""
    reasons = [f"{goal.how[facet]} {goal.where()}" for goal, facet in _served(build, maker)]
    first = not any(node.rationale and " /" in node.rationale[0] for node in build.nodes.values())
    if not reasons:
        users = [name for name, rows in build.rows.items() for _, _, below in rows if below is maker]
        reasons = [f"makes {', '.join(key[0] for key in maker.gives)} for {', '.join(dict.fromkeys(users))}"]
    keys = [key for key, made in build.candidate.by.items() if made is maker]
    others = sorted({other.name for key in keys for other in build.shop.by_key.get(key, []) if other is not maker})
    choice = f"chosen over {', '.join(others)}" if others else "only producer"
    found = ["; ".join([*reasons, choice])]
    if build.runner_up is not None and first and _served(build, maker):
        found.append(f"runner-up: {', '.join(sorted(build.runner_up.used)) or 'the inputs alone'}")
    return found


def _shown(model: Any) -> Any:
    """Return a binding or an output as the JSON that stands in a kind's own fields."""
    return None if model is None else model.model_dump(mode="json", exclude_unset=True)


def _plain(schema: Any) -> Any:
    return dict(schema) if isinstance(schema, Mapping) else schema
