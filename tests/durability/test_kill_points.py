"""kill -9 at every named point between the steps of a transaction, on both databases (F9, F10, F2, H4)."""

import asyncio
import signal

import pytest

from contracts.ports import CRASH_POINTS
from tests.durability.auditor import Stored, audit, effects_in, query, stored
from tests.durability.people import Caller, Frame, cancel
from tests.durability.plans import mixed
from tests.durability.service import Service, World

pytestmark = pytest.mark.chaos

# Which time the point is reached: in the middle of the run where there is a choice.
AT = {
    "accept.begin": 1,
    "accept.before_commit": 1,
    "accept.after_commit": 1,
    "journal.begin": 2,
    "journal.before_commit": 3,
    "journal.after_commit": 3,
    "journal.after_frames": 2,
    "attempt.before_call": 4,
    "attempt.after_call": 4,
    "claim.after_commit": 1,
    "decide.begin": 1,
    "decide.before_commit": 1,
    "decide.after_commit": 1,
    "signal.before_commit": 1,
    "signal.after_commit": 1,
    "finish.before_commit": 1,
    "finish.after_commit": 1,
    "release.after_commit": 1,
}
ONCE = ("third", "last")


def test_every_point_has_its_test() -> None:
    assert tuple(AT) == CRASH_POINTS


async def answer(world: World, caller: Caller, prompt: Frame) -> None:
    """Approve; of an effect in flight say what the file says."""
    if prompt["kind"] != "effect_check":
        action = "approve"
    else:
        begun = any(effect.node_id == prompt["node_id"] for effect in effects_in(world.effects))
        action = "happened" if begun else "not_happened"
    response = await caller.decide(prompt, action)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("point", CRASH_POINTS)
async def test_a_kill_at_this_point_loses_and_doubles_nothing(world: World, point: str) -> None:
    """F10: after the restart the run ends by itself (people answer what they are asked); F9, F2: see the auditor."""
    cancelled = point.startswith("signal.")

    async def answerer(caller: Caller, prompt: Frame) -> None:
        await (cancel(caller, prompt) if cancelled else answer(world, caller, prompt))

    with Service(world) as service:
        await service.start(crash_at=f"{point}:{AT[point]}")
        caller = Caller([service.base], mixed(), f"key-{point}", answerer)
        following = asyncio.create_task(caller.follow())
        assert await service.ended(15) == -signal.SIGKILL, f"{point} was not reached"
        before = await picture(world)
        assert caller.seen.items() <= before.log.items(), "a frame was seen that was not committed"
        await service.start()
        await following
    runs = await query(world.url, "SELECT run_id FROM runs")
    assert runs == [(caller.run_id,)], "one key, one run"
    assert caller.run_ids == {caller.run_id}
    end = await stored(world.url, caller.run_id, world.effects)
    assert caller.faults == []
    assert caller.seen == end.log
    assert audit(end, seen=caller.seen, before=[before], answers=caller.answers, once=ONCE) == []
    assert end.status == ("cancelled" if cancelled else "completed")


async def picture(world: World) -> Stored:
    """What the crash left of the only run."""
    runs = await query(world.url, "SELECT run_id FROM runs")
    return await stored(world.url, runs[0][0], world.effects) if runs else Stored({})
