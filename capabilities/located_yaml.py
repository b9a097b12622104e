"""YAML as a JSON value that remembers the line of everything in it (R2).

Only what JSON has is taken: no dates, no tags, no references to other parts of the text, no key twice.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import yaml

from contracts.wire import pointer_of

MAX_NODES: Final = 20_000
MAX_DEPTH: Final = 64
_TAG: Final = "tag:yaml.org,2002:"
_PLAIN: Final = frozenset(_TAG + name for name in ("null", "bool", "int", "float", "str", "seq", "map"))


class YamlFault(Exception):
    """A text cannot be read; ``line`` is 1-based in the file it is of."""

    def __init__(self, line: int, message: str) -> None:
        """Keep both."""
        self.line, self.message = line, message
        super().__init__(f"line {line}: {message}")


@dataclass(frozen=True, slots=True)
class Located:
    """A JSON value, and the line of every key and item by JSON pointer."""

    value: Any
    lines: Mapping[str, int]

    def line_of(self, pointer: str) -> int:
        """Return the line of a place, or of the nearest one around it that is there."""
        while pointer not in self.lines and pointer:
            pointer = pointer.rpartition("/")[0]
        return self.lines.get(pointer, 1)


class _Loader(yaml.SafeLoader):
    """Knows the words of JSON and no others."""

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse references: a few lines of them can stand for gigabytes."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # its stubs leave it untyped
            raise yaml.MarkedYAMLError(problem="references (*name) are not taken; write it out", problem_mark=mark)
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag in _PLAIN - {f"{_TAG}bool"}]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_Loader.add_implicit_resolver(f"{_TAG}bool", re.compile("true|True|TRUE|false|False|FALSE"), list("tTfF"))


def read_yaml(text: str, first_line: int = 1) -> Located:
    """Return what a text stands for; ``first_line`` is the line of its file that it begins at.

    Raises :class:`YamlFault`.
    """
    loader = _Loader(text)
    try:
        if loader.check_event(yaml.StreamEndEvent):
            return Located(None, {"": first_line})
        node = loader.get_single_node()
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        said = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise YamlFault(first_line + (0 if mark is None else mark.line), f"This cannot be read: {said}.") from error
    except (ValueError, RecursionError) as error:
        raise YamlFault(first_line, f"This cannot be read: {type(error).__name__}.") from error
    finally:
        loader.dispose()
    reader = _Reader(loader, first_line)
    return Located(None if node is None else reader.read(node, ()), reader.lines)


class _Reader:
    """Turns YAML's nodes into a value and notes where each stood."""

    def __init__(self, loader: _Loader, first_line: int) -> None:
        self._loader, self._first = loader, first_line
        self.lines: dict[str, int] = {"": first_line}
        self._seen = 0

    def read(self, node: yaml.Node, path: tuple[str | int, ...]) -> Any:
        line = self._line(node)
        self._seen += 1
        if self._seen > MAX_NODES or len(path) > MAX_DEPTH:
            raise YamlFault(line, f"Over {MAX_NODES:,} values, or over {MAX_DEPTH} levels deep.")
        if node.tag not in _PLAIN:
            raise YamlFault(line, f"{node.tag} is nothing that JSON has.")
        self.lines.setdefault(pointer_of(path), line)
        if isinstance(node, yaml.MappingNode):
            return self._mapping(node, path)
        if isinstance(node, yaml.SequenceNode):
            return [self.read(item, (*path, place)) for place, item in enumerate(node.value)]
        return self._scalar(node, line)

    def _mapping(self, node: yaml.MappingNode, path: tuple[str | int, ...]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in node.value:
            line = self._line(key)
            if key.tag != f"{_TAG}str":
                raise YamlFault(line, "A key must be a text; quote it.")
            if key.value in found:
                raise YamlFault(line, f"The key {key.value} stands here twice.")
            self.lines[pointer_of((*path, key.value))] = line
            found[key.value] = self.read(value, (*path, key.value))
        return found

    def _scalar(self, node: yaml.Node, line: int) -> Any:
        try:
            value = self._loader.construct_object(node)
        except (yaml.YAMLError, ValueError) as error:
            raise YamlFault(line, f"This value cannot be read: {error}.") from error
        if isinstance(value, float) and not math.isfinite(value):
            raise YamlFault(line, "NaN and infinities are not taken.")
        return value

    def _line(self, node: yaml.Node) -> int:
        mark = node.start_mark
        return self._first + (0 if mark is None else mark.line)
