"""Files of other programs, well-formed and hostile, made here."""

from __future__ import annotations

import io
import zipfile
import zlib
from typing import Any

import odfdo
from docx import Document
from openpyxl import Workbook
from pptx import Presentation

DOCX = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"


def docx(*paragraphs: str, table: list[list[str]] | None = None) -> bytes:
    """A Word document."""
    made = Document()
    for text in paragraphs:
        made.add_paragraph(text)
    if table:
        grid = made.add_table(rows=0, cols=len(table[0]))
        for row in table:
            for cell, text in zip(grid.add_row().cells, row, strict=True):
                cell.text = text
    written = io.BytesIO()
    made.save(written)
    return written.getvalue()


def xlsx(**sheets: list[list[Any]]) -> bytes:
    """A spreadsheet."""
    made = Workbook(write_only=True)
    for name, rows in sheets.items():
        sheet = made.create_sheet(name)
        for row in rows:
            sheet.append(row)
    written = io.BytesIO()
    made.save(written)
    return written.getvalue()


def pptx(title: str, body: str, table: list[list[str]], notes: str) -> bytes:
    """A presentation of one slide."""
    made = Presentation()
    slide = made.slides.add_slide(made.slide_layouts[1])
    slide.shapes.title.text = title
    slide.placeholders[1].text = body
    grid = slide.shapes.add_table(len(table), len(table[0]), 0, 0, 900_000, 900_000).table
    for place, row in enumerate(table):
        for across, text in enumerate(row):
            grid.cell(place, across).text = text
    slide.shapes.add_group_shape().shapes.add_textbox(0, 0, 9, 9).text_frame.text = "grouped"
    slide.notes_slide.notes_text_frame.text = notes
    written = io.BytesIO()
    made.save(written)
    return written.getvalue()


def odt(heading: str, *paragraphs: str, table: list[list[Any]]) -> bytes:
    """An OpenDocument text."""
    made = odfdo.Document("text")
    made.body.clear()
    made.body.append(odfdo.Header(1, heading))
    for text in paragraphs:
        made.body.append(odfdo.Paragraph(text))
    grid = odfdo.Table("T")
    grid.set_values(table)
    made.body.append(grid)
    written = io.BytesIO()
    made.save(written)
    return written.getvalue()


def swelling(document: bytes, name: str) -> bytes:
    """A packed document one of whose parts has three billion bytes."""
    return _with_raw_part(document, name, _repeated(b"", b"A" * (8 * 1024 * 1024), 380, -15), 380 * 8 * 1024 * 1024)


def with_part(document: bytes, name: str, content: bytes) -> bytes:
    """A Word document with another content in one of its parts."""
    written = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(document)) as source, zipfile.ZipFile(written, "w", zipfile.ZIP_DEFLATED) as target:
        for part in source.namelist():
            target.writestr(part, content if part == name else source.read(part))
    return written.getvalue()


def bomb() -> bytes:
    """A Word document of a few megabytes whose text has three billion bytes."""
    head = b'<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"><w:body><w:p><w:r><w:t>'
    packed = _repeated(head, b"A" * (8 * 1024 * 1024), 380, -15)
    return _with_raw_part(docx("x"), "word/document.xml", packed, len(head) + 380 * 8 * 1024 * 1024)


def _repeated(head: bytes, block: bytes, times: int, window: int) -> bytes:
    """Deflate a block as if it came again and again, at the price of once."""
    packer = zlib.compressobj(9, zlib.DEFLATED, window)
    begun = packer.compress(head) + packer.flush(zlib.Z_FULL_FLUSH)
    once = packer.compress(block) + packer.flush(zlib.Z_FULL_FLUSH)
    return begun + once * times + packer.flush()


def _with_raw_part(document: bytes, name: str, packed: bytes, size: int) -> bytes:
    """Put a part in that is packed already, so that the test itself never holds what it unpacks to."""
    written_zip = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(document)) as source, zipfile.ZipFile(written_zip, "w") as target:
        for part in source.namelist():
            target.writestr(part, packed if part == name else source.read(part))
    written = bytearray(written_zip.getvalue())
    for signature, method_at, size_at, name_at in ((b"PK\x03\x04", 8, 22, 30), (b"PK\x01\x02", 10, 24, 46)):
        at = written.find(signature)
        while at >= 0:
            if written[at + name_at : at + name_at + len(name)] == name.encode():
                written[at + method_at : at + method_at + 2] = (8).to_bytes(2, "little")
                written[at + size_at : at + size_at + 4] = (size & 0xFFFFFFFF).to_bytes(4, "little")
            at = written.find(signature, at + 4)
    return bytes(written)


def laughs() -> bytes:
    """A Word document whose entities refer to one another until nobody can hold them."""
    names = "abcdefghij"
    entities = '<!ENTITY a "ha">' + "".join(
        f'<!ENTITY {name} "{f"&{names[place]};" * 10}">' for place, name in enumerate(names[1:])
    )
    body = f"<w:body><w:p><w:r><w:t>&{names[-1]};</w:t></w:r></w:p></w:body>"
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    return with_part(
        docx("x"), "word/document.xml", f"<!DOCTYPE x [{entities}]><w:document {space}>{body}</w:document>".encode()
    )


def reaching(path: str) -> bytes:
    """A Word document that wants a file of this machine to be put into its text."""
    space = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    body = "<w:body><w:p><w:r><w:t>before &f; after</w:t></w:r></w:p></w:body>"
    entity = f'<!DOCTYPE x [<!ENTITY f SYSTEM "file://{path}">]>'
    return with_part(docx("x"), "word/document.xml", f"{entity}<w:document {space}>{body}</w:document>".encode())


def pdf(*pages: str, packed: bytes | None = None) -> bytes:
    """A PDF with a line per page; ``packed`` is a deflated content stream in place of the first one's."""
    objects: list[bytes] = [b"<< /Type /Catalog /Pages 2 0 R >>", b""]
    kids = []
    for text in pages:
        stream = f"BT /F1 12 Tf 72 720 Td ({text}) Tj ET".encode("latin-1")
        head = b""
        if packed is not None:
            stream, head, packed = packed, b" /Filter /FlateDecode", None
        objects.append(b"<< /Length %d%b >>\nstream\n%b\nendstream" % (len(stream), head, stream))
        content = len(objects)
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents %d 0 R /Resources << /Font << /F1 << "
            b"/Type /Font /Subtype /Type1 /BaseFont /Helvetica >> >> >> >>" % content
        )
        kids.append(len(objects))
    listed = b" ".join(b"%d 0 R" % kid for kid in kids)
    objects[1] = b"<< /Type /Pages /Kids [%b] /Count %d >>" % (listed, len(kids))
    written, places = bytearray(b"%PDF-1.4\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(written))
        written += b"%d 0 obj\n%b\nendobj\n" % (number, body)
    start = len(written)
    written += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    written += b"".join(b"%010d 00000 n \n" % place for place in places)
    written += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, start)
    return bytes(written)


def swelling_pdf() -> bytes:
    """A small PDF whose one page unpacks to two billion bytes."""
    packed = _repeated(b"", b"BT ET " * (1024 * 1024), 340, 15)
    return pdf("x", packed=packed)
