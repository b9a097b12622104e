"""The pages people read, taken apart: code blocks, links, headings."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
FENCE = re.compile(r"^(?P<fence>`{3,})(?P<language>\w*)\s*$")
SAVED = re.compile(r"^Save this as `(?P<name>[\w.]+)`")
RUN = ("bash", "python", "json")
"""Blocks in these languages claim to work; ``text`` and unmarked ones only show something."""


@dataclass(frozen=True)
class Block:
    """A fenced block. ``name`` is set when the line before says under which name to save it."""

    language: str
    text: str
    line: int
    name: str | None = None


def pages() -> list[Path]:
    """README, everything under docs, and the README of every example."""
    return [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), *sorted((ROOT / "examples").rglob("*.md"))]


def shown(page: Path) -> str:
    """Return the page's name as people know it."""
    return page.relative_to(ROOT).as_posix()


def blocks(page: Path) -> Iterator[Block]:
    """Yield the page's blocks in order; a block that does not end is a mistake."""
    lines = page.read_text(encoding="utf-8").splitlines()
    place = 0
    said = ""
    while place < len(lines):
        opening = FENCE.match(lines[place])
        if opening is None:
            said = lines[place] or said
            place += 1
            continue
        end = lines.index(opening["fence"], place + 1)
        saved = SAVED.match(said)
        yield Block(opening["language"], "\n".join(lines[place + 1 : end]), place + 2, saved and saved["name"])
        said, place = "", end + 1


def prose(page: Path) -> str:
    """Return the page without its blocks."""
    text = page.read_text(encoding="utf-8")
    for block in blocks(page):
        text = text.replace(block.text, "")
    return text


def links(page: Path) -> list[str]:
    """Return the targets of the page's links."""
    return re.findall(r"\]\(([^)\s]+)\)", prose(page))


def anchors(page: Path) -> set[str]:
    """Return the names of the page's headings as links spell them."""
    headings = re.findall(r"^#+ +(.+)$", prose(page), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).strip().replace(" ", "-") for heading in headings}
