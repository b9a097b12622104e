"""What nodes see of a run's documents: bundles, bindings, the planner's inputs, retrieval (R4, W5; wire §6 R3)."""

from __future__ import annotations

from typing import Any

from tests.documents.conftest import OWN
from tests.documents.making import LETTER, place, stored
from tests.flows.making import document, made, published
from tests.spine.running import ABILITIES, Service, call, edge, envelope, plan, serving
from tests.spine.sse import payload

SEEN = {"node_id": "a", "kind": "call", "capability_id": "documents.seen"}


def of_story(workflow: Any, *documents: str, **more: Any) -> dict[str, Any]:
    """An envelope in the story `spring`."""
    context = {"story_id": "spring", "documents": list(documents), **more.pop("context", {})}
    return envelope(workflow, context=context, **more)


async def output_of(service: Service, body: dict[str, Any]) -> Any:
    """What a run puts out."""
    return payload(await service.run(body), "complete")["output"]


async def test_a_bundle_has_the_texts_in_the_order_they_were_named(service: Service) -> None:
    """F4, R4: text, version and media type; what has no text says so."""
    await stored(service, "spring", "letter")
    await stored(service, "spring", "picture", b"\x89PNG\x00\x01", "image/png")
    await stored(service, "spring", "letter", "Second")
    found = await output_of(service, of_story(plan(SEEN), "picture", "letter", "picture"))
    assert found == [
        {"document_id": "picture", "version": 1, "media_type": "image/png", "text_status": "failed", "text": None,
         "truncated": False},
        {"document_id": "letter", "version": 2, "media_type": "text/plain", "text_status": "ready", "text": "Second",
         "truncated": False},
    ]  # fmt: skip


async def test_texts_are_bounded_together(sqlite_url: str) -> None:
    """R1: what a run is given is bounded, and says where it was cut."""
    async with serving(sqlite_url, capabilities=(str(ABILITIES), str(OWN)), document_characters=10) as service:
        await stored(service, "spring", "a", "12345678")
        await stored(service, "spring", "b", "abcdef")
        found = await output_of(service, of_story(plan(SEEN), "b", "a"))
        assert [(each["document_id"], each["text"], each["truncated"]) for each in found] == [
            ("b", "ab", True), ("a", "12345678", False)
        ]  # fmt: skip
        await stored(service, "spring", "c", '{"long": "value"}', "application/json")
        node = {**SEEN, "inputs": {"value": {"from": "/context/documents/c"}}, "capability_id": "spine.noop"}
        assert await output_of(service, of_story(plan(node), "c")) == 0, "half of a JSON document is no value"


async def test_a_run_holds_on_to_the_versions_it_was_accepted_with(service: Service) -> None:
    """W2's rule for documents: a later version changes no run; its children see the same."""
    await stored(service, "spring", "letter", "First")
    inner = {"node_id": "sub", "kind": "subflow", "plan": plan(SEEN), "objective": "Look"}
    held = plan(call("h", "held", "x"), inner, edges=[edge("h", "sub")])
    run_id = await service.start(of_story(held, "letter"))
    await stored(service, "spring", "letter", "Second")
    service.abilities.gate("x").set()
    found = (await service.follow(run_id))[-1].payload["output"]
    assert [(each["version"], each["text"]) for each in found] == [(1, "First")]


async def test_a_document_that_is_deleted_under_a_run_fails_its_node(service: Service) -> None:
    """No silent default: a node does not run without what its run was promised."""
    await stored(service, "spring", "letter")
    run_id = await service.start(of_story(plan(SEEN), "letter", "other"))
    await service.client.delete(place("spring", "letter"))
    await stored(service, "spring", "other")
    frames = await service.follow(run_id)
    assert payload(frames, "node_error")["code"] == "document_missing"
    assert "letter" in payload(frames, "node_error")["message"]


async def test_a_binding_reads_a_document(service: Service) -> None:
    """wire §3: `/context/documents/<n>` is the text, inside of JSON the value; what is not there is no input."""
    await stored(service, "spring", "letter", "Dear Ana")
    await stored(service, "spring", "card", '{"day": 500, "more": [1, {"x": "deep"}]}', "application/json")

    def bound(pointer: str) -> dict[str, Any]:
        node = {"node_id": "a", "kind": "call", "capability_id": "spine.noop", "inputs": {"value": {"from": pointer}}}
        return of_story(plan(node), "letter", "card", "absent", context={"on_missing_doc": "skip"})

    assert await output_of(service, bound("/context/documents/0")) == "Dear Ana"
    assert await output_of(service, bound("/context/documents/1")) == {"day": 500, "more": [1, {"x": "deep"}]}
    assert await output_of(service, bound("/context/documents/1/more/1/x")) == "deep"
    assert await output_of(service, bound("/context/documents/card/day")) == 500, "by its id"
    assert await output_of(service, bound("/context/documents/2")) == 0, "the capability's own default"


