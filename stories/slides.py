"""Text out of presentations (PPTX), run in a process of its own (``stories/sandboxed.py``)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pptx
from pptx import Presentation

from stories.cutting import opened

PARSERS: Final = (pptx,)


def text(content: bytes) -> Iterator[str]:
    """Yield each slide's paragraphs and rows of tables, in the order of its shapes, and then its notes."""
    for slide in Presentation(opened(content)).slides:
        for shape in slide.shapes:
            yield from _of_shape(shape)
        notes = slide.notes_slide.notes_text_frame if slide.has_notes_slide else None
        if notes is not None:
            yield f"{notes.text}\n"
        yield "\n"


def _of_shape(shape: Any) -> Iterator[str]:
    """Yield the text of a shape, and of those inside a group."""
    for inner in getattr(shape, "shapes", ()):
        yield from _of_shape(inner)
    if shape.has_text_frame:
        yield from (f"{paragraph.text}\n" for paragraph in shape.text_frame.paragraphs)
    if getattr(shape, "has_table", False):
        for row in shape.table.rows:
            yield "\t".join(cell.text for cell in row.cells) + "\n"
