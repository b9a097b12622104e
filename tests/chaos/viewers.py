"""Viewers that come and go: each follows a run by ``Last-Event-ID``, through whichever process answers (F9)."""

import asyncio
import json
from collections.abc import Callable, Sequence
from typing import Any

from tests.chaos.load import Glance
from tests.chaos.wire import Broken, Incoming, opened
from tests.durability.auditor import TERMINAL

AGAIN_SECONDS = 0.2
IDLE_SECONDS = 3.0
"""Longer than two heartbeats: a process that says nothing for so long is stopped, or gone."""
Frame = dict[str, Any]


class Viewer:
    """What one pair of eyes got, byte by byte, over any number of connections."""

    def __init__(self, bases: Sequence[str], run_id: str, glance: Glance) -> None:
        self.bases, self.run_id = bases, run_id
        self.on_frame: Callable[[Frame], None] | None = None
        self.seen: dict[int, bytes] = {}
        self.faults: list[str] = []
        self.over = False
        self.connections = 0
        self._leaves = list(glance.leaves)
        self._turn = glance.first

    @property
    def last(self) -> int:
        return max(self.seen, default=0)

    async def follow(self) -> None:
        """Attach again and again until the terminal frame was seen."""
        while not self.over:
            await self.look(
                opened(
                    self.base,
                    "GET",
                    f"/api/v1/runs/{self.run_id}/events",
                    headers={"Last-Event-ID": str(self.last)} if self.last else {},
                    patience=IDLE_SECONDS,
                )
            )

    @property
    def base(self) -> str:
        return self.bases[self._turn % len(self.bases)]

    async def look(self, connection: Any, on_open: Callable[[Incoming], None] | None = None) -> None:
        """Read one connection until it ends or this viewer has seen enough; the next one goes elsewhere."""
        self.connections += 1
        try:
            async with connection as incoming:
                if on_open is not None:
                    on_open(incoming)
                await self._read(incoming)
        except Broken:
            await asyncio.sleep(AGAIN_SECONDS)
        self._turn += 1

    async def _read(self, incoming: Incoming) -> None:
        status = incoming.answer.status
        if status == 204:
            self.over = True
        elif status == 503 or status >= 500:
            await asyncio.sleep(AGAIN_SECONDS)
        elif status != 200:
            self.faults.append(f"attaching after {self.last} was answered {status} {(await incoming.whole())[:200]!r}")
            self.over = True
        else:
            await self._frames(incoming)

    async def _frames(self, incoming: Incoming) -> None:
        enough = self.last + self._leaves.pop(0) if self._leaves else None
        async for line in incoming.lines():
            if line.startswith(b"data: "):
                self._take(line[6:])
            if self.over or (enough is not None and self.last >= enough):
                return

    def _take(self, data: bytes) -> None:
        frame = json.loads(data)
        seq = frame["id"]
        if seq is None:
            return
        if seq != self.last + 1:
            self.faults.append(f"frame {seq} came after {self.last}")
        if self.seen.setdefault(seq, data) != data:
            self.faults.append(f"frame {seq} came twice and differed")
        self.over = frame["type"] in TERMINAL
        if self.on_frame is not None:
            self.on_frame(frame)
