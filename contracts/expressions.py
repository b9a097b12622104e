"""Conditions (CEL) and transforms (JSONata): compiled when a plan is checked, evaluated when it runs (F6, W5).

A condition sees ``nodes`` (node id → output) and ``inputs`` (the envelope's); one of a runtime rule also sees
``facets`` (facet → the output that is it). A transform sees one JSON value. All are pure: they reach no file, no
network and no other value. Compiled expressions are cached and may be shared between threads.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from threading import Lock
from typing import Any, Final

from cel_expr_python import cel  # type: ignore[import-untyped]  # it ships no types
from jsonata import Jsonata, Utils
from jsonata.jexception import JException

TRANSFORM_MS: Final = 1_000
"""How long one transform may take, in milliseconds."""
TRANSFORM_DEPTH: Final = 80
"""How deep a transform may nest its calls; each level costs about eight Python frames."""
MAX_TEXT: Final = 10_000
"""How long the text of an expression may be."""

_OBJECT: Final = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
_ENVIRONMENT: Final = cel.NewEnv(variables=dict.fromkeys(("nodes", "inputs"), _OBJECT))
_OF_RULES: Final = cel.NewEnv(variables=dict.fromkeys(("nodes", "inputs", "facets"), _OBJECT))
_PLACE: Final = re.compile(r"<input>:(\d+):(\d+): (?P<what>.*)")
_JSONATA_ERRORS: Final = (
    JException,
    RecursionError,
    TypeError,
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
)


class ExpressionRefused(Exception):
    """The expression does not compile; ``column`` is 1-based, None when there is no place."""

    def __init__(self, message: str, column: int | None = None) -> None:
        """Keep the sentence and the place."""
        self.message, self.column = message, column
        super().__init__(message if column is None else f"{message} (column {column})")


class ExpressionFailed(ExpressionRefused):
    """The expression compiles, and gave no usable value for these values."""


@dataclass(frozen=True, slots=True)
class CompiledCondition:
    """A CEL expression that says yes or no; ``names`` are the node ids that its text mentions."""

    text: str
    names: frozenset[str]
    _program: cel.Expression = field(repr=False, compare=False)

    def holds(self, nodes: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
        """Evaluate; raises :class:`ExpressionFailed` when a value is missing, has the wrong type, or is no boolean."""
        return _truth(self._program, {"nodes": nodes, "inputs": inputs})


@dataclass(frozen=True, slots=True)
class CompiledRule:
    """The condition of a runtime rule; ``nodes`` and ``facets`` are the names it mentions, None when any could be."""

    text: str
    nodes: frozenset[str] | None
    facets: frozenset[str] | None
    _program: cel.Expression = field(repr=False, compare=False)

    def holds(self, nodes: Mapping[str, Any], facets: Mapping[str, Any], inputs: Mapping[str, Any]) -> bool:
        """Evaluate; raises :class:`ExpressionFailed` as a condition of a plan does."""
        return _truth(self._program, {"nodes": nodes, "facets": facets, "inputs": inputs})


def _truth(program: cel.Expression, data: Mapping[str, Any]) -> bool:
    try:
        result = program.eval(data=data)
        value = result.plain_value()
    except (RuntimeError, TypeError, ValueError) as error:
        raise ExpressionFailed(f"The condition cannot be evaluated: {_first_line(error)}") from error
    if not isinstance(value, bool):
        said = f" ({value})" if result.type() == cel.Type.ERROR else ""
        raise ExpressionFailed(f"The condition gave {result.type().name().lower()}, not true or false{said}.")
    return value


def compile_cel(text: str) -> CompiledCondition:
    """Compile a condition; raises :class:`ExpressionRefused` with the column of the first fault."""
    _bounded(text)
    return _cel(text)


@lru_cache(maxsize=2_048)
def _cel(text: str) -> CompiledCondition:
    program = _compiled(_ENVIRONMENT, text)
    return CompiledCondition(text, frozenset(name for name, _, _ in _node_names(text)), program)


def compile_rule(text: str) -> CompiledRule:
    """Compile the condition of a runtime rule; raises :class:`ExpressionRefused` with the column of the first fault."""
    _bounded(text)
    return _rule(text)


@lru_cache(maxsize=2_048)
def _rule(text: str) -> CompiledRule:
    return CompiledRule(text, _mentioned(text, "nodes"), _mentioned(text, "facets"), _compiled(_OF_RULES, text))


def _compiled(environment: cel.Env, text: str) -> cel.Expression:
    try:
        program = environment.compile(text)
    except (RuntimeError, TypeError, ValueError) as error:
        raise _cel_refusal(str(error)) from error
    kind = program.return_type()
    if kind not in (cel.Type.BOOL, cel.Type.DYN):
        raise ExpressionRefused(f"A condition says true or false; this one gives {kind.name().lower()}.", 1)
    return program


def _cel_refusal(message: str) -> ExpressionRefused:
    place = _PLACE.search(message)
    if place is None:
        return ExpressionRefused(message.splitlines()[0])
    return ExpressionRefused(place["what"], int(place[2]))


_TOKEN: Final = re.compile(
    r"""(?P<string>[rRbB]{0,2}(?:'{3}.*?'{3}|"{3}.*?"{3}|'(?:[^'\\\n]|\\.)*'|"(?:[^"\\\n]|\\.)*"))"""
    r"|(?P<name>[A-Za-z_]\w*)|(?P<number>\d[\w.]*)|(?P<space>\s+|//[^\n]*)|(?P<sign>.)",
    re.DOTALL,
)


