"""Runs read what is remembered and write it with the completion of their nodes (R1, R3, R5)."""

from __future__ import annotations

import asyncio
from itertools import pairwise
from typing import Any

import pytest

from tests.memory.running import BRAND, SCOPE, abilities, asked, keep, memory, node, put, read, remembering
from tests.spine.running import Service, edge, envelope, of, plan
from tests.spine.sse import Frame


def output(frames: list[Frame]) -> Any:
    assert frames[-1].type == "complete", frames[-1].payload
    return frames[-1].payload["output"]


async def test_a_run_finds_what_an_earlier_one_left(service: Service) -> None:
    """R5: initialised idempotently: a second run over the same scopes wipes nothing."""
    run_id = await service.start(asked(keep("a", set={"voice": "plain", "age": 3}), scopes=(SCOPE, "agent:w/s")))
    first = await service.follow(run_id)
    assert output(first) == {SCOPE: {}, "agent:w/s": {}}
    entry = await read(service, "voice")
    assert entry is not None
    assert (entry["value"], entry["written_by"]) == (
        "plain", {"run_id": run_id, "node_id": "a", "attempt": 1},
    )  # fmt: skip
    second = await service.run(asked(keep("b", forget=["age"]), scopes=(SCOPE, "agent:w/s")))
    assert output(second) == {SCOPE: {"age": 3, "voice": "plain"}, "agent:w/s": {}}
    assert await read(service, "age") is None


async def test_scopes_of_runs_cannot_run_into_each_other(service: Service) -> None:
    """R5 (trap): ``a_b`` + ``c`` was ``a`` + ``b_c``; what nodes write there stands apart, and so do its revisions."""
    scopes = ("agent:a_b/c", "agent:a/b_c", "shared:a_b_c")
    nodes = [keep(f"n{at}", scope=scope, set={"k": scope}, expected=0) for at, scope in enumerate(scopes)]
    found = keep("last", set={})
    edges = [edge(f"n{at}", "last") for at in range(len(scopes))]
    assert output(await service.run(asked(*nodes, found, scopes=scopes, edges=edges))) == {
        scope: {"k": scope} for scope in scopes
    }
    for scope in scopes:
        entry = (await service.client.get(f"/api/v1/memory/{scope.replace(':', '/')}/k")).json()
        assert (entry["value"], entry["revision"]) == (scope, 1)


async def test_a_node_finds_what_the_node_before_it_wrote(service: Service) -> None:
    """Also between nodes that could have run ahead of the commit."""
    nodes = [keep(f"n{at}", set={"k": at}) for at in range(4)]
    edges = [edge(f"n{at}", f"n{at + 1}") for at in range(3)]
    assert output(await service.run(asked(*nodes, edges=edges))) == {SCOPE: {"k": 2}}


async def test_what_is_written_is_durable_before_the_terminal_frame(service: Service) -> None:
    """R1: whoever sees the end of the run finds what it remembered."""
    for at in range(5):
        async with service.stream(asked(keep("a", set={"k": at}))) as reader:
            await reader.until("complete")
            entry = await read(service, "k")
            assert entry is not None
            assert entry["value"] == at


async def test_a_failed_attempt_writes_nothing(service: Service) -> None:
    failed = await service.run(asked(keep("a", set={"k": 1}, then="fail")))
    assert failed[-1].payload["failed_node_id"] == "a"
    assert await read(service, "k") is None
    unfit = asked(keep("a", set={"k": 1}), policies={"on_output_invalid": "fail"}, schema={"type": "string"})
    assert (await service.run(unfit))[-1].payload["code"] == "output_contract_unmet"
    assert await read(service, "k") is None
    again = await service.run(asked(keep("a", set={"k": 2}, then="fail_once")))
    assert [frame.type for frame in again].count("node_retry") == 1
    entry = await read(service, "k")
    assert entry is not None
    assert (entry["value"], entry["revision"], entry["written_by"]["attempt"]) == (2, 1, 2)


async def test_a_run_touches_only_the_scopes_it_names(service: Service) -> None:
    """R5: a scope that the envelope does not name is refused, by name, and nothing is written."""
    for scopes in ((), ("shared:other",), ("agent:brand/x",)):
        frames = await service.run(asked(keep("a", set={"k": 1}), scopes=scopes))
        error = next(frame for frame in frames if frame.type == "node_error")
        assert error.payload["code"] == "memory_scope_unnamed"
        assert error.payload["attempt"] == 1
    assert (await service.client.get("/api/v1/memory")).json()["items"] == []


