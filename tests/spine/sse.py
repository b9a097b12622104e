"""A small reader of Server-Sent Events that checks every frame it reads against the wire (wire §4)."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import Any

import httpx2

KEYS = ["type", "id", "timestamp", "correlation_id", "run_id", "node_id", "payload"]
EPHEMERAL = {"node_delta", "stream_end"}
TERMINAL = {"complete", "failed", "cancelled"}
PAYLOADS: dict[str, set[str]] = {
    "start": {"objective", "contract_hash", "links"},
    "plan_requested": {"round", "strategy"},
    "plan_rejected": {"round", "findings"},
    "plan_generated": {"plan"},
    "plan_updated": {"plan", "from_version", "diff", "author", "reason"},
    "node_start": {"attempt", "kind", "capability_id", "resumed"},
    "node_delta": {"attempt", "offset", "text"},
    "node_retry": {"attempt", "next_attempt", "delay_ms", "code", "message"},
    "node_complete": {"attempt", "duration_ms", "output"},
    "node_error": {"attempt", "code", "message", "fallback"},
    "tool_calls": {"round", "text", "calls"},
    "node_skipped": {"reason"},
    "hitl_request": {"prompt"},
    "hitl_resolved": {"prompt_id", "status", "decision"},
    "run_waiting": {"waiting_on", "prompt_ids", "wake_at"},
    "run_resumed": {"cause"},
    "policy_triggered": {"policy_id", "trigger", "action"},
    "validation_error": {"scope", "attempt", "errors"},
    "log": {"level", "message"},
    "stream_end": {"reason"},
    "complete": {"output", "duration_ms", "waited_ms", "usage"},
    "failed": {"code", "message", "failed_node_id", "errors", "retryable"},
    "cancelled": {"by", "reason"},
}
PROMPT = {
    "prompt_id", "run_id", "node_id", "kind", "status", "question", "proposed", "answer_schema", "actions", "assignees",
    "claimed_by", "quorum", "votes", "plan_version", "bound_hash", "created_at", "due_at", "on_timeout", "links",
    "veto", "exclude_requester", "level", "delegations",
}  # fmt: skip
OPTIONAL = {
    "start": {"forked_from", "parent"},
    "node_start": {"child_run_id"},
    "node_complete": {"artifact_url", "copied_from"},
}
DECISION = {"decision_id", "action", "answer", "comment", "decided_by", "decided_at", "channel"}
OF_A_NODE = {"node_start", "node_delta", "node_retry", "node_complete", "node_error", "node_skipped", "tool_calls"}
OF_A_NODE |= {"hitl_request", "hitl_resolved"}
TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z")


@dataclass
class Frame:
    """One frame as it came over the wire."""

    type: str
    id: int | None
    node_id: str | None
    payload: dict[str, Any]
    whole: dict[str, Any] = field(repr=False)

    @property
    def shape(self) -> str:
        """``type`` or ``type:node``: what sequences are compared by."""
        return self.type if self.node_id is None else f"{self.type}:{self.node_id}"


def read_frame(whole: dict[str, Any], line_id: str | None = None, *, streamed: bool = False) -> Frame:
    """Check one frame's JSON and return it."""
    assert list(whole) == KEYS, whole
    kind = whole["type"]
    payload = set(whole["payload"]) - OPTIONAL.get(kind, set())
    assert payload == PAYLOADS[kind], whole
    if kind == "node_start":
        assert ("child_run_id" in whole["payload"]) == (whole["payload"]["kind"] == "subflow"), whole
    assert TIME.fullmatch(whole["timestamp"]), whole
    assert (whole["node_id"] is not None) == (kind in OF_A_NODE) or kind in (
        "log",
        "validation_error",
        "policy_triggered",
    )
    if kind == "hitl_request":
        assert set(whole["payload"]["prompt"]) == PROMPT, whole
    if kind == "hitl_resolved" and whole["payload"]["decision"] is not None:
        assert set(whole["payload"]["decision"]) == DECISION, whole
    assert (whole["id"] is None) == (kind in EPHEMERAL), whole
    if streamed:
        assert line_id == (None if whole["id"] is None else str(whole["id"])), (line_id, whole)
    return Frame(kind, whole["id"], whole["node_id"], whole["payload"], whole)


class Reader:
    """Reads the events of one streaming response in order; keeps what it read and counts the comments."""

    def __init__(self, response: httpx2.Response) -> None:
        self._lines = response.aiter_lines()
        self.frames: list[Frame] = []
        self.comments = 0
        self.retry: str | None = None

    async def frame(self) -> Frame | None:
        """Return the next frame; None at the end of the stream."""
        line_id: str | None = None
        data: str | None = None
        async for line in self._lines:
            name, _, value = line.partition(":")
            value = value.removeprefix(" ")
            if line == "" and data is not None:
                found = read_frame(json.loads(data), line_id, streamed=True)
                self._in_order(found)
                return found
            if line == "":
                continue
            assert name in ("", "id", "data", "retry"), f"an unexpected line: {line!r}"
            if name == "":
                self.comments += 1
            elif name == "retry":
                self.retry = value
            elif name == "id":
                line_id = value
            else:
                assert data is None, "a frame has one data line"
                data = value
        return None

    async def comment(self) -> None:
        """Read on to the next comment, which is how a heartbeat looks."""
        async for line in self._lines:
            if line.startswith(":"):
                self.comments += 1
                return
            assert line == "", f"a frame came instead: {line!r}"
        raise AssertionError("no comment came")

    def _in_order(self, found: Frame) -> None:
        durable = [frame for frame in self.frames if frame.id is not None]
        if found.id is not None and durable:
            assert found.id == (durable[-1].id or 0) + 1, f"a gap before {found}"
        assert not durable or durable[-1].type not in TERMINAL, f"{found} after the end"
        self.frames.append(found)

    async def until(self, kind: str, node_id: str | None = None) -> Frame:
        """Read on to the next frame of a type (and node) and return it."""
        while (found := await self.frame()) is not None:
            if found.type == kind and node_id in (None, found.node_id):
                return found
        raise AssertionError(f"no {kind}; the stream ended after {shapes(self.frames)}")

    async def rest(self) -> list[Frame]:
        """Read to the end of the stream and return everything that was read."""
        while await self.frame() is not None:
            pass
        return self.frames

    async def __aiter__(self) -> AsyncIterator[Frame]:
        while (found := await self.frame()) is not None:
            yield found


def durable(frames: list[Frame]) -> list[Frame]:
    """The frames that have an id."""
    return [frame for frame in frames if frame.id is not None]


def shapes(frames: list[Frame]) -> list[str]:
    """What a sequence is compared by: durable frames as ``type:node``."""
    return [frame.shape for frame in durable(frames)]


def only(frames: list[Frame], kind: str) -> Frame:
    """The one frame of a type."""
    found = [frame for frame in frames if frame.type == kind]
    assert len(found) == 1, found
    return found[0]


def payload(frames: list[Frame], frame_type: str, /, **members: Any) -> dict[str, Any]:
    """The payload of the only frame of a type, after comparing the named members."""
    found = only(frames, frame_type).payload
    assert {name: found[name] for name in members} == members
    return found
