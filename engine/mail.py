"""A run's mailbox, read by its holder: every signal becomes one step, once, in the order it was left (design §4)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, Protocol

import orjson
import structlog

from contracts.errors import StoreUnavailable
from engine.shell import Shell
from engine.signals import (
    CalledBack,
    CancelAsked,
    ChildEnded,
    Decided,
    DocumentCame,
    PauseAsked,
    PlanEdited,
    ResumeAsked,
    Signal,
    Triggered,
)
from engine.state import RunState
from engine.texts import provide_told
from engine.turn import Transition
from store import signals
from store.rows import SignalRow

_log = structlog.get_logger("flex.engine")


class Holder(Protocol):
    """What the mailbox needs of the walker that holds the run."""

    shell: Shell

    @property
    def state(self) -> RunState:
        """Return the run's state."""

    @property
    def gone(self) -> bool:
        """Say whether the run left this process."""

    def signal(self, signal: Signal) -> None:
        """Step the machine."""

    def append(self, transition: Transition) -> None:
        """Write a transition, and release the run if nothing is left to do."""


class Mail:
    """Reads at most once at a time; a nudge that comes meanwhile makes it read again."""

    __slots__ = ("_again", "_holder", "_last", "_task")

    def __init__(self, holder: Holder) -> None:
        """Read for one walker."""
        self._holder = holder
        self._task: asyncio.Task[None] | None = None
        self._again = False
        self._last = 0

    @property
    def asked(self) -> bool:
        """Say whether the mailbox is to be read and was not yet: who lets go of the run must have it read."""
        return self._task is not None

    def look(self) -> None:
        """Read the mailbox soon."""
        if self._task is not None:
            self._again = True
            return
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def _run(self) -> None:
        try:
            self._again = True
            while self._again and not self._holder.gone:
                self._again = False
                await self._once()
        except StoreUnavailable:
            _log.warning("mailbox_unread", run_id=self._holder.state.run_id)
            asyncio.get_running_loop().call_later(1.0, self.look)
        finally:
            self._task = None

    async def _once(self) -> None:
        """Read, step, and try to release again if nothing else will write."""
        state = self._holder.state
        pending = await signals.signals_after(self._holder.shell.database, state.run_id, state.seen)
        await provide_told(self._holder.shell, state, pending)
        if not self._holder.gone:
            self.take(pending)

    def take(self, pending: Sequence[SignalRow]) -> None:
        """Step the machine with every signal not stepped yet; a signal's id is its number in the run's inbox."""
        holder = self._holder
        before = holder.state.seq
        for row in pending:
            if row.signal_id > self._last and not holder.gone:
                self._last = row.signal_id
                holder.state.seen = max(holder.state.seen, row.signal_id)
                holder.signal(read_signal(row))
        if holder.state.seq == before and not holder.gone:
            holder.append(Transition(holder.shell.clock.now_ms(), holder.state.seq))


_READERS: Final[Mapping[str, Callable[..., Signal]]] = {
    "cancel": CancelAsked,
    "pause": PauseAsked,
    "resume": ResumeAsked,
    "plan": PlanEdited,
    "trigger": Triggered,
    "callback": CalledBack,
    "child": ChildEnded,
    "document": DocumentCame,
}
"""kind → what is made of its payload; the payload's members are the fields (docs/decisions/0006)"""


def read_signal(row: SignalRow) -> Signal:
    """Return the machine's form of a stored signal; unknown kinds are a bug of the writer and raise ``ValueError``."""
    payload: dict[str, Any] = orjson.loads(row.payload_json)
    if row.kind == "decision":
        return Decided(
            row.signal_id, payload["prompt_id"], payload["status"], payload["decision"], payload.get("on_timeout")
        )
    made = _READERS.get(row.kind)
    if made is not None:
        return made(signal_id=row.signal_id, **payload)
    raise ValueError(f"signal {row.signal_id} has the unknown kind {row.kind!r}")
