"""What a person's decision does to the run: the answer is what the run acts on, never less (H4)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from contracts.events import HitlResolved, ValidationFailed
from contracts.lifecycle import NodeStatus
from engine import replan
from engine.asking import OUTPUT_REPAIR, ask_repair, bound_hash
from engine.failures import fail_node, record
from engine.frontier import node_ended
from engine.signals import Decided
from engine.state import NodeState, OpenPrompt
from engine.turn import Turn

APPLIED, SUPERSEDED = "applied", "superseded"


def decided(turn: Turn, signal: Decided) -> None:
    """Apply a settled or expired prompt; one that is no longer open changes nothing."""
    prompt = turn.state.prompts.pop(signal.prompt_id, None)
    turn.out.answered.append((signal.signal_id, APPLIED if prompt else SUPERSEDED))
    if prompt is None:
        return
    node = turn.state.nodes[prompt.node_id]
    node.prompt_id = node.asked = None
    turn.touch(node)
    turn.emit(HitlResolved(prompt.prompt_id, signal.status, signal.decision), prompt.node_id)
    turn.resume("decision" if signal.decision is not None else "prompt_expired")
    if signal.decision is None:
        message = "Nobody decided in time."
        fail_node(turn, node, "prompt_expired", message, "prompt_expired", retryable=False)
        return
    _act(turn, node, prompt, signal.decision)


def _act(turn: Turn, node: NodeState, prompt: OpenPrompt, decision: Mapping[str, Any]) -> None:
    action, answer = decision["action"], decision.get("answer")
    if action == "reject":
        message = f"Rejected by {decision['decided_by']}." + (
            f" {decision['comment']}" if decision.get("comment") else ""
        )
        fail_node(turn, node, "rejected", message, "rejected", retryable=False)
    elif prompt.purpose == "resume":
        _resume(turn, node, prompt, answer if action != "approve" else prompt.proposed)
    elif prompt.purpose == "effect":
        _effect(turn, node, happened=action == "happened")
    elif prompt.purpose == "capability":
        _capability(turn, node, answer)
    elif action == "request_changes" or (action == "edit" and prompt.kind == "plan_review"):
        _change_plan(turn, node, action, answer, decision)
    else:
        _answer(turn, node, prompt.proposed if action == "approve" else answer)


def _resume(turn: Turn, node: NodeState, prompt: OpenPrompt, answer: Any) -> None:
    """A capability asked: go on where it stopped, in the same attempt."""
    node.parked = {"state": (node.parked or {}).get("state"), "answer": answer}
    node.resumed = True
    turn.make_ready(node)


def _effect(turn: Turn, node: NodeState, *, happened: bool) -> None:
    """Happened: its output is unknown, so null if the contract takes it. Not happened: run it, with a new key."""
    if not happened:
        record(turn, node)
        node.generation += 1
        turn.make_ready(node)
        return
    contract = turn.world.contracts.of(node.step, turn.state.plan)
    if contract.findings(None):
        ask_repair(turn, node, None, contract.shown, f"{node.node_id} happened. Please give its output.")
        return
    _answer(turn, node, None)


def _capability(turn: Turn, node: NodeState, answer: Any) -> None:
    """The pinned version is missing: try again, use another one, or give up."""
    if answer == "fail":
        fail_node(turn, node, "capability_unavailable", "Given up by an operator.", "capability_unavailable")
        return
    if isinstance(answer, str) and answer.startswith("use "):
        node.version = answer.removeprefix("use ")
    node.resumed = True
    turn.make_ready(node)


def _change_plan(turn: Turn, node: NodeState, action: str, answer: Any, decision: Mapping[str, Any]) -> None:
    """A reviewer edited the plan or asked for changes; bounded like every replan."""
    if turn.state.ledger.round >= turn.world.max_rounds:
        fail_node(turn, node, "too_many_rounds", "The plan was sent back too often.", "rejected", retryable=False)
        return
    note = (decision.get("comment") or "",) if action == "request_changes" else ()
    turn.move(node, NodeStatus.READY)
    reason = note[0] if note else "Edited by a reviewer."
    replan.ask_again(turn, None, author=str(decision["decided_by"]), reason=reason, notes=note)
    if action == "edit":
        replan.edited(turn, answer, node.node_id)


def _answer(turn: Turn, node: NodeState, output: Any) -> None:
    """The answer is the node's output; of a repaired whole it is the run's."""
    if node.node_id == OUTPUT_REPAIR:
        turn.complete(node, output)
        turn.state.final = output
        turn.state.ready.extend(turn.state.held)
        turn.state.held.clear()
        return
    contract = turn.world.contracts.of(node.step, turn.state.plan)
    findings = contract.findings(output)
    if findings:
        turn.emit(ValidationFailed("node_output", node.attempt, findings), node.node_id)
        ask_repair(turn, node, output, contract.shown, f"The answer does not fit {node.node_id}. Please repair it.")
        return
    if node.step.guards == "before":
        node.approved = approval_hash(turn, node, output)
    turn.complete(node, output)
    node_ended(turn, node)


def approval_hash(turn: Turn, gate: NodeState, inputs: Any) -> str:
    """Return the hash of what was approved for the gate's target (H5)."""
    target = turn.state.plan.steps[gate.step.own.target].node
    names = ("over",) if target.kind == "map" else target.inputs
    return bound_hash({name: inputs[name] for name in names if name in inputs}, target)
