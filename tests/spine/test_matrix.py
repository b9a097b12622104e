"""Every way a prompt can be decided, everybody, every standing: nobody decides what they may not (H3, H4).

Would have survived windmill#10262 and #7886: self-approval was refused by one route and let through by another.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx2
import pytest

from app.commands.embedded import Embedded
from app.commands.exits import CommandError
from contracts.access import LOCAL, Principal
from hitl.links import Links
from store import prompts
from tests.spine.persons import as_, named
from tests.spine.running import Service, envelope, plan, serving
from tests.spine.test_people import sweep

Json = dict[str, Any]
Verdict = tuple[int, str | None]
OPERATOR = frozenset({"operator"})
PERSONS: Mapping[str, Principal] = {
    "ana": Principal("user:ana", roles=OPERATOR),
    "ben": Principal("user:ben", roles=OPERATOR),
    "gil": Principal("user:gil", roles=frozenset({"submitter"}), groups=frozenset({"press"})),
    "eve": Principal("user:eve", roles=frozenset({"submitter"})),
    "root": Principal("user:root", roles=frozenset({"admin"})),
    "other": Principal("user:ben", tenant="other", roles=OPERATOR),
}
REQUESTER = "ana"
SETTER = Principal("user:set", roles=frozenset({"operator", "admin"}), groups=frozenset({"press"}))


# --- doors -----------------------------------------------------------------------------------------------------------


def verdict(response: httpx2.Response) -> Verdict:
    body = response.json()
    return response.status_code, body.get("code") if response.status_code >= 400 else None


async def by_decision(service: Service, who: Principal, prompt: Json, said: Json) -> Verdict:
    path = f"/api/v1/prompts/{prompt['prompt_id']}/decisions"
    return verdict(await service.client.post(path, json=said, headers=as_(who)))


async def by_batch(service: Service, who: Principal, prompt: Json, said: Json) -> Verdict:
    body = {"prompts": [{"prompt_id": prompt["prompt_id"]}], **said}
    response = await service.client.post("/api/v1/prompts/decisions", json=body, headers=as_(who))
    (item,) = response.json()["items"]
    return item["status_code"], item.get("problem", {}).get("code")


async def by_resume(service: Service, who: Principal, prompt: Json, said: Json) -> Verdict:
    body = {"run_id": prompt["run_id"], "prompt_id": prompt["prompt_id"], "decision": said}
    headers = {"Accept": "application/json", **as_(who)}
    status, code = verdict(await service.client.post("/api/v1/flex/run.resume", json=body, headers=headers))
    return (200, None) if status == 202 else (status, code)


async def by_link(service: Service, who: Principal, prompt: Json, said: Json) -> Verdict:
    """A link that was sent to this person, whoever had it made."""
    shell = service.flex.worker.shell
    row = await prompts.get(shell.database, "default", prompt["prompt_id"])
    assert row is not None
    links = Links(shell.database, shell.clock, service.flex.signer, 60_000)
    async with shell.database.unit() as unit:
        token = await links.make(unit, f"lnk_{prompt['prompt_id']}", row, who)
    return verdict(await service.client.post(f"/review/{token}", json=said))


async def by_command(service: Service, who: Principal, prompt: Json, said: Json) -> Verdict:
    """The command line on the database itself: always the local user."""
    assert who == LOCAL
    try:
        await Embedded(service.flex, "").decide(prompt["prompt_id"], said)
    except CommandError as error:
        problem = error.problem or {}
        return problem["status"], problem["code"]
    return 200, None


@dataclass(frozen=True)
class Door:
    """A way to decide, who can come through it, and what another tenant's prompt is to it."""

    go: Callable[[Service, Principal, Json, Json], Awaitable[Verdict]]
    persons: Mapping[str, Principal]
    unknown: str = "prompt_not_found"


SAME_TENANT = {name: person for name, person in PERSONS.items() if name != "other"}
DOORS: Mapping[str, Door] = {
    "decision": Door(by_decision, PERSONS),
    "batch": Door(by_batch, PERSONS),
    "resume": Door(by_resume, PERSONS, unknown="run_not_found"),
    "link": Door(by_link, SAME_TENANT),
    "command": Door(by_command, {"local": LOCAL}),
}
"""to add a door: its function above and a line here"""


