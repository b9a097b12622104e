"""Stored flows that the planner finds by itself, as capabilities of their tenant (W2)."""

from __future__ import annotations

from typing import Any

import pytest

from contracts.access import Principal
from contracts.errors import EnvelopeInvalid
from service import offering
from tests.flows.making import codes, document, made, publish, published, saved, tag
from tests.spine.running import Service, call, plan, serving
from tests.spine.sse import payload

TEXT = {"type": "string"}
STRANGER = Principal("user:ben", tenant="other", roles=frozenset({"builder", "submitter"}))
ASKED: dict[str, Any] = {
    "objective": "Toast somebody",
    "inputs": {"guest": "Ana"},
    "output_contract": {
        "mode": "json_schema",
        "schema": {"type": "object", "required": ["toast"], "properties": {"toast": TEXT}},
    },
}


def toast(words: str = "To", **changes: Any) -> dict[str, Any]:
    """A flow that makes what no capability of the service makes."""
    inputs = {"who": {"from": "/inputs/who"}}
    node = {"node_id": "say", "kind": "transform", "expression": f"'{words} ' & who", "inputs": inputs}
    return {
        "name": "Toast",
        "description": "A toast to a guest",
        "inputs": {"type": "object", "required": ["who"], "properties": {"who": TEXT}},
        "output_contract": {"schema": TEXT},
        "plan": plan(node),
        "capability": {"consumes": {"who": "guest"}, "produces": "toast"},
        **changes,
    }


async def listed(service: Service, flow_id: str) -> dict[str, Any] | None:
    """The flow among the capabilities; None when it is not there."""
    items = (await service.client.get("/api/v1/capabilities?limit=100")).json()["items"]
    return next((item for item in items if item["capability_id"] == f"flow.{flow_id}"), None)


async def test_a_planned_run_uses_a_published_flow(service: Service) -> None:
    """W2, T1: found by its facets, run as a child run at the version that was there, one execution in the history."""
    flow_id = await published(service, toast())
    item = await listed(service, flow_id)
    assert item is not None
    assert (item["active"], item["version"], item["kind"], item["effects"]) == (True, "1", "subflow", "none")
    assert (item["consumes"], item["produces"]) == ({"who": {"facet": "guest", "required": True}}, ["toast"])
    frames = await service.run(ASKED)
    start = next(frame.payload for frame in frames if frame.type == "node_start")
    assert (start["kind"], start["capability_id"]) == ("subflow", f"flow.{flow_id}")
    made_plan = next(frame.payload for frame in frames if frame.type == "plan_generated")["plan"]
    (node,) = made_plan["nodes"]
    assert (made_plan["strategy"], node["capability_version"], len(node["plan"]["nodes"])) == ("search", "1", 1)
    assert "timeout_seconds" not in node
    assert payload(frames, "complete")["output"] == {"toast": "To Ana"}
    run_id = frames[0].whole["run_id"]
    history = (await service.client.get("/api/v1/executions")).json()["items"]
    assert [(each["id"], each["status"]) for each in history] == [(run_id, "completed")]
    usage = (await service.client.get(f"/api/v1/flows/{flow_id}/usage")).json()
    (run,) = usage["runs"]
    assert (run["run_id"], run["node_id"], run["status"]) == (run_id, node["node_id"], "completed")
    assert run["child_run_id"] == start["child_run_id"]
    await gates_see_what_it_does(service)


async def gates_see_what_it_does(service: Service) -> None:
    """H5: a flow has the effects of its nodes, so a gate on effects asks before it."""
    flow_id = await published(service, toast(plan=plan(call("say", "once", {"file": "/nowhere"}))))
    item = await listed(service, flow_id)
    assert item is not None
    assert item["effects"] == "once"
    rule = {"id": "ok", "when": "before", "selector": {"effects": "once"}, "question": "Really?"}
    policies = {"hitl": [rule], "planner": {"selection": {"require": [f"flow.{flow_id}"]}}}
    answer = await service.client.post("/api/v1/plans", json=ASKED | {"policies": policies})
    node, gate = answer.json()["plan"]["nodes"]
    assert (node["kind"], gate["guards"], gate["target"]) == ("subflow", "before", node["node_id"])


async def test_a_publication_is_for_later_runs_and_a_deletion_ends_it(service: Service) -> None:
    """W2: a plan keeps the version it was made with; what is unpublished or deleted is found by nobody."""
    ask = {"node_id": "ask", "kind": "ask", "prompt": {"question": "Well?", "answer_schema": TEXT}}
    flow_id = await published(service, toast(plan=plan(ask)))
    waiting = await service.start(ASKED)
    (prompt,) = await service.asked(await below(service, waiting))
    await saved(service, flow_id, 2, toast("Cheers,"))
    assert (await publish(service, flow_id, 3)).json()["version"] == 2
    assert payload(await service.run(ASKED), "complete")["output"] == {"toast": "Cheers, Ana"}
    await service.decided(prompt, "answer", answer="As it was")
    assert payload(await service.follow(waiting), "complete")["output"] == {"toast": "As it was"}
    plain = toast()
    del plain["capability"]
    await saved(service, flow_id, 4, plain)
    assert (await publish(service, flow_id, 5)).status_code == 201
    assert await listed(service, flow_id) is None
    assert payload(await service.run(ASKED), "failed")["code"] == "no_plan"
    await saved(service, flow_id, 6, toast())
    assert (await publish(service, flow_id, 7)).status_code == 201
    assert await listed(service, flow_id) is not None
    assert (await service.client.delete(f"/api/v1/flows/{flow_id}", headers=tag(8))).status_code == 204
    assert await listed(service, flow_id) is None
    assert payload(await service.run(ASKED), "failed")["code"] == "no_plan"


