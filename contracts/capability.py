"""What can be done: facets, capability specs, and what an attempt is given (F4, F15, R2).

The planner reads specs and never a name; the engine calls :class:`Capability` and never looks inside.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any, Literal, Protocol, runtime_checkable

from contracts.outcome import NO_USAGE, Outcome, Usage
from contracts.prompts import PromptSpec

Effects = Literal["none", "idempotent", "once"]


@dataclass(frozen=True, slots=True)
class Facet:
    """A named, typed piece of data that capabilities consume and produce.

    ``schema`` is JSON Schema (2020-12). ``list_of`` names the facet of the items when this one is their list.
    One name with two schemas stops the service from starting.
    """

    name: str
    schema: Mapping[str, Any] | bool
    aliases: tuple[str, ...] = ()
    description: str = ""
    list_of: str | None = None


@dataclass(frozen=True, slots=True)
class Param:
    """A parameter of a capability: the facet it takes and whether the call is impossible without it."""

    facet: str
    required: bool = True


LiteralCheck = Callable[[Any], "tuple[str, str] | None"]
"""A value → a code and why it would be refused; None: nothing is known against it."""


@dataclass(frozen=True, slots=True)
class CapabilitySpec:
    """What a capability takes, gives, costs and does to the world.

    With one facet in ``produces`` the output is that facet's value; with several it is an object of them by name.
    ``generic`` fits any goal (a structurer); ``batch`` gets ``count``; ``requires`` names what must be configured
    (``model``) or allowed (``people``). ``in_process`` says the call never leaves this process (run-ahead is allowed
    when ``effects`` is ``none`` too). ``cost`` is money per call, ``latency_ms`` milliseconds, ``quality`` 0..1.
    """

    capability_id: str
    version: str = "1.0.0"
    description: str = ""
    consumes: Mapping[str, Param] = field(default_factory=dict)
    produces: tuple[str, ...] = ()
    kind: str = "call"
    effects: Effects = "none"
    cost: float = 0.0
    latency_ms: int = 10
    quality: float = 0.5
    generic: bool = False
    batch: bool = False
    requires: tuple[str, ...] = ()
    in_process: bool = True
    tokens: int = 0
    tools: tuple[str, ...] = ()
    """capabilities that a :class:`Talk` of it may have called, each as a node of its own (R2, W6)"""
    flows: tuple[str, ...] = ()
    """flows that it may have called likewise (``flow.<flow_id>``, ``flow.<flow_id>@<version>``), each as a child
    run; the plan that calls it holds them"""
    memory: str | None = None
    """what it may touch of memory besides what its run names: ``agent:<agent>`` is that agent's own scope in the run's
    story, ``shared:<namespace>`` that scope; other agents' scopes it is never given (R5)"""
    documents: tuple[str, ...] = ()
    """documents of the run's story that must be there first: a plan that calls it by name waits for them (R1)"""
    literals: Mapping[str, LiteralCheck] = field(default_factory=dict, compare=False, repr=False)
    """parameter → what is wrong with a value that a plan writes down, known before anything runs (W4)"""
    scopes: tuple[str, ...] = ()
    """what the caller must have been granted for its runs to call it, all of them (W4)"""
    needed: tuple[str, ...] = field(init=False, compare=False, repr=False)
    """the parameters without which a call is impossible"""

    def __post_init__(self) -> None:
        """Work out once what every attempt asks."""
        object.__setattr__(self, "needed", tuple(name for name, param in self.consumes.items() if param.required))


@dataclass(frozen=True, slots=True)
class Bundle:
    """What an attempt is given (wire §3): ``contract`` is what its output must fit, ``errors`` is feedback."""

    objective: str
    inputs: Mapping[str, Any]
    constraints: Mapping[str, Any]
    directives: Mapping[str, Any]
    instructions: Sequence[str]
    documents: Sequence[Any]
    memory: Mapping[str, Any]
    contract: Any
    attempt: int
    errors: Sequence[Mapping[str, Any]]


class CallContext(Protocol):
    """What a running capability may use besides its bundle."""

    run_id: str
    node_id: str
    attempt: int
    idempotency_key: str
    """(run, node path, generation, call number): the same after a crash, another after a deliberate re-run."""

    def delta(self, text: str) -> None:
        """Send a piece of text to the viewers at once (``node_delta``); never stored."""

    def log(self, level: Literal["debug", "info", "warning", "error"], message: str) -> None:
        """Write a ``log`` frame with the node's next transition."""

    def remember(self, scope: str, key: str, value: Any, expected_revision: int | None = None) -> None:
        """Have a JSON value remembered under a key of a scope that the run names, when the node completes (R5).

        With ``expected_revision`` only if the key still has it then, 0: is not there; else the attempt has failed
        (``memory_conflict``) and another one reads what is there. A failed attempt writes nothing. Raises
        :class:`CapabilityError` for a scope that ``context.memory`` does not name, and for what cannot be kept.
        """

    def forget(self, scope: str, key: str, expected_revision: int | None = None) -> None:
        """Have a key forgotten, likewise."""

    def revision(self, scope: str, key: str) -> int:
        """Return the revision of a key in the bundle's ``memory``; 0 when it is not there."""


