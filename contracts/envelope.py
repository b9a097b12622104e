"""The TaskEnvelope: what a caller posts (F2, F3, F5; wire §2).

Reading checks shape and bounds only. The caller's schema is compiled by the intake (``contracts/schema.py``), names of
facets and capabilities are checked by the planner, and what does not work yet is refused by ``service/support.py``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import AfterValidator, Field, PrivateAttr, field_validator, model_validator
from pydantic_core import PydanticCustomError

from contracts.clock import read_rfc3339
from contracts.errors import EnvelopeInvalid
from contracts.ids import is_header_token, is_node_id, is_token
from contracts.memory import read_scope
from contracts.prompts import PromptKind, PromptPolicy
from contracts.wire import Wire, read_model

_Text = Annotated[str, Field(min_length=1, max_length=20_000)]
_Id = Annotated[str, Field(min_length=1, max_length=128)]
_Name = Annotated[str, Field(min_length=1, max_length=200)]
_Names = Annotated[list[_Name], Field(max_length=200)]
_Seconds = Annotated[float, Field(gt=0, le=30 * 86_400)]

GRANTED: Final = "granted_scopes"
"""Where a stored envelope keeps what its run may use; no caller can write it."""
APPROVAL_QUESTION: Final = "Approve this output?"


def _token(value: str) -> str:
    if not is_token(value):
        raise PydanticCustomError(
            "bad_id", "Ids are 1 to 128 letters, digits and . _ : - and start with a letter or digit."
        )
    return value


def _time(value: str) -> str:
    try:
        read_rfc3339(value)
    except ValueError:
        raise PydanticCustomError(
            "bad_time", "A time is RFC 3339 with its offset: 2026-01-05T09:00:00Z or 2026-01-05T10:00:00.5+01:00."
        ) from None
    return value


def _scope(value: str) -> str:
    if read_scope(value) is None:
        raise PydanticCustomError("bad_scope", "A scope of memory is agent:<agent>/<story> or shared:<namespace>.")
    return value


_Scope = Annotated[str, Field(min_length=1, max_length=300), AfterValidator(_scope)]


class Bundle(Wire):
    """A typed piece of data in the context: ``type`` names a facet, ``payload`` is its value."""

    type: _Name
    payload: Any = Field()


class Context(Wire):
    """What the run knows besides its inputs.

    ``on_missing_doc`` says what happens while the story lacks one of the documents: the run waits for it before
    anything begins, begins without it, or is refused.
    """

    story_id: _Id | None = None
    documents: list[_Id] = Field(default_factory=list, max_length=100)
    on_missing_doc: Literal["wait", "skip", "error"] = "wait"
    memory: list[_Scope] = Field(default_factory=list, max_length=100)
    bundles: list[Bundle] = Field(default_factory=list, max_length=100)

    @field_validator("story_id")
    @classmethod
    def _story(cls, value: str | None) -> str | None:
        return value if value is None else _token(value)

    @field_validator("documents")
    @classmethod
    def _documents(cls, value: list[str]) -> list[str]:
        return [_token(each) for each in value]


def document_at(context: Context, place: str) -> str | None:
    """Return the document that ``/context/documents/<place>`` means: by its number from 0, else by its id; or None."""
    if place.isascii() and place.isdigit() and int(place) < len(context.documents):
        return context.documents[int(place)]
    return place if place in context.documents else None


class Topology(Wire):
    """Bounds on the plan's shape."""

    variant_count: Annotated[int, Field(ge=1, le=1_000)] | None = None
    max_depth: Annotated[int, Field(ge=1, le=10_000)] | None = None
    max_nodes: Annotated[int, Field(ge=1, le=100_000)] | None = None
    required_kinds: _Names = Field(default_factory=list)
    forbidden_kinds: _Names = Field(default_factory=list)


class Selection(Wire):
    """Which capabilities the planner may, must, should and should not use; and whether people may be one."""

    require: _Names = Field(default_factory=list)
    forbid: _Names = Field(default_factory=list)
    prefer: _Names = Field(default_factory=list)
    avoid: _Names = Field(default_factory=list)
    humans: Literal["never", "last_resort"] = "never"


