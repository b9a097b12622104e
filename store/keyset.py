"""Keyset pages: newest first by (created_at, id), so that page 1 and the last page cost the same (T2, P3)."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeVar

from contracts.errors import BadQuery, ErrorItem

T = TypeVar("T")
FIRST: Final = (2**62, "")
"""Where the first page starts: after everything."""


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page; ``next_cursor`` is null on the last one."""

    rows: Sequence[T]
    next_cursor: str | None


def encode(at: int, name: str) -> str:
    """Return an opaque cursor that continues after the row created at ``at`` (ms) with id ``name``."""
    return base64.urlsafe_b64encode(f"{at}.{name}".encode()).decode().rstrip("=")


def decode(cursor: str | None) -> tuple[int, str]:
    """Return (created_at, id) of a cursor, :data:`FIRST` for None; raise ``BadQuery`` for one that is not ours."""
    if cursor is None:
        return FIRST
    try:
        text = base64.b64decode(cursor + "=" * (-len(cursor) % 4), altchars=b"-_", validate=True).decode()
        at, dot, name = text.partition(".")
        if not dot or not name or not at.isascii() or not at.isdigit() or int(at) > FIRST[0] or "\x00" in name:
            raise ValueError(text)
    except (binascii.Error, ValueError) as error:
        finding = ErrorItem("/cursor", "bad_cursor", "Unknown.")
        raise BadQuery("The cursor is not one of ours.", errors=[finding]) from error
    return int(at), name


def page_of(rows: Sequence[T], limit: int, key: Callable[[T], tuple[int, str]]) -> Page[T]:
    """Return a page of ``rows``, which were read with ``limit + 1``."""
    if len(rows) <= limit:
        return Page(rows, None)
    return Page(rows[:limit], encode(*key(rows[limit - 1])))