@dataclass(frozen=True, slots=True)
class Result:
    """An output together with what it cost; a plain return value is an output that cost nothing."""

    output: Any
    usage: Usage = NO_USAGE


@dataclass(frozen=True, slots=True)
class Ask:
    """A capability asks people from inside its work (H2).

    The body has ended; when the answer is there, ``resume(bundle, context, state, answer)`` goes on. ``state`` is any
    JSON value the second half needs. So nothing that ran before the question runs again.
    """

    prompt: PromptSpec
    state: Any = None


@dataclass(frozen=True, slots=True)
class Talk:
    """A capability has the model answer, which may have the capability's ``tools`` called first (R2, W6).

    ``messages`` come before every round, ``schema`` is the form of the answer (None: a text), ``max_rounds`` how often
    tools may be asked for, ``model`` another model than the configured one. ``remember`` is scope and key under which
    the answer is remembered. ``run`` is called again for every round, and must say the same.
    """

    messages: Sequence[Mapping[str, Any]]
    schema: Any = None
    max_rounds: int = 8
    model: str | None = None
    remember: tuple[str, str] | None = None


class CapabilityError(Exception):
    """Raised by a capability for an expected failure: a stable code, a sentence, and whether to try again.

    ``usage`` is what the failed call cost all the same (a reply that was paid for and could not be used).
    """

    def __init__(
        self,
        code: str,
        message: str,
        *,
        retryable: bool = True,
        after_ms: int | None = None,
        usage: Usage = NO_USAGE,
    ) -> None:
        """Keep the five."""
        self.code, self.message, self.retryable, self.after_ms = code, message, retryable, after_ms
        self.usage = usage
        super().__init__(f"{code}: {message}")


@runtime_checkable
class Capability(Protocol):
    """A callable with a spec.

    ``run`` returns a JSON value, a :class:`Result`, an :class:`Ask`, a :class:`Talk` or an outcome.

    Cancellation reaches ``run`` as ``asyncio.CancelledError``. Raising :class:`CapabilityError` is a normal way to
    fail; any other exception is recorded as ``capability_error`` and retried like one.
    """

    spec: CapabilitySpec

    def run(self, bundle: Bundle, context: CallContext) -> Awaitable[Any | Result | Ask | Outcome]:
        """Do the work once."""

    def resume(
        self, bundle: Bundle, context: CallContext, state: Any, answer: Any
    ) -> Awaitable[Any | Result | Ask | Outcome]:
        """Go on after an :class:`Ask` was answered."""


def identity(capability: Capability) -> str:
    """Return a hash of what stands behind a capability's id and version: what it takes, gives and does, and where.

    The same id and version may stand for something else after it was taken away and registered again (H5).
    """
    spec = capability.spec
    consumes = sorted((name, param.facet, param.required) for name, param in spec.consumes.items())
    shape = [spec.capability_id, spec.version, spec.kind, spec.effects, spec.generic, spec.batch, spec.produces]
    covered = [*shape, consumes, getattr(capability, "address", "")]
    return sha256(repr(covered).encode()).hexdigest()


@dataclass(frozen=True, slots=True)
class Catalogue:
    """What the planner may choose from at one moment: facets, specs, and the ids of the active capabilities."""

    facets: tuple[Facet, ...]
    capabilities: tuple[CapabilitySpec, ...]
    active: frozenset[str]
    inactive_reasons: Mapping[str, str] = field(default_factory=dict)
    """capability_id → why it is not active, as a remedy for people («set FLEX_MODEL»)."""
    inactive_versions: Mapping[tuple[str, str], str] = field(default_factory=dict)
    """(capability_id, version) → the same, for each version that is not active although another one may be."""
    models: bool = True
    """whether a model is configured"""
    remembers: bool = False
    """whether a capability has memory of its own (:attr:`CapabilitySpec.memory`)"""
    awaits: bool = False
    """whether a capability needs documents to be there first (:attr:`CapabilitySpec.documents`)"""
    calls_flows: bool = False
    """whether a capability has flows called (:attr:`CapabilitySpec.flows`)"""


class CapabilityDirectory(Protocol):
    """How the engine finds a callable."""

    def catalogue(self) -> Catalogue:
        """Return what is there now (cheap: cached until something changes)."""

    def find(self, capability_id: str, version: str | None = None) -> Capability | None:
        """Return the active capability of that id and version (the newest without one), or None."""


Step = Callable[[Bundle, CallContext], Awaitable[Any]]
