"""Raising prompts: the stored question, its frame, and what the answer will be for (H1, H3, H5)."""

from __future__ import annotations

from hashlib import sha256
from typing import Any

import orjson

from contracts.clock import rfc3339, rfc3339_or_none
from contracts.events import HitlRequest
from contracts.ids import PROMPT
from contracts.lifecycle import NodeStatus, PromptStatus
from contracts.plan import PlanNode, definition
from contracts.prompts import OPERATORS, Assignees, Prompt, PromptKind, PromptPolicy, PromptSpec
from engine.compiled import Step
from engine.kinds.ask import ASK, AskFields
from engine.state import NodeState, OpenPrompt, RunState
from engine.turn import Raised, Turn

OUTPUT_REPAIR = "output_repair"
"""The node that stands for the whole answer when only a rule across its parts is broken (wire §4.3)."""


def bound_hash(proposed: Any, node: PlanNode, version: str | None = None) -> str:
    """Return the hash of exactly what is approved: final inputs or output, node definition, capability version (H5)."""
    covered = [proposed, definition(node), version or node.capability_version]
    return sha256(orjson.dumps(covered, option=orjson.OPT_SORT_KEYS)).hexdigest()


def ask(turn: Turn, node: NodeState, spec: PromptSpec, purpose: str, covers: str | None = None) -> None:
    """Raise a prompt for a node; the node waits. Policy-made prompts count against ``budget.human_asks``.

    A gate that asks again because something changed is not counted: a person changed it, and the answer is needed.
    """
    state = turn.state
    if spec.policy_id is not None and node.node_id not in state.ledger.again:
        state.ledger.asks += 1
        if state.ledger.asks > state.envelope.policies.budget.human_asks:
            turn.fail("budget_spent", "The run may not ask people again (budget.human_asks).", node.node_id)
            return
    due_at = None if spec.due_seconds is None else turn.now + round(spec.due_seconds * 1_000)
    digest = covers or bound_hash(spec.proposed, node.step.node, node.version)
    prompt = _prompt(turn, node, spec, digest, due_at)
    if node.status is not NodeStatus.WAITING:
        turn.move(node, NodeStatus.WAITING)
    state.prompts[prompt.prompt_id] = OpenPrompt(
        prompt.prompt_id, node.node_id, prompt.kind, digest, spec.proposed, purpose
    )
    if due_at is not None and tells_of_due_time(state, spec):
        state.alarms[prompt.prompt_id] = due_at
    node.asked, node.prompt_id = purpose, prompt.prompt_id
    turn.touch(node)
    turn.out.raised.append(Raised(prompt, spec, turn.now, due_at, _notify_at(turn, spec)))
    turn.emit(HitlRequest(prompt), node.node_id)


def tells_of_due_time(state: RunState, policy: PromptPolicy) -> bool:
    """Say whether a due time that does not end the prompt concerns an ``on_timeout`` rule all the same (F5)."""
    return policy.on_timeout in ("wait", "escalate") and bool(state.envelope.policies.watching("on_timeout"))


def _notify_at(turn: Turn, spec: PromptSpec) -> int | None:
    """Return when people are first told of the prompt: at once if there is a way to, else when they are reminded."""
    if turn.world.notifies:
        return turn.now
    return min((turn.now + round(seconds * 1_000) for seconds in spec.remind_seconds), default=None)


def _prompt(turn: Turn, node: NodeState, spec: PromptSpec, digest: str, due_at: int | None) -> Prompt:
    prompt_id = turn.world.ids.new(PROMPT)
    return Prompt(
        prompt_id=prompt_id,
        run_id=turn.state.run_id,
        node_id=node.node_id,
        kind=spec.kind.value,
        status=PromptStatus.OPEN.value,
        question=spec.question,
        proposed=spec.proposed,
        answer_schema=spec.answer_schema,
        actions=spec.allowed(),
        assignees=_wire(OPERATORS if spec.assignees.nobody else spec.assignees),
        claimed_by=None,
        quorum=spec.quorum,
        votes=(),
        plan_version=turn.state.plan_version,
        bound_hash=digest,
        created_at=rfc3339(turn.now),
        due_at=rfc3339_or_none(due_at),
        on_timeout=spec.on_timeout,
        links={"decide": f"/api/v1/prompts/{prompt_id}/decisions"},
        veto=spec.veto,
        exclude_requester=spec.exclude_requester,
    )


def _wire(assignees: Assignees) -> dict[str, list[str]]:
    return {"users": assignees.users, "roles": assignees.roles, "groups": assignees.groups}


def ask_repair(turn: Turn, node: NodeState, proposed: Any, schema: Any, why: str) -> None:
    """Ask people for an output that fits, on a form made from the same schema (F11).

    The answer of a question or a gate is repaired under its own policy: who may not approve may not repair either.
    """
    node.refused = proposed
    form = True if schema == {} else schema
    policy = _policy_of(turn.state, node)
    terms = {name: getattr(policy, name) for name in policy.model_fields_set}
    spec = PromptSpec(kind=PromptKind.REPAIR, question=why[:4_000], proposed=proposed, answer_schema=form, **terms)
    ask(turn, node, spec, "repair")


def _policy_of(state: RunState, node: NodeState) -> PromptPolicy:
    """Return how a node asks people; the usual policy for one that does not."""
    own = node.step.own
    if not isinstance(own, AskFields):
        return PromptPolicy()
    if own.prompt is not None:
        return own.prompt.policy()
    rules = (rule.policy() for rule in state.envelope.policies.gates() if rule.id == own.policy_id)
    return next(rules, PromptPolicy())


def repair_node(turn: Turn) -> NodeState:
    """Return the node that stands for the whole answer, opened on first use."""
    known = turn.state.nodes.get(OUTPUT_REPAIR)
    if known is not None:
        return known
    node = NodeState(step=repair_step())
    node.status = NodeStatus.RUNNING
    node.attempt, node.started_at = 1, turn.now
    turn.state.nodes[OUTPUT_REPAIR] = node
    turn.touch(node)
    return node


def repair_step() -> Step:
    """Return the step of the node that stands for the whole answer; no plan names it."""
    prompt = PromptSpec(kind=PromptKind.REPAIR, question="Repair the output.")
    node = PlanNode.model_validate({"node_id": OUTPUT_REPAIR, "kind": "ask", "prompt": prompt})
    return Step(node, ASK, AskFields(prompt=prompt), (), 0, 1, 1.0)
