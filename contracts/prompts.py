"""Stored questions to people and their answers (H1-H5; wire §5).

A prompt is a row. Its policy is frozen when it is raised; what a person sees is what ``bound_hash`` covers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, Final, Literal, LiteralString, Self

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from contracts.wire import Wire


class PromptKind(StrEnum):
    """What sort of question it is; the actions below are all that a person may answer."""

    APPROVAL = "approval"
    QUESTION = "question"
    CHOICE = "choice"
    PLAN_REVIEW = "plan_review"
    REPAIR = "repair"
    EFFECT_CHECK = "effect_check"


ACTIONS: Final[Mapping[PromptKind, tuple[str, ...]]] = {
    PromptKind.APPROVAL: ("approve", "edit", "reject"),
    PromptKind.QUESTION: ("answer",),
    PromptKind.CHOICE: ("choose",),
    PromptKind.PLAN_REVIEW: ("approve", "edit", "request_changes"),
    PromptKind.REPAIR: ("edit", "reject"),
    PromptKind.EFFECT_CHECK: ("happened", "not_happened"),
}
ACTIONS_WITH_ANSWER: Final = frozenset({"edit", "answer", "choose"})
ACTIONS_WITH_REASON: Final = frozenset({"request_changes"})
"""a comment is required: it is what the planner is told"""
MAX_COMMENT: Final = 4_000
OnTimeout = Literal["wait", "approve", "reject", "default", "escalate", "fail"]
AfterEscalation = Literal["wait", "approve", "reject", "default", "fail"]

Seconds = Annotated[float, Field(gt=0, le=366 * 86_400)]
_Name = Annotated[str, Field(min_length=1, max_length=200)]


def _at(field_name: str, code: LiteralString, message: LiteralString) -> PydanticCustomError:
    """Return the error of a policy whose fields do not go together, at the one to change."""
    return PydanticCustomError(code, message, {"key": field_name})


class Assignees(Wire):
    """Who may decide: any of the users, or anyone with one of the roles or groups."""

    users: list[_Name] = Field(default_factory=list, max_length=100)
    roles: list[_Name] = Field(default_factory=list, max_length=20)
    groups: list[_Name] = Field(default_factory=list, max_length=100)

    @property
    def nobody(self) -> bool:
        """Say whether the list is empty."""
        return not (self.users or self.roles or self.groups)

    def check_quorum(self, quorum: int) -> None:
        """Refuse a quorum that the named people alone can never reach: the prompt would stay open for ever."""
        if self.users and not (self.roles or self.groups) and len(set(self.users)) < quorum:
            raise _at("quorum", "quorum_unreachable", "The quorum is larger than the number of assignees.")


OPERATORS: Final = Assignees(roles=["operator"])


class EscalationStep(Wire):
    """Whom to ask next when nobody decided in time, and for how long; without ``due_seconds`` it waits for ever."""

    assignees: Assignees
    due_seconds: Seconds | None = None


class PromptPolicy(Wire):
    """How people are asked (H3): who, how many, until when, and what happens then. Frozen when the prompt is raised.

    ``veto``: one ``reject`` or ``request_changes`` settles; without it a rejection needs the quorum like any answer.
    ``exclude_requester``: who asked for the run may not decide. ``remind_seconds`` counts from the raise.
    ``on_timeout`` acts at the due time; ``escalate`` walks ``escalation`` step by step, each with its own time, and
    ``after_escalation`` acts when the last step's time is over. ``default_answer`` is what ``default`` answers.
    """

    assignees: Assignees = OPERATORS
    quorum: Annotated[int, Field(ge=1, le=50)] = 1
    veto: bool = True
    exclude_requester: bool = False
    due_seconds: Seconds | None = None
    remind_seconds: list[Seconds] = Field(default_factory=list, max_length=20)
    on_timeout: OnTimeout = "wait"
    default_answer: Any = None
    escalation: list[EscalationStep] = Field(default_factory=list, max_length=10)
    after_escalation: AfterEscalation = "fail"

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        self.assignees.check_quorum(self.quorum)
        for step in self.escalation:
            step.assignees.check_quorum(self.quorum)
        if self.on_timeout == "escalate" and not self.escalation:
            raise _at("on_timeout", "escalation_missing", "on_timeout escalate needs an escalation.")
        if self.escalation and self.on_timeout != "escalate":
            raise _at("escalation", "escalation_unused", "An escalation goes with on_timeout escalate.")
        if self.on_timeout not in ("wait", "fail") and self.due_seconds is None:
            raise _at("on_timeout", "due_missing", "Without due_seconds the time is never over.")
        if any(step.due_seconds is None for step in self.escalation[:-1]):
            raise _at("escalation", "due_missing", "Only the last step of an escalation may wait for ever.")
        wants_default = "default" in (self.on_timeout, self.after_escalation if self.escalation else "")
        if wants_default and "default_answer" not in self.model_fields_set:
            raise _at("default_answer", "default_missing", "A default needs a default_answer.")
        return self

    def policy(self) -> PromptPolicy:
        """Return the policy alone, as it is frozen in a prompt's row."""
        given = {name: getattr(self, name) for name in PromptPolicy.model_fields if name in self.model_fields_set}
        return PromptPolicy(**given)


