"""Generated schemas and values: both validators agree, and any JSON compiles or is refused, nothing else."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from contracts.schema import CompiledSchema, SchemaRefused, compile_schema
from contracts.schema_drafts import DRAFTS
from contracts.schema_explain import python_findings

CODES = {
    "schema_invalid", "schema_too_large", "schema_too_deep", "unsupported_draft", "remote_ref", "unresolvable_ref",
    "ref_loop", "bad_pattern",
}  # fmt: skip


KEYWORDS = tuple(
    "$ref $id $anchor $schema $dynamicRef $dynamicAnchor $defs type items a properties pattern "  # noqa: SIM905
    "patternProperties dependencies enum const allOf format".split()
)


def compiled_or_none(schema: Any, allowed: set[str]) -> CompiledSchema | None:
    try:
        return compile_schema(schema)
    except SchemaRefused as error:
        refused = error
    assert refused.errors
    assert {item.code for item in refused.errors} <= allowed
    return None


NAMES = st.sampled_from(["a", "b", "ab", "x-1"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-(2**63), 2**64 - 1),
    st.integers(-3, 3),
    st.floats(allow_nan=False, allow_infinity=False),
    st.sampled_from([0.0, -0.0, 1.0, 0.5, 1e308]),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=4),
    st.sampled_from(["a", "ab", "2026-01-05", "::1", "é", "\n"]),
)
VALUES = st.recursive(
    SCALARS, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(NAMES, inner, max_size=3), max_leaves=8
)
NUMBERS = st.one_of(st.integers(-5, 5), st.sampled_from([0.1, 0.5, 1.0, 2**53 + 1, 1e17]))
SIZES = st.integers(0, 3)
KINDS = st.sampled_from(["object", "array", "string", "number", "integer", "boolean", "null"])
PATTERNS = st.sampled_from(["^a", "b$", "^\\d+$", "-", "^(a|b)+$", ".", "\\s"])
TARGETS = st.sampled_from(["#/$defs/p", "#/$defs/q", "#/$defs/r"])


def _schemas(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    some = st.lists(inner, min_size=1, max_size=2)
    named = st.dictionaries(NAMES, inner, max_size=2)
    keywords: dict[str, st.SearchStrategy[Any]] = {
        **dict.fromkeys(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"], NUMBERS),
        **dict.fromkeys(["minLength", "maxLength", "minItems", "maxItems", "minProperties", "maxProperties"], SIZES),
        **dict.fromkeys(["minContains", "maxContains"], SIZES),
        **dict.fromkeys(["items", "contains", "not", "if", "then", "else", "propertyNames"], inner),
        **dict.fromkeys(["additionalProperties", "unevaluatedProperties", "unevaluatedItems"], inner),
        **dict.fromkeys(["allOf", "anyOf", "oneOf", "prefixItems"], some),
        **dict.fromkeys(["properties", "dependentSchemas"], named),
        "type": KINDS | st.lists(KINDS, min_size=1, max_size=2, unique=True),
        "const": VALUES,
        "enum": st.lists(VALUES, min_size=1, max_size=3),
        "multipleOf": st.sampled_from([1, 2, 0.1, 0.5, 3.0, 1e-8]),
        "pattern": PATTERNS,
        "format": st.sampled_from(["date", "ipv6", "email", "regex", "colour"]),
        "uniqueItems": st.booleans(),
        "required": st.lists(NAMES, max_size=2, unique=True),
        "dependentRequired": st.dictionaries(NAMES, st.lists(NAMES, max_size=2, unique=True), max_size=2),
        "dependencies": st.dictionaries(NAMES, inner | st.lists(NAMES, max_size=2, unique=True), max_size=2),
        "patternProperties": st.dictionaries(PATTERNS, inner, max_size=2),
        "$ref": TARGETS,
    }
    pairs = st.sampled_from(sorted(keywords)).flatmap(lambda name: keywords[name].map(lambda value: (name, value)))
    return st.lists(pairs, max_size=4).map(dict)


SCHEMAS = st.recursive(st.booleans(), _schemas, max_leaves=8)
DOCUMENTS = st.builds(
    lambda root, parts: {**root, "$defs": parts} if isinstance(root, dict) else root,
    SCHEMAS,
    st.fixed_dictionaries({"p": SCHEMAS, "q": SCHEMAS, "r": SCHEMAS}),
)


@settings(max_examples=400, deadline=None)
@given(schema=DOCUMENTS, values=st.lists(VALUES, min_size=1, max_size=4), draft=st.sampled_from(DRAFTS))
def test_the_validators_agree_on_generated_schemas(schema: Any, values: list[Any], draft: Any) -> None:
    if isinstance(schema, dict):
        schema = {"$schema": draft.uri, **schema}
    allowed = {"ref_loop", "schema_invalid", "schema_too_deep"}
    compiled = compiled_or_none(schema, allowed)
    if compiled is None:
        return
    language = next(each for each in DRAFTS if each.name == compiled.draft)
    for value in values:
        accepted = compiled.is_valid(value)
        assert (compiled.explain(value) == []) is accepted
        if not compiled.metered:
            assert (python_findings(language, compiled._document, value) == []) is accepted


@settings(max_examples=300, deadline=None)
@given(
    st.recursive(
        SCALARS | st.floats() | st.integers() | st.text() | st.sampled_from(["#", "#/a", "http://[", "x:y", "//", "%"]),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(KEYWORDS),
                inner,
                max_size=4,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_compiles_or_is_refused(value: Any) -> None:
    compiled = compiled_or_none(value, CODES)
    assert compiled is None or (compiled.explain(value) == []) is compiled.is_valid(value)
