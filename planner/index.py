"""A catalogue made ready for questions; built once per catalogue object."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from contracts.capability import CapabilitySpec, Catalogue, Facet
from contracts.plan import NodeOutput
from contracts.schema import CompiledSchema, compile_schema
from contracts.scopes import required_scopes
from planner.fit import Fit, fit
from planner.schemas import relocated
from planner.words import norm, words

PEOPLE: Final = "people"
"""What a capability ``requires`` when people do its work (contracts/capability.py)."""


class CatalogueIndex:
    """Facets by name and by norm, capabilities by id and version, producers by facet."""

    def __init__(self, catalogue: Catalogue) -> None:
        """Build the tables; linear in the catalogue."""
        self.catalogue = catalogue
        self.flows: Mapping[str, Mapping[str, Any]] = {}
        """capability of a stored flow → the own fields of a node that runs it"""
        self.facets: dict[str, Facet] = {facet.name: facet for facet in catalogue.facets}
        self._named: dict[str, list[str]] = {}
        for facet in catalogue.facets:
            for name in dict.fromkeys(norm(text) for text in (facet.name, *facet.aliases)):
                self._named.setdefault(name, []).append(facet.name)
        self.versions: dict[str, list[CapabilitySpec]] = {}
        for spec in catalogue.capabilities:
            self.versions.setdefault(spec.capability_id, []).append(spec)
        # The newest first, those that are not active last: so the first one is what a plan without a version means.
        resting = catalogue.inactive_versions
        for specs in self.versions.values():
            specs.sort(
                key=lambda spec: ((spec.capability_id, spec.version) not in resting, _version(spec.version)),
                reverse=True,
            )
        newest = {name: specs[0] for name, specs in self.versions.items() if name in catalogue.active}
        self.active: dict[str, CapabilitySpec] = dict(sorted(newest.items()))
        self.scopes = required_scopes(catalogue.capabilities)
        self.facet_words = {facet.name: words(f"{facet.name} {facet.description}") for facet in catalogue.facets}
        self._outputs: dict[tuple[str, str], NodeOutput | None] = {}
        self._meets: dict[tuple[str, str], Fit] = {}
        self._compiled: dict[str, CompiledSchema] = {}

    def named(self, name: str) -> list[str]:
        """Return the facets that have this name or alias by norm."""
        return self._named.get(norm(name), [])

    def schema(self, facet: str) -> Any:
        """Return a facet's schema; unknown facets say nothing."""
        known = self.facets.get(facet)
        return True if known is None else known.schema

    def accepts(self, facet: str, value: Any) -> bool:
        """Say whether a value fits a facet."""
        return self.compiled(facet).is_valid(value)

    def compiled(self, facet: str) -> CompiledSchema:
        """Return a facet's compiled schema."""
        known = self._compiled.get(facet)
        if known is None:
            known = self._compiled[facet] = compile_schema(_plain(self.schema(facet)))
        return known

    def meet(self, produced: str, consumed: str) -> Fit:
        """Return how one facet's values fit another's schema."""
        key = (produced, consumed)
        known = self._meets.get(key)
        if known is None:
            known = Fit("fits") if produced == consumed else fit(self.schema(produced), self.schema(consumed))
            self._meets[key] = known
        return known

    def output(self, spec: CapabilitySpec) -> NodeOutput | None:
        """Return the output contract that a capability's products make; None when it produces no facet."""
        key = (spec.capability_id, spec.version)
        if key not in self._outputs:
            self._outputs[key] = self._output(spec)
        return self._outputs[key]

    def _output(self, spec: CapabilitySpec) -> NodeOutput | None:
        if not spec.produces:
            return None
        if len(spec.produces) == 1:
            return NodeOutput(facet=spec.produces[0], schema_=_plain(self.schema(spec.produces[0])))
        whole = composed({name: self.schema(name) for name in spec.produces})
        return NodeOutput(facets=list(spec.produces), schema_=whole)


def composed(schemas: Mapping[str, Any]) -> dict[str, Any]:
    """Return the schema of an object that has every one of these as a required property."""
    properties = {name: relocated(schema, f"#/properties/{_escaped(name)}") for name, schema in schemas.items()}
    return {"type": "object", "required": list(schemas), "properties": properties}


def _escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")


def _plain(schema: Any) -> Any:
    return dict(schema) if isinstance(schema, Mapping) else schema


def _version(text: str) -> tuple[tuple[int, int, str], ...]:
    parts = text.replace("-", ".").split(".")
    return tuple((1, int(part), "") if part.isascii() and part.isdigit() else (0, 0, part) for part in parts)
