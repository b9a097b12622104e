"""Two processes on one database: the other goes on, zombies change nothing, a drain hands over (F10, P5; design §4)."""

import asyncio
import signal
import statistics
import time
from collections.abc import Callable, Sequence
from functools import partial
from itertools import count

import pytest

from tests.durability.auditor import Stored, audit, effects_in, query, stored
from tests.durability.people import Caller, approve
from tests.durability.plans import ask, call, chain
from tests.durability.service import LEASE_SECONDS, Service, World
from tests.durability.waiting import until

pytestmark = pytest.mark.chaos


def longer(done: Sequence[Caller], than: int) -> bool:
    return len(done) > than


async def both(one: Service, other: Service) -> None:
    """Start both."""
    one.launch()
    other.launch()
    await asyncio.gather(one.ready(), other.ready())


def calls(world: World, node_id: str, service: Service) -> dict[str, int]:
    """Run → how often this service began a call of the node."""
    found: dict[str, int] = {}
    for effect in effects_in(world.effects):
        if effect.what == "begin" and effect.node_id == node_id and effect.pid == service.pid:
            found[effect.run_id] = found.get(effect.run_id, 0) + 1
    return found


async def sound(world: World, callers: Sequence[Caller], before: Sequence[Stored] = ()) -> None:
    """Every run completed, soundly for everybody who looked."""
    for caller in callers:
        end = await stored(world.url, caller.run_id, world.effects)
        assert caller.faults == []
        assert caller.seen == end.log
        assert audit(end, seen=caller.seen, before=before, answers=caller.answers) == []
        assert end.status == "completed"


def slow() -> dict[str, object]:
    return chain(call("first"), call("slow", "idempotent", gate="slow"), call("last"))


async def test_the_other_process_goes_on(world: World, record_property: Callable[[str, object], None]) -> None:
    """Design §4: runs of a killed process go on in the other within lease + 2 seconds."""
    with Service(world) as one, Service(world) as other:
        await both(one, other)
        callers = [Caller([one.base, other.base], slow(), f"key-{number}") for number in range(8)]
        following = asyncio.gather(*(caller.follow() for caller in callers))
        await until(lambda: len(calls(world, "slow", one)) == 8, 15, "eight slow nodes")
        at = one.kill()
        back: dict[str, float] = {}

        def all_back() -> bool:
            for run_id in calls(world, "slow", other):
                back.setdefault(run_id, time.monotonic() - at)
            return len(back) == 8

        await until(all_back, LEASE_SECONDS + 2, "every run in the other process")
        world.open_gate("slow")
        await following
    await sound(world, callers)
    times = sorted(back.values())
    said = f"recovery of 8 runs, lease {LEASE_SECONDS} s: p50 {statistics.median(times):.2f} s, max {times[-1]:.2f} s"
    record_property("recovery", said)
    print(f"\n{said}")  # noqa: T201 - the figure stands in docs/reliability.md


@pytest.mark.parametrize("awake", ["before_the_end", "after_the_end"])
async def test_a_zombie_changes_nothing(world: World, awake: str) -> None:
    """Design §4: a holder that slept beyond its lease finds its fence gone, takes a new id, and works on."""
    with Service(world) as one, Service(world) as other:
        await both(one, other)
        caller = Caller([one.base, other.base], slow(), "key")
        following = asyncio.create_task(caller.follow())
        await until(lambda: calls(world, "slow", one), 10, "the slow node")
        holder = (await stored(world.url, caller.run_id, world.effects)).worker
        one.send(signal.SIGSTOP)
        await until(lambda: calls(world, "slow", other), LEASE_SECONDS + 5, "the other process's call")
        before = await stored(world.url, caller.run_id, world.effects)
        if awake == "after_the_end":
            world.open_gate("slow")
            caller.bases = [other.base]
            await until(lambda: is_over(world, caller.run_id), 10, "the end")
        one.send(signal.SIGCONT)
        await until(lambda: '"event":"lease_lost"' in one.said(1_000), 10, "the zombie's notice")
        world.open_gate("slow")
        await following
        assert holder not in {row[0] for row in await query(world.url, "SELECT worker_id FROM workers")}
        later = Caller([one.base], slow(), "later")
        await later.follow()
    assert set(calls(world, "slow", one)) == {caller.run_id, later.run_id}
    await sound(world, [caller], [before])
    await sound(world, [later])


async def is_over(world: World, run_id: str) -> bool:
    return (await stored(world.url, run_id, world.effects)).status == "completed"


async def test_a_drain_hands_over_at_once(world: World) -> None:
    """P5: streams end with ``draining``; what does not end in time is given back, not lost; the exit is clean."""
    with Service(world, FLEX_DRAIN_SECONDS="0.3") as one, Service(world) as other:
        await both(one, other)
        caller = Caller([one.base, other.base], slow(), "key")
        following = asyncio.create_task(caller.follow())
        await until(lambda: calls(world, "slow", one), 10, "the slow node")
        one.send(signal.SIGTERM)
        assert await one.ended(10) == 0
        at = time.monotonic()
        await until(lambda: calls(world, "slow", other), 10, "the other process's call")
        assert time.monotonic() - at < LEASE_SECONDS, "it waited for a lease to run out"
        world.open_gate("slow")
        await following
    assert caller.ends[0] == "draining"
    await sound(world, [caller])
    kept = await query(world.url, f"SELECT state_json FROM nodes WHERE run_id = '{caller.run_id}' AND node_id = 'slow'")
    assert "lost" not in (kept[0][0] or ""), "an attempt that was given back counts as no lost worker"


async def test_a_rolling_restart_under_load_loses_nothing(world: World) -> None:
    """P5: each process in turn is drained and started again while callers come and go."""
    envelope = chain(call("a"), call("b", "idempotent"), ask(), call("c"), call("d", "idempotent"))
    with Service(world) as one, Service(world) as other:
        await both(one, other)
        bases = [one.base, other.base]
        done: list[Caller] = []
        rolled, numbers = asyncio.Event(), count()

        async def customer(name: int) -> None:
            while not rolled.is_set():
                key = f"key-{name}-{next(numbers)}"
                caller = Caller(bases[name % 2 :] + bases[: name % 2], envelope, key, approve)
                await caller.follow()
                done.append(caller)

        customers = asyncio.gather(*(customer(number) for number in range(4)))
        for service in (one, other):
            service.send(signal.SIGTERM)
            assert await service.ended(15) == 0
            await service.start()
            await until(partial(longer, done, len(done) + 2), 15, "more runs")
        rolled.set()
        await asyncio.wait_for(customers, 30)
    await sound(world, done)
    stray = await query(world.url, "SELECT run_id FROM runs WHERE status NOT IN ('completed')")
    assert stray == []
    assert len({caller.run_id for caller in done}) == len(done)


async def test_a_cancel_left_at_the_other_process_reaches_the_holder(world: World) -> None:
    """Design §4, mailbox: nudges may be lost, on SQLite there are none between processes; the mail is read anyway."""
    with Service(world) as one, Service(world) as other:
        await both(one, other)
        caller = Caller([one.base], slow(), "key")
        following = asyncio.create_task(caller.follow())
        await until(lambda: calls(world, "slow", one), 10, "the slow node")
        elsewhere = Caller([other.base], {}, "")
        left = await elsewhere.request("POST", f"/api/v1/runs/{caller.run_id}/cancel", json={})
        assert left.status_code == 202
        await following
    end = await stored(world.url, caller.run_id, world.effects)
    assert end.status == "cancelled"
    assert audit(end, seen=caller.seen) == []
