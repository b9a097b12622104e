"""Defaults, escalations and reminders, on both databases: each exactly once, whoever looks first (H3, H9)."""

import asyncio
from collections.abc import Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field
from typing import Any

import pytest

from contracts.access import Principal
from contracts.errors import NotAssigned
from hitl.desk import Decided
from hitl.sweep import Sweep
from store.connect import Database
from store.rows import PromptRow
from store.unit import Unit
from tests.hitl.conftest import SCHEMA, Clock, Ids, Nudges, Office, operator

NOW = Clock().now
DUE = NOW + 1_000


@dataclass
class Told:
    """Remembers the notices that were written."""

    notices: list[tuple[str, str, int]] = field(default_factory=list)

    async def notice(self, unit: Unit, row: PromptRow, kind: str, only: Sequence[str] | None = None) -> None:
        self.notices.append((row.prompt_id, kind, row.level))


def sweeper(office: Office, told: Told) -> Sweep:
    return Sweep(office.database, office.clock, Ids(100_000), Nudges(), tell=told)


# --- default ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "schema", "default", "action"),
    [
        ("approval", SCHEMA, {"variants": ["from the policy"]}, "edit"),
        ("question", {"type": "integer"}, 7, "answer"),
        ("question", {"type": ["integer", "null"]}, None, "answer"),
        ("choice", {"enum": ["red", "blue"]}, "red", "choose"),
        ("repair", {"type": "integer"}, 7, "edit"),
        ("approval", SCHEMA, {"variants": [1]}, None),
        ("choice", {"enum": ["red", "blue"]}, "green", None),
        ("effect_check", True, "happened", None),
    ],
)
async def test_a_default_answers_like_a_person_would_or_not_at_all(
    office: Office, kind: str, schema: Any, default: Any, action: str | None
) -> None:
    """H3, H4: through the prompt's own answering action, validated; what does not fit lets the prompt expire."""
    policy = {"due_seconds": 1.0, "on_timeout": "default", "default_answer": default}
    await office.run(office.prompt(kind=kind, schema=schema, on_timeout="default", due_at=DUE, policy=policy))
    office.clock.now = DUE
    assert await office.sweep.tick() == 1
    (signal,) = await office.mail()
    assert (signal["status"], signal["on_timeout"]) == ("expired", "default")
    (record,) = await office.records()
    assert (record["kind"], record["actor"], record["channel"]) == ("prompt.expired", "system:timeout", "timer")
    assert (record["action"], record["on_timeout"]) == (action, "default")
    if action is None:
        assert signal["decision"] is None
    else:
        assert (signal["decision"]["action"], signal["decision"]["answer"]) == (action, default)
        assert record["answer"] == default


# --- escalation ------------------------------------------------------------------------------------------------------


def ladder(after: str = "fail", last_seconds: float | None = 3.0) -> dict[str, Any]:
    """Operators for a second, then ben for two, then group legal."""
    steps = [
        {"assignees": {"users": ["user:ben"]}, "due_seconds": 2.0},
        {"assignees": {"groups": ["legal"]}, "due_seconds": last_seconds},
    ]
    more = {"after_escalation": after, "default_answer": {"variants": []}}
    return {"due_seconds": 1.0, "on_timeout": "escalate", "escalation": steps, **more}


BEN, LEGAL = Principal("user:ben"), Principal("user:lea", groups=frozenset({"legal"}))


