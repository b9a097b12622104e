"""What doors ask about prompts: lists, details, decisions on the wire, resume (H7, H10; wire §5)."""

from typing import Any

import asyncpg
import pytest
import sqlalchemy as sa
from sqlalchemy.ext.asyncio import create_async_engine

from contracts.access import Principal
from contracts.answers import DecisionForm
from contracts.errors import (
    BadQuery,
    FlexError,
    HumanPayloadRequired,
    InvalidRunState,
    PromptNotFound,
    PromptSettled,
    RunNotFound,
    ServerBusy,
    StalePlanVersion,
    StoreUnavailable,
    Unprocessable,
)
from hitl.desk import Desk
from service.prompts import Prompts
from store.connect import Database
from tests.hitl.conftest import SCHEMA, Office, operator

ANA = operator("ana")


async def test_a_prompt_stands_on_the_wire_field_by_field(office: Office) -> None:
    """Wire §5."""
    await office.run(office.prompt(due_at=office.clock.now + 1_000))
    expected: dict[str, Any] = {
        "prompt_id": "prm_1", "run_id": "run_1", "node_id": "sign_off", "kind": "approval", "status": "open",
        "question": "Publish these?", "proposed": {"variants": []}, "answer_schema": SCHEMA,
        "actions": ["approve", "edit", "reject"], "assignees": {"users": [], "roles": ["operator"], "groups": []},
        "claimed_by": None, "quorum": 1, "votes": [], "plan_version": 1, "bound_hash": "h1",
        "created_at": "2026-01-05T09:00:00.000Z", "due_at": "2026-01-05T09:00:01.000Z", "on_timeout": "wait",
        "links": {"decide": "/api/v1/prompts/prm_1/decisions"}, "veto": True, "exclude_requester": False, "level": 0,
        "delegations": [],
        "decision_schema": DecisionForm("approval", ("approve", "edit", "reject"), SCHEMA).schema(),
    }  # fmt: skip
    assert await office.prompts.get(ANA, "prm_1") == expected
    assert await office.prompts.list(ANA) == {"items": [expected], "next_cursor": None}
    with pytest.raises(PromptNotFound):
        await office.prompts.get(Principal("user:ana", tenant="other"), "prm_1")


async def test_a_decision_answers_as_the_wire_says(office: Office) -> None:
    """Wire §5: decision, prompt, run. The run waited for this alone, so it goes on."""
    await office.run(office.prompt("prm_1", quorum=2), office.prompt("prm_2"))
    body = {"action": "approve", "comment": "good"}
    open_yet = await office.prompts.decide(ANA, "prm_1", body)
    assert (open_yet["prompt"], open_yet["run"]) == ({"status": "open"}, {"status": "waiting"})
    assert (await office.prompts.decide(ANA, "prm_2", body))["run"] == {"status": "waiting"}
    settled = await office.prompts.decide(operator("ben"), "prm_1", body, "cli")
    assert (settled["prompt"], settled["run"]) == ({"status": "settled"}, {"status": "running"})
    assert settled["decision"] == {
        "decision_id": settled["decision"]["decision_id"], "action": "approve", "answer": None, "comment": "good",
        "decided_by": "user:ben", "decided_at": "2026-01-05T09:00:00.000Z", "channel": "cli",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({}, "/action"), ({"action": 1}, "/action"), ({"action": "approve", "bound_has": "x"}, "/bound_has"), ([], "")],
)
async def test_a_body_that_is_no_decision_is_refused_with_its_place(office: Office, body: Any, pointer: str) -> None:
    """F2: nothing unknown is dropped silently."""
    await office.run(office.prompt())
    with pytest.raises(Unprocessable) as refused:
        await office.prompts.decide(ANA, "prm_1", body)
    assert [item.pointer for item in refused.value.errors] == [pointer]


