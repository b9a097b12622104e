"""One round of a model with tools: the one loop of chats, and of capabilities that answer with a talk (R2, W6).

Each round is an attempt's call of the model. When it asks for tools the outcome is an ``Invoke``: the machine runs each
call as a node of its own, with its gates, and the same attempt goes on. After ``max_rounds`` rounds the model is asked
once more, without tools.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from contracts.capability import CapabilityError, Talk
from contracts.outcome import Done, Fail, Invoke, Outcome, Retry
from contracts.ports import ModelReply
from engine.kinds.base import Work
from engine.kinds.talk import Said, told
from engine.toolbox import FlowTool, Offer, asked, toolbox

MAX_DEEP: Final = 8
"""How deep calls of models may stand inside each other."""


def is_last(talk: Talk, said: Said) -> bool:
    """Say whether the model has asked for tools as often as it may."""
    return len(said.rounds) >= talk.max_rounds


async def next_reply(
    work: Work, talk: Talk, said: Said, offers: Mapping[str, Offer], sampling: Mapping[str, Any] | None = None
) -> ModelReply | Outcome:
    """Ask the model; return its answer, or the outcome when there is none: calls to be made first, or an error."""
    if work.model is None:
        return Fail("model_missing", "No model is configured.")
    last = is_last(talk, said)
    offered = {} if last else offers
    try:
        reply = await work.model.generate(
            told(work, talk.messages, said, last=last),
            schema=talk.schema,
            tools=[offer.tool for offer in offered.values()],
            sampling=sampling,
            on_text=work.context.delta,
            timeout_seconds=work.seconds,
            model=talk.model,
        )
    except CapabilityError as error:
        if error.retryable:
            return Retry(error.code, error.message, after_ms=error.after_ms, usage=error.usage)
        return Fail(error.code, error.message, usage=error.usage)
    said.spend(reply)
    if reply.tool_calls and not last:
        calls = [asked(call, offered) for call in reply.tool_calls]
        return Invoke(calls, said.after(work.node.node_id, reply.text, calls), reply.usage)
    return reply


async def converse(work: Work, talk: Talk, tools: Sequence[str], flows: Sequence[FlowTool] = ()) -> Outcome:
    """Let a capability's talk go on by one round; its answer is the text, or the value in the talk's schema."""
    said = Said.read(work.parked)
    if work.node.node_id.count("[") > MAX_DEEP:
        return Fail("too_deep", f"Capabilities that have others called may stand {MAX_DEEP} deep.")
    offers = {} if work.directory is None else toolbox(tools, work.directory, flows)
    reply = await next_reply(work, talk, said, offers)
    if not isinstance(reply, ModelReply):
        return reply
    if reply.tool_calls or (talk.schema is None and not reply.text.strip()):
        return Retry("model_bad_reply", "The model's reply is no answer.", usage=reply.usage)
    output = reply.text.strip() if talk.schema is None else reply.value
    if talk.remember is not None:
        try:
            work.context.remember(*talk.remember, output)
        except CapabilityError as error:
            return Fail(error.code, error.message, usage=reply.usage)
    return Done(output, reply.usage)
