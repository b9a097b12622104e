"""A signal that arrives while its run is released, claimed or taken away is never lost (H4; design §4, mailbox)."""

import asyncio
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from contracts.access import LOCAL
from tests.durability.auditor import audit, query, stored
from tests.durability.inside import Inside, inside
from tests.durability.plans import ask, call, chain
from tests.durability.waiting import until

ACTS = st.one_of(
    st.tuples(st.just("turn"), st.integers(1, 12)),
    st.tuples(st.just("decide"), st.sampled_from(["approve", "reject"])),
    st.tuples(st.just("cancel"), st.just(0)),
    st.tuples(st.sampled_from(["claim", "look", "bury", "beat", "wake"]), st.integers(0, 1)),
    st.tuples(st.just("deaf"), st.booleans()),
)
EFFORT = settings(
    max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)
Act = tuple[str, object]


class Said:
    """What people said and were told that it was accepted."""

    def __init__(self) -> None:
        self.decided: dict[str, str] = {}
        self.cancelled = False


async def act(flex: Inside, run_id: str, said: Said, what: str, how: object) -> None:
    """Do one thing to the run; refusals are answers too."""
    number = int(how) if isinstance(how, int) else 0
    match what:
        case "decide":
            prompt_id = await flex.prompt_of(run_id)
            if prompt_id is not None and await flex.decide(prompt_id, str(how)):
                said.decided[prompt_id] = str(how)
        case "cancel":
            said.cancelled = await flex.cancel(run_id) or said.cancelled
        case "claim":
            await flex.workers[number].claim_due()
        case "look":
            await flex.look(number)
        case "bury":
            await flex.bury(number)
        case "beat":
            await flex.workers[number].beat()
        case "wake":
            flex.workers[number].wake(run_id)
        case "deaf":
            flex.nudge.deaf = bool(how)


async def scenario(url: str, acts: list[Act]) -> None:
    async with inside(url) as flex:
        envelope = chain(call("first"), ask("one"), call("second"), ask("two"), call("last"))
        accepted = await flex.runs.submit(envelope, LOCAL)
        said, tasks = Said(), []
        for what, how in acts:
            if what == "turn":
                for _ in range(int(str(how))):
                    await asyncio.sleep(0)
            else:
                tasks.append(asyncio.create_task(act(flex, accepted.run_id, said, what, how)))
        await asyncio.gather(*tasks)
        await to_the_end(flex, accepted.run_id, said)
        await judge(url, accepted.run_id, said)


async def to_the_end(flex: Inside, run_id: str, said: Said) -> None:
    """Let the workers' loops turn, and people answer what is open, until the run ended."""

    async def ended() -> bool:
        for number in (0, 1):
            await flex.look(number)
        if not said.cancelled:
            await act(flex, run_id, said, "decide", "approve")
        return await flex.status(run_id) in ("completed", "failed", "cancelled")

    await until(ended, 15, f"the end of the run ({said.decided}, cancelled: {said.cancelled})")


async def judge(url: str, run_id: str, said: Said) -> None:
    """Everything accepted is in the log with the answer that was given, or came too late for a run that ended."""
    end = await stored(url, run_id, Path("nowhere"))
    faults = [fault for fault in audit(end, seen={}, answers=said.decided) if "never called" not in fault]
    assert faults == []
    signals = await query(url, f"SELECT kind, outcome FROM signals WHERE run_id = '{run_id}' ORDER BY signal_id")
    assert all(outcome in ("applied", "superseded", "late") for _, outcome in signals)
    applied = [kind for kind, outcome in signals if outcome == "applied"]
    rejected = "reject" in said.decided.values()
    if said.cancelled:
        assert end.status == ("cancelled" if "cancel" in applied else "failed" if rejected else "completed")
    else:
        assert end.status == ("failed" if rejected else "completed")
        assert applied.count("decision") == len(said.decided)


@EFFORT
@given(acts=st.lists(ACTS, max_size=14))
def test_no_signal_is_lost_on_sqlite(sqlite_url: str, acts: list[Act]) -> None:
    """Any order of deciding, cancelling, releasing, claiming, taking away and lost nudges."""
    asyncio.run(scenario(sqlite_url, acts))


@pytest.mark.slow
@EFFORT
@given(acts=st.lists(ACTS, max_size=14))
def test_no_signal_is_lost_on_postgresql(postgres_url: str, acts: list[Act]) -> None:
    """The same, where transactions really run at the same time."""
    asyncio.run(scenario(postgres_url, acts))
