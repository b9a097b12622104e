"""One run in one process: feeds the machine, has its transitions written, and only then speaks and acts (design §1.3).

Everything runs on the event loop and nothing here awaits between a step and the append of its transition, so the order
of transitions is the order of the journal. Nodes without any effect may start before the commit; frames never leave
before it, and no call leaves the process before it (design §4, journal).
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from typing import Any, NamedTuple

import structlog

from contracts.lifecycle import NodeStatus, RunStatus
from contracts.outcome import Choose, Done
from engine.attempt import Attempt, attempt
from engine.control import to_come
from engine.deltas import Deltas
from engine.drafting import MODEL
from engine.leftover import Leftover
from engine.machine import Machine, next_timer
from engine.mail import Mail
from engine.record import Draft, write_of
from engine.remembering import Notebook, conflicting, meets, scopes_for, scopes_of
from engine.shell import Shell
from engine.signals import AttemptEnded, Begin, Drain, ReplanAsked, Replanned, Report, Signal, Tick
from engine.state import NodeState
from engine.turn import Transition
from engine.waiting import next_wake
from store.journal import Fenced, WriteRefused
from store.memory import MemoryRows
from store.memory_sheet import MemoryRefused
from store.rows import Written

_log = structlog.get_logger("flex.engine")
LINGER_SECONDS = 0.016
"""How long a transition that nobody waits for may wait for more of its run: one picture of a screen of 60 Hz."""


_Start = tuple[str, int, int]
"""Node, attempt and generation of an attempt that is to begin."""


class _Then(NamedTuple):
    """What follows a commit: starts that ran ahead of it, starts that waited for it, another plan to ask for."""

    ahead: list[str]
    later: list[_Start]
    replan: ReplanAsked | None


class Walker:
    """Holds one run while this process owns its lease."""

    __slots__ = (
        "_breaking", "_called", "_deltas", "_draft", "_gone", "_keeps", "_linger", "_loop", "_mail", "_on_gone",
        "_pending",
        "_question", "_releasing", "_saving", "_scopes", "_tasks", "_then", "_timer", "_timer_at",
        "draining", "holding", "leftover", "machine", "shell", "state",
    )  # fmt: skip

    def __init__(self, machine: Machine, shell: Shell, on_gone: Callable[[Walker, str], None]) -> None:
        """Take the run; ``on_gone(walker, why)`` is called once, when it leaves memory.

        ``why``: ``ended`` | ``released`` | ``fenced`` | ``broken`` | ``refused`` (then there is a ``leftover``).
        """
        self.machine, self.state, self.shell = machine, machine.state, shell
        self.draining = self.holding = self._breaking = False
        self._loop = asyncio.get_running_loop()
        self._on_gone = on_gone
        self._gone = False
        self._tasks: dict[str, asyncio.Task[Report]] = {}
        self._called: set[str] = set()
        self._pending = 0
        self._releasing = False
        self._deltas = Deltas(machine.state, shell)
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0
        self._draft: Draft | None = None
        self._then = _Then([], [], None)
        self._linger: asyncio.TimerHandle | None = None
        self._mail: Mail | None = None
        self._question: asyncio.Task[Replanned] | None = None
        self._scopes = scopes_of(machine.state.envelope.context.memory)
        self._keeps = bool(self._scopes) or shell.directory.catalogue().remembers
        self._saving: list[Draft] = []
        self.leftover: Leftover | None = None

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
            self.append(transition, signal if self._keeps else None)
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
        self._act(self._starts(transition.dispatch))
        if transition.replan is not None:
            self._replan(transition.replan)
        elif not self.state.nodes and not to_come(self.state):
            self.signal(Begin())
        self._arm()

    def attempts(self) -> list[asyncio.Task[Any]]:
        """Return the attempts under way, and the model's if it is asked for a plan."""
        return [*self._tasks.values(), *(() if self._question is None else (self._question,))]

    def hold(self) -> None:
        """Start nothing more; what runs may end."""
        self.holding = True

    def drain(self) -> None:
        """Give running attempts back and release the run."""
        self.holding = self.draining = True
        self._drop_question()
        self.signal(Drain(frozenset(self._called)))

    def take_over(self, leftover: Leftover) -> None:
        """Go on with the attempts that another walker of this very run had under way."""
        for node_id, (task, number, generation) in leftover.under_way(self.state).items():
            self._tasks[node_id] = task
            self._called.add(node_id)
            task.add_done_callback(partial(self._attempt_ended, node_id, number, generation))

    def drop(self, why: str) -> None:
        """Leave memory without another write: the lease is lost, or the run is read again."""
        self._leave(why)

    # --- writing ---------------------------------------------------------------------------------------------------

    def append(self, transition: Transition, cause: Signal | None = None) -> None:
        """Have a transition written, run ahead where that is free, and act on the rest once it is durable.

        While only free starts wait for it, the write waits a moment for more of the same run: one commit takes several
        transitions. Behind a write that lets go of the run nothing waits: both are one, or the second one has no owner.
        """
        for node_id in transition.abort:
            task = self._tasks.pop(node_id, None)
            if task is not None:
                task.cancel()
        release = self._may_release(transition)
        if transition.empty and not release:
            # Nothing to write, but a run that was just claimed in backoff has no timer yet.
            self._arm()
            return
        draft = self._draft = self._draft or Draft(transition.before_seq)
        draft.add(self.state, transition, cause)
        ahead = [node_id for node_id in transition.dispatch if self._is_free(node_id)]
        if ahead:
            self._then.ahead.extend(ahead)
            self._deltas.hold(ahead)
        if len(ahead) < len(transition.dispatch):
            self._then.later.extend(self._starts([node_id for node_id in transition.dispatch if node_id not in ahead]))
        if transition.replan is not None:
            self._then = self._then._replace(replan=transition.replan)
        urgent = release or self._releasing or self._then.later or self._then.replan is not None
        # Whoever answered looks for what comes of it.
        if urgent or not ahead or transition.answered:
            self._flush(release=release)
        elif self._linger is None:
            self._linger = self._loop.call_later(LINGER_SECONDS, self._flush)
        if ahead and not self._gone and not self.holding and self.shell.lease_holds():
            for node_id in ahead:
                self._launch(node_id)

    def _flush(self, *, release: bool = False) -> None:
        """Hand what has gathered to the journal."""
        if self._linger is not None:
            self._linger.cancel()
            self._linger = None
        draft, then = self._draft, self._then
        if draft is None or self._gone or self._breaking:
            return
        self._draft, self._then = None, _Then([], [], None)
        future = self.shell.journal.append(write_of(self.state, draft, release=release, wake_at=self._wake_at()))
        self._pending += 1
        if self._keeps:
            self._saving.append(draft)
        self._releasing = self._releasing or release
        future.add_done_callback(partial(self._written, draft, then))

    def _wake_at(self) -> int | None:
        """Return when whoever finds the run without an owner has to take it; null while it is held."""
        if self.state.status is RunStatus.WAITING:
            return next_wake(self.state)
        return self.shell.clock.now_ms() if self.draining else None

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
        if self._scopes:
            return False  # it has to find what was remembered before it
        capability = self.shell.directory.find(step.node.capability_id or "", step.node.capability_version)
        if capability is None or capability.spec.memory is not None:
            return False
        return capability.spec.effects == "none" and capability.spec.in_process

    def _written(self, draft: Draft, then: _Then, future: asyncio.Future[Written]) -> None:
        self._pending -= 1
        self._releasing = self._releasing and self._pending > 0
        if self._gone:
            if not future.cancelled():
                future.exception()  # nobody is left to tell, and asyncio reports an error that nobody looked at
            return
        error = None if future.cancelled() else future.exception()
        if isinstance(error, MemoryRefused) and self.leftover is None:
            self.leftover = Leftover(error)
        if self.leftover is not None:
            self._refused(self.leftover)
            return
        if draft in self._saving:
            self._saving.remove(draft)
        if self._breaking or future.cancelled() or error is not None:
            self._unwritten(error)
            return
        frames = draft.frames
        if frames:
            self.shell.feed.publish(self.state.run_id, frames)
            self.shell.nudge.events(self.state.run_id, frames[-1].seq or 0)
            self.shell.crash.reach("journal.after_frames")
        if draft.answered:
            self.shell.outcomes.tell(self.state.run_id, draft.answered)
        if draft.spawned or draft.mail:
            for run_id in draft.addressed():
                self.shell.nudge.run(run_id, None)
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
            self.shell.outcomes.ended(state.run_id)
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

    def _starts(self, node_ids: Iterable[str]) -> list[_Start]:
        nodes = self.state.nodes
        return [(node_id, nodes[node_id].attempt, nodes[node_id].generation) for node_id in node_ids]

    def _act(self, starts: list[_Start]) -> None:
        for node_id, number, generation in starts:
            if self._gone or self.holding or not self.shell.lease_holds():
                return
            node = self.state.nodes.get(node_id)
            # It may have been given up, or begun anew, while its start was being written.
            if node is None or node.status is not NodeStatus.RUNNING:
                continue
            if node.attempt == number and node.generation == generation:
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
            late_seconds=self._late(node),
            notebook=self._notebook(node),
            model=self.shell.drafting.model,
        )
        task = self._loop.create_task(attempt(shared))
        self._tasks[node_id] = task
        self._called.add(node_id)
        task.add_done_callback(partial(self._attempt_ended, node_id, node.attempt, node.generation))

    def _notebook(self, node: NodeState) -> Notebook | None:
        kind = node.step.kind.spec
        if not self._keeps or not (kind.needs_capability or kind.remembers):
            return None
        scopes, shell = self._scopes, self.shell
        if kind.needs_capability:
            called = node.step.node
            found = shell.directory.find(called.capability_id or "", node.version or called.capability_version)
            own = None if found is None else found.spec.memory
            scopes = scopes_for(own, scopes, self.state.envelope.context.story_id)
        if not scopes:
            return None
        whose = (self.state.tenant, node.node_id, node.attempt)
        return Notebook(scopes, MemoryRows(shell.database), shell.memory_limits, shell.clock, whose, node.parked)

    def _late(self, node: NodeState) -> float:
        """Return the seconds between a once-only call's start, as it was written, and now: its commit may have waited.

        The call must be over when another holder asks people whether it happened.
        """
        if node.called_at is None or not node.step.once:
            return 0.0
        return max(0, self.shell.clock.now_ms() - node.called_at) / 1_000

    def _attempt_ended(self, node_id: str, number: int, generation: int, task: asyncio.Task[Report]) -> None:
        if self._tasks.get(node_id) is task:
            del self._tasks[node_id]
        if task.cancelled() or self._gone:
            return
        self._called.discard(node_id)
        report = task.result()
        if report.memory and isinstance(report.outcome, (Done, Choose)):
            report = self._overtaken(node_id, report)
        ended = AttemptEnded(node_id, number, generation, report)
        if self.leftover is not None:
            self.leftover.ended.append(ended)
        else:
            self.signal(ended)

    def _overtaken(self, node_id: str, report: Report) -> Report:
        """Return the report, or a conflict with what this run is just having remembered."""
        under_way = [draft.memory for draft in (*self._saving, self._draft) if draft is not None]
        late = meets(report.memory, under_way)
        if late is None:
            return report
        return replace(report, outcome=conflicting(late, once=self.state.nodes[node_id].step.once))

    def _replan(self, asked: ReplanAsked) -> None:
        self._drop_question()
        if asked.strategy == MODEL:
            self._ask_model(asked)
            return
        state = self.state
        result = self.shell.replan(state, asked)
        self.signal(Replanned(result, asked.author, asked.reason, asked.node_id, asked.round))

    def _ask_model(self, asked: ReplanAsked) -> None:
        """Put a question to the model; what it says becomes a signal. Whoever holds the run next asks it otherwise."""
        if self.draining:
            self.signal(Drain(frozenset(self._called)))
        if self._gone or self.holding or not self.shell.lease_holds():
            return
        task = self._loop.create_task(self.shell.drafting.answer(self.state, asked))
        self._question = task
        task.add_done_callback(self._model_answered)

    def _model_answered(self, task: asyncio.Task[Replanned]) -> None:
        if self._question is not task or task.cancelled():
            return
        self._question = None
        error = task.exception()
        if error is None:
            self.signal(task.result())
        else:
            _log.error("planning_broke", run_id=self.state.run_id, exc_info=error)
            self._break()

    def _drop_question(self) -> None:
        question, self._question = self._question, None
        if question is not None:
            question.cancel()

    def _arm(self) -> None:
        """Have the machine ticked at its next timer; re-armed only when that moved."""
        if self._gone or self.state.ended_at is not None:
            return
        at = next_timer(self.state)
        if self._timer is not None and self._timer_at == at:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if at is None:
            return
        delay = max(0, at - self.shell.clock.now_ms()) / 1_000
        self._timer_at = at
        self._timer = self._loop.call_later(delay, self._ring)

    def _ring(self) -> None:
        self._timer = None
        self.signal(Tick())
        self._arm()

    def _break(self) -> None:
        """Leave memory to be read again, once the journal holds nothing of this run any more."""
        self._breaking = True
        if self._pending == 0:
            self._leave("broken")

    def _refused(self, left: Leftover) -> None:
        """Leave memory to be read again, once the journal holds nothing of this run; what is under way goes on."""
        self._breaking = True
        if self._pending or self._gone:
            return
        unsaved = [draft for draft in (*self._saving, self._draft) if draft is not None]
        left.ended = [*(ended for draft in unsaved for ended in draft.ended), *left.ended]
        nodes = self.state.nodes
        for node_id, task in self._tasks.items():
            left.tasks[node_id] = (task, nodes[node_id].attempt, nodes[node_id].generation)
        self._tasks.clear()
        self._leave("refused")

    def _leave(self, why: str) -> None:
        if self._gone:
            return
        self._gone = True
        for timer in (self._timer, self._linger):
            if timer is not None:
                timer.cancel()
        self._drop_question()
        for task in self._tasks.values():
            task.cancel()
        self._tasks.clear()
        self._on_gone(self, why)
