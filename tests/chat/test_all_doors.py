"""One plan of three nodes, run through every door: the same node records, and one line of history each (W1, T1)."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import openai
import pytest

from contracts.access import LOCAL
from tests.flows.making import published
from tests.model.scripted import Script, calls, says
from tests.spine.running import Service, serving
from tests.templates.test_gallery import made

SAMPLE = Path(__file__).parents[2] / "examples" / "release_notes" / "sample.log"
CONTRACT = {
    "type": "object",
    "required": ["version", "summary", "sections"],
    "properties": {
        "version": {"type": "string"},
        "summary": {"type": "string"},
        "sections": {"type": "array", "items": {"type": "object", "required": ["title", "items"]}},
    },
}
INPUTS = {"log_text": SAMPLE.read_text(encoding="utf-8"), "version": "1.4.0"}
OBJECTIVE = "Write the release notes of this version"
PLANNED: dict[str, Any] = {
    "objective": OBJECTIVE, "inputs": INPUTS, "output_contract": {"mode": "json_schema", "schema": CONTRACT},
}  # fmt: skip
COMPARED = ("node_id", "kind", "capability_id", "status", "attempt", "inputs", "output")


@pytest.fixture
async def service(database_url: str, script: Script) -> AsyncIterator[Service]:
    """A process with a model, which the chats ask."""
    async with serving(database_url, **script.settings) as running:
        yield running


async def records(service: Service, run_id: str) -> list[dict[str, Any]]:
    """What a run's rows say of its nodes."""
    nodes = await service.flex.doors.reads.attempts(LOCAL, run_id, 100)
    return [{name: node[name] for name in COMPARED} for node in nodes]


async def executed(service: Service, **body: Any) -> str:
    """The run of the unified door."""
    answer = await service.client.post("/api/v1/workflows/execute", json=body)
    assert (answer.status_code, answer.json()["success"]) == (200, True), answer.text
    return str(answer.json()["execution_id"])


async def child_of(service: Service, run_id: str) -> str:
    """The run of the tool that a chat called."""
    await service.follow(run_id)
    (child,) = (await service.detail(run_id))["lineage"]["children"]
    return str(child["run_id"])


async def by_command(service: Service, body: dict[str, Any], tmp_path: Path) -> str:
    """The run that ``flex run`` starts in the running service."""
    file = tmp_path / "envelope.json"
    file.write_text(json.dumps(body))
    url = str(service.client.base_url).rstrip("/")
    process = await asyncio.create_subprocess_exec(
        Path(sys.executable).with_name("flex"), "run", str(file), "--url", url,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, env={**os.environ, "NO_COLOR": "1"},
    )  # fmt: skip
    async with asyncio.timeout(30):
        out, said = await process.communicate()
    assert process.returncode == 0, said.decode()
    assert json.loads(out)["version"] == "1.4.0"
    runs = (await service.client.get("/api/v1/runs", params={"limit": 1})).json()["items"]
    return str(runs[0]["run_id"])


async def test_every_door_gives_the_same_records(service: Service, script: Script, tmp_path: Path) -> None:
    """W1, W2, W3, W6, R1: planned, custom, definition, template, chat tool, ``/run``, an OpenAI client, the command."""
    dry = (await service.client.post("/api/v1/plans", json=PLANNED)).json()["plan"]
    plan = {name: dry[name] for name in ("nodes", "edges", "output")}
    assert len(plan["nodes"]) == 3
    contract = {"output_contract": PLANNED["output_contract"]}
    schema = {"type": "object", "required": ["log_text", "version"]}
    flow = {"name": "Notes", "objective": OBJECTIVE, "inputs": schema, "plan": plan, **contract}
    flow_id = await published(service, flow)
    template = await made(service, {"name": "Notes", "flow": {"name": "Notes", "plan": plan, **contract}})
    runs = {
        "planned": await executed(service, workflow_type="planned", objective=OBJECTIVE, input_data=INPUTS, **contract),
        "custom": await executed(
            service, workflow_type="custom", plan=plan, objective=OBJECTIVE, input_data=INPUTS, **contract
        ),
        "definition": await executed(service, workflow_type="definition", flow_id=flow_id, input_data=INPUTS),
        "template": await service.start({**PLANNED, "workflow": {"template_id": template["template_id"]}}),
    }
    await service.follow(runs["template"])
    script.will(calls(("Notes", INPUTS)), says("Here they are."))
    asked = [{"role": "user", "content": "Notes, please"}]
    body = {"workflow_type": "chat", "messages": asked, "input_data": {"tools": [f"flow.{flow_id}"]}}
    answer = await service.client.post("/api/v1/workflows/execute", json=body)
    assert answer.status_code == 200, answer.text
    assert answer.json()["output"]["text"] == "Here they are."
    runs["chat"] = await child_of(service, answer.json()["execution_id"])
    told = await service.client.post("/run", json={"flow": "Notes", "input": INPUTS})
    assert (told.status_code, told.json()["status"]) == (200, "completed")
    runs["run"] = told.json()["run_id"]
    runs["openai"] = await through_openai(service, script, flow_id)
    runs["cli"] = await by_command(service, {**PLANNED, "workflow": {"flow_id": flow_id}}, tmp_path)
    expected = await records(service, runs["planned"])
    assert [record["status"] for record in expected] == ["completed"] * 3
    for door, run_id in runs.items():
        assert await records(service, run_id) == expected, door
    items = (await service.client.get("/api/v1/executions", params={"limit": 100})).json()["items"]
    assert len(items) == len(runs)
    assert sorted((item["trigger"], item["way"]) for item in items) == [
        ("api", "definition"), ("api", "template"), ("execute", "chat"), ("execute", "custom"),
        ("execute", "definition"), ("execute", "planned"), ("openai", "definition"), ("run", "definition"),
    ]  # fmt: skip


async def through_openai(service: Service, script: Script, flow_id: str) -> str:
    """The run of the tool that an unmodified client's chat called."""
    talk = {
        "name": "Talk",
        "plan": {
            "nodes": [
                {
                    "node_id": "chat", "kind": "chat", "tools": [f"flow.{flow_id}"],
                    "inputs": {"messages": {"from": "/inputs/messages"}},
                }
            ],
            "edges": [],
            "output": {"mode": "map", "map": {"": {"node_id": "chat", "pointer": "/text"}}},
        },
    }  # fmt: skip
    chat_flow = await published(service, talk)
    script.will(calls(("Notes", INPUTS)), says("Done."))
    base = f"{str(service.client.base_url).rstrip('/')}/v1"
    async with openai.AsyncOpenAI(base_url=base, api_key="unused", timeout=15) as client:
        made = await client.chat.completions.with_raw_response.create(
            model=f"flow:{chat_flow}", messages=[{"role": "user", "content": "Notes, please"}]
        )
    assert made.parse().choices[0].message.content == "Done."
    return await child_of(service, str(made.headers["x-run-id"]))
