"""Text out of what people upload: common formats, and files that mean harm (R4, R6)."""

from __future__ import annotations

import asyncio
import io
from datetime import date
from pathlib import Path

import pytest
from pypdf import PdfWriter

from stories.extraction import DOCX, MOST_WAITING, ODT, PPTX, XLSX, Extractor, media_type_of
from stories.passages import LONGEST, passages_of
from stories.readers import READERS, read
from tests.documents import files
from tests.documents.making import place, put, stored
from tests.spine.running import Service, serving

PAGE = b"""<!doctype html><html><head><title>No</title><style>p {}</style></head><body><h1>Terms</h1>
<p>Five <b>days</b>,
not &lt;six&gt;.</p><script>alert(1)</script><!-- hidden --><ul><li>One<li>Two</ul></body></html>"""

SHEETS = files.xlsx(Prices=[["Bun", 2.5, date(2026, 1, 5)], [], ["Tart", 3.0]], More=[[None, None, "far"]])
DECK = files.pptx("Spring", "Buns first\nTarts next", [["a", "b"]], "Speak slowly")
LETTER = files.odt("Terms", "Five days", table=[["x", 1], ["y", 2]])


async def text_of(content: bytes, media: str, charset: str | None = None) -> tuple[str | None, str | None]:
    found = await Extractor().text_of(content, media, charset)
    return found.text, found.error


@pytest.mark.parametrize(
    ("name", "media", "content", "text"),
    [
        ("a", "text/plain", "Gr\u00fc\u00dfe\r\nzwei\x00".encode(), "Gr\u00fc\u00dfe\nzwei"),
        ("a.md", "", b"# Title\n\n* one", "# Title\n\n* one"),
        ("a.md", "no type/at all", b"# Title", "# Title"),
        ("a", "text/csv", b"a,b\n1,2\n", "a,b\n1,2"),
        ("a", "application/json", b'{"a": [1, 2]}', '{"a": [1, 2]}'),
        ("a", "text/plain", "marked".encode("utf-16"), "marked"),
        ("a", "text/plain", b"caf\xe9", "caf\u00e9"),
        ("a", "text/plain", "cafe\u0301".encode(), "caf\u00e9"),
        ("a.htm", "application/octet-stream", PAGE, "Terms\n\n \n\nFive days, not <six>.\n\n\nOne\n\nTwo"),
        ("a", "application/octet-stream", files.pdf("First page", "Second page"), "First page\n\nSecond page"),
        ("a.xlsx", "", SHEETS, "Prices\nBun\t2.5\t2026-01-05\nTart\t3\n\nMore\n\t\tfar"),
        ("deck.pptx", "", DECK, "Spring\nBuns first\nTarts next\na\tb\ngrouped\nSpeak slowly"),
        ("a.odt", "application/octet-stream", LETTER, "Terms\nFive days\nx\t1\ny\t2"),
        ("a.docx", "", files.docx("One", "Two", table=[["x", "y"], ["1", "2"]]), "One\nTwo\nx\ty\n1\t2"),
    ],
)  # fmt: skip
async def test_common_formats_have_their_text(name: str, media: str, content: bytes, text: str) -> None:
    """R4: by media type, by the end of the id, by the first bytes."""
    found, error = await text_of(content, media_type_of(media, name, content))
    assert error is None
    assert found is not None
    assert found.split() == text.split()
    if media_type_of(media, name, content) not in READERS:
        assert [line for line in found.split("\n") if line] == [line for line in text.split("\n") if line]


async def test_a_charset_is_heeded_and_only_known_ones_are() -> None:
    assert await text_of("\u0436\u0443\u043a".encode("koi8-r"), "text/plain", "koi8-r") == ("\u0436\u0443\u043a", None)
    text, error = await text_of(b"x", "text/plain", "punycode")
    assert text is None
    assert "punycode" in (error or "")


