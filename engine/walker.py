"""One run in one process: feeds the machine, has its transitions written, and only then speaks and acts (design §1.3).

Everything runs on the event loop and nothing here awaits between a step and the append of its transition, so the order
of transitions is the order of the journal. Nodes without any effect may start before the commit; frames never leave
before it, and no call leaves the process before it (design §4, journal).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import structlog

from contracts.events import Frame
from contracts.lifecycle import RunStatus
from engine.attempt import Attempt, attempt
from engine.deltas import Deltas
from engine.machine import Machine, next_timer
from engine.mail import Mail
from engine.record import Draft, write_of
from engine.shell import Shell
from engine.signals import AttemptEnded, Drain, ReplanAsked, Replanned, Report, Signal, Tick
from engine.state import RunState
from engine.turn import Transition
from store.journal import Fenced, WriteRefused
from store.rows import Written

_log = structlog.get_logger("flex.engine")
LINGER_SECONDS = 0.005
"""How long a transition that nobody waits for may wait for more of its run."""


class _Then(NamedTuple):
    """What follows a commit: starts that ran ahead of it, starts that waited for it, another plan to ask for."""

    ahead: list[str]
    later: list[str]
    replan: ReplanAsked | None


class Walker:
    """Holds one run while this process owns its lease."""

    __slots__ = (
        "_breaking", "_called", "_deltas", "_draft", "_gone", "_linger", "_mail", "_on_gone", "_pending", "_tasks",
        "_then", "_timer", "_timer_at",
        "draining", "holding", "machine", "shell",
    )  # fmt: skip

    def __init__(self, machine: Machine, shell: Shell, on_gone: Callable[[Walker, str], None]) -> None:
        """Take the run; ``on_gone(walker, why)`` is called once, when it leaves memory.

        ``why``: ``ended`` | ``released`` | ``fenced`` | ``broken``.
        """
        self.machine, self.shell = machine, shell
        self.draining = self.holding = self._breaking = False
        self._on_gone = on_gone
        self._gone = False
        self._tasks: dict[str, asyncio.Task[Report]] = {}
        self._called: set[str] = set()
        self._pending = 0
        self._deltas = Deltas(machine.state, shell)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        self._draft: Draft | None = None
        self._then = _Then([], [], None)
        self._linger: asyncio.TimerHandle | None = None
        self._mail: Mail | None = None

    @property
    def state(self) -> RunState:
        """Return the run's state; only this walker changes it."""
        return self.machine.state

    @property
    def gone(self) -> bool:
        """Say whether the run left this process."""
        return self._gone

    def signal(self, signal: Signal) -> None:
        """Step the machine and have the transition written. Never raises: a surprise ends the run as ``internal``."""
        if self._gone or self._breaking:
            return
        try:
            transition = self.machine.step(signal, self.shell.clock.now_ms())
            self.append(transition)
            if self.draining and transition.dispatch:
                self.signal(Drain(frozenset(self._called)))
        except Exception:  # noqa: BLE001  # a surprise in the machine ends this run, never the process; the log has it
            _log.exception("machine_broke", run_id=self.state.run_id, signal=type(signal).__name__)
            self._break()

    @property
    def mail(self) -> Mail:
        """Return the run's mailbox; made when it is first needed, since most runs never get a signal."""
        if self._mail is None:
            self._mail = Mail(self)
        return self._mail

    def begin(self, transition: Transition) -> None:
        """The run was born with this transition, which is committed: act on it."""
        self._act(transition.dispatch)
        self._arm()

    def attempts(self) -> list[asyncio.Task[Report]]:
        """Return the attempts under way."""
        return list(self._tasks.values())

    def hold(self) -> None:
        """Start nothing more; what runs may end."""
        self.holding = True

    def drain(self) -> None:
        """Give running attempts back and release the run."""
        self.holding = self.draining = True
        self.signal(Drain(frozenset(self._called)))

    def drop(self, why: str) -> None:
        """Leave memory without another write: the lease is lost, or the run is read again."""
        self._leave(why)

    # --- writing ---------------------------------------------------------------------------------------------------

    def append(self, transition: Transition) -> None:
        """Have a transition written, run ahead where that is free, and act on the rest once it is durable.

        While only free starts wait for it, the write waits a moment for more of the same run: one commit takes several
        transitions.
        """
        for node_id in transition.abort:
            task = self._tasks.pop(node_id, None)
            if task is not None:
                task.cancel()
        release = self._may_release(transition)
        if transition.empty and not release:
            return
        draft = self._draft = self._draft or Draft(transition.before_seq)
        draft.add(self.state, transition)
        ahead = [node_id for node_id in transition.dispatch if self._is_free(node_id)]
        self._then.ahead.extend(ahead)
        self._then.later.extend(node_id for node_id in transition.dispatch if node_id not in ahead)
        self._then = self._then._replace(replan=transition.replan or self._then.replan)
        self._deltas.hold(ahead)
        if release or not ahead or self._then.later or self._then.replan is not None:
            self._flush(release=release)
        elif self._linger is None:
            self._linger = asyncio.get_running_loop().call_later(LINGER_SECONDS, self._flush)
        self._act(ahead)

    def _flush(self, *, release: bool = False) -> None:
        """Hand what has gathered to the journal."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        draft, then = self._draft, self._then
        if draft is None or self._gone or self._breaking:
            return
        self._draft, self._then = None, _Then([], [], None)
        wake_at = self.shell.clock.now_ms() if self.draining else None
        future = self.shell.journal.append(write_of(self.state, draft, release=release, wake_at=wake_at))
        self._pending += 1
        future.add_done_callback(partial(self._written, draft.frames, then))

    def _may_release(self, transition: Transition) -> bool:
        state = self.state
        if state.ended_at is not None:
            return True
        if transition.dispatch or transition.replan is not None:
            return False
        return (self.draining or state.status is RunStatus.WAITING) and not self._tasks

    def _is_free(self, node_id: str) -> bool:
        """Say whether a node may run ahead of the commit: nothing leaves the process, running it again is free."""
        step = self.state.nodes[node_id].step
        if step.kind.pure:
            return True
        capability = self.shell.directory.find(step.node.capability_id or "", step.node.capability_version)
        return capability is not None and capability.spec.effects == "none" and capability.spec.in_process

    def _written(self, frames: list[Frame], then: _Then, future: asyncio.Future[Written]) -> None:
        self._pending -= 1
        if self._gone:
            return
        error = None if future.cancelled() else future.exception()
        if self._breaking or future.cancelled() or error is not None:
            self._unwritten(error)
            return
        if frames:
            self.shell.feed.publish(self.state.run_id, frames)
            self.shell.nudge.events(self.state.run_id, frames[-1].seq or 0)
            self.shell.crash.reach("journal.after_frames")
        self._deltas.let_go(then.ahead)
        self._after(future.result(), then)

    def _after(self, written: Written, then: _Then) -> None:
        if self.state.ended_at is not None or written.released:
            # Appends that were merged share one result: leave only when the last one's frames are out.
            if self._pending == 0 and self._draft is None:
                self._log_end()
                self._leave("ended" if self.state.ended_at is not None else "released")
        else:
            if then.replan is not None:
                self._replan(then.replan)
            self._act(then.later)
            self._arm()
            if written.inbox > self.state.seen and not self._gone:
                self.mail.look()

    def _log_end(self) -> None:
        state = self.state
        if state.ended_at is not None:
            _log.info("run_ended", run_id=state.run_id, correlation_id=state.correlation_id, status=state.status.value)

    def _unwritten(self, error: BaseException | None) -> None:
        if isinstance(error, Fenced):
            self._leave("fenced")
        elif self._breaking:
            self._break()
        elif isinstance(error, WriteRefused):
            _log.error("write_refused", run_id=self.state.run_id, error=str(error))
            self._break()
        elif error is not None:
            _log.error("write_failed", run_id=self.state.run_id, exc_info=error)
            self._leave("fenced")

    # --- acting ----------------------------------------------------------------------------------------------------

    def _act(self, dispatch: list[str]) -> None:
        for node_id in dispatch:
            if self._gone or self.holding or not self.shell.lease_holds():
                return
            self._launch(node_id)

    def _launch(self, node_id: str) -> None:
        node = self.state.nodes[node_id]
        shared = Attempt(
            state=self.state,
            node=node,
            contracts=self.machine.world.contracts,
            directory=self.shell.directory,
            crash=self.shell.crash,
            on_delta=partial(self._deltas.send, node_id, node.attempt),
            logs=[],
            inputs={},
        )
        task = asyncio.get_running_loop().create_task(attempt(shared))
        self._tasks[node_id] = task
        self._called.add(node_id)
        task.add_done_callback(partial(self._attempt_ended, node_id, node.attempt, node.generation))

    def _attempt_ended(self, node_id: str, number: int, generation: int, task: asyncio.Task[Report]) -> None:
        if self._tasks.get(node_id) is task:
            del self._tasks[node_id]
        if task.cancelled() or self._gone:
            return
        self._called.discard(node_id)
        self.signal(AttemptEnded(node_id, number, generation, task.result()))

    def _replan(self, asked: ReplanAsked) -> None:
        state = self.state
        result = self.shell.replan(state, asked)
        self.signal(Replanned(result, asked.author, asked.reason, asked.node_id, asked.round))

    def _arm(self) -> None:
        """Have the machine ticked at its next timer; re-armed only when that moved."""
        if self._gone or self.state.ended_at is not None or self.state.status is RunStatus.WAITING:
            return
        at = next_timer(self.state)
        if self._timer is not None and self._timer_at == at:
            return
        if self._timer is not None:
            self._timer.cancel()
        delay = max(0, at - self.shell.clock.now_ms()) / 1_000
        self._timer_at = at
        self._timer = asyncio.get_running_loop().call_later(delay, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.signal(Tick())
        self._arm()

    def _break(self) -> None:
        """Leave memory to be read again, once the journal holds nothing of this run any more."""
        self._breaking = True
        if self._pending == 0:
            self._leave("broken")

    def _leave(self, why: str) -> None:
        if self._gone:
            return
        self._gone = True
        for timer in (self._timer, self._linger):
            if timer is not None:
                timer.cancel()
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        self._on_gone(self, why)
