"""People asked from inside a plan: questions, choices, repairs, effects (H1-H6), on both databases."""

from __future__ import annotations

from pathlib import Path

from tests.spine.asking import ASKED, OPENING, question
from tests.spine.running import ABILITIES, Service, call, edge, envelope, of, plan, serving
from tests.spine.sse import payload, shapes


async def test_ask_nodes_are_questions_and_choices(service: Service) -> None:
    """H2: an answer is the output of its node; a choice outside the list is refused with its pointer."""
    how = {"question": "How many?", "answer_schema": {"type": "integer"}}
    which = {"kind": "choice", "question": "Which?", "answer_schema": {"enum": ["red", "blue"]}}
    steps = plan(
        {"node_id": "how", "kind": "ask", "prompt": how},
        {"node_id": "which", "kind": "ask", "prompt": which, "inputs": {"many": of("how").binding}},
        output={"/how": {"node_id": "how"}, "/which": {"node_id": "which"}},
    )
    async with service.stream(envelope(steps)) as reader:
        first = await question(reader)
        assert (first["kind"], first["actions"]) == ("question", ["answer"])
        await service.decided(first, "answer", answer=4)
        second = await question(reader)
        assert (second["kind"], second["actions"], second["proposed"]) == ("choice", ["choose"], {"many": 4})
        refused = await service.decide(second["prompt_id"], "choose", answer="green")
        assert (refused.status_code, refused.json()["code"]) == (422, "answer_invalid")
        await service.decided(second, "choose", answer="blue")
        frames = await reader.rest()
    cycle = [
        [f"node_start:{n}", f"hitl_request:{n}", ASKED, f"hitl_resolved:{n}", "run_resumed", f"node_complete:{n}"]
        for n in ("how", "which")
    ]
    assert shapes(frames) == [*OPENING, *cycle[0], *cycle[1], "complete"]
    payload(frames, "complete", output={"how": 4, "which": "blue"})


async def test_a_capability_asks_from_inside_and_its_first_half_runs_once(service: Service) -> None:
    """H2: the answer goes on where the work stopped, in the same attempt.

    Would have survived langgraph#7780 and #6208: the body runs again from the top after every pause.
    """
    async with service.stream(envelope(plan(call("a", "asks", "a hint")))) as reader:
        prompt = await question(reader)
        assert prompt["proposed"] == "a hint"
        await service.decided(prompt, "answer", answer=3)
        frames = await reader.rest()
    assert shapes(frames) == [
        *OPENING, "node_start:a", "hitl_request:a", ASKED, "hitl_resolved:a", "run_resumed", "node_start:a",
        "node_complete:a", "complete",
    ]  # fmt: skip
    starts = [frame.payload for frame in frames if frame.type == "node_start"]
    assert [(start["attempt"], start["resumed"]) for start in starts] == [(1, False), (1, True)]
    assert service.calls == ["asks", "asks/2"]
    payload(frames, "complete", output={"state": "done", "answer": 3})


async def test_two_prompts_in_any_order_while_a_branch_runs_on(service: Service) -> None:
    """H6: only what depends on an answer waits; each prompt is answered by its id, the second one first.

    Would have survived mastra#24581, #15552, #9288, #10746 (siblings lost) and langgraph#6626, #8579 (wrong prompt).
    """
    steps = plan(
        {"node_id": "p", "kind": "ask", "prompt": {"question": "P?"}},
        {"node_id": "q", "kind": "ask", "prompt": {"question": "Q?"}},
        call("w", "held", "w"),
        {"node_id": "all", "kind": "join", "inputs": {n: of(n).binding for n in "pqw"}},
        edges=[edge(n, "all") for n in "pqw"],
    )
    async with service.stream(envelope(steps)) as reader:
        prompts = [(await reader.until("hitl_request")).payload["prompt"] for _ in range(2)]
        by_node = {prompt["node_id"]: prompt for prompt in prompts}
        assert by_node["p"]["prompt_id"] != by_node["q"]["prompt_id"]
        assert (await service.decided(by_node["q"], "answer", answer="second"))["run"]["status"] == "running"
        await reader.until("node_complete", "q")
        assert "run_waiting" not in shapes(reader.frames), "a branch still runs"
        service.abilities.gate("w").set()
        waiting = await reader.until("run_waiting")
        assert waiting.payload["prompt_ids"] == [by_node["p"]["prompt_id"]]
        await service.decided(by_node["p"], "answer", answer="first")
        frames = await reader.rest()
    assert "node_complete:w" in shapes(frames)
    assert shapes(frames)[-6:] == [
        "hitl_resolved:p", "run_resumed", "node_complete:p", "node_start:all", "node_complete:all", "complete"
    ]  # fmt: skip
    payload(frames, "complete", output={"p": "first", "q": "second", "w": "w"})


