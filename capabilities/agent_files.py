"""What lies in the agents folder: found, sorted, and kept inside it (R2, R6).

Read are ``*.py`` and ``*.md`` anywhere below the folder, ``flow.py`` alone of a directory that has one, and
``*.yaml`` in ``flows/``. Names that begin with a dot or an underscore, and READMEs, are passed over.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Final

from contracts.agents import AgentFault, AgentKind

MAX_FILES: Final = 1_000
MAX_BYTES: Final = 512 * 1024
MAX_DEPTH: Final = 8
FLOWS: Final = "flows"
MODULE: Final = "flow.py"
"""The one file that is read of a directory with a PocketFlow flow; its neighbours are modules that it imports."""
_KINDS: Final[dict[str, AgentKind]] = {".py": "python", ".md": "markdown"}
Stamp = tuple[tuple[str, int, int, int], ...]


@dataclass(frozen=True, slots=True)
class FoundFile:
    """A file to be read, or one that is not (``fault``). Equal stamps mean that it, and what it imports, is the same.

    ``source`` is its name relative to the folder, with slashes.
    """

    source: str
    path: Path
    kind: AgentKind
    stamp: Stamp
    fault: AgentFault | None = None


def look(folder: Path) -> list[FoundFile]:
    """Return every file: Python first, then Markdown, then groups, each by name. Cheap: nothing is opened.

    Raises ``OSError`` when the folder itself cannot be listed.
    """
    root = folder.resolve()
    found = list(islice(_walk(root, root, 0), MAX_FILES + 1))
    if len(found) > MAX_FILES:
        message = f"There are over {MAX_FILES:,} files in the folder; those after {found[-2].source} are not read."
        found[-1] = _refused(".", root, AgentFault("too_large", message))
    order = {"python": 0, "markdown": 1, "group": 2}
    return sorted(found, key=lambda file: (order[file.kind], file.source))


def read_text(file: FoundFile) -> str | AgentFault:
    """Return a file's text."""
    try:
        if not file.path.resolve().is_file():
            return AgentFault("unreadable", "This is no file.")
        with file.path.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        return AgentFault("unreadable", f"It cannot be read: {error.strerror or type(error).__name__}.")
    if len(data) > MAX_BYTES:
        return AgentFault("too_large", f"It is over {MAX_BYTES:,} bytes.")
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        return AgentFault("unreadable", "It is not UTF-8.", data[: error.start].count(b"\n") + 1)


def _walk(root: Path, folder: Path, depth: int) -> Iterator[FoundFile]:
    entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    kept = [entry for entry in entries if not entry.name.startswith((".", "_"))]
    module = next((entry for entry in kept if entry.name == MODULE and folder != root), None)
    for entry in kept if module is None else [module]:
        path = Path(entry.path)
        source = path.relative_to(root).as_posix()
        if entry.is_dir():
            yield from _directory(root, path, source, depth, linked=entry.is_symlink())
        elif (kind := _kind(root, folder, entry.name)) is not None:
            fault = None if _inside(root, path) else _OUTSIDE
            around = kept if module is not None else [entry]
            yield FoundFile(source, path, kind, () if fault else _stamp(around), fault)


_OUTSIDE: Final = AgentFault("outside_folder", "It is a link that leads out of the folder, or nowhere.")

_LINKED: Final = AgentFault("unreadable", "Links to directories are not followed; link each file.")


def _directory(root: Path, path: Path, source: str, depth: int, *, linked: bool) -> Iterator[FoundFile]:
    if linked:
        yield _refused(source, path, _LINKED if _inside(root, path) else _OUTSIDE)
    elif depth >= MAX_DEPTH:
        yield _refused(source, path, AgentFault("too_large", f"It lies over {MAX_DEPTH} directories deep."))
    else:
        try:
            yield from _walk(root, path, depth + 1)
        except OSError as error:
            why = error.strerror or type(error).__name__
            yield _refused(source, path, AgentFault("unreadable", f"It cannot be listed: {why}."))


def _refused(source: str, path: Path, fault: AgentFault) -> FoundFile:
    """Return a directory that is not read."""
    return FoundFile(source, path, "python", (), fault)


def _inside(root: Path, path: Path) -> bool:
    try:
        return path.resolve(strict=True).is_relative_to(root)
    except (OSError, RuntimeError):
        return False


def _kind(root: Path, folder: Path, name: str) -> AgentKind | None:
    suffix = Path(name).suffix.lower()
    if folder == root / FLOWS:
        return "group" if suffix in (".yaml", ".yml") else None
    if name.lower() == "readme.md":
        return None
    return _KINDS.get(suffix)


def _stamp(entries: list[os.DirEntry[str]]) -> Stamp:
    stamps = []
    for entry in entries:
        if entry.name.endswith(".py") or len(entries) == 1:
            try:
                known = entry.stat()
            except OSError:
                continue  # it has gone since it was listed; the next look says so
            stamps.append((entry.name, known.st_mtime_ns, known.st_size, known.st_ino))
    return tuple(stamps)
