"""Runs of the pure machine whose plans are edited and whose rules fire, with everything around it made up."""

from __future__ import annotations

import random
from dataclasses import replace
from typing import Any

import orjson

from contracts.envelope import HitlRule
from contracts.outcome import Expand, Iterate, Outcome, Pause, Retry
from contracts.plan import PlanGraph, plan_wire
from contracts.ports import Planned
from engine.adopting import begun
from engine.approvals import would_run
from engine.gates import gate_question
from engine.kinds import kind_table
from engine.signals import AttemptEnded, Decided, PlanEdited, ReplanAsked, Replanned, Report, Signal, Triggered
from planner.gates import place_gates, place_of
from planner.ungated import ungated
from tests.spine.plans import EnvelopeJson, changed_plan, random_envelope, random_plan
from tests.spine.walks import Nothing, Walk, World, completed, decision

TRIGGERS = ("on_start", "on_node_complete", "on_validation_fail", "on_timeout", "manual")
GATES: tuple[dict[str, Any], ...] = (
    {"id": "review", "when": "plan"},
    {"id": "guard", "when": "before", "selector": {"node_id": "n1"}},
    {"id": "later", "when": "before", "selector": {"kind": "map"}},
    {"id": "last", "when": "output"},
)


def random_rules(chance: random.Random, *, pauses: bool) -> list[dict[str, Any]]:
    """Up to three rules, about everything or about something."""
    actions = ["replan", "hitl", "fail", "emit", *(["pause"] if pauses else [])]
    rules = []
    for number in range(chance.randrange(4)):
        trigger: dict[str, Any] = {"type": chance.choice(TRIGGERS)}
        if trigger["type"] not in ("on_start", "manual") and chance.random() < 0.5:
            trigger["selector"] = {"node_id": chance.choice(["n0", "n1", "n2", "n2[0]"])}
        if trigger["type"] == "on_node_complete" and chance.random() < 0.5:
            trigger["condition"] = chance.choice(["size(nodes) > 2", "nodes.n0.n > 4", "true"])
        action = chance.choice(actions)
        # One that ends the run now and then is enough.
        action = "emit" if action == "fail" and chance.random() < 0.7 else action
        rules.append({"id": f"r{number}", "trigger": trigger, "action": {"type": action}})
    return rules


def regated(plan: PlanGraph, rules: list[HitlRule], old: PlanGraph | None, taken: set[str]) -> PlanGraph:
    """The plan with the gates of the rules, named as they were."""
    known = {} if old is None else {place_of(node): node.node_id for node in old.nodes if "guards" in node.own}
    gated = place_gates(rules, kind_table(), plan.nodes, plan.edges, plan.output, known=known, taken=frozenset(taken))
    nodes, edges = list(gated.nodes.values()), list(gated.edges.values())
    return plan.model_copy(update={"nodes": nodes, "edges": edges, "output": gated.output}).sealed()


def _unfolded(inputs: dict[str, Any]) -> Outcome:
    if "over" in inputs:
        return Expand(inputs["over"] if isinstance(inputs["over"], list) else [])
    return Iterate(inputs.get("initial"))


