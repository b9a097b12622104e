"""From rows back to a run in memory: resuming is loading the rows, nothing is replayed (F10)."""

from __future__ import annotations

from collections.abc import Set
from typing import Any

import orjson

from contracts.envelope import kept_envelope
from contracts.history import Origin
from contracts.lifecycle import NodeStatus, RunStatus
from contracts.plan import PlanGraph
from contracts.prompts import PromptPolicy
from engine import calls, items, rules
from engine.asking import OUTPUT_REPAIR, repair_step, tells_of_due_time
from engine.compiled import Step, Way
from engine.machine import Machine
from engine.mail import read_signal
from engine.planning import UNPLANNED
from engine.shell import Shell
from engine.signals import CalledBack
from engine.state import Ledger, Lineage, NodeState, OpenPrompt, RunState, order_of
from engine.turn import Turn, World
from store.rows import LoadedRun, NodeRow, PromptRow, RunRow


def machine_of(loaded: LoadedRun, shell: Shell) -> Machine:
    """Return a claimed run's machine as the last commit left it; a queued run is under way from now on.

    Raises ``ValueError`` for a run without a plan that nobody was asked for.
    """
    now_ms = shell.clock.now_ms()
    state = revive(loaded, None if loaded.plan is None else read_plan(loaded.plan.plan_json), shell)
    if loaded.plan is None and state.ledger.asked is None:
        raise ValueError(f"run {loaded.run.run_id} has no plan")
    if state.status is RunStatus.QUEUED:
        state.status = RunStatus.RUNNING if loaded.plan is not None else RunStatus.PLANNING
        state.started_at = now_ms if state.start_at is None else None
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


def revive(loaded: LoadedRun, graph: PlanGraph | None, shell: Shell) -> RunState:
    """Return the run as its last commit left it; nodes and frontier follow in :func:`restore_nodes`.

    ``graph`` is None while its plan is still to be written.
    """
    row = loaded.run
    envelope_json = orjson.loads(loaded.envelope_json)
    envelope = kept_envelope(envelope_json)
    return RunState(
        run_id=row.run_id,
        tenant=row.tenant,
        principal=row.principal,
        correlation_id=row.correlation_id,
        envelope=envelope,
        envelope_json=envelope_json,
        plan=UNPLANNED if graph is None else shell.compile(graph, envelope),
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
        lineage=lineage_of(row),
        origin=Origin.from_json(row.origin_json),
        start_at=row.start_at if row.started_at is None else None,
        documents=dict(loaded.documents),
        about=shell.addresses.of_run(row.tenant, row.run_id),
    )


def lineage_of(row: RunRow) -> Lineage:
    """Return where a run comes from."""
    return Lineage(
        row.root_run_id,
        row.parent_run_id,
        row.parent_node_id,
        row.parent_generation,
        row.origin_run_id,
        row.origin_node_id,
    )


def restore_nodes(state: RunState, world: World, loaded: LoadedRun, now_ms: int) -> None:
    """Rebuild node states, the frontier's counters and the open prompts from rows."""
    rows = sorted(loaded.nodes, key=lambda row: order_of(row.node_id))
    turn = Turn(state, world, now_ms)
    for row in rows:
        state.nodes[row.node_id] = _node(turn, row)
    for prompt in loaded.prompts:
        if not _consumed(state, prompt):
            state.prompts[prompt.prompt_id] = _prompt(state, prompt)
            _set_alarm(state, prompt)
    held = rules.held_back(state)
    for node in list(state.nodes.values()):
        _place(turn, node, held)
    _park(state, loaded)
    _count_ways(state, held)


def _park(state: RunState, loaded: LoadedRun) -> None:
    """Keep what was seen and not answered: callbacks that came before their nodes wait for them."""
    for row in loaded.signals:
        if row.signal_id <= loaded.run.seen:
            signal = read_signal(row)
            if isinstance(signal, CalledBack):
                state.parked[signal.node_id] = signal


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
        outer, index = state.nodes[parent], int(node_id[len(parent) + 1 : -1])
        if calls.is_chat(outer):
            return calls.call_step(turn, outer, index)
        if items.is_loop(outer):
            items.recall(state, outer, index)
        elif not outer.items:
            items.recount(state, outer)
        return items.item_step(turn, outer, index)
    if node_id == OUTPUT_REPAIR:
        return repair_step()
    # A rule's question, or what completed under a plan that has been changed since.
    return state.plan.steps.get(node_id) or rules.policy_step(node_id)


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


def _set_alarm(state: RunState, row: PromptRow) -> None:
    """Have ``on_timeout`` rules told of the due time, unless they were; an escalation moves the row's, not this one."""
    policy = PromptPolicy.model_validate_json(row.policy_json)
    told = state.nodes[row.node_id or ""].overdue == row.prompt_id
    if policy.due_seconds is not None and not told and tells_of_due_time(state, policy):
        state.alarms[row.prompt_id] = row.created_at + round(policy.due_seconds * 1_000)


def _place(turn: Turn, node: NodeState, held: Set[str]) -> None:
    """Put a node into the line it stands in."""
    state = turn.state
    if node.status is NodeStatus.READY:
        state.ready.append(node.node_id)
    elif node.status is NodeStatus.RUNNING:
        state.running.add(node.node_id)
    elif node.status is NodeStatus.BACKOFF:
        state.backoff.add(node.node_id)
    elif node.status is NodeStatus.WAITING and node.asked is None:
        _resume_wait(turn, node, held)
    elif node.status is NodeStatus.WAITING and node.rule is not None and node.stops:
        state.stops.add(node.node_id)


def _resume_wait(turn: Turn, node: NodeState, held: Set[str]) -> None:
    """Put a node that waits, but for no person, where its answer will be looked for."""
    state, kind = turn.state, node.step.kind.spec
    if kind.name == "map":
        items.recount(state, node, held)
    if kind.called_back:
        state.callbacks.add(node.node_id)
    if node.child_run_id is not None:
        state.children.add(node.node_id)
    if node.wake_at is not None:
        state.timers.add(node.node_id)


def _count_ways(state: RunState, held: Set[str]) -> None:
    """Decide again every way out of an ended node, as it was decided before; not of one that a rule has wait."""
    for node in list(state.nodes.values()):
        if not node.ended or node.parent is not None or node.node_id not in state.plan.steps:
            continue
        if node.node_id in held:
            continue
        state.ended_nodes += 1
        for way in node.step.ways:
            state.unresolved[way.to] = state.unresolved.get(way.to, state.plan.steps[way.to].indegree) - 1
            if way.counts and _was_taken(node, way):
                state.live.add(way.to)


def _was_taken(node: NodeState, way: Way) -> bool:
    if node.status is not NodeStatus.COMPLETED:
        return way.on_error and node.status is NodeStatus.FAILED
    if node.taken is not None:
        return way.to in node.taken
    return not way.on_error and (way.side is None or node.output["taken"] is way.side)
