"""Text out of formats that need a parser: HTML, PDF, Word. Run in a process of its own (``stories/sandboxed.py``).

A reader takes bytes and gives text piece by piece. It reaches no file and no address. Whatever is wrong with a document
is an exception: the document then has no text.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import docx as word
import pypdf
from docx import Document
from docx.table import Table
from docx.text.paragraph import Paragraph
from lxml import etree, html
from pypdf import PdfReader

from stories.cutting import cut

DOCX: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
PARSERS: Final = (word, pypdf)
_BLOCKS: Final = frozenset(
    ("address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "footer", "form", "h1", "h2", "h3",
     "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section", "table", "tr", "ul")
)  # fmt: skip
_HIDDEN: Final = frozenset(("script", "style", "template", "noscript", "head", "svg"))


def pdf(content: bytes) -> Iterator[str]:
    """Yield the text of each page."""
    reader = PdfReader(io.BytesIO(content))
    if reader.is_encrypted and not reader.decrypt(""):
        raise ValueError("It is encrypted.")
    for page in reader.pages:
        yield page.extract_text() + "\n\n"


def docx(content: bytes) -> Iterator[str]:
    """Yield the paragraphs and the rows of the tables, in their order."""
    for part in Document(io.BytesIO(content)).iter_inner_content():
        if isinstance(part, Paragraph):
            yield part.text + "\n"
        elif isinstance(part, Table):
            for row in part.rows:
                yield "\t".join(cell.text for cell in row.cells) + "\n"


def page(content: bytes) -> Iterator[str]:
    """Yield what a reader of an HTML page would see."""
    parser = html.HTMLParser(no_network=True, remove_comments=True, remove_pis=True, huge_tree=False)
    root = html.document_fromstring(content, parser=parser)
    hidden = 0
    for event, element in etree.iterwalk(root, events=("start", "end")):
        name = str(element.tag)
        if event == "start":
            hidden += name in _HIDDEN
            yield "\n" if name in _BLOCKS else ""
            yield "" if hidden else _flat(element.text)
        else:
            hidden -= name in _HIDDEN
            yield "\n" if name in _BLOCKS else ""
            yield "" if hidden else _flat(element.tail)


def _flat(text: Any) -> str:
    """Return text whose line ends are spaces, as in a page."""
    return "" if text is None else " ".join(str(text).split("\n"))


READERS: Final[Mapping[str, Callable[[bytes], Iterator[str]]]] = {
    "application/pdf": pdf, DOCX: docx, "text/html": page, "application/xhtml+xml": page,
}  # fmt: skip


def read(content: bytes, media_type: str, most: int) -> str:
    """Return the text of a document, cut off a little after ``most`` characters."""
    return cut(READERS[media_type](content), most)
