"""Runs of the pure machine with everything around it made up: plans, outcomes, people, time, crashes.

The store is a dictionary that does what the journal promises and nothing else: it applies one write after the other.
So a crash is «throw the machine away and revive it from the rows», at any point, thousands of times a second.
"""

from __future__ import annotations

import random
from dataclasses import dataclass, field, replace
from typing import Any, cast

import orjson

from contracts.capability import Catalogue
from contracts.events import Frame
from contracts.lifecycle import NodeStatus, RunStatus
from contracts.outcome import Choose, Done, Expand, Fail, Outcome, Pause, Retry, Skip
from contracts.plan import Finding, PlanGraph
from contracts.ports import Planned, Unplannable
from contracts.prompts import PromptKind, PromptSpec
from engine.machine import Machine, next_timer
from engine.record import Draft, plan_row, write_of
from engine.revive import machine_of, under_way
from engine.shell import Shell
from engine.signals import (
    AttemptEnded,
    Begin,
    CancelAsked,
    Decided,
    Drain,
    Recovered,
    ReplanAsked,
    Replanned,
    Report,
    Signal,
    Tick,
)
from engine.turn import Transition
from store.rows import LoadedRun, NodeRow, PlanRow, PromptRow, RunRow, RunWrite
from tests.spine.plans import EnvelopeJson, changed_plan, random_envelope, random_plan


class Counting:
    """Ids in order, that sort as they were made."""

    def __init__(self) -> None:
        self.last = 0

    def new(self, prefix: str) -> str:
        self.last += 1
        return f"{prefix}_{self.last:05}"


class Half:
    """Chance that never surprises."""

    def uniform(self) -> float:
        return 0.5


@dataclass
class Wall:
    """A clock that the walk moves."""

    ms: int = 1_000

    def now_ms(self) -> int:
        return self.ms

    def monotonic(self) -> float:
        return self.ms / 1_000


class Nothing:
    """A directory without capabilities: outcomes are made up."""

    empty = Catalogue((), (), frozenset())

    def catalogue(self) -> Catalogue:
        return self.empty

    def find(self, capability_id: str, version: str | None = None) -> None:
        return None


def shell_with(ids: Counting, wall: Wall) -> Shell:
    """A shell of which only what the machine needs is there."""
    absent = cast("Any", None)
    return Shell(
        database=absent, journal=absent, feed=absent, directory=Nothing(), planner=absent, clock=wall, ids=ids,
        random=Half(), crash=absent, nudge=absent,
    )  # fmt: skip


@dataclass
class Rows:
    """What the database holds of one run."""

    run: RunRow
    envelope_json: str
    plans: dict[int, PlanRow]
    nodes: dict[str, NodeRow] = field(default_factory=dict)
    prompts: dict[str, PromptRow] = field(default_factory=dict)
    events: list[bytes] = field(default_factory=list)

    def apply(self, write: RunWrite) -> None:
        """Do what the journal does with a write; the fence is on the last event."""
        assert write.before_seq == self.run.last_seq, "the log has a gap"
        assert [event.seq for event in write.events] == list(range(write.before_seq + 1, write.after_seq + 1))
        self.events += [event.data for event in write.events]
        for node_id in write.forgotten:
            self.nodes.pop(node_id, None)
        self.nodes.update({node_id: replace(row) for node_id, row in write.nodes.items()})
        for prompt in write.prompts:
            assert prompt.prompt_id not in self.prompts
            self.prompts[prompt.prompt_id] = prompt
        # Withdrawn as well when it was raised by the very same write.
        for prompt_id in write.withdrawn:
            self.prompts[prompt_id].status = "withdrawn"
        if write.plan is not None:
            assert write.plan.version not in self.plans
            self.plans[write.plan.version] = write.plan
        self.run = replace(
            self.run, status=write.status, waiting_on_json=write.waiting_on_json, last_seq=write.after_seq,
            plan_version=write.plan_version, plan_hash=write.plan_hash, ledger_json=write.ledger_json,
            started_at=write.started_at, ended_at=write.ended_at,
        )  # fmt: skip

    def loaded(self) -> LoadedRun:
        """What a claim reads; prompts as the store orders them."""
        prompts = sorted(self.prompts.values(), key=lambda row: (row.created_at, row.prompt_id))
        plan = self.plans[self.run.plan_version]
        return LoadedRun(self.run, self.envelope_json, plan, list(self.nodes.values()), prompts, [])


