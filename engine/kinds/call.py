"""``call``: run a capability; ``structure``: run one whose output is the caller's own shape."""

from __future__ import annotations

from typing import Annotated, Any, Final

from pydantic import Field

from contracts.answers import prompt_problem
from contracts.capability import Ask, CapabilityError, CapabilitySpec, Result, Talk
from contracts.outcome import Choose, Done, Expand, Fail, Outcome, Pause, Retry, Skip
from contracts.plan import KindSpec
from contracts.wire import Wire
from engine.kinds.base import Work
from engine.kinds.rounds import converse
from engine.toolbox import FlowTool

MAX_FLOWS: Final = 64

_PLAIN: Final = (dict, list, str, int, float)
"""What most capabilities return: a JSON value, the output as it stands."""


class CallFields(Wire):
    """``flows`` are the plans that the capability may have run, put there when the run was accepted (R2)."""

    flows: Annotated[list[FlowTool], Field(max_length=MAX_FLOWS)] = Field(default_factory=list)


class CallKind:
    """Runs the node's capability once; an :class:`Ask` parks it, the answer resumes it.

    A :class:`Talk` goes on as a chat does.
    """

    pure = False

    def __init__(self, name: str, summary: str) -> None:
        """Name the kind; ``call`` and ``structure`` differ only in what the planner makes of them."""
        self.spec = KindSpec(name=name, fields=CallFields, summary=summary, needs_capability=True)

    async def run(self, work: Work) -> Outcome:
        """Call ``run``, or ``resume`` when an answer is there."""
        capability = work.capability
        if capability is None:
            return Fail("capability_unavailable", "The node has no capability.")
        try:
            if work.parked is not None and "answer" in work.parked:
                said = await capability.resume(
                    work.bundle, work.context, work.parked.get("state"), work.parked["answer"]
                )
            else:
                said = await capability.run(work.bundle, work.context)
            if isinstance(said, Talk):
                return await _talked(work, said, capability.spec)
        except CapabilityError as error:
            if error.retryable:
                return Retry(error.code, error.message, after_ms=error.after_ms, usage=error.usage)
            return Fail(error.code, error.message, usage=error.usage)
        return as_outcome(said)


async def _talked(work: Work, talk: Talk, spec: CapabilitySpec) -> Outcome:
    """Let a talk go on, with the capability's tools."""
    if len(spec.flows) != len(work.own.flows):
        message = f"{spec.capability_id} has flows called, which only a plan that was handed in can hold."
        return Fail("flows_missing", message)
    return await converse(work, talk, spec.tools, work.own.flows)


def as_outcome(said: Any) -> Outcome:
    """Turn what a capability returned into an outcome: outcomes pass, a plain value is the output.

    Only a map unfolds and only a branch chooses a way; from a capability those two are a mistake.
    """
    if said is None or isinstance(said, _PLAIN):
        return Done(said)
    if isinstance(said, (Expand, Choose)):
        return Fail("outcome_not_allowed", f"A capability cannot answer with {type(said).__name__}.")
    if isinstance(said, Ask):
        said = Pause(said.prompt, resumes=True, state=said.state)
    if isinstance(said, Pause) and (problem := prompt_problem(said.prompt)) is not None:
        # A question that nobody could answer would wait for ever.
        return Fail("prompt_invalid", problem[1], usage=said.usage)
    if isinstance(said, (Done, Retry, Pause, Fail, Skip)):
        return said
    if isinstance(said, Result):
        return Done(said.output, said.usage)
    return Done(said)


CALL = CallKind("call", "Runs a capability.")
STRUCTURE = CallKind("structure", "Runs a generic capability that writes the caller's shape from other outputs.")
