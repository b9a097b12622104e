"""What must hold between people and runs: asked once, decided once, and acted on as it was decided (H1-H6)."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator

import orjson

from tests.simulation.evidence import Evidence, Json, Record, RunEvidence, at_ms

TIMER = "system:timeout"
ASIDE = ("policy_triggered", "log")
"""frames of a node that say what a rule did, not what became of the node"""


def check(evidence: Evidence) -> Iterator[str]:
    """Yield everything that is wrong between people and runs."""
    for run in evidence.runs.values():
        timers = _timers(run, exact=evidence.exact)
        for fault in (*_asked(run), *_resolved(run), *_acted(run), *timers, *_recorded(run)):
            yield f"{run.run_id}: {fault}"
    yield from _promised(evidence)
    yield from _clients(evidence)
    yield from _viewers(evidence)


def _asked(run: RunEvidence) -> Iterator[str]:
    """Every prompt that is shown is stored, every one that is stored was shown, once."""
    shown = Counter(frame["payload"]["prompt"]["prompt_id"] for frame in run.of_type("hitl_request"))
    for prompt_id in shown.keys() | run.prompts.keys():
        if shown[prompt_id] != 1 or prompt_id not in run.prompts:
            yield f"{prompt_id} was shown {shown[prompt_id]} times, stored: {prompt_id in run.prompts}"


def _winners(run: RunEvidence) -> dict[str, list[Record]]:
    found: dict[str, list[Record]] = defaultdict(list)
    for row in run.decisions:
        if row["winning"]:
            found[row["prompt_id"]].append(row)
    return found


def _resolved(run: RunEvidence) -> Iterator[str]:
    """A prompt is resolved once, with the decision that won, at its own node."""
    winners = _winners(run)
    resolved = Counter(frame["payload"]["prompt_id"] for frame in run.of_type("hitl_resolved"))
    outcomes = {orjson.loads(row["payload_json"]).get("prompt_id"): row["outcome"] for row in run.signals}
    for prompt_id, row in run.prompts.items():
        won = winners[prompt_id]
        if len(won) > 1 or (row["status"] == "settled") != (len(won) == 1 and won[0]["decided_by"] != TIMER):
            yield f"{prompt_id} is {row['status']} and has {len(won)} winning decisions"
        if resolved[prompt_id] > 1:
            yield f"{prompt_id} was resolved {resolved[prompt_id]} times"
        if run.ended and row["status"] in ("settled", "expired"):
            applied = outcomes.get(prompt_id) == "applied"
            if applied != (resolved[prompt_id] == 1) and outcomes.get(prompt_id) not in ("late", "superseded"):
                yield f"{prompt_id} is {row['status']}, its signal {outcomes.get(prompt_id)}, and resolved in no frame"
    for frame in run.of_type("hitl_resolved"):
        prompt_id, decision = frame["payload"]["prompt_id"], frame["payload"]["decision"]
        prompt, won = run.prompts.get(prompt_id), winners[prompt_id]
        if prompt is None or prompt["node_id"] != frame["node_id"]:
            yield f"{prompt_id} was resolved at {frame['node_id']}, it was asked at {prompt and prompt['node_id']}"
        if decision is not None and [decision["decision_id"]] != [row["decision_id"] for row in won]:
            yield f"{prompt_id} was resolved with {decision['decision_id']}, which did not win"


def _acted(run: RunEvidence) -> Iterator[str]:
    """What follows a decision at its node is what was decided, never less and never something else (H4)."""
    for place, frame in enumerate(run.frames):
        decision = frame["payload"].get("decision") if frame["type"] == "hitl_resolved" else None
        if decision is None or frame["payload"]["prompt_id"] not in run.prompts:
            continue
        prompt = run.prompts[frame["payload"]["prompt_id"]]
        after = [other for other in run.frames[place + 1 :] if other["type"] not in ASIDE]
        later = [other for other in after if other["node_id"] == frame["node_id"]]
        then, last = later[0] if later else None, run.frames[-1]
        action = decision["action"]
        if action == "reject":
            if last["type"] == "complete" or (then is not None and then["type"] != "node_error"):
                yield f"{prompt['prompt_id']} was rejected, and then came {then and then['type']} … {last['type']}"
        elif then is not None and then["type"] == "node_complete":
            wanted = None if "." in frame["node_id"] else _wanted(action, decision, prompt)
            got = then["payload"]["output"]
            if wanted is not None and got != wanted[0]:
                yield f"{prompt['prompt_id']}: {action} gave {got} instead of {wanted[0]}"
        elif then is None and run.row["status"] == "completed" and prompt["kind"] != "plan_review":
            yield f"{prompt['prompt_id']}: nothing followed {action}"


def _wanted(action: str, decision: Json, prompt: Record) -> tuple[object] | None:
    """Return what a node must put out right after a decision, if that is certain."""
    if action == "approve":
        return (orjson.loads(prompt["proposed_json"]),)
    if action in ("answer", "choose", "edit"):
        return (decision["answer"],)
    return None


def _timers(run: RunEvidence, *, exact: bool) -> Iterator[str]:
    """A clock ends only what has a due time, and not before it."""
    for prompt_id, row in run.prompts.items():
        if row["status"] != "expired":
            continue
        if row["due_at"] is None or row["on_timeout"] == "wait":
            yield f"{prompt_id} expired without a due time"
        elif exact and row["settled_at"] < row["due_at"]:
            yield f"{prompt_id} expired {row['due_at'] - row['settled_at']} ms too early"
    for frame in run.of_type("hitl_resolved"):
        due_at = run.prompts.get(frame["payload"]["prompt_id"], {}).get("due_at")
        if exact and frame["payload"]["status"] == "expired" and due_at is not None and at_ms(frame) < due_at:
            yield f"{frame['payload']['prompt_id']} expired {due_at - at_ms(frame)} ms before its time"


def _recorded(run: RunEvidence) -> Iterator[str]:
    """Every say of a person and every end by a clock has its one audit record (H9)."""
    kept = Counter((row["prompt_id"], row["kind"]) for row in run.records)
    votes = Counter(row["prompt_id"] for row in run.decisions if not row["winning"])
    for prompt_id, row in run.prompts.items():
        wanted = {
            "prompt.decided": int(row["status"] == "settled"),
            "prompt.expired": int(row["status"] == "expired"),
            "prompt.voted": votes[prompt_id],
            "prompt.escalated": row["level"],
        }
        wrong = {kind: kept[prompt_id, kind] for kind, many in wanted.items() if kept[prompt_id, kind] != many}
        if wrong:
            yield f"{prompt_id} is {row['status']} at level {row['level']}, and the audit has {wrong}"


def _promised(evidence: Evidence) -> Iterator[str]:
    """Who was told that their decision settled the prompt has settled it, and nobody else was told so."""
    prompts = {prompt_id: run for run in evidence.runs.values() for prompt_id in run.prompts}
    told = defaultdict(list)
    for said in evidence.said:
        if said.outcome == "settled":
            told[said.prompt_id].append(said)
    for prompt_id, those in told.items():
        won = _winners(prompts[prompt_id])[prompt_id]
        if len(those) > 1 or not won or (won[0]["decided_by"], won[0]["action"]) != (those[0].who, those[0].action):
            yield f"{prompt_id}: {[said.who for said in those]} were told that they settled it, {won} did"
    for said in evidence.said:
        if said.winner is not None:
            won = _winners(prompts[said.prompt_id])[said.prompt_id]
            if [said.winner] != [row["decision_id"] for row in won]:
                yield f"{said.prompt_id}: {said.who} was told that {said.winner} had won"


def _clients(evidence: Evidence) -> Iterator[str]:
    """One key is one run, and there are no others (F2)."""
    accepted = set()
    for client in evidence.clients:
        ids = {each.run_id for each in client.accepted}
        accepted |= ids
        if len(ids) != 1 or sum(each.created for each in client.accepted) > 1:
            yield f"{client.key} became {client.accepted}"
    first = {run_id for run_id, run in evidence.runs.items() if run.is_first}
    if accepted != first:
        yield f"accepted {sorted(accepted)}, stored {sorted(first)}"


def _viewers(evidence: Evidence) -> Iterator[str]:
    """What a viewer saw is in the log, and a viewer who was let go saw all of it (F9)."""
    for seen in evidence.seen:
        log = evidence.runs[seen.run_id].raw
        if seen.doubled:
            yield f"{seen.run_id}: a viewer got {seen.doubled} twice"
        wrong = [seq for seq, data in seen.frames.items() if log.get(seq) != data]
        missing = set(range(1, max(seen.frames, default=0) + 1)) - seen.frames.keys()
        if wrong or missing or (seen.over and len(seen.frames) != len(log)):
            yield f"{seen.run_id}: a viewer missed {sorted(missing)}, and {wrong} are not so"
