"""From a parsed body to an accepted envelope: shape, support, the caller's schema, the facets it names (F1-F3)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from contracts.answer import answer_schema
from contracts.capability import CapabilityDirectory, Catalogue
from contracts.clock import YEAR_MS
from contracts.envelope import JsonSchemaContract, TaskEnvelope, granting_json, read_envelope
from contracts.errors import EnvelopeInvalid, ErrorItem
from contracts.expressions import ExpressionRefused, compile_rule
from contracts.schema import CompiledSchema, SchemaRefused, compile_schema
from contracts.scopes import Granted
from contracts.wire import MAX_DEPTH, deep_place
from planner.goals import unknown_facets
from service.support import refuse_unsupported

SCHEMA_AT: Final = "/output_contract/schema"


@dataclass(frozen=True, slots=True)
class Admitted:
    """An envelope that may become a run: read, and in its canonical JSON (snake_case, defaults filled in)."""

    envelope: TaskEnvelope
    envelope_json: Mapping[str, Any]
    contract: CompiledSchema


def admit(
    body: Any,
    directory: CapabilityDirectory,
    *,
    models: bool = False,
    granted: Granted = None,
    own: Callable[[], Catalogue] | None = None,
) -> Admitted:
    """Return the admitted envelope; ``models`` says whether a model is configured, ``granted`` what its run may use.

    ``own`` returns the caller's catalogue, facets of its flows included: marks in a schema may name those, too.

    Raises ``EnvelopeInvalid`` (shape, unknown facet), ``Unsupported``, ``SchemaRefused`` (pointers into the body).
    """
    _check_depth(body)
    envelope = read_envelope(body)
    refuse_unsupported(envelope, models=models)
    _check_conditions(envelope)
    catalogue = directory.catalogue()
    strangers = unknown_facets(envelope, catalogue)
    if strangers and own is not None and isinstance(envelope.contract, JsonSchemaContract):
        strangers = unknown_facets(envelope, own())
    if strangers:
        raise EnvelopeInvalid("The output contract names facets that nobody declared.", errors=strangers)
    facets = {facet.name: facet.schema for facet in catalogue.facets}
    contract, shown = _compiled(envelope, facets), envelope.model_dump(mode="json")
    if granted is None:
        return Admitted(envelope, shown, contract)
    return Admitted(envelope.granting(granted), granting_json(shown, granted), contract)


def _check_conditions(envelope: TaskEnvelope) -> None:
    """Refuse a runtime rule whose condition does not compile, with the column of the fault (F5)."""
    found = []
    for place, rule in enumerate(envelope.policies.runtime):
        try:
            if rule.trigger.condition is not None:
                compile_rule(rule.trigger.condition)
        except ExpressionRefused as refused:
            column = "" if refused.column is None else f" (column {refused.column})"
            pointer = f"/policies/runtime/{place}/trigger/condition"
            found.append(ErrorItem(pointer, "bad_expression", f"{refused.message.rstrip('.')}{column}."))
    if found:
        raise EnvelopeInvalid("A runtime policy has a condition that cannot be read.", errors=found)


def check_start(envelope: TaskEnvelope, now_ms: int) -> None:
    """Raise ``EnvelopeInvalid`` for a start that is too far away; one that has passed means at once."""
    at_ms = envelope.starts_ms
    if at_ms is not None and at_ms - now_ms > YEAR_MS:
        raise EnvelopeInvalid(errors=[ErrorItem("/start_at", "bad_time", "A run starts within 366 days.")])


def _check_depth(body: Any) -> None:
    """Refuse what is nested too deeply to be put into frames, prompts and signals later on."""
    place = deep_place(body)
    if place is not None:
        raise EnvelopeInvalid(errors=[ErrorItem(place, "too_deep", f"Nested over {MAX_DEPTH} levels.")])


def _compiled(envelope: TaskEnvelope, facets: Mapping[str, Any]) -> CompiledSchema:
    schema = answer_schema(envelope.contract, facets)
    try:
        return compile_schema(schema)
    except SchemaRefused as refused:
        if not isinstance(envelope.contract, JsonSchemaContract):
            raise
        items = [ErrorItem(SCHEMA_AT + item.pointer, item.code, item.message) for item in refused.errors]
        raise SchemaRefused(refused.message, errors=items) from None
