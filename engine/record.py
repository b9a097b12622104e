"""From transitions to rows and frames: everything a step decided, encoded once (design §1.3)."""

from __future__ import annotations

from operator import attrgetter
from typing import Any, Final

import orjson

from contracts.events import Event, Failed, Frame, encode
from contracts.history import Ending, given_of
from contracts.lifecycle import RunStatus
from contracts.memory import MemoryWrite
from contracts.plan import PlanGraph
from engine.asking import OUTPUT_REPAIR
from engine.ending import history_row
from engine.offspring import birth_of
from engine.signals import AttemptEnded, Signal
from engine.state import NOTHING, Ledger, NodeState, RunState
from engine.turn import Letter, Raised, Transition
from store.rows import Birth, EventRow, HistoryRow, MailRow, NodeRow, PlanRow, PromptRow, RunWrite


def frames_of(state: RunState, transition: Transition) -> list[Frame]:
    """Return the transition's frames in order, encoded."""
    frames = []
    seq = transition.before_seq
    for event, node_id in transition.events:
        seq += 1
        data = encode(
            event,
            seq=seq,
            at_ms=transition.at_ms,
            run_id=state.run_id,
            correlation_id=state.correlation_id,
            node_id=node_id,
        )
        frames.append(Frame(seq, event.type, data))
    return frames


class Draft:
    """The transitions of one run that will be committed together, and their frames."""

    __slots__ = (
        "answered",
        "before_seq",
        "changed",
        "ended",
        "forgotten",
        "frames",
        "last",
        "mail",
        "memory",
        "node_ids",
        "plans",
        "raised",
        "spawned",
        "withdrawn",
    )

    def __init__(self, before_seq: int) -> None:
        """Begin after event ``before_seq``."""
        self.before_seq = before_seq
        self.frames: list[Frame] = []
        self.node_ids: list[str | None] = []
        self.changed: dict[str, None] = {}
        self.raised: list[Raised] = []
        self.withdrawn: list[str] = []
        self.answered: list[tuple[int, str]] = []
        self.forgotten: list[str] = []
        self.plans: list[PlanRow] = []
        self.last: Event | None = None
        self.spawned: list[Birth] = []
        self.mail: list[MailRow] = []
        self.memory: list[MemoryWrite] = []
        self.ended: list[AttemptEnded] = []

    def add(self, state: RunState, transition: Transition, cause: Signal | None = None) -> None:
        """Take a transition in, its frames encoded; an attempt's end is kept until it is stored."""
        if isinstance(cause, AttemptEnded):
            self.ended.append(cause)
        self.memory += transition.memory
        self.frames.extend(frames_of(state, transition))
        self.node_ids.extend(node_id for _, node_id in transition.events)
        if transition.events:
            self.last = transition.events[-1][0]
        for node_id in transition.forgotten:
            self.changed.pop(node_id, None)
        self.forgotten += transition.forgotten
        self.changed.update(transition.changed)
        self.raised += transition.raised
        self.withdrawn += transition.withdrawn
        self.answered += transition.answered
        if transition.new_plan is not None:
            self.plans.append(plan_row(state.plan.graph, *transition.new_plan, transition.at_ms))
        if transition.spawned:
            self.spawned += [birth_of(state, child, transition.at_ms) for child in transition.spawned]
        if transition.mail:
            self.mail += [_letter(state, to, transition.at_ms) for to in transition.mail]

    def addressed(self) -> list[str]:
        """Return the other runs that have something to look at once this is committed."""
        return [*(birth.run.run_id for birth in self.spawned), *(letter.run_id for letter in self.mail)]


def _letter(state: RunState, to: Letter, at_ms: int) -> MailRow:
    return MailRow(to.run_id, state.tenant, to.kind, orjson.dumps(to.payload).decode(), at_ms)


def write_of(state: RunState, draft: Draft, *, release: bool, wake_at: int | None) -> RunWrite:
    """Return what the journal has to write: the run as it stands, and everything the draft touched."""
    return RunWrite(
        run_id=state.run_id,
        tenant=state.tenant,
        epoch=state.epoch,
        before_seq=draft.before_seq,
        after_seq=draft.before_seq + len(draft.frames),
        status=state.status.value,
        waiting_on_json=_waiting(state),
        wake_at=wake_at,
        plan_version=state.plan_version,
        plan_hash=state.plan.graph.plan_hash or None,
        seen=state.seen,
        release=release,
        ledger_json=ledger_json(state.ledger),
        started_at=state.started_at,
        ended_at=state.ended_at,
        nodes={node_id: node_row(state.nodes[node_id]) for node_id in draft.changed if node_id in state.nodes},
        events=[
            EventRow(frame.seq or 0, frame.type, node_id, frame.data)
            for frame, node_id in zip(draft.frames, draft.node_ids, strict=True)
        ],
        prompts=[prompt_row(state, raised) for raised in draft.raised],
        withdrawn=draft.withdrawn,
        answered=draft.answered,
        plan=draft.plans[-1] if draft.plans else None,
        plans=draft.plans[:-1],
        # Also what is there again: a row that had ended could not be written over.
        forgotten=list(dict.fromkeys(draft.forgotten)),
        spawned=list(draft.spawned),
        mail=list(draft.mail),
        memory=list(draft.memory),
        history=None if state.ended_at is None else _history(state, draft.last),
    )


