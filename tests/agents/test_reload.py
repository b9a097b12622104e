"""Files that change while the service runs: taken over, or told and left as they were (R2)."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from tests.agents.folders import ECHO, SLOW, WRITER, lay, listed, module_of, run_flow, start_flow
from tests.agents.test_agents import TEXT, outcome
from tests.model.scripted import Script, pretty, says
from tests.spine.running import serving

GROUP = f"{TEXT}sequence: [echo]\n"


async def become(condition: Callable[[], Awaitable[bool]]) -> None:
    """Wait for something that the service does by itself."""
    async with asyncio.timeout(10):
        while not await condition():
            pass


async def test_files_are_read_at_start_and_not_again(sqlite_url: str, tmp_path: Path) -> None:
    """R2 (trap): never per request; without FLEX_AGENTS_RELOAD a changed file waits for the next start."""
    counted = f"{ECHO}\nwith open(__file__.replace('echo.py', 'runs.txt'), 'a') as file:\n    file.write('x')\n"
    lay(tmp_path, {"echo.py": counted, "flows/shout.yaml": GROUP})
    async with serving(sqlite_url, agents_dir=str(tmp_path)) as service:
        (tmp_path / "echo.py").write_text("raise ValueError")
        (tmp_path / "flows" / "shout.yaml").write_text("nonsense")
        for _ in range(3):
            assert outcome(await run_flow(service, "shout", inputs={"text": "a"})) == "A"
            assert (await listed(service))["echo.py"]["status"] == "loaded"
    assert (tmp_path / "runs.txt").read_text() == "x"


async def test_a_changed_file_is_taken_over_by_itself(sqlite_url: str, tmp_path: Path) -> None:
    """R2: with FLEX_AGENTS_RELOAD=1 the folder is looked at every second."""
    lay(tmp_path, {"echo.py": ECHO, "flows/shout.yaml": GROUP})
    async with serving(sqlite_url, agents_dir=str(tmp_path), agents_reload=True) as service:
        assert outcome(await run_flow(service, "shout", inputs={"text": "Hi"})) == "HI"
        lay(tmp_path, {"echo.py": ECHO.replace("upper", "lower")})

        async def lower() -> bool:
            return bool(outcome(await run_flow(service, "shout", inputs={"text": "Hi"})) == "hi")

        await become(lower)


async def test_new_and_removed_files(database_url: str, tmp_path: Path) -> None:
    """R2: what comes is there at the next look, what goes is gone, and groups follow."""
    lay(tmp_path, {"echo.py": ECHO, "flows/shout.yaml": GROUP})
    async with serving(database_url, agents_dir=str(tmp_path)) as service:
        agents = service.flex.doors.agents
        assert not await agents.look()
        lay(tmp_path, {"other.py": ECHO, "flows/both.yaml": f"{TEXT}parallel: [echo, other]\n"})
        assert await agents.look()
        assert outcome(await run_flow(service, "both", inputs={"text": "a"})) == {"echo": "A", "other": "A"}
        (tmp_path / "other.py").unlink()
        assert await agents.look()
        items = await listed(service)
        assert "other.py" not in items
        assert (items["flows/both.yaml"]["error"]["code"], items["flows/shout.yaml"]["status"]) == (
            "unknown_agent", "loaded",
        )  # fmt: skip
        answer = await service.client.get("/api/v1/capabilities", params={"limit": 100})
        assert "agent.other" not in [item["capability_id"] for item in answer.json()["items"]]
        assert (await service.client.post("/api/v1/flows/both/run", json={})).status_code == 404


async def test_a_broken_edit_keeps_the_last_good_version(sqlite_url: str, tmp_path: Path) -> None:
    """R2: of Python, Markdown and groups alike; the fault is told with its line until it is mended."""
    files = {"echo.py": ECHO, "writer.md": WRITER, "flows/shout.yaml": GROUP}
    broken = {"echo.py": "x = = 1\n", "flows/shout.yaml": "sequence: [no]\n"}
    broken["writer.md"] = "---\nid: writer\nx: 1\n---\ny"
    lay(tmp_path, files)
    async with serving(sqlite_url, agents_dir=str(tmp_path)) as service:
        agents = service.flex.doors.agents
        lay(tmp_path, broken)
        await agents.look()
        items = await listed(service)
        assert {name: item["status"] for name, item in items.items()} == {
            "echo.py": "loaded", "writer.md": "inactive", "flows/shout.yaml": "loaded",
        }  # fmt: skip
        assert {name: item["error"]["line"] for name, item in items.items()} == {
            "echo.py": 1, "writer.md": 3, "flows/shout.yaml": 1,
        }  # fmt: skip
        assert outcome(await run_flow(service, "shout", inputs={"text": "a"})) == "A"
        lay(tmp_path, {"new.py": ECHO})
        await agents.look()
        assert outcome(await run_flow(service, "shout", inputs={"text": "b"})) == "B"
        lay(tmp_path, files)
        await agents.look()
        assert not [item for item in (await listed(service)).values() if item["error"]]


async def test_an_edit_that_takes_another_ones_id(sqlite_url: str, tmp_path: Path) -> None:
    """R2: an agent that was there keeps its id, and the one that came to it keeps its old one."""
    other = WRITER.replace("id: writer", "id: other")
    lay(tmp_path, {"a.md": WRITER, "b.md": other})
    async with serving(sqlite_url, agents_dir=str(tmp_path)) as service:
        lay(tmp_path, {"b.md": WRITER})
        await service.flex.doors.agents.look()
        items = await listed(service)
        assert (items["b.md"]["agent_id"], items["b.md"]["error"]["code"]) == ("other", "duplicate_id")


async def test_attempts_under_way_end_with_what_they_began_with(database_url: str, tmp_path: Path) -> None:
    """R2: a run that is at work when its agent changes gets the answer of the agent that it called."""
    lay(tmp_path, {"slow.py": SLOW, "flows/go.yaml": "sequence: [slow]\n"})
    async with serving(database_url, agents_dir=str(tmp_path)) as service:
        module = module_of(service, "agent.slow")
        run_id = await start_flow(service, "go")
        assert await asyncio.to_thread(module["BEGAN"].wait, 10)
        lay(tmp_path, {"slow.py": ECHO.replace('shared["text"]', '"second"').replace("said", "result")})
        assert await service.flex.doors.agents.look()
        assert outcome(await run_flow(service, "go")) == "SECOND"
        module["OPEN"].set()
        assert outcome(await service.follow(run_id)) == "first"


async def test_a_run_that_waits_goes_on_with_the_agent_there_is(database_url: str, tmp_path: Path) -> None:
    """R2, F10: a plan names its agents; one that is gone is asked about, and called when it is back."""
    gate = "policies: {hitl: [{id: g, when: before, selector: {node_id: echo}}]}\n"
    lay(tmp_path, {"echo.py": ECHO, "flows/asked.yaml": gate + GROUP})
    async with serving(database_url, agents_dir=str(tmp_path)) as service:
        run_id = await start_flow(service, "asked", inputs={"text": "Hi"})
        prompt = (await service.asked(run_id))[0]
        (tmp_path / "echo.py").unlink()
        await service.flex.doors.agents.look()
        await service.decided(prompt, "approve")
        async with service.watch(run_id) as reader:
            await reader.until("hitl_request")
            gone = (await reader.until("hitl_request")).payload["prompt"]
        assert "agent.echo 1.0.0 is not available" in gone["question"]
        lay(tmp_path, {"echo.py": ECHO})
        await service.flex.doors.agents.look()
        await service.decided(gone, "choose", answer="retry")
        assert outcome(await service.follow(run_id)) == "HI"


@pytest.mark.parametrize("gone", ["folder", "files"])
async def test_a_folder_that_goes_away(sqlite_url: str, tmp_path: Path, gone: str) -> None:
    """R2: a folder that cannot be read changes nothing; an empty one is empty."""
    folder = lay(tmp_path / "agents", {"echo.py": ECHO})
    async with serving(sqlite_url, agents_dir=str(folder)) as service:
        (folder / "echo.py").unlink()
        if gone == "folder":
            folder.rmdir()
            with pytest.raises(OSError, match="No such file"):
                await service.flex.doors.agents.look()
            assert (await listed(service))["echo.py"]["status"] == "loaded"
        else:
            await service.flex.doors.agents.look()
            assert await listed(service) == {}


async def test_an_approval_does_not_hold_for_an_edited_agent(sqlite_url: str, tmp_path: Path, script: Script) -> None:
    """H5: who approved a call approved these instructions; after an edit the gate asks again.

    pydantic-ai#6968: elsewhere what is executed is not what was approved.
    """
    script.will(says("Good evening"))
    gate = "policies: {hitl: [{id: g, when: before, selector: {node_id: writer}}]}\n"
    lay(tmp_path, {"writer.md": WRITER, "flows/asked.yaml": f"{gate}sequence: [writer]\n"})
    async with serving(sqlite_url, agents_dir=str(tmp_path), **script.settings) as service:
        run_id = await start_flow(service, "asked")
        first = (await service.asked(run_id))[0]
        lay(tmp_path, {"writer.md": WRITER.replace("one line", "a whole page")})
        await service.flex.doors.agents.look()
        await service.decided(first, "approve")
        async with service.watch(run_id) as reader:
            await reader.until("hitl_request")
            again = (await reader.until("hitl_request")).payload["prompt"]
            assert again["prompt_id"] != first["prompt_id"]
            assert script.told() == []
            await service.decided(again, "approve")
            assert outcome(await reader.rest()) == "Good evening"
        assert "a whole page" in pretty(script.told()[0])
