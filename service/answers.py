"""What assistants said: read from the runs that answer, never written beside them (W6)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from contracts.clock import rfc3339
from contracts.lifecycle import RunStatus
from service.chats import answer_text
from service.reads import run_links
from store.connect import Database
from store.conversations import AnswerRow, MessageRow, answers
from store.tombstones import tombstone

NOT_STARTED: Final = "not_started"
"""The run of a message never began: the process died, or the request did; retry it."""
PRUNED: Final = "pruned"
"""The run is gone, and what it said with it (P6)."""


@dataclass(frozen=True, slots=True)
class Said:
    """An assistant's message as far as it is there; ``error`` is why there is none."""

    status: str
    text: str | None = None
    tool_calls: Sequence[Any] = ()
    usage: Mapping[str, Any] | None = None
    error: Mapping[str, Any] | None = None


class Answers:
    """Finds what runs answered."""

    def __init__(self, database: Database) -> None:
        """Take the database."""
        self._database = database

    async def of(self, tenant: str, messages: Sequence[MessageRow]) -> dict[str, Said]:
        """Return run → what it said, for every run that the messages name."""
        run_ids = [message.run_id for message in messages if message.run_id is not None]
        found = await answers(self._database, tenant, run_ids)
        said = {}
        for run_id in run_ids:
            row = found.get(run_id)
            if row is not None:
                said[run_id] = _read(row)
            else:
                gone = await tombstone(self._database, tenant, run_id)
                said[run_id] = Said(NOT_STARTED if gone is None else PRUNED)
        return said


def _read(row: AnswerRow) -> Said:
    ended = row.status in (RunStatus.COMPLETED, RunStatus.FAILED, RunStatus.CANCELLED)
    if not ended or row.frame is None:
        return Said(row.status)
    payload = orjson.loads(row.frame)["payload"]
    if row.status == RunStatus.COMPLETED:
        return _completed(payload)
    if row.status == RunStatus.CANCELLED:
        return Said(row.status, error={"code": "cancelled", "message": payload["reason"] or "It was cancelled."})
    return Said(row.status, error={"code": payload["code"], "message": payload["message"]})


def _completed(payload: Mapping[str, Any]) -> Said:
    output = payload["output"]
    words = answer_text(output)
    text = orjson.dumps(output).decode() if words is None else words
    calls = output.get("tool_calls") if isinstance(output, dict) else None
    return Said(RunStatus.COMPLETED, text, calls if isinstance(calls, list) else (), payload["usage"])


def shown_message(message: MessageRow, known: Mapping[str, Said]) -> dict[str, Any]:
    """Return a message as it goes over the wire."""
    shown: dict[str, Any] = {
        "message_id": message.message_id,
        "parent_id": message.parent_id,
        "role": message.role,
        "content": message.content,
        "created_at": rfc3339(message.created_at),
    }
    if message.run_id is None:
        return shown
    said = known[message.run_id]
    return {
        **shown,
        "content": said.text,
        "run_id": message.run_id,
        "status": said.status,
        "tool_calls": list(said.tool_calls),
        "usage": said.usage,
        "error": said.error,
        "links": run_links(message.run_id),
    }
