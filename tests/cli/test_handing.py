"""Claiming, delegating and withdrawing at the command line, on a database and against a service (H7)."""

import json
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import Flex

ASKING: dict[str, Any] = {
    "objective": "Ask",
    "output_contract": {"schema": True},
    "workflow": {
        "plan": {
            "nodes": [{"node_id": "q", "kind": "ask", "prompt": {"question": "Send it?"}}],
            "edges": [],
            "output": {"mode": "map", "map": {"": {"node_id": "q", "pointer": ""}}},
        }
    },
}


@pytest.fixture
def asked(flex: Flex, tmp_path: Path) -> str:
    """The prompt of a run that waits."""
    path = tmp_path / "envelope.json"
    path.write_text(json.dumps(ASKING))
    assert flex("run", str(path), "--key", "k").code == 3
    (prompt,) = flex("prompts", "list", "--json").json["items"]
    return str(prompt["prompt_id"])


def test_on_a_database(flex: Flex, asked: str) -> None:
    """H7: who passed their say on has none any more, also here."""
    assert "claimed by user:local" in flex("prompts", "claim", asked).err
    passed = flex("prompts", "delegate", asked, "user:ben", "--comment", "On leave.", "--json").json
    assert (passed["claimed_by"], [each["to"] for each in passed["delegations"]]) == ("user:ben", ["user:ben"])
    refused = flex("prompts", "decide", asked, "answer", "--answer-json", "1")
    assert (refused.code, "not_assigned" in refused.err) == (2, True)


def test_against_a_service(flex: Flex, asked: str, served: str) -> None:
    """H7, house rule 2: the same through HTTP; the question taken back fails its run."""
    at = ("--url", served)
    assert flex("prompts", "claim", asked, "--json", *at).json["claimed_by"] == "user:local"
    assert flex("prompts", "claim", asked, "--release", "--json", *at).json["claimed_by"] is None
    said = flex("prompts", "withdraw", asked, "--comment", "Asked too early.", *at)
    assert "is withdrawn, claimed by nobody" in said.err
    refused = flex("prompts", "delegate", asked, "user:ben", *at)
    assert (refused.code, "prompt_settled" in refused.err) == (2, True)
    run_id = flex("prompts", "list", "--view", "done", "--json", *at).json["items"][0]["run_id"]
    tail = flex("runs", "tail", run_id, *at)
    assert (tail.code, "prompt_withdrawn" in tail.err) == (1, True)
