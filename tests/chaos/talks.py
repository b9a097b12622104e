"""Turns of conversations: said twice at once under one key, through both processes (W6)."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.people import insist
from tests.model.scripted import Script, calls, says

ANSWER = "It is done."
TOOL = "step.idempotent"


@dataclass(frozen=True)
class Told:
    """What somebody who said something was told; ids are empty when it was refused."""

    conversation_id: str
    status: int
    run_id: str = ""
    message_id: str = ""
    body: bytes = b""


def instruct(script: Script) -> None:
    """Let the model have the tool called, and then say that it is done."""
    script.say_always(calls((TOOL.replace(".", "_"), {"ms": 20})), says(ANSWER))


async def said(bases: Sequence[str], first: int, key: str) -> list[Told]:
    """Begin a conversation and say one thing in it, twice at once; both are to be told of the same turn."""
    given = {"title": key, "tools": [TOOL]}
    made = await insist(bases, first, "POST", "/api/v1/conversations", body=given)
    if made.status != 201:
        return [Told("", made.status, body=made.body)]
    conversation_id = made.json["conversation_id"]
    return list(await asyncio.gather(*(_say(bases, first + who, conversation_id, key) for who in range(2))))


async def _say(bases: Sequence[str], first: int, conversation_id: str, key: str) -> Told:
    path, headers = f"/api/v1/conversations/{conversation_id}/turns", {"Idempotency-Key": key, "X-Correlation-Id": key}
    answer = await insist(bases, first, "POST", path, body={"content": key}, headers=headers)
    if answer.status != 202:
        return Told(conversation_id, answer.status, body=answer.body)
    return Told(conversation_id, answer.status, answer.json["run_id"], answer.json["message_id"])
