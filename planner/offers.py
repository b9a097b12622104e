"""Stored flows among the capabilities: what a tenant's flows offer, judged and put beside the service's own (W2).

A flow that cannot be what it declares stays in the catalogue as inactive, with the reason; nothing here raises.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from contracts.answer import FREEFORM_SCHEMA
from contracts.capability import CapabilitySpec, Catalogue, Effects, Facet, Param
from contracts.envelope import read_envelope
from contracts.errors import EnvelopeInvalid, FlowInvalid
from contracts.flow_capability import FlowCapability, FlowOffer
from contracts.plan import Estimate, Finding, KindTable, PlanGraph
from contracts.ports import Planned
from contracts.scopes import scopes_of
from contracts.wire import pointer_of, read_model
from planner.checking import check_plan
from planner.draft import PlanLimits, Scene
from planner.fit import fit
from planner.index import CatalogueIndex, composed
from planner.schemas import is_object, properties, required, standalone
from planner.sources import UNKNOWN
from planner.submitted import unusable

SUBFLOW: Final = "subflow"
AT: Final = "/capability"
IGNORED: Final = ("hitl", "runtime")
"""Policies that are about one plan: a child run has none of its flow's."""


def with_offers(
    base: CatalogueIndex, offers: Sequence[FlowOffer], kinds: KindTable, limits: PlanLimits
) -> CatalogueIndex:
    """Return the index of a tenant: the service's capabilities and facets, and what the tenant's flows offer."""
    facets = _facets(base, offers)
    known = _with_facets(base, facets)
    specs: list[CapabilitySpec] = []
    why: dict[str, str] = {}
    for offer in offers:
        if any(offer.capability_id == spec.capability_id for spec in base.catalogue.capabilities):
            continue  # what the operator has put there under this name stays
        spec, findings = judged(known, offer, kinds, limits)
        specs.append(spec)
        broken = next((each for each in findings if each.severity == "error"), None)
        if offer.broken is not None or broken is not None:
            why[spec.capability_id] = offer.broken or (broken.message if broken is not None else "")
    catalogue = base.catalogue
    versions = {
        (spec.capability_id, spec.version): why[spec.capability_id] for spec in specs if spec.capability_id in why
    }
    index = CatalogueIndex(
        replace(
            catalogue,
            facets=(*catalogue.facets, *facets),
            capabilities=(*catalogue.capabilities, *specs),
            active=catalogue.active | {spec.capability_id for spec in specs if spec.capability_id not in why},
            inactive_reasons={**catalogue.inactive_reasons, **why},
            inactive_versions={**catalogue.inactive_versions, **versions},
        )
    )
    index.flows = {offer.capability_id: as_node(offer) for offer in offers if offer.capability_id not in why}
    return index


def declared(
    base: CatalogueIndex, offers: Sequence[FlowOffer], offer: FlowOffer, kinds: KindTable, limits: PlanLimits
) -> list[Finding]:
    """Return what is wrong with a flow's declaration beside the tenant's other flows, by pointers into its document."""
    try:
        _declaration(offer)
    except FlowInvalid as refused:  # a draft from when the key was anybody's
        return [_finding(item.code, item.message, item.pointer, layer="structure") for item in refused.errors]
    others = [each for each in offers if each.flow_id != offer.flow_id]
    facets = _facets(base, sorted([*others, offer], key=lambda each: each.flow_id))
    return judged(_with_facets(base, facets), offer, kinds, limits)[1]


def as_node(offer: FlowOffer) -> Mapping[str, Any]:
    """Return the own fields of a node that runs a flow: its plan, what for, and its time."""
    document = offer.document
    node: dict[str, Any] = {"plan": document["plan"]}
    if document.get("objective"):
        node["objective"] = document["objective"]
    return node


