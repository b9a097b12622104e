"""Tables, documents and transforms; every output fits its facet."""

import csv
import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from capabilities import CapabilityError
from capabilities.csv_parse import MAX_ROWS, csv_parse
from capabilities.data_facets import DOCUMENT_TEXT, ROW_VERDICT, TABLE_ROW, TABLE_ROWS
from capabilities.document_read import document_read
from capabilities.record_check import record_clean, record_validate
from capabilities.registry import Registry
from contracts.schema import compile_schema
from tests.capabilities.calls import Call, bundle, run

# --- tables ---


async def test_a_table_with_typed_columns() -> None:
    text = '\ufeffname;age;score;ok;note\nAna;31;1.5;yes;\n\n"Be;n";;;no\n'
    columns = [
        {"name": "age", "type": "integer"},
        {"name": "score", "type": "number"},
        {"name": "ok", "type": "boolean"},
    ]
    assert await run(Registry(), "csv.parse", {"text": text, "columns": columns}) == [
        {"name": "Ana", "age": 31, "score": 1.5, "ok": True, "note": ""},
        {"name": "Be;n", "age": None, "score": None, "ok": False, "note": None},
    ]


@pytest.mark.parametrize(
    ("text", "columns", "says"),
    [
        ("", [], "empty"),
        ("a,a\n1,2", [], "Two columns are called a"),
        ("a,,c\n", [], "Column 2 has no name"),
        ("a,b\n1,2,3", [], "Line 2: 3 cells for 2 columns"),
        ("a,b\n1,x", [{"name": "b", "type": "integer"}], "Line 2, column b: 'x' is no whole number"),
        ("a\n1_0", [{"name": "a", "type": "integer"}], "no whole number"),
        ("a\nnan", [{"name": "a", "type": "number"}], "no number"),
        ("a\n1e999", [{"name": "a", "type": "number"}], "too large"),
        ("a\nperhaps", [{"name": "a", "type": "boolean"}], "neither true nor false"),
        ("a\n1", [{"name": "b", "type": "string"}], "There is no column b; there is a"),
        ('a\n"open', [], "Line 2"),
        ("x\n" * (MAX_ROWS + 2), [], "more than"),
        (",".join(f"c{n}" for n in range(501)), [], "columns"),
    ],
)
def test_a_table_that_cannot_be_read_says_where(text: str, columns: list[dict[str, str]], says: str) -> None:
    with pytest.raises(CapabilityError) as refused:
        csv_parse(text, columns)
    assert (refused.value.code, refused.value.retryable) == ("csv_invalid", False)
    assert says in refused.value.message


_cell = st.text(st.characters(codec="utf-8", exclude_characters="\x00\r\n"), max_size=12)
_name = st.from_regex(r"[a-z]{1,8}", fullmatch=True)


@given(
    st.lists(_name, min_size=2, max_size=5, unique=True), st.lists(st.lists(_cell, min_size=5, max_size=5), max_size=6)
)
def test_what_was_written_is_read_back(header: list[str], rows: list[list[str]]) -> None:
    out = io.StringIO()
    writer = csv.writer(out)
    kept = [row[: len(header)] for row in rows if any(cell.strip() for cell in row[: len(header)])]
    writer.writerows([header, *kept])
    said = csv_parse(out.getvalue())
    assert said == [dict(zip(header, row, strict=True)) for row in kept]
    assert compile_schema(TABLE_ROWS.schema).is_valid(said)


# --- rows ---

_json: st.SearchStrategy[Any] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53), 2**53)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


async def test_a_row_is_tidied() -> None:
    row = {" e-mail ": "  Ana.B@EXAMPLE.com\u200b", "name": "Ana \n  Beck", "blank": "  ", "tags": [" a ", ""], "n": 1}
    assert await run(Registry(), "record.clean", {"record": row}) == {
        "e-mail": "Ana.B@example.com", "name": "Ana Beck", "blank": None, "tags": ["a", None], "n": 1,
    }  # fmt: skip


