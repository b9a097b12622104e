"""The rules of deciding, as pure functions: when a prompt is settled, and what its clock does (H3, H4).

Who may decide is in ``hitl/standing.py``, what a decision may say in ``contracts/answers.py``. The rules here:

- A person has one vote and keeps it. The same vote sent again changes nothing and is no error.
- With ``veto``, ``reject`` and ``request_changes`` settle the prompt, whatever the quorum; without it they are votes.
- Any other vote counts together with those of other people that say exactly the same, action and answer; the prompt
  settles when ``quorum`` people said the same. Two people who edited differently have not agreed on anything.
- A timeout is explicit and fails closed: it acts as ``approve``, ``reject`` or with the default answer only where the
  policy says so, the prompt offers that action and the answer fits; otherwise the prompt expires. The quorum is about
  people: an explicit ``approve`` holds.
- An escalation asks other people, with a time of their own; what was voted before stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from contracts.answers import DecisionForm, canonical
from contracts.prompts import OPERATORS, Assignees, PromptPolicy

VETOES: Final = frozenset({"reject", "request_changes"})
TIMER: Final = "system:timeout"
TIMER_CHANNEL: Final = "timer"


@dataclass(frozen=True, slots=True)
class Say:
    """A vote: who, the action, and the answer as canonical JSON (None without one)."""

    decided_by: str
    action: str
    answer: bytes | None

    @property
    def content(self) -> tuple[str, bytes | None]:
        """Return what two votes must share to count together."""
        return (self.action, self.answer)


def winner(votes: Sequence[Say], quorum: int, *, veto: bool = True) -> Say | None:
    """Return the vote that settles the prompt, None while it stays open; ``votes`` in the order they were cast."""
    for index, vote in enumerate(votes):
        if veto and vote.action in VETOES:
            return vote
        same = {other.decided_by for other in votes[: index + 1] if other.content == vote.content}
        if len(same) >= quorum:
            return vote
    return None


@dataclass(frozen=True, slots=True)
class Ending:
    """What happens at the due time: ``action`` is decided by the timer, None lets the prompt expire."""

    action: str | None
    answer: bytes | None = None


EXPIRES: Final = Ending(None)


def at_timeout(on_timeout: str, form: DecisionForm, default_answer: Any = None) -> Ending:
    """Return what a prompt's due time does; ``wait`` and ``escalate`` never come here.

    A question, a choice, a repair or an effect check cannot be approved by a clock: they expire.
    """
    if on_timeout in ("approve", "reject") and on_timeout in form.actions:
        return Ending(on_timeout)
    if on_timeout == "default" and form.fits(default_answer):
        return Ending(form.answering, canonical(default_answer))
    return EXPIRES


@dataclass(frozen=True, slots=True)
class Escalated:
    """Who is asked next, until when (ms, None: for ever), and what the clock does then."""

    assignees: Assignees
    due_at: int | None
    on_timeout: str


def escalated(policy: PromptPolicy, level: int, now_ms: int) -> Escalated:
    """Return the step that follows ``level`` (0: as it was raised); the last one ends as ``after_escalation`` says."""
    step = policy.escalation[level]
    more = level + 1 < len(policy.escalation)
    return Escalated(
        assignees=OPERATORS if step.assignees.nobody else step.assignees,
        due_at=None if step.due_seconds is None else now_ms + round(step.due_seconds * 1_000),
        on_timeout="escalate" if more else policy.after_escalation,
    )


def next_reminder(policy: PromptPolicy, created_at: int, after: int) -> int | None:
    """Return when people are reminded next, later than ``after`` (ms); None when no reminder is left."""
    times = (created_at + round(seconds * 1_000) for seconds in policy.remind_seconds)
    return min((at for at in times if at > after), default=None)
