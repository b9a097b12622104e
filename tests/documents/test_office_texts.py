"""What is read out of spreadsheets, presentations and OpenDocument texts, each reader by itself (R4, R6).

In the service they run in a process of their own; what comes of that is in test_extraction.py.
"""

from __future__ import annotations

import io
import zipfile
from datetime import date, datetime, time

import pytest

from stories import cutting, opendocument, slides, spreadsheets
from tests.documents.files import odt, pptx, xlsx


def test_sheets_are_named_and_their_rows_are_lines() -> None:
    """R4: whole numbers without a point, days without a time, nothing for what is empty."""
    book = xlsx(
        Stock=[["item", "pieces"], ["paper", 40.0], ["ink", 2.5], [None, None], ["glue", None]],
        Days=[[datetime(2026, 1, 5), datetime(2026, 1, 5, 9, 30), date(2026, 1, 6), time(9, 30), True]],  # noqa: DTZ001  # a sheet has no zones
    )
    first, second = "".join(spreadsheets.text(book)).split("\n\n")[:2]
    assert first.splitlines() == ["Stock", "item\tpieces", "paper\t40", "ink\t2.5", "glue"]
    assert second.splitlines() == ["Days", "2026-01-05\t2026-01-05T09:30:00\t2026-01-06\t09:30:00\tTrue"]


def test_slides_have_their_shapes_tables_and_notes_in_order() -> None:
    """R4: what stands on a slide, then what is said about it."""
    told = "".join(slides.text(pptx("Launch", "In May", [["who", "what"], ["ana", "mail"]], "Be brief")))
    lines = ["Launch", "In May", "who\twhat", "ana\tmail", "grouped", "Be brief"]
    assert [line for line in told.splitlines() if line] == lines


def test_texts_have_headings_paragraphs_and_rows_in_order() -> None:
    """R4: a cell is one line, however its text is broken."""
    told = "".join(opendocument.text(odt("Terms", "First.", "Second.", table=[["a", "b"], ["c", "d"]])))
    assert told.splitlines() == ["Terms", "First.", "Second.", "a\tb", "c\td"]


def test_reading_stops_a_little_after_what_is_wanted() -> None:
    """R6: no more pieces are read than are needed to know that there is more."""
    pieces = iter(["abc", "def", "never"])
    assert cutting.cut(pieces, 4) == "abcde"
    assert next(pieces) == "never"
    assert cutting.cut(["ab"], 4) == "ab"


def test_what_unpacks_to_too_much_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """R6: by its parts and by what they say of their size, before anything is unpacked."""
    packed = _packed("a" * 100, "b" * 100)
    assert cutting.opened(packed).read() == packed
    monkeypatch.setattr(cutting, "MOST_UNPACKED", 199)
    with pytest.raises(ValueError, match="more than a document may"):
        cutting.opened(packed)
    monkeypatch.setattr(cutting, "MOST_UNPACKED", 200)
    monkeypatch.setattr(cutting, "MOST_PARTS", 1)
    with pytest.raises(ValueError, match="more than a document may"):
        cutting.opened(packed)


def test_what_is_encrypted_is_refused() -> None:
    """R6: the flag of a part in the directory of the archive says so."""
    packed = bytearray(_packed("a"))
    packed[packed.index(b"PK\x01\x02") + 8] |= 1
    with pytest.raises(ValueError, match="encrypted"):
        cutting.opened(bytes(packed))


def _packed(*parts: str) -> bytes:
    kept = io.BytesIO()
    with zipfile.ZipFile(kept, "w") as archive:
        for place, part in enumerate(parts):
            archive.writestr(f"{place}.xml", part)
    return kept.getvalue()
