"""Audit records are numbered and chained, each once, whoever seals and whatever dies (H9)."""

import asyncio
from collections.abc import AsyncIterator
from hashlib import sha256

import orjson
import pytest

from hitl.chain import GENESIS, item_of, sealed
from hitl.sealing import Sealer
from store import audit
from store.audit import waiting_tenant
from store.connect import Database
from store.unit import Refused
from tests.audit.chains import added, chained, change, do, opened, record, rows_of, verdict
from tests.store.making import NOW


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with opened(database_url) as found:
        yield found


async def test_the_hash_is_the_documented_one(database: Database) -> None:
    """H9: anybody can compute it: SHA-256 over the previous hash and the record's canonical JSON."""
    rows = await chained(database, "default", 3)
    previous = "0" * 64
    for seq, row in enumerate(rows, 1):
        canonical = (
            f'{{"actor":"user:ana","at":"2023-11-14T22:13:20.{row.at - NOW:03d}Z","body":{row.body_json},'
            f'"kind":"prompt.decided","prompt_id":"prm_1","record_id":"{row.record_id}","run_id":"run_1",'
            f'"seq":{seq},"tenant":"default"}}'
        )
        assert row.hash == sha256((previous + canonical).encode()).hexdigest()
        assert (row.seq, row.previous) == (seq, previous)
        previous = row.hash
    assert GENESIS == "0" * 64
    found = await verdict(database, "default")
    assert (found.broken, found.checked) == (None, 3)
    assert found.head is not None
    assert (found.head.seq, found.head.hash) == (3, previous)


async def test_the_order_is_by_time_then_name_and_a_late_one_comes_later(database: Database) -> None:
    """H9: a record that commits late with an earlier time takes its place behind those sealed before it."""
    await added(
        database, record(at=NOW + 5, record_id="b"), record(at=NOW + 5, record_id="a"), record(at=NOW, record_id="c")
    )
    assert await Sealer(database).tick() == 3
    await added(database, record(at=NOW - 1_000, record_id="late"))
    assert await Sealer(database).tick() == 1
    assert [row.record_id for row in await rows_of(database, "default")] == ["c", "a", "b", "late"]
    assert (await verdict(database, "default")).broken is None


async def test_a_body_is_stored_in_one_spelling(database: Database) -> None:
    """Two spellings of one object hash alike, and no body that is not an object gets in."""
    await added(database, record(body_json='{ "b": 1.50, "a": [1, "ü"] }'))
    await Sealer(database).tick()
    assert [row.body_json for row in await rows_of(database, "default")] == ['{"a":[1,"ü"],"b":1.5}']
    for body in ("[]", '"text"', "{", ""):
        with pytest.raises(ValueError):
            await added(database, record(body_json=body))


async def test_a_record_is_written_once(database: Database) -> None:
    await added(database, record(record_id="one"))
    with pytest.raises(Refused):
        await added(database, record(record_id="one"))


async def test_sealers_that_race_seal_everything_once(database_url: str) -> None:
    """H9: one leased sealer per tenant; four processes at once leave one chain per tenant without gap or double."""
    tenants = ["ana", "ben", "default"]
    async with opened(database_url) as first, opened(database_url) as second:
        for tenant in tenants:
            await added(first, *(record(tenant, NOW + number) for number in range(60)))
        sealers = [Sealer(database, batch=7) for database in (first, second, first, second)]
        done = await asyncio.gather(*(sealer.tick() for sealer in sealers))
        assert sum(done) <= 180
        # Who lost every race may have left early; whoever looks next finds the rest, if there is one.
        assert sum(done) + await sealers[0].tick() == 180
        assert await waiting_tenant(first) is None
        for tenant in tenants:
            found = await verdict(first, tenant)
            assert (found.broken, found.checked) == (None, 60)
            assert {row.tenant for row in await rows_of(first, tenant)} == {tenant}


class Died(Exception):
    pass


async def seal_one_and_die(database: Database) -> None:
    async with database.unit() as unit:
        head = await audit.take_head(unit, "default", GENESIS)
        assert head is not None
        rows = await audit.unsealed(unit, "default", 10)
        await audit.seal(unit, sealed(rows[0], head))
        raise Died


async def test_a_sealer_that_dies_before_its_commit_leaves_nothing(database: Database) -> None:
    """H9: the batch is one transaction; what it had begun is sealed again by the next."""
    await added(database, *(record(at=NOW + number) for number in range(4)))

    with pytest.raises(Died):
        await seal_one_and_die(database)
    assert await rows_of(database, "default") == []
    assert await Sealer(database).tick() == 4
    assert (await verdict(database, "default")).broken is None


@pytest.mark.parametrize(
    "body", ["no json at all", "[1]", '{"a":' * 300 + "1" + "}" * 300, '{"a":' * 252 + "1" + "}" * 252]
)
async def test_a_body_put_there_by_hand_does_not_stop_the_chain(database: Database, body: str) -> None:
    """H9: what cannot be read is sealed as what it is; records behind it do not wait for ever."""
    await added(database, record(record_id="odd", at=NOW), record(at=NOW + 1))
    await do(database, change("odd", body_json=body))
    assert await Sealer(database).tick() == 2
    odd, good = await rows_of(database, "default")
    assert orjson.loads(odd.body_json) == {"unreadable": body}
    assert (await verdict(database, "default")).broken is None
    await do(database, change(good.record_id, body_json=body))
    found = (await verdict(database, "default")).broken
    assert found is not None
    assert (found.seq, found.problem) == (2, "changed")


async def test_an_item_shows_what_was_written(database: Database) -> None:
    (row,) = await chained(database, "default", 1)
    item = item_of(row)
    assert item["at"] == "2023-11-14T22:13:20.000Z"
    assert item["body"] == {"action": "approve", "why": "fine, ünd more", "waited_ms": 12.5}
