"""Markdown agents that wait for documents, in plans that are no groups (R1, R2)."""

from pathlib import Path

import pytest

from tests.agents.folders import lay
from tests.agents.test_agents import call_agent
from tests.model.scripted import Script, pretty, says
from tests.spine.running import envelope, plan, serving


@pytest.mark.parametrize("who", ["planner", "caller"])
async def test_an_agent_waits_for_its_documents(sqlite_url: str, tmp_path: Path, script: Script, who: str) -> None:
    """R1, R2: whoever plans, a run that calls it begins when the documents of its story are there."""
    script.will(says('"A dull day."'))
    mood = "from capabilities import facet\n\nMOOD = facet('mood_of_day', {'type': 'string'})\n"
    agent = "---\nid: mood\nproduces: mood_of_day\nwait_for: [style, brief]\n---\nName the mood."
    lay(tmp_path, {"facets.py": mood, "mood.md": agent})
    wanted = {"type": "object", "required": ["mood_of_day"], "properties": {"mood_of_day": {"type": "string"}}}
    bodies = {"planner": envelope(schema=wanted), "caller": envelope(plan(call_agent("m", "mood")))}
    body = bodies[who]
    async with serving(sqlite_url, agents_dir=str(tmp_path), **script.settings) as service:
        refused = await service.client.post("/api/v1/runs", json=body)
        assert [(item["pointer"], item["code"]) for item in refused.json()["errors"]] == [
            ("/context/story_id", "required")
        ]  # fmt: skip
        run_id = await service.start({**body, "context": {"story_id": "spring", "documents": ["brief"]}})
        detail = await service.detail(run_id)
        assert (detail["status"], detail["waiting_on"], script.told()) == ("waiting", ["documents"], [])
        for name in ("brief", "style"):
            url = f"/api/v1/stories/spring/documents/{name}"
            answer = await service.client.put(url, content=f"The {name}.", headers={"Content-Type": "text/plain"})
            assert answer.status_code in (200, 201), answer.text
        assert (await service.follow(run_id))[-1].type == "complete"
        assert "The style." in pretty(script.told()[0])