# --- standings -------------------------------------------------------------------------------------------------------


async def _claimed(service: Service, prompt: Json) -> None:
    await service.flex.doors.handing.claim(PERSONS["ben"], prompt["prompt_id"], {})


async def _passed_on(service: Service, prompt: Json, giver: str) -> None:
    await service.flex.doors.handing.delegate(PERSONS[giver], prompt["prompt_id"], {"to": "user:eve"})


async def _ana_passed_on(service: Service, prompt: Json) -> None:
    await _passed_on(service, prompt, "ana")


async def _ben_passed_on(service: Service, prompt: Json) -> None:
    await _passed_on(service, prompt, "ben")


async def _settled(service: Service, prompt: Json) -> None:
    await service.flex.doors.prompts.decide(SETTER, prompt["prompt_id"], {"action": "approve"})


@dataclass(frozen=True)
class Standing:
    """How a prompt stands: its policy, what was done to it before, who may decide, and how others are refused."""

    policy: Json
    may: frozenset[str]
    refused: Mapping[str, str] = field(default_factory=dict)
    before: Callable[[Service, Json], Awaitable[None]] | None = None


def _names(names: str) -> frozenset[str]:
    return frozenset(names.split())


OPERATORS: Json = {"assignees": {"roles": ["operator"]}}
BY_NAME: Json = {"assignees": {"users": ["user:ana"]}}
WITHOUT: Json = {"exclude_requester": True}
ENDED = dict.fromkeys(("ana", "ben", "local"), "prompt_settled")
LADDER: Json = {
    **BY_NAME, "due_seconds": 100.0, "on_timeout": "escalate", "escalation": [{"assignees": {"users": ["user:ben"]}}],
}  # fmt: skip
STANDINGS: Mapping[str, Standing] = {
    "user": Standing(BY_NAME, _names("ana")),
    "role": Standing(OPERATORS, _names("ana ben local")),
    "group": Standing({"assignees": {"groups": ["press"]}}, _names("gil")),
    "nobody": Standing({}, _names("ana ben local")),
    "excluded": Standing({**OPERATORS, **WITHOUT}, _names("ben local"), {"ana": "requester_excluded"}),
    "named": Standing(
        {"assignees": {"users": ["user:ana", "user:ben"]}, **WITHOUT}, _names("ben"), {"ana": "requester_excluded"}
    ),
    "claimed": Standing(
        OPERATORS, _names("ben"), {"ana": "prompt_claimed", "local": "prompt_claimed"}, before=_claimed
    ),
    "delegated": Standing(BY_NAME, _names("eve"), before=_ana_passed_on),
    "passed": Standing(
        {**OPERATORS, **WITHOUT}, _names("eve local"), {"ana": "requester_excluded"}, before=_ben_passed_on
    ),
    "escalated": Standing(LADDER, _names("ben")),
    "settled": Standing(OPERATORS, frozenset(), ENDED, before=_settled),
}


def expected(standing: Standing, name: str, door: Door) -> Verdict:
    """What this person is answered."""
    if name in standing.may:
        return 200, None
    code = door.unknown if name == "other" else standing.refused.get(name, "not_assigned")
    status = {"not_assigned": 403, "requester_excluded": 403}.get(code, 404 if code.endswith("not_found") else 409)
    return status, code


@pytest.fixture
async def service(database_url: str) -> Any:
    """A served process that knows who is calling."""
    async with serving(database_url, wrap=named) as running:
        yield running


def _ask(node_id: str, policy: Json) -> Json:
    return {"node_id": node_id, "kind": "ask", "prompt": {"kind": "approval", "question": "Send it?", **policy}}


