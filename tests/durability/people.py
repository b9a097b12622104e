"""A caller as a careful one behaves: follows by Last-Event-ID, repeats with its key, answers what it is asked."""

import asyncio
import json
import time
from collections.abc import Callable, Coroutine, Sequence
from dataclasses import dataclass, field
from typing import Any

import httpx2

TERMINAL = ("complete", "failed", "cancelled")
AGAIN_SECONDS = 0.02
Frame = dict[str, Any]
Answerer = Callable[["Caller", Frame], Coroutine[Any, Any, None]]


@dataclass
class Caller:
    """Sends one envelope and follows its run to the end, through any number of dead services.

    ``bases`` are the services it may turn to; it goes to the next one whenever one does not answer. What it sees is
    kept byte by byte.
    """

    bases: Sequence[str]
    envelope: dict[str, Any]
    key: str
    answerer: Answerer | None = None
    seen: dict[int, bytes] = field(default_factory=dict)
    seen_at: dict[int, float] = field(default_factory=dict)
    ends: list[str] = field(default_factory=list)
    """reasons of stream_end"""
    faults: list[str] = field(default_factory=list)
    run_id: str = ""
    run_ids: set[str] = field(default_factory=set)
    answers: dict[str, str] = field(default_factory=dict)
    over: bool = False
    _turn: int = 0
    _tasks: list[asyncio.Task[None]] = field(default_factory=list)

    @property
    def last(self) -> int:
        return max(self.seen, default=0)

    @property
    def frames(self) -> list[Frame]:
        """What was seen, in order, read."""
        return [json.loads(self.seen[seq]) for seq in sorted(self.seen)]

    def saw(self, kind: str, node_id: str | None = None) -> bool:
        """Say whether a frame of this type (and node) was seen."""
        return any(frame["type"] == kind and node_id in (None, frame["node_id"]) for frame in self.frames)

    async def follow(self, seconds: float = 40.0) -> None:
        """Go on until the terminal frame was seen and every question is answered."""
        try:
            async with asyncio.timeout(seconds):
                while not self.over:
                    await self._once()
                await asyncio.gather(*self._tasks)
        except TimeoutError:
            kinds = [frame["type"] for frame in self.frames]
            raise AssertionError(
                f"no end of {self.run_id} within {seconds:g} s; {len(kinds)} frames seen, the last: {kinds[-14:]}"
            ) from None
        finally:
            for task in self._tasks:
                task.cancel()

    async def request(self, method: str, path: str, **more: Any) -> httpx2.Response:
        """Ask until somebody answers with something else than 503."""
        while True:
            try:
                async with httpx2.AsyncClient(base_url=self._base(), timeout=10) as client:
                    response = await client.request(method, path, **more)
                    if response.status_code != 503:
                        return response
            except httpx2.TransportError:
                self._turn += 1
            await asyncio.sleep(AGAIN_SECONDS)

    async def decide(self, prompt: Frame, action: str) -> httpx2.Response:
        """Decide a prompt, again and again until there is an answer."""
        self.answers[prompt["prompt_id"]] = action
        return await self.request("POST", prompt["links"]["decide"], json={"action": action})

    def _base(self) -> str:
        return self.bases[self._turn % len(self.bases)]

    async def _once(self) -> None:
        """One connection: begin or attach, read until it breaks."""
        try:
            patience = httpx2.Timeout(10, read=30)
            async with (
                httpx2.AsyncClient(base_url=self._base(), timeout=patience) as client,
                self._opened(client) as response,
            ):
                await self._read(response)
        except httpx2.TransportError:
            self._turn += 1
        if not self.over:
            await asyncio.sleep(AGAIN_SECONDS)

    def _opened(self, client: httpx2.AsyncClient) -> Any:
        if self.run_id:
            headers = {"Last-Event-ID": str(self.last)} if self.last else {}
            return client.stream("GET", f"/api/v1/runs/{self.run_id}/events", headers=headers)
        headers = {"Idempotency-Key": self.key}
        return client.stream("POST", "/api/v1/flex/run.stream", json=self.envelope, headers=headers)

    async def _read(self, response: httpx2.Response) -> None:
        if response.status_code in (502, 503):
            self._turn += 1
            return
        if response.status_code == 204:
            self.over = True
            return
        if response.status_code != 200:
            await response.aread()
            raise AssertionError(f"{response.status_code} {response.text}")
        self.run_id = response.headers["x-run-id"]
        self.run_ids.add(self.run_id)
        async for line in response.aiter_lines():
            if line.startswith("data: "):
                self._take(line[6:].encode())

    def _take(self, data: bytes) -> None:
        frame = json.loads(data)
        seq = frame["id"]
        if seq is None:
            if frame["type"] == "stream_end":
                self.ends.append(frame["payload"]["reason"])
                self._turn += 1
            return
        if seq != self.last + 1:
            self.faults.append(f"frame {seq} came after {self.last}")
        self.seen[seq], self.seen_at[seq] = data, time.monotonic()
        if frame["type"] in TERMINAL:
            self.over = True
        elif frame["type"] == "hitl_request" and self.answerer is not None:
            self._tasks.append(asyncio.create_task(self.answerer(self, frame["payload"]["prompt"])))


async def approve(caller: Caller, prompt: Frame) -> None:
    """Approve approvals; nothing else is expected."""
    response = await caller.decide(prompt, "approve")
    assert response.status_code == 200, response.text


async def cancel(caller: Caller, prompt: Frame) -> None:
    """End the run instead of answering; asked again, it may have ended already."""
    response = await caller.request("POST", f"/api/v1/runs/{prompt['run_id']}/cancel", json={"reason": "no more"})
    assert response.status_code in (200, 202, 409), response.text
