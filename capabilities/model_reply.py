"""Reading what an OpenAI-compatible endpoint says: chunks, usage, JSON in text, errors. Pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from email.utils import parsedate_to_datetime
from typing import Any, Final

import orjson

from contracts.capability import CapabilityError
from contracts.ports import ToolCall

FORMATS: Final = ("json_schema", "json_object", "text")
MAX_WAIT_MS: Final = 3_600_000
MAX_TOOL_CALLS: Final = 64
"""How many calls one reply may ask for."""
_FENCE: Final = re.compile(r"```(?:json)?\s*\n(?P<inside>.*?)\n?\s*```", re.DOTALL | re.IGNORECASE)
_DEFINITIONS: Final = ("$defs", "definitions")


class Structure:
    """The shape asked for. Endpoints want an object at the root, so any other shape travels as ``{"value": …}``."""

    def __init__(self, schema: Any) -> None:
        """Wrap ``schema`` unless its root is an object."""
        self._schema = schema
        self._wrapped = not (isinstance(schema, Mapping) and schema.get("type") == "object")
        self._sent: Any = schema
        if self._wrapped:
            own = schema if isinstance(schema, Mapping) else {}
            shared = {name: own[name] for name in _DEFINITIONS if name in own}
            self._sent = {
                "type": "object", "required": ["value"], "additionalProperties": False,
                "properties": {"value": schema}, **shared,
            }  # fmt: skip
        # References to places other than the definitions would point elsewhere once wrapped.
        self._portable = not self._wrapped or all(
            found.startswith(("#/$defs/", "#/definitions/")) for found in _references(schema)
        )

    def instruction(self) -> dict[str, str]:
        """Return the message that states the schema."""
        schema = orjson.dumps(self._sent if self._portable else self._schema).decode()
        text = f"Answer with JSON only: one value that satisfies this JSON Schema.\n{schema}"
        return {"role": "system", "content": text}

    def response_format(self, level: int) -> dict[str, Any] | None:
        """Return the ``response_format`` of a level of ``FORMATS``; None for plain text."""
        if not self._portable:
            return None
        if FORMATS[level] == "json_schema":
            asked = {"name": "answer", "strict": False, "schema": self._sent}
            return {"type": "json_schema", "json_schema": asked}
        return {"type": "json_object"} if FORMATS[level] == "json_object" else None

    @staticmethod
    def after(level: int) -> int:
        """Return the next, less demanding level."""
        return min(level + 1, len(FORMATS) - 1)

    def unwrap(self, value: Any) -> Any:
        """Return the answer proper; a model that left the wrapping out is understood too."""
        if self._wrapped and isinstance(value, dict) and value.keys() == {"value"}:
            return value["value"]
        return value


def _references(schema: Any) -> list[str]:
    if isinstance(schema, Mapping):
        own = [schema["$ref"]] if isinstance(schema.get("$ref"), str) else []
        return own + [found for value in schema.values() for found in _references(value)]
    if isinstance(schema, list):
        return [found for value in schema for found in _references(value)]
    return []


class Collected:
    """A reply as it comes in."""

    def __init__(self) -> None:
        """Start empty."""
        self.length = 0
        self.stop = ""
        self.model = ""
        self.tokens_in: int | None = None
        self.tokens_out: int | None = None
        self.ended = False
        self._parts: list[str] = []
        self._refusal = ""
        self._calls: dict[int, list[str]] = {}

    def take(self, data: str, clean: Callable[[str], str]) -> str:
        """Add one chunk (``chat.completion.chunk`` or a whole completion) and return its text."""
        try:
            chunk = orjson.loads(data)
        except orjson.JSONDecodeError as error:
            raise _bad(f"The model sent something that is not JSON: {clean(data[:100])!r}") from error
        if not isinstance(chunk, dict):
            raise _bad("The model sent something that is not a reply")
        if chunk.get("error"):
            raise _error_inside(chunk["error"], clean)
        self._count(chunk.get("usage"))
        self.model = self.model or str(chunk.get("model") or "")
        choices = chunk.get("choices")
        if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
            return ""
        said = choices[0].get("delta") or choices[0].get("message") or {}
        self.stop = choices[0].get("finish_reason") or self.stop
        self._refusal += said.get("refusal") or ""
        self._take_calls(said.get("tool_calls"))
        text = said.get("content") or ""
        text = text if isinstance(text, str) else "".join(str(part.get("text", "")) for part in text)
        self._parts.append(text)
        self.length += len(text)
        return text

    def _take_calls(self, pieces: Any) -> None:
        """Add pieces of tool calls: id and name come whole, arguments in parts; without an index they are in order."""
        for place, piece in enumerate(pieces if isinstance(pieces, list) else ()):
            if not isinstance(piece, dict):
                continue
            index = piece.get("index")
            call = self._calls.setdefault(index if isinstance(index, int) else place, ["", "", ""])
            if len(self._calls) > MAX_TOOL_CALLS:
                raise CapabilityError("model_bad_reply", "The model asks for too many calls.", retryable=False)
            asked = piece.get("function")
            asked = asked if isinstance(asked, dict) else {}
            call[0] = call[0] or str(piece.get("id") or "")
            call[1] = call[1] or str(asked.get("name") or "")
            written = asked.get("arguments") or ""
            written = written if isinstance(written, str) else orjson.dumps(written).decode()
            call[2] += written
            self.length += len(written)

    def tool_calls(self) -> tuple[ToolCall, ...]:
        """Return the calls that the reply asks for; one without an id is given one."""
        calls = [self._calls[index] for index in sorted(self._calls)]
        return tuple(ToolCall(name or f"call_{place}", tool, said) for place, (name, tool, said) in enumerate(calls))

    def _count(self, usage: Any) -> None:
        if isinstance(usage, dict):
            self.tokens_in = int(usage.get("prompt_tokens") or 0)
            self.tokens_out = int(usage.get("completion_tokens") or 0)

    def checked(self, *, structured: bool) -> str:
        """Return the text; raises ``model_refused`` or ``model_bad_reply`` when it is none to work with."""
        if self._refusal or self.stop == "content_filter":
            said = self._refusal[:300] or "its content filter stopped the reply"
            raise CapabilityError("model_refused", f"The model refused: {said}", retryable=False)
        if not self.ended and not self.stop:
            raise _bad("The model's reply broke off")
        if self.stop == "length" and structured:
            raise _bad("The model reached its length limit before the JSON was complete")
        text = "".join(self._parts)
        if not text.strip() and not self._calls:
            raise _bad("The model's reply is empty")
        return text


def parse_value(text: str) -> Any:
    """Return the JSON value in a reply: the whole, inside a code fence, or the first object or list in it."""
    candidates = [text.strip(), *(found["inside"].strip() for found in _FENCE.finditer(text))]
    for candidate in candidates:
        try:
            return orjson.loads(candidate)
        except orjson.JSONDecodeError:
            continue
    decoder = json.JSONDecoder(parse_constant=_no_constant)
    for place in [at for at, sign in enumerate(text) if sign in "{["][:20]:
        try:
            return decoder.raw_decode(text, place)[0]
        except (ValueError, RecursionError):
            continue
    raise _bad("The model's reply holds no JSON")


def _no_constant(name: str) -> None:
    raise ValueError(f"{name} is not JSON")


def failure(status: int, text: str, after_ms: int | None) -> CapabilityError:
    """Return the error of an HTTP status: busy (429, 408, 409, 5xx) or refused."""
    said = _message_in(text)
    if status >= 500 or status in (408, 409, 425, 429):
        return CapabilityError("model_busy", f"The model is busy ({status}){said}", after_ms=after_ms)
    hint = " Check FLEX_MODEL_API_KEY." if status in (401, 403) else ""
    return CapabilityError("model_refused", f"The model refused the request ({status}){said}{hint}", retryable=False)


def retry_after_ms(headers: Mapping[str, str]) -> int | None:
    """Return Retry-After (RFC 9110 §10.2.3) in ms: seconds, or a date measured against the answer's own ``Date``."""
    said = headers.get("retry-after", "").strip()
    if said.isascii() and said.isdigit():
        return min(int(said[:9]) * 1_000, MAX_WAIT_MS)
    try:
        seconds = (parsedate_to_datetime(said) - parsedate_to_datetime(headers.get("date", ""))).total_seconds()
    except (TypeError, ValueError):
        return None
    return min(max(int(seconds * 1_000), 0), MAX_WAIT_MS)


def _message_in(text: str) -> str:
    """Return ``: `` and the endpoint's own sentence, or a full stop."""
    try:
        read = orjson.loads(text)
    except orjson.JSONDecodeError:
        return "."
    error = read.get("error", read) if isinstance(read, dict) else {}
    message = error.get("message") if isinstance(error, dict) else error
    return f": {message[:300].rstrip('.')}." if isinstance(message, str) and message else "."


def _error_inside(error: Any, clean: Callable[[str], str]) -> CapabilityError:
    """Return the error of a stream that had begun; only what is clearly the caller's fault is final."""
    said = error if isinstance(error, dict) else {"message": str(error)}
    message = clean(str(said.get("message", "")))[:300] or "no reason given"
    sort = f"{said.get('type', '')} {said.get('code', '')}".lower()
    if "invalid" in sort or "content" in sort or "auth" in sort:
        return CapabilityError("model_refused", f"The model stopped: {message}", retryable=False)
    return CapabilityError("model_busy", f"The model stopped: {message}")


def _bad(message: str) -> CapabilityError:
    return CapabilityError("model_bad_reply", f"{message}.")
