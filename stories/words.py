"""What a word is, for the index and for whoever searches: the same on every database and in every language we can tell.

A word is a run of letters and digits; letters of scripts that are written without spaces are words by themselves.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Final

LONGEST: Final = 64
"""Characters of a word that count."""
_ALONE: Final = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uac00-\ud7af"
"""Japanese syllables, Chinese characters and Korean syllables."""
_WORD: Final = re.compile(rf"[{_ALONE}]|[^\W_{_ALONE}]+")


def words_in(text: str) -> Iterator[tuple[str, int, int]]:
    """Yield every word of a text, folded, with where it begins and ends (characters)."""
    for found in _WORD.finditer(text):
        yield folded(found[0]), found.start(), found.end()


def folded(word: str) -> str:
    """Return a word without the difference between capitals and small letters."""
    return word[:LONGEST].casefold()


def indexed(text: str) -> str:
    """Return a text's words as the index holds them."""
    return " ".join(word for word, _, _ in words_in(text))
