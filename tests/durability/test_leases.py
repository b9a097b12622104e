"""Leases at their edges: answers that were lost, beats that came late, runs nobody can read (design §4, workers)."""

import asyncio
from functools import partial

from contracts.access import LOCAL
from store import runs, watch
from store.runs import run_row
from tests.durability.auditor import query
from tests.durability.inside import LEASE_SECONDS, Inside, inside
from tests.durability.plans import ask, call, chain
from tests.durability.waiting import until

ASKING = chain(call("first"), ask(), call("last"))


async def at_rest(flex: Inside, run_id: str) -> bool:
    """Say whether the run waits and nobody holds it."""
    row = await run_row(flex.database, LOCAL.tenant, run_id)
    return row is not None and row.status == "waiting" and row.worker is None and not flex.workers[0].held


async def waiting(flex: Inside) -> str:
    """A run that waits for people."""
    run_id = (await flex.runs.submit(ASKING, LOCAL)).run_id
    await until(partial(at_rest, flex, run_id), 5, "the run at rest")
    return run_id


async def answered_unheard(flex: Inside, run_id: str) -> None:
    """Approve it while no nudge arrives."""
    flex.nudge.deaf = True
    prompt_id = await flex.prompt_of(run_id)
    assert prompt_id is not None
    assert await flex.decide(prompt_id, "approve")


async def is_completed(flex: Inside, number: int, run_id: str) -> bool:
    await flex.look(number)
    return await flex.status(run_id) == "completed"


async def test_a_claim_whose_answer_was_lost_is_found(database_url: str) -> None:
    """The run is this worker's in the database, and nobody walks it: the next look takes it up."""
    async with inside(database_url) as flex:
        run_id = await waiting(flex)
        await answered_unheard(flex, run_id)
        assert await runs.claim(flex.database, run_id, flex.workers[0].worker_id)
        await until(partial(is_completed, flex, 0, run_id), 5, "the end")


async def test_a_decision_that_nobody_was_told_of_is_found(database_url: str) -> None:
    """Nudges may be lost: whoever looks next claims the run that the decision made due."""
    async with inside(database_url) as flex:
        run_id = await waiting(flex)
        await answered_unheard(flex, run_id)
        await until(partial(is_completed, flex, 1, run_id), 5, "the end")


async def test_a_beat_that_comes_late_loses_the_lease(database_url: str) -> None:
    """What was not dispatched meanwhile would never be: the runs are read again under a new name."""
    async with inside(database_url) as flex:
        worker, name = flex.workers[0], flex.workers[0].worker_id
        flex.clocks[0].skipped += LEASE_SECONDS + 1
        assert not worker.lease_holds()
        assert not worker.has_room
        run_id = (await flex.runs.submit(ASKING, LOCAL)).run_id
        assert await flex.status(run_id) == "queued"
        await worker.beat()
        assert worker.lease_holds()
        assert worker.worker_id != name
        assert name not in [beat.worker_id for beat in (await watch.look(flex.database, name, 0, 1)).beats]
        await worker.claim_due()
        await until(partial(at_rest, flex, run_id), 5, "the run at rest")


async def test_a_worker_that_was_buried_takes_a_new_name(database_url: str) -> None:
    """Its runs are gone; it drops them without a write and goes on."""
    async with inside(database_url) as flex:
        name = flex.workers[0].worker_id
        await flex.bury(0)
        await flex.workers[0].beat()
        assert flex.workers[0].worker_id != name
        run_id = await waiting(flex)
        await answered_unheard(flex, run_id)
        await until(partial(is_completed, flex, 0, run_id), 5, "the end")


async def test_a_run_that_cannot_be_read_keeps_no_other_from_going_on(database_url: str) -> None:
    """One broken plan among the due runs: the others of the same claim are walked."""
    async with inside(database_url) as flex:
        ids = [await waiting(flex) for _ in range(3)]
        for run_id in ids:
            await answered_unheard(flex, run_id)
        text = "UPDATE run_plans SET document = 'nowhere' WHERE run_id = '{}'"
        await query(flex.database_url, text.format(ids[0]))
        for run_id in ids[1:]:
            await until(partial(is_completed, flex, 1, run_id), 5, "the end of a sound run")
        assert await flex.status(ids[0]) == "waiting"


async def test_a_drain_leaves_no_question_about_a_call_that_never_began(database_url: str) -> None:
    """Design, effects: only a call that was really made is ambiguous; a start that was only written is given back."""
    async with inside(database_url) as flex:
        flex.directory.gate.clear()
        slow, pay = flex.directory.steps["step.idempotent"], flex.directory.steps["step.once"]
        run_id = (await flex.runs.submit(chain(call("slow", "idempotent"), call("pay", "once")), LOCAL)).run_id
        await until(lambda: slow.begun, 5, "the slow node")
        draining = asyncio.create_task(flex.workers[0].drain(5))
        await until(lambda: flex.workers[0].drained, 5, "the drain")
        flex.directory.gate.set()
        await draining
        assert pay.begun == 0
        await until(partial(is_completed, flex, 1, run_id), 5, "the end without a question")
        assert (slow.begun, pay.begun) == (1, 1)


async def test_a_drain_leaves_an_effect_in_flight_to_be_asked_about(database_url: str) -> None:
    """Design, effects: a call that the drain cut off may have happened; it is not made again without a person."""
    async with inside(database_url) as flex:
        flex.directory.gate.clear()
        pay = flex.directory.steps["step.once"]
        run_id = (await flex.runs.submit(chain(call("pay", "once"), call("last")), LOCAL)).run_id
        await until(lambda: pay.begun, 5, "the payment")
        await flex.workers[0].drain(0)
        flex.directory.gate.set()
        await flex.look(1)
        await until(partial(flex.prompt_of, run_id), 5, "the question")
        prompt_id = await flex.prompt_of(run_id)
        assert prompt_id is not None
        assert await flex.decide(prompt_id, "happened")
        await until(partial(is_completed, flex, 1, run_id), 5, "the end")
        assert pay.begun == 1