@pytest.mark.parametrize("name", ["brand", "shared:", "agent:a", "agent:a/b/c", "shared:a/b", "tenant:x"])
async def test_scopes_are_checked_at_intake(service: Service, name: str) -> None:
    """R6, F1."""
    answer = await service.client.post("/api/v1/runs", json=asked(keep("a"), scopes=(SCOPE, name)))
    assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/context/memory/1")
    assert answer.json()["errors"][0]["code"] == "bad_scope"


async def test_a_compare_and_set_that_came_too_late_is_tried_again(service: Service) -> None:
    """R5: the other attempt reads what is there by then."""
    body = abilities(service)
    body.gate("counts")
    await put(service, "n", 10)
    async with service.stream(asked(node("counts", "count", SCOPE))) as reader:
        await body.arrived("counts").wait()
        await put(service, "n", 20)
        body.gate("counts").set()
        frames = await reader.rest()
    retry = next(frame for frame in frames if frame.type == "node_retry")
    assert retry.payload["code"] == "memory_conflict"
    assert output(frames) == 21
    entry = await read(service, "n")
    assert entry is not None
    assert (entry["value"], entry["written_by"]["attempt"]) == (21, 2)


async def test_attempts_run_out(service: Service) -> None:
    frames = await service.run(asked(keep("a", set={"k": 1}, expected=7)))
    error = next(frame for frame in frames if frame.type == "node_error")
    assert (error.payload["code"], error.payload["attempt"]) == ("memory_conflict", 3)
    assert await read(service, "k") is None


async def test_many_nodes_count_together(service: Service) -> None:
    """R5: concurrent-safe: nodes of one run, and of several, lose no step."""
    items: dict[str, Any] = {
        "node_id": "all", "kind": "map", "over": {"value": [SCOPE] * 6}, "as": "value", "concurrency": 6,
        "node": {"kind": "call", "capability_id": "memory.count", "max_attempts": 20},
    }  # fmt: skip
    runs = await asyncio.gather(*(service.run(asked(items)) for _ in range(3)))
    found = sorted(number for frames in runs for number in output(frames))
    assert found == list(range(1, 19))
    entry = await read(service, "n")
    assert entry is not None
    assert entry["value"] == 18


async def test_a_capability_that_asks_keeps_what_it_wanted(service: Service) -> None:
    """H2: what it remembered before the question is written when the node completes, and not before."""
    run_id = await service.start(asked(node("a", "asks", SCOPE)))
    (prompt,) = await service.asked(run_id)
    assert await read(service, "before") is None
    await service.decided(prompt, "answer", answer="yes")
    assert output(await service.follow(run_id)) == "yes"
    before, after = await read(service, "before"), await read(service, "after")
    assert before is not None
    assert after is not None
    assert (before["value"], after["value"]) == (1, [2, "yes"])


async def test_a_thread_remembers_as_well(service: Service) -> None:
    frames = await service.run(asked(node("a", "blocking", {"scope": SCOPE})))
    assert output(frames) == "done"
    entry = await read(service, "k")
    assert entry is not None
    assert entry["value"] == "from a thread"


async def test_what_can_never_be_kept_is_refused_at_once(database_url: str) -> None:
    async with remembering(database_url, memory_value_bytes=50, memory_keys=2) as service:
        for told, code in (
            ({"set": {"k": "x" * 60}}, "memory_value_too_large"),
            ({"set": {"no key": 1}}, "memory_invalid"),
            ({"set": {"k": 1}, "expected": -1}, "memory_invalid"),
            ({"set": {f"k{at}": 1 for at in range(101)}}, "memory_too_many_writes"),
            ({"set": {"a": 1, "b": 1, "c": 1}}, "memory_full"),
        ):
            frames = await service.run(asked(keep("a", **told)))
            error = next(frame for frame in frames if frame.type == "node_error")
            assert (error.payload["code"], error.payload["attempt"]) == (code, 1)
        assert (await service.client.get(BRAND)).json()["items"] == []
        await service.run(asked(keep("a", set={"a": 1, "b": 1})))
        full = await service.run(asked(keep("a", set={"a": 2, "c": 1})))
        assert full[-1].payload["message"].endswith("shared:brand holds 2 keys; no more fit.")
        moved = await service.run(asked(keep("a", forget=["b"]), keep("c", set={"c": 1}), edges=[edge("a", "c")]))
        assert moved[-1].type == "complete"
        entry = await read(service, "a")
        assert entry is not None
        assert entry["value"] == 1