class PromptSpec(PromptPolicy):
    """A question before it is raised: from a policy, an ``ask`` node, a capability, or an exhausted repair."""

    kind: PromptKind = Field(default=PromptKind.QUESTION, strict=False)
    question: Annotated[str, Field(min_length=1, max_length=4_000)]
    proposed: Any = None
    answer_schema: dict[str, Any] | bool = Field(default_factory=dict)
    actions: list[str] | None = None
    policy_id: str | None = None

    def allowed(self) -> tuple[str, ...]:
        """Return the actions that this prompt offers: the given ones that its kind has, all of its kind's without."""
        given = tuple(dict.fromkeys(action for action in self.actions or () if action in ACTIONS[self.kind]))
        return given or ACTIONS[self.kind]


@dataclass(frozen=True, slots=True)
class Vote:
    """One person's say before the quorum is reached."""

    decided_by: str
    action: str
    decided_at: str


@dataclass(frozen=True, slots=True)
class Decision:
    """An accepted answer. ``channel`` is the door: ``http``, ``batch``, ``cli``, ``link``, or the clock's ``timer``."""

    decision_id: str
    action: str
    answer: Any
    comment: str | None
    decided_by: str
    decided_at: str
    channel: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """A raised prompt, field for field as it stands on the wire (times RFC 3339)."""

    prompt_id: str
    run_id: str
    node_id: str | None
    kind: str
    status: str
    question: str
    proposed: Any
    answer_schema: Any
    actions: Sequence[str]
    assignees: Mapping[str, Sequence[str]]
    claimed_by: str | None
    quorum: int
    votes: Sequence[Vote]
    plan_version: int
    bound_hash: str
    created_at: str
    due_at: str | None
    on_timeout: str
    links: Mapping[str, str] = field(default_factory=dict)
    veto: bool = True
    exclude_requester: bool = False
    level: int = 0
    """how often it was escalated"""
    delegations: Sequence[Mapping[str, str]] = ()
    """``{"from", "to", "at"}`` in order: who passed their say on to whom"""


class DecisionInput(Wire):
    """What a person posts to decide a prompt (wire §5)."""

    action: Annotated[str, Field(min_length=1, max_length=40)]
    answer: Any = None
    comment: Annotated[str, Field(max_length=MAX_COMMENT)] | None = None
    bound_hash: Annotated[str, Field(max_length=128)] | None = None

    @property
    def has_answer(self) -> bool:
        """Say whether the caller sent an ``answer`` member (null counts)."""
        return "answer" in self.model_fields_set
