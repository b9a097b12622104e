"""Where commands print: results on stdout, everything said to people on stderr; NO_COLOR and pipes are honoured."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TextIO

import orjson
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from app.commands.text import clean, duration, pretty
from app.commands.timeline import MARKS, PLAIN_MARKS, Line


class Screen:
    """Two streams. On a terminal lines are cut at its width; into a pipe or a file they are never cut or wrapped."""

    def __init__(self, out: TextIO | None = None, err: TextIO | None = None) -> None:
        """Take the streams, the process's own by default."""
        self.out = _console(out or sys.stdout)
        self.err = _console(err or sys.stderr)
        self._delta: tuple[str, int] | None = None

    @property
    def interactive(self) -> bool:
        """Say whether a person is there to be asked: stdin and stderr are terminals."""
        return sys.stdin is not None and sys.stdin.isatty() and self.err.is_terminal

    def say(self, text: str, style: str = "") -> None:
        """Print a sentence for people."""
        self.end_delta()
        self._print(self.err, Text(text, style=style))

    def error(self, text: str) -> None:
        """Print what went wrong."""
        self.say(text, "red")

    def timeline(self, lines: Iterable[Line]) -> None:
        """Print lines of a run's timeline."""
        self.end_delta()
        marks = MARKS if _can_show(self.err, MARKS.values()) else PLAIN_MARKS
        for item in lines:
            text = Text(f"{duration(item.at_ms):>10}  ", style="dim")
            text.append(f"{marks[item.mark]} {item.text}", style=item.style)
            self._print(self.err, text, cut=True)

    def delta(self, node_id: str, text: str, offset: int) -> None:
        """Show text as it is produced, on a terminal only."""
        if not self.err.is_terminal:
            return
        if self._delta is None or self._delta != (node_id, offset):
            self.end_delta()
            self.err.print(Text(f"{'':>10}  {clean(node_id)}: ", style="dim"), end="")
        self.err.print(Text(clean(text), style="dim"), end="", soft_wrap=True)
        self._delta = (node_id, offset + len(text))

    def end_delta(self) -> None:
        """Finish a line of text that was being produced."""
        if self._delta is not None:
            self._delta = None
            self.err.print()

    def show(self, *things: RenderableType) -> None:
        """Print something on stdout, fitted to the width of a terminal."""
        for thing in things:
            self._print(self.out, thing)

    def result(self, value: Any) -> None:
        """Print a run's answer on stdout: a text as it is, anything else as indented JSON."""
        self.end_delta()
        if not isinstance(value, str):
            self._print(self.out, Text(pretty(value)))
        elif self.out.is_terminal:
            self._print(self.out, Text(clean(value)))
        else:
            self.out.file.write(value if value.endswith("\n") else f"{value}\n")

    def json(self, value: Any) -> None:
        """Print a value as one line of JSON on stdout, at once."""
        self.out.file.write(orjson.dumps(value).decode() + "\n")
        self.out.file.flush()

    def _print(self, console: Console, thing: RenderableType, *, cut: bool = False) -> None:
        if isinstance(thing, Text) and console.is_terminal and cut:
            console.print(thing, no_wrap=True, overflow="ellipsis")
        else:
            console.print(thing, soft_wrap=not console.is_terminal)


def _console(stream: TextIO) -> Console:
    # What an encoding cannot show is spelled out; a result must never be lost to a locale.
    if isinstance(stream, io.TextIOWrapper):
        stream.reconfigure(errors="backslashreplace")
    # Without a terminal there is no width to fit: a pipe gets whole lines and whole table cells.
    width = None if stream.isatty() else 10_000
    return Console(file=stream, width=width, highlight=False, emoji=False, markup=False)


def _can_show(console: Console, texts: Iterable[str]) -> bool:
    try:
        "".join(texts).encode(console.encoding)
    except (UnicodeEncodeError, LookupError):
        return False
    return True


def table(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> Table:
    """Return a plain table; long cells are folded, never cut, so that ids can be copied."""
    made = Table(box=None, pad_edge=False, header_style="bold")
    for name in columns:
        made.add_column(name, overflow="fold")
    for row in rows:
        made.add_row(*(Text(clean("" if cell is None else cell)) for cell in row))
    return made


def columns_of(items: Iterable[Mapping[str, Any]], names: Sequence[str]) -> list[list[Any]]:
    """Return the named members of each item as table cells."""
    return [
        [", ".join(map(str, value)) if isinstance(value := item.get(name), list) else value for name in names]
        for item in items
    ]
