"""What a run reacts to: everything that enters the machine is one of these values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from contracts.memory import MemoryWrite
from contracts.outcome import NO_USAGE, Outcome, Usage
from contracts.ports import Planned, Unplannable


@dataclass(frozen=True, slots=True)
class Begin:
    """The plan is there; start the roots."""


@dataclass(slots=True)
class Report:
    """What the attempt shell saw: the outcome, the bound inputs, the encoded output, log lines, contract findings."""

    outcome: Outcome
    inputs: Mapping[str, Any] | None = None
    inputs_json: str | None = None
    output_json: bytes | None = None
    logs: Sequence[tuple[str, str]] = ()
    findings: Sequence[Mapping[str, Any]] = ()
    purpose: str = "answer"
    """what the answer of a pause will be for (``OpenPrompt.purpose``)"""
    covers: str | None = None
    """the hash that a gate's approval binds, when it is not the node's own"""
    shown_as: str | None = None
    """what stands behind the capability that a ``before`` gate guards (``contracts.capability.identity``)"""
    stale: bool = False
    """what was approved for this node is not what would run now: nothing was called (H5)"""
    memory: Sequence[MemoryWrite] = ()
    """what is to be remembered if the node completes with this"""


@dataclass(slots=True)
class AttemptEnded:
    """An attempt said its outcome; stale ones (another attempt or generation by now) change nothing."""

    node_id: str
    attempt: int
    generation: int
    report: Report


@dataclass(frozen=True, slots=True)
class Decided:
    """A prompt was settled or expired; ``decision`` is the wire decision or None."""

    signal_id: int
    prompt_id: str
    status: str
    decision: Mapping[str, Any] | None
    on_timeout: str | None = None


@dataclass(frozen=True, slots=True)
class CancelAsked:
    """Somebody with the right to it wants the run to end."""

    signal_id: int
    by: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class PauseAsked:
    """Somebody with the right to it wants nothing more to be started."""

    signal_id: int
    by: str
    reason: str | None


@dataclass(frozen=True, slots=True)
class ResumeAsked:
    """Somebody with the right to it ends the pause."""

    signal_id: int
    by: str


@dataclass(frozen=True, slots=True)
class PlanEdited:
    """Somebody with the right to it wrote another plan (JSON value) on top of version ``base_version``.

    ``cancel`` names nodes that are to be cancelled first, so that they may change or go.
    """

    signal_id: int
    base_version: int
    plan: Any
    cancel: tuple[str, ...]
    author: str
    reason: str


@dataclass(frozen=True, slots=True)
class Triggered:
    """Somebody with the right to it fires a ``manual`` rule."""

    signal_id: int
    policy_id: str
    by: str


@dataclass(frozen=True, slots=True)
class CalledBack:
    """The outside world answered a ``wait`` node; ``status`` is ``completed`` or ``failed``."""

    signal_id: int
    node_id: str
    status: str
    output: Any
    error: str | None
    by: str


@dataclass(frozen=True, slots=True)
class ChildEnded:
    """A child run ended; ``status`` is its run status, ``error`` its ``{"code", "message"}`` unless it completed."""

    signal_id: int
    node_id: str
    child_run_id: str
    generation: int
    status: str
    output: Any
    error: Mapping[str, Any] | None
    tokens: int
    cost: float


@dataclass(frozen=True, slots=True)
class Tick:
    """Time passed: backoffs and the run's deadline are looked at."""


@dataclass(frozen=True, slots=True)
class Drain:
    """The process stops: running attempts are given back (a ``once`` effect in flight stays to be asked about).

    ``called`` names the nodes whose attempt was really begun here; the start of any other was only written.
    """

    called: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Recovered:
    """The run was just claimed: attempts that a former holder had under way are given back or asked about.

    ``lost`` says which: (node, attempt, generation) as they were loaded, so that none begun since is taken for one.
    """

    lost: frozenset[tuple[str, int, int]] = frozenset()
    asked_here: bool = False
    """whether this very holder put the open question to the planner, while it read the mail"""


@dataclass(frozen=True, slots=True)
class Replanned:
    """The planner answered a :class:`engine.turn.Transition.replan`."""

    result: Planned | Unplannable
    author: str
    reason: str
    node_id: str | None = None
    round: int = 0
    """which question it answers; an answer to an earlier one is dropped"""
    usage: Usage = NO_USAGE
    said: str = ""
    """the model's own words, for the round after this one"""
    hopeless: bool = False
    """whether the model could say nothing else in another round"""
    after_ms: int | None = None
    """when the model has time again, if it said so"""


@dataclass(frozen=True, slots=True)
class Broken:
    """The shell met a surprise it cannot mend: end the run with code ``internal``."""

    message: str


@dataclass(frozen=True, slots=True)
class DocumentCame:
    """A document that the run may wait for is there, in this version."""

    signal_id: int
    document_id: str
    version: int


Mailed = (
    Decided | CancelAsked | PauseAsked | ResumeAsked | PlanEdited | Triggered | CalledBack | ChildEnded | DocumentCame
)
"""What others leave in the run's mailbox; each has a ``signal_id``."""
Signal = Begin | AttemptEnded | Tick | Drain | Recovered | Replanned | Broken | Mailed


@dataclass(frozen=True, slots=True)
class ReplanAsked:
    """A command: ask the planner again, leaving out what failed; ``notes`` are people's words."""

    round: int
    without: frozenset[str] = field(default_factory=frozenset)
    notes: tuple[str, ...] = ()
    author: str = "engine"
    reason: str = ""
    node_id: str | None = None
    edited: Any = None
    """A plan that a person wrote instead (checked, not searched)."""
    optional: bool = False
    """Whether the run goes on as it is when there is no other plan."""
    failed: tuple[str, ...] = ()
    """nodes that cannot go on without another plan"""
    strategy: str = "search"
    """Who is asked: ``search`` or ``model``."""
    drafts: int = 0
    """Which round of the model this is, from 1; 0 when no model was asked."""
    said: str = ""
    """What the model said in the round before, when it was refused."""
    findings: tuple[Mapping[str, Any], ...] = ()
    """What was wrong with it."""
    delay_ms: int = 0
    """How long to wait before the model is asked."""
    held: bool = False
    """Whether a pause keeps it from being asked."""
