"""Doors of a pruned run answer 410 with what is left to say, all of them (P6; wire §1)."""

import asyncio
from collections import Counter
from typing import Any

import pytest
import sqlalchemy as sa

from app.system import SystemIds
from contracts.access import Principal
from contracts.errors import RunNotFound
from routes.table import ROUTES
from service.pruning import DAY_MS, Asked, Pruner
from store import tables as t
from store.connect import Database
from store.statement import Statement
from tests.events.runs_in_log import Wall
from tests.retention.growing import KEEP
from tests.spine.asking import gated, question
from tests.spine.running import Service, call, envelope, greeting, plan, serving

BODIES: dict[str, Any] = {
    "edit_run_plan": {"base_version": 1, "plan": {"nodes": []}, "reason": "x"},
    "fork_run": {"node_id": "a"},
    "decide_prompt": {"action": "approve"},
    "delegate_prompt": {"to": "user:ben"},
}
"""What a route needs before it looks for the run."""


class Later(Wall):
    """The clock of a process in days to come."""

    def __init__(self, days: int) -> None:
        self._ms = days * DAY_MS

    def now_ms(self) -> int:
        return super().now_ms() + self._ms


async def prune(service: Service, days: int = 400) -> Counter[str]:
    """Prune as another process would so many days later."""
    database = await Database.open(service.settings.database_url, clock=Later(days))
    try:
        tally = await Pruner(database, SystemIds(), KEEP, pause_seconds=0).prune(Asked())
    finally:
        await database.close()
    assert tally is not None
    return tally.gone


async def answered(service: Service) -> tuple[str, str]:
    """A run that asked and completed, and its prompt."""
    async with service.stream(greeting(policies=gated("output"))) as reader:
        prompt = await question(reader)
        await service.decided(prompt, "approve")
        await reader.rest()
    return prompt["run_id"], prompt["prompt_id"]


async def test_every_door_says_that_it_is_gone(database_url: str) -> None:
    """P6, wire §1: 410 `run_pruned` with the summary's times from every route of a run or of a prompt of it."""
    async with serving(database_url) as service:
        run_id, prompt_id = await answered(service)
        detail = await service.detail(run_id)
        assert (await prune(service))["runs"] == 1
        doors = [spec for spec in ROUTES if "{run_id}" in spec.path or "{prompt_id}" in spec.path]
        for spec in doors:
            path = spec.path.format(run_id=run_id, prompt_id=prompt_id, node_id="gate", policy_id="gate")
            if "callback" in path:
                # Its token is looked at first, and it is good for ever.
                path = service.flex.worker.shell.addresses.callback("default", run_id, "gate")
            body = BODIES.get(spec.name, {"status": "completed", "output": 1} if "callback" in path else None)
            answer = await service.client.request(spec.method, path, json=body)
            said = answer.json()
            assert (answer.status_code, said["code"]) == (410, "run_pruned"), (spec.method, path, answer.text)
            assert (said["run_id"], said["run_status"]) == (run_id, "completed")
            assert (said["created_at"], said["ended_at"]) == (detail["created_at"], detail["ended_at"])
            assert said["pruned_at"] > said["ended_at"]
        assert len(doors) >= 20
        for path, body in (
            (f"/api/v1/prompts?run_id={run_id}", None),
            ("/api/v1/flex/run.resume", {"run_id": run_id, "prompt_id": prompt_id, "decision": {"action": "approve"}}),
        ):
            answer = await service.client.request("GET" if body is None else "POST", path, json=body)
            assert (answer.status_code, answer.json()["code"]) == (410, "run_pruned"), path
        assert (await service.client.get("/api/v1/runs")).json()["items"] == []


async def test_another_tenant_learns_nothing(database_url: str) -> None:
    """P2: for everybody else there never was such a run."""
    async with serving(database_url) as service:
        run_id, _ = await answered(service)
        await prune(service)
        stranger = Principal("user:ben", tenant="other", roles=frozenset({"admin"}))
        with pytest.raises(RunNotFound):
            await service.flex.doors.reads.run(stranger, run_id)
        unknown = await service.client.get("/api/v1/runs/run_unknown")
        assert (unknown.status_code, unknown.json()["code"]) == (404, "run_not_found")


async def test_the_same_key_after_pruning_is_a_new_run(database_url: str) -> None:
    """F2, P6: a key has expired long before its run is pruned: submitting again runs again."""
    async with serving(database_url) as service:
        headers = {"Idempotency-Key": "key-1"}
        first = await service.client.post("/api/v1/runs", json=greeting(), headers=headers)
        await service.follow(first.json()["run_id"])
        assert (await prune(service))["idempotency_keys"] == 1
        second = await service.client.post("/api/v1/runs", json=greeting(), headers=headers)
        assert second.status_code == 202
        assert second.json()["run_id"] != first.json()["run_id"]


async def test_a_viewer_of_a_run_that_is_pruned_is_let_go(database_url: str) -> None:
    """F9, P6: a stream whose run is pruned under it ends early, and coming back tells why."""
    async with serving(database_url, feed_tick_seconds=0.05) as service:
        run_id = await service.start(envelope(plan(call("a", "held", "gone"))))
        async with service.watch(run_id) as reader:
            await reader.until("node_start")
            database = service.flex.worker.shell.database
            async with database.unit() as unit:
                await unit.execute(Statement(sa.delete(t.runs).where(t.runs.c.run_id == run_id)))
            assert (await reader.rest())[-1].type == "stream_end"


async def test_two_hundred_runs_come_and_go(database_url: str) -> None:
    """P6; langgraph#8531 (tables grow for ever): runs as callers make them leave their summaries, nothing else."""
    async with serving(database_url) as service:
        before = await counts(service)
        work = [service.start(envelope(plan(call("a", "noop", number), call("b", "noop", 1)))) for number in range(199)]
        for run_id in await asyncio.gather(*work):
            await service.follow(run_id)
        await answered(service)
        grown = await counts(service)
        assert (grown["runs"], grown["plans"]) == (200, 200)
        assert (await prune(service))["runs"] == 200
        left = await counts(service)
        # Who decided the one prompt stays on record; leases and workers are of processes that are at it meanwhile.
        kept = {
            name: many for name, many in left.items() if name.partition("_")[0] not in ("audit", "leases", "workers")
        }
        assert {name: many - before[name] for name, many in kept.items() if many != before[name]} == {
            "tombstones": 200, "pruned_prompts": 1, "history": 200,
        }  # fmt: skip


async def counts(service: Service) -> Counter[str]:
    found: Counter[str] = Counter()
    async with service.flex.worker.shell.database.reader() as reader:
        for table in t.metadata.sorted_tables:
            ((many,),) = await reader.fetch(Statement(sa.select(sa.func.count()).select_from(table)))
            found[table.name] = many
    return +found
