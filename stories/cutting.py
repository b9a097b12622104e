"""What every reader of foreign documents shares: where it stops, and how much may be unpacked (R4, R6)."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterable
from typing import Final

MOST_PARTS: Final = 10_000
MOST_UNPACKED: Final = 256 * 1024 * 1024
"""Bytes that the parts of a packed document may say they have; the bound on memory holds for those that lie."""


def cut(parts: Iterable[str], most: int) -> str:
    """Return the pieces put together, cut off a little after ``most`` characters; no more of them are read."""
    kept: list[str] = []
    left = most
    for part in parts:
        kept.append(part[: left + 1])
        left -= len(kept[-1])
        if left < 0:
            break
    return "".join(kept)


def opened(content: bytes) -> io.BytesIO:
    """Return a packed document to read. Raises ``ValueError`` when it unpacks to too much, or is encrypted."""
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        parts = archive.infolist()
    if len(parts) > MOST_PARTS or sum(part.file_size for part in parts) > MOST_UNPACKED:
        raise ValueError("It unpacks to more than a document may.")
    if any(part.flag_bits & 1 for part in parts):
        raise ValueError("It is encrypted.")
    return io.BytesIO(content)