def _history(state: RunState, last: Event | None) -> HistoryRow | None:
    """Return what the history says of a run that ends; nothing of a child run, which is part of another execution."""
    if state.lineage.parent_run_id is not None:
        return None
    ending = Ending(last.code, last.message, last.failed_node_id) if isinstance(last, Failed) else Ending()
    return history_row(
        state.origin,
        given_of(state.envelope_json),
        ending,
        state.ledger,
        run_id=state.run_id,
        tenant=state.tenant,
        principal=state.principal,
        status=state.status.value,
        objective=state.envelope.objective,
        created_at=state.created_at,
        started_at=state.started_at,
        ended_at=state.ended_at or state.created_at,
        origin_run_id=state.lineage.origin_run_id,
    )


def _waiting(state: RunState) -> str:
    return "[]" if state.status is not RunStatus.WAITING else orjson.dumps(list(state.waiting_on)).decode()


def ledger_json(ledger: Ledger) -> str:
    """Return the run's account as JSON."""
    return orjson.dumps(ledger).decode()


def plan_row(plan: PlanGraph, author: str, reason: str, at_ms: int) -> PlanRow:
    """Return a version of the plan as it is stored."""
    return PlanRow(plan.plan_version, plan.plan_hash, plan.wire.decode(), author, reason, at_ms)


def node_row(node: NodeState) -> NodeRow:
    """Return a node's row."""
    output = node.output_json
    return NodeRow(
        node_id=node.node_id,
        kind=node.step.node.kind,
        status=node.status.value,
        attempt=node.attempt,
        generation=node.generation,
        started_at=node.started_at,
        ended_at=node.ended_at,
        wake_at=node.wake_at,
        inputs_json=node.inputs_json,
        output_json=None if output is None else output.decode(),
        error_json=_json(node.error),
        history_json=_json(node.history or None),
        state_json=_json(_private(node) or None),
    )


def _json(value: Any) -> str | None:
    return None if value is None else orjson.dumps(value).decode()


_KEPT: Final = (
    "feedback",
    "parked",
    "lost",
    "resumed",
    "extra_attempts",
    "approved",
    "version",
    "prompt_id",
    "called_at",
    "child_run_id",
    "offered",
    "shown_as",
    "rule",
    "then",
    "holds",
    "overdue",
    "stops",
    "calls",
    "passed",
    "spent",
)
_VALUES: Final = attrgetter(*_KEPT)


def _private(node: NodeState) -> dict[str, Any]:
    """Return what only the machine needs to go on with a node; nothing for a plain one."""
    values = _VALUES(node)
    # A plain node has none of them, and most nodes are plain.
    kept = {name: value for name, value in zip(_KEPT, values, strict=True) if value} if any(values) else {}
    if node.taken is not None:
        # An empty list says that no way was taken; without it every way would be.
        kept["taken"] = node.taken
    if node.refused is not NOTHING:
        kept["refused"] = node.refused
    if node.asked is not None:
        kept["asked"] = node.asked
    if node.node_id == OUTPUT_REPAIR:
        kept["whole"] = True
    return kept


def prompt_row(state: RunState, raised: Raised) -> PromptRow:
    """Return a raised prompt as it is stored, its policy frozen (H3)."""
    shown, spec = raised.shown, raised.spec
    return PromptRow(
        prompt_id=shown.prompt_id,
        run_id=shown.run_id,
        tenant=state.tenant,
        node_id=shown.node_id,
        kind=shown.kind,
        status=shown.status,
        question=shown.question,
        proposed_json=orjson.dumps(shown.proposed).decode(),
        answer_schema_json=orjson.dumps(shown.answer_schema).decode(),
        actions_json=orjson.dumps(list(shown.actions)).decode(),
        assignees_json=orjson.dumps(dict(shown.assignees)).decode(),
        quorum=shown.quorum,
        policy_id=spec.policy_id,
        plan_version=shown.plan_version,
        bound_hash=shown.bound_hash,
        on_timeout=shown.on_timeout,
        created_at=raised.at_ms,
        due_at=raised.due_at,
        policy_json=spec.policy().model_dump_json(),
        requester=state.principal,
        notify_at=raised.notify_at,
    )