class Optimisation(Wire):
    """What to prefer between plans that are otherwise equal."""

    objective: Literal["speed", "quality", "cost"] = "cost"


class PlannerPolicy(Wire):
    """Everything that only concerns planning. ``strategy`` is the service's own choice when it is not given."""

    strategy: Literal["search", "model"] | None = None

    topology: Topology = Field(default_factory=Topology)
    selection: Selection = Field(default_factory=Selection)
    optimisation: Optimisation = Field(default_factory=Optimisation)


class Selector(Wire):
    """Which nodes a rule is about; the given fields must all match."""

    node_id: _Id | None = None
    capability_id: _Id | None = None
    kind: _Name | None = None
    effects: Literal["none", "idempotent", "once"] | None = None

    @property
    def empty(self) -> bool:
        """Say whether it selects everything."""
        return not self.model_dump(exclude_none=True)


class HitlRule(PromptPolicy):
    """Ask people at a place of the plan (H3): before anything runs, before or after nodes, or before the end."""

    id: _Id
    when: Literal["plan", "before", "after", "output"]
    selector: Selector | None = None
    kind: PromptKind | None = Field(default=None, strict=False)
    question: Annotated[str, Field(min_length=1, max_length=4_000)] = APPROVAL_QUESTION

    @field_validator("id")
    @classmethod
    def _id(cls, value: str) -> str:
        if not is_node_id(value):
            raise PydanticCustomError("bad_id", "A rule's id becomes a node: 1 to 64 letters, digits, _ . or -.")
        return value

    @model_validator(mode="after")
    def _places(self) -> HitlRule:
        if self.selector is not None and self.when in ("plan", "output"):
            raise PydanticCustomError("selector_without_node", "Only before and after take a selector.")
        return self

    def prompt_kind(self) -> PromptKind:
        """Return the kind, or the usual one of the place."""
        return self.kind or (PromptKind.PLAN_REVIEW if self.when == "plan" else PromptKind.APPROVAL)


TriggerType = Literal["on_start", "on_node_complete", "on_validation_fail", "on_timeout", "manual"]
ActionType = Literal["replan", "hitl", "fail", "pause", "emit"]


class Trigger(Wire):
    """When a runtime rule fires."""

    type: TriggerType
    selector: Selector | None = None
    condition: Annotated[str, Field(min_length=1, max_length=2_000)] | None = None


class Action(Wire):
    """What a runtime rule does; ``hitl`` says how people are asked, ``fail``, ``pause`` and ``emit`` take a message."""

    type: ActionType
    message: Annotated[str, Field(min_length=1, max_length=2_000)] | None = None
    question: Annotated[str, Field(min_length=1, max_length=4_000)] | None = None
    policy: PromptPolicy | None = None

    @model_validator(mode="after")
    def _fits(self) -> Action:
        if self.type != "hitl" and (self.question is not None or self.policy is not None):
            raise PydanticCustomError("not_hitl", "question and policy go with the action hitl.")
        return self


class RuntimeRule(Wire):
    """A rule that is watched while the run goes on (F5)."""

    id: Annotated[str, Field(min_length=1, max_length=48)]
    enabled: bool = True
    trigger: Trigger
    action: Action

    @field_validator("id")
    @classmethod
    def _id(cls, value: str) -> str:
        if not is_node_id(value) or "[" in value:
            raise PydanticCustomError("bad_id", "A rule's id becomes a node: 1 to 48 letters, digits, _ . or -.")
        return value

    @model_validator(mode="after")
    def _fits(self) -> RuntimeRule:
        of_nodes = ("on_node_complete", "on_validation_fail", "on_timeout")
        if self.trigger.selector is not None and self.trigger.type not in of_nodes:
            raise PydanticCustomError("selector_without_node", f"{self.trigger.type} takes no selector.")
        if self.trigger.condition is not None and self.trigger.type != "on_node_complete":
            raise PydanticCustomError("condition_without_node", f"{self.trigger.type} takes no condition.")
        return self


