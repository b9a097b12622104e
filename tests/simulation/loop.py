"""An event loop without time and without luck: several processes on one virtual clock, scheduled by a seed.

Every simulated process has a lane: a queue of its own that is served in order, as its own event loop would serve it.
Which lane goes next is drawn. So nothing happens here that could not happen to real processes beside one another, and
everything that happens follows from the seed. When no lane has anything to do, time jumps to the next timer.
"""

from __future__ import annotations

import asyncio
import contextvars
import heapq
import random
from collections import deque
from collections.abc import Callable, Coroutine
from contextlib import suppress
from typing import Any, TypeVarTuple

LANE: contextvars.ContextVar[Lane] = contextvars.ContextVar("lane")
Ts = TypeVarTuple("Ts")
MAX_CALLBACKS, CALLBACKS_PER_SECOND = 15_000, 100
"""More than so many, and so many more per virtual second, and something goes round in circles."""
BUSY_SHARE, BUSY_SECONDS = 0.04, 0.004
"""How often a callback takes time at all, and how long at most (virtual seconds)."""


class Killed(BaseException):
    """The process of the running callback was killed; nothing that it does from here on has any effect outside."""


class Stuck(Exception):
    """Nothing is ready and no timer is set, or callbacks run for ever without time passing."""


class Lane:
    """One process as the loop sees it: what is ready to run, in order, and every task it ever made."""

    __slots__ = ("context", "dead", "name", "paused", "ready", "tasks")

    def __init__(self, name: str) -> None:
        self.name = name
        self.ready: deque[asyncio.Handle] = deque()
        self.tasks: list[asyncio.Task[Any]] = []
        self.paused = self.dead = False
        self.context = contextvars.copy_context()
        self.context.run(LANE.set, self)


class SimulatedLoop(asyncio.BaseEventLoop):
    """Serves lanes on a virtual clock. There are no threads, sockets or subprocesses: whoever asks for one fails."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self._chance = chance.random
        self._now = 0.0
        self._timers: list[tuple[float, int, asyncio.TimerHandle, Lane]] = []
        self._set_timers = 0
        self._lanes: list[Lane] = []
        self._retired = self._stopped = False
        self.callbacks = 0
        self.surprises: list[str] = []
        self.outside = self.lane("outside")

    def lane(self, name: str) -> Lane:
        """Open a lane. What runs in its context, and everything that is started from there, belongs to it."""
        lane = Lane(name)
        self._lanes.append(lane)
        return lane

    def kill(self, lane: Lane) -> None:
        """Drop everything a process was about to do. Its tasks are kept, so that nothing of them runs ever again."""
        lane.dead = True
        lane.ready.clear()

    # --- what asyncio asks of a loop ---------------------------------------------------------------------------------

    def time(self) -> float:
        return self._now

    def call_soon(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        context = contextvars.copy_context() if context is None else context
        handle = asyncio.Handle(callback, args, self, context)
        lane = context.get(LANE, self.outside)
        if not lane.dead:
            lane.ready.append(handle)
        return handle

    def call_later(
        self, delay: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        return self.call_at(self._now + delay, callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.TimerHandle:
        context = contextvars.copy_context() if context is None else context
        handle = asyncio.TimerHandle(when, callback, args, self, context)
        self._set_timers += 1
        heapq.heappush(self._timers, (when, self._set_timers, handle, context.get(LANE, self.outside)))
        return handle

    def call_soon_threadsafe(
        self, callback: Callable[[*Ts], object], *args: *Ts, context: contextvars.Context | None = None
    ) -> asyncio.Handle:
        raise RuntimeError("a simulated process has no threads")

    def create_task(
        self,
        coro: Any,
        *,
        name: object = None,
        context: contextvars.Context | None = None,
    ) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=None if name is None else str(name), context=context)
        lane = LANE.get(self.outside) if context is None else context.get(LANE, self.outside)
        lane.tasks.append(task)
        return task

    def stop(self) -> None:
        self._stopped = True
        super().stop()

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Note a surprise, unless it is a kill or what the garbage collector says of a simulation that is over."""
        error = context.get("exception")
        if not self._retired and "handle" in context and not isinstance(error, Killed):
            self.surprises.append(f"{context.get('message')}: {error!r}")

    # --- serving -----------------------------------------------------------------------------------------------------

    def _run_once(self) -> None:
        """Serve lanes until somebody stops the loop; :meth:`run_forever` calls this."""
        chance, lanes, timers = self._chance, self._lanes, self._timers
        self._stopped = False
        while not self._stopped:
            while timers and timers[0][0] <= self._now:
                self._ring(*heapq.heappop(timers)[2:])
            busy = [lane for lane in lanes if lane.ready and not lane.paused]
            if not busy:
                self._jump()
                continue
            lane = busy[int(chance() * len(busy))] if len(busy) > 1 else busy[0]
            handle = lane.ready.popleft()
            if handle.cancelled():
                continue
            handle._run()
            self.callbacks += 1
            if self.callbacks > MAX_CALLBACKS + CALLBACKS_PER_SECOND * self._now:
                raise Stuck(f"{self.callbacks} callbacks by {self._now:.3f} s")
            if chance() < BUSY_SHARE:
                self._now += chance() * BUSY_SECONDS

    def _ring(self, handle: asyncio.TimerHandle, lane: Lane) -> None:
        if not handle.cancelled() and not lane.dead:
            lane.ready.append(handle)

    def _jump(self) -> None:
        """Let time pass until the next timer."""
        while self._timers and self._timers[0][2].cancelled():
            heapq.heappop(self._timers)
        if not self._timers:
            raise Stuck("nothing is ready and no timer is set")
        self._now = max(self._now, self._timers[0][0])

    # --- the end -----------------------------------------------------------------------------------------------------

    def run(self, main: Coroutine[Any, Any, None]) -> None:
        """Run the outside world's coroutine to its end."""
        task = self.outside.context.run(self.create_task, main)
        self.run_until_complete(task)

    def broken_tasks(self) -> list[str]:
        """Return what tasks of processes died of, kills and cancellations apart."""
        found = []
        for lane in self._lanes:
            for task in lane.tasks:
                # What somebody awaited, or gathered, is theirs to deal with.
                if task.done() and not task.cancelled() and getattr(task, "_log_traceback", True):
                    error = task.exception()
                    if error is not None and not isinstance(error, (Killed, Stuck)) and not lane.dead:
                        found.append(f"{lane.name}: {task.get_coro()} died of {error!r}")
        return found

    def retire(self) -> None:
        """Close what never ended, in the order it was begun, and the loop. Nothing of it can be seen any more."""
        self._retired = True
        for lane in self._lanes:
            for task in lane.tasks:
                coroutine = task.get_coro()
                if not task.done() and coroutine is not None:
                    # A coroutine that was cut off wants to tidy up; its world is gone, so that may fail in any way.
                    with suppress(Exception):
                        coroutine.close()
            lane.tasks.clear()
            lane.ready.clear()
        self._timers.clear()
        self.close()
