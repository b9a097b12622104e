"""The calls that a chat's model asks for: child nodes of the chat, gated like any other (W6, H2, H5).

``name[0]``, ``name[1]`` … run side by side; the chat waits for them and then goes on in the same attempt. A call that
fails, or that people reject, does not end the run: the model is told. What a call is stands in the chat's row
(``NodeState.calls``), so another holder goes on with the same calls under the same keys.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from contracts.envelope import HitlRule
from contracts.events import NodeError, ToolCalls
from contracts.lifecycle import NodeStatus
from contracts.outcome import Done, Invoke
from contracts.plan import PlanNode
from contracts.prompts import PromptPolicy, PromptSpec
from engine.approvals import would_run
from engine.asking import ask, bound_hash
from engine.compiled import Step, compile_step
from engine.items import open_node
from engine.state import NodeState, OpenPrompt, RunState
from engine.turn import Turn

CHAT: Final = "chat"
BEFORE: Final = "call"
"""``OpenPrompt.purpose``: may this call be made?"""
AFTER: Final = "result"
"""``OpenPrompt.purpose``: may the model be told this result?"""
TO_MODEL: Final = "model"
"""The ``fallback`` in ``node_error``: the model is told, and the run goes on."""
MAX_TOLD: Final = 64 * 1024


def is_call(state: RunState, node: NodeState) -> bool:
    """Say whether a node is a call that a chat's model asked for."""
    return node.parent is not None and is_chat(state.nodes[node.parent])


def is_chat(node: NodeState) -> bool:
    """Say whether a node's children are the calls of a model: a chat's, or those of a capability that talks to one."""
    return bool(node.calls) or node.step.kind.spec.name == CHAT


def begin(turn: Turn, chat: NodeState, outcome: Invoke) -> None:
    """Open the calls of a round; the chat waits for them, or goes on at once when none of them can be made."""
    first = len(chat.calls)
    chat.parked = {"state": outcome.state}
    for call in outcome.calls:
        if call.node is not None:
            chat.calls = [*chat.calls, {"node": dict(call.node), "schema": call.schema, "shown_as": call.shown_as}]
    rounds = outcome.state["rounds"]
    said = rounds[-1]
    text = said["text"] if len(said["text"]) <= MAX_TOLD else None
    turn.emit(ToolCalls(len(rounds), text, [_shown(call) for call in said["calls"]]), chat.node_id)
    if len(chat.calls) == first:
        _go_on(turn, chat)
        return
    turn.move(chat, NodeStatus.WAITING)
    open_missing(turn, chat)


def _shown(call: Mapping[str, Any]) -> dict[str, Any]:
    """Return a call as the frame shows it."""
    told = call["arguments"] if len(call["arguments"]) <= MAX_TOLD else None
    shown = {"call_id": call["call_id"], "name": call["name"], "arguments": told, "node_id": call["node_id"]}
    return {**shown, "error": call.get("error")}


def open_missing(turn: Turn, chat: NodeState) -> None:
    """Queue every call that has no node yet."""
    for index in range(len(chat.calls)):
        if f"{chat.node_id}[{index}]" not in turn.state.nodes:
            turn.make_ready(open_node(turn, call_step(turn, chat, index), parent=chat.node_id))


def call_step(turn: Turn, chat: NodeState, index: int) -> Step:
    """Return the step of one call; attempts and time are the chat's where the call does not say."""
    node = PlanNode.model_validate({"node_id": "call", **chat.calls[index]["node"]})
    named = node.model_copy(update={"node_id": f"{chat.node_id}[{index}]"})
    return compile_step(named, turn.world.kinds, chat.step.max_attempts, chat.step.timeout_seconds)


def take_up(turn: Turn, chat: NodeState) -> None:
    """Go on with a chat whose calls so far were put in place."""
    open_missing(turn, chat)
    advance(turn, chat)


def advance(turn: Turn, chat: NodeState) -> None:
    """Let the chat go on once every call has ended."""
    nodes = turn.state.nodes
    if chat.status is NodeStatus.WAITING and all(nodes[name].ended for name in names(chat) if name in nodes):
        _go_on(turn, chat)


def names(chat: NodeState) -> list[str]:
    """Return the ids of a chat's calls, in order."""
    return [f"{chat.node_id}[{index}]" for index in range(len(chat.calls))]


def _go_on(turn: Turn, chat: NodeState) -> None:
    """Queue the chat for the next call of its model, in the same attempt."""
    chat.resumed = True
    turn.make_ready(chat)


def results(state: RunState, chat: NodeState) -> dict[str, dict[str, Any]]:
    """Return what every call that has ended says: ``output`` or ``error``, and ``called_with`` if people changed it."""
    found = {}
    for place, name in enumerate(names(chat)):
        node = state.nodes.get(name)
        if node is not None and node.ended:
            found[name] = _said(node, chat.calls[place])
    return found