class RetryPolicy(Wire):
    """Attempts per node and the backoff between them (full jitter, doubling from ``base_ms`` up to ``max_ms``)."""

    max_attempts: Annotated[int, Field(ge=1, le=20)] = 3
    base_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 200
    max_ms: Annotated[int, Field(ge=0, le=3_600_000)] = 10_000


class Timeouts(Wire):
    """Seconds that a node's attempt and the whole run may execute; waiting does not count."""

    node_seconds: _Seconds = 60.0
    run_seconds: _Seconds = 300.0


class Budget(Wire):
    """What a run may spend; ``human_asks`` counts prompts made by policies, ``wall_seconds`` waiting too."""

    tokens: Annotated[int, Field(ge=0)] | None = None
    cost: Annotated[float, Field(ge=0)] | None = None
    wall_seconds: Annotated[float, Field(gt=0, le=366 * 86_400)] | None = None
    human_asks: Annotated[int, Field(ge=0, le=1_000)] = 3


class Policies(Wire):
    """Everything that says how, not what."""

    planner: PlannerPolicy = Field(default_factory=PlannerPolicy)
    directives: dict[str, Any] = Field(default_factory=dict)
    hitl: list[HitlRule] = Field(default_factory=list, max_length=50)
    runtime: list[RuntimeRule] = Field(default_factory=list, max_length=50)
    retry: RetryPolicy = Field(default_factory=RetryPolicy)
    timeouts: Timeouts = Field(default_factory=Timeouts)
    budget: Budget = Field(default_factory=Budget)
    concurrency: Annotated[int, Field(ge=1, le=256)] = 8
    on_output_invalid: Literal["ask", "fail"] = "ask"
    requires_hitl_approval: bool = False

    @model_validator(mode="after")
    def _unique(self) -> Policies:
        for rules in (self.hitl, self.runtime):
            ids = [rule.id for rule in rules]
            if len(set(ids)) != len(ids):
                raise PydanticCustomError("duplicate_id", "Two rules have the same id.")
        return self

    def watching(self, trigger: TriggerType) -> list[RuntimeRule]:
        """Return the enabled runtime rules of a trigger, in their order."""
        return [rule for rule in self.runtime if rule.enabled and rule.trigger.type == trigger]

    def gates(self) -> list[HitlRule]:
        """Return the ``hitl`` rules, with the one that ``requires_hitl_approval`` is short for."""
        if not self.requires_hitl_approval:
            return list(self.hitl)
        taken = {rule.id for rule in self.hitl}
        name = next(
            name for name in ("output_approval", *(f"output_approval_{n}" for n in range(2, 60))) if name not in taken
        )
        return [*self.hitl, HitlRule(id=name, when="output")]


class JsonSchemaContract(Wire):
    """The answer is a JSON value that satisfies ``schema``; a boolean schema is legal."""

    mode: Literal["json_schema"] = "json_schema"
    schema_: dict[str, Any] | bool


class FreeformContract(Wire):
    """The answer is a text of at least one character."""

    mode: Literal["freeform"]
    instructions: Annotated[str, Field(max_length=20_000)] | None = None
    expected_format: Annotated[str, Field(max_length=2_000)] | None = None


class FacetsContract(Wire):
    """The answer is an object with one property per facet."""

    mode: Literal["facets"]
    facets: Annotated[list[_Name], Field(min_length=1, max_length=50)]

    @field_validator("facets")
    @classmethod
    def _unique(cls, value: list[str]) -> list[str]:
        if len(set(value)) != len(value):
            raise PydanticCustomError("duplicate_facet", "A facet is named twice.")
        return value


OutputContract = JsonSchemaContract | FreeformContract | FacetsContract
_CONTRACTS: Final[dict[str, type[Wire]]] = {
    "json_schema": JsonSchemaContract,
    "freeform": FreeformContract,
    "facets": FacetsContract,
}


