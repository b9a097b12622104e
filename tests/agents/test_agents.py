"""Agents through the front door: listed, called, put into groups, and what a broken one does to the others (R2, R3)."""

from pathlib import Path
from typing import Any

import pytest

from app.settings import Settings
from tests.agents.folders import ECHO, FAILING, WRITER, lay, listed, run_flow, start_flow
from tests.model.scripted import Script, pretty, says
from tests.spine.running import call, envelope, plan, serving
from tests.spine.sse import Frame

TEXT = "inputs: {type: object, required: [text], properties: {text: {type: string}}}\n"


def outcome(frames: list[Frame]) -> Any:
    """The output of a run that completed."""
    assert frames[-1].type == "complete", frames[-1].payload
    return frames[-1].payload["output"]


def call_agent(node_id: str, agent: str, **more: Any) -> dict[str, Any]:
    """A node that calls an agent."""
    return {**call(node_id, "x"), "capability_id": f"agent.{agent}", **more}


async def test_a_folder_is_read_and_a_broken_agent_stops_nobody(database_url: str, tmp_path: Path) -> None:
    """R2: the door lists every file with its status and the line of what is wrong; the service stays ready."""
    files = {
        "writer.md": WRITER, "echo.py": ECHO, "bad.md": "---\nid: bad\ncolour: red\n---\nx",
        "worse.py": "x = 1\nx = =\n",
        "flows/shout.yaml": f"description: Shouts\n{TEXT}sequence: [echo]\n",
        "flows/lost.yaml": "sequence:\n- echo\n- nobody\n",
    }  # fmt: skip
    folder = lay(tmp_path / "agents", files)
    async with serving(database_url, agents_dir=str(folder)) as service:
        items = await listed(service)
        assert list(items) == sorted(files)
        assert {name: item["status"] for name, item in items.items()} == {
            "writer.md": "inactive", "echo.py": "loaded", "bad.md": "broken", "worse.py": "broken",
            "flows/shout.yaml": "loaded", "flows/lost.yaml": "broken",
        }  # fmt: skip
        assert "FLEX_MODEL" in items["writer.md"]["reason"]
        found = {name: (item["error"]["code"], item["error"]["line"]) for name, item in items.items() if item["error"]}
        assert found == {
            "bad.md": ("bad_front_matter", 3), "worse.py": ("python_error", 2), "flows/lost.yaml": ("unknown_agent", 3),
        }  # fmt: skip
        assert str(tmp_path) not in str(items)
        assert (items["flows/shout.yaml"]["flow_id"], items["echo.py"]["capability_id"]) == ("shout", "agent.echo")
        assert (await service.client.get("/readyz")).json() == {"status": "ok", "problems": []}
        known = (await service.client.get("/api/v1/capabilities", params={"limit": 100})).json()["items"]
        states = {item["capability_id"]: item["active"] for item in known}
        assert (states["agent.writer"], states["agent.echo"], "agent.bad" in states) == (False, True, False)
        assert outcome(await run_flow(service, "shout", inputs={"text": "hello"})) == "HELLO"


async def test_the_list_is_paged(sqlite_url: str, tmp_path: Path) -> None:
    """P3: like every list."""
    lay(tmp_path, {f"a{number}.md": WRITER.replace("id: writer", f"id: w{number}") for number in range(5)})
    async with serving(sqlite_url, agents_dir=str(tmp_path)) as service:
        seen, cursor = [], None
        while True:
            query = {"limit": 2} | ({} if cursor is None else {"cursor": cursor})
            page = (await service.client.get("/api/v1/agents", params=query)).json()
            seen += [item["agent_id"] for item in page["items"]]
            if (cursor := page["next_cursor"]) is None:
                break
        assert seen == [f"w{number}" for number in range(5)]
        assert (await service.client.get("/api/v1/agents", params={"path": "/etc/passwd"})).status_code == 400


async def test_without_a_folder_there_is_nothing(sqlite_url: str) -> None:
    async with serving(sqlite_url) as service:
        assert (await service.client.get("/api/v1/agents")).json() == {"items": [], "next_cursor": None}
        assert (await service.client.post("/api/v1/flows/default/run", json={})).status_code == 404


