"""``fallback: continue``: a node that failed completes with an error entry, and the run goes on (R3, F6)."""

from tests.spine.running import call, envelope, plan, serving


async def test_continue_is_a_fallback_of_every_plan(database_url: str) -> None:
    """R3, F6: after all attempts the node completes with the error entry; what follows reads it."""
    step = call("a", "raises", "final", fallback="continue", max_attempts=2)
    after = {"node_id": "b", "kind": "join", "inputs": {"a": {"node_id": "a", "pointer": "/error/code"}}}
    async with serving(database_url) as service:
        frames = await service.run(envelope(plan(step, after)))
        assert frames[-1].payload["output"] == {"a": "no_such_customer"}
        kinds = [frame.type for frame in frames if frame.node_id == "a"]
        assert kinds[-2:] == ["node_error", "node_complete"]


async def test_continue_passes_over_no_decision(database_url: str) -> None:
    """H4 (trap): a rejection never continues as anything else, whatever the node's fallback says."""
    ask = {"node_id": "q", "kind": "ask", "prompt": {"kind": "approval", "question": "Go on?"}, "fallback": "continue"}
    async with serving(database_url) as service:
        run_id = await service.start(envelope(plan(call("a", "noop", 1), ask, output={"": {"node_id": "a"}})))
        prompt = (await service.asked(run_id))[0]
        await service.decided(prompt, "reject")
        frames = await service.follow(run_id)
        assert (frames[-1].type, frames[-1].payload["code"]) == ("failed", "rejected")


async def test_an_error_entry_is_no_way_around_the_caller_s_contract(database_url: str) -> None:
    """F11: the answer is checked as ever; an entry that the caller's schema does not take never completes a run."""
    step = call("a", "raises", "final", fallback="continue", max_attempts=1)
    async with serving(database_url) as service:
        whole = envelope(plan(step), schema={"type": "string"}, policies={"on_output_invalid": "fail"})
        frames = await service.run(whole)
        assert (frames[-1].type, frames[-1].payload["code"]) == ("failed", "output_contract_unmet")


async def test_an_item_that_fails_does_not_stop_its_map(database_url: str) -> None:
    """R3, F6: what continues is the node inside; the list has an entry in the item's place."""
    inner = {**call("x", "raises"), "fallback": "continue", "max_attempts": 1}
    inner.pop("node_id")
    step = {"node_id": "m", "kind": "map", "over": {"value": ["final", "final"]}, "as": "value", "node": inner}
    async with serving(database_url) as service:
        frames = await service.run(envelope(plan(step)))
        assert frames[-1].type == "complete"
        assert [item["error"]["node_id"] for item in frames[-1].payload["output"]] == ["m[0]", "m[1]"]
