"""From rows back to a run in memory: resuming is loading the rows, nothing is replayed (F10)."""

from __future__ import annotations

from typing import Any

import orjson

from contracts.envelope import read_envelope
from contracts.lifecycle import NodeStatus, RunStatus
from contracts.plan import PlanGraph
from engine import frontier
from engine.asking import repair_step
from engine.compiled import Step
from engine.machine import Machine
from engine.outputs import bind
from engine.shell import Shell
from engine.state import Ledger, NodeState, OpenPrompt, RunState
from engine.turn import Turn, World
from store.rows import LoadedRun, NodeRow, PromptRow


def machine_of(loaded: LoadedRun, shell: Shell) -> Machine:
    """Return a claimed run's machine as the last commit left it; a queued run is under way from now on.

    Raises ``ValueError`` for a run without a plan.
    """
    if loaded.plan is None:
        raise ValueError(f"run {loaded.run.run_id} has no plan")
    now_ms = shell.clock.now_ms()
    state = revive(loaded, read_plan(loaded.plan.plan_json), shell)
    if state.status is RunStatus.QUEUED:
        state.status, state.started_at = RunStatus.RUNNING, now_ms
    world = shell.world(state.envelope)
    restore_nodes(state, world, loaded, now_ms)
    return Machine(state, world, lambda plan: shell.compile(plan, state.envelope))


def under_way(state: RunState) -> frozenset[tuple[str, int, int]]:
    """Return the attempts that a run just loaded had under way, as :class:`engine.signals.Recovered` names them."""
    running = (state.nodes[node_id] for node_id in state.running)
    return frozenset((node.node_id, node.attempt, node.generation) for node in running)


def read_plan(text: str) -> PlanGraph:
    """Return a stored plan; it was valid when it was written, so only its shape is read."""
    return PlanGraph.model_validate(orjson.loads(text))


def revive(loaded: LoadedRun, graph: PlanGraph, shell: Shell) -> RunState:
    """Return the run as its last commit left it; nodes and frontier follow in :func:`restore_nodes`."""
    row = loaded.run
    envelope_json = orjson.loads(loaded.envelope_json)
    envelope = read_envelope(envelope_json)
    return RunState(
        run_id=row.run_id,
        tenant=row.tenant,
        principal=row.principal,
        correlation_id=row.correlation_id,
        envelope=envelope,
        envelope_json=envelope_json,
        plan=shell.compile(graph, envelope),
        epoch=row.epoch,
        seq=row.last_seq,
        status=RunStatus(row.status),
        waiting_on=tuple(orjson.loads(row.waiting_on_json)),
        created_at=row.created_at,
        started_at=row.started_at,
        ended_at=row.ended_at,
        plan_version=row.plan_version,
        ledger=Ledger(**orjson.loads(row.ledger_json)) if row.ledger_json != "{}" else Ledger(),
        seen=row.seen,
    )


def restore_nodes(state: RunState, world: World, loaded: LoadedRun, now_ms: int) -> None:
    """Rebuild node states, the frontier's counters and the open prompts from rows."""
    rows = sorted(loaded.nodes, key=lambda row: (row.node_id.count("["), row.node_id))
    turn = Turn(state, world, now_ms)
    for row in rows:
        node = _node(turn, row)
        state.nodes[row.node_id] = node
    for prompt in loaded.prompts:
        if not _consumed(state, prompt):
            state.prompts[prompt.prompt_id] = _prompt(state, prompt)
    for node in list(state.nodes.values()):
        _place(turn, node)
    _count_ways(state)


def _node(turn: Turn, row: NodeRow) -> NodeState:
    private: dict[str, Any] = orjson.loads(row.state_json) if row.state_json else {}
    parent = row.node_id[: row.node_id.rindex("[")] if row.node_id.endswith("]") else None
    node = NodeState(
        step=_step(turn, row.node_id, parent),
        status=NodeStatus(row.status),
        attempt=row.attempt,
        generation=row.generation,
        started_at=row.started_at,
        ended_at=row.ended_at,
        wake_at=row.wake_at,
        inputs_json=row.inputs_json,
        inputs=orjson.loads(row.inputs_json) if row.inputs_json else None,
        error=orjson.loads(row.error_json) if row.error_json else None,
        history=orjson.loads(row.history_json) if row.history_json else [],
        parent=parent,
    )
    if row.output_json is not None:
        node.output_json = row.output_json.encode()
        node.output = orjson.loads(node.output_json)
    for name, value in private.items():
        if name != "whole":
            setattr(node, name, value)
    if private.get("whole") and node.status is NodeStatus.COMPLETED:
        turn.state.final = node.output
    return node


def _step(turn: Turn, node_id: str, parent: str | None) -> Step:
    state = turn.state
    if parent is not None:
        map_node = state.nodes[parent]
        if not map_node.items:
            _refill(turn, map_node)
        return frontier.item_step(turn, map_node, int(node_id[len(parent) + 1 : -1]))
    step = state.plan.steps.get(node_id)
    return step if step is not None else repair_step()


def _refill(turn: Turn, map_node: NodeState) -> None:
    """Bind a map's list again: what it is bound to completed before and never changes."""
    items = bind(turn.state, map_node.step.own.over)
    map_node.items = items if isinstance(items, list) else []


def _consumed(state: RunState, row: PromptRow) -> bool:
    """Say whether the machine has acted on the prompt already.

    A prompt that was settled, and whose signal is still unread, is open to the machine: its node still waits for it.
    """
    node = state.nodes.get(row.node_id or "")
    return node is None or node.status is not NodeStatus.WAITING or node.prompt_id != row.prompt_id


def _prompt(state: RunState, row: PromptRow) -> OpenPrompt:
    node_id = row.node_id or ""
    purpose = state.nodes[node_id].asked or "answer"
    return OpenPrompt(row.prompt_id, node_id, row.kind, row.bound_hash, orjson.loads(row.proposed_json), purpose)


def _place(turn: Turn, node: NodeState) -> None:
    """Put a node into the line it stands in."""
    state = turn.state
    if node.status is NodeStatus.READY:
        state.ready.append(node.node_id)
    elif node.status is NodeStatus.RUNNING:
        state.running.add(node.node_id)
    elif node.status is NodeStatus.BACKOFF:
        state.backoff.add(node.node_id)
    elif node.status is NodeStatus.WAITING and node.step.kind.spec.name == "map" and node.asked is None:
        _resume_map(turn, node)


def _resume_map(turn: Turn, node: NodeState) -> None:
    if not node.items:
        _refill(turn, node)
    children = [turn.state.nodes.get(f"{node.node_id}[{index}]") for index in range(len(node.items))]
    node.next_item = sum(child is not None for child in children)
    node.items_left = sum(child is None or not child.ended for child in children)


def _count_ways(state: RunState) -> None:
    """Decide again every way out of an ended node, as it was decided before."""
    for node in list(state.nodes.values()):
        if not node.ended or node.parent is not None or node.node_id not in state.plan.steps:
            continue
        state.ended_nodes += 1
        for way in node.step.ways:
            state.unresolved[way.to] = state.unresolved.get(way.to, state.plan.steps[way.to].indegree) - 1
            if way.counts and _was_taken(node, way.to, way.side):
                state.live.add(way.to)


def _was_taken(node: NodeState, to: str, side: bool | None) -> bool:
    if node.status is not NodeStatus.COMPLETED:
        return False
    if node.taken is not None:
        return to in node.taken
    return side is None or node.output["taken"] is side