async def test_an_agent_that_asks_the_model(database_url: str, tmp_path: Path, script: Script) -> None:
    """R2: the body is the instructions, the bundle is the material, the node's schema forms the answer."""
    script.will(says({"line": "Hello"}), says("Good morning, Ana"))
    schema = {"type": "object", "required": ["line"], "properties": {"line": {"type": "string"}}}
    lay(tmp_path, {"writer.md": WRITER})
    async with serving(database_url, agents_dir=str(tmp_path), **script.settings) as service:
        assert (await listed(service))["writer.md"]["status"] == "loaded"
        step = call_agent("w", "writer", inputs={"subject": {"value": "mornings"}}, output={"schema": schema})
        frames = await service.run(envelope(plan(step)))
        assert outcome(frames) == {"line": "Hello"}
        assert frames[-1].payload["usage"]["tokens"] == 100
        plain = await service.run(envelope(plan(call_agent("w", "writer", inputs={"who": {"value": "Ana"}}))))
        assert outcome(plain) == "Good morning, Ana"
        told = [pretty(messages) for messages in script.told()]
        assert "Write one line about the subject." in told[0]
        assert "mornings" in told[0]


async def test_an_agent_of_another_model_is_refused(sqlite_url: str, tmp_path: Path) -> None:
    """R2: what cannot be done is said, never ignored."""
    more: dict[str, Any] = {"model": "tiny", "model_base_url": "http://127.0.0.1:9/v1"}
    front = "id: writer\nmodel: {}"
    files = {"a.md": WRITER.replace("id: writer", front.format("tiny"))}
    files["b.md"] = WRITER.replace("id: writer", front.format("huge")).replace("id: writer", "id: other")
    async with serving(sqlite_url, agents_dir=str(lay(tmp_path, files)), **more) as service:
        items = await listed(service)
        assert items["a.md"]["status"] == "loaded"
        assert (items["b.md"]["error"]["code"], items["b.md"]["error"]["line"]) == ("unsupported", 3)


async def test_typed_agents_are_planned_with(sqlite_url: str, tmp_path: Path, script: Script) -> None:
    """R2, F4: with consumes and produces an agent is a capability that the planner finds by itself."""
    script.will(says('"quite grand"'))
    facets = """\
        from capabilities import facet

        MOOD = facet("mood_of_day", {"type": "string"})
        SKY = facet("sky", {"type": "string"})
    """
    agent = "---\nid: mood\nconsumes: {sky: sky}\nproduces: mood_of_day\n---\nName the mood."
    lay(tmp_path, {"facets.py": facets, "mood.md": agent})
    wanted = {"type": "object", "required": ["mood_of_day"], "properties": {"mood_of_day": {"type": "string"}}}
    async with serving(sqlite_url, agents_dir=str(tmp_path), **script.settings) as service:
        frames = await service.run(envelope(schema=wanted, inputs={"sky": "blue"}))
        assert outcome(frames) == {"mood_of_day": "quite grand"}
        shared = (await listed(service))["facets.py"]
        assert (shared["status"], shared["capability_id"]) == ("loaded", None)


# --- groups ---


async def test_a_sequence_with_a_parallel_group(database_url: str, tmp_path: Path) -> None:
    """R3: members get the run's inputs and what came before; any action advances (R2)."""
    seen = """\
        from pocketflow import Flow, Node

        class Look(Node):
            def post(self, shared, prep_res, exec_res):
                shared["result"] = {name: shared.get(name) for name in ("input", "previous", "text")}
                return "left"

        flow = Flow(start=Look())
    """
    group = f"{TEXT}sequence:\n- echo\n- parallel:\n  - look\n  - agent: echo\n    as: again\n- look\n"
    lay(tmp_path, {"echo.py": ECHO, "look.py": seen, "flows/all.yaml": group})
    async with serving(database_url, agents_dir=str(tmp_path)) as service:
        said = outcome(await run_flow(service, "all", inputs={"text": "hi"}))
        assert said["text"] == "hi"
        assert said["input"] == {"text": "hi"}
        assert said["previous"]["again"] == "HI"
        assert said["previous"]["look"] == {"input": {"text": "hi"}, "previous": "HI", "text": "hi"}


async def test_a_failing_member_does_not_stop_its_group(database_url: str, tmp_path: Path) -> None:
    """R3: its output is an error entry, the others go on, and the record shows what failed."""
    group = f"{TEXT}sequence:\n- failing\n- parallel: [echo, failing]\n"
    lay(tmp_path, {"echo.py": ECHO, "failing.py": FAILING, "flows/both.yaml": group})
    async with serving(database_url, agents_dir=str(tmp_path)) as service:
        run_id = await start_flow(service, "both", inputs={"text": "hi"})
        frames = await service.follow(run_id)
        said = outcome(frames)
        assert said["echo"] == "HI"
        assert said["failing_2"]["error"] == {
            "code": "capability_error", "message": "ValueError: there is nothing here", "node_id": "failing_2",
        }  # fmt: skip
        errors = [(frame.node_id, frame.payload["fallback"]) for frame in frames if frame.type == "node_error"]
        assert errors == [("failing", "continue"), ("failing_2", "continue")]
        nodes = (await service.client.get(f"/api/v1/runs/{run_id}/nodes/failing")).json()
        assert nodes["attempts"][0]["code"] == "capability_error"