async def test_an_escalation_replaces_who_is_asked_step_by_step(office: Office) -> None:
    """H3: each step with a time of its own; the claim is freed, and it is all written down and told."""
    told = Told()
    sweep = sweeper(office, told)
    await office.run(office.prompt(on_timeout="escalate", due_at=DUE, policy=ladder(), claimed_by="user:ana"))
    office.clock.now = DUE - 1
    assert await sweep.tick() == 0
    office.clock.now = DUE
    assert (await sweep.tick(), await sweep.tick()) == (1, 0)
    shown = await office.prompts.get(BEN, "prm_1")
    assert (shown["level"], shown["assignees"]["users"], shown["assignees"]["roles"]) == (1, ["user:ben"], [])
    assert (shown["claimed_by"], shown["on_timeout"], shown["status"]) == (None, "escalate", "open")
    assert shown["due_at"] == "2026-01-05T09:00:03.000Z"
    with pytest.raises(NotAssigned):
        await office.say("ana", "approve")
    office.clock.now = DUE + 2_000
    assert await sweep.tick() == 1
    shown = await office.prompts.get(BEN, "prm_1")
    assert (shown["level"], shown["assignees"]["groups"], shown["on_timeout"]) == (2, ["legal"], "fail")
    assert await office.mail() == [], "the run goes on waiting"
    office.clock.now += 1
    assert (await office.say(LEGAL, "approve")).settled
    first, second, _ = await office.records()
    assert (first["kind"], first["level"], first["taken_from"]) == ("prompt.escalated", 0, "user:ana")
    assert (second["from_assignees"]["users"], second["to_assignees"]["groups"]) == (["user:ben"], ["legal"])
    assert told.notices == [("prm_1", "escalated", 1), ("prm_1", "escalated", 2)]


@pytest.mark.parametrize(
    ("after", "last_seconds", "ends", "action"),
    [
        ("fail", 3.0, True, None), ("approve", 3.0, True, "approve"), ("reject", 3.0, True, "reject"),
        ("default", 3.0, True, "edit"), ("wait", 3.0, False, None), ("fail", None, False, None),
    ],
)  # fmt: skip
async def test_what_happens_after_the_last_step(
    office: Office, after: str, last_seconds: float | None, ends: bool, action: str | None
) -> None:
    """H3: after_escalation; a last step without a time waits for ever."""
    await office.run(office.prompt(on_timeout="escalate", due_at=DUE, policy=ladder(after, last_seconds)))
    moves = []
    for _ in range(5):
        office.clock.now += 10_000
        moves.append(await office.sweep.tick())
    assert moves == [1, 1, int(ends), 0, 0]
    shown = await office.prompts.get(BEN, "prm_1")
    assert shown["status"] == ("expired" if ends else "open")
    signals = await office.mail()
    assert len(signals) == int(ends)
    if ends:
        assert (signals[0]["on_timeout"], (signals[0]["decision"] or {}).get("action")) == (after, action)


async def test_votes_stay_and_delegations_end_with_their_level(office: Office) -> None:
    """H3: who spoke has spoken; who was only passed a say of the level before has none any more."""
    policy = ladder() | {"quorum": 2}
    policy["escalation"][0]["assignees"] = {"users": ["user:ben", "user:dora"]}
    await office.run(office.prompt(on_timeout="escalate", due_at=DUE, policy=policy, quorum=2))
    await office.say("ana", "approve")
    await office.handing.delegate(operator("cleo"), "prm_1", {"to": "user:emil"})
    office.clock.now = DUE
    await office.sweep.tick()
    with pytest.raises(NotAssigned):
        await office.say(Principal("user:emil"), "approve")
    assert (await office.say("ana", "approve")).repeated, "what one said is still there"
    shown = await office.prompts.get(BEN, "prm_1")
    assert len(shown["delegations"]) == 1, "what happened stays to be seen"
    assert (await office.say(BEN, "approve")).settled


# --- reminders -------------------------------------------------------------------------------------------------------


async def test_reminders_come_at_their_times_and_stop_with_the_prompt(office: Office) -> None:
    """H3: counted from the raise; each is written down and told once."""
    told = Told()
    sweep = sweeper(office, told)
    policy = {"remind_seconds": [3.0, 1.0, 2.0]}
    await office.run(office.prompt(policy=policy, notify_at=NOW + 1_000))
    seen = []
    for at in (999, 1_000, 1_500, 2_000):
        office.clock.now = NOW + at
        seen.append(await sweep.tick())
    assert seen == [0, 1, 0, 1]
    office.clock.now += 1
    await office.say("ana", "approve")
    office.clock.now = NOW + 10_000
    assert await sweep.tick() == 0
    assert await office.kinds() == ["prompt.reminded", "prompt.reminded", "prompt.decided"]
    assert [record["reminder_at"] for record in (await office.records())[:2]] == [
        "2026-01-05T09:00:01.000Z", "2026-01-05T09:00:02.000Z",
    ]  # fmt: skip
    assert [kind for _, kind, _ in told.notices] == ["reminded", "reminded"]


