"""Verifying an exported file of audit records without any database (H9)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Any, Final

import orjson

from hitl.chain import MEMBERS, RADIUS, START, Broken, Item, digest, explain, follows, line_of
from service.verifying import Verdict, unseen
from store.audit import Mark

_LINE: Final = frozenset({*MEMBERS, "previous", "hash"})


class _BadLine(Exception):
    """A line is not as it was exported."""


def verify_lines(lines: Iterable[bytes], from_seq: int | None = None, see: Callable[[str], None] = unseen) -> Verdict:
    """Verify a whole export by its lines, byte for byte and in order.

    A file that begins in the middle of a chain (the rest was pruned) is taken to begin rightly. ``see`` is told every
    hash that held; ``head`` of the verdict is the last record that did.
    """
    items, start, mark, checked = _items(lines, from_seq or 0), START, START, 0
    try:
        for item in items:
            if not checked and item["seq"] > 1:
                start = mark = Mark(item["seq"] - 1, item["previous"])
            if not follows(mark, item):
                window = [item, *_readable(islice(items, RADIUS))]
                return Verdict(checked, mark, explain(mark, window, trusted=mark == start))
            mark, checked = Mark(item["seq"], item["hash"]), checked + 1
            see(mark.hash)
    except _BadLine as error:
        return Verdict(checked, mark, Broken(mark.seq + 1, "changed", str(error)))
    return Verdict(checked, mark if checked else None, None)


def verify_excerpt(lines: Iterable[bytes], see: Callable[[str], None] = unseen) -> Verdict:
    """Verify an export of chosen records (one run, one kind …): each by itself, and that they are in order.

    Whether one is missing cannot be told from an excerpt.
    """
    mark, checked = START, 0
    try:
        for item in _items(lines, 0):
            if item["seq"] <= mark.seq:
                message = f"Record {item['seq']} stands behind record {mark.seq}."
                return Verdict(checked, mark, Broken(item["seq"], "reordered", message, item["record_id"]))
            if item["hash"] != digest(item):
                message = f"Record {item['seq']} is not what was sealed."
                return Verdict(checked, mark, Broken(item["seq"], "changed", message, item["record_id"]))
            mark, checked = Mark(item["seq"], item["hash"]), checked + 1
            see(mark.hash)
    except _BadLine as error:
        return Verdict(checked, mark, Broken(mark.seq + 1, "changed", str(error)))
    return Verdict(checked, mark if checked else None, None)


def _items(lines: Iterable[bytes], from_seq: int) -> Iterator[Item]:
    for number, line in enumerate(lines, 1):
        item = _read(line.removesuffix(b"\n"), number)
        if item["seq"] >= from_seq:
            yield item


def _readable(items: Iterator[Item]) -> Iterator[Item]:
    """Yield what can be read of the items that follow a broken one."""
    try:
        yield from items
    except _BadLine:
        return


def _read(line: bytes, number: int) -> Item:
    try:
        item: Any = orjson.loads(line)
    except orjson.JSONDecodeError as error:
        raise _BadLine(f"Line {number} is not JSON.") from error
    if not isinstance(item, dict) or item.keys() != _LINE or not isinstance(item["seq"], int) or item["seq"] < 1:
        raise _BadLine(f"Line {number} is no audit record.")
    if line_of(item) != line:
        raise _BadLine(f"Line {number} is not written as it was exported.")
    return item