async def below(service: Service, run_id: str) -> str:
    """The child run of a run, once that waits for it."""
    async with service.watch(run_id) as reader:
        start = await reader.until("node_start")
        await reader.until("run_waiting")
    return str(start.payload["child_run_id"])


async def test_a_flow_is_a_capability_of_its_tenant_alone(service: Service) -> None:
    """P2: another tenant neither finds it nor sees it, by name either."""
    flow_id = await published(service, toast())
    doors = service.flex.doors
    born = await doors.runs.submit(ASKED, STRANGER)
    stream = doors.streams.born(STRANGER, born.run_id, born.correlation_id)
    frames = [frame async for batch in stream.batches() for frame in batch]
    assert frames[-1].type == "failed"
    assert b'"no_plan"' in frames[-1].data
    shown = await doors.capabilities.list(STRANGER, limit=100, cursor=None)
    assert f"flow.{flow_id}" not in {item["capability_id"] for item in shown["items"]}
    facets = await doors.capabilities.facets(STRANGER, limit=200, cursor=None)
    assert "toast" not in {item["name"] for item in facets["items"]}
    wished = ASKED | {"policies": {"planner": {"selection": {"prefer": [f"flow.{flow_id}"]}}}}
    refused = await doors.plans.dry_run(STRANGER, wished)
    assert refused["findings"][0]["code"] == "unknown_capability"
    marked = {"mode": "json_schema", "schema": {**TEXT, "x-flex-facet": "toast"}}
    for asked in (wished, ASKED | {"output_contract": marked}):
        mine = (await service.client.post("/api/v1/plans", json=asked)).json()
        assert [node["capability_id"] for node in mine["plan"]["nodes"]] == [f"flow.{flow_id}"]
    assert (await service.run(ASKED | {"output_contract": marked}))[-1].payload["output"] == "To Ana"
    with pytest.raises(EnvelopeInvalid):
        await doors.runs.submit(ASKED | {"output_contract": marked}, STRANGER)


async def test_processes_learn_of_publications_at_once(database_url: str) -> None:
    """W2: a plan is never made of what another process has taken away, nor refused for what it has just published."""
    async with serving(database_url) as one, serving(database_url) as two:
        flow_id = await published(one, toast())
        assert payload(await two.run(ASKED), "complete")["output"] == {"toast": "To Ana"}
        await saved(one, flow_id, 2, toast("Cheers,"))
        assert (await publish(one, flow_id, 3)).status_code == 201
        assert payload(await two.run(ASKED), "complete")["output"] == {"toast": "Cheers, Ana"}
        assert (await one.client.delete(f"/api/v1/flows/{flow_id}", headers=tag(4))).status_code == 204
        assert payload(await two.run(ASKED), "failed")["code"] == "no_plan"


async def test_a_flow_never_uses_itself(service: Service) -> None:
    """W2, F6: neither by name nor by a new plan for its own child run; the search never closes a circle."""
    first = await published(service, toast())
    await saved(service, first, 2, toast(plan=plan({"node_id": "again", "kind": "subflow", "flow_id": first})))
    refused = await publish(service, first, 3)
    assert (refused.status_code, codes(refused)[0][1]) == (422, "flow_cycle")
    await saved(service, first, 3, toast(plan=plan(call("say", "raises", "final", fallback="replan"))))
    assert (await publish(service, first, 4)).status_code == 201
    frames = await service.run(ASKED)
    assert payload(frames, "failed")["code"] == "node_failed"
    child = next(frame.payload["child_run_id"] for frame in frames if frame.type == "node_start")
    log = await service.log(child)
    assert "plan_rejected" in [frame.type for frame in log]
    assert log[-1].payload["code"] == "no_plan"
    assert len((await service.client.get(f"/api/v1/flows/{first}/usage")).json()["runs"]) == 1
    turned = toast(inputs={"type": "object", "required": ["who"], "properties": {"who": TEXT}})
    turned["capability"] = {"consumes": {"who": "toast"}, "produces": "guest"}
    await published(service, turned)
    circle = {**ASKED, "inputs": {}}
    assert payload(await service.run(circle), "failed")["code"] == "no_plan"


