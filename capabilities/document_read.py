"""``document.read``: text, Markdown or HTML → plain text. Takes the text itself, never a path or an address (R6)."""

from __future__ import annotations

import html
import re
from html.parser import HTMLParser
from typing import Any, Final

from capabilities.authoring import capability
from capabilities.data_facets import DOCUMENT_FORMAT, DOCUMENT_SOURCE, DOCUMENT_TEXT

_BLOCKS: Final = frozenset(
    {"address", "article", "aside", "blockquote", "br", "dd", "div", "dl", "dt", "footer", "form", "h1", "h2", "h3",
     "h4", "h5", "h6", "header", "hr", "li", "main", "nav", "ol", "p", "pre", "section", "table", "tr", "ul"}
)  # fmt: skip
_HIDDEN: Final = frozenset({"script", "style", "template", "noscript", "head", "svg"})
_MARKUP: Final = re.compile(r"<(?:!doctype html|html|body|p|div|h[1-6]|ul|table|article)\b", re.IGNORECASE)
_LINE_MARKS: Final = re.compile(r"^ {0,3}(?:#{1,6}\s+|>\s?|[-*+]\s+|\d{1,9}[.)]\s+)")
_RULE: Final = re.compile(r"^ {0,3}(?:[-*_=]\s?){3,}$")
_LINK: Final = re.compile(r"!?\[([^\[\]]{0,500})\]\([^()\s]{0,2000}(?: \"[^\"]{0,200}\")?\)")
_EMPHASIS: Final = re.compile(r"(?P<mark>\*\*\*|\*\*|\*|~~|`)(?=\S)(?P<inner>[^*~`\n]{1,500})(?<=\S)(?P=mark)")
_LOOSE: Final = re.compile(r"<(?![^<>]*>)")
"""A ``<`` that opens no tag. The parser looks for its end as far as the document goes, once for each of them."""
_SNIFF: Final = 2_000


@capability(
    "document.read",
    consumes={"source": DOCUMENT_SOURCE, "format?": DOCUMENT_FORMAT},
    produces=DOCUMENT_TEXT,
    quality=0.6,
    latency_ms=10,
)
def document_read(source: str, **inputs: Any) -> str:
    """Takes the plain text out of a document; without a format it looks whether the document is HTML."""
    written = inputs.get("format") or ("html" if _MARKUP.search(source[:_SNIFF]) else "markdown")
    if written == "html":
        reader = _Reader()
        reader.feed(_LOOSE.sub("&lt;", _without_comments(source)))
        reader.close()
        return _tidy("".join(reader.parts))
    return _tidy(_plain(source) if written == "markdown" else source)


class _Reader(HTMLParser):
    """Collects the text a reader of the page would see."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.parts: list[str] = []
        self._hidden = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note where lines end and what is hidden."""
        if tag in _HIDDEN:
            self._hidden += 1
        elif tag in _BLOCKS:
            self.parts.append("\n")

    def handle_endtag(self, tag: str) -> None:
        """See ``handle_starttag``."""
        if tag in _HIDDEN:
            self._hidden = max(0, self._hidden - 1)
        elif tag in _BLOCKS:
            self.parts.append("\n")

    def handle_data(self, data: str) -> None:
        """Keep what is seen; line ends inside a paragraph are spaces."""
        if not self._hidden:
            self.parts.append(" ".join(data.split("\n")))


def _without_comments(source: str) -> str:
    """Return the page without comments, in one pass; one that never ends hides the rest, as in a browser."""
    kept: list[str] = []
    at = 0
    while (start := source.find("<!--", at)) >= 0:
        kept.append(source[at:start])
        end = source.find("-->", start + 4)
        if end < 0:
            return "".join(kept)
        at = end + 3
    return "".join([*kept, source[at:]])


def _plain(source: str) -> str:
    lines: list[str] = []
    fenced = False
    for line in source.splitlines():
        if line.lstrip().startswith(("```", "~~~")):
            fenced = not fenced
        elif fenced:
            lines.append(line)
        elif not _RULE.match(line[:200]):
            lines.append(_inline(line))
    return html.unescape("\n".join(lines))


def _inline(line: str) -> str:
    line = _LINE_MARKS.sub("", line, count=1)
    line = _LINK.sub(r"\1", line)
    return _EMPHASIS.sub(lambda found: found["inner"], line)


def _tidy(text: str) -> str:
    """Return the text with single spaces, at most one empty line in a row, and none at the ends."""
    lines = [" ".join(line.split()) for line in text.replace("\x00", "").splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(lines)).strip()
