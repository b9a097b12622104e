"""What a fork takes over from the run it comes from, and what may run next in it (docs/decisions/0006, forks)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from contracts.lifecycle import NodeStatus
from engine import calls, failures, frontier, items
from engine.compiled import Step
from engine.state import NodeState, order_of
from engine.turn import Turn
from store.rows import NodeRow, PlanRow, RunRow

_KEPT: Final = ("approved", "shown_as", "version", "called_at", "calls", "passed")
"""What a fork takes over of what only the machine knows of a node."""
_OPEN_ENDS: Final = frozenset({"prompt_expired", "prompt_withdrawn", "rejected", "output_invalid"})
"""Codes with which a call ends although it may have happened: people were asked about it, or its output did not fit."""


@dataclass(frozen=True, slots=True)
class Origin:
    """A run as it stands, to be forked: its row, envelope, present plan and nodes.

    ``children`` are the last child runs of nodes that have not completed, by the node that waited for them.
    """

    run: RunRow
    envelope_json: str
    plan: PlanRow
    nodes: Sequence[NodeRow]
    children: Mapping[str, Origin] = field(default_factory=dict)


@dataclass(slots=True)
class Rows:
    """What becomes of the origin's rows: copied as they are, doubtful because they may have acted, gone on with."""

    done: dict[str, NodeRow] = field(default_factory=dict)
    doubtful: dict[str, NodeRow] = field(default_factory=dict)
    unfolded: dict[str, NodeRow] = field(default_factory=dict)
    """maps and loops that had begun with their items"""
    waiting: dict[str, NodeRow] = field(default_factory=dict)
    """nodes whose child run is forked with them"""
    judged: set[str] = field(default_factory=set)
    """completed nodes about which a rule has asked, and was answered"""


def sorted_rows(turn: Turn, origin: Origin, again: set[str]) -> Rows:
    """Say what becomes of each row of the origin; what is not told begins afresh."""
    steps, found = turn.state.plan.steps, Rows()
    by_id = {row.node_id: row for row in origin.nodes}
    ended = {row.node_id for row in origin.nodes if row.status == NodeStatus.COMPLETED or _was_told(by_id, row)}
    for row in origin.nodes:
        root, outer = row.node_id.partition("[")[0], by_id.get(_outer(row.node_id))
        private = {} if row.state_json is None else orjson.loads(row.state_json)
        if private.get("rule") and row.status == NodeStatus.COMPLETED:
            found.judged.add(private.get("holds") or "")
        if root not in steps or root in again or any(name in ended for name in _around(row.node_id)):
            continue
        once = _once(steps[root], row, outer)
        if row.status == NodeStatus.COMPLETED:
            found.done[row.node_id] = copied(row, NodeStatus.COMPLETED)
        elif once and _may_have_happened(row, private):
            found.doubtful[row.node_id] = copied(row, NodeStatus.RUNNING)
        elif row.node_id in ended:
            found.done[row.node_id] = copied(row, NodeStatus.FAILED)
        elif row.node_id in origin.children:
            found.waiting[row.node_id] = copied(row, NodeStatus.WAITING)
        if outer is not None:
            kept = ("parked",) if _calls(outer) else ()
            found.unfolded[outer.node_id] = copied(outer, NodeStatus.WAITING, kept)
    return found


def _outer(name: str) -> str:
    """Return the node that an item, or a call, belongs to; empty for a node of the plan."""
    return name.rpartition("[")[0]


def _around(name: str) -> Iterator[str]:
    """Yield every node that an item or a call stands inside of."""
    while name := _outer(name):
        yield name


def _calls(row: NodeRow) -> list[Mapping[str, Any]]:
    """Return the calls that a node's model has asked for."""
    found: list[Mapping[str, Any]] = orjson.loads(row.state_json or "{}").get("calls", [])
    return found


def _once(root: Step, row: NodeRow, outer: NodeRow | None) -> bool:
    """Say whether a row is of a call that must not be repeated."""
    if outer is None:
        return root.once
    asked = _calls(outer)
    if asked:
        return bool(asked[order_of(row.node_id)[2][-1]]["node"]["effects"] == "once")
    return bool(root.own.inner().effects == "once")


def _was_told(by_id: Mapping[str, NodeRow], row: NodeRow) -> bool:
    """Say whether a row is of a model's call that failed: it has ended, its model was told."""
    outer = by_id.get(_outer(row.node_id))
    return row.status == NodeStatus.FAILED and outer is not None and bool(_calls(outer))


def _may_have_happened(row: NodeRow, private: Mapping[str, Any]) -> bool:
    """Say whether a call that must not be repeated began, and nobody knows how it ended."""
    if private.get("asked") == "effect":
        return True
    if private.get("called_at") is None:
        return False
    error = {} if row.error_json is None else orjson.loads(row.error_json)
    if row.status == NodeStatus.FAILED:
        return error.get("code") in _OPEN_ENDS
    told = [] if row.history_json is None else orjson.loads(row.history_json)
    return not any(entry.get("attempt") == row.attempt for entry in told)


