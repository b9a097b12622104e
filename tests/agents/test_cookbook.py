"""Flows as PocketFlow's public cookbook writes them run as capabilities, as they are, off the event loop (R2)."""

import asyncio
import threading
from pathlib import Path
from typing import Any

import pytest

from capabilities.threads import MAX_THREADS
from tests.agents.folders import ECHO, SLOW, lay, listed, module_of, run_flow, start_flow
from tests.agents.test_agents import outcome
from tests.spine.running import serving

COOKBOOK = Path(__file__).parent / "cookbook"
DISHES: list[tuple[str, dict[str, Any], Any]] = [
    ("researcher", {"question": "river and town"}, "The Aare is 288 km long. Thun lies on the Aare."),
    ("article", {"topic": "rain"}, "What rain is! Why rain matters!"),
    ("translator", {"languages": ["de", "it"]}, {"de": "Guten Morgen", "it": "Buongiorno"}),
    ("parallel_translator", {"languages": ["de", "fr", "it"]}, ["DE", "FR", "IT"]),
    ("screener", {"applications": {"ana": 5, "ben": 1}}, {"fit": ["ana"], "share": 0.5}),
    (
        "librarian",
        {"texts": ["Cats sleep all day", "Dogs bark at night"], "question": "when do dogs bark"},
        "It says: Dogs bark at night",
    ),
    ("supervised", {"question": "what is it"}, "It is 42"),
]


def group(agent: str, inputs: dict[str, Any]) -> str:
    """A flow of one agent that requires these inputs."""
    return f"inputs: {{type: object, required: [{', '.join(inputs)}]}}\nsequence: [{agent}]\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The cookbook as an agents folder, with a flow for each dish."""
    dishes = {path.name: path.read_text() for path in COOKBOOK.glob("[a-z]*.py")}
    flows = {f"flows/{name}.yaml": group(name, inputs) for name, inputs, _ in DISHES}
    flows["flows/reviewed.yaml"] = group("reviewed", {"subject": ""})
    return lay(tmp_path / "agents", dishes | flows)


async def test_every_dish_of_the_cookbook(database_url: str, folder: Path) -> None:
    """R2: agent, workflow, batch, parallel batch, map-reduce, retrieval, supervisor; each run starts fresh."""
    async with serving(database_url, agents_dir=str(folder)) as service:
        assert {item["status"] for item in (await listed(service)).values()} == {"loaded"}
        for _ in range(2):
            for name, inputs, expected in DISHES:
                assert outcome(await run_flow(service, name, inputs=inputs)) == expected, name


async def test_a_synchronous_agent_never_blocks_the_service(database_url: str, tmp_path: Path) -> None:
    """R2 (trap): twenty runs hang in a synchronous node; everybody else is served, and no thread is one too many."""
    lay(tmp_path, {"slow.py": SLOW, "echo.py": ECHO, "flows/slow.yaml": "sequence: [slow]\n"})
    lay(tmp_path, {"flows/shout.yaml": group("echo", {"text": ""})})
    async with serving(database_url, agents_dir=str(tmp_path)) as service:
        module = module_of(service, "agent.slow")
        runs = [await start_flow(service, "slow") for _ in range(20)]
        assert await asyncio.to_thread(module["BEGAN"].wait, 10)
        assert outcome(await run_flow(service, "shout", inputs={"text": "hi"})) == "HI"
        named = [thread for thread in threading.enumerate() if thread.name == "flex-agent.slow"]
        assert len(named) <= MAX_THREADS
        module["OPEN"].set()
        for run_id in runs:
            assert outcome(await service.follow(run_id)) == "first"


async def test_human_review(database_url: str, folder: Path) -> None:
    """R2, H1, H2: the flow waits without holding anything, goes back or on as people say, and repeats nothing.

    langgraph#7780: elsewhere a node's body runs again from the top after every pause.
    """
    async with serving(database_url, agents_dir=str(folder)) as service:
        run_id = await start_flow(service, "reviewed", inputs={"subject": "Rain"})
        async with service.watch(run_id) as reader:
            first = (await reader.until("hitl_request")).payload["prompt"]
            assert first["question"] == "Publish Rain (1)?"
            await service.decided(first, "choose", answer="no")
            second = (await reader.until("hitl_request")).payload["prompt"]
            assert second["question"] == "Publish Rain (2)?"
            await service.decided(second, "choose", answer="yes")
            frames = await reader.rest()
        assert outcome(frames) == {"published": "Rain (2)", "drafts": 2}


async def test_human_review_by_policy(database_url: str, folder: Path) -> None:
    """R2, H2: a flow that knows nothing of people is reviewed where a policy says so; what they write is its output."""
    policy = "policies: {hitl: [{id: look, when: after, selector: {node_id: article}}]}\n"
    lay(folder, {"flows/checked.yaml": policy + group("article", {"topic": ""})})
    async with serving(database_url, agents_dir=str(folder)) as service:
        run_id = await start_flow(service, "checked", inputs={"topic": "rain"})
        prompt = (await service.asked(run_id))[0]
        assert prompt["proposed"] == "What rain is! Why rain matters!"
        await service.decided(prompt, "edit", answer="Rain matters.")
        assert outcome(await service.follow(run_id)) == "Rain matters."