class Workflow(Wire):
    """What to run instead of planning: exactly one of a plan, a stored flow, a template."""

    plan: dict[str, Any] | None = None
    flow_id: _Id | None = None
    version: Annotated[int, Field(ge=1)] | None = None
    template_id: _Id | None = None
    params: dict[str, Any] | None = None

    @model_validator(mode="after")
    def _one(self) -> Workflow:
        given = [self.plan is not None, self.flow_id is not None, self.template_id is not None]
        if sum(given) != 1:
            raise PydanticCustomError("ambiguous_workflow", "Give exactly one of plan, flow_id, template_id.")
        if (self.version is not None and self.flow_id is None) or (
            self.params is not None and self.template_id is None
        ):
            raise PydanticCustomError("ambiguous_workflow", "version goes with flow_id, params with template_id.")
        return self


class TaskEnvelope(Wire):
    """The request: an objective, the caller's own contract for the answer, and everything in between."""

    objective: _Text
    output_contract: Annotated[Any, Field()]
    inputs: dict[str, Any] = Field(default_factory=dict)
    context: Context = Field(default_factory=Context)
    constraints: dict[str, Any] = Field(default_factory=dict)
    policies: Policies = Field(default_factory=Policies)
    special_instructions: list[Annotated[str, Field(min_length=1, max_length=4_000)]] = Field(
        default_factory=list, max_length=50
    )
    metadata: dict[str, Any] = Field(default_factory=dict)
    correlation_id: Annotated[str, Field(min_length=1, max_length=200)] | None = None
    workflow: Workflow | None = None
    start_at: Annotated[str, Field(max_length=40)] | None = None
    """RFC 3339: the run is accepted and planned now, and begins then"""
    _granted: frozenset[str] | None = PrivateAttr(default=None)

    @property
    def granted(self) -> frozenset[str] | None:
        """Return the scopes that the run may use: its caller's when it was accepted; None: every one (W4)."""
        return self._granted

    def granting(self, scopes: frozenset[str] | None) -> TaskEnvelope:
        """Return the envelope of a run that may use these scopes."""
        if scopes == self._granted:
            return self
        copied = self.model_copy()
        copied._granted = scopes
        return copied

    @field_validator("start_at")
    @classmethod
    def _start(cls, value: str | None) -> str | None:
        return value if value is None else _time(value)

    @field_validator("correlation_id")
    @classmethod
    def _correlation(cls, value: str | None) -> str | None:
        if value is not None and not is_header_token(value):
            raise PydanticCustomError("bad_id", "A correlation id is 1 to 200 visible ASCII characters.")
        return value

    @property
    def starts_ms(self) -> int | None:
        """Return ``start_at`` as ms since the epoch."""
        return None if self.start_at is None else read_rfc3339(self.start_at)

    @property
    def contract(self) -> OutputContract:
        """Return the output contract in its read form."""
        contract: OutputContract = self.output_contract
        return contract


def read_envelope(data: Any) -> TaskEnvelope:
    """Read a parsed body; raises :class:`EnvelopeInvalid` with a pointer per broken place (F1, F2)."""
    envelope = read_model(TaskEnvelope, data, EnvelopeInvalid)
    contract = _read_contract(envelope.output_contract)
    return envelope.model_copy(update={"output_contract": contract})


def kept_envelope(data: Any) -> TaskEnvelope:
    """Read an envelope as the service wrote it: with what its run may use (``granted_scopes``), if not everything."""
    if not isinstance(data, dict) or GRANTED not in data:
        return read_envelope(data)
    plain = {name: value for name, value in data.items() if name != GRANTED}
    return read_envelope(plain).granting(frozenset(data[GRANTED]))


def granting_json(data: Mapping[str, Any], scopes: frozenset[str] | None) -> dict[str, Any]:
    """Return an envelope's JSON as it is kept for a run that may use these scopes."""
    if scopes is not None:
        return {**data, GRANTED: sorted(scopes)}
    return {name: value for name, value in data.items() if name != GRANTED}


def _read_contract(data: Any) -> Wire:
    """Read the contract by its mode; ``json_schema`` when only a schema is there."""
    mode = data.get("mode", "json_schema") if isinstance(data, dict) else "json_schema"
    model = _CONTRACTS.get(mode) if isinstance(mode, str) else None
    return read_model(model or _UnknownContract, data, EnvelopeInvalid, at="/output_contract")


class _UnknownContract(Wire):
    """Only there to name the modes in an error."""

    mode: Literal["json_schema", "freeform", "facets"]
