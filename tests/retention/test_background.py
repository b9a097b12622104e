"""Sealing and pruning as a service does them by itself: they go on whatever one look meets (H9, P6)."""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from structlog.testing import capture_logs

from app.system import SystemIds
from hitl.sealing import Sealer
from service.pruning import Pruner
from store.connect import Database
from tests.audit.chains import added, record
from tests.durability.waiting import until
from tests.retention.growing import FRAMES, KEEP, Sown, grounds
from tests.store.making import TENANT, Hands


def seals(sealed: list[int], many: int) -> bool:
    return sum(sealed) == many


def says(logs: Sequence[Mapping[str, Any]], what: str) -> bool:
    return [line["event"] for line in logs].count(what) > 2


async def ended(task: "asyncio.Task[None]") -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def test_pruning_by_itself(database_url: str) -> None:
    """P6: what grows old while the service runs goes at the next look; counters and a log line say what went."""
    async with grounds(database_url) as ground:
        counted: Counter[str] = Counter()

        def count(table: str, many: int) -> None:
            counted[table] += many

        pruner = Pruner(ground.database, SystemIds(), KEEP, pause_seconds=0, count=count)
        await ground.sow(Sown(days=366), Sown(days=300))
        with capture_logs() as logs:
            task = asyncio.create_task(pruner.run(look_seconds=0.01, first_seconds=0))
            try:
                await until(lambda: ground.has("tombstones", 1), 15, "the first is pruned")
                ground.clock.ms += 100 * 86_400_000
                await until(lambda: ground.has("tombstones", 2), 15, "the second is pruned")
                await until(lambda: sum(line.get("runs", 0) for line in logs) == 2, 15, "the log says so")
            finally:
                await ended(task)
        assert (counted["runs"], counted["events"]) == (2, 2 * FRAMES)
        assert {line["event"] for line in logs} == {"pruned"}
        # Cancelled in the middle or not, the lease was given up.
        assert (await ground.counts())["leases"] == 0


async def test_sealing_by_itself(database_url: str) -> None:
    """H9: records are sealed as they come."""
    async with grounds(database_url) as ground:
        sealed: list[int] = []
        task = asyncio.create_task(Sealer(ground.database, count=sealed.append).run(look_seconds=0.01))
        try:
            for turn in (1, 2):
                await added(ground.database, record(tenant=TENANT), record(tenant="other"))
                await until(partial(seals, sealed, 2 * turn), 15, "both are sealed")
        finally:
            await ended(task)
        assert (await ground.counts())["audit_heads"] == 2


async def test_a_database_that_is_away_ends_nothing(sqlite_url: str) -> None:
    """P5: a look that fails is logged and made again, also when it fails in a way that nobody thought of."""
    database = await Database.open(sqlite_url, clock=Hands())
    await database.close()
    with capture_logs() as logs:
        tasks = [
            asyncio.create_task(Sealer(database).run(look_seconds=0.001)),
            asyncio.create_task(Pruner(database, SystemIds(), KEEP).run(look_seconds=0.001, first_seconds=0)),
        ]
        for what in ("sealing_broke", "pruning_broke"):
            await until(partial(says, logs, what), 15, what)
        assert not any(task.done() for task in tasks)
        for task in tasks:
            await ended(task)
