"""The built-in facets leave shapes distinguishable, and every capability is declared in full (F4, wire §6 R2c)."""

import pytest

from capabilities.catalogue import CAPABILITIES, FACETS
from capabilities.registry import Registry
from contracts.capability import CapabilitySpec, Facet
from planner.fit import fit

SPECS = Registry().catalogue().capabilities
NAMED = {facet.name: facet for facet in FACETS}


THING = {"type": "object", "required": ["girth", "hue"], "properties": {"girth": {}, "hue": {}}}


@pytest.mark.parametrize("facet", FACETS, ids=lambda facet: facet.name)
@pytest.mark.parametrize("goal", [THING, {"type": "array", "items": THING}], ids=["object", "list"])
def test_no_facet_passes_for_a_shape_that_it_knows_nothing_of(facet: Facet, goal: dict[str, object]) -> None:
    assert fit(facet.schema, goal).verdict == "clash"
    assert facet.description


@pytest.mark.parametrize("spec", SPECS, ids=lambda spec: spec.capability_id)
def test_every_capability_is_described_and_its_facets_exist(spec: CapabilitySpec) -> None:
    assert spec.description
    assert {param.facet for param in spec.consumes.values()} | set(spec.produces) <= set(NAMED)
    assert spec.in_process or spec.capability_id in {
        "http.get", "http.post", "llm.generate", "copy.llm", "documents.search",
    }  # fmt: skip
    assert (spec.effects == "once") == (spec.capability_id == "http.post")
    assert not (spec.effects == "once" and spec.produces), "the planner must not choose an effect by itself"


def test_the_names_and_aliases_that_the_wire_page_uses() -> None:
    """wire §5a, §6."""
    aliases = {facet.name: set(facet.aliases) for facet in FACETS}
    assert "variants" in aliases["copy_variants"]
    assert "sections" in aliases["release_sections"]
    assert "summary" in aliases["release_summary"]
    assert "summary" in aliases["company_summary"]
    profile = NAMED["company_profile"].schema
    assert isinstance(profile, dict)
    assert profile["required"] == ["name"]
    assert all(NAMED[name].schema == {"type": "string"} for name in ("channel", "audience", "tone"))
    assert NAMED["copy_variants"].list_of == "copy_variant"
    assert len(CAPABILITIES) == len(SPECS)
