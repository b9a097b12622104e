"""A plan that a model writes may name a stored flow like any capability (W2, F4)."""

from __future__ import annotations

from typing import Any

from tests.flows.making import published
from tests.flows.test_capability import ASKED, toast
from tests.model.scripted import Script, says
from tests.spine.running import Service


def reply(flow_id: str, **more: Any) -> dict[str, Any]:
    """A plan of one node that calls a flow."""
    node = {
        "node_id": "cheer", "kind": "call", "capability_id": f"flow.{flow_id}",
        "inputs": {"who": {"from": "/inputs/guest"}}, "rationale": ["It makes toasts."], **more,
    }  # fmt: skip
    return {"nodes": [node], "output": {"mode": "map", "map": {"/toast": {"node_id": "cheer", "pointer": ""}}}}


async def test_a_model_names_a_flow_and_the_service_writes_its_node(service: Service, script: Script) -> None:
    """W2, W4: the model is shown what the flow takes and gives; the plan inside is the published one, never its own."""
    flow_id = await published(service, toast())
    own = {"nodes": [{"node_id": "x", "kind": "call", "capability_id": "http.post"}]}
    script.will(says(reply("flw_nobody")), says(reply(flow_id, kind="subflow", plan=own)))
    frames = await service.run(ASKED | {"policies": {"planner": {"strategy": "model"}}})
    assert frames[-1].payload["output"] == {"toast": "To Ana"}
    rejected = next(frame.payload for frame in frames if frame.type == "plan_rejected")
    assert rejected["findings"][0]["code"] == "unknown_capability"
    plan = next(frame.payload["plan"] for frame in frames if frame.type == "plan_generated")
    (node,) = plan["nodes"]
    assert (plan["strategy"], node["kind"], node["capability_version"]) == ("model", "subflow", "1")
    assert [inside["kind"] for inside in node["plan"]["nodes"]] == ["transform"]
    shown = "".join(message["content"] for message in script.told()[0])
    assert f"flow.{flow_id}" in shown
    assert '"produces":["toast"]' in shown
