"""The world as the product sees it; only ``app/wiring.py`` chooses who fills these in (house rule 6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from contracts.envelope import TaskEnvelope
from contracts.outcome import Usage
from contracts.plan import Finding, PlanGraph


class Clock(Protocol):
    """Time. Wall time is for records, monotonic time for leases and timeouts."""

    def now_ms(self) -> int:
        """Return wall time, ms since the epoch."""

    def monotonic(self) -> float:
        """Return seconds of a clock that never goes back."""


class Ids(Protocol):
    """Names for new things."""

    def new(self, prefix: str) -> str:
        """Return a new id ``prefix_…``, unique, sortable by time."""


class Random(Protocol):
    """Chance, for jitter only."""

    def uniform(self) -> float:
        """Return a number in [0, 1)."""


class CrashPoints(Protocol):
    """Named places between the steps of transactions where a test may kill the process."""

    def reach(self, point: str) -> None:
        """Note that ``point`` was reached; normally does nothing."""


CRASH_POINTS: Final = (
    "accept.begin",
    "accept.before_commit",
    "accept.after_commit",
    "journal.begin",
    "journal.before_commit",
    "journal.after_commit",
    "journal.after_frames",
    "attempt.before_call",
    "attempt.after_call",
    "claim.after_commit",
    "decide.begin",
    "decide.before_commit",
    "decide.after_commit",
    "signal.before_commit",
    "signal.after_commit",
    "finish.before_commit",
    "finish.after_commit",
    "release.after_commit",
)


class Nudge(Protocol):
    """Tells whoever holds (or could claim) a run to look now. May be lost: rows are the truth."""

    def run(self, run_id: str, worker: str | None) -> None:
        """A signal was left for this run; ``worker`` holds it, None when nobody does."""

    def events(self, run_id: str, seq: int) -> None:
        """The run's log now ends at ``seq``."""


@dataclass(frozen=True, slots=True)
class Planned:
    """The planner's answer: a sealed plan."""

    plan: PlanGraph


@dataclass(frozen=True, slots=True)
class Unplannable:
    """The planner's refusal, with what was tried and a remedy per goal (R9)."""

    findings: tuple[Finding, ...]


@dataclass(frozen=True, slots=True)
class Reconsider:
    """Why a plan is asked for again: capabilities to leave out, and notes of people.

    ``present`` is the plan that it takes the place of, ``completed`` the nodes of the run that have run: their names
    stay theirs. A node of the new plan has such a name only if it is the very same node. ``tenant`` is whose flows a
    plan may use; nobody's when it is empty.
    """

    round: int
    without: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()
    present: PlanGraph | None = None
    completed: frozenset[str] = frozenset()
    tenant: str = ""


class Planner(Protocol):
    """Envelope and catalogue in, plan or findings out; no I/O, deterministic."""

    def plan(self, envelope: TaskEnvelope, reconsider: Reconsider | None = None) -> Planned | Unplannable:
        """Return a sealed plan with its gates, or why there is none. Handles ``workflow.plan`` too."""

    def check(
        self, plan: Any, envelope: TaskEnvelope, at: str = "", present: PlanGraph | None = None, tenant: str = ""
    ) -> Planned | Unplannable:
        """Validate a plan that somebody submitted or edited (JSON value); gates are added, the rest derived.

        ``present`` is the plan that it takes the place of: a gate at the same place keeps its name. ``tenant`` is whose
        flows it may name.
        """


@dataclass(frozen=True, slots=True)
class Commission:
    """What a model is asked to plan, why (``reason``), and what was refused before.

    ``said`` is the model's last reply as text and ``findings`` what was wrong with it; both are empty when this is the
    first try at the question.
    """

    reconsider: Reconsider = field(default_factory=lambda: Reconsider(round=1))
    reason: str = ""
    said: str = ""
    findings: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, slots=True)
class Brief:
    """What a model is told, and the JSON Schema of the reply that is wanted."""

    messages: Sequence[Mapping[str, str]]
    schema: Mapping[str, Any]


class PlanWriter(Protocol):
    """How a model is briefed and how its reply is read; no I/O, deterministic, never raises for what a model says."""

    def brief(self, envelope: TaskEnvelope, commission: Commission) -> Brief | Unplannable:
        """Return what to tell the model; findings when no plan by a model could ever be accepted."""

    def read(self, said: Any, envelope: TaskEnvelope, commission: Commission) -> Planned | Unplannable:
        """Return the plan in a reply (any JSON value), complete, gated, validated and sealed, or what is wrong."""


@dataclass(frozen=True, slots=True)
class Tool:
    """Something that a model may ask to be called: a name, what it does, and the JSON Schema of its arguments.

    ``name`` is 1 to 64 letters, digits, ``_`` or ``-``: endpoints take nothing else.
    """

    name: str
    description: str
    parameters: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call that a model asks for: its own name for it, the tool, and the arguments as it wrote them.

    ``arguments`` is meant to be JSON; nobody has looked at it yet.
    """

    call_id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class ModelReply:
    """What a model said: text, the parsed value when a schema was given, usage, and why it stopped.

    ``text`` may be empty only when ``tool_calls`` is not. ``tokens_in`` and ``tokens_out`` are what was read and what
    was written; their sum is ``usage.tokens``.
    """

    text: str
    value: Any = None
    usage: Usage = field(default_factory=Usage)
    stop: str = "stop"
    tool_calls: tuple[ToolCall, ...] = ()
    tokens_in: int = field(default=0, compare=False)
    tokens_out: int = field(default=0, compare=False)


class Model(Protocol):
    """A language model behind an OpenAI-compatible endpoint."""

    name: str

    async def generate(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        schema: Any = None,
        tools: Sequence[Tool] = (),
        sampling: Mapping[str, Any] | None = None,
        on_text: Any = None,
        timeout_seconds: float = 60.0,
        model: str | None = None,
    ) -> ModelReply:
        """Return the reply; ``schema`` asks for structured output; ``on_text(str)`` is called with each delta.

        ``tools`` are what the model may ask to be called; a reply that does has no ``value``. ``sampling`` are members
        of the request as the endpoint knows them, such as ``temperature``. ``model`` asks another model of the same
        endpoint than ``name``, one that the operator has given a price.

        Raises :class:`contracts.capability.CapabilityError` with codes ``model_unreachable``, ``model_refused``,
        ``model_busy`` (retryable), ``model_bad_reply``, ``model_unknown``.
        """


class DocumentSearch(Protocol):
    """Finds passages in the documents of a run's own story, and of no other."""

    async def of_run(self, run_id: str, query: str, limit: int) -> list[dict[str, Any]] | None:
        """Return the best passages, best first (docs/documents.md); None: the run has no story."""


class Signer(Protocol):
    """Signs what leaves the service and comes back: review links, callbacks (H8, J6)."""

    def sign(self, purpose: str, text: str) -> str:
        """Return the signature of ``text``, safe in a URL; one purpose's signature never fits another."""

    def holds(self, purpose: str, text: str, signature: str) -> bool:
        """Say whether a signature is ours; takes the same time whichever part is wrong."""


class Messenger(Protocol):
    """Sends a message to an address that the operator configured (mail, chat, a web hook)."""

    async def send(self, address: str, title: str, body: str) -> None:
        """Send a plain text. Raises :class:`MessageUnsent` when the address did not take it."""


class MessageUnsent(Exception):
    """A message was not taken; the text says why, without any address's secrets."""