@dataclass
class Step:
    """What one signal did: the frames and the rows it wrote, and what it asks the shell to do."""

    frames: list[Frame]
    write: RunWrite
    dispatch: list[str]
    replan: ReplanAsked | None
    answered: list[tuple[int, str]]

    @property
    def said(self) -> list[dict[str, Any]]:
        """The frames as JSON."""
        return [orjson.loads(frame.data) for frame in self.frames]


class Walk:
    """One run: its machine, its rows, its clock."""

    def __init__(self, plan: PlanGraph, envelope_json: EnvelopeJson) -> None:
        self.ids, self.wall = Counting(), Wall()
        self.shell = shell_with(self.ids, self.wall)
        row = RunRow(
            run_id="run_1", tenant="default", principal="user:local", status="queued", waiting_on_json="[]",
            worker="wrk_1", epoch=1, last_seq=0, inbox=0, seen=0, wake_at=None, plan_version=1,
            plan_hash=plan.plan_hash, correlation_id="cid", objective="x", contract_hash="h", ledger_json="{}",
            created_at=1_000,
        )  # fmt: skip
        self.rows = Rows(row, orjson.dumps(envelope_json).decode(), {1: plan_row(plan, "t", "t", 1_000)})
        self.machine: Machine = machine_of(self.rows.loaded(), self.shell)

    def step(self, signal: Signal) -> Step:
        """Step the machine and write what it says."""
        transition: Transition = self.machine.step(signal, self.wall.now_ms())
        draft = Draft(transition.before_seq)
        draft.add(self.machine.state, transition)
        write = write_of(self.machine.state, draft, release=False, wake_at=None)
        self.rows.apply(write)
        return Step(draft.frames, write, list(transition.dispatch), transition.replan, list(transition.answered))

    def revive(self) -> None:
        """Lose the machine and read it from the rows."""
        self.machine = machine_of(self.rows.loaded(), self.shell)

    @property
    def over(self) -> bool:
        return self.machine.state.ended_at is not None


