"""Callbacks, frame by frame, on both databases (F6, F11, H1, J6).

Would have survived inngest#1433 (an event before its wait is lost) and n8n#14863 (a wait that never resumes).
"""

from __future__ import annotations

import asyncio
from typing import Any

from contracts.access import Principal
from contracts.outcome import Await, Pause
from contracts.plan import PlanGraph
from contracts.prompts import PromptSpec
from engine.signals import AttemptEnded, CalledBack, Decided, Report
from engine.waiting import MAX_PARKED
from tests.spine.running import Service, call, edge, envelope, plan, serving
from tests.spine.sse import payload, shapes
from tests.spine.waits import (
    OPENING,
    SLACK_MS,
    address_of,
    apart,
    called,
    delay,
    not_a_plan,
    post,
    refused,
    tell,
    wait,
)
from tests.spine.walks import Walk, begin, decision

SHORT = {"type": "string", "minLength": 5}


async def test_a_callback_completes_its_node(service: Service) -> None:
    """J6: a call passes the address on, the outside world answers, the answer is the node's output."""
    async with service.stream(envelope(plan(tell(), wait(), edges=[edge("tell", "w")]))) as reader:
        url = (await reader.until("node_complete", "tell")).payload["output"]
        assert url.startswith("/api/stitch/callback/run_")
        await reader.until("run_waiting")
        found = await called(service, url, status="completed", output={"paid": True})
        assert found["run_id"] in url
        frames = await reader.rest()
    assert shapes(frames) == [
        *OPENING, "node_start:tell", "node_complete:tell", "node_start:w", "run_waiting", "run_resumed",
        "node_complete:w", "complete",
    ]  # fmt: skip
    payload(frames, "run_waiting", waiting_on=["callback"], wake_at=None)
    payload(frames, "run_resumed", cause="callback")
    payload(frames, "complete", output={"paid": True})


async def test_a_callback_that_comes_early_is_kept(service: Service) -> None:
    """J6, inngest#1433: it came before its node waited; it is taken when the node does, and nothing waits."""
    graph = plan(tell(), call("a", "held", "x"), wait(), edges=[edge("tell", "a"), edge("a", "w")])
    async with service.stream(envelope(graph)) as reader:
        url = (await reader.until("node_complete", "tell")).payload["output"]
        await service.abilities.arrived("x").wait()
        answer = await post(service, url, status="completed", output="early")
        assert answer.status_code == 202, answer.text
        assert (await post(service, url, status="completed", output="early")).status_code == 202
        await refused(service, url, 409, "node_settled", status="completed", output="another")
        service.abilities.gate("x").set()
        frames = await reader.rest()
    assert shapes(frames)[-4:] == ["node_complete:a", "node_start:w", "node_complete:w", "complete"]
    assert "run_waiting" not in shapes(frames)
    payload(frames, "complete", output="early")
    await called(service, url, status="completed", output="early")


async def test_of_callbacks_that_come_early_at_once_one_is_kept(service: Service) -> None:
    """J6: whoever is told that theirs is kept finds it in the output; the others are told that they came second."""
    graph = plan(tell(), call("a", "held", "x"), wait(), edges=[edge("tell", "a"), edge("a", "w")])
    async with service.stream(envelope(graph)) as reader:
        url = (await reader.until("node_complete", "tell")).payload["output"]
        await service.abilities.arrived("x").wait()
        said = await asyncio.gather(*(post(service, url, status="completed", output=by) for by in range(12)))
        kept = [by for by, answer in enumerate(said) if answer.status_code == 202]
        assert len(kept) == 1, [answer.status_code for answer in said]
        assert {answer.json().get("code") for answer in said if answer.status_code != 202} == {"node_settled"}
        service.abilities.gate("x").set()
        payload(await reader.rest(), "complete", output=kept[0])


