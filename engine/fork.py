"""Another run from where one stands: what completed is copied, the rest begins afresh (design §3; docs/decisions/0006).

``retry`` goes on where a failed or cancelled run stopped; a fork begins again at a node, with its inputs or its output
edited. The run it comes from is only read. A fork is born queued, its copies and what may run next already in its rows,
so whoever takes it goes on as with any run.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import orjson

from contracts import history
from contracts.envelope import kept_envelope
from contracts.errors import ErrorItem, ForkInvalid, NodeNotFound
from contracts.events import Frame, PlanGenerated, Start
from contracts.lifecycle import NodeStatus, RunStatus
from contracts.plan import PlanGraph
from engine.copying import Origin, Rows, copied, go_on, place, sorted_rows
from engine.documents import Supply, take_in
from engine.edits import with_inputs
from engine.newborn import below, queued_row
from engine.record import Draft, plan_row, write_of
from engine.revive import read_plan
from engine.shell import Shell
from engine.state import NO_LINEAGE, NOTHING, Ledger, Lineage, NodeState, RunState
from engine.turn import Turn
from store.rows import Birth, NodeRow


@dataclass(frozen=True, slots=True)
class ForkOrder:
    """A fork on its way to become a run. Without ``node_id`` it goes on where the origin stopped.

    ``inputs`` are literal values for inputs of the node, ``output`` is its output; at most one of them is given.
    ``lineage`` is that of a fork that is a child run itself, ``depth`` how many runs stand above it.
    """

    run_id: str
    principal: str
    correlation_id: str
    origin: Origin
    node_id: str | None = None
    inputs: Mapping[str, Any] | None = None
    output: Any = NOTHING
    reason: str | None = None
    lineage: Lineage = NO_LINEAGE
    depth: int = 0
    supply: Supply | None = None


def fork(order: ForkOrder, shell: Shell, now_ms: int) -> tuple[Birth, list[Frame]]:
    """Return the birth of a fork and its frames; child runs that go on with it are born with it.

    Raises ``NodeNotFound``, and ``ForkInvalid`` with pointers into the request (``/inputs/…``, ``/output…``).
    """
    origin = order.origin
    graph = read_plan(origin.plan.plan_json)
    if order.node_id is not None and order.node_id not in graph.by_id:
        raise NodeNotFound(f"The plan has no node {order.node_id!r}.")
    again = set() if order.node_id is None else _after(graph, {order.node_id})
    if order.inputs is not None and order.node_id is not None:
        graph, touched = with_inputs(graph, order.node_id, order.inputs, shell.directory.catalogue())
        again |= _after(graph, touched)
    state = _state(order, graph, shell, now_ms)
    turn = Turn(state, shell.world(state.envelope), now_ms)
    rows = sorted_rows(turn, origin, again)
    if order.node_id is not None and order.output is not NOTHING:
        rows.done[order.node_id] = _with_output(turn, order)
    _say(turn, order)
    place(turn, rows)
    go_on(turn, rows)
    return _birth(order, turn, rows, shell)


def _state(order: ForkOrder, graph: PlanGraph, shell: Shell, now_ms: int) -> RunState:
    """Return the fork's state without any node; whatever begins afresh has a generation of its own."""
    origin = order.origin
    envelope_json = orjson.loads(origin.envelope_json)
    envelope = kept_envelope(envelope_json)
    ledger = Ledger(strategy=orjson.loads(origin.run.ledger_json).get("strategy", "search"), depth=order.depth)
    ledger.generations = {row.node_id: row.generation + 1 for row in origin.nodes if "[" not in row.node_id}
    state = RunState(
        run_id=order.run_id,
        tenant=origin.run.tenant,
        principal=order.principal,
        correlation_id=order.correlation_id,
        envelope=envelope,
        envelope_json=envelope_json,
        plan=shell.compile(graph, envelope),
        epoch=0,
        status=RunStatus.QUEUED,
        created_at=now_ms,
        plan_version=graph.plan_version,
        ledger=ledger,
        lineage=replace(order.lineage, origin_run_id=origin.run.run_id, origin_node_id=order.node_id),
        about=shell.addresses.of_run(origin.run.tenant, order.run_id),
        origin=_descent(order),
    )
    take_in(state, order.supply)
    return state


