"""Fit(P→S), as the table of wire §6 says, and the three adapters."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from contracts.composition import adapt
from contracts.schema import compile_schema
from planner.fit import fit
from tests.planner.worlds import NAMES, TEXT, obj

NUMBER = {"type": "number"}
PAIRS: tuple[tuple[str, Any, Any, str, tuple[str, ...]], ...] = (
    ("S says nothing", TEXT, {}, "fits", ()),
    ("S is true", TEXT, True, "fits", ()),
    ("S only annotates", TEXT, {"title": "t", "x-flex-facet": "f"}, "fits", ()),
    ("S is false", TEXT, False, "clash", ("",)),
    ("P unknown", {}, TEXT, "may", ("",)),
    ("P true", True, TEXT, "may", ("",)),
    ("same type", TEXT, TEXT, "fits", ()),
    ("disjoint types", TEXT, NUMBER, "clash", ("/type",)),
    ("a subset of types", TEXT, {"type": ["string", "null"]}, "fits", ()),
    ("an overlap of types", {"type": ["string", "null"]}, TEXT, "may", ("/type",)),
    ("an integer is a number", {"type": "integer"}, NUMBER, "fits", ()),
    ("a number may be an integer", NUMBER, {"type": "integer"}, "may", ("/type",)),
    ("enum subset", {"enum": ["a"]}, {"enum": ["a", "b"]}, "fits", ()),
    ("enum disjoint", {"enum": ["a"]}, {"enum": ["b"]}, "clash", ("/enum",)),
    ("enum overlap", {"enum": ["a", "b"]}, {"enum": ["b", "c"]}, "may", ("/enum",)),
    ("enum unproved", TEXT, {"enum": ["b"]}, "may", ("/enum",)),
    ("const", {"const": 1}, {"const": 2}, "clash", ("/const",)),
    ("required there", obj({"a": TEXT}), obj({"a": TEXT}), "fits", ()),
    ("required lacking", obj({"a": TEXT}), obj({"b": TEXT}), "clash", ("/required",)),
    ("required optional in P", obj({"a": TEXT}, "a"), obj({"a": TEXT}), "may", ("/required",)),
    ("P open", {"type": "object"}, obj({"a": TEXT}), "may", ("/required", "/properties/a")),
    ("recursion clash", obj({"a": TEXT}), obj({"a": NUMBER}), "clash", ("/properties/a/type",)),
    ("optional in S and absent", obj({"a": TEXT}), obj({"a": TEXT, "b": NUMBER}, "b"), "fits", ()),
    ("items", NAMES, {"type": "array", "items": NUMBER}, "clash", ("/items/type",)),
    ("items unknown", {"type": "array"}, NAMES, "may", ("/items",)),
    ("counts inside", {**NAMES, "minItems": 2, "maxItems": 2}, {**NAMES, "minItems": 1, "maxItems": 3}, "fits", ()),
    ("counts disjoint", {**NAMES, "maxItems": 1}, {**NAMES, "minItems": 2}, "clash", ("/minItems",)),
    ("counts above", {**NAMES, "minItems": 4}, {**NAMES, "maxItems": 3}, "clash", ("/maxItems",)),
    ("counts unproved", NAMES, {**NAMES, "minItems": 1, "maxItems": 3}, "may", ("/minItems", "/maxItems")),
    ("equal keyword", {**TEXT, "pattern": "^a"}, {**TEXT, "pattern": "^a"}, "fits", ()),
    ("other keyword", {**TEXT, "minLength": 30}, {**TEXT, "minLength": 20}, "may", ("/minLength",)),
    ("worst part wins", obj({"a": {}, "b": TEXT}), obj({"a": TEXT, "b": NUMBER}), "clash", ("/properties/b/type",)),
)


@pytest.mark.parametrize(
    ("produced", "asked", "verdict", "unproved"), [row[1:] for row in PAIRS], ids=[row[0] for row in PAIRS]
)
def test_the_table(produced: Any, asked: Any, verdict: str, unproved: tuple[str, ...]) -> None:
    found = fit(produced, asked)
    assert (found.verdict, found.unproved) == (verdict, unproved)


def test_references_are_followed_in_both() -> None:
    root = {"$defs": {"name": TEXT, "loop": {"$ref": "#/$defs/loop"}}, "type": "object"}
    assert fit(NUMBER, {"$ref": "#/$defs/name"}, root).verdict == "clash"
    assert fit({"$ref": "#/$defs/name", "$defs": {"name": TEXT}}, TEXT).verdict == "fits"
    assert fit(TEXT, {"$ref": "#/$defs/loop"}, root).verdict in ("may", "fits")


ADAPTED: tuple[tuple[str, Any, Any, Any, Any], ...] = (
    (
        "rename by norm",
        obj({"call_to_action": TEXT}),
        obj({"callToAction": TEXT}),
        {"call_to_action": "x"},
        {"callToAction": "x"},
    ),
    (
        "drop what S forbids",
        obj({"a": TEXT, "b": TEXT}),
        {**obj({"a": TEXT}), "additionalProperties": False},
        {"a": "x", "b": "y"},
        {"a": "x"},
    ),
    ("wrap one item", obj({"a": TEXT}), {"type": "array", "items": obj({"a": TEXT})}, {"a": "x"}, [{"a": "x"}]),
    (
        "all three, deep",
        obj({"the_items": {"type": "array", "items": obj({"itemName": TEXT, "extra": TEXT})}}),
        {
            "type": "array",
            "items": obj(
                {"theItems": {"type": "array", "items": {**obj({"item_name": TEXT}), "additionalProperties": False}}}
            ),
        },
        {"the_items": [{"itemName": "x", "extra": "y"}]},
        [{"theItems": [{"item_name": "x"}]}],
    ),
)


@pytest.mark.parametrize(
    ("produced", "asked", "value", "wanted"), [row[1:] for row in ADAPTED], ids=[row[0] for row in ADAPTED]
)
def test_adapters_turn_what_is_produced_into_what_is_asked(produced: Any, asked: Any, value: Any, wanted: Any) -> None:
    """What the plan records is what the finish applies (F11)."""
    found = fit(produced, asked)
    assert found.verdict == "fits"
    assert adapt(value, found.adapters) == wanted
    assert compile_schema(asked).is_valid(adapt(value, found.adapters))


def test_an_exact_spelling_is_paired_before_another_one() -> None:
    found = fit(obj({"aB": TEXT, "a_b": NUMBER}), obj({"a_b": NUMBER}))
    assert (found.verdict, found.adapters) == ("fits", ())


SCHEMAS = st.recursive(
    st.sampled_from(
        [TEXT, NUMBER, {"type": "integer"}, {"type": "null"}, {"enum": ["a", 1]}, {"const": "a"}, {}, True]
    ),
    lambda inner: st.one_of(
        st.builds(
            lambda items, low, extra: {"type": "array", "items": items, "minItems": low, "maxItems": low + extra},
            inner,
            st.integers(0, 2),
            st.integers(0, 2),
        ),
        st.builds(
            lambda properties, needed, closed: {
                "type": "object",
                "properties": properties,
                "required": [name for name in properties if name in needed],
                **({"additionalProperties": False} if closed else {}),
            },
            st.dictionaries(st.sampled_from(["a", "aB", "a_b", "c"]), inner, max_size=3),
            st.sets(st.sampled_from(["a", "aB", "a_b", "c"])),
            st.booleans(),
        ),
    ),
    max_leaves=6,
)
VALUES = st.recursive(
    st.sampled_from(["a", "b", 1, 2.5, None]),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3), st.dictionaries(st.sampled_from(["a", "aB", "a_b", "c"]), inner, max_size=3)
    ),
    max_leaves=8,
)


@given(SCHEMAS, SCHEMAS, VALUES)
def test_fits_is_a_proof_and_clash_a_disproof(produced: Any, asked: Any, value: Any) -> None:
    """Whatever P allows, ``fits`` satisfies S once adapted."""
    found = fit(produced, asked)
    if found.verdict == "fits" and compile_schema(produced).is_valid(value):
        assert compile_schema(asked).is_valid(adapt(value, found.adapters))


@given(SCHEMAS)
def test_everything_fits_itself(schema: Any) -> None:
    found = fit(schema, schema)
    assert (found.verdict, found.adapters) == ("fits", ())