async def test_camel_case_is_taken_and_answers_are_never_rewritten(office: Office) -> None:
    """F2: only modelled fields have two spellings."""
    await office.run(office.prompt(schema={"type": "object"}))
    decided = await office.prompts.decide(
        ANA, "prm_1", {"action": "edit", "boundHash": "h1", "answer": {"callToAction": "x"}}
    )
    assert decided["decision"]["answer"] == {"callToAction": "x"}


async def views(office: Office, **query: Any) -> list[str]:
    page = await office.prompts.list(ANA, **query)
    return [item["prompt_id"] for item in page["items"]]


async def test_views(office: Office) -> None:
    """H7: mine is what I may decide and nobody else has taken."""
    now = office.clock.now
    await office.run(
        office.prompt("prm_1"), office.prompt("prm_2", assignees={"users": ["user:ben"]}),
        office.prompt("prm_3", claimed_by="user:ben"), office.prompt("prm_4", claimed_by="user:ana"),
        office.prompt("prm_5", due_at=now + 5), office.prompt("prm_6"),
    )  # fmt: skip
    await office.run(office.prompt("prm_7", "run_2", on_timeout="fail", due_at=now + 1), run_id="run_2")
    office.clock.now += 10
    await office.say("ana", "approve", "prm_6")
    await office.sweep.tick()
    assert await views(office) == ["prm_5", "prm_4", "prm_3", "prm_2", "prm_1"]
    assert await views(office, view="mine") == ["prm_5", "prm_4", "prm_1"]
    assert await views(office, view="unassigned") == ["prm_5", "prm_2", "prm_1"]
    assert await views(office, view="overdue") == ["prm_5"]
    assert await views(office, view="done") == ["prm_7", "prm_6"]
    assert await views(office, status="settled") == ["prm_6"]
    assert await views(office, status="expired", run_id="run_2") == ["prm_7"]
    assert await views(office, status="settled", view="mine") == []
    with pytest.raises(BadQuery):
        await views(office, view="theirs")
    with pytest.raises(RunNotFound):
        await views(office, run_id="run_none")


@pytest.mark.parametrize("view", [None, "mine"])
async def test_pages_hold_everything_once(office: Office, view: str | None) -> None:
    """P3: whatever the page size, also where the selection is made above the store."""
    mine = [f"prm_{number:02}" for number in range(7)]
    others = [f"prm_{number:02}x" for number in range(7)] if view else []
    await office.run(
        *(office.prompt(name) for name in mine),
        *(office.prompt(name, assignees={"users": ["user:ben"]}) for name in others),
    )
    for limit in (1, 2, 3, 7, 50):
        seen: list[str] = []
        cursor, pages = None, 0
        while cursor is not None or not pages:
            page = await office.prompts.list(ANA, view=view, limit=limit, cursor=cursor)
            assert len(page["items"]) <= limit
            seen += [item["prompt_id"] for item in page["items"]]
            cursor, pages = page["next_cursor"], pages + 1
        assert seen == sorted(mine, reverse=True)


async def test_a_storage_failure_is_an_error_and_never_an_empty_list(office: Office, database_url: str) -> None:
    """H7, trap."""
    await office.run(office.prompt())
    engine = create_async_engine(database_url)
    async with engine.begin() as connection:
        await connection.execute(sa.text("DROP TABLE prompts"))
    await engine.dispose()
    with pytest.raises((StoreUnavailable, asyncpg.PostgresError)):
        await office.prompts.list(ANA)


async def resume(office: Office, **body: Any) -> Any:
    return await office.prompts.resume(ANA, {"run_id": "run_1", **body})


async def test_resume_decides_and_says_where_the_stream_goes_on(office: Office) -> None:
    """H10: the same decide; what follows are the frames after the last one before it. Sent again: the same."""
    await office.run(office.prompt())
    for _ in range(2):
        resumed = await resume(office, expected_plan_version=1, prompt_id="prm_1", decision={"action": "approve"})
        assert (resumed.run_id, resumed.after) == ("run_1", 1)
    assert len(await office.mail()) == 1
    with pytest.raises(PromptSettled):
        await resume(office, prompt_id="prm_1", decision={"action": "reject"})


