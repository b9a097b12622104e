"""One viewer of one run: a bounded buffer in front of the event log (F9)."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from contracts.errors import StoreUnavailable
from contracts.events import Frame

Reader = Callable[[int, int], Awaitable[list[Frame]]]
"""(after, limit) → the next committed frames of the run, in order."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one viewer may hold: frames and bytes in its buffer, and frames per read of the log."""

    frames: int = 1_024
    bytes: int = 4 * 1024 * 1024
    page: int = 128


class Watch:
    """A viewer that has every frame up to some number and wants the rest.

    It is *live* while its buffer ends where the log ends, as far as it was told; else it is behind and reads the log
    before it takes anything more. ``batch`` is for one consumer; everything else is called on the same loop.
    """

    __slots__ = (
        "_behind",
        "_bytes",
        "_detach",
        "_ended",
        "_head",
        "_limits",
        "_over",
        "_queue",
        "_read",
        "_stopped",
        "_wakeup",
        "tail",
    )

    def __init__(self, read: Reader, after: int, limits: Limits, detach: Callable[[Watch], None]) -> None:
        """Begin behind: what is in the log already is read first."""
        self._read = read
        self._limits = limits
        self._detach = detach
        self._queue: list[Frame] = []
        self._bytes = 0
        self._behind = True
        self._head = after
        self._ended = False
        self._over = False
        self._stopped = False
        self._wakeup = asyncio.Event()
        self.tail = after
        """The number of the last durable frame that was queued."""

    @property
    def live(self) -> bool:
        """Say whether published frames are taken as they come."""
        return not self._behind

    @property
    def over(self) -> bool:
        """Say whether the terminal frame was handed out."""
        return self._over

    def offer(self, frames: Sequence[Frame]) -> None:
        """Take what comes next; skip what is there already; fall back to the log on a gap or a full buffer."""
        if self._ended:
            return
        for frame in frames:
            seq = frame.seq
            if seq is None:
                if not self._behind and self._room(frame):
                    self._push(frame)
            elif self._behind:
                self._head = max(self._head, seq)
            elif seq == self.tail + 1 and self._room(frame):
                self._push(frame)
            elif seq > self.tail:
                self._behind, self._head = True, seq
        self._wakeup.set()

    def seed(self, frames: Sequence[Frame]) -> None:
        """Take committed frames that are at hand before the log is read for the first time."""
        for frame in frames:
            if frame.seq == self.tail + 1:
                self._push(frame)

    async def batch(self) -> list[Frame]:
        """Return everything that is there, at least one frame; empty once the run ended or the viewer was stopped."""
        while not self._over:
            if self._queue:
                return self._take()
            if self._stopped:
                break
            if self._behind:
                await self._catch_up()
            else:
                await self._sleep()
        return []

    def retry(self) -> None:
        """Try the log again if the last read failed."""
        if self._behind:
            self._wakeup.set()

    def stop(self) -> None:
        """End after what is buffered."""
        self._stopped = True
        self._wakeup.set()

    def close(self) -> None:
        """Detach from the feed; idempotent."""
        self.stop()
        self._detach(self)

    async def _sleep(self) -> None:
        self._wakeup.clear()
        if not self._stopped:
            await self._wakeup.wait()

    async def _catch_up(self) -> None:
        """Read one page. Frames published meanwhile only raise ``head``, so a read that missed them is repeated."""
        known = self._head
        try:
            frames = await self._read(self.tail, self._limits.page)
        except StoreUnavailable:
            await self._sleep()  # woken by the next tick or publication
            return
        for frame in frames:
            self._push(frame)
        caught_up = self.tail >= self._head or self._head == known
        if len(frames) < self._limits.page and caught_up:
            self._behind, self._head = False, self.tail

    def _room(self, frame: Frame) -> bool:
        """Say whether the buffer takes the frame; an empty one takes any, however large."""
        limits = self._limits
        return not self._queue or (len(self._queue) < limits.frames and self._bytes + len(frame.data) <= limits.bytes)

    def _push(self, frame: Frame) -> None:
        self._queue.append(frame)
        self._bytes += len(frame.data)
        if frame.seq is not None:
            self.tail = frame.seq
            self._ended = frame.terminal

    def _take(self) -> list[Frame]:
        taken, self._queue, self._bytes = self._queue, [], 0
        self._over = self._ended
        return taken
