"""The model port over an OpenAI-compatible ``/chat/completions`` endpoint, streamed.

The endpoint is the operator's own choice, so the egress guard does not apply to it. httpx2 is imported and the
connection opened with the first call: a service that has a model configured but idle stays small.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from capabilities.model_reply import Collected, Structure, failure, parse_value, retry_after_ms
from contracts.capability import CapabilityError
from contracts.outcome import Usage
from contracts.ports import ModelReply, Tool

MAX_REPLY_CHARACTERS: Final = 1_000_000
MAX_ERROR_BYTES: Final = 20_000
CONNECT_SECONDS: Final = 10.0
_CHARACTERS_PER_TOKEN: Final = 4
_ABOUT_FORMAT: Final = ("response_format", "json_schema", "json_object", "schema")


@dataclass(frozen=True, slots=True)
class ModelSettings:
    """Where the model is and what it costs: FLEX_MODEL_BASE_URL, FLEX_MODEL, FLEX_MODEL_API_KEY, FLEX_MODEL_PRICE_*.

    Prices are per 1,000 tokens in the operator's currency; ``prices`` are those of models by name (in, out), the other
    two hold for every model that is not there. The key is in no representation of this object.
    """

    base_url: str
    model: str
    api_key: str = field(default="", repr=False)
    price_in: float = 0.0
    price_out: float = 0.0
    prices: Mapping[str, tuple[float, float]] = field(default_factory=dict)

    def cost(self, read: int, written: int, *names: str) -> float:
        """Return what a call costs: the first of the model's names that has a price of its own decides."""
        found = next((self.prices[name] for name in names if name in self.prices), (self.price_in, self.price_out))
        return (read * found[0] + written * found[1]) / 1_000


def model_settings(environment: Mapping[str, str]) -> ModelSettings | None:
    """Read the settings; None unless both FLEX_MODEL_BASE_URL and FLEX_MODEL are set.

    Raises ``ValueError`` for a price that is no number.
    """
    base_url, model = (environment.get(name, "").strip() for name in ("FLEX_MODEL_BASE_URL", "FLEX_MODEL"))
    if not base_url or not model:
        return None
    price_in, price_out = (
        float(environment.get(name) or 0) for name in ("FLEX_MODEL_PRICE_IN", "FLEX_MODEL_PRICE_OUT")
    )
    return ModelSettings(base_url, model, environment.get("FLEX_MODEL_API_KEY", "").strip(), price_in, price_out)


