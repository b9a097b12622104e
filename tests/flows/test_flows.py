"""Flows: drafts under a revision, versions that never change, comparison and restoring (W2)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from contracts.access import Principal
from contracts.errors import FlowNotFound, Forbidden
from tests.flows.making import codes, document, made, publish, published, saved, tag, two_steps
from tests.spine.running import Service, call, plan
from tests.spine.sse import payload


async def test_a_draft_is_kept_as_it_was_written(service: Service) -> None:
    """W2: keys that flex does not know stay, at the top and inside nodes' neighbours."""
    body = document(layout={"echo": {"x": 10, "y": 20}}, owner="marketing")
    flow = await made(service, body)
    assert (flow["draft"], flow["revision"], flow["published_version"]) == (body, 1, None)
    assert flow["valid"] is True
    read = await service.client.get(f"/api/v1/flows/{flow['flow_id']}")
    assert (read.json(), read.headers["etag"]) == (flow, '"1"')
    (item,) = (await service.client.get("/api/v1/flows")).json()["items"]
    assert item == {name: flow[name] for name in item}
    assert "draft" not in item


async def test_who_saves_a_stale_draft_is_told_so(service: Service) -> None:
    """W2: two people edit; the second one's save changes nothing and says which revision there is."""
    flow_id = (await made(service))["flow_id"]
    first = await saved(service, flow_id, 1, document(name="First"))
    assert (first.status_code, first.json()["revision"], first.headers["etag"]) == (200, 2, '"2"')
    second = await saved(service, flow_id, 1, document(name="Second"))
    assert (second.status_code, second.json()["code"], second.json()["revision"]) == (409, "stale_revision", 2)
    assert (await service.client.get(f"/api/v1/flows/{flow_id}")).json()["name"] == "First"
    without = await service.client.put(f"/api/v1/flows/{flow_id}", json=document())
    assert (without.status_code, without.json()["code"]) == (428, "revision_required")
    odd = await service.client.put(f"/api/v1/flows/{flow_id}", json=document(), headers={"If-Match": "2"})
    assert (odd.status_code, odd.json()["code"]) == (400, "bad_header")


async def test_of_many_who_save_at_once_one_wins(service: Service) -> None:
    """W2: the revision is compared where it is written."""
    flow_id = (await made(service))["flow_id"]
    answers = await asyncio.gather(*(saved(service, flow_id, 1, document(name=f"n{n}")) for n in range(8)))
    assert sorted(answer.status_code for answer in answers) == [200, *[409] * 7]
    assert (await service.client.get(f"/api/v1/flows/{flow_id}")).json()["revision"] == 2


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ([], "", "model_type"),
        ({"name": "x"}, "/plan", "required"),
        ({"name": "", "plan": {}}, "/name", "too_short"),
        ({"name": "x", "plan": []}, "/plan", "dict_type"),
        ({"name": "x", "plan": {}, "settings": {"deadline_seconds": -1}}, "/settings/deadline_seconds", "greater_than"),
    ],
)
async def test_what_is_no_document_is_refused(service: Service, body: Any, pointer: str, code: str) -> None:
    answer = await service.client.post("/api/v1/flows", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "flow_invalid")
    assert (pointer, code) in codes(answer), answer.text


async def test_a_broken_draft_is_kept_and_not_published(service: Service) -> None:
    """W2, W4: people save what they have; four verdicts say what is missing, and nobody can run it."""
    body = document(plan=plan(call("a", "nowhere", "x")))
    flow = await made(service, body)
    assert flow["valid"] is False
    (error,) = flow["validation"]["capability"]["errors"]
    assert (error["code"], error["pointer"]) == ("unknown_capability", "/plan/nodes/0/capability_id")
    assert [flow["validation"][name]["valid"] for name in ("structure", "security", "resource")] == [True, True, True]
    answer = await publish(service, flow["flow_id"], 1)
    assert (answer.status_code, answer.json()["code"]) == (422, "flow_invalid")
    assert codes(answer) == [("/plan/nodes/0/capability_id", "unknown_capability")]
    assert answer.json()["validation"] == flow["validation"]
    run = await service.client.post(f"/api/v1/flows/{flow['flow_id']}/run", json={})
    assert (run.status_code, run.json()["code"]) == (404, "flow_version_not_found")


