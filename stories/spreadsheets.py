"""Text out of spreadsheets (XLSX), run in a process of its own (``stories/sandboxed.py``)."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, datetime, time
from typing import Any, Final

import openpyxl

from stories.cutting import opened

PARSERS: Final = (openpyxl,)


def text(content: bytes) -> Iterator[str]:
    """Yield each sheet's name and its rows, cells between tabs; of formulas the values that were saved with them."""
    book = openpyxl.load_workbook(opened(content), read_only=True, data_only=True, keep_links=False)
    for sheet in book.worksheets:
        yield f"{sheet.title}\n"
        # What the file says of its size may be wrong, and rows would be filled up to it.
        sheet.reset_dimensions()
        for row in sheet.iter_rows(values_only=True):
            line = "\t".join(_shown(value) for value in row).rstrip("\t")
            if line:
                yield f"{line}\n"
        yield "\n"


def _shown(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, float) and value.is_integer() and abs(value) < 1e15:
        return str(int(value))
    if isinstance(value, datetime) and value.time() == time():
        return value.date().isoformat()
    return value.isoformat() if isinstance(value, date | time) else str(value)