@pytest.mark.parametrize(
    ("body", "error", "code", "status"),
    [
        ({"run_id": "run_none"}, RunNotFound, "run_not_found", 404),
        ({"expected_plan_version": 2}, StalePlanVersion, "stale_plan_version", 409),
        ({}, HumanPayloadRequired, "human_payload_required", 400),
        ({"prompt_id": "prm_1"}, HumanPayloadRequired, "human_payload_required", 400),
        ({"decision": {"action": "approve"}}, HumanPayloadRequired, "human_payload_required", 400),
        ({"prompt_id": "prm_x", "decision": {"action": "approve"}}, PromptNotFound, "prompt_not_found", 404),
        ({"prompt_id": "prm_2", "decision": {"action": "approve"}}, PromptNotFound, "prompt_not_found", 404),
        ({"prompt_id": "prm_1", "decision": {"action": "dance"}}, FlexError, "action_not_allowed", 403),
        ({"prompt_id": "prm_1", "decision": {}}, Unprocessable, "unprocessable", 422),
        ({"answer": 1}, Unprocessable, "unprocessable", 422),
    ],
)
async def test_resume_refuses(
    office: Office, body: dict[str, Any], error: type[FlexError], code: str, status: int
) -> None:
    """H10; an answer never lands on a prompt that was not named (langgraph#8579), nor on another run's."""
    await office.run(office.prompt())
    await office.run(office.prompt("prm_2", "run_2"), run_id="run_2")
    with pytest.raises(error) as refused:
        await resume(office, **body)
    assert (refused.value.code, refused.value.status) == (code, status)
    if code in ("human_payload_required", "prompt_not_found"):
        assert [item["prompt_id"] for item in refused.value.extra["open_prompts"]] == ["prm_1"]
    assert await office.mail() == []


@pytest.mark.parametrize(("status", "prompts"), [("completed", 0), ("cancelled", 0), ("running", 0), ("waiting", 0)])
async def test_resume_needs_a_run_that_waits_for_people(office: Office, status: str, prompts: int) -> None:
    """H10: invalid_run_state."""
    await office.run(*(office.prompt() for _ in range(prompts)), status=status)
    for body in ({}, {"prompt_id": "prm_1", "decision": {"action": "approve"}}):
        with pytest.raises(InvalidRunState):
            await resume(office, **body)


async def test_an_ended_run_is_not_resumed_by_its_old_decision(office: Office) -> None:
    """H10: the run is over; posting the decision to the prompt again still says what was decided."""
    await office.run(office.prompt())
    await office.prompts.decide(ANA, "prm_1", {"action": "approve"})
    await office.end()
    with pytest.raises(InvalidRunState):
        await resume(office, prompt_id="prm_1", decision={"action": "approve"})
    assert (await office.prompts.decide(ANA, "prm_1", {"action": "approve"}))["run"] == {"status": "cancelled"}


class Away:
    """A crash point that stands for a database which stops answering before a decision is committed."""

    def reach(self, point: str) -> None:
        if point == "decide.before_commit":
            raise StoreUnavailable


async def test_resume_is_busy_while_the_database_is_away(office: Office, database_url: str) -> None:
    """H10: server_busy, nothing is stored; sent again once it is back, the decision is taken."""
    await office.run(office.prompt())
    database = await Database.open(database_url, clock=office.clock, crash=Away())
    body = {"run_id": "run_1", "prompt_id": "prm_1", "decision": {"action": "approve"}}
    try:
        desk = Desk(database, office.clock, office.ids, office.nudges)
        with pytest.raises(ServerBusy) as busy:
            await Prompts(database, desk, office.clock).resume(ANA, body)
    finally:
        await database.close()
    assert (busy.value.status, busy.value.code) == (503, "server_busy")
    assert await office.mail() == []
    assert (await resume(office, **body)).run_id == "run_1"
    assert len(await office.mail()) == 1
