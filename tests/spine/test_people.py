"""People in charge over HTTP: claim, delegate, withdraw, batches, the clock, and going on with a run (H2-H7, H10)."""

from __future__ import annotations

from typing import Any

import httpx2
import pytest

from contracts.access import Principal
from contracts.answers import DecisionForm
from hitl.sweep import Sweep
from tests.spine.asking import ASKED, OPENING, gated, question
from tests.spine.persons import as_, named
from tests.spine.running import Service, call, edge, envelope, plan, serving
from tests.spine.sse import payload, shapes

ANA = Principal("user:ana", roles=frozenset({"operator"}))
BEN = Principal("user:ben", roles=frozenset({"operator"}))
CLEO = Principal("user:cleo", roles=frozenset({"submitter"}))


@pytest.fixture
async def service(database_url: str) -> Any:
    """A served process that knows who is calling."""
    async with serving(database_url, wrap=named) as running:
        yield running


def asking(node_id: str = "q", **prompt: Any) -> dict[str, Any]:
    return {"node_id": node_id, "kind": "ask", "prompt": {"question": "Send it?"} | prompt}


async def post(service: Service, path: str, who: Principal, body: Any = None) -> httpx2.Response:
    return await service.client.post(f"/api/v1/prompts/{path}", json={} if body is None else body, headers=as_(who))


