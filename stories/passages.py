"""Cutting a text into passages: pieces of about the size of a paragraph, cut where the text itself pauses (R4)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

from store.documents import PassageRow
from stories.words import indexed

AIM: Final = 800
"""Characters of a passage, if the text allows."""
LONGEST: Final = 1_600
MOST: Final = 5_000
"""Passages of one document that are indexed; what comes after them is kept and not found."""
_PAUSES: Final = (re.compile(r"\n\s*\n"), re.compile(r"\n"), re.compile(r"(?<=[.!?。])\s+"), re.compile(r"\s+"))
"""Where a text may be cut, the best places first: paragraphs, lines, sentences, words."""


def passages_of(text: str) -> list[PassageRow]:
    """Return the passages of a text, each with where it starts; pieces without a word are left out."""
    rows: list[PassageRow] = []
    for start, end in _pieces(text):
        piece = text[start:end]
        words = indexed(piece)
        if words:
            rows.append(PassageRow(len(rows), start, piece, words))
        if len(rows) == MOST:
            break
    return rows


def _pieces(text: str) -> Iterator[tuple[int, int]]:
    at = 0
    while at < len(text):
        end = _cut(text, at)
        piece = text[at:end]
        lead = len(piece) - len(piece.lstrip())
        stripped = piece.strip()
        if stripped:
            yield at + lead, at + lead + len(stripped)
        at = end


def _cut(text: str, at: int) -> int:
    """Return where the passage that begins at ``at`` ends: at the best pause near the aim, else at the longest."""
    if len(text) - at <= LONGEST:
        return len(text)
    for pause in _PAUSES:
        ends = [found.end() for found in pause.finditer(text, at + AIM // 2, at + LONGEST)]
        if ends:
            return min(ends, key=lambda end: abs(end - at - AIM))
    return at + LONGEST
