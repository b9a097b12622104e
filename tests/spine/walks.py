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
from contracts.lifecycle import NODE_TERMINAL, NodeStatus, RunStatus
from contracts.memory import MemoryWrite, Scope, write_from
from contracts.outcome import (
    Asked,
    Await,
    Choose,
    Done,
    Expand,
    Fail,
    Invoke,
    Iterate,
    Outcome,
    Pause,
    Retry,
    Skip,
    Sleep,
    Spawn,
)  # fmt: skip
from contracts.plan import Finding, PlanGraph
from contracts.ports import Planned, Unplannable
from contracts.prompts import PromptKind, PromptSpec
from engine.kinds.talk import Said
from engine.machine import Machine, next_timer
from engine.record import Draft, plan_row, write_of
from engine.revive import machine_of, under_way
from engine.shell import Shell
from engine.signals import (
    AttemptEnded,
    Begin,
    CalledBack,
    CancelAsked,
    ChildEnded,
    Decided,
    Drain,
    PauseAsked,
    Recovered,
    ReplanAsked,
    Replanned,
    Report,
    ResumeAsked,
    Signal,
    Tick,
)
from engine.state import NodeState
from engine.turn import Transition
from store.rows import LoadedRun, NodeRow, PlanRow, PromptRow, RunRow, RunWrite, SignalRow
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
    signals: dict[int, SignalRow] = field(default_factory=dict)
    """callbacks that nobody answered yet"""

    def left(self, signal: Signal) -> None:
        """Keep a callback that somebody left, until it is answered; its holder has seen it."""
        if isinstance(signal, CalledBack):
            payload = {name: getattr(signal, name) for name in ("node_id", "status", "output", "error", "by")}
            text = orjson.dumps(payload).decode()
            self.signals[signal.signal_id] = SignalRow(signal.signal_id, self.run.run_id, "callback", text, 1_000)

    def apply(self, write: RunWrite) -> None:
        """Do what the journal does with a write; the fence is on the last event."""
        assert write.before_seq == self.run.last_seq, "the log has a gap"
        assert [event.seq for event in write.events] == list(range(write.before_seq + 1, write.after_seq + 1))
        self.events += [event.data for event in write.events]
        for node_id in write.forgotten:
            self.nodes.pop(node_id, None)
        ended = {name for name, row in self.nodes.items() if NodeStatus(row.status) in NODE_TERMINAL}
        assert not ended & write.nodes.keys(), "the row of a node that has ended is written over"
        self.nodes.update({node_id: replace(row) for node_id, row in write.nodes.items()})
        for prompt in write.prompts:
            assert prompt.prompt_id not in self.prompts
            self.prompts[prompt.prompt_id] = prompt
        # Withdrawn as well when it was raised by the very same write.
        for prompt_id in write.withdrawn:
            self.prompts[prompt_id].status = "withdrawn"
        for signal_id, _ in write.answered:
            self.signals.pop(signal_id, None)
        if write.plan is not None:
            assert write.plan.version not in self.plans
            self.plans[write.plan.version] = write.plan
        self.run = replace(
            self.run, status=write.status, waiting_on_json=write.waiting_on_json, last_seq=write.after_seq,
            seen=write.seen, plan_version=write.plan_version, plan_hash=write.plan_hash, ledger_json=write.ledger_json,
            started_at=write.started_at, ended_at=write.ended_at,
        )  # fmt: skip

    def loaded(self) -> LoadedRun:
        """What a claim reads; prompts as the store orders them."""
        prompts = sorted(self.prompts.values(), key=lambda row: (row.created_at, row.prompt_id))
        plan = self.plans[self.run.plan_version]
        pending = [self.signals[signal_id] for signal_id in sorted(self.signals)]
        return LoadedRun(self.run, self.envelope_json, plan, list(self.nodes.values()), prompts, pending)


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
        self.rows.left(signal)
        if isinstance(signal, CalledBack):
            self.machine.state.seen = max(self.machine.state.seen, signal.signal_id)
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

    def __init__(self, seed: int, *, cancels: bool = True, pauses: bool = True) -> None:
        self.chance = random.Random(seed)
        self.cancels, self.pauses = cancels, pauses
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
        if state.timers or (state.backoff and state.status is not RunStatus.WAITING):
            choices += [Tick()] * 3
        choices += self._from_outside(walk)
        if self.settled and self.chance.random() < 0.05:
            choices = [self._again()]
        if self.cancels and self.chance.random() < 0.01:
            choices = [CancelAsked(self._signal(), "user:ana", None)]
        assert choices, f"nothing can happen any more: {state.status} {state.nodes}"
        chosen = self.chance.choice(choices)
        if isinstance(chosen, Tick):
            walk.wall.ms = max(walk.wall.ms, next_timer(state) or 0)
        if isinstance(chosen, Replanned):
            self.asked = None
        if isinstance(chosen, Decided):
            self.settled.append(chosen.prompt_id)
        return chosen

    def _from_outside(self, walk: Walk) -> list[Signal]:
        """Pauses and their end, callbacks that are awaited, and now and then one that comes early or twice."""
        state = walk.machine.state
        found: list[Signal] = []
        if state.ledger.paused is not None:
            found += [ResumeAsked(self._signal(), "user:ana")] * 2
        if self.pauses and self.chance.random() < 0.2:
            found += [PauseAsked(self._signal(), "user:ana", None)] * 4
        if self.chance.random() < 0.02:
            found.append(ResumeAsked(self._signal(), "user:ana"))
        if state.callbacks:
            found += [self._called_back(self.chance.choice(sorted(state.callbacks)))] * 3
        if state.children:
            found += [self._child_ended(walk, self.chance.choice(sorted(state.children)))] * 3
        outside = sorted(step.node_id for step in state.plan.steps.values() if step.kind.spec.called_back)
        if outside and self.chance.random() < 0.1:
            found.append(self._called_back(self.chance.choice(outside)))
        return found

    def _called_back(self, node_id: str) -> CalledBack:
        if self.chance.random() < 0.1:
            return CalledBack(self._signal(), node_id, "failed", None, "no", "callback")
        return CalledBack(self._signal(), node_id, "completed", {"n": self.chance.randrange(9)}, None, "callback")

    def _child_ended(self, walk: Walk, node_id: str) -> ChildEnded:
        """Let the child of a node end, somehow; now and then one that nobody waits for any more."""
        node = walk.machine.state.nodes[node_id]
        status = self.chance.choice(["completed", "completed", "completed", "failed", "cancelled"])
        done = status == "completed"
        error = None if done else {"code": "x", "message": "no", "retryable": self.chance.random() < 0.7}
        generation = node.generation if self.chance.random() < 0.9 else node.generation + 1
        output = {"n": self.chance.randrange(9)} if done else None
        return ChildEnded(self._signal(), node_id, node.child_run_id or "", generation, status, output, error, 10, 0.5)

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
        elif kind == "loop":
            outcome = Iterate(7 if node.step.own.initial is not None else None)
        elif kind == "error_handler":
            outcome = Iterate(walk.machine.state.error_of(node.step.own.handles))
        elif kind == "variable":
            outcome = Done(1)
        elif kind == "subflow":
            contract = {"mode": "json_schema", "schema": True}
            outcome = Spawn(
                {"objective": "x", "inputs": {}, "output_contract": contract, "workflow": {"plan": node.step.own.plan}}
            )
        elif kind == "chat":
            outcome = self._talks(node)
        elif kind == "delay":
            outcome = Sleep(node.step.own.until_ms(node.started_at))
        elif kind == "wait":
            seconds = node.step.node.timeout_seconds
            outcome = Await(None if seconds is None else round(seconds * 1_000))
        encoded = orjson.dumps(outcome.output) if isinstance(outcome, (Done, Choose)) else None
        logs = [("info", "a line")] if self.chance.random() < 0.1 else []
        report = Report(outcome, {}, "{}", encoded, logs, memory=self._remembered(node) if kind == "call" else ())
        return AttemptEnded(node_id, node.attempt, node.generation, report)

    def _remembered(self, node: NodeState) -> list[MemoryWrite]:
        """What the attempt wants remembered, with what it kept while it asked people."""
        kept = [write_from(each) for each in (node.parked or {}).get("memory", ())]
        if self.chance.random() < 0.3:
            at = (node.node_id, node.attempt)
            kept.append(MemoryWrite(Scope("shared", "x"), node.node_id, "1", None, *at, 1_000, 100))
        return kept

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

    def _talks(self, node: NodeState) -> Outcome:
        """Answer, or ask for up to three calls, at most three times; some of them cannot be made."""
        chance, said = self.chance, Said.read(node.parked)
        if chance.random() < 0.15:
            return Retry("model_busy", "later") if chance.random() < 0.5 else Fail("model_refused", "no")
        if len(said.rounds) == 3 or chance.random() < 0.3:
            return Done({"text": "x"})
        calls = [self._asked(place) for place in range(chance.randrange(1, 4))]
        return Invoke(calls, said.after(node.node_id, "x", calls))

    def _asked(self, place: int) -> Asked:
        if self.chance.random() < 0.15:
            return Asked(f"c{place}", "nobody", "{", error="There is no such tool.")
        call: dict[str, Any] = {"kind": "call", "capability_id": "one", "inputs": {"v": {"value": place}}}
        call |= {"effects": self.chance.choice(["none", "once"]), "max_attempts": self.chance.choice([1, 2])}
        return Asked(f"c{place}", "one", "{}", call, None, {"type": "object"})

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
        answer: Any = {"zz": 1, "text": "x"} if prompt.kind != "plan_review" else {}
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
