"""Synchronous work beside the event loop: bounded threads that are watched until they really end (design §4).

A thread cannot be stopped. When an attempt times out, its thread may go on; starting the next attempt beside it would
do the work twice at once. So every call is kept under its (run, node) until its thread is gone, and a new attempt of
the same node is refused while it lives.
"""

from __future__ import annotations

import asyncio
import threading
from collections import Counter, deque
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, Final, Literal, TypeVar

from contracts.capability import CallContext, CapabilityError

T = TypeVar("T")
Key = tuple[str, str]
"""(run id, node id)."""

MAX_THREADS: Final = 8
LOOK_AGAIN_MS: Final = 1_000


class ThreadRunner:
    """At most ``max_threads`` calls at a time, each in a daemon thread of its own; further ones wait for a place.

    Daemon threads, because a call that never returns must not keep the process from ending. Usable from any number of
    event loops.
    """

    def __init__(self, name: str, max_threads: int = MAX_THREADS) -> None:
        self._name, self._free = name, max_threads
        self._lock = threading.Lock()
        self._alive: Counter[Key] = Counter()
        self._queue: deque[tuple[asyncio.AbstractEventLoop, asyncio.Future[None]]] = deque()

    @property
    def busy(self) -> frozenset[Key]:
        """Return the (run, node) pairs whose threads have not ended."""
        with self._lock:
            return frozenset(self._alive)

    def refuse_if_busy(self, key: Key) -> None:
        """Raise :class:`CapabilityError` ``still_running`` (retryable) while an earlier thread of ``key`` lives."""
        if key in self.busy:
            message = "An earlier attempt timed out, and its thread has not ended yet."
            raise CapabilityError("still_running", message, retryable=True, after_ms=LOOK_AGAIN_MS)

    async def run(self, key: Key, call: Callable[[], T]) -> T:
        """Return what ``call`` returns, or raise what it raises; ``still_running`` as in ``refuse_if_busy``.

        Cancelling the wait leaves the thread alone; it is counted as busy until it ends.
        """
        self.refuse_if_busy(key)
        return await self.call(key, call)

    async def call(self, key: Key, call: Callable[[], T]) -> T:
        """As ``run``, for one of several calls that the same attempt makes at once."""
        await self._place()
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()
        with self._lock:
            self._alive[key] += 1
        inside = copy_context()

        def work() -> None:
            try:
                value = inside.run(call)
            except BaseException as error:  # noqa: BLE001 -- whatever a thread raises belongs to the one who waits
                self._end(key)
                _tell(loop, answer, _fail, error)
            else:
                self._end(key)
                _tell(loop, answer, _succeed, value)

        try:
            threading.Thread(target=work, name=f"flex-{self._name}", daemon=True).start()
        except RuntimeError as error:
            self._end(key)
            raise CapabilityError("no_thread", "The system gives no further thread.", after_ms=LOOK_AGAIN_MS) from error
        return await answer

    async def _place(self) -> None:
        """Wait until one more thread may start, first come first served."""
        loop = asyncio.get_running_loop()
        with self._lock:
            if self._free > 0:
                self._free -= 1
                return
            turn: asyncio.Future[None] = loop.create_future()
            self._queue.append((loop, turn))
        try:
            await turn
        except asyncio.CancelledError:
            if not turn.cancelled():
                self._give_back()
            raise

    def _end(self, key: Key) -> None:
        with self._lock:
            self._alive[key] -= 1
            if not self._alive[key]:
                del self._alive[key]
        self._give_back()

    def _give_back(self) -> None:
        """Hand the place to the next in the queue that still waits, or keep it for later."""
        with self._lock:
            if not self._queue:
                self._free += 1
                return
            loop, turn = self._queue.popleft()
        if not _post(loop, self._grant, turn):
            self._give_back()

    def _grant(self, turn: asyncio.Future[None]) -> None:
        if turn.done():
            self._give_back()
        else:
            turn.set_result(None)


def _post(loop: asyncio.AbstractEventLoop, call: Callable[..., None], *args: Any) -> bool:
    """Schedule a call on the loop; say whether there still is one."""
    try:
        loop.call_soon_threadsafe(call, *args)
    except RuntimeError:
        # The loop is closed: whoever waited is gone with it.
        return False
    return True


def _tell(
    loop: asyncio.AbstractEventLoop, answer: asyncio.Future[T], how: Callable[[asyncio.Future[T], Any], None], said: Any
) -> None:
    _post(loop, how, answer, said)


def _succeed(answer: asyncio.Future[T], value: T) -> None:
    if not answer.done():
        answer.set_result(value)


def _fail(answer: asyncio.Future[Any], error: BaseException) -> None:
    if answer.done():
        return
    if not isinstance(error, Exception) or isinstance(error, StopIteration):
        # A future cannot carry StopIteration, and SystemExit would end the service.
        error = RuntimeError(f"{type(error).__name__} was raised: {error}")
    answer.set_exception(error)


class ThreadContext:
    """The :class:`CallContext` as a thread may use it: deltas and log lines reach the event loop in order."""

    def __init__(self, context: CallContext, loop: asyncio.AbstractEventLoop) -> None:
        self._context, self._loop = context, loop
        self.run_id, self.node_id, self.attempt = context.run_id, context.node_id, context.attempt
        self.idempotency_key = context.idempotency_key

    @classmethod
    def here(cls, context: CallContext) -> ThreadContext:
        """Wrap a context for a thread of the running event loop."""
        return cls(context, asyncio.get_running_loop())

    def delta(self, text: str) -> None:
        """As :meth:`CallContext.delta`."""
        _post(self._loop, self._context.delta, text)

    def log(self, level: Literal["debug", "info", "warning", "error"], message: str) -> None:
        """As :meth:`CallContext.log`."""
        _post(self._loop, self._context.log, level, message)

    def remember(self, scope: str, key: str, value: Any, expected_revision: int | None = None) -> None:
        """As :meth:`CallContext.remember`; at once, so that what cannot be kept is refused where it was asked."""
        self._context.remember(scope, key, value, expected_revision)

    def forget(self, scope: str, key: str, expected_revision: int | None = None) -> None:
        """As :meth:`CallContext.forget`."""
        self._context.forget(scope, key, expected_revision)

    def revision(self, scope: str, key: str) -> int:
        """As :meth:`CallContext.revision`."""
        return self._context.revision(scope, key)
