"""Times on the wire: RFC 3339, UTC, milliseconds. In the store they are integers: ms since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime
from functools import lru_cache


@lru_cache(maxsize=8)
def _second(seconds: int) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%S")


def rfc3339(milliseconds: int) -> str:
    """Return ``2026-01-05T09:00:00.120Z`` for ms since the epoch."""
    seconds, rest = divmod(milliseconds, 1_000)
    return f"{_second(seconds)}.{rest:03d}Z"


def rfc3339_or_none(milliseconds: int | None) -> str | None:
    """Return the text, or None for None."""
    return None if milliseconds is None else rfc3339(milliseconds)
