"""Text out of OpenDocument texts (ODT), run in a process of its own (``stories/sandboxed.py``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import odfdo

from stories.cutting import opened

PARSERS: Final = (odfdo,)
_LINES: Final = (
    "//text:p[not(ancestor::table:table)] | //text:h[not(ancestor::table:table)]"
    " | //table:table-row[not(ancestor::table:table-cell)]"
)
_CELLS: Final = "table:table-cell | table:covered-table-cell"


def text(content: bytes) -> Iterator[str]:
    """Yield headings, paragraphs and rows of tables, in their order."""
    for element in odfdo.Document(opened(content)).body.xpath(_LINES):
        if not isinstance(element, odfdo.Element):
            continue
        if element.tag == "table:table-row":
            cells = (cell for cell in element.xpath(_CELLS) if isinstance(cell, odfdo.Element))
            yield "\t".join(" ".join(cell.inner_text.split()) for cell in cells) + "\n"
        else:
            yield element.inner_text + "\n"
