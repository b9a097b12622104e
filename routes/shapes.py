"""The schemas of everything that goes over the wire, by name, for the OpenAPI document (P3).

Inputs come from the models that read them, frames from ``contracts.events``; the rest is what ``service`` renders.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from pydantic import BaseModel, TypeAdapter
from pydantic.json_schema import models_json_schema

from contracts.envelope import FacetsContract, FreeformContract, JsonSchemaContract, TaskEnvelope
from contracts.events import EVENTS
from contracts.lifecycle import NodeStatus, PromptStatus, RunStatus, WaitingOn
from contracts.plan import PlanGraph
from contracts.prompts import Decision, DecisionInput, Prompt
from contracts.registration import Registration
from routes import (
    agents,
    chat_shapes,
    document_shapes,
    execution_shapes,
    flow_shapes,
    memory_shapes,
    spec,
    template_shapes,
)
from routes.runs import CancelInput
from service.batches import BatchInput
from service.callbacks import CallbackInput
from service.control import NothingInput, ReasonInput
from service.editing import PlanEditInput
from service.handing import ClaimInput, DelegateInput, WithdrawInput
from service.lineage import ForkInput
from service.retention import RetentionInput

Schema = dict[str, Any]
_TEMPLATE: Final = "#/components/schemas/{model}"
_TIME: Final[Schema] = {"type": "string", "format": "date-time"}
_TIME_OR_NULL: Final[Schema] = {"type": ["string", "null"], "format": "date-time"}
_TEXT: Final[Schema] = {"type": "string"}
_TEXT_OR_NULL: Final[Schema] = {"type": ["string", "null"]}
_NUMBER: Final[Schema] = {"type": "integer", "minimum": 0}
_NUMBER_OR_NULL: Final[Schema] = {"type": ["integer", "null"], "minimum": 0}
_LINKS: Final[Schema] = {"type": "object", "additionalProperties": {"type": "string"}}
_TEXTS: Final[Schema] = {"type": "array", "items": {"type": "string"}}
_ANY: Final[Schema] = {}
_ERROR: Final[Schema] = {"type": ["object", "null"], "description": "What went wrong: at least `code` and `message`."}


def ref(name: str) -> Schema:
    """Return a reference to one of these."""
    return dict(spec.ref(name))


def _list(name: str) -> Schema:
    return {"type": "array", "items": ref(name)}


def open_record(about: str, /, **properties: Schema) -> Schema:
    """Return the schema of an object in which these properties are always there, and perhaps others."""
    return {"type": "object", "description": about, "required": list(properties), "properties": properties}


def record(about: str, /, **properties: Schema) -> Schema:
    """Return the schema of an object in which these properties are always there, and no others."""
    return {**open_record(about, **properties), "additionalProperties": False}


def _one_of(values: Any) -> Schema:
    return {"type": "string", "enum": [value.value for value in values]}


_RUN_ITEM: Final[dict[str, Schema]] = {
    "run_id": _TEXT,
    "status": _one_of(RunStatus),
    "waiting_on": {"type": "array", "items": _one_of(WaitingOn)},
    "objective": _TEXT,
    "plan_version": _NUMBER,
    "last_event_id": _NUMBER,
    "correlation_id": _TEXT,
    "created_at": _TIME,
    "started_at": _TIME_OR_NULL,
    "ended_at": _TIME_OR_NULL,
    "links": _LINKS,
}
_NODE_ITEM: Final[dict[str, Schema]] = {
    "node_id": _TEXT,
    "kind": _TEXT,
    "capability_id": _TEXT_OR_NULL,
    "status": _one_of(NodeStatus),
    "attempt": _NUMBER,
    "generation": _NUMBER,
    "started_at": _TIME_OR_NULL,
    "ended_at": _TIME_OR_NULL,
    "duration_ms": _NUMBER_OR_NULL,
    "usage": {
        "type": "object", "description": "Of all its attempts.",
        "properties": {"tokens": _NUMBER, "cost": {"type": "number"}},
    },
    "error": _ERROR,
}  # fmt: skip
_PLACE: Final = record("A node of a run; `node_id` is null for a retry.", run_id=_TEXT, node_id=_TEXT_OR_NULL)
_ATTEMPTS: Final = {"type": "array", "items": {"type": "object", "description": "One try: at least `attempt`."}}
_CONSUMED: Final = record("A parameter.", facet=_TEXT, required={"type": "boolean"})
_READY: Final = {"type": "string", "enum": ["ok", "unready"]}

RENDERED: Final[Mapping[str, Schema]] = {
    "Problem": open_record("RFC 9457, with a stable code.",
        type=_TEXT,
        title=_TEXT,
        status={"type": "integer"},
        code=_TEXT,
        detail=_TEXT,
        correlation_id=_TEXT_OR_NULL,
        errors={"type": "array", "items": ref("ProblemItem")},
    ),
    "ProblemItem": record("One finding.", pointer=_TEXT, code=_TEXT, message=_TEXT),
    "AcceptedRun": record("A run that has just been accepted.", run_id=_TEXT, status=_one_of(RunStatus), links=_LINKS),
    "RunItem": record("A run in a list.", **_RUN_ITEM),
    "Run": record(
        "A run as it stands.",
        **_RUN_ITEM,
        open_prompts=_list("PromptDetail"),
        paused={"anyOf": [ref("Paused"), {"type": "null"}]},
        pending_docs={"type": ["array", "null"], "items": _TEXT, "description": "Documents that it waits for."},
        lineage=ref("Lineage"),
        root_run_id=_TEXT,
        output=_ANY,
        error=_ERROR,
        usage={"type": "object", "properties": {"tokens": _NUMBER, "cost": {"type": "number"}}},
        duration_ms=_NUMBER_OR_NULL,
        waited_ms=_NUMBER_OR_NULL,
    ),
    "ForkedRun": record(
        "A run that has just been made out of another one.",
        run_id=_TEXT, status=_one_of(RunStatus), links=_LINKS, forked_from=_PLACE,
    ),
    "Lineage": record(
        "Where a run comes from, and its first 100 children and forks.",
        parent={"anyOf": [_PLACE, {"type": "null"}]},
        children=_list("Relative"),
        forked_from={"anyOf": [_PLACE, {"type": "null"}]},
        forks=_list("Relative"),
    ),
    "Relative": record(
        "A run that came of another one, at a node.", run_id=_TEXT, node_id=_TEXT_OR_NULL, status=_one_of(RunStatus)
    ),
    "Paused": record("Who paused the run, why and when.", by=_TEXT, reason=_TEXT_OR_NULL, at=_TIME),
    "PlanEdited": record(
        "What became of an edit: the version the run goes on under, and the nodes that are different.",
        run_id=_TEXT,
        plan_version=_NUMBER,
        diff=record("Node ids.", added=_TEXTS, removed=_TEXTS, changed=_TEXTS),
    ),
    "PlanVersion": record(
        "A version of a run's plan.",
        version=_NUMBER, plan_hash=_TEXT, author=_TEXT, reason=_TEXT, created_at=_TIME, url=_TEXT,
    ),
    "Controlled": record(
        "The run after it was asked.",
        run_id=_TEXT,
        status=_one_of(RunStatus),
        waiting_on={"type": "array", "items": _one_of(WaitingOn)},
    ),
    "Cancelling": open_record("The run has been asked to end.", run_id=_TEXT, status=_one_of(RunStatus)),
    "EventPage": record("Committed frames.", items=_list("Frame"), next_after=_NUMBER, terminal={"type": "boolean"}),
    "NodeItem": record("A node in a list.", **_NODE_ITEM),
    "Node": record(
        "A node with its attempts; `callback_url` of one that waits to be called back, for who may control the run.",
        **_NODE_ITEM,
        inputs=_ANY,
        output=_ANY,
        attempts=_ATTEMPTS,
        callback_url=_TEXT_OR_NULL,
    ),
    "Artifact": record("A stored output.", node_id=_TEXT, bytes=_NUMBER, created_at=_TIME_OR_NULL, url=_TEXT),
    "ResumeInput": {
        "type": "object",
        "description": "A decision by the run: the waiting run, its prompt, the decision.",
        "required": ["run_id"],
        "properties": {
            "run_id": _TEXT,
            "expected_plan_version": {"type": ["integer", "null"], "minimum": 1},
            "prompt_id": _TEXT_OR_NULL,
            "decision": {"anyOf": [ref("DecisionInput"), {"type": "null"}]},
        },
        "additionalProperties": False,
    },
    "Review": record(
        "What a review link is for.",
        prompt=ref("PromptDetail"),
        objective=_TEXT,
        used={"type": "boolean", "description": "Whether the link has decided."},
    ),
    "BatchDecided": record("What became of several decisions.", items=_list("BatchItem")),
    "BatchItem": {
        "type": "object",
        "description": "What became of one prompt: `decision` and `prompt`, or the `problem`.",
        "required": ["prompt_id", "status_code"],
        "properties": {
            "prompt_id": _TEXT,
            "status_code": {"type": "integer"},
            "decision": ref("Decision"),
            "prompt": open_record("The prompt.", status=_one_of(PromptStatus)),
            "problem": ref("Problem"),
        },
        "additionalProperties": False,
    },
    "Decided": record(
        "What became of a decision.",
        decision=ref("Decision"),
        prompt=open_record("The prompt.", status=_one_of(PromptStatus)),
        run=open_record("The run.", status=_one_of(RunStatus)),
    ),
    "Capability": record(
        "A capability.",
        capability_id=_TEXT, version=_TEXT, description=_TEXT, kind=_TEXT,
        consumes={"type": "object", "additionalProperties": _CONSUMED},
        produces=_TEXTS, effects={"type": "string", "enum": ["none", "idempotent", "once"]},
        cost={"type": "number"}, tokens=_NUMBER, latency_ms=_NUMBER, quality={"type": "number"},
        generic={"type": "boolean"}, batch={"type": "boolean"}, requires=_TEXTS,
        active={"type": "boolean"}, inactive_reason=_TEXT_OR_NULL, scopes=_TEXTS,
    ),
    "Facet": record(
        "A named, typed piece of data.",
        name=_TEXT, aliases=_TEXTS, description=_TEXT, schema={"type": ["object", "boolean"]}, list_of=_TEXT_OR_NULL,
    ),
    "Agent": record("An agent of the configured folder, or a file that should have held one.", **agents.AGENT),
    "DryRun": record(
        "A plan, or why there is none.",
        plan={"anyOf": [ref("PlanGraph"), {"type": "null"}]},
        findings={"type": "array", "items": {"type": "object"}},
        estimate={"type": ["object", "null"]},
    ),
    "AuditRecord": record(
        "Who did what. `seq` and the hashes are null until the record is sealed into its chain.",
        record_id=_TEXT, tenant=_TEXT, at=_TIME, kind=_TEXT, actor=_TEXT, run_id=_TEXT_OR_NULL,
        prompt_id=_TEXT_OR_NULL, body={"type": "object"}, seq=_NUMBER_OR_NULL, previous=_TEXT_OR_NULL,
        hash=_TEXT_OR_NULL,
    ),
    "AuditVerdict": record(
        "Whether the chain holds, as far as it was looked at.",
        ok={"type": "boolean"},
        checked=_NUMBER,
        head={"anyOf": [record("Where the chain ends.", seq=_NUMBER, hash=_TEXT), {"type": "null"}]},
        next_seq=_NUMBER_OR_NULL,
        unsealed=_NUMBER,
        broken={"anyOf": [ref("AuditBroken"), {"type": "null"}]},
    ),
    "AuditBroken": record(
        "The first place that is not what was sealed.",
        seq=_NUMBER,
        problem={"type": "string", "enum": ["changed", "missing", "reordered", "inserted"]},
        message=_TEXT,
        record_id=_TEXT_OR_NULL,
    ),
    "Retention": record(
        "How many days things are kept; null is for ever. `updated_by` is null while the service's own policy holds.",
        runs_days=_NUMBER_OR_NULL, audit_days=_NUMBER_OR_NULL, conversations_days=_NUMBER_OR_NULL,
        documents_days=_NUMBER_OR_NULL, memory_days=_NUMBER_OR_NULL, updated_by=_TEXT_OR_NULL, updated_at=_TIME_OR_NULL,
    ),
    "Me": record("The caller.", subject=_TEXT, tenant=_TEXT, roles=_TEXTS, groups=_TEXTS, scopes=_TEXTS),
    "Config": open_record("What a client may know of the settings.", version=_TEXT),
    "Alive": record("It is alive.", status={"const": "ok"}),
    "Ready": record("Whether it should get traffic.", status=_READY, problems=_TEXTS),
}  # fmt: skip


@lru_cache(maxsize=1)
def component_schemas() -> dict[str, Schema]:
    """Return every named schema."""
    found: dict[str, Schema] = {}
    inputs: list[type[BaseModel]] = [
        TaskEnvelope,
        JsonSchemaContract,
        FreeformContract,
        FacetsContract,
        PlanGraph,
        DecisionInput,
        BatchInput,
        ClaimInput,
        DelegateInput,
        WithdrawInput,
        Registration,
        CancelInput,
        ReasonInput,
        ForkInput,
        NothingInput,
        PlanEditInput,
        CallbackInput,
        RetentionInput,
        *flow_shapes.INPUTS,
        *template_shapes.INPUTS,
        *memory_shapes.INPUTS,
        *document_shapes.INPUTS,
        *chat_shapes.INPUTS,
    ]
    _, document = models_json_schema(
        [(model, "validation") for model in inputs], by_alias=False, ref_template=_TEMPLATE
    )
    found.update({name: _plain_names(schema) for name, schema in document["$defs"].items()})
    envelope = found["TaskEnvelope"]["properties"]
    envelope["output_contract"] = {"anyOf": [ref("JsonSchemaContract"), ref("FreeformContract"), ref("FacetsContract")]}
    for kind in (Prompt, Decision):
        found.update(_dataclass_schema(kind, kind.__name__))
    found["PromptDetail"] = _with_form(found["Prompt"])
    found.update(_frames())
    found.update(RENDERED)
    found.update({name: dict(schema) for name, schema in flow_shapes.RENDERED.items()})
    found.update({name: dict(schema) for name, schema in execution_shapes.RENDERED.items()})
    found.update({name: dict(schema) for name, schema in template_shapes.RENDERED.items()})
    found.update({name: dict(schema) for name, schema in memory_shapes.RENDERED.items()})
    found.update({name: dict(schema) for name, schema in document_shapes.RENDERED.items()})
    found.update({name: dict(schema) for name, schema in chat_shapes.RENDERED.items()})
    return found


def _dataclass_schema(kind: Any, name: str) -> dict[str, Schema]:
    schema = TypeAdapter(kind).json_schema(mode="serialization", ref_template=_TEMPLATE)
    inner = schema.pop("$defs", {})
    return {**inner, name: schema}


def _with_form(prompt: Schema) -> Schema:
    """Return a prompt as it is read: a frame's, and the JSON Schema of what may be posted to decide it."""
    form = {"type": "object", "description": "JSON Schema of the body that decides this prompt."}
    return {
        **prompt,
        "title": "PromptDetail",
        "required": [*prompt["required"], "decision_schema"],
        "properties": {**prompt["properties"], "decision_schema": form},
    }


def _frames() -> dict[str, Schema]:
    """Return one schema per frame type and ``Frame``, any of them."""
    found: dict[str, Schema] = {}
    for event in EVENTS:
        payload = _dataclass_schema(event, f"{event.__name__}Payload")
        found.update(payload)
        found[f"{event.__name__}Frame"] = record(
            (event.__doc__ or "").strip().splitlines()[0],
            type={"const": event.type},
            id=_NUMBER_OR_NULL,
            timestamp=_TIME,
            correlation_id=_TEXT,
            run_id=_TEXT,
            node_id=_TEXT_OR_NULL,
            payload=ref(f"{event.__name__}Payload"),
        )
    found["Frame"] = {"anyOf": [ref(f"{event.__name__}Frame") for event in EVENTS]}
    return found


def _plain_names(schema: Schema) -> Schema:
    """Take the underscore off names that are Python's business (``schema_``, ``from_``)."""
    shown: Schema = dict(schema)
    if "properties" in shown:
        shown["properties"] = {name.rstrip("_"): value for name, value in shown["properties"].items()}
    if "required" in shown:
        shown["required"] = [name.rstrip("_") for name in shown["required"]]
    return shown