class World:
    """Chance: what happens next to a run, drawn from one seed. It looks only at what the machine shows."""

    def __init__(self, seed: int, *, cancels: bool = True) -> None:
        self.chance = random.Random(seed)
        self.cancels = cancels
        self.signals = 0
        self.asked: ReplanAsked | None = None
        self.settled: list[str] = []

    def plan(self) -> PlanGraph:
        return random_plan(self.chance)

    def envelope(self) -> EnvelopeJson:
        return random_envelope(self.chance)

    def noted(self, step: Step) -> None:
        """Remember what the machine asked of the planner."""
        self.asked = step.replan or self.asked

    def next(self, walk: Walk) -> Signal:
        """Draw the next thing that happens; time passes a little."""
        walk.wall.ms += self.chance.randrange(1, 20)
        state = walk.machine.state
        choices: list[Signal] = []
        if self.asked is not None:
            choices += [self._replanned(walk, self.asked)] * 3
        if state.running:
            choices += [self._ended(walk, self.chance.choice(sorted(state.running)))] * 4
        if state.prompts:
            choices += [self._decided(walk, self.chance.choice(list(state.prompts)))] * 3
        if state.backoff and state.status is not RunStatus.WAITING:
            choices += [Tick()] * 3
        if self.settled and self.chance.random() < 0.05:
            choices = [self._again()]
        if self.cancels and self.chance.random() < 0.01:
            choices = [CancelAsked(self._signal(), "user:ana", None)]
        assert choices, f"nothing can happen any more: {state.status} {state.nodes}"
        chosen = self.chance.choice(choices)
        if isinstance(chosen, Tick):
            walk.wall.ms = max(walk.wall.ms, next_timer(state))
        if isinstance(chosen, Replanned):
            self.asked = None
        if isinstance(chosen, Decided):
            self.settled.append(chosen.prompt_id)
        return chosen

    def _signal(self) -> int:
        self.signals += 1
        return self.signals

    def _replanned(self, walk: Walk, asked: ReplanAsked) -> Replanned:
        found: Planned | Unplannable = Planned(
            changed_plan(self.chance, walk.machine.state.plan.graph, set(completed(walk)))
        )
        if self.chance.random() < 0.2:
            found = Unplannable((Finding(layer="capability", code="missing_facet", message="None."),))
        return Replanned(found, asked.author, asked.reason, asked.node_id, asked.round)

    def _again(self) -> Decided:
        """A decision about a prompt that was decided before."""
        return Decided(self._signal(), self.chance.choice(self.settled), "settled", decision("approve"))

    def _ended(self, walk: Walk, node_id: str) -> AttemptEnded:
        node = walk.machine.state.nodes[node_id]
        kind = node.step.kind.spec.name
        outcome = self._outcome(kind, node.step.guards, parked=node.parked)
        if kind == "map":
            outcome = Expand(node.step.own.over.value)
        encoded = orjson.dumps(outcome.output) if isinstance(outcome, (Done, Choose)) else None
        logs = [("info", "a line")] if self.chance.random() < 0.1 else []
        return AttemptEnded(node_id, node.attempt, node.generation, Report(outcome, {}, "{}", encoded, logs))

    def _outcome(self, kind: str, guards: str | None, *, parked: Any) -> Outcome:
        chance = self.chance
        if kind == "branch":
            taken = chance.random() < 0.5
            return Choose(taken, {"taken": taken})
        if kind == "join":
            return Done({})
        if kind == "ask":
            approval = PromptSpec(kind=PromptKind.APPROVAL, question="?", proposed={"zz": 1}, policy_id="gate")
            return Pause(approval if guards else PromptSpec(question="?"))
        return self._called(parked)

    def _called(self, parked: Any) -> Outcome:
        draw = self.chance.random()
        wrong = [{"pointer": "", "keyword": "type", "message": "no"}]
        if draw < 0.55:
            return Done({"n": self.chance.randrange(9)})
        if draw < 0.70:
            return Retry("wobbly", "fell over", ambiguous=self.chance.random() < 0.3)
        if draw < 0.80:
            return Retry("output_invalid", "does not fit", wrong, output="bad")
        if draw < 0.88:
            return Pause(PromptSpec(question="?"), resumes=True, state={"was": parked is not None})
        if draw < 0.93:
            return Skip("nothing to do")
        return Fail("broken", "for good")

    def _decided(self, walk: Walk, prompt_id: str) -> Decided:
        prompt = walk.machine.state.prompts[prompt_id]
        if self.chance.random() < 0.05:
            return Decided(self._signal(), prompt_id, "expired", None, "fail")
        actions = list(
            walk.rows.prompts[prompt_id].actions_json and orjson.loads(walk.rows.prompts[prompt_id].actions_json)
        )
        if self.chance.random() < 0.8:
            actions = [action for action in actions if action != "reject"]
        action = self.chance.choice(actions)
        answer: Any = {"zz": 1} if prompt.kind != "plan_review" else {}
        return Decided(self._signal(), prompt_id, "settled", decision(action, answer))


def decision(action: str, answer: Any = None) -> dict[str, Any]:
    """A decision as it stands on the wire."""
    return {
        "decision_id": "dec_1", "action": action, "answer": answer, "comment": None, "decided_by": "user:ana",
        "decided_at": "2026-01-05T09:00:00.000Z", "channel": "http",
    }  # fmt: skip


def lost(walk: Walk) -> Recovered:
    """What the next holder says first: these attempts were under way."""
    return Recovered(under_way(walk.machine.state))


def begin() -> Signal:
    return Begin()


def drain(walk: Walk) -> Signal:
    """The process stops; everything that runs had been called."""
    return Drain(frozenset(walk.machine.state.running))


def completed(walk: Walk) -> dict[str, tuple[int, str | None]]:
    """Completed nodes with their generation and output."""
    nodes = walk.rows.nodes.items()
    return {node_id: (row.generation, row.output_json) for node_id, row in nodes if row.status == NodeStatus.COMPLETED}
