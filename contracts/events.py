"""Every frame a run can send, as one tagged union (F7; wire §4).

An event is what happened; a frame is an event with its place in the run's log. ``EVENTS`` is the list from which the
frame reference in the docs is generated.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Final

import orjson

from contracts.clock import rfc3339


@dataclass(frozen=True, slots=True)
class Start:
    """The run is accepted and durable."""

    type: ClassVar[str] = "start"
    objective: str
    contract_hash: str
    links: Mapping[str, str]
    forked_from: Mapping[str, str | None] | None = None
    """``{"run_id", "node_id"}`` of the run that this one is a fork of; absent otherwise"""
    parent: Mapping[str, str] | None = None
    """``{"run_id", "node_id"}`` of the node that this run is a child of; absent otherwise"""


@dataclass(frozen=True, slots=True)
class PlanRequested:
    """A strategy was asked for a plan; ``round`` counts from 1."""

    type: ClassVar[str] = "plan_requested"
    round: int
    strategy: str


@dataclass(frozen=True, slots=True)
class PlanRejected:
    """No plan, or an invalid one: the findings say what is missing and what would help."""

    type: ClassVar[str] = "plan_rejected"
    round: int
    findings: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class PlanGenerated:
    """The first plan of the run."""

    type: ClassVar[str] = "plan_generated"
    plan: Any


@dataclass(frozen=True, slots=True)
class PlanUpdated:
    """A new version of the plan, with who changed what and why."""

    type: ClassVar[str] = "plan_updated"
    plan: Any
    from_version: int
    diff: Mapping[str, Sequence[str]]
    author: str
    reason: str


@dataclass(frozen=True, slots=True)
class NodeStart:
    """An attempt began; ``resumed`` says that it goes on after an answer, a crash or a drain."""

    type: ClassVar[str] = "node_start"
    attempt: int
    kind: str
    capability_id: str | None
    resumed: bool
    child_run_id: str | None = None
    """only of a ``subflow``"""


@dataclass(frozen=True, slots=True)
class NodeDelta:
    """Text as it is produced; ephemeral (no id, never replayed). ``offset`` counts characters."""

    type: ClassVar[str] = "node_delta"
    attempt: int
    offset: int
    text: str


@dataclass(frozen=True, slots=True)
class NodeRetry:
    """The attempt failed; the next one starts in ``delay_ms``."""

    type: ClassVar[str] = "node_retry"
    attempt: int
    next_attempt: int
    delay_ms: int
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class NodeComplete:
    """The output is stored and fits its contract; over 64 KiB it is null and ``artifact_url`` says where it is."""

    type: ClassVar[str] = "node_complete"
    attempt: int
    duration_ms: int
    output: Any
    artifact_url: str | None = None
    copied_from: str | None = None
    """the run whose output this is, in a fork; absent otherwise"""


@dataclass(frozen=True, slots=True)
class NodeError:
    """The node failed for good; ``fallback`` is what happens now."""

    type: ClassVar[str] = "node_error"
    attempt: int
    code: str
    message: str
    fallback: str


@dataclass(frozen=True, slots=True)
class ToolCalls:
    """A chat's model asks for calls; each ``{call_id, name, arguments, node_id, error}``.

    ``node_id`` is the node that runs the call, null when there is nothing to run: then ``error`` says why.
    ``arguments`` is the JSON text that the model wrote, ``text`` what it said besides; each is null when it is longer
    than 65,536 characters.
    """

    type: ClassVar[str] = "tool_calls"
    round: int
    text: str | None
    calls: list[dict[str, Any]]


@dataclass(frozen=True, slots=True)
class NodeSkipped:
    """The node will not run."""

    type: ClassVar[str] = "node_skipped"
    reason: str


@dataclass(frozen=True, slots=True)
class HitlRequest:
    """People are asked; the prompt is stored."""

    type: ClassVar[str] = "hitl_request"
    prompt: Any


@dataclass(frozen=True, slots=True)
class HitlResolved:
    """A prompt ended: ``settled`` with its decision, ``expired`` or ``withdrawn``."""

    type: ClassVar[str] = "hitl_resolved"
    prompt_id: str
    status: str
    decision: Any


@dataclass(frozen=True, slots=True)
class RunWaiting:
    """Nothing can run until something arrives; ``wake_at`` is the next timer (RFC 3339) or null."""

    type: ClassVar[str] = "run_waiting"
    waiting_on: Sequence[str]
    prompt_ids: Sequence[str]
    wake_at: str | None


@dataclass(frozen=True, slots=True)
class RunResumed:
    """What was awaited is there (``decision``, ``timer``, …)."""

    type: ClassVar[str] = "run_resumed"
    cause: str


@dataclass(frozen=True, slots=True)
class PolicyTriggered:
    """A runtime rule fired."""

    type: ClassVar[str] = "policy_triggered"
    policy_id: str
    trigger: str
    action: str


@dataclass(frozen=True, slots=True)
class ValidationFailed:
    """An output does not fit; scope ``node_output`` or ``final_output``; every failing place is listed."""

    type: ClassVar[str] = "validation_error"
    scope: str
    attempt: int
    errors: Sequence[Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Log:
    """A line for people."""

    type: ClassVar[str] = "log"
    level: str
    message: str


@dataclass(frozen=True, slots=True)
class StreamEnd:
    """The stream closes early, the run goes on (``draining`` or ``slow_viewer``); ephemeral."""

    type: ClassVar[str] = "stream_end"
    reason: str


@dataclass(frozen=True, slots=True)
class Complete:
    """Terminal: the output satisfied the caller's contract. ``waited_ms`` is not part of ``duration_ms``."""

    type: ClassVar[str] = "complete"
    output: Any
    duration_ms: int
    waited_ms: int
    usage: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Failed:
    """Terminal: why, which node, and whether sending the envelope again may help."""

    type: ClassVar[str] = "failed"
    code: str
    message: str
    failed_node_id: str | None
    errors: Sequence[Any]
    retryable: bool


