"""What the routes need of the rest: one object that the wiring fills in and the application carries as its state."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.requests import Request

from contracts.access import Principal
from contracts.history import Trigger, Way
from contracts.ports import Ids
from routes.stream import Pace
from service.agents import Agents
from service.audit import Audit
from service.batches import Batches
from service.callbacks import Callbacks
from service.capabilities import Capabilities
from service.completions import Completions
from service.control import Control
from service.conversations import Conversations
from service.documents import Documents
from service.editing import Editing
from service.executing import Executing
from service.executions import Executions
from service.flows import Flows
from service.handing import Handing
from service.lineage import Lineages
from service.memory import Memory
from service.plans import Plans
from service.reads import Reads
from service.retention import Retention
from service.review import Reviews
from service.story_runs import StoryRuns
from service.streams import Streams
from service.templates import Templates


class AcceptedRun(Protocol):
    """What became of a submitted envelope; ``created`` is False when the idempotency key named an earlier run."""

    @property
    def run_id(self) -> str:
        """The run."""

    @property
    def correlation_id(self) -> str:
        """The caller's, or a new one."""

    @property
    def created(self) -> bool:
        """Whether this request made it."""


class ResumedRun(Protocol):
    """A decided prompt's run, and the number of the last frame before what follows the decision."""

    @property
    def run_id(self) -> str:
        """The run."""

    @property
    def after(self) -> int:
        """Stream what comes after this number."""


class RunsDoor(Protocol):
    """``service.runs.Runs``: what changes runs."""

    async def submit(
        self,
        body: Any,
        principal: Principal,
        *,
        key: str | None = None,
        correlation_id: str | None = None,
        trigger: Trigger = "api",
        way: Way | None = None,
    ) -> AcceptedRun:
        """Accept an envelope (a JSON value); ``trigger`` is the door, ``way`` who said what to run."""

    async def cancel(self, principal: Principal, run_id: str, reason: str | None) -> dict[str, Any]:
        """Ask a run to end."""


class PromptsDoor(Protocol):
    """``service.prompts.Prompts``: what people are asked, and their answers."""

    async def list(
        self,
        principal: Principal,
        *,
        view: str | None,
        status: str | None,
        run_id: str | None,
        limit: int,
        cursor: str | None,
    ) -> dict[str, Any]:
        """Return a page of prompts."""

    async def get(self, principal: Principal, prompt_id: str) -> dict[str, Any]:
        """Return one prompt."""

    async def decide(self, principal: Principal, prompt_id: str, body: Any, channel: str = "http") -> dict[str, Any]:
        """Store a decision."""

    async def resume(self, principal: Principal, body: Any) -> ResumedRun:
        """Decide the prompt that a waiting run has, by the run."""


class RegistrationsDoor(Protocol):
    """``service.registrations.Registrations``: capabilities that come and go while the service runs."""

    async def register(self, principal: Principal, body: Any) -> tuple[dict[str, Any], bool]:
        """Store a declaration; returns the capability as it is listed, and whether it is new."""

    async def heartbeat(self, principal: Principal, capability_id: str, version: str | None) -> None:
        """Keep it active."""

    async def remove(self, principal: Principal, capability_id: str, version: str | None) -> None:
        """Take it away."""


class Intake(Protocol):
    """Whether new work is taken (F12)."""

    def busy(self) -> bool:
        """Say whether the backlog is past its limit; asked before a body is read, so it must be cheap."""


class Health(Protocol):
    """Whether this process can serve (P5)."""

    async def problems(self) -> list[str]:
        """Return why it should get no traffic now (``draining``, ``database``); empty when it should."""


class Metrics(Protocol):
    """Where requests are counted (P5)."""

    def request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Count a finished request; ``seconds`` is the time to the first byte of its answer."""

    def render(self) -> tuple[bytes, str]:
        """Return everything measured and its content type."""


@dataclass(frozen=True, slots=True)
class HttpLimits:
    """What the doors bound: bytes of a body and of a document, longest wait in seconds, ``Retry-After`` when busy."""

    body_bytes: int = 1024 * 1024
    document_bytes: int = 10 * 1024 * 1024
    wait_seconds: int = 60
    retry_after_seconds: int = 2


@dataclass(frozen=True, slots=True)
class Access:
    """Who may call from where: extra host names, and foreign origins that browsers may call from (P2)."""

    hosts: frozenset[str] = frozenset()
    origins: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Doors:
    """Everything that a handler may call, and the numbers that concern HTTP.

    ``config`` is what ``GET /api/v1/config`` answers: the settings a client may know (feature flags, limits).
    """

    runs: RunsDoor
    reads: Reads
    prompts: PromptsDoor
    handing: Handing
    batches: Batches
    control: Control
    callbacks: Callbacks
    lineages: Lineages
    editing: Editing
    streams: Streams
    plans: Plans
    capabilities: Capabilities
    agents: Agents
    registrations: RegistrationsDoor
    flows: Flows
    executions: Executions
    templates: Templates
    executing: Executing
    memory: Memory
    documents: Documents
    story_runs: StoryRuns
    completions: Completions
    conversations: Conversations
    reviews: Reviews
    audit: Audit
    retention: Retention
    intake: Intake
    health: Health
    metrics: Metrics
    ids: Ids
    pace: Pace = field(default_factory=Pace)
    limits: HttpLimits = field(default_factory=HttpLimits)
    access: Access = field(default_factory=Access)
    config: Mapping[str, Any] = field(default_factory=dict)
    version: str = ""


def doors_of(request: Request) -> Doors:
    """Return the application's doors."""
    doors: Doors = request.app.state.doors
    return doors