async def test_a_declaration_that_does_not_hold_is_refused(service: Service, monkeypatch: pytest.MonkeyPatch) -> None:
    """W2, W4: each fault has a code and a pointer; a draft keeps it, nobody publishes it."""
    number = {"type": "object", "required": ["who"], "properties": {"who": {"type": "integer"}}}
    closed = {**toast()["inputs"], "additionalProperties": False}
    wrong: list[tuple[dict[str, Any], str, str]] = [
        (toast(capability={"produces": "toast"}), "/capability/consumes", "missing_param"),
        (toast(capability={"consumes": {"who": "tone"}, "produces": "toast"}, inputs=number),
         "/capability/consumes/who", "incompatible_facet"),
        (toast(capability={"consumes": {"who": "guest", "age": "age"}, "produces": "toast"}, inputs=closed),
         "/capability/consumes/age", "unknown_param"),
        (toast(capability={"consumes": {"who": "guest"}, "produces": "company_profile"}),
         "/capability/produces/0", "incompatible_facet"),
        (toast(policies={"hitl": [{"id": "ok", "when": "output", "question": "So?"}]}),
         "/capability", "capability_with_policies"),
        (toast(settings={"documents": ["terms"]}), "/capability", "capability_needs_documents"),
        (toast(capability={"consumes": {"who": {"facet": "guest", "required": False}}, "produces": "toast"}),
         "/capability/consumes", "missing_param"),
        (toast(capability={"consumes": {}, "produces": "toast"}, inputs=True),
         "/plan/nodes/0/inputs/who", "dangling_input"),
    ]  # fmt: skip
    for body, pointer, code in wrong:
        flow = await made(service, body)
        found = [each for layer in flow["validation"].values() for each in layer["errors"]]
        assert (pointer, code) in [(each["pointer"], each["code"]) for each in found], found
        refused = await publish(service, flow["flow_id"], 1)
        assert refused.status_code == 422
        assert (pointer, code) in codes(refused)
    shapes = [({}, "/capability/produces"), ({"produces": ["a", "a"]}, "/capability/produces"),
              ({"produces": "a", "quality": 2}, "/capability/quality")]  # fmt: skip
    for said, pointer in shapes:
        answer = await service.client.post("/api/v1/flows", json=toast(capability=said))
        assert answer.status_code == 422
        assert [at for at, _ in codes(answer)] == [pointer], answer.text
    first = await one_that_disagrees_is_refused(service)
    await a_tenant_has_so_many(service, first, monkeypatch)


async def one_that_disagrees_is_refused(service: Service) -> str:
    """W2: a flow that disagrees with another about a facet, and a plan that calls a flow like a function."""
    first = await published(service, toast())
    flow = await made(service, toast(output_contract={"schema": {"type": "integer"}}))
    assert flow["validation"]["capability"]["errors"][0]["code"] == "incompatible_facet"
    assert (await listed(service, first) or {})["active"] is True
    called = await made(
        service, document(plan=plan({"node_id": "a", "kind": "call", "capability_id": f"flow.{first}"}))
    )
    assert "flow_not_called" in [each["code"] for each in called["validation"]["capability"]["errors"]]
    return first


async def a_tenant_has_so_many(service: Service, first: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """W2: more would make every publication slow; what is there already can still be published again."""
    monkeypatch.setattr(offering, "MAX_OFFERS", 1)
    more = await made(service, toast())
    (found,) = more["validation"]["resource"]["errors"]
    assert (found["code"], found["pointer"]) == ("too_many_flow_capabilities", "/capability")
    await saved(service, first, 2, toast("Cheers,"))
    assert (await publish(service, first, 3)).status_code == 201


async def test_usage_lists_subflows_tools_and_templates(service: Service) -> None:
    """W2: whoever names a flow is found, and the flow stays while it is named."""
    flow_id = await published(service)
    inside = {"node_id": "sub", "kind": "subflow", "flow_id": flow_id, "inputs": {"x": {"from": "/inputs/x"}}}
    user = await published(service, document(name="User", plan=plan(inside)))
    talks = {"node_id": "talk", "kind": "chat", "tools": [f"flow.{flow_id}@1", f"flow.{flow_id}"], "messages": []}
    body = {"name": "Chat", "flow": document(plan=plan(talks, {**inside, "version": 1}))}
    template = (await service.client.post("/api/v1/templates", json=body)).json()
    template_id = template["template_id"]
    usage = (await service.client.get(f"/api/v1/flows/{flow_id}/usage")).json()
    of_template = {"flow_id": None, "template_id": template_id}
    assert usage["items"] == [
        {"flow_id": user, "template_id": None, "node_id": "sub", "via": "subflow", "version": None},
        {**of_template, "node_id": "sub", "via": "subflow", "version": 1},
        {**of_template, "node_id": "talk", "via": "tool", "version": 1},
    ]
    refused = await service.client.delete(f"/api/v1/flows/{flow_id}", headers=tag(2))
    assert (refused.status_code, refused.json()["used_by"]) == (409, sorted([user, template_id]))
    gone = await service.client.delete(f"/api/v1/templates/{template_id}", headers=tag(1))
    assert gone.status_code == 204, gone.text
    usage = (await service.client.get(f"/api/v1/flows/{flow_id}/usage")).json()
    assert [item["flow_id"] for item in usage["items"]] == [user]
