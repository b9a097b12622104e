"""Capabilities as tools: names that endpoints take, schemas of arguments, and what a bad call is told (W6)."""

from __future__ import annotations

import pytest

from capabilities.registry import Registry
from capabilities.world import World
from contracts.capability import CapabilitySpec, Param
from contracts.ports import ToolCall
from engine.toolbox import asked, parameters_of, tool_names, toolbox


def test_names_are_what_endpoints_take() -> None:
    """Dots become underscores; doubles get a number, and every name leads back to its capability."""
    names = tool_names(["a.b", "a_b", "a-b", "x" * 100, f"{'x' * 100}y"])
    assert list(names)[:4] == ["a_b", "a_b_2", "a-b", "x" * 64]
    assert list(names.values())[:2] == ["a.b", "a_b"]
    assert all(len(name) <= 64 for name in names)
    assert len(names) == 5


def test_a_schema_that_refers_to_itself_still_leads_home() -> None:
    """Two facets with definitions of the same name do not meet."""
    tree = {"$ref": "#/$defs/t", "$defs": {"t": {"type": "object", "properties": {"below": {"$ref": "#/$defs/t"}}}}}
    word = {"$ref": "#/$defs/t", "$defs": {"t": {"type": "string"}}}
    spec = CapabilitySpec("x", consumes={"a": Param("tree"), "b": Param("word", required=False)}, produces=("word",))
    shown = parameters_of(spec, {"tree": tree, "word": word})
    assert shown["required"] == ["a"]
    assert shown["properties"]["a"]["$id"] != shown["properties"]["b"]["$id"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ("{", "not JSON"),
        ("[]", "not an object"),
        ('{"template": 7}', "/template"),
        ('{"template": "a\\u0000"}', "NUL"),
        ("[" * 500 + "]" * 500, "not an object"),
        (f'{{"template": {"[" * 200}{"]" * 200}}}', "nested"),
        (f'"{"x" * 200_001}"', "longer"),
    ],
)
def test_what_is_wrong_with_arguments(arguments: str, said: str) -> None:
    """Whatever a model writes becomes a sentence for it, never an exception."""
    box = toolbox(["text.template"], Registry(World()))
    (name,) = box
    refused = asked(ToolCall("c", name, arguments), box)
    assert refused.node is None
    assert said in (refused.error or "")


def test_a_call_pins_the_version_and_the_effects() -> None:
    """H5: what runs is what stood behind the name when the model asked."""
    registry = Registry(World())
    box = toolbox(["csv.parse"], registry)
    (name,) = box
    found = registry.find("csv.parse")
    assert found is not None
    given = next(iter(found.spec.consumes))
    called = asked(ToolCall("c", name, f'{{"{given}": "a,b"}}'), box)
    assert called.error is None, called.error
    assert called.node is not None
    assert (called.node["capability_version"], called.node["effects"]) == (found.spec.version, found.spec.effects)


def test_what_is_not_active_is_not_offered() -> None:
    """A capability that needs a model is no tool where there is none."""
    assert toolbox(["llm.generate", "nobody"], Registry(World())) == {}
