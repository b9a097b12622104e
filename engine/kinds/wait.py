"""``wait``: an external node (J6); it ends when its signed callback is called, nothing is held meanwhile (H1)."""

from __future__ import annotations

from typing import Literal

from contracts.outcome import Await, Outcome
from contracts.plan import KindSpec
from contracts.wire import Wire
from engine.kinds.base import Work


class WaitFields(Wire):
    """What happens when nobody called back within the node's ``timeout_seconds``: ``fail``, or ``continue`` with null.

    Without ``timeout_seconds`` it waits as long as its run may.
    """

    on_timeout: Literal["fail", "continue"] = "fail"


class WaitKind:
    """Waits for its callback; the callback's output is its own."""

    spec = KindSpec(
        name="wait",
        fields=WaitFields,
        summary="Waits for a signed callback without holding anything.",
        waits=True,
        called_back=True,
    )
    pure = True

    async def run(self, work: Work) -> Outcome:
        """Return the wait."""
        seconds = work.node.timeout_seconds
        timeout_ms = None if seconds is None else round(seconds * 1_000)
        return Await(timeout_ms, continues=work.own.on_timeout == "continue")


WAIT = WaitKind()
