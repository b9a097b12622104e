"""From a commit log to release notes (wire §6 example B)."""

from __future__ import annotations

from typing import Any, Final

from capabilities.declarations import facet

_STRING: Final[dict[str, Any]] = {"type": "string"}

LOG_TEXT: Final = facet("log_text", _STRING, description="What git log printed, in its default or oneline format.")

_RECORD: Final[dict[str, Any]] = {
    "type": "object",
    "required": ["type", "subject", "breaking"],
    "properties": {
        "hash": _STRING,
        "type": _STRING,
        "scope": _STRING,
        "subject": _STRING,
        "body": _STRING,
        "author": _STRING,
        "date": _STRING,
        "breaking": {"type": "boolean"},
    },
}
CHANGE_RECORDS: Final = facet(
    "change_records", {"type": "array", "items": _RECORD}, description="Commits, each with type, subject and author."
)
CHANGE_GROUPS: Final = facet(
    "change_groups",
    {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["type", "title", "changes"],
            "properties": {"type": _STRING, "title": _STRING, "changes": {"type": "array", "items": _RECORD}},
        },
    },
    description="Commits grouped by what sort of change they are.",
)
RELEASE_SECTIONS: Final = facet(
    "release_sections",
    {
        "type": "array",
        "items": {
            "type": "object",
            "required": ["title", "items"],
            "properties": {"title": _STRING, "items": {"type": "array", "items": _STRING}},
            "additionalProperties": False,
        },
    },
    aliases=("sections",),
    description="Sections of release notes, each a title and its items.",
)
RELEASE_SUMMARY: Final = facet(
    "release_summary", _STRING, aliases=("summary",), description="A release in a sentence or two."
)

FACETS: Final = (LOG_TEXT, CHANGE_RECORDS, CHANGE_GROUPS, RELEASE_SECTIONS, RELEASE_SUMMARY)