@dataclass(frozen=True, slots=True)
class Cancelled:
    """Terminal: who asked for it and why."""

    type: ClassVar[str] = "cancelled"
    by: str
    reason: str | None


Event = (
    Start
    | PlanRequested
    | PlanRejected
    | PlanGenerated
    | PlanUpdated
    | NodeStart
    | NodeDelta
    | NodeRetry
    | NodeComplete
    | NodeError
    | ToolCalls
    | NodeSkipped
    | HitlRequest
    | HitlResolved
    | RunWaiting
    | RunResumed
    | PolicyTriggered
    | ValidationFailed
    | Log
    | StreamEnd
    | Complete
    | Failed
    | Cancelled
)
EVENTS: Final = (
    Start, PlanRequested, PlanRejected, PlanGenerated, PlanUpdated, NodeStart, NodeDelta, NodeRetry, NodeComplete,
    NodeError, ToolCalls, NodeSkipped, HitlRequest, HitlResolved, RunWaiting, RunResumed, PolicyTriggered,
    ValidationFailed, Log, StreamEnd, Complete, Failed, Cancelled,
)  # fmt: skip

TERMINAL: Final = frozenset({Complete.type, Failed.type, Cancelled.type})
EPHEMERAL: Final = frozenset({NodeDelta.type, StreamEnd.type})
FAILURE_CODES: Final = (
    "no_plan", "rejected", "node_failed", "output_contract_unmet", "prompt_expired", "budget_spent",
    "deadline_exceeded", "policy_failed", "stalled", "capability_unavailable", "internal",
)  # fmt: skip
INLINE_OUTPUT_BYTES: Final = 64 * 1024


@dataclass(slots=True)
class Frame:
    """A committed event in its run's log: ``seq`` (null for ephemeral ones) and the encoded JSON."""

    seq: int | None
    type: str
    data: bytes

    @property
    def terminal(self) -> bool:
        """Say whether the run ended with this frame."""
        return self.type in TERMINAL


def encode(
    event: Event, *, seq: int | None, at_ms: int, run_id: str, correlation_id: str, node_id: str | None
) -> bytes:
    """Return the frame's JSON, all seven keys in their order. ``at_ms`` is wall time in ms since the epoch."""
    return orjson.dumps(
        {
            "type": event.type,
            "id": seq,
            "timestamp": rfc3339(at_ms),
            "correlation_id": correlation_id,
            "run_id": run_id,
            "node_id": node_id,
            "payload": _payload(event),
        },
        option=orjson.OPT_NON_STR_KEYS,
    )


def _payload(event: Event) -> Any:
    """Return the payload; optional members only stand there when they are set.

    Spelled out, because most frames of a busy service pass here.
    """
    shown: dict[str, Any]
    if type(event) is NodeComplete:
        shown = {"attempt": event.attempt, "duration_ms": event.duration_ms, "output": event.output}
        if event.artifact_url is not None:
            shown["artifact_url"] = event.artifact_url
        if event.copied_from is not None:
            shown["copied_from"] = event.copied_from
        return shown
    if type(event) is NodeStart and event.child_run_id is None:
        return {
            "attempt": event.attempt,
            "kind": event.kind,
            "capability_id": event.capability_id,
            "resumed": event.resumed,
        }
    if type(event) is Start:
        shown = {"objective": event.objective, "contract_hash": event.contract_hash, "links": event.links}
        if event.forked_from is not None:
            shown["forked_from"] = event.forked_from
        if event.parent is not None:
            shown["parent"] = event.parent
        return shown
    return event


def sse(frame: Frame) -> bytes:
    """Return the frame as one Server-Sent Event: ``id:`` unless ephemeral, one ``data:`` line, no ``event:`` line."""
    if frame.seq is None:
        return b"data: " + frame.data + b"\n\n"
    return b"id: %d\ndata: %b\n\n" % (frame.seq, frame.data)