async def test_versions_never_change_and_say_the_same_only_once(service: Service) -> None:
    """W2: publishing what is published is no new version."""
    flow_id = await published(service)
    again = await publish(service, flow_id, 2)
    assert (again.status_code, again.json()["version"]) == (200, 1)
    await saved(service, flow_id, 2, two_steps())
    second = await publish(service, flow_id, 3, note="Two steps")
    assert (second.status_code, second.json()["version"], second.json()["note"]) == (201, 2, "Two steps")
    first = await service.client.get(f"/api/v1/flows/{flow_id}/versions/1")
    assert first.json()["document"] == document()
    listed = (await service.client.get(f"/api/v1/flows/{flow_id}/versions?limit=1")).json()
    assert ([item["version"] for item in listed["items"]], listed["next_before"]) == ([2], 2)
    rest = (await service.client.get(f"/api/v1/flows/{flow_id}/versions?before=2")).json()
    assert ([item["version"] for item in rest["items"]], rest["next_before"]) == ([1], None)
    for which in ("3", "x", "0"):
        missing = await service.client.get(f"/api/v1/flows/{flow_id}/versions/{which}")
        assert (missing.status_code, missing.json()["code"]) == (404, "flow_version_not_found")


async def test_a_diff_names_what_changed_and_ignores_the_order(service: Service) -> None:
    """W2: nodes are found by name; one that only moved in the list is no change."""
    flow_id = await published(service, two_steps())
    body = two_steps(description="Shorter")
    body["plan"] = {**body["plan"], "nodes": [call("c", "noop", 1), *reversed(body["plan"]["nodes"])]}
    await saved(service, flow_id, 2, body)
    found = (await service.client.get(f"/api/v1/flows/{flow_id}/diff?from=1&to=draft")).json()
    assert [(change["op"], change["pointer"]) for change in found["changes"]] == [
        ("changed", "/description"), ("added", "/plan/nodes/c"),
    ]  # fmt: skip
    same = (await service.client.get(f"/api/v1/flows/{flow_id}/diff?from=1&to=1")).json()
    assert same["changes"] == []
    odd = await service.client.get(f"/api/v1/flows/{flow_id}/diff?from=last")
    assert (odd.status_code, odd.json()["errors"][0]["pointer"]) == (400, "/from")


async def test_a_version_is_restored_into_the_draft(service: Service) -> None:
    flow_id = await published(service)
    await saved(service, flow_id, 2, two_steps(name="Other"))
    answer = await service.client.post(f"/api/v1/flows/{flow_id}/restore", json={"version": 1}, headers=tag(3))
    assert (answer.status_code, answer.json()["draft"], answer.json()["revision"]) == (200, document(), 4)
    assert answer.json()["name"] == "Echo"
    stale = await service.client.post(f"/api/v1/flows/{flow_id}/restore", json={"version": 1}, headers=tag(3))
    assert stale.status_code == 409


async def test_a_run_stays_on_its_version(service: Service) -> None:
    """W2: what is published later changes no run, not one that waits either."""
    asking = plan({"node_id": "q", "kind": "ask", "prompt": {"question": "Well?"}})
    flow_id = await published(service, document(plan=asking, inputs=True))
    run = (await service.client.post(f"/api/flows/{flow_id}/run", json={})).json()
    await saved(service, flow_id, 2, document())
    assert (await publish(service, flow_id, 3)).json()["version"] == 2
    (prompt,) = await service.asked(run["run_id"])
    await service.decided(prompt, "answer", answer="as it was")
    payload(await service.follow(run["run_id"]), "complete", output="as it was")
    newest = (await service.client.post(f"/api/v1/flows/{flow_id}/run", json={"inputs": {"x": "new"}})).json()
    payload(await service.follow(newest["run_id"]), "complete", output="new")
    body = {"inputs": {}, "version": 1}
    earlier = (await service.client.post(f"/api/v1/flows/{flow_id}/run", json=body)).json()
    (prompt,) = await service.asked(earlier["run_id"])
    await service.decided(prompt, "answer", answer="still there")
    payload(await service.follow(earlier["run_id"]), "complete", output="still there")


