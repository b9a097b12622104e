"""Runtime rules: every trigger that is accepted fires (F5; docs/decisions/0006).

Rules fire in the order in which they are listed; ``fail`` and ``replan`` end the firing of their trigger. What people's
answer to a rule's question leads to is in ``engine/answers.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from contracts.envelope import RuntimeRule, Selector, TriggerType
from contracts.events import Log, PolicyTriggered
from contracts.expressions import ExpressionFailed, compile_rule
from contracts.lifecycle import NodeStatus
from contracts.plan import PlanNode
from contracts.prompts import PromptKind, PromptPolicy, PromptSpec
from engine import control, replan
from engine.asking import ask
from engine.compiled import Step
from engine.items import open_node
from engine.kinds.ask import ASK, AskFields
from engine.outputs import OutputsView
from engine.signals import Triggered
from engine.state import NOTHING, NodeState, RunState
from engine.turn import Turn

HELD: Final = "rule"
"""``NodeState.asked`` of a rule's question, and of a node that waits for one"""


@dataclass(slots=True)
class Fired:
    """What the rules of one trigger did: ``planned``, they asked for another plan; ``asking`` are their questions."""

    beside: bool = False
    planned: bool = False
    asking: list[NodeState] = field(default_factory=list)

    def put_off(self, then: Mapping[str, Any]) -> bool:
        """Say whether what would happen next does not, or not yet; what was put off is kept with the questions."""
        for node in self.asking:
            node.then = dict(then)
        return self.planned or bool(self.asking)


# --- triggers ------------------------------------------------------------------------------------------------------


def started(turn: Turn) -> None:
    """Fire ``on_start`` once, before the first dispatch."""
    ledger = turn.state.ledger
    if not ledger.began:
        ledger.began = True
        _fire(turn, "on_start", None, optional=True)


def completed(turn: Turn, node: NodeState) -> bool:
    """Fire ``on_node_complete``; False when what comes after the node has to wait, or the run is over."""
    if not turn.state.envelope.policies.runtime or node.step.guards is not None:
        return True
    fired = _fire(turn, "on_node_complete", node, optional=True)
    return not fired.asking and not turn.ended()


def validation_failed(turn: Turn, node: NodeState | None) -> Fired:
    """Fire ``on_validation_fail``: for a node without an attempt left, or for the whole answer (no node)."""
    return _fire(turn, "on_validation_fail", node, optional=False)


def timed_out(turn: Turn, node: NodeState, *, optional: bool) -> Fired:
    """Fire ``on_timeout``: an attempt ran out of its time, or a prompt's due time passed.

    ``optional``: the run can go on as it is if there is no other plan.
    """
    return _fire(turn, "on_timeout", node, optional=optional)


def ring(turn: Turn) -> None:
    """Fire ``on_timeout`` for open prompts whose due time has passed, once each; they stay open."""
    state = turn.state
    due = sorted((at, prompt_id) for prompt_id, at in state.alarms.items() if at <= turn.now)
    for _, prompt_id in due:
        del state.alarms[prompt_id]
        prompt = state.prompts.get(prompt_id)
        if prompt is None or turn.ended():
            continue
        node = state.nodes[prompt.node_id]
        node.overdue = prompt_id
        turn.touch(node)
        _fire(turn, "on_timeout", node, optional=True, beside=True)


def manual(turn: Turn, signal: Triggered) -> None:
    """Fire a ``manual`` rule by hand."""
    rule = next((one for one in turn.state.envelope.policies.watching("manual") if one.id == signal.policy_id), None)
    turn.out.answered.append((signal.signal_id, "superseded" if rule is None else "applied"))
    if rule is not None:
        _act(turn, rule, None, Fired(), optional=True)


# --- firing --------------------------------------------------------------------------------------------------------


def _fire(turn: Turn, trigger: TriggerType, node: NodeState | None, *, optional: bool, beside: bool = False) -> Fired:
    """Let every rule of a trigger act on a node (none: the run), in their order, until one ends it.

    ``beside``: the node waits for something else already, so a rule's question has nothing wait.
    """
    rules = turn.state.envelope.policies.watching(trigger) if node is None or node.rule is None else []
    fired = Fired(beside=beside)
    for rule in rules:
        if _selects(rule.trigger.selector, node) and _holds(turn, rule, node):
            _act(turn, rule, node, fired, optional=optional)
            if turn.ended() or fired.planned:
                break
    return fired


def _selects(selector: Selector | None, node: NodeState | None) -> bool:
    """Say whether a rule is about a node; without a selector it is about every one, and about the whole answer."""
    if selector is None or selector.empty:
        return True
    if node is None:
        return False
    plan_node = node.step.node
    wanted = selector.model_dump(exclude_none=True)
    return all(getattr(plan_node, name) == value for name, value in wanted.items())


def _holds(turn: Turn, rule: RuntimeRule, node: NodeState | None) -> bool:
    """Evaluate the rule's condition; one that cannot be read does not hold, and that is said once per reason."""
    if rule.trigger.condition is None:
        return True
    state = turn.state
    condition = compile_rule(rule.trigger.condition)
    nodes = OutputsView(state).only(condition.nodes)
    try:
        return condition.holds(nodes, facets_of(state, condition.facets), state.envelope.inputs)
    except ExpressionFailed as error:
        if state.ledger.warned.get(rule.id) != error.message:
            state.ledger.warned[rule.id] = error.message
            message = f"Policy {rule.id} did not fire. {error.message}"
            turn.emit(Log("warning", message), None if node is None else node.node_id)
        return False