async def test_groups_inside_groups(sqlite_url: str, tmp_path: Path) -> None:
    """R3: a sequence beside others gives what its last member gives; a failure inside it stops neither."""
    look = ECHO.replace('shared["text"]', 'str(shared["previous"])')
    group = f"{TEXT}parallel:\n- sequence: [failing, echo, look]\n- sequence:\n  - parallel: [echo]\n  - failing\n"
    lay(tmp_path, {"echo.py": ECHO, "look.py": look, "failing.py": FAILING, "flows/deep.yaml": group})
    async with serving(sqlite_url, agents_dir=str(tmp_path)) as service:
        said = outcome(await run_flow(service, "deep", inputs={"text": "hi"}))
        assert (said["look"], said["failing_2"]["error"]["node_id"]) == ("HI", "failing_2")


async def test_members_that_say_what_they_consume(sqlite_url: str, tmp_path: Path) -> None:
    """R3, F4: they get what they name, and what nobody binds is bound by facet, as in every plan."""
    group = "inputs: {type: object, required: [log]}\nsequence: [log.parse, records.group]\n"
    lay(tmp_path, {"flows/notes.yaml": group})
    async with serving(sqlite_url, agents_dir=str(tmp_path)) as service:
        assert (await listed(service))["flows/notes.yaml"]["error"] is None
        said = outcome(await run_flow(service, "notes", inputs={"log": "abc1234 fix: a leak"}))
        assert "a leak" in str(said)


async def test_the_last_member_and_a_required_one_end_the_run(database_url: str, tmp_path: Path) -> None:
    """R3, R1: without its last member a sequence has no result; a required member is one that nobody can do without."""
    files = {
        "echo.py": ECHO, "failing.py": FAILING,
        "flows/last.yaml": f"{TEXT}sequence: [echo, failing]\n",
        "flows/needed.yaml": f"{TEXT}parallel:\n- echo\n- agent: failing\n  required: true\n",
    }  # fmt: skip
    async with serving(database_url, agents_dir=str(lay(tmp_path, files))) as service:
        for flow_id in ("last", "needed"):
            frames = await run_flow(service, flow_id, inputs={"text": "hi"})
            assert (frames[-1].type, frames[-1].payload["code"]) == ("failed", "node_failed")
            assert frames[-1].payload["failed_node_id"] == "failing"


async def test_a_member_whose_output_does_not_fit(sqlite_url: str, tmp_path: Path) -> None:
    """R3, F11: with on_output_invalid: fail an unfit output is a failure of its member, no more."""
    group = (
        f"policies: {{on_output_invalid: fail}}\n{TEXT}"
        "parallel:\n- echo\n- agent: echo\n  as: number\n  output: {type: integer}\n"
    )
    lay(tmp_path, {"echo.py": ECHO, "flows/x.yaml": group})
    async with serving(sqlite_url, agents_dir=str(tmp_path)) as service:
        said = outcome(await run_flow(service, "x", inputs={"text": "hi"}))
        assert (said["echo"], said["number"]["error"]["code"]) == ("HI", "output_invalid")


async def test_a_group_is_a_flow_like_any_other(database_url: str, tmp_path: Path) -> None:
    """R3, W2: named in an envelope, with its inputs checked; it has no versions; the run's record names it."""
    lay(tmp_path, {"echo.py": ECHO, "flows/shout.yaml": f"{TEXT}output: {{type: string}}\nsequence: [echo]\n"})
    async with serving(database_url, agents_dir=str(tmp_path)) as service:
        whole = envelope(inputs={"text": "hi"}) | {"workflow": {"flow_id": "shout"}}
        assert outcome(await service.run(whole)) == "HI"
        answer = await service.client.post("/api/v1/runs", json=whole | {"inputs": {}})
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (422, "/inputs")
        answer = await service.client.post(
            "/api/v1/runs", json=whole | {"workflow": {"flow_id": "shout", "version": 1}}
        )
        assert answer.json()["errors"][0]["pointer"] == "/workflow/flow_id"
        for hostile in ("../agents", "..%2Fshout", "flows/shout.yaml", "/etc/passwd"):
            answer = await service.client.post("/api/v1/runs", json=whole | {"workflow": {"flow_id": hostile}})
            assert answer.status_code == 422, hostile
        asked = {"workflow_type": "definition", "flow_id": "shout", "input_data": {"text": "by the other door"}}
        done = (await service.client.post("/api/v1/workflows/execute", json=asked)).json()
        assert (done["success"], done["output"]) == (True, "BY THE OTHER DOOR")
        history = (await service.client.get("/api/flows/shout/executions")).json()
        assert [(item["flow_id"], item["flow_name"]) for item in history["items"]] == [("shout", "shout")] * 2
        checked = whole | {"output_contract": {"schema": {"type": "string"}}}
        assert outcome(await service.run(checked)) == "HI"


