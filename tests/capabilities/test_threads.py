"""Synchronous work stays beside the loop, bounded, and is never started twice (design §4, R2)."""

import asyncio
import threading
from functools import partial

import pytest

from capabilities import CapabilityError, capability
from capabilities.threads import ThreadRunner
from tests.capabilities.calls import Call, beats_while, bundle, until

KEY = ("run_1", "node")


async def test_the_loop_turns_while_a_thread_works() -> None:
    """R2: a synchronous capability never blocks the event loop."""
    go = threading.Event()

    @capability("slow.one")
    def slow() -> str:
        assert go.wait(10)
        return "done"

    assert await beats_while(slow.run(bundle(), Call()), go.set) == "done"


async def test_a_timed_out_thread_is_not_joined_by_a_second_one() -> None:
    """design §4: a timed-out thread is not retried while it is alive."""
    go, ended = threading.Event(), threading.Event()
    starts: list[int] = []

    @capability("slow.two")
    def slow() -> int:
        starts.append(1)
        assert go.wait(10)
        ended.set()
        return len(starts)

    first = asyncio.ensure_future(slow.run(bundle(), Call()))
    await until(lambda: bool(starts))
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    assert slow.busy == {KEY}
    with pytest.raises(CapabilityError) as refused:
        await slow.run(bundle(), Call(attempt=2))
    assert (refused.value.code, refused.value.retryable) == ("still_running", True)
    assert refused.value.after_ms is not None
    assert refused.value.after_ms > 0
    go.set()
    assert ended.wait(10)
    await until(lambda: not slow.busy)
    assert await slow.run(bundle(), Call(attempt=3)) == 2


async def test_another_node_is_not_held_up_by_a_stuck_one() -> None:
    go = threading.Event()

    @capability("slow.three", consumes={})
    def slow(context: Call) -> str:
        if context.node_id == "stuck":
            assert go.wait(10)
        return context.node_id

    stuck = asyncio.ensure_future(slow.run(bundle(), Call(node_id="stuck")))
    assert await slow.run(bundle(), Call(node_id="free")) == "free"
    go.set()
    assert await stuck == "stuck"


async def test_no_more_threads_than_places_and_first_come_first_served() -> None:
    runner = ThreadRunner("test", max_threads=2)
    gates = [threading.Event() for _ in range(4)]
    began: list[int] = []

    def work(number: int) -> int:
        began.append(number)
        assert gates[number].wait(10)
        return number

    tasks = [asyncio.ensure_future(runner.run(("r", str(number)), partial(work, number))) for number in range(4)]
    await until(lambda: len(began) == 2)
    for _ in range(50):
        await asyncio.sleep(0)
    assert sorted(began) == [0, 1]
    gates[0].set()
    assert await tasks[0] == 0
    await until(lambda: len(began) == 3)
    assert began[2] == 2
    for gate in gates:
        gate.set()
    assert await asyncio.gather(*tasks[1:]) == [1, 2, 3]
    assert runner.busy == frozenset()


async def test_a_place_is_not_lost_when_a_waiter_gives_up() -> None:
    runner = ThreadRunner("test", max_threads=1)
    go = threading.Event()
    first = asyncio.ensure_future(runner.run(("r", "1"), lambda: go.wait(10)))
    await asyncio.sleep(0)
    second = asyncio.ensure_future(runner.run(("r", "2"), lambda: True))
    await asyncio.sleep(0)
    second.cancel()
    go.set()
    assert await first
    assert await runner.run(("r", "3"), lambda: "next") == "next"


@pytest.mark.parametrize("error", [StopIteration("x"), SystemExit(3), KeyboardInterrupt()])
async def test_what_would_end_the_service_is_an_ordinary_error(error: BaseException) -> None:
    def work() -> None:
        raise error

    with pytest.raises(RuntimeError, match=type(error).__name__):
        await ThreadRunner("test").run(KEY, work)


async def test_deltas_of_a_thread_arrive_in_order_and_before_the_result() -> None:
    @capability("talks")
    def talks(context: Call) -> str:
        for number in range(100):
            context.delta(str(number))
        context.log("info", "said")
        return "end"

    call = Call()
    assert await talks.run(bundle(), call) == "end"
    assert call.deltas == [str(number) for number in range(100)]
    assert call.lines == [("info", "said")]


def test_a_thread_outlives_its_loop_without_harm() -> None:
    runner = ThreadRunner("test", max_threads=1)
    go = threading.Event()

    async def give_up() -> None:
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(runner.run(KEY, lambda: go.wait(10)), 0.01)

    asyncio.run(give_up())
    assert runner.busy == {KEY}
    go.set()

    async def again() -> str:
        await until(lambda: not runner.busy)
        return await runner.run(KEY, lambda: "fresh")

    assert asyncio.run(again()) == "fresh"
