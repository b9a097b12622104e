"""A process that lost its run writes nothing of it, memory neither (R5; design §4, journal)."""

from __future__ import annotations

from functools import partial
from typing import Any

from contracts.access import LOCAL
from contracts.capability import Bundle, CallContext
from tests.durability.auditor import query
from tests.durability.inside import Inside, Step, inside
from tests.durability.plans import call, chain
from tests.durability.waiting import until


class Remembers(Step):
    """A step that says how often it was begun."""

    async def run(self, bundle: Bundle, context: CallContext) -> dict[str, Any]:
        context.remember("shared:x", "k", self.begun)
        return await super().run(bundle, context)


async def ended(flex: Inside, run_id: str) -> bool:
    await flex.look(1)
    return await flex.status(run_id) == "completed"


async def test_a_fenced_attempt_writes_nothing(database_url: str) -> None:
    """Two processes have the same attempt under way; the one whose lease was taken away changes nothing."""
    async with inside(database_url) as flex:
        flex.directory.gate.clear()
        step = Remembers("step.idempotent", flex.directory.gate, "idempotent")
        flex.directory.steps["step.idempotent"] = step
        body = {**chain(call("a", "idempotent")), "context": {"memory": ["shared:x"]}}
        run_id = (await flex.runs.submit(body, LOCAL)).run_id
        await until(lambda: step.begun == 1, 5, "the first process")
        await flex.bury(0)
        flex.nudge.deaf = True

        async def taken() -> bool:
            await flex.workers[1].claim_due()
            return step.begun == 2

        await until(taken, 5, "the second process")
        flex.directory.gate.set()
        await until(partial(ended, flex, run_id), 5, "the end")
        await until(lambda: not flex.workers[0].held, 5, "the first process to notice")
        assert await query(database_url, "SELECT revision, entries FROM memory_scopes") == [(1, 1)]
        assert await query(database_url, "SELECT value_json FROM memory_entries") == [("1",)]