def as_subflow(node: Mapping[str, Any], scene: Scene) -> dict[str, Any]:
    """Return a node's JSON that names a flow's capability as the subflow that it is; any other as it stands."""
    name = node.get("capability_id")
    own = scene.index.flows.get(name) if isinstance(name, str) else None
    if own is None or not isinstance(name, str):
        return dict(node)
    kept = {name: value for name, value in node.items() if name not in ("plan", "objective", "flow_id", "version")}
    return {**kept, "kind": SUBFLOW, **own, **scene.held.get(name, {})}


# --- one flow --------------------------------------------------------------------------------------------------------


def judged(
    index: CatalogueIndex, offer: FlowOffer, kinds: KindTable, limits: PlanLimits
) -> tuple[CapabilitySpec, list[Finding]]:
    """Return the capability that a flow is, and what is wrong with it. ``index`` knows the facets."""
    said = _declaration(offer)
    document = offer.document
    findings = [*_unheard(document), *_inputs(index, said, document), *_outputs(index, said, document)]
    plan = None
    if offer.broken is None:
        plan, more = _checked(index, said, offer, kinds, limits)
        findings += more
    estimate = Estimate() if plan is None else plan.estimate
    spec = CapabilitySpec(
        offer.capability_id,
        str(offer.version),
        said.description or str(document.get("description") or document.get("name") or ""),
        {name: Param(taken.facet, taken.required) for name, taken in said.consumes.items()},
        tuple(said.produces),
        SUBFLOW,
        "none" if plan is None else _effects(plan),
        estimate.cost if said.cost is None else said.cost,
        estimate.latency_ms if said.latency_ms is None else said.latency_ms,
        said.quality,
        tokens=estimate.tokens if said.tokens is None else said.tokens,
        scopes=scopes_of(document["plan"], index.catalogue),
    )
    return spec, findings


def _declaration(offer: FlowOffer) -> FlowCapability:
    return read_model(FlowCapability, offer.document["capability"], FlowInvalid)


def _finding(code: str, message: str, below: str, fix: str | None = None, layer: Any = "capability") -> Finding:
    return Finding(layer=layer, code=code, message=message, pointer=AT + below, fix=fix)


def _unheard(document: Mapping[str, Any]) -> Iterator[Finding]:
    """Find what a run of the flow has and a child run would not: gates, rules, documents."""
    policies, settings = document.get("policies") or {}, document.get("settings") or {}
    for name in IGNORED:
        if policies.get(name):
            message = f"A child run has none of its flow's policies.{name}, so this flow cannot be a capability."
            fix = "Put ask nodes into the plan, or leave capability out."
            yield _finding("capability_with_policies", message, "", fix, "security")
    if settings.get("documents"):
        message = "The flow needs documents of its story, which a planner cannot give it."
        yield _finding("capability_needs_documents", message, "", "Take them as inputs, or leave capability out.")


def _inputs(index: CatalogueIndex, said: FlowCapability, document: Mapping[str, Any]) -> Iterator[Finding]:
    """Find inputs that are needed and not consumed, consumed and not taken, or of another type than the facet."""
    schema = document.get("inputs", True)
    if unusable(schema) is not None:
        return  # the check of the document says so
    listed = properties(schema)
    closed = schema is False or (isinstance(schema, Mapping) and schema.get("additionalProperties", True) is False)
    for name in required(schema):
        if name not in said.consumes or not said.consumes[name].required:
            message = f"The flow cannot run without the input {name!r}, and does not declare that it takes it."
            yield _finding("missing_param", message, "/consumes", f"Name the facet of {name!r}, as a required one.")
    for name, taken in said.consumes.items():
        below = pointer_of(["consumes", name])
        if closed and name not in listed:
            yield _finding("unknown_param", f"The flow takes no input {name!r}.", below)
        elif name in listed:
            clash = fit(index.schema(taken.facet), listed[name], schema)
            if clash.verdict == "clash":
                where = clash.unproved[0] or "the schema"
                message = f"A {taken.facet} cannot be the input {name!r}: it breaks {where}."
                yield _finding("incompatible_facet", message, below)