async def read(service: Service, prompt: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = (await service.client.get(f"/api/v1/prompts/{prompt['prompt_id']}")).json()
    return found


async def test_a_withdrawn_question_fails_its_node_and_the_run(service: Service) -> None:
    """H7: exactly these frames; whoever still looks is told."""
    async with service.stream(envelope(plan(asking())), **as_(ANA)) as reader:
        prompt = await question(reader)
        assert (await post(service, f"{prompt['prompt_id']}/withdraw", BEN)).status_code == 403
        taken = await post(service, f"{prompt['prompt_id']}/withdraw", ANA, {"comment": "Asked too early."})
        assert (taken.status_code, taken.json()["status"]) == (200, "withdrawn")
        frames = await reader.rest()
    assert shapes(frames) == [
        *OPENING, "node_start:q", "hitl_request:q", ASKED, "hitl_resolved:q", "run_resumed", "node_error:q", "failed",
    ]  # fmt: skip
    payload(frames, "hitl_resolved", status="withdrawn", decision=None)
    payload(frames, "run_resumed", cause="withdrawn")
    payload(frames, "node_error", code="prompt_withdrawn")
    payload(frames, "failed", code="node_failed", failed_node_id="q")
    late = await post(service, f"{prompt['prompt_id']}/decisions", BEN, {"action": "answer", "answer": 1})
    assert (late.status_code, late.json()["prompt_status"]) == (409, "withdrawn")


async def test_a_prompt_goes_from_hand_to_hand(service: Service) -> None:
    """H3, H7: claimed, passed on, decided by who has it now; every door shows the same."""
    async with service.stream(envelope(plan(asking())), **as_(CLEO)) as reader:
        prompt = await question(reader)
        at = prompt["prompt_id"]
        claimed = await post(service, f"{at}/claim", ANA)
        assert (claimed.status_code, claimed.json()["claimed_by"]) == (200, "user:ana")
        refused = await post(service, f"{at}/decisions", BEN, {"action": "answer", "answer": 1})
        assert (refused.status_code, refused.json()["code"]) == (409, "prompt_claimed")
        passed = await post(service, f"{at}/delegate", ANA, {"to": "user:cleo", "comment": "Yours."})
        assert passed.json()["claimed_by"] == "user:cleo"
        assert passed.json() == await read(service, prompt)
        assert (await service.detail(prompt["run_id"]))["open_prompts"] == [passed.json()]
        done = await post(service, f"{at}/decisions", CLEO, {"action": "answer", "answer": 1})
        assert done.status_code == 200
        frames = await reader.rest()
    payload(frames, "complete", output=1)


async def test_a_frame_shows_the_prompt_that_reading_shows(service: Service) -> None:
    """F9, wire §5: the same object; only the schema of a decision is left out of what is stored for ever."""
    policy = {
        "assignees": {"users": ["user:ana", "user:ben"]}, "quorum": 2, "veto": False, "exclude_requester": True,
        "due_seconds": 60.0, "on_timeout": "default", "default_answer": {"x": 1}, "remind_seconds": [5.0],
    }  # fmt: skip
    steps = plan(call("a", "noop", {"x": 0}))
    async with service.stream(envelope(steps, policies=gated("output", **policy)), **as_(CLEO)) as reader:
        shown = await question(reader)
        stored = await read(service, shown)
        form = stored.pop("decision_schema")
        assert stored == shown
        assert form == DecisionForm(shown["kind"], tuple(shown["actions"]), shown["answer_schema"]).schema()
        assert (shown["veto"], shown["exclude_requester"], shown["quorum"]) == (False, True, 2)
        for who in (ANA, BEN):
            await post(service, f"{shown['prompt_id']}/decisions", who, {"action": "approve"})
        payload(await reader.rest(), "complete", output={"x": 0})


async def test_several_prompts_are_decided_in_one_go(service: Service) -> None:
    """H7: every item answers for itself; the run goes on once all are decided."""
    names = ["p", "q", "r"]
    steps = plan(*(asking(name) for name in names), output={f"/{name}": {"node_id": name} for name in names})
    run_id = await service.start(envelope(steps))
    prompts = await service.asked(run_id, 3)
    body = {"prompts": [{"prompt_id": each["prompt_id"], "bound_hash": each["bound_hash"]} for each in prompts]}
    body |= {"action": "answer", "answer": "yes"}  # type: ignore[dict-item]  # one body, members of every sort
    done = await post(service, "decisions", ANA, body)
    assert done.status_code == 200
    assert [item["status_code"] for item in done.json()["items"]] == [200, 200, 200]
    payload(await service.follow(run_id), "complete", output=dict.fromkeys(names, "yes"))
    mixed = plan(asking("p"), asking("q", kind="approval"))
    first, second = await service.asked(await service.start(envelope(mixed)), 2)
    body["prompts"] = [{"prompt_id": each["prompt_id"]} for each in (first, second)]
    refused = await post(service, "decisions", ANA, body)
    assert (refused.status_code, refused.json()["code"]) == (422, "mixed_prompts")
    assert refused.json()["errors"][0]["pointer"] == "/prompts/1"


class Later:
    """A clock that is ahead of the service's."""

    def __init__(self, service: Service, seconds: float) -> None:
        self._clock, self._ms = service.flex.worker.shell.clock, round(seconds * 1_000)

    def now_ms(self) -> int:
        return self._clock.now_ms() + self._ms

    def monotonic(self) -> float:
        return self._clock.monotonic()


async def sweep(service: Service, seconds: float) -> int:
    """What a process does whose clock shows that much later."""
    shell = service.flex.worker.shell
    return await Sweep(shell.database, Later(service, seconds), shell.ids, shell.nudge).tick()


async def test_an_escalated_prompt_is_answered_by_the_next_people(service: Service) -> None:
    """H3: no frame of its own; reading shows who is asked now."""
    escalation = [{"assignees": {"users": ["user:cleo"]}, "due_seconds": 1_000.0}]
    policy: dict[str, Any] = {"due_seconds": 100.0, "on_timeout": "escalate", "escalation": escalation}
    async with service.stream(envelope(plan(asking(**policy)))) as reader:
        prompt = await question(reader)
        assert await sweep(service, 101) == 1
        shown = await read(service, prompt)
        assert (shown["level"], shown["assignees"]["users"], shown["on_timeout"]) == (1, ["user:cleo"], "fail")
        refused = await post(service, f"{prompt['prompt_id']}/decisions", ANA, {"action": "answer", "answer": 1})
        assert (refused.status_code, refused.json()["code"]) == (403, "not_assigned")
        await post(service, f"{prompt['prompt_id']}/decisions", CLEO, {"action": "answer", "answer": 1})
        frames = await reader.rest()
    assert shapes(frames).count("hitl_request:q") == 1
    payload(frames, "complete", output=1)


@pytest.mark.parametrize(
    ("policy", "last", "expected"),
    [
        ({"on_timeout": "default", "default_answer": {"x": 2}}, "complete", {"output": {"x": 2}}),
        ({"on_timeout": "default", "default_answer": "two"}, "failed", {"code": "prompt_expired"}),
        ({"on_timeout": "approve"}, "complete", {"output": {"x": 1}}),
        ({"on_timeout": "reject"}, "failed", {"code": "rejected"}),
        ({"on_timeout": "fail"}, "failed", {"code": "prompt_expired"}),
    ],
)
async def test_at_its_due_time_a_gate_does_what_its_policy_says(
    service: Service, policy: dict[str, Any], last: str, expected: dict[str, Any]
) -> None:
    """H3, H4: a default is an edit by the clock; one that does not fit fails closed (claude-agent-sdk-python#304)."""
    policies = gated("output", **policy, due_seconds=100.0)
    run = envelope(plan(call("a", "noop", {"x": 1})), policies=policies, schema={"type": "object"})
    async with service.stream(run) as reader:
        await question(reader)
        assert await sweep(service, 101) == 1
        frames = await reader.rest()
    payload(frames, "hitl_resolved", status="expired")
    payload(frames, last, **expected)


RULES = [{"id": f"after_{name}", "when": "after", "selector": {"node_id": name}} for name in "abcd"]


async def test_policy_made_prompts_are_counted_once_open_or_answered(service: Service) -> None:
    """H3, trap: three that are open at once are three, and answering them counts nothing again."""
    parallel = plan(*(call(name, "noop", name) for name in "abc"), output={f"/{n}": {"node_id": n} for n in "abc"})
    run_id = await service.start(envelope(parallel, policies={"hitl": RULES[:3]}))
    for prompt in await service.asked(run_id, 3):
        await service.decided(prompt, "approve")
    payload(await service.follow(run_id), "complete", output={"a": "a", "b": "b", "c": "c"})


async def test_the_fourth_policy_made_prompt_ends_the_run_however_the_three_stand(service: Service) -> None:
    """H3, trap: answered ones do not make room, and open ones are not forgotten; a plan's own questions are free."""
    nodes = [call(name, "noop", name) for name in "abcd"]
    frames = await service.run(envelope(plan(*nodes), policies={"hitl": RULES}))
    payload(frames, "failed", code="budget_spent")
    edges = [edge("q", "a"), *(edge(one, other) for one, other in zip("abc", "bcd", strict=True))]
    chain = plan(asking(), *nodes, edges=edges)
    async with service.stream(envelope(chain, policies={"hitl": RULES})) as reader:
        await service.decided(await question(reader), "answer", answer="own")
        for _ in range(3):
            await service.decided(await question(reader), "approve")
        frames = await reader.rest()
    payload(frames, "failed", code="budget_spent")
    assert shapes(frames).count("run_waiting") == 4


@pytest.mark.parametrize(
    ("prompt", "code"),
    [
        ({"answer_schema": {"type": "nonsense"}}, "schema_refused"),
        ({"kind": "approval", "actions": ["aprove"]}, "unknown_action"),
    ],
)
async def test_a_plan_with_a_question_that_nobody_could_answer_is_refused(
    service: Service, prompt: dict[str, Any], code: str
) -> None:
    """H4, W4: before anything runs, with the place."""
    refused = await service.client.post("/api/v1/runs", json=envelope(plan(asking(**prompt))))
    assert refused.status_code == 422
    assert [(item["pointer"], item["code"]) for item in refused.json()["errors"]] == [
        ("/workflow/plan/nodes/0/prompt", code)
    ]


async def test_a_repaired_answer_is_under_the_policy_of_its_question(service: Service) -> None:
    """H3, windmill#10262: what ana may not approve she may not put right either."""
    rule: dict[str, Any] = {"exclude_requester": True, "assignees": {"roles": ["operator"]}, "veto": False}
    node = asking(kind="approval", **rule) | {"output": {"schema": {"type": "integer"}}}
    async with service.stream(envelope(plan(node)), **as_(ANA)) as reader:
        first = await question(reader)
        said = {"action": "edit", "answer": "three"}
        assert (await post(service, f"{first['prompt_id']}/decisions", BEN, said)).status_code == 200
        second = await question(reader)
        assert (second["kind"], second["exclude_requester"], second["veto"]) == ("repair", True, False)
        own = await post(service, f"{second['prompt_id']}/decisions", ANA, {"action": "edit", "answer": 3})
        assert (own.status_code, own.json()["code"]) == (403, "requester_excluded")
        await post(service, f"{second['prompt_id']}/decisions", BEN, {"action": "edit", "answer": 3})
        payload(await reader.rest(), "complete", output=3)


@pytest.mark.parametrize("place", ["", "/escalation/0"])
async def test_a_rule_that_nobody_could_decide_is_refused(service: Service, place: str) -> None:
    """H3: named people alone, one of them kept out because she asks."""
    rule: dict[str, Any] = {"exclude_requester": True}
    pair = {"users": ["user:ana", "user:ben"]}
    if place:
        alone = {"assignees": {"users": ["user:ana"]}}
        rule |= {"assignees": pair, "due_seconds": 9.0, "on_timeout": "escalate", "escalation": [alone]}
    else:
        rule |= {"assignees": pair, "quorum": 2}
    body = envelope(plan(call("a", "noop", 1)), policies=gated("output", **rule))
    refused = await service.client.post("/api/v1/runs", json=body, headers=as_(ANA))
    assert refused.status_code == 422
    errors = [(item["pointer"], item["code"]) for item in refused.json()["errors"]]
    assert errors == [(f"/policies/hitl/0{place}/assignees", "quorum_unreachable")]
    assert (await service.client.post("/api/v1/runs", json=body, headers=as_(CLEO))).status_code == 202


# --- run.resume (H10) ------------------------------------------------------------------------------------------------


async def resume(service: Service, **body: Any) -> httpx2.Response:
    headers = {"Accept": "application/json", **as_(ANA)}
    return await service.client.post("/api/v1/flex/run.resume", json=body, headers=headers)


async def test_resume_answers_with_the_codes_it_promises(service: Service) -> None:
    """H10: the five, each without a trace."""
    run_id = await service.start(envelope(plan(asking())))
    (prompt,) = await service.asked(run_id)
    said = {"run_id": run_id, "prompt_id": prompt["prompt_id"], "decision": {"action": "answer", "answer": 1}}
    for body, status, code in (
        ({**said, "run_id": "run_none"}, 404, "run_not_found"),
        ({**said, "expected_plan_version": 2}, 409, "stale_plan_version"),
        ({"run_id": run_id}, 400, "human_payload_required"),
        ({**said, "prompt_id": "prm_none"}, 404, "prompt_not_found"),
    ):
        refused = await resume(service, **body)
        assert (refused.status_code, refused.json()["code"]) == (status, code)
        listed = [item["prompt_id"] for item in refused.json().get("open_prompts", ())]
        assert listed == ([prompt["prompt_id"]] if code in ("human_payload_required", "prompt_not_found") else [])
    accepted = await resume(service, **said, expected_plan_version=1)
    assert accepted.status_code == 202
    await service.follow(run_id)
    ended = await resume(service, **said)
    assert (ended.status_code, ended.json()["code"]) == (409, "invalid_run_state")


@pytest.mark.parametrize("accept", ["application/json", "text/event-stream"])
async def test_resume_is_busy_while_draining_and_decides_nothing(service: Service, accept: str) -> None:
    """H10: server_busy, before anything is stored; another process, or the next start, takes it."""
    run_id = await service.start(envelope(plan(asking())))
    (prompt,) = await service.asked(run_id)
    service.flex.begin_drain()
    said = {"run_id": run_id, "prompt_id": prompt["prompt_id"], "decision": {"action": "answer", "answer": 1}}
    headers = {"Accept": accept, **as_(ANA)}
    busy = await service.client.post("/api/v1/flex/run.resume", json=said, headers=headers)
    assert (busy.status_code, busy.json()["code"]) == (503, "server_busy")
    assert int(busy.headers["retry-after"]) > 0
    assert (await read(service, prompt))["status"] == "open"
