"""Compiling, checking and explaining callers' schemas: bounds, refusals, findings, and agreement of both validators."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest

import contracts.schema as module
from contracts.errors import FlexError
from contracts.schema import SchemaFinding, SchemaLimits, SchemaRefused, compile_schema, content_hash
from contracts.schema_drafts import DRAFTS, FORMATS, rust_validator
from contracts.schema_explain import python_findings

VARIANTS = {
    "type": "object",
    "required": ["variants"],
    "properties": {
        "variants": {
            "type": "array",
            "minItems": 2,
            "items": {
                "type": "object",
                "required": ["headline", "body"],
                "properties": {"headline": {"type": "string"}, "body": {"type": "string", "minLength": 20}},
            },
        }
    },
}


def codes(schema: Any, **limits: int) -> list[tuple[str, str]]:
    with pytest.raises(SchemaRefused) as caught:
        compile_schema(schema, limits=SchemaLimits(**limits))
    return [(item.pointer, item.code) for item in caught.value.errors]


def messages(schema: Any, instance: Any) -> dict[str, str]:
    return {each.pointer: each.message for each in compile_schema(schema).explain(instance)}


def nested(depth: int, keyword: str = "not") -> Any:
    schema: Any = {}
    for _ in range(depth):
        schema = {keyword: schema}
    return schema


# --- explanations ----------------------------------------------------------------------------------


def test_every_failing_place_is_explained_and_sorted() -> None:
    found = compile_schema(VARIANTS).explain({"variants": [{"headline": 3, "body": "short"}]})
    assert found == [
        SchemaFinding("/variants", "minItems", "Must have at least 2 items; has 1."),
        SchemaFinding("/variants/0/body", "minLength", "Must have at least 20 characters; has 5."),
        SchemaFinding("/variants/0/headline", "type", "Must be text; is a whole number."),
    ]
    assert found[0].as_wire() == {
        "pointer": "/variants",
        "keyword": "minItems",
        "message": "Must have at least 2 items; has 1.",
    }
    assert messages(VARIANTS, {"variants": [{"body": "x" * 20}] * 2}) == {
        "/variants/0": "Required property 'headline' is missing.",
        "/variants/1": "Required property 'headline' is missing.",
    }


@pytest.mark.parametrize(
    ("schema", "instance", "expected"),
    [
        (False, 1, {"": "Nothing is allowed here."}),
        ({"properties": {"a": False}}, {"a": 1}, {"/a": "Nothing is allowed here."}),
        ({"additionalProperties": False}, {"a/b": 1, "m~n": 2},
         {"/a~1b": "Property 'a/b' is not allowed here.", "/m~0n": "Property 'm~n' is not allowed here."}),
        ({"maxLength": 1}, "abc", {"": "Must have at most 1 character; has 3."}),
        ({"propertyNames": {"maxLength": 1}}, {"ab": 1},
         {"": "Property name \"ab\" is not allowed: Must have at most 1 character; has 2."}),
        ({"prefixItems": [True], "items": False}, [1, 2], {"/1": "Must have at most 1 item; has 2."}),
        ({"contains": {"const": 1}, "minContains": 2}, [1], {"": "Must contain at least 2 matching items; has 1."}),
        ({"contains": True, "maxContains": 1}, [1, 2], {"": "Must contain at most 1 matching item; has 2."}),
        ({"enum": ["a", 1]}, "b", {"": 'Must be one of "a",1.'}),
        ({"format": "date"}, "x", {"": "Must be a date like 2026-01-05."}),
        ({"minimum": 3}, 2.5, {"": "Must be at least 3; is 2.5."}),
        ({"dependentRequired": {"a": ["b"]}}, {"a": 1},
         {"": "Property 'b' is required because 'a' is present."}),
        ({"not": {"type": "null"}}, None, {"": 'Must not match what the schema excludes: {"type":"null"}.'}),
        ({"oneOf": [True, {"type": "null"}, True]}, 1,
         {"": "Must match exactly one of 3 alternatives; matches numbers 1, 3."}),
        ({"unevaluatedProperties": False}, {"x": 1}, {"/x": "Property 'x' is not allowed here."}),
        ({"unevaluatedItems": {"type": "null"}}, [1], {"/0": "Must be null; is a whole number."}),
        ({"uniqueItems": True}, [1, 1.0], {"": "Must not have the same item twice."}),
    ],
)  # fmt: skip
def test_sentences_a_person_can_act_on(schema: Any, instance: Any, expected: dict[str, str]) -> None:
    assert messages(schema, instance) == expected


def test_alternatives_are_explained_by_the_nearest_one() -> None:
    schema = {
        "anyOf": [
            {"properties": {"kind": {"const": "post"}, "text": {"type": "string"}}, "required": ["kind", "text"]},
            {"properties": {"kind": {"const": "image"}, "size": {"type": "integer"}}, "required": ["kind", "size"]},
            {"type": "string"},
        ]
    }
    assert messages(schema, {"kind": "image", "size": "x"}) == {"/size": "Must be a whole number; is text."}
    assert messages(schema, {"kind": "post"}) == {"": "Required property 'text' is missing."}
    plain = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    assert messages(plain, 1)[""].startswith("Must match one of 2 alternatives; matches none. Must be text;")


def test_the_number_of_findings_is_limited() -> None:
    compiled = compile_schema({"items": {"type": "null"}})
    assert len(compiled.explain([1] * 200)) == 50
    assert len(compiled.explain([1] * 200, limit=3)) == 3
    # Beyond jsonschema's budget the other validator explains.
    assert compiled.explain([1] * 30_000, limit=1)[0].pointer == "/0"


# --- refusals --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schema", "expected"),
    [
        (3, [("", "schema_invalid")]),
        (None, [("", "schema_invalid")]),
        ([], [("", "schema_invalid")]),
        ({"properties": {"a": {"minLength": -1}}, "required": "a"},
         [("/properties/a/minLength", "schema_invalid"), ("/required", "schema_invalid")]),
        ({"const": float("nan")}, [("/const", "schema_invalid")]),
        ({"maximum": float("inf")}, [("/maximum", "schema_invalid")]),
        ({"enum": [2**64]}, [("/enum/0", "schema_invalid")]),
        ({"const": "\ud800"}, [("/const", "schema_invalid")]),
        ({"const": {1: 2}}, [("/const", "schema_invalid")]),
        ({"const": object()}, [("/const", "schema_invalid")]),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, [("/$schema", "unsupported_draft")]),
        ({"$schema": "http://127.0.0.1:9/own"}, [("/$schema", "unsupported_draft")]),
        ({"$schema": 7}, [("/$schema", "unsupported_draft")]),
        ({"$defs": {"a": {"$schema": "http://json-schema.org/draft-07/schema#"}}},
         [("/$defs/a/$schema", "unsupported_draft")]),
        ({"$ref": "http://127.0.0.1:9/a"}, [("/$ref", "remote_ref")]),
        ({"properties": {"a": {"$ref": "other.json"}}}, [("/properties/a/$ref", "remote_ref")]),
        ({"$ref": "file:///etc/hostname"}, [("/$ref", "remote_ref")]),
        ({"$ref": "https://json-schema.org/draft/2020-12/schema"}, [("/$ref", "remote_ref")]),
        ({"$dynamicRef": "http://127.0.0.1:9/a#x"}, [("/$dynamicRef", "remote_ref")]),
        ({"$ref": "#/$defs/none"}, [("/$ref", "unresolvable_ref")]),
        ({"$ref": "#none"}, [("/$ref", "unresolvable_ref")]),
        ({"items": {"$ref": "#/allOf/x"}, "allOf": [True]}, [("/items/$ref", "unresolvable_ref")]),
        ({"items": {"$ref": "#/title"}, "title": "t"}, [("/items/$ref", "unresolvable_ref")]),
        ({"items": {"$ref": "#/place"}, "place": {"type": "wrong"}}, [("/items/$ref/type", "schema_invalid")]),
        ({"$ref": "#"}, [("", "ref_loop")]),
        ({"$ref": "#/$defs/a", "$defs": {"a": {"$ref": "#/$defs/b"}, "b": {"anyOf": [{"$ref": "#/$defs/a"}]}}},
         None),
        ({"$dynamicAnchor": "n", "allOf": [{"$dynamicRef": "#n"}]}, None),
        ({"pattern": "("}, [("/pattern", "bad_pattern")]),
        ({"pattern": "(?=a)a"}, [("/pattern", "bad_pattern")]),
        ({"patternProperties": {"a(?!/)": True}}, [("/patternProperties/a(?!~1)", "bad_pattern")]),
        ({"pattern": "((a{999}){999}){999}"}, [("/pattern", "bad_pattern")]),
        ({"pattern": "a" * 1001}, [("/pattern", "bad_pattern")]),
        ({"$defs": {"a": {"$anchor": "x"}, "b": {"$anchor": "x"}}}, [("/$defs/b/$anchor", "schema_invalid")]),
    ],
)  # fmt: skip
def test_refusals_point_into_the_schema(schema: Any, expected: list[tuple[str, str]] | None) -> None:
    found = codes(schema)
    if expected is None:
        assert [code for _, code in found] == ["ref_loop"]
    elif schema == {"$defs": {"a": {"$anchor": "x"}, "b": {"$anchor": "x"}}}:
        assert [code for _, code in found] == ["schema_invalid"]
    else:
        assert found == expected


def test_the_refusal_is_a_problem_document() -> None:
    with pytest.raises(FlexError) as caught:
        compile_schema({"type": "wrong"})
    error = caught.value
    assert (error.status, error.code, error.title) == (422, "schema_refused", "Schema refused")
    assert error.message.startswith("The schema cannot be used at /type: ")


def test_size_and_depth_are_bounded() -> None:
    assert codes({"description": "x" * 300_000}) == [("", "schema_too_large")]
    assert codes({"a": "éé"}, max_bytes=10) == [("", "schema_too_large")]
    for hostile in (nested(100_000), nested(65), nested(200, "items")):
        assert [code for _, code in codes(hostile)] == ["schema_too_deep"]
    compile_schema(nested(63))
    endless: dict[str, Any] = {}
    endless["items"] = endless["not"] = endless
    assert codes(endless)[0][1] in {"schema_too_deep", "schema_too_large"}
    many = {"allOf": [{"pattern": f"a{n}"} for n in range(201)]}
    assert {code for _, code in codes(many)} == {"bad_pattern"}


# --- no network ------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[tuple[str, list[str]]]:
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"{}")

        def log_message(self, *args: Any) -> None:
            """Stay silent."""

    server = HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/s", asked
    server.shutdown()
    thread.join()
    server.server_close()


def test_nothing_is_fetched(listener: tuple[str, list[str]], tmp_path: Path) -> None:
    url, asked = listener
    local = tmp_path / "s.json"
    local.write_text("{}")
    for target in (url, f"{url}#/$defs/a", local.as_uri()):
        for schema in ({"$ref": target}, {"$dynamicRef": target}, {"$schema": target}, {"$id": url, "$ref": "t"}):
            codes(schema)
    # The intake stops such schemas; should one slip through, neither validator would fetch it.
    for draft in DRAFTS:
        with pytest.raises(ValueError, match="retrieving it failed"):
            rust_validator(draft, {"$ref": url})
        with pytest.raises(Exception, match="Unresolvable"):
            python_findings(draft, {"$ref": url}, 1)
    # An $id is a name, not an address to visit.
    assert compile_schema({"$id": url, "type": "null"}).is_valid(None)
    assert asked == []


# --- hostile work ----------------------------------------------------------------------------------


def test_regexes_run_in_linear_time_in_both_validators() -> None:
    text = "a" * 20_000 + "b"
    assert messages({"pattern": "^(a+)+$"}, text) == {"": "Must match the pattern ^(a+)+$"}
    assert len(messages({"patternProperties": {"^(a|a)*$": True}, "additionalProperties": False}, {text: 1})) == 1
    assert len(messages({"patternProperties": {"^(a|a)*$": True}, "unevaluatedProperties": False}, {text: 1})) == 1


def test_exploding_references_are_metered() -> None:
    links = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(60)}
    compiled = compile_schema({"$ref": "#/$defs/a0", "$defs": {**links, "a60": {"type": "integer"}}})
    assert compiled.metered
    assert not compiled.is_valid(1)
    assert [each.keyword for each in compiled.explain(1)] == ["limit"]
    assert compiled.explain("x")


def test_a_doubling_tree_is_metered_and_works_on_ordinary_values() -> None:
    both = [{"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}}}] * 2
    compiled = compile_schema({"type": ["object", "null"], "anyOf": [{"type": "null"}, {"allOf": both}]})
    assert compiled.metered
    value: Any = None
    for _ in range(8):
        value = {"left": value, "right": None}
    assert compiled.is_valid(value)
    assert not compiled.is_valid({"left": {"right": 3}})
    assert compiled.explain({"left": {"right": 3}})[0].pointer == "/left/right"
    for _ in range(60):
        value = {"left": value, "right": None}
    # Two to the power of 68 paths: judged from memory or refused, but answered.
    assert {each.keyword for each in compiled.explain(value)} <= {"limit"}


def test_nested_unevaluated_properties_are_metered() -> None:
    schema: Any = {"type": "object"}
    for _ in range(25):
        schema = {"allOf": [schema], "unevaluatedProperties": False}
    compiled = compile_schema(schema)
    assert compiled.metered
    assert compiled.explain({"a": 1})


def test_an_ordinary_tree_is_not_metered() -> None:
    tree = {"properties": {"left": {"$ref": "#"}, "right": {"$ref": "#"}, "all": {"items": {"$ref": "#"}}}}
    assert not compile_schema(tree).metered
    assert not compile_schema(VARIANTS).metered


def test_values_of_any_depth_are_judged() -> None:
    compiled = compile_schema({"type": ["array", "integer"], "items": {"$ref": "#"}})
    value: Any = 1
    for _ in range(1000):
        value = [value]
    assert compiled.is_valid(value)
    value = "x"
    for _ in range(1000):
        value = [value]
    (finding,) = compiled.explain(value)
    assert finding.pointer == "/0" * 1000


def test_what_is_not_json_is_invalid() -> None:
    compiled = compile_schema(True)
    for value in ("\ud800", {1: 2}, object()):
        strict = compile_schema({"minLength": 1, "minProperties": 1})
        assert not strict.is_valid(value) or compiled.is_valid(value)
        assert (strict.explain(value) == []) is strict.is_valid(value)


# --- cache and identity ----------------------------------------------------------------------------


def test_equal_content_is_compiled_once() -> None:
    first = compile_schema({"type": "object", "title": "same"})
    assert compile_schema({"title": "same", "type": "object"}) is first
    assert compile_schema({"title": "other", "type": "object"}) is not first
    assert first.content_hash == content_hash({"title": "same", "type": "object"})
    assert len(first.content_hash) == 64


def test_stricter_limits_do_not_hit_the_cache() -> None:
    schema = {"title": "limits", "not": {"not": {}}}
    compile_schema(schema)
    assert codes(schema, max_depth=1)[0][1] == "schema_too_deep"


def test_the_cache_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CACHE", module._Cache(2))
    first = compile_schema({"title": "a"})
    compile_schema({"title": "b"})
    assert compile_schema({"title": "a"}) is first
    compile_schema({"title": "c"})
    assert compile_schema({"title": "a"}) is first
    assert len(module._CACHE._kept) == 2


def test_a_compiled_schema_keeps_its_own_copy_and_does_not_change() -> None:
    schema: dict[str, Any] = {"$schema": "http://json-schema.org/draft-07/schema#", "properties": {"b": {}, "a": {}}}
    compiled = compile_schema(schema)
    schema["properties"]["a"] = False
    assert compiled.is_valid({"a": 1})
    assert compiled.draft == "draft7"
    assert compiled.schema["$schema"].startswith("http://json-schema.org/")
    assert list(compiled.schema["properties"]) == ["b", "a"]
    with pytest.raises(AttributeError):
        compiled.draft = "draft6"


def test_checks_from_many_threads_agree() -> None:
    links = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(17)}
    compiled = compile_schema({"$ref": "#/$defs/a0", "$defs": {**links, "a17": {"type": "integer"}}})
    verdicts: list[bool] = []
    threads = [threading.Thread(target=lambda: verdicts.append(compiled.is_valid("x"))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert verdicts == [False] * 8


@pytest.mark.parametrize("draft", DRAFTS, ids=lambda draft: str(draft.name))
@pytest.mark.parametrize("name", FORMATS)
def test_every_format_is_asserted_in_every_draft(name: str, draft: Any) -> None:
    compiled = compile_schema({"$schema": draft.uri, "format": name})
    bad = "{(%\\ "
    assert not compiled.is_valid(bad)
    assert [each.keyword for each in compiled.explain(bad)] == ["format"]
    assert python_findings(draft, compiled._document, bad)
