"""Fit(P→S): whether the types prove that what is produced satisfies what is asked (wire §6).

``fits`` is a proof, ``clash`` a disproof, ``may`` everything between, with the pointers into S that nothing proves.
Three adapters may be needed on the way: rename keys that are one name by norm, drop keys that S forbids, wrap one item
as a list.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

import orjson

from contracts.plan import Adapter
from contracts.wire import pointer_of
from planner.schemas import Schema, follow, is_annotation, properties, required, says_nothing
from planner.words import norm

Verdict = Literal["fits", "may", "clash"]
_TYPES: Final = frozenset({"null", "boolean", "object", "array", "number", "string", "integer"})
_HANDLED: Final = frozenset(
    {"type", "enum", "const", "properties", "required", "additionalProperties", "items", "minItems", "maxItems", "$ref"}
)
_DEEPEST: Final = 24
_MOST_STEPS: Final = 5_000
"""Where schemas refer to themselves, comparing stops here and the rest is unproved."""


@dataclass(frozen=True, slots=True)
class Fit:
    """The verdict, the pointers into S that are unproved (or, for a clash, where it is), and the adapters needed."""

    verdict: Verdict
    unproved: tuple[str, ...] = ()
    adapters: tuple[Adapter, ...] = ()

    @property
    def wraps(self) -> bool:
        """Say whether the whole value must be wrapped as a list."""
        return any(adapter.op == "wrap" and not adapter.at for adapter in self.adapters)


def fit(produced: Schema, asked: Schema, asked_root: Schema = None) -> Fit:
    """Compare what a producer's schema promises with what ``asked`` (a part of ``asked_root``) demands."""
    work = _Work(produced, asked if asked_root is None else asked_root)
    try:
        work.compare(produced, asked, "", "")
    except _Clash as clash:
        return Fit("clash", (clash.at,))
    unproved = tuple(dict.fromkeys(work.unproved))
    return Fit("may" if unproved else "fits", unproved, tuple(work.adapters))


class _Clash(Exception):
    def __init__(self, at: str) -> None:
        self.at = at
        super().__init__(at)


@dataclass(slots=True)
class _Work:
    produced_root: Schema
    asked_root: Schema
    unproved: list[str] = field(default_factory=list)
    adapters: list[Adapter] = field(default_factory=list)
    depth: int = 0
    steps: int = 0

    def compare(self, produced: Schema, asked: Schema, at: str, place: str) -> None:
        """Compare one level; ``at`` points into S, ``place`` into the value (``*`` is every item)."""
        asked, produced = follow(asked, self.asked_root), follow(produced, self.produced_root)
        if says_nothing(asked):
            return
        if asked is False:
            raise _Clash(at)
        self.steps += 1
        if (
            not isinstance(produced, Mapping)
            or says_nothing(produced)
            or self.depth > _DEEPEST
            or self.steps > _MOST_STEPS
        ):
            self.unproved.append(at)
            return
        self.depth += 1
        self._compare(produced, asked, at, place)
        self.depth -= 1

    def _compare(self, produced: Mapping[str, Any], asked: Mapping[str, Any], at: str, place: str) -> None:
        has, wants = _types(produced), _types(asked)
        if has is not None and wants is not None and not _meet(has, wants):
            if "array" in wants and "array" not in has:
                self._wrap(produced, asked, at, place)
                return
            raise _Clash(f"{at}/type" if "type" in asked else at)
        if wants is not None and (has is None or not _within(has, wants)):
            self.unproved.append(f"{at}/type" if "type" in asked else at)
        self._enums(produced, asked, at)
        if has is None or "object" in has:
            self._object(produced, asked, at, place)
        if has is None or "array" in has:
            self._array(produced, asked, at, place)
        for keyword, value in asked.items():
            handled = keyword in _HANDLED and (keyword != "$ref")
            if not handled and not is_annotation(keyword) and not _same(produced.get(keyword), value):
                self.unproved.append(f"{at}/{keyword}")

    def _wrap(self, produced: Mapping[str, Any], asked: Mapping[str, Any], at: str, place: str) -> None:
        self._count((1, 1), asked, at)
        self.compare(produced, asked.get("items", True), f"{at}/items", place)
        self.adapters.append(Adapter(op="wrap", at=place))

    def _enums(self, produced: Mapping[str, Any], asked: Mapping[str, Any], at: str) -> None:
        has, wants = _values(produced), _values(asked)
        if wants is None:
            return
        keyword = "const" if "const" in asked else "enum"
        if has is None:
            self.unproved.append(f"{at}/{keyword}")
        elif not has & wants:
            raise _Clash(f"{at}/{keyword}")
        elif not has <= wants:
            self.unproved.append(f"{at}/{keyword}")

    def _object(self, produced: Mapping[str, Any], asked: Mapping[str, Any], at: str, place: str) -> None:
        wants, listed = properties(asked), bool(properties(produced))
        has = {**dict.fromkeys(required(produced), True), **properties(produced)}
        if not ({"properties", "required", "additionalProperties"} & asked.keys()):
            return
        pairs = _paired(has, [*wants, *required(asked)])
        for name in required(asked):
            if name not in pairs and listed:
                raise _Clash(f"{at}/required")
            if name not in pairs or pairs[name] not in required(produced):
                self.unproved.append(f"{at}/required")
        for name, schema in wants.items():
            if name in pairs:
                below = place + pointer_of([pairs[name]])
                self.compare(has[pairs[name]], schema, at + pointer_of(["properties", name]), below)
            elif not listed:
                self.compare(True, schema, at + pointer_of(["properties", name]), place)
        self._keys(produced, asked, pairs, at, place)

    def _keys(
        self, produced: Mapping[str, Any], asked: Mapping[str, Any], pairs: Mapping[str, str], at: str, place: str
    ) -> None:
        """Note the renames, and drop what S forbids."""
        names = {own: name for name, own in pairs.items() if own != name}
        if names:
            self.adapters.append(Adapter(op="rename", at=place, names=names))
        rest = asked.get("additionalProperties", True)
        closed = produced.get("additionalProperties") is False and "patternProperties" not in produced
        extras = properties(produced).keys() - set(pairs.values())
        if rest is False and "patternProperties" not in asked:
            if extras or not closed:
                self.adapters.append(Adapter(op="keep", at=place, keys=sorted(properties(asked))))
            return
        equal = _same(produced.get("additionalProperties"), rest)
        if not says_nothing(rest) and (extras or not closed) and not equal:
            self.unproved.append(f"{at}/additionalProperties")

    def _array(self, produced: Mapping[str, Any], asked: Mapping[str, Any], at: str, place: str) -> None:
        if "items" in asked:
            self.compare(produced.get("items", True), asked["items"], f"{at}/items", f"{place}/*")
        if "minItems" in asked or "maxItems" in asked:
            self._count((_number(produced.get("minItems"), 0), _number(produced.get("maxItems"), None)), asked, at)

    def _count(self, has: tuple[int | None, int | None], asked: Mapping[str, Any], at: str) -> None:
        least, most = has[0] or 0, has[1]
        low, high = _number(asked.get("minItems"), 0) or 0, _number(asked.get("maxItems"), None)
        if (most is not None and most < low) or (high is not None and least > high):
            raise _Clash(f"{at}/minItems" if most is not None and most < low else f"{at}/maxItems")
        if least < low:
            self.unproved.append(f"{at}/minItems")
        if high is not None and (most is None or most > high):
            self.unproved.append(f"{at}/maxItems")