async def test_an_early_callback_outlives_its_process(database_url: str) -> None:
    """H1: what is kept is a row."""
    graph = plan(
        tell(), {"node_id": "q", "kind": "ask", "prompt": {"question": "Well?"}}, wait(),
        edges=[edge("tell", "q"), edge("q", "w")],
    )  # fmt: skip
    async with serving(database_url) as first:
        run_id = await first.start(envelope(graph))
        prompt = (await first.asked(run_id))[0]
        node = (await first.client.get(f"/api/v1/runs/{run_id}/nodes/tell")).json()
        assert (await post(first, node["output"], status="completed", output="early")).status_code == 202
    async with serving(database_url) as second:
        await second.decided(prompt, "answer", answer=1)
        frames = await second.follow(run_id)
    assert shapes(frames)[-3:] == ["node_start:w", "node_complete:w", "complete"]


async def test_saying_it_twice_changes_nothing(service: Service) -> None:
    """J6: an equal repeat is fine, also after the end; another answer is refused without harm."""
    run_id = await service.start(envelope(plan(wait())))
    url = await address_of(service, run_id)
    await called(service, url, status="completed", output={"a": 1, "b": [1.5, None]})
    await service.follow(run_id)
    await called(service, url, status="completed", output={"b": [1.5, None], "a": 1})
    await refused(service, url, 409, "invalid_run_state", status="completed", output={"a": 2})
    await refused(service, url, 409, "invalid_run_state", status="failed")
    assert (await service.detail(run_id))["output"] == {"a": 1, "b": [1.5, None]}


async def test_a_settled_node_of_a_run_that_goes_on(service: Service) -> None:
    """J6: late ones are refused without harm while the run is alive, too."""
    both = plan(wait("w"), wait("v"), output={f"/{n}": {"node_id": n, "pointer": ""} for n in "wv"})
    run_id = await service.start(envelope(both))
    w, v = await address_of(service, run_id, "w"), await address_of(service, run_id, "v")
    found = await called(service, w, status="completed", output=1)
    assert (found["status"], found["waiting_on"]) == ("waiting", ["callback"])
    await refused(service, w, 409, "node_settled", status="completed", output=2)
    await called(service, w, status="completed", output=1)
    await called(service, v, status="completed", output=3)
    frames = await service.follow(run_id)
    payload(frames, "complete", output={"w": 1, "v": 3})


async def test_a_failed_callback_fails_its_node(service: Service) -> None:
    """J6: ``node_error`` with code ``callback_failed`` and what the caller said."""
    run_id = await service.start(envelope(plan(wait())))
    url = await address_of(service, run_id)
    await called(service, url, status="failed", error="The bank said no.")
    frames = await service.follow(run_id)
    assert shapes(frames)[-4:] == ["run_waiting", "run_resumed", "node_error:w", "failed"]
    payload(frames, "node_error", code="callback_failed", message="The bank said no.", fallback="abort")
    payload(frames, "failed", code="node_failed", failed_node_id="w")
    await called(service, url, status="failed", error="The bank said no.")
    await refused(service, url, 409, "invalid_run_state", status="failed", error="Another reason.")


async def test_a_failed_callback_takes_the_fallback(service: Service) -> None:
    """F6: ``fallback: hitl`` asks a person for what the outside world did not give."""
    run_id = await service.start(envelope(plan(wait(fallback="hitl"))))
    await called(service, await address_of(service, run_id), status="failed")
    prompt = (await service.asked(run_id))[0]
    await service.decided(prompt, "edit", answer="by hand")
    frames = await service.follow(run_id)
    payload(frames, "node_error", code="callback_failed", fallback="hitl")
    payload(frames, "complete", output="by hand")


async def test_the_output_is_checked_at_the_door(service: Service) -> None:
    """F11, J6: what does not fit the node's contract is refused with its pointers, and the node waits on."""
    run_id = await service.start(envelope(plan(wait()), SHORT))
    url = await address_of(service, run_id)
    found = await refused(service, url, 422, "output_invalid", status="completed", output="abc")
    assert [item["pointer"] for item in found["errors"]] == ["/output"]
    await refused(service, url, 422, "unprocessable", status="done")
    await refused(service, url, 422, "unprocessable", status="completed", output=1, error="both")
    deep: Any = 1
    for _ in range(140):
        deep = [deep]
    await refused(service, url, 422, "output_invalid", status="completed", output=deep)
    large = await post(service, url, status="completed", output="x" * service.settings.body_bytes)
    assert large.status_code == 413
    await called(service, url, status="completed", output="long enough")
    assert (await service.follow(run_id))[-1].type == "complete"


