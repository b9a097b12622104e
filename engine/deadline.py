"""The time an attempt may take: what ``asyncio.timeout`` does, for the one use that every node makes of it.

A context manager with two coroutines of its own costs more than most in-process capabilities do themselves.
"""

from __future__ import annotations

import asyncio


class Deadline:
    """Cancels the current task once, after ``seconds``, unless it is closed before."""

    __slots__ = ("_handle", "_task", "expired")

    def __init__(self, seconds: float) -> None:
        """Start the clock; only inside a task, else ``RuntimeError``."""
        task = asyncio.current_task()
        if task is None:
            raise RuntimeError("a deadline belongs to a task")
        self._task = task
        self.expired = False
        self._handle = task.get_loop().call_later(seconds, self._expire)

    def _expire(self) -> None:
        self.expired = True
        self._task.cancel()

    def close(self) -> bool:
        """Stop the clock and take its own cancellation back; say whether somebody else cancels the task."""
        self._handle.cancel()
        return (self._task.uncancel() if self.expired else self._task.cancelling()) > 0