def _types(schema: Mapping[str, Any]) -> frozenset[str] | None:
    kind = schema.get("type")
    if isinstance(kind, str):
        return frozenset({kind})
    if isinstance(kind, list):
        return frozenset(kind) & _TYPES
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return frozenset(_type_of(value) for value in values) if isinstance(values, list) else None


def _type_of(value: Any) -> str:
    kinds: tuple[tuple[type, str], ...] = ((bool, "boolean"), (int, "integer"), (float, "number"), (str, "string"))
    for kind, name in (*kinds, (list, "array"), (dict, "object")):
        if isinstance(value, kind):
            return name
    return "null"


def _meet(has: frozenset[str], wants: frozenset[str]) -> bool:
    return bool(has & wants) or _numeric(has, wants)


def _numeric(has: frozenset[str], wants: frozenset[str]) -> bool:
    return bool({"integer", "number"} & has) and bool({"integer", "number"} & wants)


def _wide(kinds: frozenset[str]) -> frozenset[str]:
    return kinds | {"integer"} if "number" in kinds else kinds


def _within(has: frozenset[str], wants: frozenset[str]) -> bool:
    return has <= _wide(wants)


def _values(schema: Mapping[str, Any]) -> frozenset[bytes] | None:
    values = [schema["const"]] if "const" in schema else schema.get("enum")
    return frozenset(_canonical(value) for value in values) if isinstance(values, list) else None


def _canonical(value: Any) -> bytes:
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def _same(one: Any, other: Any) -> bool:
    return one is not None and _canonical(one) == _canonical(other)


def _number(value: Any, default: int | None) -> int | None:
    return int(value) if isinstance(value, int | float) and not isinstance(value, bool) else default


def _paired(has: Mapping[str, Any], wants: Iterable[str]) -> dict[str, str]:
    """Return S's names paired with P's: the same spelling first, then the same name by norm, each key once."""
    names = list(dict.fromkeys(wants))
    pairs = {name: name for name in names if name in has}
    free = {norm(key): key for key in reversed(list(has)) if key not in pairs}
    for name in names:
        if name not in pairs and norm(name) in free:
            pairs[name] = free.pop(norm(name))
    return pairs
