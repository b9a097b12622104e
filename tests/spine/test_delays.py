"""Delays, frame by frame, on both databases (F6, H1, W5).

Would have survived n8n#33643, #13856 and #14863 (seconds rounded to a minute, waits that never resume) and
hatchet#4128 (a parked task that timed out).
"""

from __future__ import annotations

from datetime import datetime

from tests.spine.running import Service, call, envelope, of, plan, serving
from tests.spine.sse import payload, shapes
from tests.spine.waits import OPENING, SLACK_MS, apart, delay, soon


async def test_a_delay_takes_its_time_to_the_millisecond(service: Service) -> None:
    """W5, n8n#33643: 1.2 seconds are 1.2 seconds; nobody holds the run meanwhile, and it is no working time."""
    policies = {"timeouts": {"run_seconds": 1.0, "node_seconds": 1.0}}
    async with service.stream(envelope(plan(delay(seconds=1.2), call("b", "noop", of("d"))), policies=policies)) as up:
        wakes = (await up.until("run_waiting")).payload["wake_at"]
        frames = await up.rest()
    assert shapes(frames) == [
        *OPENING, "node_start:d", "run_waiting", "run_resumed", "node_complete:d", "node_start:b", "node_complete:b",
        "complete",
    ]  # fmt: skip
    payload(frames, "run_waiting", waiting_on=["timer"], prompt_ids=[])
    payload(frames, "run_resumed", cause="timer")
    done = next(frame for frame in frames if frame.shape == "node_complete:d")
    assert done.payload["output"] == {"until": wakes}
    assert 1_200 <= apart(frames, "node_start:d", "node_complete:d") <= 1_200 + SLACK_MS
    end = payload(frames, "complete")
    assert end["waited_ms"] >= 1_000
    assert end["duration_ms"] <= SLACK_MS


async def test_any_process_wakes_a_run(database_url: str) -> None:
    """H1: the process that started the run is gone; another one that never saw it is as exact."""
    async with serving(database_url) as first:
        run_id = await first.start(envelope(plan(delay(seconds=1.2))))
        async with first.watch(run_id) as reader:
            await reader.until("run_waiting")
    async with serving(database_url) as second:
        frames = await second.follow(run_id)
    assert shapes(frames)[-3:] == ["run_resumed", "node_complete:d", "complete"]
    assert 1_200 <= apart(frames, "node_start:d", "node_complete:d") <= 1_200 + SLACK_MS


async def test_a_time_that_has_come_is_over_at_once(service: Service) -> None:
    """A delay of nothing, or until yesterday, never waits."""
    for own in ({"seconds": 0}, {"until": "2020-01-05T09:00:00Z"}):
        frames = await service.run(envelope(plan(delay(**own))))
        assert shapes(frames) == [*OPENING, "node_start:d", "node_complete:d", "complete"]


async def test_a_delay_until_a_time(service: Service) -> None:
    """RFC 3339 with any offset."""
    until = soon(0.3)
    frames = await service.run(envelope(plan(delay(until=until))))
    assert datetime.fromisoformat(payload(frames, "complete")["output"]["until"]) == datetime.fromisoformat(until)
    assert shapes(frames)[2:4] == ["node_start:d", "run_waiting"]


async def test_several_timers_end_in_their_order(service: Service) -> None:
    """H6: the earliest timer wakes the run, the others go on."""
    many = plan(
        delay("late", seconds=0.5), delay("soon", seconds=0.2), call("x", "noop", of("soon")),
        output={"/x": {"node_id": "x", "pointer": ""}, "/late": {"node_id": "late", "pointer": ""}},
    )  # fmt: skip
    frames = await service.run(envelope(many))
    assert shapes(frames) == [
        *OPENING, "node_start:late", "node_start:soon", "run_waiting", "run_resumed", "node_complete:soon",
        "node_start:x", "node_complete:x", "run_waiting", "run_resumed", "node_complete:late", "complete",
    ]  # fmt: skip


async def test_delays_inside_a_map(service: Service) -> None:
    """W5: an item may wait like any node."""
    items = {"node_id": "m", "kind": "map", "over": {"value": [1, 2]}, "node": {"kind": "delay", "seconds": 0.1}}
    frames = await service.run(envelope(plan(items)))
    assert [frame.shape for frame in frames if frame.type == "node_complete"] == [
        "node_complete:m[0]", "node_complete:m[1]", "node_complete:m"
    ]  # fmt: skip
    assert len(payload(frames, "complete")["output"]) == 2