async def test_an_unknown_prompt_is_named_with_those_that_are_open(service: Service) -> None:
    """H4, H6: no answer without an id, no silently ignored id. Would have survived langgraph#8836."""
    run_id = await service.start(envelope(plan({"node_id": "p", "kind": "ask", "prompt": {"question": "P?"}})))
    (prompt,) = await service.asked(run_id)
    assert (await service.decide("prm_nowhere", "answer", answer=1)).status_code == 404
    body = {"run_id": run_id, "prompt_id": "prm_nowhere", "decision": {"action": "answer", "answer": 1}}
    refused = await service.client.post("/api/v1/flex/run.resume", json=body)
    assert (refused.status_code, refused.json()["code"]) == (404, "prompt_not_found")
    assert [each["prompt_id"] for each in refused.json()["open_prompts"]] == [prompt["prompt_id"]]


async def test_a_missing_capability_version_asks_a_person(database_url: str, tmp_path: Path) -> None:
    """F15: after a redeploy without the pinned version a person chooses. Would have survived vercel/workflow#1203."""
    old, new = tmp_path / "old.py", tmp_path / "new.py"
    for path, version in ((old, "1.0.0"), (new, "2.0.0")):
        path.write_text(
            "from capabilities.authoring import capability\n"
            f"@capability('spine.pinned', produces='spine_any', version='{version}')\n"
            f"async def pinned():\n    return 'version {version}'\n"
        )
    first = {"node_id": "p", "kind": "ask", "prompt": {"question": "Go?"}}
    steps = plan(first, call("a", "pinned"), edges=[edge("p", "a")])
    async with serving(database_url, capabilities=(str(ABILITIES), str(old))) as before:
        run_id = await before.start(envelope(steps))
        (prompt,) = await before.asked(run_id)
    redeployed = serving(database_url, capabilities=(str(ABILITIES), str(new)))
    async with redeployed as after, after.watch(run_id) as reader:
        await reader.until(ASKED)
        await after.decided(prompt, "answer", answer=True)
        missing = await question(reader)
        assert (missing["kind"], missing["answer_schema"]) == ("choice", {"enum": ["retry", "use 2.0.0", "fail"]})
        await after.decided(missing, "choose", answer="use 2.0.0")
        frames = await reader.rest()
    assert shapes(frames)[-7:] == [
        "hitl_request:a", ASKED, "hitl_resolved:a", "run_resumed", "node_start:a", "node_complete:a", "complete"
    ]  # fmt: skip
    payload(frames, "complete", output="version 2.0.0")


async def test_an_effect_that_may_have_happened_is_asked_about(service: Service, tmp_path: Path) -> None:
    """Design §4, effects: a ``once`` call that breaks is never repeated by itself; «not happened» runs it anew.

    Would have survived langgraph#7780 (duplicate side effects) and claude-agent-sdk-python#304.
    """
    book = tmp_path / "effects"
    value = {"file": str(book), "then": "raise"}
    async with service.stream(envelope(plan(call("a", "once", value)))) as reader:
        prompt = await question(reader)
        assert (prompt["kind"], prompt["actions"]) == ("effect_check", ["happened", "not_happened"])
        await service.decided(prompt, "not_happened")
        second = await question(reader)
        await service.decided(second, "happened")
        frames = await reader.rest()
    keys = book.read_text().splitlines()
    assert len(keys) == len(set(keys)) == 2, "a deliberate re-run has a key of its own"
    assert shapes(frames)[-2:] == ["node_complete:a", "complete"]
    payload(frames, "complete", output=None)
