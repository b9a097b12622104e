"""One request for every way to say what to run (W1): planned, definition, template, custom, chat.

Each becomes an envelope, and then a run like any other: nothing here executes anything.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final, Literal

from pydantic import Field

from contracts.access import Principal
from contracts.envelope import read_envelope
from contracts.errors import EnvelopeInvalid, ErrorItem, FlexError
from contracts.lifecycle import RUN_TERMINAL, RunStatus
from contracts.plan import Finding
from contracts.ports import Planned, Planner, Reconsider
from contracts.scopes import granted_to
from contracts.wire import Wire, read_model
from service import filling
from service.chats import Chats
from service.flows import Flows
from service.reads import Reads
from service.resolving import resolve
from service.templates import Templates
from service.verdicts import verdict
from store.connect import Database

Id = Annotated[str, Field(min_length=1, max_length=128)]
WorkflowType = Literal["planned", "definition", "template", "custom", "chat"]
OWN: Final[Mapping[str, tuple[str, tuple[str, ...]]]] = {
    "planned": ("objective", ("output_contract", "constraints", "special_instructions")),
    "definition": ("flow_id", ("version", "objective", "output_contract")),
    "template": ("template_id", ("objective", "output_contract")),
    "custom": ("plan", ("objective", "output_contract", "constraints")),
    "chat": ("messages", ("objective",)),
}
"""Type → the member it needs, and those it may have besides; the others are some other type's."""
DEBUGGED: Final = 1_000
"""Nodes, and lines of the log, that ``debug_mode`` shows."""
_COMMON: Final = ("workflow_type", "input_data", "config", "policies", "context", "metadata", "correlation_id")
_PLANNED_CONTRACT: Final = "A planned execution needs the contract of its answer."


class ExecuteConfig(Wire):
    """How the answer comes. ``debug_mode`` adds what each node was given and gave, and the run's log."""

    debug_mode: bool = False
    streaming: bool = False


class ExecuteInput(Wire):
    """What to run. Which members belong together is said by ``workflow_type``; any other mixture is refused."""

    workflow_type: WorkflowType
    input_data: dict[str, Any] = Field(default_factory=dict)
    config: ExecuteConfig = Field(default_factory=ExecuteConfig)
    flow_id: Id | None = None
    version: Annotated[int, Field(ge=1)] | None = None
    template_id: Id | None = None
    plan: dict[str, Any] | None = None
    messages: list[dict[str, Any]] | None = None
    objective: Annotated[str, Field(min_length=1, max_length=20_000)] | None = None
    output_contract: Any = None
    constraints: dict[str, Any] | None = None
    special_instructions: list[str] | None = None
    policies: dict[str, Any] = Field(default_factory=dict)
    context: dict[str, Any] = Field(default_factory=dict)
    metadata: dict[str, Any] = Field(default_factory=dict)
    correlation_id: str | None = None


