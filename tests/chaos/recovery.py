"""How long runs stood still: from a fault to the first frame that was committed afterwards, read from the history."""

import math
from bisect import bisect_right
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.history import History, RunWrite

ACTIVE = ("queued", "planning", "running")


@dataclass(frozen=True)
class Mark:
    """A fault began: at this wall time (ms), for the runs of this process, or for everybody's without one.

    ``elsewhere``: they go on only under another owner.
    """

    at: float
    process: str | None = None
    elsewhere: bool = False


def recoveries(history: History, marks: Sequence[Mark]) -> list[float]:
    """Return, per run that a fault found under way, the milliseconds until it moved on.

    Where the owner was hit, moving on means a frame under a later epoch: elsewhere, or in the process that was started
    in its place. A run that ended, or began to wait, before it lost its owner was not hit. One whose next owner was hit
    as well before it moved on counts from that second fault. Where everybody who could have seen the owner's death was
    hit as well, it counts from when there was again a process that lived on to see it.
    """
    by_run: dict[str, list[RunWrite]] = defaultdict(list)
    for write in history.writes:
        by_run[write.run_id].append(write)
    found: list[float] = []
    for writes in by_run.values():
        times = [write.at for write in writes]
        moved: dict[float, float] = {}
        for mark in sorted(marks, key=lambda each: each.at):
            place = bisect_right(times, mark.at)
            if place and _is_hit(history, writes[place - 1], mark):
                first = _first_move(writes[place:], writes[place - 1], mark)
                if first is not None:
                    moved[first.at] = first.at - (
                        _seen_from(history, marks, mark, first.at) if mark.elsewhere else mark.at
                    )
        found += moved.values()
    return found


def _is_hit(history: History, stood: RunWrite, mark: Mark) -> bool:
    if stood.status not in ACTIVE:
        return False
    if mark.process is None:
        return True
    # A process that came back under another name lost nothing of what it had before.
    names = [name for at, process, name in history.arrivals if process == mark.process and at <= mark.at]
    now = names[-1] if names and mark.elsewhere else stood.worker
    return stood.worker is not None and stood.worker == now and history.enlisted.get(now) == mark.process


def _seen_from(history: History, marks: Sequence[Mark], death: Mark, until: float) -> float:
    """Return from when on a process was there that saw the death of an owner, and was not hit itself ``until`` then."""
    hit: dict[str, float] = defaultdict(float)
    for mark in marks:
        if mark.process is not None and mark.elsewhere and mark.at <= until:
            hit[mark.process] = max(mark.at, hit[mark.process])
    there = [at for at, process, _ in history.arrivals if hit[process] < at <= until or not hit[process]]
    return max(death.at, min(there, default=death.at))


def _first_move(later: Sequence[RunWrite], stood: RunWrite, mark: Mark) -> RunWrite | None:
    for write in later:
        if mark.elsewhere and write.epoch == stood.epoch:
            if write.status not in ACTIVE:
                return None  # its owner saw to it before it went
        elif write.seq > write.seq_before:
            return write
    return None


def percentile(values: Sequence[float], share: float) -> float | None:
    """The smallest value that at least this share of them does not exceed; None without values."""
    ordered = sorted(values)
    return ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else None
