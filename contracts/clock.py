"""Times on the wire: RFC 3339, UTC, milliseconds. In the store they are integers: ms since the epoch."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

_RFC3339: Final = re.compile(r"(\d{4}-\d\d-\d\d)[Tt ](\d\d:\d\d:\d\d)(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_END_MS: Final = 253_370_764_800_000
YEAR_MS: Final = 366 * 86_400_000
"""How far ahead a time may be set: a run that waits longer is a mistake."""


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


@lru_cache(maxsize=64)
def rfc3339(milliseconds: int) -> str:
    """Return ``2026-01-05T09:00:00.120Z`` for ms since the epoch; frames of one moment share the text."""
    seconds, rest = divmod(milliseconds, 1_000)
    return f"{_second(seconds)}.{rest:03d}Z"


def rfc3339_or_none(milliseconds: int | None) -> str | None:
    """Return the text, or None for None."""
    return None if milliseconds is None else rfc3339(milliseconds)


def read_rfc3339(text: str) -> int:
    """Return ms since the epoch of an RFC 3339 time with its offset, from 1970 to 9998; else raise ``ValueError``.

    Parts of a millisecond count as a whole one, so that nothing happens before its time.
    """
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError(text)
    day, clock, fraction, offset = found.groups()
    zone = "+00:00" if offset in "Zz" else offset
    seconds = datetime.fromisoformat(f"{day}T{clock}{zone}").timestamp()
    nanoseconds = int((fraction or ".0")[1:].ljust(9, "0"))
    milliseconds = round(seconds) * 1_000 - (-nanoseconds // 1_000_000)
    if not 0 <= milliseconds < _END_MS:
        raise ValueError(text)
    return milliseconds
