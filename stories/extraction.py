"""The text of a document that somebody uploaded (R4, R6).

Plain text is decoded here, in a thread; what needs a parser is read by a process of its own that can be ended, so a
hostile document takes neither the event loop nor the memory of the service, and reaches none of its files.
"""

from __future__ import annotations

import asyncio
import re
import sys
import unicodedata
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Final

import orjson

MOST_CHARACTERS: Final = 2_000_000
"""Characters of a document's text that are kept."""
SECONDS: Final = 30.0
AT_ONCE: Final = 2
"""Documents that are parsed at the same time in one process of the service."""
MOST_WAITING: Final = 50
"""Documents that wait to be parsed; more are turned away."""
DOCX: Final = "application/vnd.openxmlformats-officedocument.wordprocessingml.document"
XLSX: Final = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
PPTX: Final = "application/vnd.openxmlformats-officedocument.presentationml.presentation"
ODT: Final = "application/vnd.oasis.opendocument.text"
PARSED: Final = frozenset(("application/pdf", DOCX, XLSX, PPTX, ODT, "text/html", "application/xhtml+xml"))
JSON: Final = "application/json"
PLAIN: Final = frozenset((
    JSON, "application/xml", "application/yaml", "application/x-yaml", "application/x-ndjson", "application/toml",
    "application/sql", "application/javascript", "application/rtf",
))  # fmt: skip
UNTOLD: Final = frozenset(("", "application/octet-stream", "application/x-www-form-urlencoded"))
"""Media types that say nothing (the last is what curl says of everything)."""
BY_NAME: Final = {
    ".txt": "text/plain", ".md": "text/markdown", ".markdown": "text/markdown", ".csv": "text/csv",
    ".html": "text/html", ".htm": "text/html", ".json": JSON, ".pdf": "application/pdf", ".docx": DOCX,
    ".xlsx": XLSX, ".pptx": PPTX, ".odt": ODT,
    ".xml": "application/xml", ".yaml": "application/yaml", ".yml": "application/yaml",
}  # fmt: skip

_MEDIA: Final = re.compile(r"[a-z0-9!#$&^_.+-]{1,60}/[a-z0-9!#$&^_.+-]{1,100}")
_CHARSETS: Final = re.compile(
    r"utf-?8|utf-?(?:16|32)(?:-?[bl]e)?|(?:us-)?ascii|latin-?1|iso-?8859-\d{1,2}|windows-125\d|koi8-[ru]|gbk|gb18030|big5"
    r"|shift_jis|euc-(?:jp|kr)",
    re.IGNORECASE,
)
"""Those that Python decodes in one pass."""


@dataclass(frozen=True, slots=True)
class Extracted:
    """A document's text, or why it has none; ``truncated``: it has more than is kept."""

    text: str | None
    error: str | None = None
    truncated: bool = False


def media_type_of(said: str, document_id: str, content: bytes) -> str:
    """Return the media type, in small letters and without parameters, of what was sent as ``said``.

    Where that says nothing, the end of the document's id does, and else its first bytes.
    """
    media = said.partition(";")[0].strip().lower()
    if media not in UNTOLD and _MEDIA.fullmatch(media):
        return media
    known = BY_NAME.get(PurePosixPath(document_id).suffix.lower())
    if known is not None:
        return known
    if content.startswith(b"%PDF-"):
        return "application/pdf"
    return "application/octet-stream" if b"\x00" in content[:4_096] else "text/plain"


class Extractor:
    """Reads documents, a bounded number of foreign ones at a time."""

    def __init__(self, seconds: float = SECONDS, at_once: int = AT_ONCE) -> None:
        """A foreign document is given ``seconds``, then its reader is ended."""
        self._seconds = seconds
        self._turn = asyncio.Semaphore(at_once)
        self._waiting = 0

    def takes(self, media_type: str) -> bool:
        """Say whether another document of this media type may wait for its turn."""
        return media_type not in PARSED or self._waiting < MOST_WAITING

    async def text_of(self, content: bytes, media_type: str, charset: str | None = None) -> Extracted:
        """Return the text of a document of this media type (:func:`media_type_of`); never raises for what is in it."""
        if media_type in PARSED:
            self._waiting += 1
            try:
                async with self._turn:
                    return tidy(await self._parsed(content, media_type))
            finally:
                self._waiting -= 1
        if media_type.startswith("text/") or media_type in PLAIN or media_type.endswith(("+json", "+xml", "+yaml")):
            return await asyncio.to_thread(_decoded, content, media_type, charset)
        return Extracted(None, f"Nothing here reads {media_type[:100]}.")

    async def _parsed(self, content: bytes, media_type: str) -> Extracted:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-I", "-m", "stories.sandboxed", media_type, str(MOST_CHARACTERS),
            stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL,
            env={}, cwd="/", start_new_session=True,
        )  # fmt: skip
        try:
            async with asyncio.timeout(self._seconds):
                said, _ = await process.communicate(content)
        except TimeoutError:
            return Extracted(None, f"Reading it took longer than {self._seconds:g} seconds.")
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if process.returncode != 0 or not said:
            return Extracted(None, "Its reader was ended: it takes too much time or memory.")
        answer = orjson.loads(said)
        return Extracted(answer.get("text"), answer.get("error"))


def tidy(read: Extracted) -> Extracted:
    """Return a text as it can be stored: composed characters, no NUL, no half of a pair, within its bound."""
    if read.text is None:
        return read
    text = read.text.replace("\r\n", "\n").replace("\r", "\n").replace("\x00", "")
    text = unicodedata.normalize("NFC", text.encode("utf-8", "replace").decode()).strip()
    if not text:
        return Extracted(None, "There is no text in it.")
    return Extracted(text[:MOST_CHARACTERS], None, truncated=len(text) > MOST_CHARACTERS)


def _decoded(content: bytes, media_type: str, charset: str | None) -> Extracted:
    try:
        text = _decode(content, charset)
    except (LookupError, UnicodeDecodeError) as error:
        return Extracted(None, f"Its characters cannot be read: {error}"[:500])
    if media_type == JSON:
        try:
            orjson.loads(text)
        except orjson.JSONDecodeError as error:
            return Extracted(None, f"It is not JSON: {error}"[:500])
    return tidy(Extracted(text))


def _decode(content: bytes, charset: str | None) -> str:
    """Decode by the byte order mark, else as it was said, else as UTF-8, and else as the usual eight bits."""
    for mark, name in ((b"\xef\xbb\xbf", "utf-8-sig"), (b"\xff\xfe", "utf-16"), (b"\xfe\xff", "utf-16")):
        if content.startswith(mark):
            return content.decode(name)
    if charset is not None:
        if not _CHARSETS.fullmatch(charset):
            raise LookupError(f"unknown encoding: {charset[:50]}")
        return content.decode(charset)
    try:
        return content.decode("utf-8")
    except UnicodeDecodeError:
        if b"\x00" in content:
            raise
        return content.decode("cp1252", "replace")
