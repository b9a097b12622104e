"""``join wait: any`` takes the first and cancels what it no longer needs, on both databases (F6; decision 0006)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from contracts.plan import PlanGraph
from engine.compiled import compile_plan
from engine.kinds import BY_NAME
from tests.spine.running import Service, call, edge, envelope, of, plan
from tests.spine.sse import payload, shapes

OPENING = ["start", "plan_generated"]


def first(*before: str, node_id: str = "j") -> dict[str, Any]:
    """A join that takes the first."""
    inputs = {name: {"node_id": name, "pointer": ""} for name in before}
    return {"node_id": node_id, "kind": "join", "wait": "any", "inputs": inputs}


def race(*nodes: dict[str, Any], joins: tuple[str, ...], edges: Any = (), output: Any = None) -> dict[str, Any]:
    """A plan in which these nodes race for a join, whose output is the answer."""
    return plan(*nodes, first(*joins), edges=edges, output=output)


def losers(graph: dict[str, Any]) -> dict[str, tuple[str, ...]]:
    """What each join makes superfluous, as the plan is compiled."""
    nodes = [node | {"capability_id": None} for node in graph["nodes"]]
    edges = list(graph["edges"])
    for node in nodes:
        bound = [binding for binding in node.get("inputs", {}).values() if "node_id" in binding]
        edges += [{"from": binding["node_id"], "to": node["node_id"]} for binding in bound]
    return dict(compile_plan(PlanGraph.model_validate(graph | {"edges": edges}), BY_NAME, 1, 1.0).losers)


def test_what_leads_to_nothing_but_the_join() -> None:
    """Ancestors whose every way ends in the join, and whose output no answer shows."""
    chain = race(call("a", "noop"), call("b", "noop", of("a")), call("c", "noop"), joins=("b", "c"))
    assert losers(chain) == {"j": ("a", "b", "c")}
    shared = race(
        call("a", "noop"), call("b", "noop", of("a")), call("c", "noop", of("a")), call("d", "noop", of("a")),
        joins=("b", "c"),
    )  # fmt: skip
    assert losers(shared) == {"j": ("b", "c")}, "a is also for d"
    shown = race(
        call("a", "noop"), call("b", "noop"), joins=("a", "b"),
        output={"/a": {"node_id": "a", "pointer": ""}, "/j": {"node_id": "j", "pointer": ""}},
    )  # fmt: skip
    assert losers(shown) == {"j": ("b",)}, "a is part of the answer"
    twice = plan(call("a", "noop"), call("b", "noop"), first("a", "b"), call("c", "noop"), first("j", "c", node_id="k"))
    assert losers(twice) == {"j": ("a", "b"), "k": ("a", "b", "j", "c")}


async def test_running_losers_without_effects_are_stopped(service: Service) -> None:
    """The slow one is stopped in the middle, what would follow it is skipped, and the run goes on at once."""
    graph = race(call("a", "noop", 1), call("b", "held", "x"), call("c", "noop", of("b")), joins=("a", "c"))
    async with service.stream(envelope(graph)) as reader:
        frames = await reader.rest()
    assert shapes(frames) == [
        *OPENING, "node_start:a", "node_start:b", "node_complete:a", "node_skipped:b", "node_skipped:c", "node_start:j",
        "node_complete:j", "complete",
    ]  # fmt: skip
    assert {frame.payload["reason"] for frame in frames if frame.type == "node_skipped"} == {"superseded"}
    payload(frames, "complete", output={"a": 1})
    assert "held:cancelled" in service.calls or "held" not in service.calls


async def test_a_call_with_effects_is_left_to_end(service: Service, tmp_path: Path) -> None:
    """It has begun to do something to the world: it ends, is recorded, and the join does not look at it."""
    effect = call("b", "once", {"file": str(tmp_path / "book"), "then": "hold"})
    graph = race(call("a", "held", "x"), effect, call("c", "noop", of("b")), joins=("a", "c"))
    async with service.stream(envelope(graph)) as reader:
        await service.abilities.arrived("once").wait()
        service.abilities.gate("x").set()
        await reader.until("node_complete", "j")
        service.abilities.gate("once").set()
        frames = await reader.rest()
    assert shapes(frames)[4:] == [
        "node_complete:a", "node_skipped:c", "node_start:j", "node_complete:j", "node_complete:b", "complete"
    ]  # fmt: skip
    payload(frames, "complete", output={"a": "x"})


async def test_a_call_with_effects_that_fails_too_late_harms_nothing(service: Service, tmp_path: Path) -> None:
    """Nobody is asked whether it happened and nothing fails: no other node would read its output."""
    effect = call("b", "once", {"file": str(tmp_path / "book"), "then": "hold"}, timeout_seconds=0.3)
    graph = race(call("a", "held", "x"), effect, joins=("a", "b"))
    async with service.stream(envelope(graph)) as reader:
        await service.abilities.arrived("once").wait()
        service.abilities.gate("x").set()
        frames = await reader.rest()
    assert shapes(frames)[-3:] == ["node_complete:j", "node_skipped:b", "complete"]
    assert (tmp_path / "book").read_text().count("\n") == 1


async def test_waiting_losers_are_withdrawn(service: Service) -> None:
    """A question is withdrawn, a delay and a callback are given up, what had not begun is skipped."""
    question = {"node_id": "q", "kind": "ask", "prompt": {"question": "Well?"}}
    graph = race(
        question, {"node_id": "d", "kind": "delay", "seconds": 3_600}, {"node_id": "w", "kind": "wait"},
        call("z", "noop", of("q")), call("a", "held", "x"), joins=("a", "d", "w", "z"),
    )  # fmt: skip
    async with service.stream(envelope(graph)) as reader:
        prompt = (await reader.until("hitl_request")).payload["prompt"]
        await service.abilities.arrived("x").wait()
        run_id = prompt["run_id"]
        node = (await service.client.get(f"/api/v1/runs/{run_id}/nodes/w")).json()
        while node["callback_url"] is None:
            node = (await service.client.get(f"/api/v1/runs/{run_id}/nodes/w")).json()
        service.abilities.gate("x").set()
        frames = await reader.rest()
    skipped = ["hitl_resolved:q", "node_skipped:q", "node_skipped:d", "node_skipped:w", "node_skipped:z"]
    end = shapes(frames)[shapes(frames).index("node_complete:a") :]
    assert end == ["node_complete:a", *skipped, "node_start:j", "node_complete:j", "complete"]
    payload(frames, "hitl_resolved", prompt_id=prompt["prompt_id"], status="withdrawn", decision=None)
    late = await service.decide(prompt["prompt_id"], "answer", answer="too late")
    assert (late.status_code, late.json()["code"]) == (409, "prompt_settled")
    assert late.json()["prompt_status"] == "withdrawn"
    again = await service.client.post(node["callback_url"], json={"status": "completed", "output": 1})
    assert (again.status_code, again.json()["code"]) == (409, "invalid_run_state")


async def test_the_faster_of_a_callback_and_a_timer(service: Service) -> None:
    """The usual first-of-two: an answer from outside, or a time. Whichever comes first wins, in the same transition."""
    graph = race({"node_id": "w", "kind": "wait"}, {"node_id": "d", "kind": "delay", "seconds": 0.3}, joins=("w", "d"))
    frames = await service.run(envelope(graph))
    assert shapes(frames) == [
        *OPENING, "node_start:w", "node_start:d", "run_waiting", "run_resumed", "node_complete:d", "node_skipped:w",
        "node_start:j", "node_complete:j", "complete",
    ]  # fmt: skip
    payload(frames, "run_waiting", waiting_on=["callback", "timer"])


async def test_losers_that_wait_for_another_attempt(service: Service) -> None:
    """A node in backoff is not tried again."""
    policies = {"retry": {"max_attempts": 3, "base_ms": 3_600_000, "max_ms": 3_600_000}}
    graph = race(call("b", "stumbles", "y"), call("a", "held", "x"), joins=("a", "b"))
    async with service.stream(envelope(graph, policies=policies)) as reader:
        for name in ("x", "y"):
            await service.abilities.arrived(name).wait()
        service.abilities.gate("y").set()
        await reader.until("node_retry", "b")
        service.abilities.gate("x").set()
        frames = await reader.rest()
    assert shapes(frames)[-5:] == ["node_complete:a", "node_skipped:b", "node_start:j", "node_complete:j", "complete"]


async def test_a_map_that_lost(service: Service) -> None:
    """Its items that run are stopped, those that did not begin are never opened."""
    items = {
        "node_id": "m", "kind": "map", "over": {"value": ["p", "q", "r"]}, "as": "value", "concurrency": 2,
        "node": {"kind": "call", "capability_id": "spine.held"},
    }  # fmt: skip
    graph = race(items, call("a", "held", "x"), joins=("a", "m"))
    async with service.stream(envelope(graph)) as reader:
        for name in ("p", "q", "x"):
            await service.abilities.arrived(name).wait()
        service.abilities.gate("x").set()
        frames = await reader.rest()
    skipped = [frame.node_id for frame in frames if frame.type == "node_skipped"]
    assert skipped == ["m[0]", "m[1]", "m"]
    assert frames[-1].type == "complete"


async def test_a_child_run_that_lost(service: Service) -> None:
    """It is cancelled by mail, and says so in its own log."""
    child = {"node_id": "s", "kind": "subflow", "plan": plan(call("deep", "held", "deep"))}
    graph = race(child, call("a", "held", "x"), joins=("a", "s"))
    async with service.stream(envelope(graph)) as reader:
        begun = (await reader.until("node_start", "s")).payload
        for name in ("deep", "x"):
            await service.abilities.arrived(name).wait()
        service.abilities.gate("x").set()
        frames = await reader.rest()
    assert shapes(frames)[-5:] == ["node_complete:a", "node_skipped:s", "node_start:j", "node_complete:j", "complete"]
    log = await service.follow(begun["child_run_id"])
    payload(log, "cancelled", by=f"run:{frames[0].whole['run_id']}")
    assert "held:cancelled" in service.calls


async def test_a_join_for_all_cancels_nothing(service: Service) -> None:
    """``wait: all`` waits."""
    join = first("a", "b") | {"wait": "all"}
    graph = plan(call("a", "noop", 1), call("b", "noop", 2), join, edges=[edge("a", "j")])
    frames = await service.run(envelope(graph))
    payload(frames, "complete", output={"a": 1, "b": 2})
    assert "node_skipped" not in {frame.type for frame in frames}