def _descent(order: ForkOrder) -> history.Origin:
    """Return where a fork comes from: the same flow and story, through another door. A child run has none."""
    if order.lineage.parent_run_id is not None:
        return history.PLANNED
    trigger: history.Trigger = "retry" if order.node_id is None else "fork"
    return replace(history.Origin.from_json(order.origin.run.origin_json), trigger=trigger)


def _after(graph: PlanGraph, starts: set[str]) -> set[str]:
    """Return nodes and everything that comes after them."""
    onward: dict[str, list[str]] = {}
    for edge in graph.edges:
        onward.setdefault(edge.from_, []).append(edge.to)
    found, line = set(starts), list(starts)
    while line:
        for node_id in onward.get(line.pop(), ()):
            if node_id not in found:
                found.add(node_id)
                line.append(node_id)
    return found


def _with_output(turn: Turn, order: ForkOrder) -> NodeRow:
    """Return the row of the node whose output was edited; what people decide is not for a fork to say."""
    node_id = order.node_id or ""
    step = turn.state.plan.steps[node_id]
    if step.node.kind == "ask":
        message = "People answer this node; a fork may begin again at it, and they are asked again."
        raise ForkInvalid(errors=[ErrorItem("/output", "people_answer", message)])
    findings = turn.world.contracts.of(step, turn.state.plan).findings(order.output)
    if findings:
        items = [ErrorItem(f"/output{item['pointer']}", item["keyword"], item["message"]) for item in findings]
        raise ForkInvalid("The output does not fit what the node has to put out.", errors=items)
    known = next((row for row in order.origin.nodes if row.node_id == node_id), None)
    row = known or NodeRow(node_id, step.node.kind, NodeStatus.COMPLETED.value)
    output = orjson.dumps(order.output).decode()
    generation = turn.state.ledger.generations.get(node_id, 0)
    began = row.started_at or turn.now
    made = copied(row, NodeStatus.COMPLETED)
    return replace(made, output_json=output, generation=generation, started_at=began, ended_at=turn.now)


def _say(turn: Turn, order: ForkOrder) -> None:
    """Say what the run is, and its plan."""
    links = {"events": f"/api/v1/runs/{order.run_id}/events"}
    lineage = turn.state.lineage
    whose = {"run_id": order.origin.run.run_id, "node_id": order.node_id}
    parent = None
    if lineage.parent_run_id is not None:
        parent = {"run_id": lineage.parent_run_id, "node_id": lineage.parent_node_id or ""}
    state = turn.state
    turn.emit(Start(state.envelope.objective, order.origin.run.contract_hash, links, forked_from=whose, parent=parent))
    turn.emit(PlanGenerated(orjson.Fragment(state.plan.graph.wire)))


def _birth(order: ForkOrder, turn: Turn, rows: Rows, shell: Shell) -> tuple[Birth, list[Frame]]:
    state, origin = turn.state, order.origin
    draft = Draft(0)
    draft.add(state, turn.out)
    write = write_of(state, draft, release=False, wake_at=turn.now)
    author, reason = origin.plan.author, origin.plan.reason
    if state.plan_version != origin.plan.version:
        author = order.principal
        reason = order.reason or f"The inputs of {order.node_id} were edited in a fork of {origin.run.run_id}."
    write.plan = plan_row(state.plan.graph, author, reason, turn.now)
    run = queued_row(
        write,
        state.lineage,
        principal=state.principal,
        correlation_id=state.correlation_id,
        objective=state.envelope.objective,
        contract_hash=origin.run.contract_hash,
        now_ms=turn.now,
        origin=state.origin,
    )
    for node_id in rows.waiting:
        if node_id in state.children:
            child = _child(order, state, state.nodes[node_id], shell, turn.now)
            write.spawned.append(child)
            write.mail += child.write.mail
    waits = [] if order.supply is None else order.supply.waits(state.tenant, state.run_id, turn.now)
    return Birth(run=run, envelope_json=origin.envelope_json, write=write, waits=waits), draft.frames


def _child(order: ForkOrder, parent: RunState, node: NodeState, shell: Shell, now_ms: int) -> Birth:
    """Return the birth of the child run that goes on where the one in the origin stopped."""
    inside = ForkOrder(
        run_id=node.child_run_id or "",
        principal=order.principal,
        correlation_id=order.correlation_id,
        origin=order.origin.children[node.node_id],
        lineage=below(parent.run_id, parent.lineage, node.node_id, node.generation),
        depth=parent.ledger.depth + 1,
        supply=None if order.supply is None else replace(order.supply, missing=()),
    )
    return fork(inside, shell, now_ms)[0]
