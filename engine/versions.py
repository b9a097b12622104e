"""Two versions of a plan, compared: what is different, what has begun and may not change, who is asked again.

Pure: the door asks before an edit is left for the run, and the run's holder asks again when it takes the edit, because
nodes may have started in between (design §4, plan edits; docs/decisions/0006).
"""

from __future__ import annotations

from collections.abc import Mapping, Set
from typing import Any

from contracts.lifecycle import NodeStatus
from contracts.plan import PlanGraph, PlanNode, definition

Begun = Mapping[str, NodeStatus]
"""node with at least one attempt → its status; items of maps and loops are left out"""


def same(one: PlanNode, other: PlanNode) -> bool:
    """Say whether two nodes do the same; why they are there is no difference."""
    return one == other or definition(one) == definition(other)


def diff(old: PlanGraph, new: PlanGraph) -> dict[str, list[str]]:
    """Return the node ids that were ``added``, ``removed`` and ``changed``, each in its plan's order."""
    before, after = old.by_id, new.by_id
    return {
        "added": [node_id for node_id in after if node_id not in before],
        "removed": [node_id for node_id in before if node_id not in after],
        "changed": [node_id for node_id in after if node_id in before and not same(before[node_id], after[node_id])],
    }


def asked_again(old: PlanGraph, new: PlanGraph, begun: Begun) -> frozenset[str]:
    """Return the gates of ``old`` that have begun and must ask again, because what they are about is another.

    A gate on the plan is about all of it. Any other gate stays what it is as soon as something after it has begun, and
    counts as a node that may not change.
    """
    gates = {name for name in begun if name in old.by_id and "guards" in old.by_id[name].own}
    changed = gates & _put_behind(old, new, begun)
    changed |= {name for name in gates - changed if _subject(old, name) != _subject(new, name)}
    onward: dict[str, list[str]] = {}
    for edge in old.edges:
        onward.setdefault(edge.from_, []).append(edge.to)
    reviews = {name for name in gates if old.by_id[name].own["guards"] == "plan"}
    again = changed | reviews
    while True:
        stuck = {
            name
            for name in again - reviews
            if any(after in begun and after not in again for after in onward.get(name, ()))
        }
        if not stuck:
            return frozenset(again)
        again -= stuck


def _subject(plan: PlanGraph, gate_id: str) -> Any:
    """Return what a gate's question is about; None when the plan does not hold the gate."""
    gate = plan.by_id.get(gate_id)
    if gate is None:
        return None
    target = plan.by_id.get(str(gate.own.get("target")))
    about: list[Any] = [definition(gate), None if target is None else definition(target)]
    if gate.own.get("guards") == "output":
        about.append(plan.output.model_dump(mode="json"))
    return about


def _put_behind(old: PlanGraph, new: PlanGraph, begun: Begun) -> set[str]:
    """Return the nodes that have begun to which an edge was added from one that has not ended."""
    known = {(edge.from_, edge.to) for edge in old.edges}
    ended = {name for name, status in begun.items() if status in (NodeStatus.COMPLETED, NodeStatus.SKIPPED)}
    late = ((edge.from_, edge.to) for edge in new.edges if edge.to in begun and edge.from_ not in ended)
    return {end for start, end in late if (start, end) not in known}


def immutable(old: PlanGraph, new: PlanGraph, begun: Begun, cancel: Set[str]) -> list[str]:
    """Return the nodes that have begun and which ``new`` changes, drops or puts behind others all the same; sorted.

    A node named in ``cancel`` may change or go, unless it has completed. Ids that the run has used besides its plan
    (prompts of policies, nodes of an earlier version) stay taken.
    """
    again, behind = asked_again(old, new, begun), _put_behind(old, new, begun)
    found = []
    for node_id, status in begun.items():
        before, after = old.by_id.get(node_id), new.by_id.get(node_id)
        if before is None:
            offends = after is not None
        elif node_id in again:
            offends = False
        elif node_id in cancel:
            offends = status is NodeStatus.COMPLETED
        else:
            offends = after is None or node_id in behind or not same(before, after)
        if offends:
            found.append(node_id)
    return sorted(found)


def untouched(old: PlanGraph, new: PlanGraph, begun: Begun, afresh: Set[str]) -> frozenset[str]:
    """Return the nodes that have begun and go on as they are: unchanged, and neither asked again nor ``afresh``."""
    again = asked_again(old, new, begun)
    return frozenset(
        node_id
        for node_id in begun
        if node_id in old.by_id
        and node_id in new.by_id
        and node_id not in again
        and node_id not in afresh
        and same(old.by_id[node_id], new.by_id[node_id])
    )
