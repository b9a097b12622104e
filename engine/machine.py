"""The deterministic machine: ``step(state, signal) -> Transition``; no clock, no I/O, no chance of its own (§1.2).

It owns the state it is given and may change it. Given the same state and signal it gives the same transition, so every
order of events can be tested by generation, and resuming is loading the rows.
"""

from __future__ import annotations

from contracts.clock import rfc3339_or_none
from contracts.events import Log, RunWaiting
from contracts.lifecycle import NodeStatus, RunStatus, move_run
from contracts.outcome import (
    NO_USAGE,
    Await,
    Choose,
    Done,
    Expand,
    Fail,
    Invoke,
    Iterate,
    Outcome,
    Pause,
    Retry,
    Skip,
    Sleep,
    Spawn,
)
from engine import (
    answers,
    approvals,
    calls,
    children,
    control,
    documents,
    editing,
    failures,
    finish,
    first_of,
    frontier,
    holding,
    loops,
    planning,
    rules,
    waiting,
)
from engine.adopting import Compile
from engine.asking import ask
from engine.signals import (
    AttemptEnded,
    Begin,
    Broken,
    CalledBack,
    CancelAsked,
    ChildEnded,
    Decided,
    DocumentCame,
    Drain,
    Mailed,
    PauseAsked,
    PlanEdited,
    Recovered,
    Replanned,
    Report,
    ResumeAsked,
    Signal,
    Tick,
    Triggered,
)
from engine.spending import overspent
from engine.state import NodeState, RunState, order_of
from engine.turn import Transition, Turn, World