def facets_of(state: RunState, names: frozenset[str] | None) -> Mapping[str, Any]:
    """Return facet → value of what has completed: of several nodes that put out one facet, the plan's last.

    ``names`` are those that are wanted; None is all.
    """
    known = state.plan.facets
    found: dict[str, Any] = {}
    for name in known if names is None else names & known.keys():
        for node_id in reversed(known[name]):
            output = state.output_of(node_id)
            spec = state.plan.steps[node_id].node.output
            if output is not NOTHING and spec is not None and spec.facet is None:
                output = output.get(name, NOTHING) if isinstance(output, dict) else NOTHING
            if output is not NOTHING:
                found[name] = output
                break
    return found


def _act(turn: Turn, rule: RuntimeRule, node: NodeState | None, fired: Fired, *, optional: bool) -> None:
    """Do what a rule says; every firing is told."""
    ledger, action = turn.state.ledger, rule.action
    ledger.fired[rule.id] = ledger.fired.get(rule.id, 0) + 1
    node_id = None if node is None else node.node_id
    turn.emit(PolicyTriggered(rule.id, rule.trigger.type, action.type), node_id)
    match action.type:
        case "emit":
            turn.emit(Log("info", action.message or f"Policy {rule.id}: {rule.trigger.type}."), node_id)
        case "pause":
            control.pause_run(turn, f"policy:{rule.id}", action.message)
        case "fail":
            turn.fail("policy_failed", action.message or f"Policy {rule.id} ended the run.", node_id)
        case "hitl":
            _ask(turn, rule, node, fired)
        case "replan":
            fired.planned = _replan(turn, rule, node, optional=optional)


def _replan(turn: Turn, rule: RuntimeRule, node: NodeState | None, *, optional: bool) -> bool:
    if node is not None and node.step.once and rule.trigger.type == "on_timeout":
        message = f"Policy {rule.id}: {node.node_id} may have happened; people are asked before anything is planned."
        turn.emit(Log("warning", message), node.node_id)
        return False
    if not replan.rounds_left(turn):
        message = f"Policy {rule.id}: the planner was asked {turn.world.max_rounds} times, and is not asked again."
        turn.emit(Log("warning", message), None if node is None else node.node_id)
        return False
    reason = rule.action.message or _REASONS[rule.trigger.type]
    replan.ask_again(turn, node, author=f"policy:{rule.id}", reason=reason, optional=optional)
    return True


_REASONS: Final = {
    "on_start": "The plan is to be made again before it runs.",
    "on_node_complete": "A condition on the goals holds.",
    "on_validation_fail": "An output did not fit its contract.",
    "on_timeout": "The time was over.",
    "manual": "Another plan was asked for by hand.",
}


# --- asking people -------------------------------------------------------------------------------------------------


def _ask(turn: Turn, rule: RuntimeRule, about: NodeState | None, fired: Fired) -> None:
    """Ask people, on a node of its own; if they may not be asked any more, that ends the run.

    What the question is about waits for it: a completed node's successors, any other node itself; without a node
    nothing at all is dispatched.
    """
    state = turn.state
    number = state.ledger.fired[rule.id]
    while f"{rule.id}.{number}" in state.nodes or f"{rule.id}.{number}" in state.plan.steps:
        number += 1
    node = open_node(turn, policy_step(f"{rule.id}.{number}"))
    node.rule, node.attempt, node.started_at = rule.id, 1, turn.now
    node.status = NodeStatus.RUNNING
    if about is None:
        node.stops = True
        state.stops.add(node.node_id)
    elif not fired.beside:
        node.holds = about.node_id
        if not about.ended:
            _have_wait(turn, about)
    ask(turn, node, _spec(rule, about), HELD)
    fired.asking.append(node)


def _have_wait(turn: Turn, node: NodeState) -> None:
    """Let a node that failed, or whose time was over, wait for a rule's question."""
    turn.state.running.discard(node.node_id)
    if node.status is not NodeStatus.WAITING:
        turn.move(node, NodeStatus.WAITING)
    node.asked = HELD
    turn.touch(node)


def _spec(rule: RuntimeRule, about: NodeState | None) -> PromptSpec:
    policy = rule.action.policy or PromptPolicy()
    given = {name: getattr(policy, name) for name in PromptPolicy.model_fields if name in policy.model_fields_set}
    return PromptSpec(
        kind=PromptKind.APPROVAL,
        question=rule.action.question or f"Policy {rule.id} ({rule.trigger.type}) asks: shall the run go on?",
        proposed=None if about is None else _shown(about),
        actions=["approve", "reject"],
        policy_id=rule.id,
        **given,
    )


def _shown(node: NodeState) -> dict[str, Any]:
    """Return what people see of the node that a question is about."""
    output = node.output if node.output is not NOTHING else node.refused
    return {"node_id": node.node_id, "output": None if output is NOTHING else output, "error": node.error}


def held_back(state: RunState) -> frozenset[str]:
    """Return the nodes that wait for a rule's question, themselves or with what comes after them."""
    asking = (node for node in state.nodes.values() if node.rule is not None and not node.ended)
    return frozenset(node.holds for node in asking if node.holds is not None)


def policy_step(node_id: str) -> Step:
    """Return the step of a policy's own prompt; no plan names it."""
    prompt = PromptSpec(kind=PromptKind.APPROVAL, question="Shall the run go on?")
    node = PlanNode.model_validate({"node_id": node_id, "kind": "ask", "prompt": prompt})
    return Step(node, ASK, AskFields(prompt=prompt), (), 0, 1, 1.0)
