"""A flex service over HTTP (wire §4, §5)."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any, Final
from urllib.parse import quote

import httpx2
import orjson

from app.commands.exits import FAILED, CommandError, refused
from contracts.events import TERMINAL

Json = Any
_RETRY_SECONDS: Final = (0.2, 0.5, 1.0, 2.0, 4.0)
_TIMEOUT: Final = httpx2.Timeout(30.0, read=60.0)
_GONE: Final = (httpx2.TransportError, httpx2.SSEError)


class Remote:
    """A service at a base URL."""

    def __init__(self, client: httpx2.AsyncClient, url: str) -> None:
        """Take an open client whose base URL is the service's."""
        self._client, self._url = client, url
        self.where = f"--url {url}"

    async def submit(self, envelope: Json, key: str | None) -> str:
        """Post the envelope."""
        headers = {} if key is None else {"Idempotency-Key": key}
        accepted = await self._send("POST", "/api/v1/runs", envelope, headers)
        return str(accepted["run_id"])

    async def frames(self, run_id: str, after: int) -> AsyncIterator[Mapping[str, Any]]:
        """Follow the run's events; a lost connection is opened again after the last id that was seen."""
        failures = 0
        while True:
            try:
                async for frame in self._connection(run_id, after):
                    failures = 0
                    after = frame["id"] or after
                    yield frame
                    if frame["type"] in TERMINAL:
                        return
                failures += 1
            except _NothingMore:
                return
            except _GONE as error:
                failures += 1
                if failures > len(_RETRY_SECONDS):
                    raise self._unreachable(error) from error
            await asyncio.sleep(_RETRY_SECONDS[min(failures, len(_RETRY_SECONDS)) - 1])

    async def _connection(self, run_id: str, after: int) -> AsyncIterator[Mapping[str, Any]]:
        path = f"/api/v1/runs/{quote(run_id, safe='')}/events"
        accept = {"Accept": "text/event-stream"}
        async with self._client.stream("GET", path, params={"after": after}, headers=accept) as response:
            if response.status_code == 204:
                raise _NothingMore
            if response.is_error:
                await response.aread()
                raise _refused(response)
            async for event in httpx2.EventSource(response):
                if event.data:
                    yield orjson.loads(event.data)

    async def runs(self, query: Mapping[str, Any]) -> Json:
        """Return a page of runs."""
        return await self._get("/api/v1/runs", query)

    async def run(self, run_id: str) -> Json:
        """Return a run."""
        return await self._get(f"/api/v1/runs/{quote(run_id, safe='')}")

    async def cancel(self, run_id: str, reason: str | None) -> Json:
        """Post the cancellation."""
        return await self._control(run_id, "cancel", {} if reason is None else {"reason": reason})

    async def pause(self, run_id: str, reason: str | None) -> Json:
        """Post the pause."""
        return await self._control(run_id, "pause", {} if reason is None else {"reason": reason})

    async def resume(self, run_id: str) -> Json:
        """Post the end of the pause."""
        return await self._control(run_id, "resume", {})

    async def _control(self, run_id: str, what: str, body: Json) -> Json:
        return await self._send("POST", f"/api/v1/runs/{quote(run_id, safe='')}/{what}", body)

    async def prompts(self, query: Mapping[str, Any]) -> Json:
        """Return a page of prompts."""
        return await self._get("/api/v1/prompts", query)

    async def prompt(self, prompt_id: str) -> Json:
        """Return a prompt."""
        return await self._get(f"/api/v1/prompts/{quote(prompt_id, safe='')}")

    async def decide(self, prompt_id: str, decision: Json) -> Json:
        """Post the decision."""
        return await self._send("POST", f"/api/v1/prompts/{quote(prompt_id, safe='')}/decisions", decision)

    async def claim(self, prompt_id: str, body: Json) -> Json:
        """Post the claim."""
        return await self._send("POST", f"/api/v1/prompts/{quote(prompt_id, safe='')}/claim", body)

    async def delegate(self, prompt_id: str, body: Json) -> Json:
        """Post the delegation."""
        return await self._send("POST", f"/api/v1/prompts/{quote(prompt_id, safe='')}/delegate", body)

    async def withdraw(self, prompt_id: str, body: Json) -> Json:
        """Post the withdrawal."""
        return await self._send("POST", f"/api/v1/prompts/{quote(prompt_id, safe='')}/withdraw", body)

    async def plan(self, envelope: Json) -> Json:
        """Post the envelope for a dry run."""
        return await self._send("POST", "/api/v1/plans", envelope)

    async def capabilities(self, cursor: str | None) -> Json:
        """Return a page of the service's capabilities."""
        return await self._get("/api/v1/capabilities", {"cursor": cursor})

    async def agents(self, cursor: str | None) -> Json:
        """Return a page of the service's agents."""
        return await self._get("/api/v1/agents", {"cursor": cursor})

    async def _get(self, path: str, query: Mapping[str, Any] | None = None) -> Json:
        given = {name: value for name, value in (query or {}).items() if value is not None}
        return await self._ask("GET", path, params=given)

    async def _send(self, method: str, path: str, body: Json, headers: Mapping[str, str] | None = None) -> Json:
        sent = {"Content-Type": "application/json", **(headers or {})}
        return await self._ask(method, path, content=orjson.dumps(body), headers=sent)

    async def _ask(self, method: str, path: str, **options: Any) -> Json:
        try:
            response = await self._client.request(method, path, **options)
        except httpx2.TransportError as error:
            raise self._unreachable(error) from error
        if response.is_error:
            raise _refused(response)
        try:
            return orjson.loads(response.content)
        except orjson.JSONDecodeError as error:
            raise CommandError(f"{self._url} answered, but not as flex does: not JSON.", exit_code=FAILED) from error

    def _unreachable(self, error: Exception) -> CommandError:
        return CommandError(
            f"No answer from {self._url}: {str(error) or type(error).__name__}. Is `flex serve` running there?",
            exit_code=FAILED,
        )


class _NothingMore(Exception):
    """204: everything of the run has been seen."""


def _refused(response: httpx2.Response) -> CommandError:
    try:
        problem = orjson.loads(response.content)
    except orjson.JSONDecodeError:
        problem = None
    if not isinstance(problem, dict):
        problem = {"status": response.status_code, "code": "http_error", "detail": f"HTTP {response.status_code}"}
    return refused(problem)


@asynccontextmanager
async def open_remote(url: str) -> AsyncIterator[Remote]:
    """Open a client for the service at ``url``."""
    base = url.rstrip("/")
    try:
        client = httpx2.AsyncClient(base_url=base, headers={"User-Agent": "flex-cli"}, timeout=_TIMEOUT)
    except (httpx2.InvalidURL, ValueError) as error:
        raise CommandError(f"{url} is not an address: {error}") from error
    async with client:
        yield Remote(client, base)