async def test_an_envelope_names_a_flow(service: Service) -> None:
    """W1: a flow replaces planning; the contract is the caller's, the gates are the flow's."""
    gate = {"id": "sign", "when": "output", "question": "Send it?"}
    flow_id = await published(service, document(policies={"hitl": [gate]}))
    body = {
        "objective": "Say it",
        "inputs": {"x": "hello"},
        "output_contract": {"schema": {"type": "string"}},
        "workflow": {"flow_id": flow_id},
    }
    async with service.stream(body) as reader:
        prompt = (await reader.until("hitl_request")).payload["prompt"]
        assert prompt["question"] == "Send it?"
        await service.decided(prompt, "approve")
        payload(await reader.rest(), "complete", output="hello")
    refused = await service.client.post("/api/v1/runs", json=body | {"policies": {"hitl": []}, "inputs": {"x": 1}})
    assert refused.status_code == 422
    assert codes(refused) == [("/inputs/x", "input_invalid")]
    unfit = body | {"output_contract": {"schema": {"type": "integer"}}}
    answer = await service.client.post("/api/v1/runs", json=unfit)
    run_id = answer.json()["run_id"]
    (prompt,) = await service.asked(run_id)
    assert prompt["kind"] == "repair"
    for workflow, where in (
        ({"flow_id": "flw_none"}, ("/workflow/flow_id", "flow_not_found")),
        ({"flow_id": flow_id, "version": 9}, ("/workflow/version", "flow_version_not_found")),
    ):
        missing = await service.client.post("/api/v1/runs", json=body | {"workflow": workflow})
        assert (missing.status_code, codes(missing)) == (422, [where])


async def test_a_caller_takes_nothing_back_from_a_flow(service: Service) -> None:
    """H5: policies of a flow hold for every run of it; a caller may only add."""
    gate = {"id": "sign", "when": "output", "question": "Send it?"}
    flow_id = await published(service, document(policies={"hitl": [gate], "on_output_invalid": "fail"}))
    given = {"inputs": {"x": "hello"}, "policies": {"hitl": [], "on_output_invalid": "ask"}}
    run = (await service.client.post(f"/api/v1/flows/{flow_id}/run", json=given)).json()
    (prompt,) = await service.asked(run["run_id"])
    assert prompt["question"] == "Send it?"


def running(flow_id: str, **more: Any) -> dict[str, Any]:
    """A flow whose only node runs another one."""
    inputs = {"x": {"from": "/inputs/x"}}
    return document(plan=plan({"node_id": "s", "kind": "subflow", "flow_id": flow_id, "inputs": inputs, **more}))


async def test_a_flow_runs_another_as_a_child_run(service: Service) -> None:
    """W2, W5: by its newest version or by a fixed one, frozen when the run is accepted."""
    echo = await published(service)
    outer = await published(service, running(echo))
    fixed = await published(service, running(echo, version=1))
    await saved(service, echo, 2, document(plan=plan(call("a", "noop", "second"))))
    await publish(service, echo, 3)
    for flow_id, output in ((outer, "second"), (fixed, "first")):
        body = {"inputs": {"x": "first"}}
        run = (await service.client.post(f"/api/v1/flows/{flow_id}/run", json=body)).json()
        frames = await service.follow(run["run_id"])
        payload(frames, "complete", output=output)
        assert "child_run_id" in next(frame for frame in frames if frame.shape == "node_start:s").payload
    usage = (await service.client.get(f"/api/v1/flows/{echo}/usage")).json()["items"]
    named = {"template_id": None, "node_id": "s", "via": "subflow"}
    assert sorted(usage, key=lambda use: str(use["version"])) == [
        {**named, "flow_id": fixed, "version": 1}, {**named, "flow_id": outer, "version": None},
    ]  # fmt: skip
    used = await service.client.delete(f"/api/v1/flows/{echo}", headers=tag(4))
    assert (used.status_code, used.json()["code"]) == (409, "flow_in_use")
    assert used.json()["used_by"] == sorted([outer, fixed])


