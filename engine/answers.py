"""What a person's decision does to the run: the answer is what the run acts on, never less (H4)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any, Final

from contracts.events import HitlResolved, ValidationFailed
from contracts.lifecycle import NodeStatus, PromptStatus
from contracts.memory import write_from
from contracts.outcome import Done
from engine import calls, replan, rules
from engine.approvals import digest
from engine.asking import OUTPUT_REPAIR, ask_repair
from engine.failures import fail_node, record, try_again
from engine.finish import unmet
from engine.frontier import node_ended, proceed
from engine.signals import Decided
from engine.state import NodeState, OpenPrompt
from engine.turn import Turn

APPLIED, SUPERSEDED = "applied", "superseded"
_CAUSES: Final[Mapping[str, str]] = {PromptStatus.EXPIRED: "prompt_expired", PromptStatus.WITHDRAWN: "withdrawn"}
"""why a run goes on when its prompt ended without a decision"""


def decided(turn: Turn, signal: Decided) -> None:
    """Apply a settled, expired or withdrawn prompt; one that is no longer open changes nothing."""
    turn.state.alarms.pop(signal.prompt_id, None)
    prompt = turn.state.prompts.pop(signal.prompt_id, None)
    turn.out.answered.append((signal.signal_id, APPLIED if prompt else SUPERSEDED))
    if prompt is None:
        return
    node = turn.state.nodes[prompt.node_id]
    node.prompt_id = node.asked = None
    turn.touch(node)
    turn.emit(HitlResolved(prompt.prompt_id, signal.status, signal.decision), prompt.node_id)
    turn.resume(_CAUSES.get(signal.status, "decision") if signal.decision is None else "decision")
    if signal.status == PromptStatus.EXPIRED:
        fired = rules.timed_out(turn, node, optional=False)
        kept = {"what": "prompt", "prompt": asdict(prompt), "decision": signal.decision}
        if turn.ended() or fired.put_off(kept):
            return
    if signal.decision is not None:
        _act(turn, node, prompt, signal.decision)
    elif signal.status == PromptStatus.WITHDRAWN:
        fail_node(turn, node, "prompt_withdrawn", "The question was taken back.", retryable=False)
    else:
        _expired(turn, node)


def _expired(turn: Turn, node: NodeState) -> None:
    fail_node(turn, node, "prompt_expired", "Nobody decided in time.", "prompt_expired", retryable=False)


def _act(turn: Turn, node: NodeState, prompt: OpenPrompt, decision: Mapping[str, Any]) -> None:
    action, answer = decision["action"], decision.get("answer")
    if action == "reject":
        message = f"Rejected by {decision['decided_by']}." + (
            f" {decision['comment']}" if decision.get("comment") else ""
        )
        fail_node(turn, node, "rejected", message, "rejected", retryable=False)
    elif prompt.purpose == rules.HELD:
        _let_go_on(turn, node, decision)
    elif prompt.purpose == "resume":
        _resume(turn, node, prompt, answer if action != "approve" else prompt.proposed)
    elif prompt.purpose == calls.BEFORE:
        calls.approved(turn, node, prompt, prompt.proposed if action == "approve" else answer)
    elif prompt.purpose == calls.AFTER:
        _pass_on(turn, node, prompt, prompt.proposed if action == "approve" else answer)
    elif prompt.purpose == "effect":
        _effect(turn, node, happened=action == "happened")
    elif prompt.purpose == "capability":
        _capability(turn, node, answer)
    elif action == "request_changes" or (action == "edit" and prompt.kind == "plan_review"):
        _change_plan(turn, node, action, answer, decision)
    else:
        _answer(turn, node, prompt.proposed if action == "approve" else answer, prompt)


def _resume(turn: Turn, node: NodeState, prompt: OpenPrompt, answer: Any) -> None:
    """A capability asked: go on where it stopped, in the same attempt."""
    node.parked = {"state": None, **(node.parked or {}), "answer": answer}
    node.resumed = True
    turn.make_ready(node)


def _pass_on(turn: Turn, node: NodeState, prompt: OpenPrompt, output: Any) -> None:
    """The result of a chat's call may be told, unless another rule asks about it too.

    What the call remembers is written with its own result only: one that a person gives instead writes nothing.
    """
    if output != prompt.proposed:
        node.parked = None
    if not calls.asks_after(turn, node, Done(output)):
        turn.out.memory.extend(write_from(kept) for kept in (node.parked or {}).get("memory", ()))
        _answer(turn, node, output, prompt)


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
    if not replan.rounds_left(turn):
        fail_node(turn, node, "too_many_rounds", "The plan was sent back too often.", "rejected", retryable=False)
        return
    note = (decision.get("comment") or "",) if action == "request_changes" else ()
    turn.move(node, NodeStatus.READY)
    reason = note[0] if note else "Edited by a reviewer."
    strategy = "search" if action == "edit" else None
    replan.ask_again(turn, None, author=str(decision["decided_by"]), reason=reason, notes=note, strategy=strategy)
    if action == "edit":
        replan.edited(turn, answer, node.node_id)


def _answer(turn: Turn, node: NodeState, output: Any, prompt: OpenPrompt | None = None) -> None:
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
    if node.step.guards == "before" and prompt is not None:
        node.approved = digest(turn.state, node.step.own.target, output)
    if node.step.guards is not None:
        turn.state.ledger.again.pop(node.node_id, None)
    turn.complete(node, output)
    node_ended(turn, node)


def _let_go_on(turn: Turn, node: NodeState, decision: Mapping[str, Any]) -> None:
    """People let go on what a runtime rule had wait; another rule's question about the same keeps it waiting."""
    state = turn.state
    turn.complete(node, {"action": decision["action"], "decided_by": decision["decided_by"]})
    state.stops.discard(node.node_id)
    asking = [state.nodes[prompt.node_id] for prompt in state.prompts.values()]
    if any(other.rule is not None and other.holds == node.holds for other in asking):
        return
    held, kept = state.nodes.get(node.holds or ""), node.then or {}
    if held is None:
        if kept.get("what") == "answer":
            unmet(turn)
    elif held.ended:
        proceed(turn, held)
        if held.step.recorded:
            turn.rewrite(held)
    else:
        held.asked = None
        turn.touch(held)
        _take_up(turn, held, kept)


def _take_up(turn: Turn, node: NodeState, kept: Mapping[str, Any]) -> None:
    """Go on with a node that waited for a rule's question: what the clock decided is done, what failed tried again."""
    if kept["what"] == "attempt":
        try_again(turn, node, kept)
        return
    prompt = OpenPrompt(**kept["prompt"])
    if kept["decision"] is not None:
        _act(turn, node, prompt, kept["decision"])
    elif node.step.kind.spec.name == "ask" and prompt.purpose in ("answer", "plan"):
        turn.make_ready(node)
    else:
        _expired(turn, node)