async def _asked(service: Service, nodes: list[Json], who: Principal | None = None) -> dict[str, Json]:
    """Start a run in which all of these ask at once; return their prompts by node."""
    headers = {} if who is None else as_(who)
    accepted = await service.client.post("/api/v1/runs", json=envelope(plan(*nodes)), headers=headers)
    assert accepted.status_code == 202, accepted.text
    found = await service.asked(accepted.json()["run_id"], len(nodes))
    return {prompt["node_id"]: prompt for prompt in found}


async def _state(service: Service, prompt: Json) -> Json:
    row = await prompts.get(service.flex.worker.shell.database, "default", prompt["prompt_id"])
    assert row is not None
    votes = await prompts.votes_of(service.flex.worker.shell.database, "default", prompt["prompt_id"])
    return {"status": row.status, "by": [vote.decided_by for vote in votes]}


@pytest.mark.parametrize("name", DOORS)
async def test_nobody_decides_what_they_may_not(service: Service, name: str) -> None:
    """H3, H4: each cell with a prompt of its own; a refusal leaves it as it was."""
    door = DOORS[name]
    cells = [(how, who) for how in STANDINGS for who in door.persons]
    nodes = [_ask(f"{how}_{who}", STANDINGS[how].policy) for how, who in cells]
    asked = await _asked(service, nodes, PERSONS[REQUESTER])
    assert await sweep(service, 101) == len(door.persons), "only those that escalate"
    for how, who in cells:
        prompt, standing = asked[f"{how}_{who}"], STANDINGS[how]
        if standing.before is not None:
            await standing.before(service, prompt)
        before = await _state(service, prompt)
        wanted = expected(standing, who, door)
        said = await door.go(service, door.persons[who], prompt, {"action": "approve"})
        assert said == wanted, (name, how, who)
        after = await _state(service, prompt)
        done = {"status": "settled", "by": [door.persons[who].subject]}
        assert after == (done if wanted[0] == 200 else before), (name, how, who)


@pytest.mark.parametrize("name", DOORS)
async def test_what_was_taken_back_is_decided_by_nobody(service: Service, name: str) -> None:
    """H4, H7: also not by who would have been asked."""
    door = DOORS[name]
    asked = await _asked(service, [_ask("q", OPERATORS)], PERSONS[REQUESTER])
    await service.flex.doors.handing.withdraw(PERSONS["root"], asked["q"]["prompt_id"], {})
    await service.follow(asked["q"]["run_id"])
    for who, person in door.persons.items():
        status, code = await door.go(service, person, asked["q"], {"action": "approve"})
        assert status in (403, 404, 409), (who, code)
        if who in ("ana", "ben", "local"):
            assert code == ("invalid_run_state" if name == "resume" else "prompt_settled")
    assert await _state(service, asked["q"]) == {"status": "withdrawn", "by": []}


async def test_who_asked_finds_no_way_round(service: Service) -> None:
    """Windmill#10262, #7886: not by a claim, not as a delegate, not as an administrator, not by the command line."""
    ana = Principal("user:ana", roles=frozenset({"operator", "admin"}))
    asked = await _asked(service, [_ask("q", {**OPERATORS, **WITHOUT})], ana)
    path = f"/api/v1/prompts/{asked['q']['prompt_id']}"
    for body in ({}, {"force": True}):
        refused = await service.client.post(f"{path}/claim", json=body, headers=as_(ana))
        assert verdict(refused) == (403, "requester_excluded")
    to_ana = await service.client.post(f"{path}/delegate", json={"to": "user:ana"}, headers=as_(PERSONS["ben"]))
    assert verdict(to_ana) == (403, "requester_excluded")
    for door in ("decision", "batch", "resume", "link"):
        for said in ({"action": "approve"}, {"action": "reject"}, {"action": "edit", "answer": 1}):
            assert await DOORS[door].go(service, ana, asked["q"], said) == (403, "requester_excluded")
    assert await _state(service, asked["q"]) == {"status": "open", "by": []}
    own = await _asked(service, [_ask("q", {**OPERATORS, **WITHOUT})])
    assert await by_command(service, LOCAL, own["q"], {"action": "approve"}) == (403, "requester_excluded")
    with pytest.raises(CommandError):
        await Embedded(service.flex, "").claim(own["q"]["prompt_id"], {})
