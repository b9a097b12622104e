"""The outside systems that ``wait`` nodes wait for: they call back early, late, twice, with two minds, never (J6)."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

from contracts.errors import FlexError
from contracts.events import Frame
from tests.simulation.outside import Outside
from tests.simulation.process import Process, Unreachable

ANSWER = {"by": "partner", "ok": True, "list": [1], "mended": True}


class Partners:
    """They hear of a node that waits by its frame; some of them knew before."""

    def __init__(self, outside: Outside) -> None:
        self._outside, self._chance = outside, outside.chance
        self._told: set[tuple[str, str]] = set()

    def heard(self, frame: Frame) -> None:
        """Hear of a frame; runs outside of all processes."""
        said = orjson.loads(frame.data)
        if frame.type == "plan_generated":
            for node in said["payload"]["plan"]["nodes"]:
                if node["kind"] == "wait" and self._chance.random() < 0.3:
                    self._begin(said["run_id"], node["node_id"])
        elif frame.type == "node_start" and said["payload"]["kind"] == "wait":
            self._begin(said["run_id"], said["node_id"])

    def _begin(self, run_id: str, node_id: str) -> None:
        if (run_id, node_id) in self._told:
            return
        self._told.add((run_id, node_id))
        for number in range(self._chance.choice([0, 1, 1, 1, 2])):
            seconds = self._chance.random() * self._chance.choice([0.02, 1.0, 5.0])
            body: dict[str, Any] = {"status": "completed", "output": {**ANSWER, "callback": number}}
            if self._chance.random() < 0.15:
                body = {"status": "failed", "error": "Could not."}
            self._outside.start(self._call(run_id, node_id, body, seconds))

    async def relieve(self) -> None:
        """Call back for whatever still waits without a timeout, until cancelled."""
        while True:
            await asyncio.sleep(1.0)
            waiting = self._outside.file.rows(
                "SELECT n.run_id, n.node_id FROM nodes n JOIN runs r ON r.run_id = n.run_id"
                " WHERE n.kind = 'wait' AND n.status = 'waiting' AND r.ended_at IS NULL"
            )
            for run_id, node_id in waiting:
                await self._call(run_id, node_id, {"status": "completed", "output": ANSWER}, 0.0)

    async def _call(self, run_id: str, node_id: str, body: Any, seconds: float) -> None:
        await asyncio.sleep(seconds)

        async def work(process: Process) -> str:
            address = process.addresses.callback("default", run_id, node_id)
            asked = await process.callbacks.call(run_id, node_id, address.partition("token=")[2], body)
            return str(asked.outcome)

        try:
            outcome = await self._outside.insist(work, tries=20)
        except Unreachable:
            outcome = "unknown"
        except FlexError as error:
            outcome = error.code
        self._outside.tell("calls back", run_id, node_id, body["status"], outcome)