class OpenAIModel:
    """A :class:`contracts.ports.Model`.

    Structured output is asked for as ``json_schema``; an endpoint that refuses that is asked for ``json_object``, then
    for plain text, and what it took is remembered. The schema stands in the messages in every case.
    """

    def __init__(self, settings: ModelSettings) -> None:
        """Keep the settings; nothing is opened yet."""
        self.name = settings.model
        self._settings = settings
        self._format = 0
        self._usage_option = True
        self._client: Any = None
        self._loop: asyncio.AbstractEventLoop | None = None

    def __repr__(self) -> str:
        return f"<OpenAIModel {self.name}>"

    async def generate(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        schema: Any = None,
        tools: Sequence[Tool] = (),
        sampling: Mapping[str, Any] | None = None,
        on_text: Callable[[str], None] | None = None,
        timeout_seconds: float = 60.0,
        model: str | None = None,
    ) -> ModelReply:
        """See :meth:`contracts.ports.Model.generate`. Usage is estimated when the endpoint sends none.

        What it costs is told by the name that the endpoint says it answers as, else by the one that was asked for.
        Raises ``model_unknown`` (not retryable) for a ``model`` that is neither the configured one nor has a price.
        """
        if model not in (None, self.name) and model not in self._settings.prices:
            message = f"The model {model[:200]!r} is neither FLEX_MODEL nor in FLEX_MODEL_PRICES."
            raise CapabilityError("model_unknown", message, retryable=False)
        structure = None if schema is None else Structure(schema)
        more = {**(sampling or {}), **({"tools": [_tool(tool) for tool in tools]} if tools else {})}
        more |= {} if model is None else {"model": model}
        try:
            async with asyncio.timeout(timeout_seconds):
                collected = await self._converse(messages, structure, more, on_text, timeout_seconds)
        except TimeoutError as error:
            message = f"The model did not finish within {timeout_seconds:.0f} seconds."
            raise CapabilityError("model_unreachable", message) from error
        read, written = self._counted(collected, messages)
        cost = self._settings.cost(read, written, collected.model, model or self.name)
        usage = Usage(read + written, cost)
        asked = collected.tool_calls()
        try:
            text = collected.checked(structured=structure is not None and not asked)
            # What asks for tools is no answer yet, so it has no form.
            value = None if structure is None or asked else structure.unwrap(parse_value(text))
        except CapabilityError as error:
            # The reply is of no use, and it was paid for.
            error.usage = usage
            raise
        return ModelReply(text, value, usage, collected.stop, asked, read, written)

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.aclose()
            self._client = None

    async def _converse(
        self,
        messages: Sequence[Mapping[str, Any]],
        structure: Structure | None,
        more: Mapping[str, Any],
        on_text: Callable[[str], None] | None,
        seconds: float,
    ) -> Collected:
        """Ask, each time with less of what the endpoint does not know, until it takes the request."""
        while True:
            body = {**self._body(messages, structure), **more}
            try:
                return await self._ask(body, on_text, seconds)
            except _Unknown as refusal:
                if "stream_options" in body and refusal.about("stream_options"):
                    self._usage_option = False
                elif "response_format" in body and refusal.about(
                    "response_format", "json_schema", "json_object", "schema"
                ):
                    self._format = structure.after(self._format) if structure else self._format
                else:
                    raise refusal.error from None

    def _body(self, messages: Sequence[Mapping[str, Any]], structure: Structure | None) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.name, "messages": list(messages), "stream": True}
        if self._usage_option:
            body["stream_options"] = {"include_usage": True}
        if structure is not None:
            body["messages"] = [structure.instruction(), *messages]
            asked = structure.response_format(self._format)
            if asked is not None:
                body["response_format"] = asked
        return body

    async def _ask(self, body: Mapping[str, Any], on_text: Callable[[str], None] | None, seconds: float) -> Collected:
        import httpx2

        url = self._settings.base_url.rstrip("/") + "/chat/completions"
        headers = {"content-type": "application/json", "accept": "text/event-stream"}
        if self._settings.api_key:
            headers["authorization"] = f"Bearer {self._settings.api_key}"
        try:
            limits = httpx2.Timeout(seconds, connect=min(CONNECT_SECONDS, seconds))
            async with self._http().stream(
                "POST", url, content=orjson.dumps(body), headers=headers, timeout=limits
            ) as reply:
                if reply.status_code >= 400:
                    raise self._failed(reply.status_code, reply.headers, await _start_of(reply))
                return await self._collect(reply, on_text)
        except (httpx2.RequestError, httpx2.InvalidURL) as error:
            message = f"The model could not be reached or hung up: {self._clean(str(error)) or type(error).__name__}."
            raise CapabilityError("model_unreachable", message) from error

    async def _collect(self, reply: Any, on_text: Callable[[str], None] | None) -> Collected:
        collected = Collected()
        async for data in _chunks(reply):
            if data.strip() == "[DONE]":
                collected.ended = True
                break
            text = collected.take(data, self._clean)
            if collected.length > MAX_REPLY_CHARACTERS:
                raise CapabilityError("model_bad_reply", "The model's reply is too long.", retryable=False)
            if text and on_text is not None:
                on_text(text)
        return collected

    def _http(self) -> Any:
        """Return the client of the running event loop."""
        import httpx2

        loop = asyncio.get_running_loop()
        if self._client is None or self._loop is not loop:
            self._client, self._loop = httpx2.AsyncClient(), loop
        return self._client

    def _failed(self, status: int, headers: Mapping[str, str], text: str) -> Exception:
        """Return what to raise for an HTTP error."""
        error = failure(status, self._clean(text), retry_after_ms(headers))
        return _Unknown(error, text) if status in (400, 404, 415, 422, 501) else error

    def _clean(self, text: str) -> str:
        """Return a text of the endpoint's without the key, should it repeat it."""
        return text.replace(self._settings.api_key, "***") if self._settings.api_key else text

    def _counted(self, collected: Collected, messages: Sequence[Mapping[str, Any]]) -> tuple[int, int]:
        """Return the tokens read and written; estimated by length when the endpoint does not say."""
        if collected.tokens_in is not None and collected.tokens_out is not None:
            return collected.tokens_in, collected.tokens_out
        asked = sum(len(str(message.get("content") or "")) for message in messages)
        return -(-asked // _CHARACTERS_PER_TOKEN), -(-collected.length // _CHARACTERS_PER_TOKEN)


def _tool(tool: Tool) -> dict[str, Any]:
    """Return a tool as the endpoint takes it."""
    shown = {"name": tool.name, "description": tool.description, "parameters": tool.parameters}
    return {"type": "function", "function": shown}


class _Unknown(Exception):
    """The endpoint did not take the request, perhaps because it does not know a part of it."""

    def __init__(self, error: CapabilityError, text: str) -> None:
        self.error, self._text = error, text.lower()
        super().__init__(error.message)

    def about(self, *words: str) -> bool:
        """Say whether the refusal mentions one of the words."""
        return any(word in self._text for word in words)


async def _chunks(reply: Any) -> AsyncIterator[str]:
    """Yield the data of each event; an endpoint that does not stream gives its one JSON document."""
    import httpx2

    if reply.headers.get("content-type", "").partition(";")[0].strip().lower() == "text/event-stream":
        async for event in httpx2.EventSource(reply):
            if event.data:
                yield event.data
        return
    body = bytearray()
    async for piece in reply.aiter_bytes():
        body += piece
        if len(body) > 4 * MAX_REPLY_CHARACTERS:
            raise CapabilityError("model_bad_reply", "The model's reply is too long.", retryable=False)
    yield body.decode("utf-8", "replace")
    yield "[DONE]"


async def _start_of(reply: Any) -> str:
    body = bytearray()
    async for piece in reply.aiter_bytes():
        body += piece
        if len(body) >= MAX_ERROR_BYTES:
            break
    return body[:MAX_ERROR_BYTES].decode("utf-8", "replace")
