"""``csv.parse``: text → rows, with typed columns and bounds (RFC 4180, and the other delimiters in use)."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from capabilities.authoring import capability
from capabilities.data_facets import CSV_COLUMNS, CSV_TEXT, TABLE_ROWS
from contracts.capability import CapabilityError

MAX_ROWS: Final = 20_000
MAX_COLUMNS: Final = 500
DELIMITERS: Final = ",;\t|"
_TRUE: Final = frozenset({"true", "yes", "y", "1"})
_FALSE: Final = frozenset({"false", "no", "n", "0"})


@capability(
    "csv.parse",
    consumes={"text": CSV_TEXT, "columns?": CSV_COLUMNS},
    produces=TABLE_ROWS,
    quality=0.8,
    latency_ms=10,
)
def csv_parse(text: str, columns: Sequence[Mapping[str, str]] = ()) -> list[dict[str, Any]]:
    """Reads comma-separated values; the first line names the columns, ``columns`` says which are not strings."""
    reader = csv.reader(io.StringIO(text.removeprefix("\ufeff"), newline=""), delimiter=_delimiter(text), strict=True)
    try:
        header = _header(next(reader, []))
        readers = _readers(header, columns)
        rows: list[dict[str, Any]] = []
        for cells in reader:
            if not any(cell.strip() for cell in cells):
                continue
            if len(rows) == MAX_ROWS:
                raise _invalid(f"There are more than {MAX_ROWS} rows.")
            rows.append(_row(header, readers, cells, reader.line_num))
    except csv.Error as error:
        raise _invalid(f"Line {reader.line_num}: {error}.") from error
    return rows


def _delimiter(text: str) -> str:
    """Return the delimiter that the header line has most of; a comma when it has none."""
    line = text.lstrip("\ufeff\r\n").partition("\n")[0]
    return max(DELIMITERS, key=line.count)


def _header(cells: Sequence[str]) -> list[str]:
    header = [cell.strip() for cell in cells]
    if not header:
        raise _invalid("The text is empty: its first line should name the columns.")
    if len(header) > MAX_COLUMNS:
        raise _invalid(f"There are more than {MAX_COLUMNS} columns.")
    blank = [number for number, name in enumerate(header, 1) if not name]
    if blank:
        raise _invalid(f"Column {blank[0]} has no name.")
    twice = sorted({name for name in header if header.count(name) > 1})
    if twice:
        raise _invalid(f"Two columns are called {twice[0]}.")
    return header


def _readers(header: Sequence[str], columns: Sequence[Mapping[str, str]]) -> list[Callable[[str], Any]]:
    types = {column["name"]: column["type"] for column in columns}
    unknown = sorted(set(types) - set(header))
    if unknown:
        raise _invalid(f"There is no column {unknown[0]}; there is {', '.join(header)}.")
    return [_READERS[types.get(name, "string")] for name in header]


def _row(header: Sequence[str], readers: Sequence[Callable[[str], Any]], cells: list[str], line: int) -> dict[str, Any]:
    if len(cells) > len(header):
        raise _invalid(f"Line {line}: {len(cells)} cells for {len(header)} columns.")
    row: dict[str, Any] = dict.fromkeys(header)
    for name, read, cell in zip(header, readers, cells, strict=False):
        try:
            row[name] = read(cell)
        except ValueError as error:
            raise _invalid(f"Line {line}, column {name}: {cell[:50]!r} is {error}.") from error
    return row


def _integer(cell: str) -> int | None:
    text = cell.strip()
    if not text:
        return None
    digits = text.removeprefix("-")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= 18):
        raise ValueError("no whole number of at most 18 digits")
    return int(text)


def _number(cell: str) -> float | None:
    text = cell.strip()
    if not text:
        return None
    if not text.isascii() or not set(text) <= set("0123456789.+-eE"):
        raise ValueError("no number")
    try:
        value = float(text)
    except ValueError as error:
        raise ValueError("no number") from error
    if value in (float("inf"), float("-inf")):
        raise ValueError("too large a number")
    return value


def _boolean(cell: str) -> bool | None:
    text = cell.strip().lower()
    if not text:
        return None
    if text not in _TRUE | _FALSE:
        raise ValueError("neither true nor false")
    return text in _TRUE


_READERS: Final[Mapping[str, Callable[[str], Any]]] = {
    "string": str, "integer": _integer, "number": _number, "boolean": _boolean,
}  # fmt: skip


def _invalid(message: str) -> CapabilityError:
    return CapabilityError("csv_invalid", message, retryable=False)