async def test_a_group_that_no_engine_could_walk_is_broken(sqlite_url: str, tmp_path: Path) -> None:
    """R3, W4: a group passes the checks of every plan; the fault is at its member's line."""
    files = {
        "echo.py": ECHO, "writer.md": WRITER,
        "flows/x.yaml": "sequence:\n- echo\n- agent: echo\n  as: second\n  inputs: {text: {node_id: nowhere}}\n",
        "flows/y.yaml": "sequence:\n- echo\npolicies:\n  hitl:\n  - when: before\n",
        "flows/asleep.yaml": "sequence: [writer]\n",
    }  # fmt: skip
    async with serving(sqlite_url, agents_dir=str(lay(tmp_path, files))) as service:
        items = await listed(service)
        errors = {name: item["error"] for name, item in items.items() if item["error"]}
        assert {name: (error["code"], error["line"]) for name, error in errors.items()} == {
            "flows/x.yaml": ("plan_invalid", 3), "flows/y.yaml": ("plan_invalid", 5),
        }  # fmt: skip
        assert "/policies/hitl/0/id" in errors["flows/y.yaml"]["message"]
        asleep = items["flows/asleep.yaml"]
        assert (asleep["status"], "FLEX_MODEL" in asleep["reason"]) == ("inactive", True)


# --- the setting ---


@pytest.mark.parametrize("which", ["missing", "file"])
def test_a_folder_that_is_none_stops_the_start(tmp_path: Path, which: str) -> None:
    """R2: a folder that is not there is a mistake of the settings, not an empty one."""
    (tmp_path / "file").write_text("x")
    with pytest.raises(ValueError, match="no such folder"):
        Settings(agents_dir=str(tmp_path / which))


async def test_run_finds_the_flows_of_the_folder(database_url: str, tmp_path: Path) -> None:
    """R1: ``POST /run`` takes a file's flow by its id, and the folder's default when it names none."""
    files = {
        "echo.py": ECHO,
        "flows/shout.yaml": f"description: Shouts\n{TEXT}sequence: [echo]\n",
        "flows/default.yaml": f"description: What runs by itself\n{TEXT}sequence: [echo]\n",
    }
    async with serving(database_url, agents_dir=str(lay(tmp_path, files))) as service:
        for given in ({"flow": "shout"}, {}, {"flow": "default"}):
            answer = await service.client.post("/run", json={**given, "input": {"text": "hello"}})
            assert (answer.status_code, answer.json()["result"]) == (200, "HELLO"), answer.text
        missing = await service.client.post("/run", json={"flow": "whisper", "input": {"text": "hello"}})
        assert (missing.status_code, missing.json()["code"]) == (404, "flow_not_found")


async def test_a_group_waits_for_what_its_agents_wait_for(database_url: str, tmp_path: Path, script: Script) -> None:
    """R1, R2: nothing is executed before the documents are there; then the group goes on by itself and reads them."""
    files = {
        "writer.md": WRITER.replace("id: writer", "id: writer\nwait_for: [brief, terms]"),
        "flows/write.yaml": f"description: Writes\n{TEXT}sequence: [writer]\n",
    }
    script.will(says("A line."))
    folder = str(lay(tmp_path, files))
    async with serving(database_url, agents_dir=folder, **script.settings) as service:
        body = {"flow": "write", "input": {"text": "x"}, "story_id": "spring"}
        answer = await service.client.post("/run", json=body)
        assert (answer.status_code, answer.json()["pending_docs"]) == (200, ["brief", "terms"]), answer.text
        assert script.told() == []
        for name in ("terms", "brief"):
            put = await service.client.put(
                f"/api/v1/stories/spring/documents/{name}", content=f"The {name}.",
                headers={"Content-Type": "text/plain"},
            )  # fmt: skip
            assert put.status_code == 201
        frames = await service.follow(answer.json()["run_id"])
        assert outcome(frames) == "A line."
        assert "The brief." in str(script.told())
