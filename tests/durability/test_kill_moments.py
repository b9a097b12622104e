"""kill -9 in the middle of work, of waiting and of an effect that must not be repeated (F10, H1, H4)."""

import asyncio
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial

import pytest

from tests.durability.auditor import Stored, audit, effects_in, stored
from tests.durability.people import Caller, Frame, approve
from tests.durability.plans import ask, call, chain
from tests.durability.service import Service, World
from tests.durability.waiting import until

pytestmark = pytest.mark.chaos


def begun(world: World, node_id: str) -> int:
    """How often a call of the node began."""
    return sum(effect.what == "begin" and effect.node_id == node_id for effect in effects_in(world.effects))


def is_begun(world: World, node_id: str, times: int) -> bool:
    """Say whether a call of the node began that often."""
    return begun(world, node_id) == times


def are_through(callers: Sequence[Caller], node_id: str, count: int) -> bool:
    """Say whether that many callers saw the node complete."""
    return sum(caller.saw("node_complete", node_id) for caller in callers) >= count


async def sound(world: World, caller: Caller, before: list[Stored], once: tuple[str, ...] = ()) -> Stored:
    """Assert that the run ended well for everybody who looked; return its rows."""
    end = await stored(world.url, caller.run_id, world.effects)
    assert caller.faults == []
    assert caller.seen == end.log
    assert audit(end, seen=caller.seen, before=before, answers=caller.answers, once=once) == []
    return end


async def killed(world: World, service: Service, caller: Caller) -> Stored:
    """Kill it and take a picture of what it left."""
    service.kill()
    return await stored(world.url, caller.run_id, world.effects)


async def test_killed_in_the_middle_of_a_node(world: World) -> None:
    """F10: the attempt is made again, as the same attempt under the same key; what completed is not."""
    caller = Caller([], chain(call("first"), call("slow", "idempotent", gate="slow"), call("last")), "key")
    with Service(world) as service:
        caller.bases = [service.base]
        await service.start()
        following = asyncio.create_task(caller.follow())
        await until(lambda: begun(world, "slow") == 1, 10, "the slow node")
        before = await killed(world, service, caller)
        world.open_gate("slow")
        await service.start()
        await following
    end = await sound(world, caller, [before])
    frames = [frame for frame in caller.frames if frame["node_id"] == "slow"]
    starts = [frame["payload"] for frame in frames if frame["type"] == "node_start"]
    assert end.status == "completed"
    assert [(start["attempt"], start["resumed"]) for start in starts] == [(1, False), (1, True)]
    assert len({effect.key for effect in end.effects if effect.node_id == "slow"}) == 1


async def test_killed_while_people_are_awaited(world: World) -> None:
    """H1: the question outlives the process; the answer given afterwards is what the run acts on."""
    caller = Caller([], chain(call("first"), ask(), call("last")), "key")
    with Service(world) as service:
        caller.bases = [service.base]
        await service.start()
        following = asyncio.create_task(caller.follow())
        await until(lambda: caller.saw("run_waiting"), 10, "run_waiting")
        before = await killed(world, service, caller)
        await service.start()
        prompt = next(frame["payload"]["prompt"] for frame in caller.frames if frame["type"] == "hitl_request")
        assert (await caller.decide(prompt, "approve")).status_code == 200
        await following
    end = await sound(world, caller, [before])
    assert end.status == "completed"
    assert begun(world, "first") == begun(world, "last") == 1


@pytest.mark.parametrize("action", ["happened", "not_happened"])
async def test_an_effect_in_flight_is_asked_about_and_never_repeated_by_itself(world: World, action: str) -> None:
    """Design, effects: a ``once`` call that a crash cut off is a question; the answer decides what is done."""
    asked: list[Frame] = []

    async def answerer(caller: Caller, prompt: Frame) -> None:
        asked.append(prompt)
        assert begun(world, "pay") == 1
        world.open_gate("pay")
        assert (await caller.decide(prompt, action)).status_code == 200

    caller = Caller([], chain(call("first"), call("pay", "once", gate="pay"), call("last")), "key", answerer)
    with Service(world) as service:
        caller.bases = [service.base]
        await service.start()
        following = asyncio.create_task(caller.follow())
        await until(lambda: begun(world, "pay") == 1, 10, "the payment")
        before = await killed(world, service, caller)
        await service.start()
        await following
    end = await sound(world, caller, [before], once=("pay",))
    assert [(prompt["kind"], prompt["node_id"]) for prompt in asked] == [("effect_check", "pay")]
    started = next(frame for frame in caller.frames if (frame["type"], frame["node_id"]) == ("node_start", "pay"))
    over = datetime.fromisoformat(started["timestamp"]) + timedelta(seconds=1.5)
    assert datetime.fromisoformat(asked[0]["created_at"]) >= over, "it was asked while the callee may be at work"
    assert end.status == "completed"
    assert begun(world, "pay") == (1 if action == "happened" else 2)
    keys = {effect.key for effect in end.effects if effect.node_id == "pay"}
    assert len(keys) == (1 if action == "happened" else 2), "a deliberate repetition has a key of its own"


async def test_three_lost_workers_on_one_node_end_the_run(world: World) -> None:
    """Wire §5a: ``worker_lost`` is a ``node_error``, the run's code is ``node_failed``."""
    caller = Caller([], chain(call("first"), call("deadly", "idempotent", gate="never")), "key")
    before = []
    with Service(world) as service:
        caller.bases = [service.base]
        await service.start()
        following = asyncio.create_task(caller.follow())
        for times in (1, 2, 3):
            await until(partial(is_begun, world, "deadly", times), 10, f"call {times}")
            before.append(await killed(world, service, caller))
            await service.start()
        await following
    end = await sound(world, caller, before)
    error, failed = caller.frames[-2:]
    assert (error["type"], error["node_id"], error["payload"]["code"]) == ("node_error", "deadly", "worker_lost")
    assert (failed["type"], failed["payload"]["code"]) == ("failed", "node_failed")
    assert failed["payload"]["failed_node_id"] == "deadly"
    assert end.status == "failed"
    assert begun(world, "deadly") == 3


async def test_killed_in_every_quarter_of_many_runs(world: World) -> None:
    """F10: a crash in the middle of a load: every accepted run ends once, whatever state the crash found it in."""
    envelope = chain(call("a"), call("b", "idempotent"), ask(), call("c"), call("d", "idempotent"))
    with Service(world) as service:
        await service.start()
        callers = [Caller([service.base], envelope, f"key-{number}", approve) for number in range(24)]
        following = asyncio.gather(*(caller.follow() for caller in callers))
        for share in (6, 12, 18):
            await until(partial(are_through, callers, "c", share), 15, f"{share} runs")
            service.kill()
            await service.start()
        await following
    for caller in callers:
        end = await sound(world, caller, [])
        assert end.status == "completed"
    assert len({caller.run_id for caller in callers}) == len(callers)