async def test_the_planner_wires_a_document_by_its_id(service: Service) -> None:
    """wire §6 R3: document ids are available inputs, by norm; their value is the document's."""
    wanted = {"type": "object", "required": ["styled_line"], "properties": {"styled_line": {"type": "string"}}}
    body = of_story(None, "Style-Guide", schema=wanted)
    run_id = await service.start(body)
    (node,) = (await service.client.get(f"/api/v1/runs/{run_id}/plan")).json()["nodes"]
    assert node["inputs"] == {"style": {"from": "/context/documents/0"}}
    await stored(service, "spring", "Style-Guide", "plain words")
    assert (await service.follow(run_id))[-1].payload["output"] == {"styled_line": "By plain words"}
    # One that is left out is not counted on: there is no plan, instead of one that fails.
    frames = await service.run(of_story(None, "rate_card", schema=_price(), context={"on_missing_doc": "skip"}))
    assert payload(frames, "failed")["code"] == "no_plan"
    await stored(service, "spring", "rate_card", '{"day": 400}', "application/json")
    assert await output_of(service, of_story(None, "rate_card", schema=_price())) == {"day_price": 400}


def _price() -> dict[str, Any]:
    return {"type": "object", "required": ["day_price"], "properties": {"day_price": {"type": "integer"}}}


async def test_an_approval_of_a_documents_text_holds_after_the_process_is_gone(database_url: str) -> None:
    """H5: what was approved is bound to the text; the next process binds the same text and does not ask again."""
    rule = {"id": "check", "when": "before", "selector": {"node_id": "a"}}
    node = call("a", "noop")
    node["inputs"] = {"value": {"from": "/context/documents/0"}}
    async with serving(database_url) as first:
        await stored(first, "spring", "letter", "First")
        run_id = await first.start(of_story(plan(node), "letter", policies={"hitl": [rule]}))
        (prompt,) = await first.asked(run_id)
        await stored(first, "spring", "letter", "Second")
    async with serving(database_url) as second:
        await second.decided(prompt, "approve")
        frames = await second.follow(run_id)
        assert payload(frames, "complete")["output"] == "First"
        assert [frame.type for frame in frames].count("hitl_request") == 1


async def test_retrieval_looks_in_the_runs_own_story(service: Service) -> None:
    """W5, R4: `documents.search` in a plan finds the story's passages and no other's; without a story it fails."""
    await stored(service, "spring", "letter", LETTER)
    await stored(service, "autumn", "letter", "The refund of autumn")
    node = {
        "node_id": "a", "kind": "call", "capability_id": "documents.search",
        "inputs": {"query": {"value": "refund for bakers"}, "limit": {"value": 5}},
    }  # fmt: skip
    (found,) = await output_of(service, of_story(plan(node)))
    assert (found["document_id"], found["version"], found["text"]) == ("letter", 1, LETTER.strip())
    marked = [found["text"][start:end] for start, end in found["highlights"]]
    assert marked == ["refund", "Bakers"]
    homeless = await service.run(envelope(plan(node)))
    assert payload(homeless, "node_error")["code"] == "no_story"


async def test_a_flow_reads_its_documents_wherever_it_runs(service: Service) -> None:
    """W2: its plan means its own documents, also for a caller who brings others and inside of another flow."""
    for name in ("style", "terms", "brief"):
        await stored(service, "spring", name, f"the {name}")
    binding = {"value": {"from": "/context/documents/0"}}
    node = {"node_id": "a", "kind": "call", "capability_id": "spine.noop", "inputs": binding}
    inner = await published(service, document(inputs=True, plan=plan(node), settings={"documents": ["terms"]}))
    outer = document(
        inputs=True,
        plan=plan({"node_id": "sub", "kind": "subflow", "flow_id": inner}),
        settings={"documents": ["style", "terms"]},
    )
    outer_id = await published(service, outer)
    body = {"context": {"story_id": "spring", "documents": ["brief"]}}
    for flow_id in (inner, outer_id):
        accepted = await service.client.post(f"/api/v1/flows/{flow_id}/run", json=body)
        assert (await service.follow(accepted.json()["run_id"]))[-1].payload["output"] == "the terms"
    lacking = {**outer, "settings": {"documents": ["style"]}}
    flow = await made(service, lacking)
    warned = [each["code"] for each in flow["validation"]["structure"]["warnings"]]
    assert warned == ["dangling_input"], "the input is optional; a required one is an error"