async def test_a_flow_that_runs_itself_or_nothing_is_not_published(service: Service) -> None:
    """W4: cycles through other flows are found, and names that nobody has."""
    first = await published(service)
    second = await published(service, running(first))
    answer = await saved(service, first, 2, running(second))
    (error,) = answer.json()["validation"]["structure"]["errors"]
    assert (error["code"], error["pointer"]) == ("flow_cycle", "/plan/nodes/0/plan/nodes/0/flow_id")
    assert (await publish(service, first, 3)).json()["code"] == "flow_invalid"
    missing = await made(service, running("flw_none"))
    (error,) = missing["validation"]["structure"]["errors"]
    assert (error["code"], error["pointer"]) == ("flow_version_not_found", "/plan/nodes/0/flow_id")
    both = await made(service, running(second, plan=plan(call("a", "noop", 1))))
    assert both["validation"]["structure"]["errors"][0]["code"] == "ambiguous_subflow"
    body = {"objective": "x", "output_contract": {"schema": True}, "workflow": {"plan": running("flw_none")["plan"]}}
    refused = await service.client.post("/api/v1/runs", json=body)
    assert (refused.status_code, codes(refused)) == (
        422, [("/workflow/plan/nodes/0/flow_id", "flow_version_not_found")],
    )  # fmt: skip


async def test_deleting_a_flow_leaves_its_runs(service: Service) -> None:
    """T5: runs keep the plans they have; nobody can start another."""
    flow_id = await published(service)
    run = (await service.client.post(f"/api/v1/flows/{flow_id}/run", json={"inputs": {"x": "kept"}})).json()
    await service.follow(run["run_id"])
    assert (await service.client.delete(f"/api/v1/flows/{flow_id}", headers=tag(1))).status_code == 409
    assert (await service.client.delete(f"/api/v1/flows/{flow_id}", headers=tag(2))).status_code == 204
    for path in ("", "/versions/1", "/diff", "/usage", "/export"):
        gone = await service.client.get(f"/api/v1/flows/{flow_id}{path}")
        assert (gone.status_code, gone.json()["code"]) in ((404, "flow_not_found"), (404, "flow_version_not_found"))
    assert (await service.detail(run["run_id"]))["output"] == "kept"
    again = await service.client.post(f"/api/v1/flows/{flow_id}/run", json={"inputs": {"x": "no"}})
    assert (again.status_code, again.json()["code"]) == (404, "flow_not_found")


async def test_flows_are_their_tenants_and_builders_write_them(service: Service) -> None:
    """P2: another tenant's flow is not found through any method; a submitter runs flows and writes none."""
    flow_id = await published(service)
    flows = service.flex.doors.flows
    stranger = Principal("user:ben", tenant="other", roles=frozenset({"builder"}))
    for asked in (
        flows.get(stranger, flow_id), flows.save(stranger, flow_id, document(), 2), flows.remove(stranger, flow_id, 2),
        flows.publish(stranger, flow_id, None, 2), flows.versions(stranger, flow_id, None, 10),
        flows.version(stranger, flow_id, 1), flows.restore(stranger, flow_id, {"version": 1}, 2),
        flows.diff(stranger, flow_id, "1", "1"), flows.document(stranger, flow_id, "1"),
        flows.usage(stranger, flow_id), flows.envelope(stranger, flow_id, {}),
    ):  # fmt: skip
        with pytest.raises(FlowNotFound):
            await asked
    assert (await flows.page(stranger, cursor=None, limit=10))["items"] == []
    submitter = Principal("user:ana", roles=frozenset({"submitter", "operator"}))
    for asked in (
        flows.create(submitter, document()), flows.save(submitter, flow_id, document(), 2),
        flows.remove(submitter, flow_id, 2), flows.publish(submitter, flow_id, None, 2),
        flows.restore(submitter, flow_id, {"version": 1}, 2),
    ):  # fmt: skip
        with pytest.raises(Forbidden):
            await asked
    assert (await flows.envelope(submitter, flow_id, {}))["workflow"] == {"flow_id": flow_id, "version": 1}