async def test_a_node_is_given_the_newest_of_too_much(database_url: str) -> None:
    """R5: reads are bounded, and what was left out is said."""
    async with remembering(database_url, memory_read_bytes=100) as service:
        for at in range(5):
            await put(service, f"k{at}", "x" * 30)
        await put(service, "k0", "y" * 30)
        frames = await service.run(asked(keep("a"), scopes=(SCOPE, "shared:other")))
        assert sorted(output(frames)[SCOPE]) == ["k0", "k3", "k4"]
        line = next(frame for frame in frames if frame.type == "log")
        assert (line.payload["level"], SCOPE in line.payload["message"]) == ("warning", True)


async def test_a_subflow_has_the_scopes_of_its_parent(service: Service) -> None:
    inner = plan(keep("inside", set={"k": "from the child"}))
    frames = await service.run(asked({"node_id": "s", "kind": "subflow", "plan": inner}))
    assert frames[-1].type == "complete"
    entry = await read(service, "k")
    assert entry is not None
    assert entry["written_by"]["node_id"] == "inside"


async def test_runs_without_memory_are_as_before(service: Service) -> None:
    frames = await service.run(envelope(plan(node("a", "keep", {}))))
    assert output(frames) == {}


async def test_the_kind_reads_and_writes(service: Service) -> None:
    """W5: get, set, list, forget; a revision that was read is what a compare-and-set names."""
    nodes = (
        memory("none", "get", key="k", default="nothing"),
        memory("made", "set", {"value": {"deep": [1]}, "expected_revision": of("none", "/revision").binding}, key="k"),
        memory("found", "get", {"key": of("made", "/key").binding}),
        memory("other", "set", {"value": 2}, key="other"),
        memory("listed", "list", prefix="k"),
        memory("gone", "forget", {"expected_revision": of("found", "/revision").binding}, key="k"),
        memory("after", "get", key="k"),
    )
    names = [each["node_id"] for each in nodes]
    edges = [edge(start, end) for start, end in pairwise(names)]
    whole = {f"/{name}": {"node_id": name, "pointer": ""} for name in names}
    body = envelope(plan(*nodes, edges=edges, output=whole), context={"memory": [SCOPE]})
    found = output(await service.run(body))
    (item,) = found["listed"]["items"]
    assert (found["none"], found["made"]) == (
        {"found": False, "value": "nothing", "revision": 0}, {"scope": SCOPE, "key": "k"},
    )  # fmt: skip
    assert found["found"] == {"found": True, "value": {"deep": [1]}, "revision": 1}
    assert (item["key"], item["revision"], found["listed"]["more"]) == ("k", 1, False)
    assert found["after"] == {"found": False, "value": None, "revision": 0}
    entry = await read(service, "other")
    assert entry is not None
    assert entry["written_by"]["node_id"] == "other"


@pytest.mark.parametrize(
    ("broken", "pointer", "code"),
    [
        (memory("m", "get"), "/key", "ambiguous_key"),
        (memory("m", "get", {"key": "a"}, key="a"), "/key", "ambiguous_key"),
        (memory("m", "set", key="k"), "/inputs", "input_missing"),
        (memory("m", "get", {"value": 1}, key="k"), "/inputs/value", "unknown_input"),
        (memory("m", "list", key="k"), "/key", "unused_field"),
        (memory("m", "get", key="a b"), "/key", "bad_id"),
        (memory("m", "get", key="k", scope="brand"), "/scope", "bad_scope"),
        (memory("m", "get", key="k", scope="shared:other"), "/scope", "memory_scope_unnamed"),
        (memory("m", "clear"), "/op", "not_allowed"),
    ],
)
async def test_a_plan_with_a_memory_node_that_cannot_work_is_refused(
    service: Service, broken: dict[str, Any], pointer: str, code: str
) -> None:
    """W4."""
    answer = await service.client.post("/api/v1/runs", json=asked(broken))
    assert answer.status_code == 422, answer.text
    found = [(item["pointer"], item["code"]) for item in answer.json()["errors"]]
    assert (f"/workflow/plan/nodes/0{pointer}", code) in found


async def test_a_flow_says_what_it_remembers_when_it_runs(service: Service) -> None:
    """W2: the scopes are the run's, so a document is not refused for them."""
    document = {"name": "Keep", "plan": plan(memory("m", "set", {"value": 1}, key="k"))}
    made = (await service.client.post("/api/v1/flows", json=document)).json()
    assert made["valid"], made["validation"]
    at = f"/api/v1/flows/{made['flow_id']}"
    await service.client.post(f"{at}/publish", json={}, headers={"If-Match": '"1"'})
    refused = await service.client.post(f"{at}/run", json={})
    assert refused.status_code == 422
    run = (await service.client.post(f"{at}/run", json={"context": {"memory": [SCOPE]}})).json()
    await service.follow(run["run_id"])
    assert await read(service, "k") is not None
