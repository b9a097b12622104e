"""``flex agents`` shows what the folder holds and what is wrong with it (R2)."""

from pathlib import Path

from tests.agents.folders import ECHO, lay
from tests.cli.conftest import Flex


def test_the_folder_is_shown_and_a_broken_file_is_an_exit_code(flex: Flex, tmp_path: Path) -> None:
    """R2: the file, its line and why, for people and for programs."""
    folder = lay(tmp_path / "agents", {"echo.py": ECHO, "bad.md": "---\nid: bad\ncolour: red\n---\nx"})
    env = {"FLEX_AGENTS_DIR": str(folder)}
    shown = flex("agents", env=env)
    assert shown.code == 1
    assert "bad.md:3" in shown.out
    assert "bad_front_matter" in shown.out
    items = flex("agents", "--json", env=env).json["items"]
    assert [(item["agent_id"], item["status"]) for item in items] == [(None, "broken"), ("echo", "loaded")]
    (folder / "bad.md").unlink()
    assert flex("agents", env=env).code == 0
    assert "no such folder" in flex("agents", env={"FLEX_AGENTS_DIR": str(folder / "none")}).err


def test_a_service_is_asked_for_its_agents(flex: Flex, served: str) -> None:
    assert flex("agents", "--json", "--url", served).json == {"items": []}
