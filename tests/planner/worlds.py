"""Catalogues and envelopes for the planner's tests."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from contracts.capability import CapabilitySpec, Catalogue, Facet, Param
from contracts.envelope import TaskEnvelope, read_envelope
from contracts.plan import Finding, PlanGraph
from contracts.ports import Planned, Reconsider, Unplannable
from engine.kinds import kind_table
from planner.draft import PlanLimits
from planner.planner import SearchPlanner

TEXT = {"type": "string"}
NAMES = {"type": "array", "items": TEXT}


def obj(properties: Mapping[str, Any], *optional: str) -> dict[str, Any]:
    return {
        "type": "object",
        "required": [name for name in properties if name not in optional],
        "properties": dict(properties),
    }


def cap(name: str, produces: str | Iterable[str], consumes: str = "", **rest: Any) -> CapabilitySpec:
    """``consumes``: ``param=facet`` separated by spaces, ``?`` behind an optional one; the facet alone names both."""
    params: dict[str, Param] = {}
    for item in consumes.split():
        param, _, facet = item.rstrip("?").partition("=")
        params[param] = Param(facet or param, required=not item.endswith("?"))
    made = (produces,) if isinstance(produces, str) else tuple(produces)
    return CapabilitySpec(name, consumes=params, produces=made, **rest)


class World:
    """A catalogue and its planner."""

    def __init__(
        self,
        facets: Iterable[Facet],
        capabilities: Iterable[CapabilitySpec],
        inactive: Mapping[str, str] | None = None,
        limits: PlanLimits | None = None,
    ) -> None:
        specs = tuple(capabilities)
        off = dict(inactive or {})
        active = frozenset(spec.capability_id for spec in specs) - off.keys()
        self.now = Catalogue(tuple(facets), specs, active, off)
        self.planner = SearchPlanner(self, kind_table(), limits)

    def catalogue(self) -> Catalogue:
        return self.now

    def without(self, *names: str) -> World:
        left = [spec for spec in self.now.capabilities if spec.capability_id not in names]
        return World(self.now.facets, left, self.now.inactive_reasons)

    def plan(self, envelope: TaskEnvelope, reconsider: Reconsider | None = None) -> PlanGraph:
        answer = self.planner.plan(envelope, reconsider)
        assert isinstance(answer, Planned), answer
        return answer.plan

    def refuse(self, envelope: TaskEnvelope, reconsider: Reconsider | None = None) -> list[Finding]:
        answer = self.planner.plan(envelope, reconsider)
        assert isinstance(answer, Unplannable), answer
        return list(answer.findings)


def ask(contract: Any, objective: str = "x", **rest: Any) -> TaskEnvelope:
    """An envelope; ``contract`` is a schema, or a whole contract when it has a mode."""
    whole = contract if isinstance(contract, dict) and "mode" in contract else {"schema": contract}
    return read_envelope({"objective": objective, "output_contract": whole, **rest})


def want(**properties: Any) -> dict[str, Any]:
    return {"type": "object", "required": list(properties), "properties": properties}


COPY = obj({"headline": TEXT, "body": TEXT, "callToAction": TEXT})
PROFILE = {"type": "object", "required": ["name"], "properties": {"name": TEXT}}
SECTION = obj({"title": TEXT, "items": NAMES})
BUSINESS = (
    Facet("company_profile", PROFILE, description="Who the company is"),
    Facet("channel", TEXT),
    Facet("audience", TEXT),
    Facet("tone", TEXT),
    Facet("copy_variant", COPY, description="One text for a channel"),
    Facet("copy_variants", {"type": "array", "items": COPY}, ("variants",), "Texts for a channel", "copy_variant"),
    Facet("company_summary", TEXT, ("summary",), "What a company does"),
    Facet("log_text", TEXT, description="A raw commit log"),
    Facet("change_records", {"type": "array", "items": {"type": "object"}}),
    Facet("change_groups", {"type": "object"}),
    Facet("release_section", SECTION),
    Facet(
        "release_sections", {"type": "array", "items": SECTION}, ("sections",), "Sections of notes", "release_section"
    ),
    Facet("release_summary", TEXT, ("summary",), "A summary of a release"),
)
MAKERS = (
    cap("copy.template", "copy_variants", "profile=company_profile channel audience? tone?", batch=True, latency_ms=20),
    cap("company.summarise", "company_summary", "profile=company_profile"),
    cap("log.parse", "change_records", "log_text"),
    cap("records.group", "change_groups", "change_records"),
    cap("notes.write", ("release_sections", "release_summary"), "change_groups"),
    cap("model.structure", (), generic=True, requires=("model",), cost=0.01, latency_ms=900),
)
OFFLINE = {"model.structure": "set FLEX_MODEL"}


def business(*, model: bool = False) -> World:
    return World(BUSINESS, MAKERS, {} if model else OFFLINE)


EXAMPLE_A: dict[str, Any] = {
    "objective": "Two LinkedIn post variants on new jobs",
    "inputs": {"channel": "linkedin", "audience": "bakers", "tone": "warm", "goal": "hiring"},
    "context": {"bundles": [{"type": "company_profile", "payload": {"name": "Harbor Bakery"}}]},
    "policies": {
        "planner": {"topology": {"variant_count": 2, "max_depth": 6, "max_nodes": 30}},
        "hitl": [{"id": "sign_off", "when": "output", "question": "Publish these?"}],
    },
    "output_contract": {
        "mode": "json_schema",
        "schema": want(
            variants={
                "type": "array",
                "minItems": 2,
                "maxItems": 2,
                "items": {
                    "type": "object",
                    "required": ["headline", "body", "callToAction"],
                    "properties": {"headline": TEXT, "body": {"type": "string", "minLength": 20}, "callToAction": TEXT},
                },
            }
        ),
    },
}
EXAMPLE_B: dict[str, Any] = {
    "objective": "Release notes for 2.1",
    "inputs": {"log_text": "fix: one\nfeat: two", "version": "2.1"},
    "output_contract": {
        "schema": want(
            version=TEXT,
            summary=TEXT,
            sections={"type": "array", "items": obj({"title": TEXT, "items": NAMES})},
        )
    },
}


def used(plan: PlanGraph) -> list[str | None]:
    return [node.capability_id for node in plan.nodes]


def policies(**selection: Any) -> dict[str, Any]:
    return {"planner": {"selection": selection}}


def topology(**rest: Any) -> dict[str, Any]:
    return {"planner": {"topology": rest}}


TEXTS = [Facet(name, TEXT) for name in ("alpha", "beta", "gamma", "delta")]
SIMPLE = World(TEXTS, [cap("to.beta", "beta", "alpha"), cap("to.gamma", "gamma", "beta"), cap("to.delta", "delta")])