async def test_only_the_address_opens_the_door(service: Service) -> None:
    """J6: a token opens one node of one run; it may come in a header; without it nothing is said of the run."""
    both = plan(wait("w"), wait("v"), output={f"/{n}": {"node_id": n, "pointer": ""} for n in "wv"})
    run_id = await service.start(envelope(both))
    url = await address_of(service, run_id, "w")
    path, _, token = url.partition("?token=")
    elsewhere = [path, f"{path}?token=", f"{path}?token={token[:-1]}", path.replace("/w", f"/v?token={token}")]
    stranger = token.split(".", 1)[1]
    elsewhere += [f"{path}?token=ZWxzZXdoZXJl.{stranger}", f"{path}?token=AA.{stranger}", f"{path}?token=…"]
    for address in elsewhere:
        answer = await post(service, address, status="completed", output=1)
        assert (answer.status_code, answer.json()["code"]) == (401, "bad_token"), address
        assert answer.headers["www-authenticate"] == "Bearer"
    await refused(service, f"/api/stitch/callback/run_nowhere/w?token={token}", 401, "bad_token", status="failed")
    again = await service.client.post(
        path, json={"status": "completed", "output": 1}, headers={"Authorization": f"Bearer {token}"}
    )
    assert again.status_code == 200, again.text


async def test_nobody_called_back_in_time(service: Service) -> None:
    """J6: ``on_timeout: fail`` is a ``node_error``; the timer is in ``wake_at``."""
    frames = await service.run(envelope(plan(wait(timeout_seconds=0.3))))
    assert shapes(frames) == [*OPENING, "node_start:w", "run_waiting", "run_resumed", "node_error:w", "failed"]
    assert payload(frames, "run_waiting", waiting_on=["callback"])["wake_at"] is not None
    payload(frames, "run_resumed", cause="timer")
    payload(frames, "node_error", code="callback_timeout")
    assert 300 <= apart(frames, "node_start:w", "node_error:w") <= 300 + SLACK_MS


async def test_going_on_without_the_callback(service: Service) -> None:
    """J6: ``on_timeout: continue`` completes with null; a late callback is refused without harm."""
    graph = plan(wait(timeout_seconds=0.2, on_timeout="continue"), call("b", "held", "x"), edges=[edge("w", "b")])
    async with service.stream(envelope(graph)) as reader:
        run_id = (await reader.until("run_waiting")).whole["run_id"]
        node = (await service.client.get(f"/api/v1/runs/{run_id}/nodes/w")).json()
        await service.abilities.arrived("x").wait()
        await refused(service, node["callback_url"], 409, "node_settled", status="completed", output=1)
        service.abilities.gate("x").set()
        frames = await reader.rest()
    assert shapes(frames)[3:6] == ["run_waiting", "run_resumed", "node_complete:w"]
    assert next(frame for frame in frames if frame.shape == "node_complete:w").payload["output"] is None


async def test_where_a_node_is_called_back(service: Service) -> None:
    """J6: while it waits, its detail shows the address; before and after there is none."""
    run_id = await service.start(envelope(plan(wait())))
    url = await address_of(service, run_id)
    await called(service, url, status="completed", output=1)
    await service.follow(run_id)
    node = (await service.client.get(f"/api/v1/runs/{run_id}/nodes/w")).json()
    assert (node["status"], node["callback_url"]) == ("completed", None)


async def test_who_is_shown_the_address(service: Service) -> None:
    """P2: reading is the tenant's, calling back is for who may control the run."""
    run_id = await service.start(envelope(plan(wait())))
    await address_of(service, run_id)
    reads = service.flex.doors.reads
    for roles, shown in ((frozenset({"submitter"}), False), (frozenset({"operator"}), True)):
        node = await reads.node(Principal("user:ben", roles=roles), run_id, "w")
        assert (node["callback_url"] is not None) is shown


