"""Names and words: how two spellings are one name, and how much a facet has to do with what was asked (wire §6)."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import lru_cache
from typing import Final

_SHORTEST: Final = 4
_PARTS: Final = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|[0-9]+|[^\W\d_A-Za-z]+")


@lru_cache(maxsize=8_192)
def norm(name: str) -> str:
    """Return the name split at non-alphanumerics and humps, lower case, joined by ``_``."""
    return "_".join(part.lower() for part in _PARTS.findall(name))


@lru_cache(maxsize=4_096)
def words(text: str) -> frozenset[str]:
    """Return the text's words of at least four letters, lower case."""
    return frozenset(part for part in norm(text).split("_") if len(part) >= _SHORTEST and not part.isdigit())


def share(of: frozenset[str], texts: Iterable[str]) -> float:
    """Return the share of the words ``of`` that occur in any of the texts; 0 when there are none."""
    return len(of & _said(tuple(texts))) / len(of) if of else 0.0


@lru_cache(maxsize=512)
def _said(texts: tuple[str, ...]) -> frozenset[str]:
    return frozenset().union(*(words(text) for text in texts))