class Machine:
    """One run's machine: the state, and the world it was handed."""

    __slots__ = ("compile", "state", "world")

    def __init__(self, state: RunState, world: World, compile_: Compile) -> None:
        """Take charge of ``state``; ``compile_`` makes a new plan version ready to walk (pure)."""
        self.state, self.world, self.compile = state, world, compile_

    def step(self, signal: Signal, now_ms: int) -> Transition:
        """React to one signal at wall time ``now_ms``; after the end nothing changes any more."""
        turn = Turn(self.state, self.world, now_ms)
        if turn.ended():
            if isinstance(signal, Mailed):
                turn.out.answered.append((signal.signal_id, "late"))
            return turn.out
        self._react(turn, signal)
        if turn.out.misfits:
            self._settle_misfits(turn)
        if not turn.ended() and not isinstance(signal, Drain) and turn.out.replan is None:
            self._advance(turn)
        return turn.out

    def _react(self, turn: Turn, signal: Signal) -> None:
        match signal:
            case AttemptEnded():
                self._attempt_ended(turn, signal)
            case Begin() if not planning.has_plan(turn.state):
                planning.begin(turn)
            case Begin():
                self._begin(turn)
            case Tick():
                self._tick(turn)
            case Drain():
                self._give_back(turn, signal)
            case Recovered():
                self._recover(turn, signal)
            case Replanned():
                planning.answered(turn, signal, self.compile)
            case Broken():
                turn.fail("internal", signal.message, retryable=True)
            case _:
                self._read(turn, signal)

    def _read(self, turn: Turn, signal: Mailed) -> None:
        """React to what somebody else left in the mailbox."""
        if isinstance(signal, (PlanEdited, Triggered)) and not planning.has_plan(turn.state):
            turn.out.answered.append((signal.signal_id, answers.SUPERSEDED))
            return
        match signal:
            case Decided():
                answers.decided(turn, signal)
            case CancelAsked():
                turn.out.answered.append((signal.signal_id, answers.APPLIED))
                turn.cancel(signal.by, signal.reason)
            case PauseAsked():
                control.pause(turn, signal)
            case ResumeAsked():
                control.resume(turn, signal)
            case CalledBack():
                waiting.called_back(turn, signal)
            case ChildEnded():
                children.ended(turn, signal)
            case DocumentCame():
                documents.came(turn, signal)
            case PlanEdited():
                editing.edited(turn, signal, self.compile)
            case Triggered():
                rules.manual(turn, signal)

    def _attempt_ended(self, turn: Turn, signal: AttemptEnded) -> None:
        node = turn.state.nodes.get(signal.node_id)
        if node is None or node.status is not NodeStatus.RUNNING:
            return
        if (node.attempt, node.generation) != (signal.attempt, signal.generation):
            return
        report = signal.report
        for level, message in report.logs:
            turn.emit(Log(level, message), node.node_id)
        node.inputs, node.inputs_json = report.inputs, report.inputs_json
        if report.stale and calls.is_call(turn.state, node):
            turn.state.running.discard(node.node_id)
            calls.refused_at_call(turn, node, report.shown_as)
        elif report.stale:
            approvals.refused_at_call(turn, node)
        else:
            self._apply(turn, node, report)

    def _apply(self, turn: Turn, node: NodeState, report: Report) -> None:
        outcome = report.outcome
        if isinstance(outcome, (Done, Retry, Pause, Fail, Invoke)) and outcome.usage is not NO_USAGE:
            turn.state.ledger.spend(outcome.usage)
            node.spend(outcome.usage)
        if isinstance(outcome, (Done, Choose)):
            turn.state.running.discard(node.node_id)
            self._done(turn, node, outcome, report)
            return
        if first_of.is_superseded(turn.state, node):
            self._pass_over(turn, node)
            return
        if isinstance(outcome, (Retry, Fail)):
            failures.attempt_failed(turn, node, outcome)
            return
        turn.state.running.discard(node.node_id)
        match outcome:
            case Expand():
                frontier.expand(turn, node, list(outcome.items))
            case Skip():
                turn.skip(node, outcome.reason)
                frontier.node_ended(turn, node)
            case Pause():
                self._pause(turn, node, outcome, report)
            case _:
                self._wait_for(turn, node, outcome)

    def _done(self, turn: Turn, node: NodeState, outcome: Done | Choose, report: Report) -> None:
        if node.parent is not None and self._asks_after(turn, node, outcome):
            if report.memory:
                node.parked = {"memory": [write.as_json() for write in report.memory]}
            return
        if report.memory:
            turn.out.memory.extend(report.memory)
        turn.complete(node, outcome.output, report.output_json)
        frontier.node_ended(turn, node)

    @staticmethod
    def _asks_after(turn: Turn, node: NodeState, outcome: Done | Choose) -> bool:
        """Say whether people are asked about what a chat's call put out."""
        return isinstance(outcome, Done) and calls.is_call(turn.state, node) and calls.asks_after(turn, node, outcome)

    def _wait_for(self, turn: Turn, node: NodeState, outcome: Outcome) -> None:
        """Let a node wait for a time, for the world outside, or for nodes and runs of its own."""
        match outcome:
            case Sleep():
                waiting.sleep(turn, node, outcome)
            case Await():
                waiting.wait_for_callback(turn, node, outcome)
            case Iterate():
                loops.begin(turn, node, outcome)
            case Spawn():
                children.spawn(turn, node, outcome)
            case Invoke():
                calls.begin(turn, node, outcome)

    def _pause(self, turn: Turn, node: NodeState, outcome: Pause, report: Report) -> None:
        if outcome.resumes:
            node.parked = {"state": outcome.state}
            if report.memory:
                node.parked["memory"] = [write.as_json() for write in report.memory]
        if node.approved is None:
            node.shown_as = report.shown_as
        ask(turn, node, outcome.prompt, "resume" if outcome.resumes else report.purpose, report.covers)

    def _pass_over(self, turn: Turn, node: NodeState) -> None:
        """End a node that nothing needs any more, instead of whatever would come next for it."""
        turn.state.running.discard(node.node_id)
        turn.skip(node, first_of.SUPERSEDED)
        frontier.node_ended(turn, node)

    def _tick(self, turn: Turn) -> None:
        state = turn.state
        wall = waiting.wall_at(state)
        if wall is not None and wall <= turn.now:
            seconds = state.envelope.policies.budget.wall_seconds or 0
            turn.fail("deadline_exceeded", f"The run did not end within {seconds:g} seconds.", retryable=True)
            return
        if state.start_at is not None and state.start_at <= turn.now:
            control.begin_scheduled(turn)
        due = [node_id for node_id in state.backoff if (state.nodes[node_id].wake_at or 0) <= turn.now]
        for node_id in sorted(due):
            state.backoff.discard(node_id)
            turn.make_ready(state.nodes[node_id])
        waiting.ring(turn)
        rules.ring(turn)
        if turn.ended() or state.status is RunStatus.WAITING:
            return
        if deadline_at(state) <= turn.now:
            seconds = state.envelope.policies.timeouts.run_seconds
            turn.fail("deadline_exceeded", f"The run did not end within {seconds:g} seconds of work.", retryable=True)

    def _give_back(self, turn: Turn, signal: Drain) -> None:
        """Hand every attempt under way back, except one whose effect must not be repeated: its row stays running."""
        for node_id in sorted(turn.state.running):
            node = turn.state.nodes[node_id]
            turn.out.abort.append(node_id)
            if not node.step.once or node_id not in signal.called:
                turn.state.running.discard(node_id)
                turn.make_ready(node)
                node.resumed = True

    def _recover(self, turn: Turn, signal: Recovered) -> None:
        """Take over what a former holder left: its attempts under way were lost with it."""
        for node_id, attempt, generation in sorted(signal.lost):
            node = turn.state.nodes.get(node_id)
            if node is None or node_id not in turn.state.running:
                continue
            if (node.attempt, node.generation) != (attempt, generation):
                continue
            turn.state.running.discard(node_id)
            if first_of.is_superseded(turn.state, node):
                self._pass_over(turn, node)
                continue
            if node.step.once:
                waiting.doubt(turn, node)
                continue
            node.lost += 1
            if node.lost >= self.world.max_lost:
                failures.fail_node(turn, node, "worker_lost", f"{node.lost} processes died while it ran.")
                if turn.ended():
                    return
                continue
            node.resumed = True
            turn.make_ready(node)
        if not signal.asked_here:
            planning.recover(turn)

    def _settle_misfits(self, turn: Turn) -> None:
        """Deal with maps and loops that cannot complete."""
        while turn.out.misfits and not turn.ended():
            node_id, why = turn.out.misfits.pop(0)
            failures.attempt_failed(turn, turn.state.nodes[node_id], why)

    def _advance(self, turn: Turn) -> None:
        """Dispatch what may run; when nothing can, wait, finish, or say that the run is stuck."""
        state = turn.state
        if state.ledger.asked is not None and planning.keeps_still(turn):
            if planning.held_back(turn):
                self._wait(turn)
            return
        if not state.nodes:
            self._begin(turn)
        if not state.ledger.began and not control.gated(state):
            rules.started(turn)
        self._dispatch(turn)
        if turn.out.misfits:
            self._settle_misfits(turn)
        if turn.ended() or state.running or turn.out.replan is not None:
            return
        if not control.gated(state):
            # What is ready all the same may not start yet: people are asked before.
            if state.backoff:
                return
            if not waiting.awaited(state):
                self._end(turn)
        planned = state.status is not RunStatus.PLANNING or planning.held_back(turn)
        if not turn.ended() and planned and waiting.awaited(state):
            self._wait(turn)

    def _begin(self, turn: Turn) -> None:
        """Open the roots, once the run can begin."""
        if not turn.state.nodes and not control.to_come(turn.state):
            frontier.begin(turn)

    def _dispatch(self, turn: Turn) -> None:
        state = turn.state
        room = state.envelope.policies.concurrency - len(state.running)
        if control.gated(state) or state.ledger.asked is not None:
            return
        aside: list[str] = []
        plan, budget = state.plan, state.envelope.policies.budget
        limited = budget.tokens is not None or budget.cost is not None
        while state.ready and room > 0 and not turn.ended() and turn.out.replan is None:
            node = state.nodes[state.ready.popleft()]
            if plan.loses and first_of.is_superseded(state, node):
                self._pass_over(turn, node)
                continue
            if (state.stops or plan.plan_gates or plan.guarded) and not holding.may_start(turn, node):
                aside.append(node.node_id)
                continue
            if node.step.guards == "output" and not finish.compose_final(turn):
                state.held.append(node.node_id)
                continue
            if limited and overspent(turn):
                return
            if node.parent is not None and calls.is_call(state, node) and calls.asks_before(turn, node):
                continue
            turn.start(node)
            room -= 1
        if aside and not turn.ended():
            # The order in which they became ready is not stored.
            state.ready.extendleft(sorted(aside, key=order_of, reverse=True))

    def _end(self, turn: Turn) -> None:
        state = turn.state
        if state.ended_nodes == len(state.plan.steps):
            finish.finish(turn)
            return
        left = sorted(node_id for node_id in state.plan.steps if not _ended(state, node_id))[:10]
        turn.fail("stalled", f"Nothing can run, but these nodes have not ended: {', '.join(left)}.")

    def _wait(self, turn: Turn) -> None:
        """Say what is awaited now; a wait that goes on says it again when that has changed."""
        state = turn.state
        awaited = waiting.awaited(state)
        if state.status is RunStatus.WAITING:
            asked = turn.out.raised or turn.out.withdrawn
            if awaited == state.waiting_on and not asked:
                return
        else:
            state.status = move_run(state.status, RunStatus.WAITING)
            state.ledger.waiting_since = turn.now
        state.waiting_on = awaited
        turn.emit(RunWaiting(list(awaited), list(state.prompts), rfc3339_or_none(waiting.next_wake(state))))


def _ended(state: RunState, node_id: str) -> bool:
    return node_id in state.nodes and state.nodes[node_id].ended


def deadline_at(state: RunState) -> int:
    """Return when the run's time for work is over (wall ms); waiting, also before the start, does not count."""
    scheduled = state.envelope.start_at is not None and (state.envelope.starts_ms or 0) > state.created_at
    began = state.created_at if scheduled or state.ledger.lacked else state.started_at or state.created_at
    return began + round(state.envelope.policies.timeouts.run_seconds * 1_000) + state.ledger.waited_ms


def next_timer(state: RunState) -> int | None:
    """Return when the machine next wants a :class:`Tick` while it is held (wall ms); None: no timer is set."""
    wake = waiting.next_wake(state)
    times = [] if wake is None else [wake]
    if state.status is not RunStatus.WAITING:
        times += [deadline_at(state), *(state.nodes[node_id].wake_at or 0 for node_id in state.backoff)]
    return min(times, default=None)
