"""Text templates (minijinja), ours and other people's, within bounds (R6).

A template from outside is hostile input. Fuel bounds its steps but not its memory: ``x ~ x`` in a loop doubles a
string with every step. So such a template may only *show* values: names, indexes, comparisons, ``if``, ``for`` and the
filters below. Nothing in that language makes a value that is larger than what it was given, and what is written out is
counted.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from itertools import pairwise
from typing import Any, Final

from minijinja import Environment, TemplateError

MAX_TEMPLATE: Final = 20_000
MAX_OUTPUT: Final = 1_000_000
FUEL: Final = 50_000
_RAW_BUDGET: Final = 20_000_000
_MAX_FILTERS: Final = 8
_MAX_NESTING: Final = 8

FILTERS: Final = frozenset({
    "abs", "capitalize", "count", "d", "default", "dictsort", "e", "escape", "first", "float", "int", "items", "join",
    "last", "length", "list", "lower", "max", "min", "round", "sort", "title", "tojson", "trim", "unique", "upper",
})  # fmt: skip
STATEMENTS: Final = frozenset({"if", "elif", "else", "endif", "for", "endfor"})
_WORD_OPERATORS: Final = frozenset({"and", "or", "not", "in", "is", "if", "else", "elif", "for"})

_OPENING: Final = re.compile(r"\{([{%#])[-+]?")
_CLOSING: Final = {"{": re.compile(r"[-+]?\}\}"), "%": re.compile(r"[-+]?%\}")}
_TOKEN: Final = re.compile(
    r"""(?P<text>'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")|(?P<name>[^\W\d]\w*)|(?P<number>\d[\d.]*)"""
    r"""|(?P<mark>==|!=|<=|>=|[<>|.,:()\[\]/%-])""",
    re.DOTALL,
)


class TemplateRefused(ValueError):
    """The template cannot be used, or it went over its bounds; the message says why, for people."""


def render(source: str, values: Mapping[str, Any]) -> str:
    """Render a template from outside with ``values``; a name that is not there is an error.

    Raises :class:`TemplateRefused` for a template over 20,000 characters, one that uses more than the language of this
    module, one that is broken, and a result over a million characters.
    """
    longest = check(source)
    fuel = min(FUEL, max(1_000, _RAW_BUDGET // max(longest, 1)))
    return _run(Environment(fuel=fuel, undefined_behavior="strict", pycompat=False), source, values)


def compile_template(source: str) -> None:
    """Raise :class:`TemplateRefused` for a template that :func:`render` would refuse whatever the values are."""
    check(source)
    try:
        Environment().add_template("it", source)
    except TemplateError as error:
        raise TemplateRefused(error.message) from error


def _run(environment: Environment, source: str, values: Mapping[str, Any]) -> str:
    environment.finalizer = _counted()
    environment.add_filter("join", _join)
    try:
        text = environment.render_str(source, **values)
    except TemplateError as error:
        raise TemplateRefused(error.message.replace("in <string>:", "line ")) from error
    if len(text) > MAX_OUTPUT:
        raise _too_long()
    return text


def check(source: str) -> int:
    """Check that ``source`` only shows values; return the length of its longest stretch of plain text.

    Raises :class:`TemplateRefused`.
    """
    if len(source) > MAX_TEMPLATE:
        raise TemplateRefused(f"A template is at most {MAX_TEMPLATE} characters.")
    at = longest = depth = 0
    while (opening := _OPENING.search(source, at)) is not None:
        longest = max(longest, opening.start() - at)
        if opening[1] == "#":
            end = source.find("#}", opening.end())
            at = len(source) if end < 0 else end + 2
            continue
        at, depth = _check_tag(source, opening, depth)
    return max(longest, len(source) - at)


def _check_tag(source: str, opening: re.Match[str], depth: int) -> tuple[int, int]:
    """Check one tag; return where it ends and how deep ``for`` is nested after it."""
    tokens, end = _tokens(source, opening.end(), _CLOSING[opening[1]])
    if opening[1] == "%":
        statement = tokens[0][1] if tokens else ""
        if statement not in STATEMENTS:
            raise TemplateRefused(
                f"There is no statement {statement!r} here; there is {', '.join(sorted(STATEMENTS))}."
            )
        depth += {"for": 1, "endfor": -1}.get(statement, 0)
        if depth > _MAX_NESTING:
            raise TemplateRefused(f"for may be nested {_MAX_NESTING} deep.")
    _check_tokens(tokens)
    return end, depth


def _tokens(source: str, at: int, closing: re.Pattern[str]) -> tuple[list[tuple[str, str]], int]:
    """Read a tag's tokens as (sort, text) up to its closing; return them and where the tag ends."""
    tokens: list[tuple[str, str]] = []
    while True:
        while at < len(source) and source[at].isspace():
            at += 1
        closed = closing.match(source, at)
        if closed is not None:
            return tokens, closed.end()
        token = _TOKEN.match(source, at)
        if token is None:
            raise TemplateRefused(f"Not understood or not allowed here: {source[at : at + 20]!r}.")
        tokens.append((token.lastgroup or "", token[0]))
        at = token.end()


def _check_tokens(tokens: list[tuple[str, str]]) -> None:
    filters = [name for (_, before), (_, name) in pairwise(tokens) if before == "|"]
    unknown = [name for name in filters if name not in FILTERS]
    if unknown:
        raise TemplateRefused(f"There is no filter {unknown[0]!r} here; there is {', '.join(sorted(FILTERS))}.")
    if len(filters) > _MAX_FILTERS or filters.count("tojson") > 1:
        raise TemplateRefused(f"A tag takes {_MAX_FILTERS} filters, tojson once.")
    for index, (_, text) in enumerate(tokens):
        if text == "recursive":
            raise TemplateRefused("for is not recursive here.")
        if text == "(" and _ends_value(tokens, index) and not _is_filter_or_test(tokens, index):
            raise TemplateRefused(f"Nothing can be called: {tokens[index - 1][1]}(…).")
        if text == "[" and not _ends_value(tokens, index):
            raise TemplateRefused("A template makes no lists; pass them in.")


def _ends_value(tokens: list[tuple[str, str]], index: int) -> bool:
    """Say whether the token before ``index`` ends a value, so that a bracket belongs to it."""
    if index == 0:
        return False
    sort, text = tokens[index - 1]
    return text in (")", "]") or sort in ("text", "number") or (sort == "name" and text not in _WORD_OPERATORS)


def _is_filter_or_test(tokens: list[tuple[str, str]], index: int) -> bool:
    before = [text for _, text in tokens[max(0, index - 3) : index - 1]]
    return before[-1:] in (["|"], ["is"]) or before[-2:] == ["is", "not"]


def _counted() -> Callable[[Any], Any]:
    """Return a finalizer that refuses to write more than ``MAX_OUTPUT`` characters; null is shown as nothing."""
    written = 0

    def show(value: Any) -> Any:
        nonlocal written
        if value is None:
            return ""
        written += len(value) if isinstance(value, str) else len(str(value))
        if written > MAX_OUTPUT:
            raise _too_long()
        return value

    return show


def _join(items: Any, between: str = "") -> str:
    parts = [str(item) for item in items]
    if sum(map(len, parts)) + len(between) * len(parts) > MAX_OUTPUT:
        raise _too_long()
    return between.join(parts)


def _too_long() -> TemplateRefused:
    return TemplateRefused(f"The text would be longer than {MAX_OUTPUT} characters.")
