"""Flow documents as text: JSON and YAML, every key kept, nothing but JSON values taken (W2)."""

from __future__ import annotations

import re
from typing import Any, Final

import yaml

from contracts.errors import ErrorItem, FlowInvalid

MAX_NODES: Final = 100_000
"""YAML nodes of one document."""
_PLAIN: Final = frozenset(f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map"))


class _JsonLoader(yaml.SafeLoader):
    """Reads only what JSON has: no dates, no binary, no references to other parts of the text."""

    seen = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        """Refuse references: a few lines of them can stand for gigabytes."""
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]  # its stubs leave it untyped
            raise _refused("yaml_alias", "References (*name) are not taken; write it out.", mark)
        self.seen += 1
        if self.seen > MAX_NODES:
            raise _refused("too_large", f"The text has over {MAX_NODES:,} values.", None)
        node = super().compose_node(parent, index)
        if node is not None and node.tag not in _PLAIN:
            raise _refused("yaml_tag", f"{node.tag} is nothing that JSON has.", node.start_mark)
        return node


_BOOL: Final = "tag:yaml.org,2002:bool"
# A date stays the text that it is, and so does `on`: of words only true and false are no text (YAML 1.2, core schema).
_JsonLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag in _PLAIN - {_BOOL}]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
_JsonLoader.add_implicit_resolver(_BOOL, re.compile("true|True|TRUE|false|False|FALSE"), list("tTfF"))


class _Dumper(yaml.SafeDumper):
    """Writes text that holds other kinds of line breaks with escapes, so that it comes back as it was."""

    def text(self, value: str) -> yaml.ScalarNode:
        """Represent a text."""
        style = '"' if _BREAKS & set(value) else None
        return self.represent_scalar("tag:yaml.org,2002:str", value, style=style)


_BREAKS: Final = frozenset("\r\x85\u2028\u2029\ufeff")
_Dumper.add_representer(str, _Dumper.text)


def from_yaml(text: str) -> Any:
    """Return the JSON value that a YAML text stands for; raise ``FlowInvalid`` with the line of what is wrong."""
    try:
        value = yaml.load(text, Loader=_JsonLoader)  # noqa: S506  # the loader is a SafeLoader with less
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        raise _refused("bad_yaml", str(getattr(error, "problem", None) or error), mark) from error
    return _json(value)


def to_yaml(document: Any) -> str:
    """Return a document as YAML, its keys in the order in which they were written."""
    return str(yaml.dump(document, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=100))


def _refused(code: str, message: str, mark: yaml.Mark | None) -> FlowInvalid:
    where = "" if mark is None else f" (line {mark.line + 1}, column {mark.column + 1})"
    return FlowInvalid(errors=[ErrorItem("", code, f"{message.rstrip('.')}{where}.")])


def _json(value: Any) -> Any:
    """Return the value with text as keys; whatever JSON has no word for is refused."""
    if isinstance(value, dict):
        for key in value:
            if not isinstance(key, str):
                raise FlowInvalid(errors=[ErrorItem("", "yaml_key", f"The key {key!r} is no text; quote it.")])
        return {key: _json(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_json(item) for item in value]
    if isinstance(value, float) and (value != value or value in (float("inf"), float("-inf"))):  # NaN
        raise FlowInvalid(errors=[ErrorItem("", "bad_number", "NaN and infinities are not taken.")])
    return value