def copied(row: NodeRow, status: NodeStatus, also: Sequence[str] = ()) -> NodeRow:
    """Return a node's row for the fork; what belongs to the origin alone (prompts, child runs, parked work) stays.

    One that has not completed has all its attempts before it again. ``also`` names what else of its state goes along.
    """
    private = {} if row.state_json is None else orjson.loads(row.state_json)
    kept = {name: private[name] for name in (*_KEPT, *also) if name in private}
    done = status in (NodeStatus.COMPLETED, NodeStatus.FAILED)
    return replace(
        row,
        status=status.value,
        wake_at=None,
        attempt=row.attempt if done else 1,
        history_json=row.history_json if done else None,
        ended_at=row.ended_at if done else None,
        output_json=row.output_json if done else None,
        error_json=row.error_json if status is NodeStatus.FAILED else None,
        state_json=orjson.dumps(kept).decode() if kept else None,
    )


def place(turn: Turn, rows: Rows) -> None:
    """Give every node that is not begun afresh its state: copies first, in the plan's order, then what goes on."""
    steps = turn.state.plan.steps
    for step in steps.values():
        if step.node_id in rows.done:
            _put(turn, step, rows.done[step.node_id])
    for step in steps.values():
        if step.node_id in rows.doubtful:
            _put(turn, step, rows.doubtful[step.node_id])
        elif step.node_id in rows.waiting:
            _put(turn, step, rows.waiting[step.node_id])
        elif step.node_id in rows.unfolded:
            _place_items(turn, _put(turn, step, rows.unfolded[step.node_id]), rows)


def _place_items(turn: Turn, outer: NodeState, rows: Rows) -> None:
    """Give the items of a map or loop their state; of a loop only the rounds up to the first that begins afresh."""
    known = {**rows.unfolded, **rows.waiting, **rows.doubtful, **rows.done}
    names = sorted((name for name in known if _outer(name) == outer.node_id), key=order_of)
    if not items.is_loop(outer) and not calls.is_chat(outer):
        items.recount(turn.state, outer)
    for place, name in enumerate(names):
        index = order_of(name)[2][-1]
        step = _inner_step(turn, outer, index, place)
        if step is None:
            return
        node = _put(turn, step, known[name], outer.node_id)
        if name in rows.unfolded:
            _place_items(turn, node, rows)
    if not items.is_loop(outer) and not calls.is_chat(outer):
        items.recount(turn.state, outer)


def _inner_step(turn: Turn, outer: NodeState, index: int, place: int) -> Step | None:
    """Return the step of a call or an item; None for an item that there is not, or a round after one that is missing.

    ``place`` is how many before it were put in place.
    """
    if calls.is_chat(outer):
        return calls.call_step(turn, outer, index)
    if items.is_loop(outer):
        if index != place:
            return None
        items.recall(turn.state, outer, index)
    elif index >= len(outer.items):
        return None
    return items.item_step(turn, outer, index)


def _put(turn: Turn, step: Step, row: NodeRow, parent: str | None = None) -> NodeState:
    """Give one node the state that its row says, and say so."""
    node = items.open_node(turn, step, parent)
    node.status, node.attempt, node.generation = NodeStatus(row.status), row.attempt, row.generation
    node.started_at, node.ended_at = row.started_at, row.ended_at
    node.inputs_json = row.inputs_json
    node.inputs = None if row.inputs_json is None else orjson.loads(row.inputs_json)
    node.history = [] if row.history_json is None else orjson.loads(row.history_json)
    for name, value in ({} if row.state_json is None else orjson.loads(row.state_json)).items():
        setattr(node, name, value)
    node.error = None if row.error_json is None else orjson.loads(row.error_json)
    turn.touch(node)
    if node.status is NodeStatus.COMPLETED:
        node.output_json = (row.output_json or "null").encode()
        node.output = orjson.loads(node.output_json)
        turn.emit_copy(node)
    elif node.status is NodeStatus.WAITING:
        turn.go_on_waiting(node)
    return node


def go_on(turn: Turn, rows: Rows) -> None:
    """Find out what may run next: after what completed, inside of what had unfolded, and at the roots.

    Rules see what completed, as they did in the origin; one that asked there and was answered asks no more.
    """
    nodes = turn.state.nodes
    for step in turn.state.plan.steps.values():
        if step.node_id in rows.done and not turn.ended() and turn.out.replan is None:
            (frontier.proceed if step.node_id in rows.judged else frontier.node_ended)(turn, nodes[step.node_id])
    for node_id in [name for name in rows.unfolded if name in nodes]:
        if calls.is_chat(nodes[node_id]):
            calls.take_up(turn, nodes[node_id])
        elif not turn.ended() and turn.out.replan is None and items.resume(turn, nodes[node_id]):
            frontier.node_ended(turn, nodes[node_id])
    while turn.out.misfits and not turn.ended():
        node_id, why = turn.out.misfits.pop(0)
        failures.attempt_failed(turn, nodes[node_id], why)
    if not turn.ended() and turn.out.replan is None:
        frontier.begin(turn)
