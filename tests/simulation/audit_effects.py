"""What must hold between nodes and what was really called (design §4, effects)."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator

from contracts.clock import rfc3339
from tests.simulation.abilities import Call
from tests.simulation.evidence import Evidence, RunEvidence, at_ms
from tests.simulation.ports import EPOCH_MS

LATE_SECONDS, TOGETHER_SECONDS = 0.09, 0.05
"""After so long between the decision to call and the call, the database has kept it waiting; what is nearer together
than the second happens at one time, since callbacks take a moment."""


def check(evidence: Evidence) -> Iterator[str]:
    """Yield everything that is wrong with calls."""
    by_number = {call.number: call for run in evidence.runs.values() for call in run.calls}
    for run in evidence.runs.values():
        early = _asked_too_early(run) if evidence.exact else ()
        for fault in (*_once(run), *_outputs(run, by_number), *_doubted(run), *early):
            yield f"{run.run_id}: {fault}"


def _once(run: RunEvidence) -> Iterator[str]:
    """A call that must not be repeated is not repeated, unless people said that it had not happened."""
    by_node: dict[str, dict[str, list[Call]]] = defaultdict(lambda: defaultdict(list))
    for call in run.calls:
        if call.effects == "once":
            by_node[call.node_id][call.key].append(call)
    for node_id, keys in by_node.items():
        for key, calls in keys.items():
            if any(not call.refused for call in calls[:-1]):
                yield f"{node_id} was called {len(calls)} times under {key}: {calls}"
        denied = sum(
            frame["node_id"] == node_id and (frame["payload"]["decision"] or {}).get("action") == "not_happened"
            for frame in run.of_type("hitl_resolved")
        )
        afresh = len(run.of_type("plan_updated"))
        if len(keys) > 1 + denied + afresh:
            yield f"{node_id} has the keys {sorted(keys)}, people denied it {denied} times"


def _doubted(run: RunEvidence) -> Iterator[str]:
    """People are asked whether something happened only of calls: nothing else could have."""
    for row in run.prompts.values():
        kind = run.nodes.get(row["node_id"], {}).get("kind", "call")
        if row["kind"] == "effect_check" and kind not in ("call", "structure"):
            yield f"{row['prompt_id']} asks whether {row['node_id']} happened, which is a {kind}"


def _asked_too_early(run: RunEvidence) -> Iterator[str]:
    """Nobody can say whether a call happened while it is still on its way: its lease and its time must be over.

    The time of a call counts from when its start was decided, so a call whose start waited long for the database is
    not looked at here. Nor is one that was stopped by a change of the plan: people are asked about it at once.
    """
    changed = {frame["timestamp"] for frame in run.of_type("plan_updated")}
    decided = {(frame["node_id"], frame["payload"]["attempt"]): at_ms(frame) for frame in run.of_type("node_start")}
    for row in run.prompts.values():
        if row["kind"] != "effect_check" or rfc3339(row["created_at"]) in changed:
            continue
        asked = (row["created_at"] - EPOCH_MS) / 1_000
        for call in run.calls:
            late = call.began - (decided.get((call.node_id, call.attempt), 0) - EPOCH_MS) / 1_000 > LATE_SECONDS
            ours = call.node_id == row["node_id"] and call.began < asked and not late
            if ours and call.applied is not None and call.applied > asked + TOGETHER_SECONDS:
                yield f"{row['prompt_id']} asks about {call.key} {call.applied - asked:.3f} s before it happens"


def _outputs(run: RunEvidence, by_number: dict[int, Call]) -> Iterator[str]:
    """What a call put out came from a call of that very node that had ended by then."""
    for frame in run.of_type("node_complete"):
        output = frame["payload"]["output"]
        if not isinstance(output, dict) or "call" not in output or output.get("by") != frame["node_id"]:
            continue
        call = by_number.get(output["call"])
        if call is None or call.node_id != frame["node_id"] or call.output != output:
            yield f"{frame['node_id']} put out {output}, which no call of it gave"
