"""``chat``: a model answers, with tools if it may; each call of a tool is a node ``name[0]``, ``name[1]`` … (W6).

An attempt is one call of the model. When it asks for tools, the attempt pauses until their nodes have ended and goes
on with what they said; after ``max_rounds`` rounds the model is asked once more, without tools, so there is an answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Final

from pydantic import Field, field_validator
from pydantic_core import PydanticCustomError

from contracts.capability import Talk
from contracts.outcome import Done, Fail, Outcome, Retry
from contracts.plan import KindSpec
from contracts.ports import ModelReply
from contracts.wire import Wire
from engine.kinds.base import Work
from engine.kinds.rounds import is_last, next_reply
from engine.kinds.talk import Said, TalkRefused, opened
from engine.toolbox import FlowTool, toolbox

MAX_ROUNDS: Final = 64
MAX_TOOLS: Final = 64
_Capability = Annotated[str, Field(min_length=1, max_length=128)]
_Penalty = Annotated[float, Field(ge=-2, le=2)]


class Sampling(Wire):
    """How the model chooses its words; what is left out is the endpoint's own."""

    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(ge=0, le=1)] | None = None
    max_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    max_completion_tokens: Annotated[int, Field(ge=1, le=1_000_000)] | None = None
    presence_penalty: _Penalty | None = None
    frequency_penalty: _Penalty | None = None
    seed: int | None = None
    stop: Annotated[str, Field(max_length=200)] | Annotated[list[str], Field(max_length=4)] | None = None


class ChatFields(Wire):
    """``tools`` are the capabilities that the model may have called, ``max_rounds`` how often it may ask for some.

    ``flows`` are plans that it may have run, each as a child run. ``instructions`` come first of all that it is told.
    Its parameter ``messages`` is the conversation so far, a list of ``{"role", "content"}``; ``message`` is a text that
    comes after it. All other parameters are shown as material. ``model`` asks another model than the configured one:
    one that has a price of its own (``FLEX_MODEL_PRICES``).
    """

    tools: Annotated[list[_Capability], Field(max_length=MAX_TOOLS)] = Field(default_factory=list)
    flows: Annotated[list[FlowTool], Field(max_length=MAX_TOOLS)] = Field(default_factory=list)
    max_rounds: Annotated[int, Field(ge=1, le=MAX_ROUNDS)] = 8
    instructions: Annotated[str, Field(max_length=20_000)] = ""
    sampling: Sampling = Field(default_factory=Sampling)
    model: Annotated[str, Field(min_length=1, max_length=200)] | None = None

    @field_validator("tools")
    @classmethod
    def _distinct(cls, tools: list[str]) -> list[str]:
        if len(set(tools)) != len(tools):
            raise PydanticCustomError("tool_twice", "Name each tool once.")
        return tools


_COUNT: Final = {"type": "integer", "minimum": 0}
OUTPUT: Final[Mapping[str, Any]] = {
    "type": "object",
    "required": ["text"],
    "properties": {
        "text": {"type": "string"},
        "finish": {"enum": ["stop", "length", "max_rounds"]},
        "rounds": _COUNT,
        "tool_calls": {"type": "array", "items": {"type": "object"}},
        "usage": {
            "type": "object",
            "properties": {"tokens_in": _COUNT, "tokens_out": _COUNT, "cost": {"type": "number", "minimum": 0}},
        },
    },
}
"""The JSON Schema of what a chat puts out."""


class ChatKind:
    """Asks the model once per attempt; the machine runs the calls that it asks for and lets the attempt go on."""

    spec = KindSpec(
        name="chat",
        fields=ChatFields,
        summary="Lets the model answer a conversation, with capabilities as its tools.",
        output=OUTPUT,
        calls=lambda own: own.tools,
        needs_model=True,
    )
    pure = False

    async def run(self, work: Work) -> Outcome:
        """Return the answer, or the calls that it needs first."""
        own, said = work.own, Said.read(work.parked)
        try:
            opening = opened(work)
        except TalkRefused as refused:
            return Fail(refused.code, refused.message)
        talk = Talk(opening, max_rounds=own.max_rounds, model=own.model)
        offers = {} if work.directory is None else toolbox(own.tools, work.directory, own.flows)
        reply = await next_reply(work, talk, said, offers, own.sampling.model_dump(exclude_none=True))
        return reply if not isinstance(reply, ModelReply) else _answer(said, reply, last=is_last(talk, said))


def _answer(said: Said, reply: ModelReply, *, last: bool) -> Outcome:
    if not reply.text.strip():
        return Retry("model_bad_reply", "The model's reply has no text.", usage=reply.usage)
    finish = "length" if reply.stop == "length" else "max_rounds" if last else "stop"
    output = {
        "text": reply.text,
        "finish": finish,
        "rounds": len(said.rounds),
        "tool_calls": [call for one in said.rounds for call in one["calls"]],
        "usage": said.usage,
    }
    return Done(output, reply.usage)


CHAT = ChatKind()
