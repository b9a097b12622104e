"""Several prompts of one sort decided at once: each for itself, in its own transaction (H7)."""

import asyncio
from typing import Any

import pytest

from contracts.access import Principal
from contracts.errors import MixedPrompts, StoreUnavailable, Unprocessable
from contracts.ports import CRASH_POINTS
from service.batches import Batches
from store.connect import Database
from tests.hitl.conftest import SCHEMA, Office, operator

ANA = operator("ana")


async def decide(office: Office, *names: str, who: Principal = ANA, **body: Any) -> list[dict[str, Any]]:
    """Decide prompts that are there, each with the hash it was shown with; return the items as they go out."""
    prompts = [{"prompt_id": name, "bound_hash": "h1"} for name in names]
    items = await office.batches.decide(who, {"prompts": prompts, "action": "approve", **body})
    return [item.as_wire("cid-01") for item in items]


async def test_each_is_answered_for_by_itself(office: Office) -> None:
    """H4, H7: what is decided, claimed, stale, unknown or another tenant's keeps no other from being decided."""
    await office.run(
        office.prompt("prm_1"), office.prompt("prm_2", claimed_by="user:ben"), office.prompt("prm_3", quorum=2),
        office.prompt("prm_4"), office.prompt("prm_5", assignees={"users": ["user:ben"]}),
    )  # fmt: skip
    await office.run(office.prompt("prm_6", "run_2", tenant="other"), run_id="run_2", tenant="other")
    await office.say("ben", "reject", "prm_4")
    names = ["prm_1", "prm_2", "prm_3", "prm_4", "prm_5", "prm_6", "prm_none"]
    items = await decide(office, *names, comment="All fine.")
    assert [item["prompt_id"] for item in items] == names
    assert [item["status_code"] for item in items] == [200, 409, 200, 409, 403, 404, 404]
    assert [item.get("prompt", {}).get("status") for item in items] == [
        "settled", None, "open", None, None, None, None,
    ]  # fmt: skip
    assert [item["problem"]["code"] for item in items if "problem" in item] == [
        "prompt_claimed", "prompt_settled", "not_assigned", "prompt_not_found", "prompt_not_found",
    ]  # fmt: skip
    assert {item["problem"]["correlation_id"] for item in items if "problem" in item} == {"cid-01"}
    decision = items[0]["decision"]
    assert (decision["comment"], decision["channel"], decision["decided_by"]) == ("All fine.", "batch", "user:ana")
    again = await decide(office, "prm_1", "prm_3")
    assert [item["status_code"] for item in again] == [200, 200]
    assert again[0]["decision"] == decision


async def test_the_hash_of_each_is_what_was_seen(office: Office) -> None:
    """H5: a batch is no way to decide what one has not seen."""
    await office.run(office.prompt("prm_1"), office.prompt("prm_2"))
    prompts = [{"prompt_id": "prm_1", "bound_hash": "other"}, {"prompt_id": "prm_2"}]
    items = await office.batches.decide(ANA, {"prompts": prompts, "action": "approve"})
    assert [item.as_wire("c")["status_code"] for item in items] == [409, 200]


@pytest.mark.parametrize(
    "changed",
    [{"kind": "repair"}, {"actions": ["approve", "reject"]}, {"schema": SCHEMA | {"title": "Another form"}}],
)
async def test_prompts_of_another_sort_are_refused_before_anything_is_decided(
    office: Office, changed: dict[str, Any]
) -> None:
    """H7: mixed_prompts names those that differ from the first one."""
    await office.run(office.prompt("prm_1"), office.prompt("prm_2"), office.prompt("prm_3", **changed))
    with pytest.raises(MixedPrompts) as refused:
        await decide(office, "prm_1", "prm_2", "prm_3")
    assert [item.pointer for item in refused.value.errors] == ["/prompts/2"]
    assert await office.mail() == []


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"prompts": [], "action": "approve"}, "/prompts"),
        ({"prompts": [{"prompt_id": "prm_1"}] * 2, "action": "approve"}, "/prompts/1/prompt_id"),
        ({"prompts": [{"prompt_id": f"prm_{n}"} for n in range(101)], "action": "approve"}, "/prompts"),
        ({"prompts": [{"prompt_id": "prm_1"}]}, "/action"),
        ({"prompts": [{"prompt_id": "prm_1", "action": "reject"}], "action": "approve"}, "/prompts/0/action"),
    ],
)
async def test_a_body_that_is_no_batch_is_refused(office: Office, body: Any, pointer: str) -> None:
    """F2."""
    await office.run(office.prompt("prm_1"))
    with pytest.raises(Unprocessable) as refused:
        await office.batches.decide(ANA, body)
    assert [item.pointer for item in refused.value.errors] == [pointer]


async def test_two_batches_at_once_decide_every_prompt_once(office: Office) -> None:
    """H4."""
    names = [f"prm_{number:02}" for number in range(20)]
    for name in names:
        await office.run(office.prompt(name, f"run_{name}"), run_id=f"run_{name}")
    found = await asyncio.gather(
        decide(office, *names), decide(office, *reversed(names), who=operator("ben"), action="reject")
    )
    taken = [item["prompt_id"] for items in found for item in items if item["status_code"] == 200]
    assert sorted(taken) == names
    for name in names:
        assert len(await office.mail(f"run_{name}")) == 1


class Away:
    """A crash point that stands for a database which is gone after some decisions."""

    def __init__(self, after: int) -> None:
        assert "decide.before_commit" in CRASH_POINTS
        self.left, self.asked = after, 0

    def reach(self, point: str) -> None:
        if point == "decide.before_commit":
            self.asked += 1
            self.left -= 1
            if self.left < 0:
                raise StoreUnavailable


async def test_when_the_database_goes_away_the_rest_is_said_not_to_be_decided(
    office: Office, database_url: str
) -> None:
    """H7, trap: a storage failure is an error per prompt, and nobody waits for each of them."""
    names = ["prm_1", "prm_2", "prm_3", "prm_4"]
    for name in names:
        await office.run(office.prompt(name, f"run_{name}"), run_id=f"run_{name}")
    away = Away(1)
    database = await Database.open(database_url, clock=office.clock, crash=away)
    try:
        office.desk._database = database
        office.batches = Batches(office.database, office.desk)
        items = await decide(office, *names)
    finally:
        await database.close()
    assert [item["status_code"] for item in items] == [200, 503, 503, 503]
    assert away.asked == 2
    for name, many in zip(names, [1, 0, 0, 0], strict=True):
        assert len(await office.mail(f"run_{name}")) == many
