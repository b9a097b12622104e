"""What a person changed, as a JSON Patch (RFC 6902): ``add``, ``remove`` and ``replace``, in the order to apply them.

Our own, because a record must tell ``1`` from ``true`` and ``1.0``, which Python's equality does not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from contracts.wire import pointer_of

Path = tuple[str | int, ...]
Operation = dict[str, Any]


def diff(before: Any, after: Any) -> list[Operation]:
    """Return the operations that turn ``before`` into ``after`` (JSON values); empty when they are the same."""
    return list(_changes(before, after, ()))


def _changes(before: Any, after: Any, path: Path) -> Iterator[Operation]:
    if isinstance(before, dict) and isinstance(after, dict):
        yield from _of_objects(before, after, path)
    elif isinstance(before, list) and isinstance(after, list):
        yield from _of_lists(before, after, path)
    elif not _same(before, after):
        yield _operation("replace", path, after)


def _of_objects(before: dict[str, Any], after: dict[str, Any], path: Path) -> Iterator[Operation]:
    for key in sorted(before.keys() | after.keys()):
        if key not in after:
            yield _operation("remove", (*path, key))
        elif key not in before:
            yield _operation("add", (*path, key), after[key])
        else:
            yield from _changes(before[key], after[key], (*path, key))


def _of_lists(before: list[Any], after: list[Any], path: Path) -> Iterator[Operation]:
    """Leave what is equal at both ends; of the rest, pair item with item, then remove or add what is left over."""
    shorter = min(len(before), len(after))
    start = 0
    while start < shorter and _same(before[start], after[start]):
        start += 1
    tail = 0
    while tail < shorter - start and _same(before[-1 - tail], after[-1 - tail]):
        tail += 1
    old, new = before[start : len(before) - tail], after[start : len(after) - tail]
    paired = min(len(old), len(new))
    for place in range(paired):
        yield from _changes(old[place], new[place], (*path, start + place))
    for _ in old[paired:]:
        yield _operation("remove", (*path, start + paired))
    for place, item in enumerate(new[paired:], start + paired):
        yield _operation("add", (*path, place), item)


def _same(one: Any, other: Any) -> bool:
    if type(one) is not type(other):
        return False
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(_same(value, other[key]) for key, value in one.items())
    if isinstance(one, list):
        return len(one) == len(other) and all(map(_same, one, other))
    return bool(one == other)


def _operation(name: str, path: Path, *value: Any) -> Operation:
    made: Operation = {"op": name, "path": pointer_of(path)}
    return made | {"value": value[0]} if value else made
