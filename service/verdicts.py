"""What is wrong with a plan that somebody wrote, layer by layer (W4)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Final

from contracts.envelope import TaskEnvelope, read_envelope
from contracts.errors import FlexError
from contracts.plan import Finding
from contracts.ports import Planned, Planner
from contracts.schema import SchemaRefused, compile_schema
from contracts.scopes import Granted
from contracts.wire import resolve_pointer
from service.offering import NO_OFFERING, NoOffering, Offering
from service.resolving import expand
from store.connect import Database

LAYERS: Final = ("structure", "security", "capability", "resource")
INPUTS: Final = "/inputs/"
GIVEN_LATER: Final = frozenset({"dangling_input", "input_mismatch"})
"""Findings about inputs that only a run brings."""
SCOPE_UNNAMED: Final = "memory_scope_unnamed"
"""Scopes of memory are named in the context, which only a run brings."""


class Verdicts:
    """Judges documents with the checks that every plan passes."""

    def __init__(self, planner: Planner, database: Database, offering: Offering | NoOffering = NO_OFFERING) -> None:
        """Take the planner, which only checks here, where the flows are that a plan may name, and who judges them."""
        self._planner, self._database, self._offering = planner, database, offering

    async def of_document(
        self, tenant: str, document: Any, flow_id: str | None = None, granted: Granted = None
    ) -> dict[str, Any]:
        """Return ``{"valid", "validation": {layer: {"valid", "errors", "warnings"}}}`` of a flow's document.

        Pointers lead into the document. A layer's verdict stands whatever the others say. ``flow_id`` is the flow
        that the document is of: it must not run itself. ``granted`` are the scopes of who would run it; without them
        the verdict is on the document alone.
        """
        above = () if flow_id is None else (flow_id,)
        plan, missing = await expand(self._database, tenant, document["plan"], "/plan", above)
        unresolved = [
            Finding(layer="structure", code=item.code, message=item.message, pointer=item.pointer) for item in missing
        ]
        if unresolved:
            return verdict(unresolved)
        found = self._findings({**document, "plan": plan}, granted, tenant)
        more = await self._offering.findings(tenant, document, plan, flow_id)
        known = {(each.code, each.pointer) for each in found}
        return verdict([*found, *(each for each in more if (each.code, each.pointer) not in known)])

    def findings(self, document: Mapping[str, Any]) -> list[Finding]:
        """Return what every check found in a flow's document that names no stored flow."""
        return self._findings(document)

    def _findings(self, document: Mapping[str, Any], granted: Granted = None, tenant: str = "") -> list[Finding]:
        try:
            envelope = envelope_of(document, {}).granting(granted)
        except FlexError as refused:
            return [
                Finding(layer="structure", code=item.code, message=item.message, pointer=item.pointer)
                for item in refused.errors
            ] or [Finding(layer="structure", code=refused.code, message=refused.message)]
        found = list(_schema_findings(document))
        answer = self._planner.check(document["plan"], envelope, at="/plan", tenant=tenant)
        more = answer.plan.findings if isinstance(answer, Planned) else answer.findings
        return [*found, *(each for each in more if not _given_later(each, document))]


def envelope_of(document: Mapping[str, Any], inputs: Mapping[str, Any]) -> TaskEnvelope:
    """Return the envelope of a run of a flow with these inputs; raise ``EnvelopeInvalid`` for what it cannot have."""
    contract = document.get("output_contract")
    body = {
        "objective": document.get("objective") or document["name"],
        "inputs": dict(inputs),
        "output_contract": {"schema": True} if contract is None else contract,
        "policies": document.get("policies", {}),
        "workflow": {"plan": document["plan"]},
        "context": _context(document),
    }
    return read_envelope(body)


def _context(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the context that every run of a flow has at least: the documents it needs of whichever story it is."""
    needed = document.get("settings", {}).get("documents")
    return {"story_id": "any", "documents": list(needed)} if needed else {}


def verdict(findings: Iterable[Finding]) -> dict[str, Any]:
    """Return findings as four verdicts."""
    layers: dict[str, dict[str, Any]] = {name: {"valid": True, "errors": [], "warnings": []} for name in LAYERS}
    for finding in findings:
        layer = layers[finding.layer]
        shown = finding.model_dump(mode="json", exclude_none=True)
        if finding.severity == "error":
            layer["valid"] = False
            layer["errors"].append(shown)
        else:
            layer["warnings"].append(shown)
    return {"valid": all(layer["valid"] for layer in layers.values()), "validation": layers}


def _schema_findings(document: Mapping[str, Any]) -> Iterable[Finding]:
    try:
        compile_schema(document.get("inputs", True))
    except SchemaRefused as refused:
        for item in refused.errors:
            yield Finding(layer="structure", code=item.code, message=item.message, pointer=f"/inputs{item.pointer}")


def _given_later(finding: Finding, document: Mapping[str, Any]) -> bool:
    """Say whether a finding is about an input that the flow's schema lets a run bring."""
    if finding.code == SCOPE_UNNAMED:
        return True
    if finding.code not in GIVEN_LATER:
        return False
    try:
        bound = resolve_pointer(document, finding.pointer)
    except KeyError:
        return False
    source = bound.get("from") if isinstance(bound, Mapping) else None
    if not isinstance(source, str) or not source.startswith(INPUTS):
        return False
    schema = document.get("inputs", True)
    if not isinstance(schema, Mapping) or schema.get("additionalProperties", True) is not False:
        return schema is not False
    name = source[len(INPUTS) :].split("/")[0].replace("~1", "/").replace("~0", "~")
    return name in schema.get("properties", {})
