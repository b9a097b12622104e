"""The crash points that a batch passes: ``accept`` with births, ``journal`` with writes, ``finish`` with ends."""

from __future__ import annotations

from collections.abc import Sequence

from contracts.ports import CrashPoints
from store.journal_pile import Entry


class Points:
    """The places of one transaction of the journal, in their order."""

    __slots__ = ("_births", "_crash", "_ends", "_writes")

    def __init__(self, crash: CrashPoints, entries: Sequence[Entry]) -> None:
        self._crash = crash
        self._births = any(entry.birth is not None for entry in entries)
        self._writes = any(entry.birth is None for entry in entries)
        self._ends = any(entry.terminal for entry in entries)

    def begin(self) -> None:
        """Nothing is written yet."""
        self._reach("begin", ends=False)

    def before_commit(self) -> None:
        """A crash here leaves nothing of the batch."""
        self._reach("before_commit", ends=True)

    def after_commit(self, released: bool) -> None:
        """A crash here leaves all of the batch, and nobody was told."""
        self._reach("after_commit", ends=True)
        if released:
            self._crash.reach("release.after_commit")

    def _reach(self, place: str, *, ends: bool) -> None:
        if self._births:
            self._crash.reach(f"accept.{place}")
        if self._writes:
            self._crash.reach(f"journal.{place}")
        if ends and self._ends:
            self._crash.reach(f"finish.{place}")
