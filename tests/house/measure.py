"""What the house rules measure: the project's files and the functions in them."""

import ast
import os
import re
import subprocess
import tomllib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
# Directories with Python that are not rooms of the product.
AROUND = ("tests", "bench", "docs", "examples")
NOT_OURS = {".git", ".venv", ".venv-bench", "node_modules", "dist", "build"}
Function = ast.FunctionDef | ast.AsyncFunctionDef


@cache
def project() -> dict[str, Any]:
    """pyproject.toml."""
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))


def rooms() -> list[str]:
    """The product's packages, as the wheel lists them."""
    packages: list[str] = project()["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]
    return packages


def _walked() -> Iterator[str]:
    for directory, below, names in os.walk(ROOT):
        below[:] = [name for name in below if name not in NOT_OURS and not name.endswith("_cache")]
        yield from (str((Path(directory) / name).relative_to(ROOT)) for name in names)


@cache
def files() -> tuple[Path, ...]:
    """Every file that is, or would be, committed (every file but the known caches where there is no git)."""
    # A checkout may belong to another user than the one who tests it.
    git = ["git", "-c", f"safe.directory={ROOT}", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    try:
        listed = subprocess.run(git, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    except (OSError, subprocess.CalledProcessError):
        listed = list(_walked())
    paths = (ROOT / name for name in sorted(set(listed)) if name)
    return tuple(path for path in paths if path.is_file() and not path.is_symlink())


def text(path: Path) -> str | None:
    """A file's text; None for a binary one."""
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:
        return None


def within(path: Path, *tops: str) -> bool:
    """Whether the path lies under one of these top-level directories."""
    return path.relative_to(ROOT).parts[0] in tops


def python(*tops: str) -> list[Path]:
    """Python files under these top-level directories."""
    return [path for path in files() if path.suffix == ".py" and within(path, *tops)]


@cache
def tree(path: Path) -> ast.Module:
    """A Python file, parsed."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def place(path: Path, node: ast.AST | None = None) -> str:
    """A place as editors like it: file:line."""
    line = getattr(node, "lineno", None)
    return f"{path.relative_to(ROOT)}" + (f":{line}" if line else "")


def functions(path: Path) -> Iterator[Function]:
    """Every function and method of a file, nested ones too."""
    return (node for node in ast.walk(tree(path)) if isinstance(node, Function))


def length(node: Function) -> int:
    """Lines from `def` to the end of the body."""
    return (node.end_lineno or node.lineno) - node.lineno + 1


def lines(path: Path) -> int:
    """Lines of a text file."""
    return len((text(path) or "").splitlines())


@dataclass(frozen=True)
class Sizes:
    """How long things are."""

    what: str
    count: int
    middle: float
    longest: int
    where: str

    def __str__(self) -> str:
        return f"{self.count} {self.what}, median {self.middle:g} lines, longest {self.longest} ({self.where})"


def sizes(what: str, measured: list[tuple[int, str]]) -> Sizes:
    """Summarise lengths, each with its place."""
    longest, where = max(measured, default=(0, "-"))
    return Sizes(what, len(measured), median([size for size, _ in measured] or [0]), longest, where)


def matches(pattern: re.Pattern[str], path: Path) -> list[str]:
    """The places in a text file where a pattern is found."""
    found = text(path) or ""
    return [
        f"{place(path)}:{number}: {line.strip()[:100]}"
        for number, line in enumerate(found.splitlines(), 1)
        if pattern.search(line)
    ]
