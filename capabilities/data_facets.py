"""Tables, texts and templates.

Every object here lists at least one property although it takes any: a facet that says nothing about its shape would
fit every goal, and the planner could no longer tell goals apart by shape (wire §6 R2c).
"""

from __future__ import annotations

from typing import Any, Final

from capabilities.declarations import facet

_STRING: Final[dict[str, Any]] = {"type": "string"}
_ROW: Final[dict[str, Any]] = {"type": "object", "properties": {"row": {}}}

CSV_TEXT: Final = facet("csv_text", _STRING, description="A table as comma-separated values, its header first.")
CSV_COLUMNS: Final = facet(
    "csv_columns",
    {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["name", "type"],
            "properties": {"name": _STRING, "type": {"enum": ["string", "integer", "number", "boolean"]}},
            "additionalProperties": False,
        },
    },
    description="Which columns of a table are not strings.",
)
TABLE_ROW: Final = facet("table_row", _ROW, description="A row of a table: column name to cell.")
TABLE_ROWS: Final = facet(
    "table_rows", {"type": "array", "items": _ROW}, list_of=TABLE_ROW, description="The rows of a table."
)
ROW_SCHEMA: Final = facet(
    "row_schema",
    {"type": "object", "properties": {"type": {}, "properties": {"type": "object"}, "required": {"type": "array"}}},
    description="The JSON Schema that a row should satisfy.",
)
ROW_VERDICT: Final = facet(
    "row_verdict",
    {
        "type": "object",
        "required": ["valid", "record", "problems"],
        "properties": {
            "valid": {"type": "boolean"},
            "record": _ROW,
            "problems": {
                "type": "array",
                "items": {
                    "type": "object",
                    "required": ["pointer", "keyword", "message"],
                    "properties": {"pointer": _STRING, "keyword": _STRING, "message": _STRING},
                },
            },
        },
    },
    description="Whether a row satisfies its schema, and what is wrong with it.",
)
TEXT_TEMPLATE: Final = facet("text_template", _STRING, description="A text with places for values.")
TEMPLATE_VALUES: Final = facet(
    "template_values",
    {"type": "object", "properties": {"title": {}}},
    description="The values that a template shows, by name.",
)
RENDERED_TEXT: Final = facet("rendered_text", _STRING, description="A template with its values filled in.")
JSONATA: Final = facet("jsonata_expression", _STRING, description="A JSONata expression.")
TRANSFORM_INPUT: Final = facet(
    "transform_input",
    {"type": ["object", "array"], "properties": {"data": {}}, "items": {"properties": {"data": {}}}},
    description="What an expression is applied to.",
)
DOCUMENT_SOURCE: Final = facet("document_source", _STRING, description="A document as text, Markdown or HTML.")
DOCUMENT_FORMAT: Final = facet(
    "document_format", {"enum": ["text", "markdown", "html"]}, description="How a document is written."
)
DOCUMENT_TEXT: Final = facet("document_text", _STRING, description="The plain text of a document.")

FACETS: Final = (
    CSV_TEXT, CSV_COLUMNS, TABLE_ROW, TABLE_ROWS, ROW_SCHEMA, ROW_VERDICT, TEXT_TEMPLATE, TEMPLATE_VALUES,
    RENDERED_TEXT, JSONATA, TRANSFORM_INPUT, DOCUMENT_SOURCE, DOCUMENT_FORMAT, DOCUMENT_TEXT,
)  # fmt: skip