async def test_the_first_notice_tells_of_the_prompt_itself(office: Office) -> None:
    """H8: raised, then reminded; the raise is no reminder."""
    told = Told()
    await office.run(office.prompt(policy={"remind_seconds": [1.0]}, notify_at=NOW))
    sweep = sweeper(office, told)
    assert await sweep.tick() == 1
    office.clock.now = NOW + 1_000
    assert (await sweep.tick(), await sweep.tick()) == (1, 0)
    assert [kind for _, kind, _ in told.notices] == ["raised", "reminded"]
    assert await office.kinds() == ["prompt.reminded"]


async def test_a_notice_that_cannot_be_written_leaves_its_time_as_it_was(office: Office) -> None:
    """H8: the move and the notice are one transaction: neither is lost."""

    class Broken(Told):
        async def notice(self, unit: Unit, row: PromptRow, kind: str, only: Sequence[str] | None = None) -> None:
            raise RuntimeError("no room")

    await office.run(office.prompt(policy={"remind_seconds": [1.0]}, notify_at=NOW + 1_000))
    office.clock.now = NOW + 1_000
    with pytest.raises(RuntimeError):
        await sweeper(office, Broken()).tick()
    assert await office.kinds() == []
    told = Told()
    assert await sweeper(office, told).tick() == 1
    assert len(told.notices) == 1


# --- several at once -------------------------------------------------------------------------------------------------


async def test_several_sweepers_move_everything_exactly_once(office: Office, database_url: str) -> None:
    """H3: three processes, small batches, due times, escalations and reminders mixed; one record per move."""
    told = Told()
    count = 8
    for number in range(count):
        await office.run(
            office.prompt(f"prm_e{number}", f"run_{number}", on_timeout="escalate", due_at=DUE, policy=ladder()),
            office.prompt(f"prm_r{number}", f"run_{number}", policy={"remind_seconds": [1.0]}, notify_at=DUE),
            office.prompt(f"prm_x{number}", f"run_{number}", on_timeout="fail", due_at=DUE),
            run_id=f"run_{number}",
        )
    office.clock.now = DUE
    async with AsyncExitStack() as stack:
        sweeps = []
        for number in range(3):
            database = await Database.open(database_url, clock=office.clock)
            stack.push_async_callback(database.close)
            sweeps.append(Sweep(database, office.clock, Ids(1_000 * number), Nudges(), batch=3, tell=told))
        assert sum(await asyncio.gather(*(sweep.tick() for sweep in sweeps))) == 3 * count
    for number in range(count):
        assert await office.kinds(f"prm_e{number}") == ["prompt.escalated"]
        assert await office.kinds(f"prm_r{number}") == ["prompt.reminded"]
        assert await office.kinds(f"prm_x{number}") == ["prompt.expired"]
        assert len(await office.mail(f"run_{number}")) == 1
    assert len(told.notices) == 2 * count


async def test_a_late_person_and_an_escalation_are_one_or_the_other(office: Office) -> None:
    """Kestra#18507: whoever moved the row first has won; the other is told, or finds nothing to do."""
    office.clock.now = DUE
    for number in range(10):
        name, prompt_id = f"run_{number}", f"prm_{number}"
        row = office.prompt(prompt_id, name, on_timeout="escalate", due_at=DUE, policy=ladder())
        await office.run(row, run_id=name)
        said, moved = await asyncio.gather(
            office.say("ana", "approve", prompt_id), office.sweep.tick(), return_exceptions=True
        )
        if isinstance(said, Decided):
            await office.sweep.tick()
            assert await office.kinds(prompt_id) == ["prompt.decided"]
            assert len(await office.mail(name)) == 1
        else:
            assert isinstance(said, NotAssigned)
            assert moved == 1
            assert await office.kinds(prompt_id) == ["prompt.escalated"]
            assert await office.mail(name) == []
