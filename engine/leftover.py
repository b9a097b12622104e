"""What is left of a walker whose transition could not be stored although the run is still its own.

Its run is read again, and whoever walks it then goes on with the attempts under way, and with those that ended.
"""

from __future__ import annotations

import asyncio
from collections.abc import Set
from dataclasses import dataclass, field, replace
from typing import Protocol

from contracts.lifecycle import NodeStatus
from contracts.outcome import Choose, Done
from engine.remembering import refused
from engine.signals import AttemptEnded, Report
from engine.state import RunState
from store.memory_sheet import MemoryRefused

Under = tuple[str, int, int]
"""Node, attempt and generation."""


@dataclass(slots=True)
class Leftover:
    """Why the transition was refused, the attempts under way by node, and those that ended and are not stored."""

    why: MemoryRefused | None = None
    tasks: dict[str, tuple[asyncio.Task[Report], int, int]] = field(default_factory=dict)
    ended: list[AttemptEnded] = field(default_factory=list)

    def drop(self) -> None:
        """Stop what is under way."""
        for task, _, _ in self.tasks.values():
            task.cancel()
        self.tasks.clear()

    def ends(self, state: RunState) -> list[AttemptEnded]:
        """Return the attempts that ended, as the run, just read, has them; the refused one has failed."""
        found = []
        for signal in self.ended:
            node = state.nodes.get(signal.node_id)
            if node is not None and _is(state, signal.node_id, signal.attempt, signal.generation):
                found.append(self._settled(signal, once=node.step.once))
        return found

    def _settled(self, signal: AttemptEnded, *, once: bool) -> AttemptEnded:
        """Return an attempt's end, as a failure if what it wanted remembered is what was refused."""
        why, report = self.why, signal.report
        if why is None or signal.node_id != why.node_id or not isinstance(report.outcome, (Done, Choose)):
            return signal
        failed = refused(why.code, why.message, once=once)
        if isinstance(report.outcome, Done):
            failed = replace(failed, usage=report.outcome.usage)
        told = Report(failed, inputs=report.inputs, inputs_json=report.inputs_json, logs=report.logs)
        return replace(signal, report=told)

    def under_way(self, state: RunState) -> dict[str, tuple[asyncio.Task[Report], int, int]]:
        """Return the attempts under way that the run, just read, has; the others are stopped."""
        kept = {}
        for node_id, (task, number, generation) in self.tasks.items():
            if _is(state, node_id, number, generation):
                kept[node_id] = (task, number, generation)
            else:
                task.cancel()
        self.tasks = kept
        return kept

    def not_lost(self, lost: Set[Under]) -> frozenset[Under]:
        """Return the attempts that nobody has an end of: not those that ended here, nor those under way here."""
        here = {(signal.node_id, signal.attempt, signal.generation) for signal in self.ended}
        here |= {(node_id, number, generation) for node_id, (_, number, generation) in self.tasks.items()}
        return frozenset(lost - here)


def _is(state: RunState, node_id: str, number: int, generation: int) -> bool:
    node = state.nodes.get(node_id)
    if node is None or node.status is not NodeStatus.RUNNING:
        return False
    return (node.attempt, node.generation) == (number, generation)


class Holder(Protocol):
    """What is needed of a walker."""

    leftover: Leftover | None

    @property
    def state(self) -> RunState:
        """Return the run's state."""

    def take_over(self, leftover: Leftover) -> None:
        """Go on with the attempts under way."""


class Leftovers:
    """What walkers of one process have left for the next ones of their runs; another holder's are of no use."""

    def __init__(self) -> None:
        """Start with nothing."""
        self._left: dict[str, tuple[int, Leftover]] = {}

    def keep(self, walker: Holder) -> bool:
        """Keep what a walker that leaves has left; say whether there is something."""
        if walker.leftover is None:
            return False
        self._left[walker.state.run_id] = (walker.state.epoch, walker.leftover)
        return True

    def take_up(self, walker: Holder) -> Leftover:
        """Hand a run that was read again what its former walker here had under way, and return it."""
        epoch, left = self._left.pop(walker.state.run_id, (walker.state.epoch, Leftover()))
        if epoch != walker.state.epoch:
            left.drop()
            return Leftover()
        walker.take_over(left)
        return left

    def drop(self) -> None:
        """Stop everything: the runs are somebody else's."""
        for _, left in self._left.values():
            left.drop()
        self._left.clear()