def _mentioned(text: str, root: str) -> frozenset[str] | None:
    """Return the members of ``root`` that the text names; None when one of its mentions names none."""
    tokens = [match for match in _TOKEN.finditer(text) if match.lastgroup != "space"]
    mentions = sum(
        token.group() == root and token.lastgroup == "name" and (place == 0 or tokens[place - 1].group() != ".")
        for place, token in enumerate(tokens)
    )
    names = [name for name, _, _ in _node_names(text, root)]
    return frozenset(names) if len(names) == mentions else None


def _node_names(text: str, root: str = "nodes") -> Iterator[tuple[str, int, int]]:
    """Find ``nodes.name`` and ``nodes["name"]``; yield the name and the span from its dot or bracket to its end."""
    tokens = [match for match in _TOKEN.finditer(text) if match.lastgroup != "space"]
    for place, token in enumerate(tokens[:-2]):
        before = tokens[place - 1].group() if place else ""
        if token.group() != root or token.lastgroup != "name" or before == ".":
            continue
        sign, name = tokens[place + 1], tokens[place + 2]
        if sign.group() == "." and name.lastgroup == "name":
            yield name.group(), sign.start(), name.end()
        elif sign.group() == "[" and name.lastgroup == "string" and len(tokens) > place + 3:
            yield name.group().lstrip("rRbB").strip("'\""), sign.start(), tokens[place + 3].end()


def rename_node(text: str, old: str, new: str) -> str:
    """Return the condition with every mention of the node ``old`` turned to ``new``."""
    parts, end = [], 0
    for name, start, stop in _node_names(text):
        if name == old:
            parts += [text[end:start], f'["{new}"]']
            end = stop
    return "".join([*parts, text[end:]])


@dataclass(frozen=True, slots=True)
class CompiledTransform:
    """A JSONata expression over one JSON value."""

    text: str
    _program: Jsonata = field(repr=False, compare=False)
    _lock: Lock = field(default_factory=Lock, repr=False, compare=False)

    def apply(self, value: Any) -> Any:
        """Return the result as plain JSON that shares nothing with ``value``.

        Raises :class:`ExpressionFailed` on a fault of the expression, after ``TRANSFORM_MS``, past
        ``TRANSFORM_DEPTH``, or when the result is no JSON value.
        """
        try:
            with self._lock:  # the program keeps its environment while it evaluates
                return _plain(self._program.evaluate(value, self._frame()))
        except _JSONATA_ERRORS as error:
            raise ExpressionFailed(f"The transform failed: {_first_line(error)}") from error

    def _frame(self) -> Any:
        frame = self._program.create_frame()
        frame.set_runtime_bounds(TRANSFORM_MS, TRANSFORM_DEPTH)
        # What comes from input is never executed (R6).
        frame.bind("eval", None)
        return frame


def compile_jsonata(text: str) -> CompiledTransform:
    """Compile a transform; raises :class:`ExpressionRefused` with the column of the first fault."""
    _bounded(text)
    return _jsonata(text)


@lru_cache(maxsize=2_048)
def _jsonata(text: str) -> CompiledTransform:
    try:
        return CompiledTransform(text, Jsonata(text))
    except JException as error:
        place = error.location
        raise ExpressionRefused(str(error), place + 1 if isinstance(place, int) and place >= 0 else None) from error
    except _JSONATA_ERRORS as error:
        raise ExpressionRefused(f"The transform cannot be read: {_first_line(error)}") from error


def _bounded(text: str) -> None:
    if len(text) > MAX_TEXT:
        message = f"An expression has at most {MAX_TEXT:,} characters; this one has {len(text):,}."
        raise ExpressionRefused(message, MAX_TEXT + 1)
    if not text.strip():
        raise ExpressionRefused("The expression is empty.", 1)


def _plain(value: Any) -> Any:
    """Copy a result into plain JSON types; the library's own list types do not leave this module."""
    if value is None or isinstance(value, bool | str | int):
        return value
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError("the result holds a number that JSON cannot write")
        return value
    if isinstance(value, Utils.RangeList):
        return [_plain(value[place]) for place in range(len(value))]
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    raise TypeError(f"the result holds a {type(value).__name__}, which is no JSON value")


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