class Executing:
    """The use cases of the unified door."""

    def __init__(
        self,
        database: Database,
        flows: Flows,
        templates: Templates,
        reads: Reads,
        planner: Planner,
        chats: Chats,
    ) -> None:
        """Take what turns a request into an envelope, and what reads runs and judges plans."""
        self._database, self._flows, self._templates = database, flows, templates
        self._reads, self._planner, self._chats = reads, planner, chats

    def read(self, body: Any) -> ExecuteInput:
        """Return a request. Raises ``EnvelopeInvalid`` naming each member that is missing or of another type."""
        given = read_model(ExecuteInput, body, EnvelopeInvalid)
        needed, allowed = OWN[given.workflow_type]
        there = {name for name in given.model_fields_set if name not in _COMMON}
        errors = [
            ErrorItem(f"/{name}", "ambiguous_workflow", f"It does not belong to a {given.workflow_type} execution.")
            for name in sorted(there - {needed, *allowed})
            if getattr(given, name) is not None
        ]
        if getattr(given, needed) is None:
            errors.insert(0, ErrorItem(f"/{needed}", "required", f"A {given.workflow_type} execution needs it."))
        if given.workflow_type == "planned" and given.output_contract is None:
            errors.append(ErrorItem("/output_contract", "required", _PLANNED_CONTRACT))
        if errors:
            raise EnvelopeInvalid("The request does not say one thing to run.", errors=errors)
        return given

    async def envelope(self, principal: Principal, given: ExecuteInput) -> dict[str, Any]:
        """Return the envelope of a request.

        Raises ``FlowNotFound``, ``FlowVersionNotFound``, ``TemplateNotFound``, ``EnvelopeInvalid``.
        """
        more = {"policies": given.policies, "context": given.context, "metadata": given.metadata}
        own = {"objective": given.objective, "output_contract": given.output_contract, **more}
        if given.workflow_type == "definition":
            asked = {**own, "inputs": given.input_data, "version": given.version}
            return _with_id(await self._flows.envelope(principal, given.flow_id or "", asked), given)
        if given.workflow_type == "template":
            asked = {**own, "params": given.input_data}
            return _with_id(await self._templates.envelope(principal, given.template_id or "", asked), given)
        if given.workflow_type == "chat":
            turn = {**given.input_data, "messages": given.messages, **more}
            envelope = await self._chats.envelope(principal, turn)
            objective = {} if given.objective is None else {"objective": given.objective}
            return _with_id({**envelope, **objective}, given)
        return _with_id({**own, **_plain(given)}, given)

    async def answer(self, principal: Principal, run_id: str, given: ExecuteInput) -> dict[str, Any]:
        """Return what became of an execution so far (W1): a failed one says ``success: false``.

        ``success`` and ``output`` are null while it goes on or waits; ``waiting_on`` says for what.
        """
        run = await self._reads.run(principal, run_id)
        ended = RunStatus(run["status"]) in RUN_TERMINAL
        answer: dict[str, Any] = {
            "execution_id": run_id,
            "success": run["status"] == RunStatus.COMPLETED if ended else None,
            "status": run["status"],
            "output": run["output"],
            "error": run["error"],
            "waiting_on": run["waiting_on"],
            "open_prompts": run["open_prompts"],
            "metrics": {
                "execution_time_ms": run["duration_ms"],
                "waited_ms": run["waited_ms"],
                "tokens_used": run["usage"]["tokens"],
                "cost": run["usage"]["cost"],
            },
            "metadata": {**await self._names(principal, given), "correlation_id": run["correlation_id"]},
        }
        if given.config.debug_mode:
            nodes = await self._reads.attempts(principal, run_id, DEBUGGED)
            answer["debug"] = {"nodes": nodes, "log": await self._reads.logs(principal, run_id, DEBUGGED)}
        return answer

    async def validate(self, principal: Principal, body: Any) -> dict[str, Any]:
        """Return the four verdicts on what a request would run; nothing is stored or executed (W4).

        Raises ``EnvelopeInvalid`` for a request that does not say one thing to run.
        """
        given = self.read(body)
        try:
            envelope = await self.envelope(principal, given)
            resolved = await resolve(self._database, principal, envelope)
            read = read_envelope(resolved.body).granting(granted_to(principal))
        except FlexError as refused:
            items = refused.errors or [ErrorItem("", refused.code, refused.message)]
            return verdict(_structure(item) for item in items)
        answer = self._planner.plan(read, Reconsider(1, tenant=principal.tenant))
        findings = answer.plan.findings if isinstance(answer, Planned) else answer.findings
        # The plan stands in the request itself there, not below its workflow.
        return verdict(each.model_copy(update={"pointer": each.pointer.removeprefix("/workflow")}) for each in findings)

    async def _names(self, principal: Principal, given: ExecuteInput) -> dict[str, Any]:
        """Return what was run, by name; null for what it was not."""
        names: dict[str, Any] = {"workflow_type": given.workflow_type, "template_id": given.template_id}
        names |= {"template_name": None, "flow_id": given.flow_id}
        if given.template_id is not None:
            row = await filling.find(self._database, principal.tenant, given.template_id)
            names["template_name"] = None if row is None else row.name
        return names


def _plain(given: ExecuteInput) -> dict[str, Any]:
    """Return the members of a planned or custom execution's envelope."""
    plain: dict[str, Any] = {"inputs": given.input_data}
    if given.constraints is not None:
        plain["constraints"] = given.constraints
    if given.special_instructions is not None:
        plain["special_instructions"] = given.special_instructions
    if given.workflow_type == "custom":
        plain["workflow"] = {"plan": given.plan}
        plain["objective"] = given.objective or "Run a plan"
    if given.output_contract is None:
        plain["output_contract"] = {"schema": True}
    return plain


def _with_id(envelope: dict[str, Any], given: ExecuteInput) -> dict[str, Any]:
    return envelope if given.correlation_id is None else {**envelope, "correlation_id": given.correlation_id}


def _structure(item: ErrorItem) -> Finding:
    return Finding(layer="structure", code=item.code, message=item.message, pointer=item.pointer)
