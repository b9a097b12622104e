"""A run's frames as OpenAI's clients read them: ``chat.completion.chunk`` by chunk (W6)."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from contracts.clock import read_rfc3339
from service.chats import answer_text

Json = dict[str, Any]
CHUNK: Final = "chat.completion.chunk"
WHOLE: Final = "chat.completion"


@dataclass(slots=True)
class Ended:
    """How the run ended: ``error`` is null when it completed."""

    finish: str = "stop"
    usage: Json = field(default_factory=dict)
    error: Json | None = None


class Telling:
    """What has been told of one run, and what each further frame adds.

    Text is sent as it comes; what a viewer missed, or an attempt that began anew said otherwise, is made good when the
    chat completes. The calls of tools are shown; they are not for the client to run.
    """

    def __init__(self, run_id: str, model: str, run_url: str) -> None:
        """Begin; ``run_url`` is where people look when something waits for them."""
        self.run_id, self._model, self._url = run_id, model, run_url
        self._created = 0
        self._chats: set[str] = set()
        self._held: dict[tuple[str, int], int] = {}
        self._said = ""
        """what the model said since its last call of tools"""
        self._any = False
        self.calls: list[Json] = []
        self.notes: list[str] = []
        self.text = ""
        """the answer, once it is there"""
        self.waiting: Mapping[str, Any] | None = None
        """what the run waits for, while it does"""
        self.ended: Ended | None = None

    def tell(self, frame: Mapping[str, Any]) -> Iterator[Json]:
        """Yield the deltas that a frame adds."""
        kind, payload, node = frame["type"], frame["payload"], frame["node_id"]
        self._created = self._created or _seconds(frame["timestamp"])
        match kind:
            case "node_start" if payload["kind"] == "chat" and "[" not in node:
                self._begin(node, payload)
            case "node_delta" if node in self._chats:
                yield from self._text(node, payload)
            case "tool_calls":
                yield from self._catch_up(payload["text"])
                self._said = ""
                yield from self._asked(payload)
            case "node_complete" if node in self._chats and payload["output"] is not None:
                yield from self._catch_up(answer_text(payload["output"]))
            case "hitl_request":
                yield from self._note(f"{payload['prompt']['question']} Somebody has to decide: {self._url}")
            case "hitl_resolved":
                decided = payload["decision"] or {"action": payload["status"]}
                yield from self._note(f"Decided: {decided['action']}.")
            case "run_waiting":
                self.waiting = payload
            case "run_resumed":
                self.waiting = None
            case "complete":
                yield from self._complete(payload)
            case "failed" | "cancelled":
                self.ended = Ended(error=_error(kind, payload))
            case _:
                pass

    def _begin(self, node: str, payload: Mapping[str, Any]) -> None:
        self._chats.add(node)
        if not payload["resumed"]:
            self._said = ""

    def _text(self, node: str, payload: Mapping[str, Any]) -> Iterator[Json]:
        """Yield a piece of text if it goes on from what was sent; after a gap the rest comes with the whole."""
        key, offset = (node, payload["attempt"]), payload["offset"]
        held = self._held.get(key, 0)
        new = payload["text"][max(0, held - offset) :]
        if offset <= held and new:
            self._held[key] = held + len(new)
            self._said += new
            yield self._content(new)

    def _content(self, text: str) -> Json:
        self._any = True
        return {"content": text}

    def _asked(self, payload: Mapping[str, Any]) -> Iterator[Json]:
        for call in payload["calls"]:
            asked = {"name": call["name"], "arguments": call["arguments"] or "{}"}
            shown = {"id": call["call_id"], "type": "function", "function": asked}
            yield {"tool_calls": [{"index": len(self.calls), **shown}]}
            self.calls.append(shown)

    def _catch_up(self, text: str | None) -> Iterator[Json]:
        """Yield what is missing of an answer."""
        if text is None or text == self._said:
            return
        if text.startswith(self._said):
            yield self._content(text[len(self._said) :])
        else:
            yield self._content(f"\n\n{text}" if self._any else text)
        self._said = text

    def _note(self, text: str) -> Iterator[Json]:
        self.notes.append(text)
        yield self._content(f"\n\n[{text}]\n\n" if self._any else f"[{text}]\n\n")

    def _complete(self, payload: Mapping[str, Any]) -> Iterator[Json]:
        output = payload["output"]
        text = answer_text(output)
        self.text = orjson.dumps(output).decode() if text is None else text
        yield from self._catch_up(self.text)
        said = output if isinstance(output, Mapping) else {}
        used = said.get("usage")
        used = used if isinstance(used, Mapping) else {"tokens_in": 0, "tokens_out": payload["usage"]["tokens"]}
        read, written = int(used.get("tokens_in", 0)), int(used.get("tokens_out", 0))
        counted = {"prompt_tokens": read, "completion_tokens": written, "total_tokens": read + written}
        finish = "length" if said.get("finish") == "length" else "stop"
        self.ended = Ended(finish, {**counted, "flex": payload["usage"]})

    # --- rendering ---------------------------------------------------------------------------------------------------

    def chunk(self, delta: Json, finish: str | None = None) -> Json:
        """Return a delta as a chunk."""
        return self._head(CHUNK, [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}])

    def usage_chunk(self, usage: Json) -> Json:
        """Return the chunk after the last one."""
        return {**self._head(CHUNK, []), "usage": usage}

    def whole(self, finish: str, usage: Json) -> Json:
        """Return the completion as one object; where people are awaited, its text says so."""
        content = self.text or "\n\n".join([*([self._said] if self._said else []), *self.notes])
        message: Json = {"role": "assistant", "content": content, "refusal": None}
        if self.calls:
            message["tool_calls"] = self.calls
        choice = {"index": 0, "message": message, "logprobs": None, "finish_reason": finish}
        return {**self._head(WHOLE, [choice]), "usage": usage}

    def _head(self, kind: str, choices: list[Json]) -> Json:
        return {
            "id": f"chatcmpl-{self.run_id}",
            "object": kind,
            "created": self._created,
            "model": self._model,
            "choices": choices,
        }


def _seconds(timestamp: str) -> int:
    return read_rfc3339(timestamp) // 1_000


def _error(kind: str, payload: Mapping[str, Any]) -> Json:
    if kind == "cancelled":
        message = f"The run was cancelled by {payload['by']}."
        return {"message": message, "type": "run_cancelled", "param": None, "code": "cancelled"}
    return {"message": payload["message"], "type": "run_failed", "param": None, "code": payload["code"]}
