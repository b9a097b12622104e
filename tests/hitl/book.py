"""What a prompt should do, told a second time and more simply: the account that the real one is compared with.

No rows, no transactions, no module of ``hitl``: one object that is changed by one move after the other.
"""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from dataclasses import dataclass, field
from itertools import chain, combinations
from typing import Any

from contracts.access import Principal
from contracts.prompts import PromptPolicy

Move = tuple[Any, ...]
"""``(name, who, …)`` of a person, or ``("end",)``, ``("escalate",)``, ``("remind",)`` of the clock"""
PEOPLE = {
    "ana": Principal("user:ana", roles=frozenset({"operator"})),
    "ben": Principal("user:ben", roles=frozenset({"operator"})),
    "cleo": Principal("user:cleo", roles=frozenset({"submitter"})),
    "root": Principal("user:root", roles=frozenset({"admin", "operator"})),
}
REQUESTER = "user:ana"
CLOCK: tuple[Move, ...] = (("end",), ("escalate",), ("remind",))


@dataclass
class Book:
    """One prompt: an approval whose form is ``{"type": "integer"}``."""

    policy: PromptPolicy
    now: int
    created: int = 0
    due: int | None = None
    on_timeout: str = "wait"
    status: str = "open"
    level: int = 0
    claimed: str | None = None
    votes: list[tuple[str, str, Any]] = field(default_factory=list)
    passed: list[tuple[str, str, int]] = field(default_factory=list)
    reminders: list[int] = field(default_factory=list)
    records: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.created = self.now
        seconds = self.policy.due_seconds
        self.due = None if seconds is None else self.now + round(seconds * 1_000)
        self.on_timeout = self.policy.on_timeout
        self.reminders = sorted({self.now + round(each * 1_000) for each in self.policy.remind_seconds})

    def seen(self) -> dict[str, Any]:
        """What can be compared with the stored prompt."""
        return {
            "status": self.status, "level": self.level, "claimed_by": self.claimed, "on_timeout": self.on_timeout,
            "due": self.due, "votes": [vote[:2] for vote in self.votes],
            "delegations": [pair[:2] for pair in self.passed], "records": dict(self.records),
            "signals": int(self.status != "open"),
        }  # fmt: skip

    def do(self, move: Move) -> str:
        """Make a move; return ``ok`` or the code it is refused with."""
        done: str = getattr(self, f"_{move[0]}")(*move[1:])
        return done

    # --- people ------------------------------------------------------------------------------------------------------

    def _asked(self, who: Principal) -> bool:
        users, roles, groups = self._assignees()
        has = who.subject in users or bool(who.roles & roles) or bool(who.groups & groups)
        for giver, to, level in self.passed:
            if level == self.level:
                has = (has or to == who.subject) and giver != who.subject
        return has

    def _assignees(self) -> tuple[set[str], set[str], set[str]]:
        step = self.policy.escalation[self.level - 1] if self.level else self.policy
        found = step.assignees
        roles = {"operator"} if found.nobody else set(found.roles)
        return set(found.users), roles, set(found.groups)

    def _refused(self, who: Principal) -> str | None:
        if self.policy.exclude_requester and who.subject == REQUESTER:
            return "requester_excluded"
        return None if self._asked(who) else "not_assigned"

    def _decide(self, name: str, action: str, answer: Any) -> str:
        who = PEOPLE[name]
        if (who.subject, action, answer) in self.votes:
            return "ok"
        refused = self._refused(who)
        if refused or self.status != "open":
            return refused or "prompt_settled"
        if self.policy.quorum == 1 and self.claimed not in (None, who.subject):
            return "prompt_claimed"
        if any(vote[0] == who.subject for vote in self.votes):
            return "already_voted"
        self.votes.append((who.subject, action, answer))
        same = sum(vote[1:] == (action, answer) for vote in self.votes)
        won = same >= self.policy.quorum or (self.policy.veto and action == "reject")
        self.status = "settled" if won else "open"
        self.records["prompt.decided" if won else "prompt.voted"] += 1
        return "ok"

    def _claim(self, name: str, force: bool) -> str:
        who = PEOPLE[name]
        if self.status != "open":
            return "prompt_settled"
        refused = self._refused(who)
        if refused or self.policy.quorum > 1:
            return refused or "claim_needs_one"
        if self.claimed == who.subject:
            return "ok"
        if force and "admin" not in who.roles:
            return "forbidden"
        if not force and self.claimed is not None:
            return "prompt_claimed"
        self.claimed = who.subject
        self.records["prompt.claimed"] += 1
        return "ok"

    def _release(self, name: str) -> str:
        who = PEOPLE[name].subject
        if self.status != "open" or self.claimed not in (None, who):
            return "prompt_settled" if self.status != "open" else "prompt_claimed"
        self.records["prompt.released"] += self.claimed is not None
        self.claimed = None
        return "ok"

    def _delegate(self, name: str, to: str) -> str:
        who, other = PEOPLE[name], f"user:{to}"
        if self.status != "open":
            return "prompt_settled"
        refused = self._refused(who)
        own = [pair for pair in self.passed if pair[0] == who.subject and pair[2] == self.level]
        if refused:
            again = own and own[-1][1] == other and not self._asked(who)
            return "ok" if again else refused
        voters = [vote[0] for vote in self.votes]
        if self.policy.exclude_requester and other == REQUESTER:
            return "requester_excluded"
        if who.subject in voters or other in voters:
            return "already_voted" if who.subject in voters else "delegate_voted"
        users, roles, groups = self._assignees()
        if not (roles or groups):
            kept, self.passed = self.passed, [*self.passed, (who.subject, other, self.level)]
            named = users | {to for _, to, _ in self.passed} | {person.subject for person in PEOPLE.values()}
            left = {one for one in named if self._asked(Principal(one))} | set(voters)
            self.passed = kept
            if len(left - ({REQUESTER} if self.policy.exclude_requester else set())) < self.policy.quorum:
                return "quorum_unreachable"
        self.passed.append((who.subject, other, self.level))
        self.claimed = other if self.claimed == who.subject else self.claimed
        self.records["prompt.delegated"] += 1
        return "ok"

    def _withdraw(self, name: str) -> str:
        who = PEOPLE[name]
        if who.subject != REQUESTER and "admin" not in who.roles:
            return "forbidden"
        if self.status != "open":
            return "ok" if self.status == "withdrawn" else "prompt_settled"
        self.status = "withdrawn"
        self.records["prompt.withdrawn"] += 1
        return "ok"

    # --- the clock ---------------------------------------------------------------------------------------------------

    def _is_due(self) -> bool:
        return self.status == "open" and self.due is not None and self.due <= self.now

    def _end(self) -> str:
        if self._is_due() and self.on_timeout not in ("wait", "escalate"):
            self.status = "expired"
            self.records["prompt.expired"] += 1
            answer = self.policy.default_answer
            if self.on_timeout in ("approve", "reject"):
                self.votes.append(("system:timeout", self.on_timeout, None))
            elif self.on_timeout == "default" and type(answer) is int:
                self.votes.append(("system:timeout", "edit", answer))
        return "ok"

    def _escalate(self) -> str:
        if self._is_due() and self.on_timeout == "escalate":
            step = self.policy.escalation[self.level]
            self.level += 1
            self.claimed = None
            self.due = None if step.due_seconds is None else self.now + round(step.due_seconds * 1_000)
            more = self.level < len(self.policy.escalation)
            self.on_timeout = "escalate" if more else self.policy.after_escalation
            self.records["prompt.escalated"] += 1
        return "ok"

    def _remind(self) -> str:
        if self.status == "open" and self.reminders and self.reminders[0] <= self.now:
            self.reminders.pop(0)
            self.records["prompt.reminded"] += 1
        return "ok"


def outcomes(book: Book, first: list[Move], second: list[Move]) -> list[tuple[str, str, Book]]:
    """Every way in which two things done at once may turn out: in some order, the clock perhaps a look later.

    A clock is several moves, each of which it leaves for its next look when somebody has the prompt locked.
    """
    found = []
    for one in _parts(first):
        for other in _parts(second):
            for places in combinations(range(len(one) + len(other)), len(one)):
                copy = deepcopy(book)
                left, right = list(one), list(other)
                said = {"one": "ok", "other": "ok"}
                for place in range(len(one) + len(other)):
                    side, moves = ("one", left) if place in places else ("other", right)
                    said[side] = copy.do(moves.pop(0))
                found.append((said["one"], said["other"], copy))
    return found


def _parts(moves: list[Move]) -> list[tuple[Move, ...]]:
    if len(moves) == 1:
        return [tuple(moves)]
    return list(chain.from_iterable(combinations(moves, many) for many in range(len(moves) + 1)))