@given(st.dictionaries(st.text(min_size=1, max_size=8), _json, max_size=4))
async def test_tidying_twice_changes_nothing_more(row: dict[str, Any]) -> None:
    once = await record_clean.run(bundle({"record": row}), Call())
    assert await record_clean.run(bundle({"record": once}), Call()) == once
    assert compile_schema(TABLE_ROW.schema).is_valid(once)


async def test_a_row_is_checked_and_everything_wrong_is_said() -> None:
    schema = {"type": "object", "required": ["email"], "properties": {"age": {"type": "integer", "minimum": 0}}}
    good = await run(Registry(), "record.validate", {"record": {"email": "a@b", "age": 3}, "schema": schema})
    assert good == {"valid": True, "record": {"email": "a@b", "age": 3}, "problems": []}
    bad = await run(Registry(), "record.validate", {"record": {"age": -1}, "schema": schema})
    assert bad["valid"] is False
    assert {(each["pointer"], each["keyword"]) for each in bad["problems"]} == {("", "required"), ("/age", "minimum")}


async def test_a_schema_that_is_none_is_the_plans_fault() -> None:
    with pytest.raises(CapabilityError, match="schema_refused") as refused:
        await run(Registry(), "record.validate", {"record": {}, "schema": {"type": "objekt"}})
    assert refused.value.retryable is False


@given(st.dictionaries(st.text(max_size=5), _json, max_size=3), st.sampled_from(["string", "object", "integer"]))
async def test_a_verdict_fits_its_facet(row: dict[str, Any], kind: str) -> None:
    schema = {"type": "object", "additionalProperties": {"type": kind}}
    said = await record_validate.run(bundle({"record": row, "schema": schema}), Call())
    assert compile_schema(ROW_VERDICT.schema).explain(said) == []
    assert said["valid"] == compile_schema(schema).is_valid(row)


# --- documents ---


async def test_html_markdown_and_text_become_plain_text() -> None:
    registry = Registry()
    html = (
        "<html><head><title>t</title><style>x{}</style></head><body><!-- a > b --><h1>Hi &amp; bye < you</h1>"
        "<p>one\ntwo<script>no()</script><p>three"
    )
    assert await run(registry, "document.read", {"source": html}) == "Hi & bye < you\n\none two\nthree"
    markdown = (
        "# Title\n\nSome **bold** and `code`, a [link](http://e.com/x 't').\n\n"
        "- one\n- *two*\n\n---\n```py\nx = **1**\n```\n"
    ).replace("'", '"')
    assert await run(registry, "document.read", {"source": markdown}) == (
        "Title\n\nSome bold and code, a link.\n\none\ntwo\n\nx = **1**"
    )
    assert await run(registry, "document.read", {"source": "# no\x00t <p>", "format": "text"}) == "# not <p>"


@given(st.text(), st.sampled_from(["text", "markdown", "html", None]))
def test_any_document_gives_text(source: str, written: str | None) -> None:
    said = document_read(source, format=written)
    assert compile_schema(DOCUMENT_TEXT.schema).is_valid(said)
    assert "\x00" not in said
    assert "\n\n\n" not in said


@pytest.mark.parametrize(
    "piece",
    [
        "[" * 50_000,
        "*a" * 30_000,
        "`" * 50_000,
        "> " * 30_000,
        "<p" * 30_000,
        "<!--" * 90_000,
        "<!-->" * 50_000,
        "<script>" * 50_000,
    ],
)
def test_hostile_documents_take_no_time(piece: str) -> None:
    for written in ("markdown", "html", None):
        assert isinstance(document_read(piece, format=written), str)


# --- transforms ---


async def test_a_transform_applies_an_expression() -> None:
    value = {"items": [{"n": 1}, {"n": 2}]}
    registry = Registry()
    assert await run(registry, "json.transform", {"expression": "$sum(items.n)", "value": value}) == 3
    for expression in ("items[", "$nothing(1)"):
        with pytest.raises(CapabilityError, match="transform_failed") as refused:
            await run(registry, "json.transform", {"expression": expression, "value": value})
        assert refused.value.retryable is False