class Steered(World):
    """Chance that also edits plans and fires rules."""

    def __init__(self, seed: int, *, pauses: bool = True, edits: float = 0.1) -> None:
        super().__init__(seed, pauses=pauses)
        self.edits = edits
        self.rules: list[HitlRule] = []

    def plan(self) -> PlanGraph:
        """A plan with the gates of this run's rules; some of its calls have inputs, so that gates show something."""
        self.rules = [HitlRule.model_validate(rule) for rule in GATES if self.chance.random() < 0.4]
        plan = ungated(random_plan(self.chance), kind_table())
        nodes = [node.model_dump(mode="json", exclude_unset=True) for node in plan.nodes]
        for node in nodes:
            if node["kind"] == "call" and self.chance.random() < 0.5:
                node["inputs"] = {"v": {"value": self.chance.randrange(9)}}
        drawn = PlanGraph.model_validate({**plan.model_dump(mode="json", exclude_unset=True), "nodes": nodes})
        return regated(drawn, self.rules, None, set())

    def envelope(self) -> EnvelopeJson:
        """An envelope with these gates and with rules."""
        envelope = random_envelope(self.chance)
        hitl = [rule.model_dump(mode="json", exclude_unset=True) for rule in self.rules]
        runtime = random_rules(self.chance, pauses=self.pauses)
        envelope["policies"] |= {"hitl": hitl, "runtime": runtime}
        return envelope

    def changed(self, walk: Walk, keep: set[str]) -> PlanGraph:
        """Another plan, with the same gates at the same places."""
        old = walk.machine.state.plan.graph
        plan = changed_plan(self.chance, ungated(old, kind_table()), keep)
        return regated(plan, self.rules, old, set(completed(walk)))

    def edit(self, walk: Walk) -> PlanEdited:
        """An edit: what has begun is mostly left alone, or named; now and then it is on an old version."""
        state = walk.machine.state
        started = set(begun(state))
        waiting = sorted(name for name in started & state.plan.steps.keys() if not state.nodes[name].ended)
        cancel = tuple(name for name in waiting if self.chance.random() < 0.3)
        plan = self.changed(walk, started - set(cancel))
        base = state.plan_version - (1 if self.chance.random() < 0.05 else 0)
        return PlanEdited(self._signal(), base, orjson.loads(orjson.dumps(plan_wire(plan))), cancel, "user:ana", "so")

    def _from_outside(self, walk: Walk) -> list[Signal]:
        found = super()._from_outside(walk)
        if self.chance.random() < self.edits:
            found += [self.edit(walk)] * 4
        manual = walk.machine.state.envelope.policies.watching("manual")
        if manual and self.chance.random() < 0.1:
            found.append(Triggered(self._signal(), self.chance.choice(manual).id, "user:ana"))
        if self.chance.random() < 0.01:
            found.append(Triggered(self._signal(), "nowhere", "user:ana"))
        return found

    def _replanned(self, walk: Walk, asked: ReplanAsked) -> Replanned:
        answer = super()._replanned(walk, asked)
        if isinstance(answer.result, Planned):
            return replace(answer, result=Planned(self.changed(walk, set(completed(walk)))))
        return answer

    def _ended(self, walk: Walk, node_id: str) -> AttemptEnded:
        state, machine = walk.machine.state, walk.machine
        node = state.nodes[node_id]
        inputs = would_run(state, node.step)
        ended = super()._ended(walk, node_id)
        if node.step.kind.spec.fed is not None:
            # An approver may have changed what it unfolds from.
            return replace(ended, report=replace(ended.report, outcome=_unfolded(inputs)))
        if node.step.guards is None:
            return ended
        asked = gate_question(state, node, inputs, machine.world.contracts, Nothing())
        report = Report(Pause(asked.spec), inputs, "{}", covers=asked.covers, shown_as=asked.shown_as)
        return AttemptEnded(node_id, node.attempt, node.generation, report)

    def _called(self, parked: Any) -> Outcome:
        if self.chance.random() < 0.1:
            return Retry("capability_timeout", "too slow", ambiguous=True)
        return super()._called(parked)

    def _decided(self, walk: Walk, prompt_id: str) -> Decided:
        decided = super()._decided(walk, prompt_id)
        prompt = walk.machine.state.prompts[prompt_id]
        step = walk.machine.state.nodes[prompt.node_id].step
        if step.guards == "before" and decided.decision is not None and decided.decision["action"] == "edit":
            answer = {name: self._other(value) for name, value in prompt.proposed.items()}
            return replace(decided, decision=decision("edit", answer))
        return decided

    def _other(self, value: Any) -> Any:
        return [self.chance.randrange(9)] if isinstance(value, list) else self.chance.randrange(9)