@pytest.mark.parametrize(
    ("media", "content", "why"),
    [
        ("image/png", b"\x89PNG", "Nothing here reads image/png"),
        ("application/json", b"{", "not JSON"),
        ("application/pdf", b"%PDF-1.4 nonsense", "PdfStreamError"),
        ("text/plain", b"  \n", "no text"),
        (DOCX, b"PK no zip", "BadZipFile"),
        (DOCX, files.laughs(), ""),
        (DOCX, files.bomb(), ""),
        ("application/pdf", files.swelling_pdf(), ""),
        ("text/html", b"", ""),
        (XLSX, files.swelling(SHEETS, "xl/worksheets/sheet1.xml"), "more than a document may"),
        (ODT, files.swelling(LETTER, "content.xml"), "more than a document may"),
        (PPTX, LETTER, "KeyError"),
    ],
    ids=["image", "json", "pdf", "empty", "zip", "laughs", "bomb", "swelling", "nothing", "sheets", "odt", "other"],
)  # fmt: skip
async def test_what_cannot_be_read_is_kept_with_the_reason(
    sqlite_url: str, media: str, content: bytes, why: str
) -> None:
    """R4, R6: `text_status` failed; a file that unpacks to gigabytes takes neither the service nor its memory."""
    async with serving(sqlite_url) as service:
        answer = await put(service, "spring", "odd", content, media)
        shown = answer.json()
        assert (answer.status_code, shown["text_status"], shown["characters"]) == (201, "failed", 0), shown
        assert why in shown["text_error"]
        assert (await service.client.get(place("spring", "odd", "/content"))).content == content
        text = await service.client.get(place("spring", "odd", "/text"))
        assert (text.status_code, text.json()["code"]) == (404, "document_not_found")


async def test_a_document_reaches_no_file_of_this_machine(tmp_path: Path) -> None:
    """R6: an entity that names a file is not followed."""
    secret = tmp_path / "secret"
    secret.write_text("the secret of this machine")
    text, error = await text_of(files.reaching(str(secret)), DOCX)
    assert "secret of" not in f"{text} {error}"


async def test_a_document_that_takes_too_long_is_ended() -> None:
    """R6: the reader is a process of its own, and its time is bounded."""
    found = await Extractor(seconds=0.01).text_of(files.pdf("x"), "application/pdf")
    assert found.text is None
    assert "longer than 0.01 seconds" in (found.error or "")


async def test_only_so_many_wait_to_be_read() -> None:
    """R6, F12: what is more than that is turned away before it takes memory for long; plain text never waits."""
    extractor = Extractor(at_once=0)
    waiting = [asyncio.ensure_future(extractor.text_of(b"", DOCX)) for _ in range(MOST_WAITING)]
    await asyncio.sleep(0)
    assert not extractor.takes(DOCX)
    assert extractor.takes("text/plain")
    for each in waiting:
        each.cancel()
    await asyncio.gather(*waiting, return_exceptions=True)
    assert extractor.takes(DOCX)


async def test_the_service_answers_while_it_reads(service: Service) -> None:
    """R6: a document that takes all the time it may holds nobody up."""
    reading = asyncio.ensure_future(put(service, "spring", "bomb", files.bomb(), DOCX))
    async with asyncio.timeout(20):
        for number in range(20):
            await stored(service, "spring", f"n{number}")
    assert (await reading).json()["text_status"] == "failed"


def test_readers_take_a_document_apart() -> None:
    """R4: paragraphs, rows and pages in their order, without hidden parts; what is encrypted is said to be."""
    written = files.docx("First", "Second", table=[["a", "b"], ["c", "d"]])
    assert read(written, DOCX, 1_000).splitlines() == ["First", "Second", "a\tb", "c\td"]
    assert read(files.pdf("One", "Two"), "application/pdf", 1_000).split() == ["One", "Two"]
    shown = read(b"<head><title>no</title></head><p>yes\nthen<script>no</script>", "text/html", 1_000)
    assert shown.split() == ["yes", "then"]
    locked = PdfWriter(clone_from=io.BytesIO(files.pdf("Secret")))
    locked.encrypt("a password", algorithm="RC4-128")
    held = io.BytesIO()
    locked.write(held)
    with pytest.raises(ValueError, match="encrypted"):
        read(held.getvalue(), "application/pdf", 1_000)


def test_readers_stop_after_as_much_as_is_kept() -> None:
    """The limit is the reader's too: it does not go through what nobody keeps."""
    assert len(read(files.docx(*["word " * 50] * 100), DOCX, 1_000)) == 1_001
    assert read(files.pdf("one", "two"), "application/pdf", 100).split() == ["one", "two"]
    assert "alert" not in read(PAGE, "text/html", 1_000)


def test_passages_hold_the_whole_text_where_it_pauses() -> None:
    """R4: pieces of about a paragraph, none longer than it may be, none cut inside a word, nothing lost."""
    text = "\n\n".join(" ".join(f"word{number}x{place}" for place in range(60)) + "." for number in range(40))
    rows = passages_of(text)
    assert [row.place for row in rows] == list(range(len(rows)))
    assert all(text[row.start : row.start + len(row.text)] == row.text for row in rows)
    assert max(len(row.text) for row in rows) <= LONGEST
    assert " ".join(row.words for row in rows).split() == text.replace(".", "").split()
    assert len(passages_of("x" * 5_000)) == 4
    assert passages_of(" \n ... \n") == []
