"""The chain of a tenant's audit records (H9): pure functions, no database.

Each record carries the hash of the one before it:
``hash = SHA-256(previous hash as 64 hex characters ‖ canonical record)``. The canonical record is the JSON object of
:data:`MEMBERS`, its keys sorted, without spaces, UTF-8. So a change anywhere shows at that place or at the next one,
and the hash of the last record, kept elsewhere, vouches for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final, Literal

import orjson

from contracts.clock import rfc3339
from store.audit import Mark, SealedRow, canonical_body

GENESIS: Final = "0" * 64
START: Final = Mark(0, GENESIS)
MEMBERS: Final = ("actor", "at", "body", "kind", "prompt_id", "record_id", "run_id", "seq", "tenant")
RADIUS: Final = 200
"""How far from its place a record is looked for, to tell what happened to it."""

Item = dict[str, Any]
"""A record on the wire: :data:`MEMBERS`, ``previous`` and ``hash``; ``at`` is RFC 3339, ``body`` an object."""
Problem = Literal["changed", "missing", "reordered", "inserted"]


@dataclass(frozen=True, slots=True)
class Broken:
    """The first place where a chain is not what was sealed. ``record_id`` is null where there is no record."""

    seq: int
    problem: Problem
    message: str
    record_id: str | None = None


def item_of(row: SealedRow) -> Item:
    """Return a record as it goes over the wire and into exports; whatever was done to its columns, it is shown."""
    return {
        "record_id": row.record_id,
        "tenant": row.tenant,
        "at": _when(row.at),
        "kind": row.kind,
        "actor": row.actor,
        "run_id": row.run_id,
        "prompt_id": row.prompt_id,
        "body": _body(row.body_json),
        "seq": row.seq,
        "previous": row.previous,
        "hash": row.hash,
    }


def line_of(item: Item) -> bytes:
    """Return a record as a line of an export, without the line's end."""
    return orjson.dumps(item, option=orjson.OPT_SORT_KEYS)


def digest(item: Item, seq: int | None = None) -> str:
    """Return the hash that a record should have, at its own place or at ``seq``."""
    content = {name: item.get(name) for name in MEMBERS}
    if seq is not None:
        content["seq"] = seq
    return sha256(str(item.get("previous")).encode() + orjson.dumps(content, option=orjson.OPT_SORT_KEYS)).hexdigest()


def sealed(row: SealedRow, head: Mark) -> SealedRow:
    """Return the record as the next one of a chain that ends at ``head``."""
    placed = replace(row, body_json=_readable(row.body_json), seq=head.seq + 1, previous=head.hash)
    placed.hash = digest(item_of(placed))
    return placed


def follows(mark: Mark, item: Item) -> bool:
    """Say whether a record is the next one, untouched."""
    return bool(item["seq"] == mark.seq + 1 and item["previous"] == mark.hash and item["hash"] == digest(item))


def walk(mark: Mark, items: Sequence[Item], see: Callable[[str], None]) -> tuple[Mark, int | None]:
    """Go on from ``mark``; return how far it held, and the index of the first item that did not follow (or None).

    ``see`` is told every hash that held.
    """
    for index, item in enumerate(items):
        if not follows(mark, item):
            return mark, index
        mark = Mark(item["seq"], item["hash"])
        see(mark.hash)
    return mark, None


def explain(mark: Mark, window: Sequence[Item], *, trusted: bool = False) -> Broken:
    """Say what is wrong behind ``mark``; ``window`` is what is there: the item that did not follow and some after it.

    ``trusted``: the mark is a checkpoint or the chain's beginning, no record that could have been rewritten itself.
    """
    place, first = mark.seq + 1, window[0]
    found, seq = first.get("record_id"), first["seq"]
    late = any(_belongs(item, place) for item in window[1:RADIUS])
    if not isinstance(seq, int):
        return Broken(place, "changed", f"Record {place} has no number.", found)
    if seq < place:
        return Broken(place, "inserted", f"Record {seq} is there twice, or behind a later one.", found)
    if seq > place:
        if late:
            return Broken(place, "reordered", f"Record {place} stands behind record {seq}.", found)
        return Broken(place, "missing", f"{_records(place, seq - 1)} missing.")
    home = _home(first, place)
    if home is None or home == place:
        return _unlinked(mark, window, home, trusted=trusted)
    if home < place:
        return Broken(home, "inserted", f"{_records(home, place - 1)} inserted before the record sealed as {home}.")
    if late:
        return Broken(place, "reordered", f"The record sealed as {home} stands at {place}.", found)
    return Broken(place, "missing", f"{_records(place, home - 1)} missing: the one sealed as {home} took the place.")


def _unlinked(mark: Mark, window: Sequence[Item], home: int | None, *, trusted: bool) -> Broken:
    """Say what is wrong with a record that is where it says, but not what was sealed there."""
    place, first = mark.seq + 1, window[0]
    after = window[1] if len(window) > 1 else None
    if after is not None and after["previous"] == mark.hash and _belongs(after, place):
        return Broken(place, "inserted", f"Record {place} was inserted.", first.get("record_id"))
    if home is None:
        return Broken(place, "changed", f"Record {place} is not what was sealed.", first.get("record_id"))
    if trusted:
        message = f"Record {place} was sealed behind another beginning of the chain."
        return Broken(place, "changed", message, first.get("record_id"))
    return Broken(mark.seq, "changed", f"Record {mark.seq} was rewritten: record {place} follows another one.")


def _belongs(item: Item, place: int) -> bool:
    return bool(item["hash"] == digest(item, place))


def _home(item: Item, place: int) -> int | None:
    """Return the number that the record was sealed with, if it is near."""
    near = (place, *(each for far in range(1, RADIUS + 1) for each in (place + far, place - far) if each > 0))
    return next((each for each in near if _belongs(item, each)), None)


def _records(first: int, last: int) -> str:
    return f"Record {first} is" if first == last else f"Records {first} to {last} are"


def _when(at: Any) -> str:
    try:
        return rfc3339(at) if isinstance(at, int) else str(at)
    except (ValueError, OverflowError, OSError):
        return f"{at} ms"


def _body(body_json: str) -> Any:
    """Return the body as an object; one that is not as it was stored is shown as the text that it is."""
    text = _canonical(body_json)
    return orjson.loads(text) if text is not None and text == body_json else str(body_json)


def _readable(body_json: str) -> str:
    """Return a body that can be sealed: one that somebody put there by hand must not stop the chain."""
    text = _canonical(body_json)
    return orjson.dumps({"unreadable": body_json}).decode() if text is None else text


def _canonical(body_json: str) -> str | None:
    """Return a body in its one spelling; None when it is no object, or nested deeper than a record can be written."""
    try:
        text = canonical_body(body_json)
        # As deep as a page of records nests it.
        orjson.dumps({"items": [{"body": orjson.loads(text)}]})
    except (ValueError, TypeError):
        return None
    return text
