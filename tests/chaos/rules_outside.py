"""What must hold where runs meet the world: people who decide, and what capabilities really did."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

from contracts.lifecycle import PROMPT_TERMINAL
from tests.chaos.history import DecisionSeen, History
from tests.chaos.judged import Found, each_run, frames, once
from tests.durability.auditor import Stored

SLACK_MS = 100.0
"""A call may begin so long after a commit that ended its node: both were under way at the same time."""
ANSWERS = {"approve": "completed", "reject": "failed"}


# --- people ----------------------------------------------------------------------------------------------------------


def decisions(history: History) -> Found:
    """Exactly one decision wins a prompt, and the run acts on that one, at the node that asked (H4)."""
    winners: dict[str, list[DecisionSeen]] = defaultdict(list)
    for decision in history.decisions:
        if decision.winning:
            winners[decision.prompt_id].append(decision)
    for prompt in history.prompts:
        won = winners[prompt.prompt_id]
        last = prompt.statuses[-1:]
        if len(won) > 1 or (last == ("settled",) and len(won) != 1):
            yield prompt.run_id, f"{prompt.prompt_id} is {last} with {len(won)} winning decisions"
        if any(status in PROMPT_TERMINAL for status in prompt.statuses[:-1]):
            yield prompt.run_id, f"{prompt.prompt_id} went through {prompt.statuses}"
        if any(each.run_id != prompt.run_id for each in won):
            yield prompt.run_id, f"{prompt.prompt_id} was won by a decision of another run"
    yield from _responses(history, {prompt_id: won[0] for prompt_id, won in winners.items() if won})
    yield from _resolutions(history, {prompt_id: won[0] for prompt_id, won in winners.items() if won})


def _responses(history: History, winners: dict[str, DecisionSeen]) -> Found:
    """What people were told is so: who got 200 is in, and of two who differ only one did."""
    runs = {prompt.prompt_id: prompt.run_id for prompt in history.prompts}
    for response in history.responses:
        if response.status != 200:
            if response.status != 409:
                yield runs.get(response.prompt_id, ""), f"{response.action} was answered {response.status}"
            continue
        told = response.body["decision"]["decision_id"]
        winner = winners.get(response.prompt_id)
        if winner is None or (winner.decision_id, winner.action) != (told, response.action):
            yield runs.get(response.prompt_id, ""), f"{response.action} was accepted as {told}, the winner is {winner}"


def _resolutions(history: History, winners: dict[str, DecisionSeen]) -> Found:
    asked = {prompt.prompt_id: prompt for prompt in history.prompts}
    applied = Counter(each.run_id for each in history.signals if (each.kind, each.outcome) == ("decision", "applied"))
    for run_id, run in history.runs.items():
        resolved = [frame for frame in frames(run) if frame["type"] == "hitl_resolved"]
        told = [frame for frame in resolved if frame["payload"]["status"] != "withdrawn"]
        if len(told) != applied[run_id]:
            yield run_id, f"{applied[run_id]} decisions were applied, {len(told)} resolutions told"
        for frame in told:
            payload = frame["payload"]
            prompt, winner = asked.get(payload["prompt_id"]), winners.get(payload["prompt_id"])
            said = payload["decision"]
            if prompt is None or prompt.node_id != frame["node_id"]:
                yield run_id, f"{payload['prompt_id']} was resolved at {frame['node_id']}, asked was {prompt}"
            if (said or {}).get("decision_id") != (winner and winner.decision_id):
                yield run_id, f"{payload['prompt_id']} was resolved with {said}, the winner is {winner}"
            yield from _applied(run_id, run, frame)


def _applied(run_id: str, run: Stored, frame: dict[str, Any]) -> Found:
    """An approved question completed its node, a rejected one failed it (trap: a rejection continued)."""
    action = (frame["payload"]["decision"] or {}).get("action")
    status = run.nodes.get(frame["node_id"])
    if action in ANSWERS and status != ANSWERS[action]:
        yield run_id, f"{frame['node_id']} was answered {action} and is {status}"


def callbacks(history: History) -> Found:
    """Of two who answer for the outside world differently one is taken, is told so, and is what the node put out."""
    for followed, run_id, run in each_run(history):
        outputs = {
            frame["node_id"]: frame["payload"]["output"] for frame in frames(run) if frame["type"] == "node_complete"
        }
        taken = [each for each in followed.calls if each.status in (200, 202)]
        for node_id in {each.node_id for each in taken}:
            told = [each.output for each in taken if each.node_id == node_id]
            if len(told) > 1:
                yield run_id, f"{node_id} was answered twice: {told}"
            if node_id in outputs and outputs[node_id] not in told:
                yield run_id, f"{node_id} put out {outputs[node_id]}, taken was {told}"
        for each in followed.calls:
            if each.status not in (200, 202, 409):
                yield run_id, f"a callback to {each.node_id} was answered {each.status}"


# --- effects ---------------------------------------------------------------------------------------------------------


def effects(history: History) -> Found:
    """What was really called: ``once`` once unless a person said so, the rest again only under its key, none late."""
    ends = {
        (write.run_id, write.node_id): write.at
        for write in reversed(history.nodes)
        if write.status == "completed"
    }  # fmt: skip
    for run_id, run in history.runs.items():
        for effect in run.effects:
            end = ends.get((run_id, effect.node_id))
            if effect.what == "begin" and end is not None and effect.at > end + SLACK_MS:
                process = history.pids.get(effect.pid, "")
                if not any(each.process == process and each.since <= effect.at for each in history.stalls):
                    yield run_id, f"{effect.node_id} was called {effect.at - end:.0f} ms after it had completed"
    for run_id, run in history.runs.items():
        begun = Counter(each.node_id for each in run.effects if each.what == "begin")
        for node_id in sorted(once(run)):
            denied = sum(1 for each in _checks(history, run_id, node_id) if each.action == "not_happened")
            if begun[node_id] > 1 + denied:
                yield run_id, f"{node_id} (once) was called {begun[node_id]} times, {denied} times at a person's word"


def _checks(history: History, run_id: str, node_id: str) -> Iterator[DecisionSeen]:
    asked = {prompt.prompt_id for prompt in history.prompts if (prompt.run_id, prompt.node_id) == (run_id, node_id)}
    return (each for each in history.decisions if each.winning and each.prompt_id in asked)