def test_only_so_many_are_kept() -> None:
    """J6: callbacks before their time are bounded per run; one more than that is refused, and none is lost."""
    question = {"node_id": "q", "kind": "ask", "prompt": {"question": "Well?"}}
    names = [f"w{number}" for number in range(MAX_PARKED + 1)]
    graph = plan(question, *(wait(name) for name in names), edges=[edge("q", name) for name in names])
    one = Walk(PlanGraph.model_validate(graph).sealed(), envelope())
    one.step(begin())
    node = one.machine.state.nodes["q"]
    one.step(AttemptEnded("q", 1, 0, Report(Pause(PromptSpec(question="Well?")))))
    answers = [
        one.step(CalledBack(number, name, "completed", number, None, "callback")).answered
        for number, name in enumerate(names, 1)
    ]
    assert answers == [*[[]] * MAX_PARKED, [(MAX_PARKED + 1, "superseded")]]
    assert one.step(CalledBack(200, "w0", "completed", 9, None, "callback")).answered == [(200, "superseded")]
    assert one.step(CalledBack(201, "q", "completed", 9, None, "callback")).answered == [(201, "superseded")]
    one.revive()
    assert len(one.machine.state.parked) == MAX_PARKED
    prompt_id = node.prompt_id or ""
    one.step(Decided(300, prompt_id, "settled", decision("answer", 1)))
    done = [one.step(AttemptEnded(name, 1, 0, Report(Await()))) for name in names[:8]]
    assert [step.answered for step in done] == [[(number, "applied")] for number in range(1, 9)]


async def test_what_a_run_knows_of_itself(service: Service) -> None:
    """``/run/id`` is a source of inputs and of the answer."""
    known = call("a", "noop") | {"inputs": {"value": {"from": "/run/id"}}}
    output = {"/mine": {"from": "/run/id"}, "/passed": {"node_id": "a", "pointer": ""}}
    frames = await service.run(envelope(plan(known, output=output)))
    run_id = frames[0].whole["run_id"]
    payload(frames, "complete", output={"mine": run_id, "passed": run_id})


async def test_an_address_of_nothing_is_found_before_the_run(sqlite_url: str) -> None:
    """W4: the plan's check finds it, with the pointer; the input need not be a required one."""
    async with serving(sqlite_url) as service:
        for pointer, code in (
            ("/run/callbacks/nobody", "dangling_reference"),
            ("/run/callbacks/a", "not_called_back"),
            ("/run/callbacks", "dangling_reference"),
            ("/run/name", "dangling_reference"),
            ("/run", "dangling_reference"),
        ):
            asked = call("a", "noop") | {"inputs": {"value": {"from": pointer}}}
            found = await not_a_plan(service, plan(asked))
            assert found == [("/workflow/plan/nodes/0/inputs/value", code)], pointer


async def test_a_wait_that_makes_no_sense_is_refused(sqlite_url: str) -> None:
    """W4: 422 with the place."""
    async with serving(sqlite_url) as service:
        for node, pointer, code in (
            (delay(), "", "ambiguous_delay"),
            (delay(seconds=1, until="2030-01-05T09:00:00Z"), "", "ambiguous_delay"),
            (delay(seconds=-1), "/seconds", "greater_than_equal"),
            (delay(seconds=4e7), "/seconds", "less_than_equal"),
            (delay(until="tomorrow"), "/until", "bad_time"),
            (delay(until="2030-01-05T09:00:00"), "/until", "bad_time"),
            (wait(on_timeout="wait"), "/on_timeout", "not_allowed"),
            (wait(seconds=1), "/seconds", "unknown_field"),
        ):
            assert await not_a_plan(service, plan(node)) == [(f"/workflow/plan/nodes/0{pointer}", code)], node


async def test_a_public_address(sqlite_url: str) -> None:
    """``FLEX_PUBLIC_URL`` stands in front of every address, and its host may be called."""
    async with serving(sqlite_url, public_url="https://flex.example/in/") as service:
        run_id = await service.start(envelope(plan(wait())))
        url = await address_of(service, run_id)
        assert url.startswith(f"https://flex.example/in/api/stitch/callback/{run_id}/w?token=")
        answer = await service.client.post(
            url.removeprefix("https://flex.example/in"),
            json={"status": "completed", "output": 1},
            headers={"Host": "flex.example"},
        )
        assert answer.status_code == 200, answer.text
