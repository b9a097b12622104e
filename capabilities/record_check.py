"""``record.clean`` and ``record.validate``: rows that people typed, tidied and checked; made to stand inside a map."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Any, Final

from capabilities.authoring import capability
from capabilities.data_facets import ROW_SCHEMA, ROW_VERDICT, TABLE_ROW
from contracts.capability import CapabilityError
from contracts.schema import SchemaRefused, compile_schema

MAX_PROBLEMS: Final = 50
_INVISIBLE: Final = dict.fromkeys(map(ord, "\u200b\u200c\u200d\u2060\ufeff\u00ad"))
_ADDRESS: Final = re.compile(r"(?:mailto:)?(?P<local>[^\s@<>]{1,64})@(?P<domain>[A-Za-z0-9.-]{1,255})")


@capability("record.clean", consumes={"record": TABLE_ROW}, produces=TABLE_ROW, quality=0.6, latency_ms=1)
async def record_clean(record: Mapping[str, Any]) -> dict[str, Any]:
    """Tidies a row: spaces and invisible characters, empty cells to null, e-mail addresses to one spelling."""
    return {_text(key) or key: _tidy(value) for key, value in record.items()}


@capability(
    "record.validate",
    consumes={"record": TABLE_ROW, "schema": ROW_SCHEMA},
    produces=ROW_VERDICT,
    quality=0.8,
    latency_ms=1,
)
async def record_validate(record: Mapping[str, Any], schema: Mapping[str, Any]) -> dict[str, Any]:
    """Checks a row against a JSON Schema and says everything that is wrong with it."""
    try:
        compiled = compile_schema(schema)
    except SchemaRefused as error:
        raise CapabilityError("schema_refused", error.message, retryable=False) from error
    problems = [
        {"pointer": found.pointer, "keyword": found.keyword, "message": found.message}
        for found in compiled.explain(record, MAX_PROBLEMS)
    ]
    return {"valid": not problems, "record": record, "problems": problems}


def _tidy(value: Any) -> Any:
    if isinstance(value, str):
        text = _text(value)
        address = _ADDRESS.fullmatch(text)
        return f"{address['local']}@{address['domain'].lower()}" if address else text or None
    if isinstance(value, list):
        return [_tidy(item) for item in value]
    if isinstance(value, Mapping):
        return {key: _tidy(item) for key, item in value.items()}
    return value


def _text(value: str) -> str:
    return " ".join(unicodedata.normalize("NFC", value).translate(_INVISIBLE).split())
