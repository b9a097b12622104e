"""The deterministic machine: ``step(state, signal) -> Transition``; no clock, no I/O, no chance of its own (§1.2).

It owns the state it is given and may change it. Given the same state and signal it gives the same transition, so every
order of events can be tested by generation, and resuming is loading the rows.
"""

from __future__ import annotations

from contracts.events import Log, RunWaiting
from contracts.lifecycle import NodeStatus, RunStatus, move_run
from contracts.outcome import Await, Choose, Done, Expand, Fail, Iterate, Pause, Retry, Skip, Sleep, Spawn
from engine import (
    answers,
    children,
    control,
    editing,
    failures,
    finish,
    frontier,
    loops,
    replan,
    rules,
    waiting,
)
from engine.asking import ask
from engine.replan import Compile
from engine.signals import (
    AttemptEnded,
    Begin,
    Broken,
    CalledBack,
    CancelAsked,
    ChildEnded,
    Decided,
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
from engine.state import NodeState, RunState
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
        if not turn.ended() and not isinstance(signal, Drain) and turn.out.replan is None:
            self._advance(turn)
        return turn.out

    def _react(self, turn: Turn, signal: Signal) -> None:
        match signal:
            case AttemptEnded():
                self._attempt_ended(turn, signal)
            case Begin():
                frontier.begin(turn)
            case Tick():
                self._tick(turn)
            case Drain():
                self._give_back(turn, signal)
            case Recovered():
                self._recover(turn, signal)
            case Replanned():
                replan.take(turn, signal, self.compile)
            case Broken():
                turn.fail("internal", signal.message, retryable=True)
            case _:
                self._read(turn, signal)

    def _read(self, turn: Turn, signal: Mailed) -> None:
        """React to what somebody else left in the mailbox."""
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
            case PlanEdited():
                editing.edited(turn, signal)
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
        self._apply(turn, node, report)

    def _apply(self, turn: Turn, node: NodeState, report: Report) -> None:
        outcome = report.outcome
        if isinstance(outcome, (Done, Retry, Pause, Fail)):
            turn.state.ledger.spend(outcome.usage)
        if isinstance(outcome, (Retry, Fail)):
            failures.attempt_failed(turn, node, outcome)
            return
        turn.state.running.discard(node.node_id)
        match outcome:
            case Done():
                turn.complete(node, outcome.output, report.output_json)
                frontier.node_ended(turn, node)
            case Choose():
                turn.complete(node, outcome.output, report.output_json)
                frontier.node_ended(turn, node)
            case Expand():
                frontier.expand(turn, node, list(outcome.items))
            case Skip():
                turn.skip(node, outcome.reason)
                frontier.node_ended(turn, node)
            case Pause():
                self._pause(turn, node, outcome, report)
            case Sleep():
                waiting.sleep(turn, node, outcome)
            case Await():
                waiting.wait_for_callback(turn, node, outcome)
            case Iterate():
                loops.begin(turn, node, outcome)
            case Spawn():
                children.spawn(turn, node, outcome)

    def _pause(self, turn: Turn, node: NodeState, outcome: Pause, report: Report) -> None:
        if outcome.resumes:
            node.parked = {"state": outcome.state}
        ask(turn, node, outcome.prompt, "resume" if outcome.resumes else report.purpose, report.covers)

    def _tick(self, turn: Turn) -> None:
        state = turn.state
        due = [node_id for node_id in state.backoff if (state.nodes[node_id].wake_at or 0) <= turn.now]
        for node_id in sorted(due):
            state.backoff.discard(node_id)
            turn.make_ready(state.nodes[node_id])
        if deadline_at(state) <= turn.now and state.status is not RunStatus.WAITING:
            seconds = state.envelope.policies.timeouts.run_seconds
            turn.fail("deadline_exceeded", f"The run did not end within {seconds:g} seconds of work.", retryable=True)

    def _give_back(self, turn: Turn, signal: Drain) -> None:
        """Hand every attempt under way back, except one whose effect must not be repeated: its row stays running."""
        for node_id in sorted(turn.state.running):
            node = turn.state.nodes[node_id]
            turn.out.abort.append(node_id)
            if node.step.node.effects != "once" or node_id not in signal.called:
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
            if node.step.node.effects == "once":
                failures.ask_effect(turn, node, "The process that called it stopped before it answered.")
                continue
            node.lost += 1
            if node.lost >= self.world.max_lost:
                failures.fail_node(turn, node, "worker_lost", f"{node.lost} processes died while it ran.")
                return
            node.resumed = True
            turn.make_ready(node)
        turn.out.replan = turn.out.replan or replan.unanswered(turn.state)

    def _advance(self, turn: Turn) -> None:
        """Dispatch what may run; when nothing can, wait, finish, or say that the run is stuck."""
        for node_id, findings in turn.out.misfits:
            message = "The list of the items' outputs does not fit."
            failures.attempt_failed(turn, turn.state.nodes[node_id], Fail("output_invalid", message, findings))
            if turn.ended():
                return
        if turn.ended() or turn.state.status is RunStatus.PLANNING:
            return
        self._dispatch(turn)
        state = turn.state
        if turn.ended() or state.running or state.ready or turn.out.replan is not None:
            return
        if not state.backoff and not state.prompts:
            self._end(turn)
            if state.prompts:
                self._wait(turn)
        elif not state.backoff:
            self._wait(turn)

    def _dispatch(self, turn: Turn) -> None:
        state = turn.state
        room = state.envelope.policies.concurrency - len(state.running)
        while state.ready and room > 0 and not turn.ended() and turn.out.replan is None:
            node = state.nodes[state.ready.popleft()]
            if node.step.guards == "output" and not finish.compose_final(turn):
                state.held.append(node.node_id)
                continue
            if self._overspent(turn):
                return
            turn.start(node)
            room -= 1

    def _overspent(self, turn: Turn) -> bool:
        budget, ledger = turn.state.envelope.policies.budget, turn.state.ledger
        if budget.tokens is not None and ledger.tokens > budget.tokens:
            turn.fail("budget_spent", f"{ledger.tokens:,} tokens are more than the budget of {budget.tokens:,}.")
            return True
        if budget.cost is not None and ledger.cost > budget.cost:
            turn.fail("budget_spent", f"A cost of {ledger.cost:.4f} is more than the budget of {budget.cost:g}.")
            return True
        return False

    def _end(self, turn: Turn) -> None:
        state = turn.state
        if state.ended_nodes == len(state.plan.steps):
            finish.finish(turn)
            return
        left = sorted(node_id for node_id in state.plan.steps if not _ended(state, node_id))[:10]
        turn.fail("stalled", f"Nothing can run, but these nodes have not ended: {', '.join(left)}.")

    def _wait(self, turn: Turn) -> None:
        state = turn.state
        if state.status is RunStatus.WAITING:
            return
        state.status = move_run(state.status, RunStatus.WAITING)
        state.waiting_on = ("hitl",)
        state.ledger.waiting_since = turn.now
        turn.emit(RunWaiting(["hitl"], list(state.prompts), None))


def _ended(state: RunState, node_id: str) -> bool:
    return node_id in state.nodes and state.nodes[node_id].ended


def deadline_at(state: RunState) -> int:
    """Return when the run's time for work is over (wall ms); waiting for people does not count."""
    began = state.started_at or state.created_at
    return began + round(state.envelope.policies.timeouts.run_seconds * 1_000) + state.ledger.waited_ms


def next_timer(state: RunState) -> int:
    """Return when the machine next wants a :class:`Tick` while it is held (wall ms)."""
    waits = [state.nodes[node_id].wake_at or 0 for node_id in state.backoff]
    return min([deadline_at(state), *waits])
