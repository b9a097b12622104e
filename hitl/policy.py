"""The rules of deciding, as pure functions: who may, with what, when it is settled, what a timeout does (H2-H4).

The rules, in one place:

- Without assignees a prompt belongs to operators. Any listed user, role or group suffices.
- Only an action that the prompt offers counts, and only ``edit``, ``answer`` and ``choose`` carry an answer.
- A person has one vote and keeps it. The same vote sent again changes nothing and is no error.
- ``reject`` and ``request_changes`` are vetoes: one settles the prompt, whatever the quorum.
- Any other vote counts together with those of other people that say exactly the same, action and answer; the prompt
  settles when ``quorum`` people said the same. Two people who edited differently have not agreed on anything.
- A timeout is explicit and fails closed: it acts as ``approve`` or ``reject`` only where the policy says so and the
  prompt offers that action; otherwise the prompt expires. The quorum is about people: an explicit ``approve`` holds.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from contracts.access import Principal
from contracts.errors import ActionNotAllowed, AnswerInvalid, ErrorItem, NotAssigned
from contracts.prompts import ACTIONS_WITH_ANSWER, OPERATORS, Assignees, DecisionInput
from contracts.wire import MAX_DEPTH, deep_place, has_nul

VETOES: Final = frozenset({"reject", "request_changes"})
MAX_ANSWER_BYTES: Final = 1024 * 1024
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


def canonical(answer: Any) -> bytes:
    """Return an answer as JSON with sorted keys, so that equal answers are equal bytes; AnswerInvalid if it is none."""
    try:
        text = orjson.dumps(answer, option=orjson.OPT_SORT_KEYS)
    except orjson.JSONEncodeError as error:
        raise refused_answer("not_json", f"The answer is not JSON that can be stored: {error}.") from error
    if len(text) > MAX_ANSWER_BYTES:
        raise refused_answer("too_large", f"The answer has {len(text)} bytes; at most {MAX_ANSWER_BYTES} are taken.")
    return text


def refused_answer(code: str, message: str) -> AnswerInvalid:
    """Return the error for an answer that is refused as a whole."""
    return AnswerInvalid(message, errors=[ErrorItem("/answer", code, message)])


def may_decide(principal: Principal, assignees: Assignees) -> bool:
    """Say whether the principal is one of the assignees; an empty list means operators."""
    wanted = OPERATORS if assignees.nobody else assignees
    return (
        principal.subject in wanted.users
        or not principal.roles.isdisjoint(wanted.roles)
        or not principal.groups.isdisjoint(wanted.groups)
    )


def check_assigned(principal: Principal, assignees: Assignees) -> None:
    """Raise NotAssigned unless the principal may decide."""
    if not may_decide(principal, assignees):
        raise NotAssigned(assignees=(OPERATORS if assignees.nobody else assignees).model_dump())


def check_action(action: str, offered: Sequence[str]) -> None:
    """Raise ActionNotAllowed, listing what is offered, for any other action."""
    if action not in offered:
        raise ActionNotAllowed(f"This prompt offers {', '.join(offered)}; not {action}.", actions=list(offered))


def read_answer(decision: DecisionInput) -> bytes | None:
    """Return the answer as canonical JSON, None for an action that takes none.

    A null is an answer where one is taken, and nothing where none is. Raises AnswerInvalid when an answer is missing,
    not wanted, not storable or too large.
    """
    if decision.comment is not None and has_nul(decision.comment):
        raise AnswerInvalid(
            "NUL characters are refused.", errors=[ErrorItem("/comment", "nul", "Holds a NUL character.")]
        )
    if decision.action not in ACTIONS_WITH_ANSWER:
        if decision.answer is not None:
            raise refused_answer("not_wanted", f"{decision.action} takes no answer; to change what is shown, use edit.")
        return None
    if not decision.has_answer:
        raise refused_answer("required", f"{decision.action} needs an answer.")
    if has_nul(decision.answer):
        raise refused_answer("nul", "Holds a NUL character: no database stores it.")
    if deep_place(decision.answer) is not None:
        raise refused_answer("too_deep", f"Nested over {MAX_DEPTH} levels.")
    return canonical(decision.answer)


def winner(votes: Sequence[Say], quorum: int) -> Say | None:
    """Return the vote that settles the prompt, None while it stays open; ``votes`` in the order they were cast."""
    for index, vote in enumerate(votes):
        if vote.action in VETOES:
            return vote
        same = {other.decided_by for other in votes[: index + 1] if other.content == vote.content}
        if len(same) >= quorum:
            return vote
    return None


@dataclass(frozen=True, slots=True)
class Ending:
    """What happens at the due time: ``action`` is decided by the timer, None lets the prompt expire."""

    action: str | None


EXPIRES: Final = Ending(None)


def at_timeout(on_timeout: str, offered: Collection[str]) -> Ending:
    """Return what a prompt's due time does; ``wait`` never comes here.

    A question, a choice, a repair or an effect check cannot be approved by a clock: they expire.
    """
    if on_timeout in ("approve", "reject") and on_timeout in offered:
        return Ending(on_timeout)
    return EXPIRES
