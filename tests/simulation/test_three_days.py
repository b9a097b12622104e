"""Three days on the virtual clock: nothing is held meanwhile, and every timer acts once (H1, H3, H8, W5)."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import orjson
import pytest

from contracts.events import Frame
from tests.simulation.evidence import Json
from tests.simulation.outside import LOCAL, Client
from tests.simulation.process import Rates
from tests.simulation.world import Pace, Scenario, World

DAY = 86_400.0
PACE = Pace(lease_seconds=2_400.0, look_seconds=600.0, patience=4 * DAY)
ASK: Json = {
    "node_id": "n",
    "kind": "ask",
    "prompt": {
        "kind": "approval",
        "question": "Go on?",
        "proposed": {"by": "plan"},
        "remind_seconds": [DAY, 2 * DAY],
        "due_seconds": 2.5 * DAY,
        "on_timeout": "escalate",
        "escalation": [{"assignees": {"roles": ["admin"]}, "due_seconds": DAY / 2}],
        "after_escalation": "approve",
    },
}
DELAY: Json = {"node_id": "n", "kind": "delay", "seconds": 3 * DAY}
WAIT: Json = {"node_id": "n", "kind": "wait", "timeout_seconds": 3 * DAY, "on_timeout": "continue"}


def _body(node: Json) -> Json:
    output = {"mode": "map", "map": {"": {"node_id": "n", "pointer": ""}}}
    plan = {"nodes": [node], "edges": [], "output": output}
    return {"objective": "Wait", "output_contract": {"schema": True}, "workflow": {"plan": plan}}


class Days(World):
    """One run that waits, while processes die and others take their place."""

    held: int = 0

    def heard(self, worker: str, frames: Sequence[Frame]) -> None:
        """Nobody listens: nobody answers and nobody calls back."""

    async def _main(self) -> None:
        self.post.failing = 0.0
        for _ in range(2):
            self.open_process()
        await asyncio.sleep(10)
        client = Client("key", self.scenario.bodies[0], 0.0)
        client.accepted.append(await self.outside.insist(lambda process: process.runs.submit(client.body, LOCAL)))
        self.outside.clients.append(client)
        await asyncio.sleep(10)
        for hour in range(71):
            if hour in (13, 37, 61):
                self.living()[0].kill("killed")
                self.open_process()
            self.held = max(self.held, *(process.worker.held for process in self.living()))
            await asyncio.sleep(3_600)
        await self._settle()


@contextmanager
def _waited(node: Json) -> Iterator[Days]:
    """Let a run of one node wait; yield what is left of it."""
    scenario = Scenario(
        seed=3, processes=2, far=True, rates=Rates(lost=0.2, late=1.0), trouble=0, until=0, skewed=False, room=100,
        bodies=(_body(node),), book={"role:operator": ["desk"], "role:admin": ["chief"]},
    )  # fmt: skip
    days = Days(scenario, PACE)
    try:
        result = days.run()
        assert result.stuck is None
        assert not result.surprises
        yield days
    finally:
        days.close()


@pytest.mark.parametrize("node", [ASK, DELAY, WAIT], ids=["ask", "delay", "wait"])
def test_a_run_that_waits_three_days_holds_nothing_and_ends_in_time(node: Json) -> None:
    """H1: no memory, no owner, no execution time; processes come and go meanwhile, and the end comes when it is due."""
    with _waited(node) as days:
        assert days.held == 0
        ((status, worker, created_at, ended_at),) = days.file.rows(
            "SELECT status, worker, created_at, ended_at FROM runs"
        )
        frames = [orjson.loads(data) for (data,) in days.file.rows("SELECT data FROM events ORDER BY seq")]
    assert (status, worker) == ("completed", None)
    late = (ended_at - created_at) / 1_000 - 3 * DAY
    assert 0 <= late < 2 * PACE.look_seconds
    assert [frame["type"] for frame in frames].count("run_waiting") == 1
    payload = frames[-1]["payload"]
    assert payload["waited_ms"] >= 3 * DAY * 1_000 - 1_000
    assert payload["duration_ms"] < 2_000


def test_reminders_escalation_and_timeout_each_happen_once() -> None:
    """H3, H8, H9: two reminders, one escalation, one decision of the timer; one message and one record of each."""
    with _waited(ASK) as days:
        records = days.file.rows("SELECT kind, at FROM audit_records WHERE actor LIKE 'system:%' ORDER BY at")
        decided: list[Any] = days.file.rows("SELECT action, decided_by FROM decisions")
        titles = Counter((address, title.partition(":")[0]) for _, address, title in days.post.delivered)
    assert [kind for kind, _ in records] == [
        "prompt.reminded", "prompt.reminded", "prompt.escalated", "prompt.expired",
    ]  # fmt: skip
    began = records[0][1] - DAY * 1_000
    assert [round((at - began) / (DAY * 500)) / 2 for _, at in records] == [1, 2, 2.5, 3]
    assert titles == {
        ("desk", "You are asked"): 1,
        ("desk", "Still waiting for you"): 2,
        ("chief", "Escalated to you"): 1,
    }
    assert decided == [("approve", "system:timeout")]
