"""``ask``: a question to people, or a gate that a policy put into the plan (H2, H5)."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator
from pydantic_core import PydanticCustomError

from contracts.answers import prompt_problem
from contracts.outcome import Outcome, Pause
from contracts.plan import KindSpec
from contracts.prompts import ACTIONS, PromptKind, PromptSpec
from contracts.wire import Wire
from engine.kinds.base import Work


class AskFields(Wire):
    """Either ``prompt`` (a question of its own) or ``policy_id`` with what the gate ``guards``."""

    prompt: PromptSpec | None = None
    policy_id: Annotated[str, Field(min_length=1, max_length=128)] | None = None
    guards: Literal["plan", "before", "after", "output"] | None = None
    target: Annotated[str, Field(min_length=1, max_length=128)] | None = None

    @model_validator(mode="after")
    def _one(self) -> AskFields:
        if (self.prompt is None) == (self.policy_id is None):
            raise PydanticCustomError("ambiguous_ask", "Give exactly one of prompt, policy_id.")
        return self

    @field_validator("prompt")
    @classmethod
    def _answerable(cls, prompt: PromptSpec | None) -> PromptSpec | None:
        problem = None if prompt is None else prompt_problem(prompt)
        if problem is not None:
            raise PydanticCustomError(problem[0], problem[1])
        return prompt


class AskKind:
    """Pauses with its prompt; the answer, or what was approved, is its output."""

    spec = KindSpec(name="ask", fields=AskFields, summary="Asks people and waits without holding anything.")
    pure = True

    async def run(self, work: Work) -> Outcome:
        """Return the pause. A gate's spec was resolved from its policy by the attempt (``work.proposed``)."""
        if work.own.prompt is None:
            return Pause(PromptSpec.model_validate(work.proposed))
        return Pause(filled(work.own.prompt, work))


def filled(spec: PromptSpec, work: Work) -> PromptSpec:
    """Return the node's own prompt with what it shows: its inputs, unless it says so itself."""
    shown = spec.proposed if spec.proposed is not None else (dict(work.bundle.inputs) or None)
    if spec.kind is PromptKind.APPROVAL and set(work.bundle.inputs) == {"proposed"}:
        shown = work.bundle.inputs["proposed"]
    actions = spec.actions and [action for action in spec.actions if action in ACTIONS[spec.kind]]
    return spec.model_copy(update={"proposed": shown, "actions": actions or None})


ASK = AskKind()
