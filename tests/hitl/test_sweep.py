"""Timeouts, on both databases: explicit, fail closed, exactly once (H3)."""

import asyncio

import pytest

from contracts.errors import PromptSettled
from hitl.desk import Decided
from hitl.sweep import Sweep
from tests.hitl.conftest import Clock, Ids, Nudges, Office, operator

DUE = Clock().now + 1_000


@pytest.mark.parametrize(
    ("kind", "on_timeout", "action"),
    [
        ("approval", "approve", "approve"), ("approval", "reject", "reject"), ("approval", "fail", None),
        ("repair", "reject", "reject"), ("repair", "approve", None), ("question", "approve", None),
        ("plan_review", "reject", None), ("effect_check", "approve", None),
    ],
)  # fmt: skip
async def test_at_its_due_time_a_prompt_does_what_its_policy_says(
    office: Office, kind: str, on_timeout: str, action: str | None
) -> None:
    """H3: nothing before the millisecond it is due; a clock never gives an answer that the prompt does not offer."""
    await office.run(office.prompt(kind=kind, on_timeout=on_timeout, due_at=DUE))
    office.clock.now = DUE - 1
    assert await office.sweep.tick() == 0
    office.clock.now = DUE
    assert await office.sweep.tick() == 1
    (signal,) = await office.mail()
    assert (signal["prompt_id"], signal["status"], signal["on_timeout"]) == ("prm_1", "expired", on_timeout)
    assert office.nudges.told == [("run_1", "w1")]
    if action is None:
        assert signal["decision"] is None
    else:
        assert {name: signal["decision"][name] for name in ("action", "answer", "decided_by", "channel")} == {
            "action": action, "answer": None, "decided_by": "system:timeout", "channel": "timer",
        }  # fmt: skip
    assert await office.sweep.tick() == 0


async def test_a_prompt_that_waits_waits_for_ever(office: Office) -> None:
    """H1, H3: overdue is shown, not acted upon."""
    await office.run(office.prompt(due_at=DUE))
    office.clock.now = DUE * 2
    assert await office.sweep.tick() == 0
    assert (await office.say("ana", "approve")).settled


async def test_votes_below_the_quorum_are_no_decision_at_the_due_time(office: Office) -> None:
    """H4: an unanswered prompt never resumes as if it had been answered."""
    await office.run(office.prompt(quorum=2, on_timeout="fail", due_at=DUE))
    await office.say("ana", "approve")
    office.clock.now = DUE
    await office.sweep.tick()
    (signal,) = await office.mail()
    assert (signal["status"], signal["decision"]) == ("expired", None)


async def test_two_sweepers_end_every_prompt_exactly_once(office: Office) -> None:
    """H3: batches of two processes overlap, no prompt is told twice."""
    names = [f"run_{number}" for number in range(25)]
    for name in names:
        await office.run(office.prompt(f"prm_{name}", name, on_timeout="approve", due_at=DUE), run_id=name)
    clock = Clock(DUE)
    sweeps = [Sweep(office.database, clock, Ids(1_000 * number), Nudges(), batch=3) for number in range(2)]
    assert sum(await asyncio.gather(*(sweep.tick() for sweep in sweeps))) == len(names)
    for name in names:
        assert len(await office.mail(name)) == 1


async def test_a_late_person_and_the_timer_are_one_or_the_other(office: Office) -> None:
    """Kestra#18507: a leftover timer never overwrites what a person said, and never the other way round."""
    office.clock.now = DUE
    for number in range(10):
        name, prompt_id = f"run_{number}", f"prm_{number}"
        await office.run(office.prompt(prompt_id, name, on_timeout="reject", due_at=DUE), run_id=name)
        decided, ended = await asyncio.gather(
            office.say("ana", "approve", prompt_id), office.sweep.tick(), return_exceptions=True
        )
        (signal,) = await office.mail(name)
        if isinstance(decided, Decided):
            await office.sweep.tick()
            assert (signal["status"], signal["decision"]["decided_by"]) == ("settled", "user:ana")
        else:
            assert isinstance(decided, PromptSettled)
            assert ended == 1
            assert decided.extra["decided_by"] == "system:timeout"
            assert signal["status"] == "expired"
        assert len(await office.mail(name)) == 1


async def test_the_loop_ends_what_is_due_and_can_be_stopped(office: Office) -> None:
    """H3: a process does this by itself."""
    await office.run(office.prompt(on_timeout="fail", due_at=office.clock.now))
    told = asyncio.Event()

    class Told(Nudges):
        def run(self, run_id: str, worker: str | None) -> None:
            told.set()

    task = asyncio.create_task(Sweep(office.database, office.clock, office.ids, Told()).run(0.01))
    await asyncio.wait_for(told.wait(), 5)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert (await office.prompts.get(operator("ana"), "prm_1"))["status"] == "expired"
