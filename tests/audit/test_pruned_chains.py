"""Audit records have their own retention: a sealed prefix goes and leaves a checkpoint (H9, P6)."""

import sqlalchemy as sa

from hitl.sealing import Sealer
from service.pruning import DAY_MS
from service.retention import Keep
from service.verifying import ChainCheck
from store.audit import Mark
from store.audit_reads import ends, waiting
from store.tables import audit_checkpoints
from tests.audit.chains import added, chained, change, do, record, rows_of, verdict
from tests.retention.growing import Ground, grounds
from tests.store.making import NOW, TENANT

WEEK = Keep(None, 7)


async def checkpoints(ground: Ground) -> int:
    return (await ground.counts())["audit_checkpoints"]


async def test_the_chain_goes_on_from_its_checkpoint(database_url: str) -> None:
    """P6: old sealed records go from the beginning; what is left verifies, and goes on being sealed."""
    async with grounds(database_url) as ground:
        rows = await chained(ground.database, TENANT, 1_203)
        ground.clock.ms += 7 * DAY_MS + 1_200
        tally = await ground.prune(keep=WEEK)
        assert dict(tally.gone) == {"audit_records": 1_200}
        left = await rows_of(ground.database, TENANT)
        assert [row.seq for row in left] == [1_201, 1_202, 1_203]
        assert (await ends(ground.database, TENANT)).begins == Mark(1_200, rows[1_199].hash or "")
        assert await checkpoints(ground) == 1
        await added(ground.database, record(at=ground.clock.ms))
        await Sealer(ground.database).tick()
        found = await verdict(ground.database, TENANT)
        assert (found.broken, found.checked, found.head and found.head.seq) == (None, 4, 1_204)
        assert (await ChainCheck(ground.database, TENANT).verify(7)).checked == 4


async def test_everything_may_go(database_url: str) -> None:
    """P6: with every record gone the head and the checkpoint still hold the chain together."""
    async with grounds(database_url) as ground:
        rows = await chained(ground.database, TENANT, 3)
        await chained(ground.database, "other", 2)
        ground.clock.ms += 30 * DAY_MS
        assert (await ground.prune(keep=WEEK)).gone["audit_records"] == 5
        found = await verdict(ground.database, TENANT)
        assert (found.broken, found.checked) == (None, 0)
        assert found.head == Mark(3, rows[2].hash or "")
        await added(ground.database, record(at=ground.clock.ms))
        await Sealer(ground.database).tick()
        (row,) = await rows_of(ground.database, TENANT)
        assert (row.seq, row.previous) == (4, rows[2].hash)
        assert (await verdict(ground.database, TENANT)).broken is None
        # Pruning again moves the one checkpoint on.
        ground.clock.ms += 30 * DAY_MS
        await ground.prune(keep=WEEK)
        assert await checkpoints(ground) == 2
        assert (await ends(ground.database, TENANT)).begins == Mark(4, row.hash or "")


async def test_unsealed_and_young_ones_stay(database_url: str) -> None:
    """P6: only a sealed prefix goes: a young record in between keeps what was sealed behind it."""
    async with grounds(database_url) as ground:
        await added(ground.database, record(at=NOW - 9 * DAY_MS))
        await Sealer(ground.database).tick()
        await added(ground.database, record(at=NOW))
        await Sealer(ground.database).tick()
        await added(ground.database, record(at=NOW - 8 * DAY_MS))
        await Sealer(ground.database).tick()
        await added(ground.database, record(at=NOW - 10 * DAY_MS))
        assert (await ground.prune(keep=WEEK)).gone["audit_records"] == 1
        assert [row.seq for row in await rows_of(ground.database, TENANT)] == [2, 3]
        assert await waiting(ground.database, TENANT) == 1


async def test_a_checkpoint_can_be_tampered_with_too(database_url: str) -> None:
    """H9: a checkpoint that says something else, or none, is found."""
    async with grounds(database_url) as ground:
        rows = await chained(ground.database, TENANT, 5)
        ground.clock.ms += 7 * DAY_MS + 2
        await ground.prune(keep=WEEK)
        await do(ground.database, sa.update(audit_checkpoints).values(hash="f" * 64))
        found = (await verdict(ground.database, TENANT)).broken
        assert found is not None
        assert (found.seq, found.problem) == (3, "changed")
        await do(ground.database, sa.update(audit_checkpoints).values(hash=rows[1].hash))
        await do(ground.database, change(rows[3].record_id, actor="user:ben"))
        found = (await verdict(ground.database, TENANT)).broken
        assert found is not None
        assert (found.seq, found.problem) == (4, "changed")
        await do(ground.database, sa.delete(audit_checkpoints))
        found = (await verdict(ground.database, TENANT)).broken
        assert found is not None
        assert (found.seq, found.problem) == (1, "missing")


async def test_retention_does_not_disturb_who_verifies(database_url: str) -> None:
    """P6: records that are pruned while somebody verifies are not missing: the look goes on behind the checkpoint."""
    async with grounds(database_url) as ground:
        await chained(ground.database, TENANT, 1_100)
        ground.clock.ms += 7 * DAY_MS + 900
        pruned: list[int] = []

        class Look(ChainCheck):
            async def _items(self, seq: int, last: int, most: int):  # type: ignore[no-untyped-def]  # as above
                items = await super()._items(seq, last, most)
                if not pruned:
                    pruned.append((await ground.prune(keep=WEEK)).gone["audit_records"])
                return items

        found = await Look(ground.database, TENANT).verify()
        assert pruned == [900]
        # 500 were read before they went, and the 200 behind the checkpoint.
        assert (found.broken, found.checked) == (None, 700)