def _outputs(index: CatalogueIndex, said: FlowCapability, document: Mapping[str, Any]) -> Iterator[Finding]:
    """Find facets that what the flow puts out cannot be."""
    for place, name in enumerate(said.produces):
        schema = _put_out(document, said, name)
        found = fit(schema, index.schema(name))
        if found.verdict == "clash":
            where = found.unproved[0] or "the schema"
            message = f"What the flow puts out cannot be a {name}: it breaks {where}."
            yield _finding("incompatible_facet", message, pointer_of(["produces", place]))


def _checked(
    index: CatalogueIndex, said: FlowCapability, offer: FlowOffer, kinds: KindTable, limits: PlanLimits
) -> tuple[PlanGraph | None, list[Finding]]:
    """Return the flow's plan as a child run would walk it, given what it declares, and what is wrong with that."""
    schemas = {name: index.schema(name) for name in said.produces}
    whole = next(iter(schemas.values())) if len(schemas) == 1 else composed(schemas)
    contract = {"mode": "json_schema", "schema": dict(whole) if isinstance(whole, Mapping) else whole}
    objective = offer.document.get("objective") or offer.document["name"]
    try:
        envelope = read_envelope({"objective": objective, "output_contract": contract})
    except EnvelopeInvalid as refused:
        return None, [_finding(item.code, item.message, "/produces") for item in refused.errors]
    given = dict.fromkeys((name for name, taken in said.consumes.items() if taken.required), UNKNOWN)
    scene = Scene(envelope.model_copy(update={"inputs": given}), index, kinds, limits, depth=1)
    answer = check_plan(offer.document["plan"], scene, "/plan")
    if isinstance(answer, Planned):
        return answer.plan, list(answer.plan.findings)
    return None, list(answer.findings)


def _effects(plan: PlanGraph) -> Effects:
    """Return what a plan does to the world: the most that one of its nodes does."""
    found = {node.effects for node in plan.nodes}
    return "once" if "once" in found else "idempotent" if "idempotent" in found else "none"


# --- facets ----------------------------------------------------------------------------------------------------------


def _facets(base: CatalogueIndex, offers: Sequence[FlowOffer]) -> list[Facet]:
    """Return the facets that only flows declare: what the first producer puts out, else the first consumer takes."""
    found: dict[str, Facet] = {}
    read = [(offer, _declaration(offer)) for offer in offers]
    for offer, said in read:
        for name in said.produces:
            if name not in base.facets:
                found.setdefault(name, _facet(name, _put_out(offer.document, said, name)))
    for offer, said in read:
        for param, taken in said.consumes.items():
            if taken.facet not in base.facets:
                schema = _taken(offer.document, param)
                found.setdefault(taken.facet, _facet(taken.facet, schema))
    return list(found.values())


def _facet(name: str, schema: Any) -> Facet:
    if unusable(schema) is not None:
        return Facet(name, True)
    text = schema.get("description", "") if isinstance(schema, Mapping) else ""
    return Facet(name, schema, description=text if isinstance(text, str) else "")


def _put_out(document: Mapping[str, Any], said: FlowCapability, name: str) -> Any:
    """Return the schema of what the flow puts out for one facet; True where its contract says nothing."""
    contract = document.get("output_contract")
    schema = contract.get("schema", True) if isinstance(contract, Mapping) else True
    if isinstance(contract, Mapping) and contract.get("mode") == "freeform":
        schema = FREEFORM_SCHEMA
    if unusable(schema) is not None:
        return True  # the check of the document says so
    if len(said.produces) == 1:
        return schema
    return standalone(properties(schema).get(name, True), schema) if is_object(schema) else True


def _taken(document: Mapping[str, Any], name: str) -> Any:
    """Return the schema of an input of the flow."""
    schema = document.get("inputs", True)
    return True if unusable(schema) is not None else standalone(properties(schema).get(name, True), schema)


def _with_facets(base: CatalogueIndex, facets: Sequence[Facet]) -> CatalogueIndex:
    if not facets:
        return base
    catalogue: Catalogue = base.catalogue
    return CatalogueIndex(replace(catalogue, facets=(*catalogue.facets, *facets)))