def _said(node: NodeState, call: Mapping[str, Any]) -> dict[str, Any]:
    changed = {"called_with": call["called_with"]} if "called_with" in call else {}
    if node.status is NodeStatus.COMPLETED:
        return {"output": node.output, **changed}
    error = node.error or {"code": node.status.value, "message": "The call was not made."}
    return {"error": {"code": error["code"], "message": error["message"]}, **changed}


def failed(turn: Turn, node: NodeState, code: str, message: str) -> None:
    """End a call that came to nothing; its chat goes on with that."""
    turn.move(node, NodeStatus.FAILED)
    node.ended_at = turn.now
    node.error = {"code": code, "message": message}
    turn.emit(NodeError(node.attempt, code, message, TO_MODEL), node.node_id)
    advance(turn, turn.state.nodes[node.parent or ""])


# --- gates -----------------------------------------------------------------------------------------------------------


def asks_before(turn: Turn, node: NodeState) -> bool:
    """Ask people about a call that is about to be made, if a policy says so; True when they are asked.

    Every rule asks once, one after the other; the approval binds exactly these inputs (H5).
    """
    rule = _next(turn.state, node, "before")
    if rule is None:
        return False
    chat = turn.state.nodes[node.parent or ""]
    call = chat.calls[_index(node)]
    turn.start(node)
    turn.out.dispatch.remove(node.node_id)
    turn.state.running.discard(node.node_id)
    node.called_at = None
    inputs = would_run(turn.state, node.step)
    node.passed = [*node.passed, rule.id]
    node.shown_as = call["shown_as"]
    covers = bound_hash(inputs, node.step.node, node.version)
    ask(turn, node, _spec(rule, inputs, call["schema"]), BEFORE, covers)
    return True


def asks_after(turn: Turn, node: NodeState, outcome: Done) -> bool:
    """Ask people about what a call put out before the model is told, if a policy says so; True when they are asked."""
    rule = _next(turn.state, node, "after")
    if rule is None:
        return False
    node.passed = [*node.passed, rule.id]
    schema = turn.world.contracts.of(node.step, turn.state.plan).shown
    ask(turn, node, _spec(rule, outcome.output, schema), AFTER)
    return True


def approved(turn: Turn, node: NodeState, prompt: OpenPrompt, answer: Any) -> None:
    """Make the call with the inputs that were approved; people may have changed them."""
    chat = turn.state.nodes[node.parent or ""]
    if answer != prompt.proposed:
        index = _index(node)
        call = chat.calls[index]
        changed = {**call["node"], "inputs": {name: {"value": value} for name, value in answer.items()}}
        chat.calls = [*chat.calls[:index], {**call, "node": changed, "called_with": answer}, *chat.calls[index + 1 :]]
        node.step = call_step(turn, chat, index)
        turn.touch(chat)
    node.approved = bound_hash(would_run(turn.state, node.step), node.step.node, node.version)
    node.resumed = True
    turn.make_ready(node)


def refused_at_call(turn: Turn, node: NodeState, now: str | None) -> None:
    """What stands behind the capability's name is not what was approved: everybody is asked again (H5)."""
    chat, index = turn.state.nodes[node.parent or ""], _index(node)
    chat.calls = [*chat.calls[:index], {**chat.calls[index], "shown_as": now}, *chat.calls[index + 1 :]]
    node.approved, node.passed, node.shown_as = None, [], None
    node.resumed = True
    turn.touch(chat)
    turn.make_ready(node)


def _index(node: NodeState) -> int:
    return int(node.node_id[node.node_id.rindex("[") + 1 : -1])


def _next(state: RunState, node: NodeState, when: str) -> HitlRule | None:
    """Return the next rule about a call that has not asked yet; those about the chat are gates of the plan."""
    rules: Sequence[HitlRule] = state.envelope.policies.gates()
    for rule in rules:
        if rule.when == when and rule.id not in node.passed and _selects(rule, node.step.node):
            return rule
    return None


def _selects(rule: HitlRule, node: PlanNode) -> bool:
    wanted = {} if rule.selector is None else rule.selector.model_dump(exclude_none=True)
    return all(getattr(node, name) == value for name, value in wanted.items())


def _spec(rule: HitlRule, proposed: Any, schema: Any) -> PromptSpec:
    """Return the rule's prompt about a call."""
    policy = {name: getattr(rule, name) for name in PromptPolicy.model_fields if name in rule.model_fields_set}
    return PromptSpec(
        kind=rule.prompt_kind(),
        question=rule.question,
        proposed=proposed,
        answer_schema=schema,
        policy_id=rule.id,
        **policy,
    )
