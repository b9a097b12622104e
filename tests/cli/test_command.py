"""The command line from outside: real processes, on a database of their own and against a running service."""

import json
import os
import pty
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import FLEX, Flex, environment

POST: dict[str, Any] = {
    "objective": "Two LinkedIn post variants on new jobs",
    "inputs": {"channel": "linkedin", "audience": "bakers", "tone": "warm"},
    "context": {"bundles": [{"type": "company_profile", "payload": {"name": "Harbor Bakery"}}]},
    "policies": {"planner": {"topology": {"variant_count": 2}}},
    "output_contract": {
        "schema": {
            "type": "object",
            "required": ["variants"],
            "properties": {
                "variants": {
                    "type": "array",
                    "minItems": 2,
                    "maxItems": 2,
                    "items": {
                        "type": "object",
                        "required": ["headline", "body", "callToAction"],
                        "properties": {
                            "headline": {"type": "string"},
                            "body": {"type": "string", "minLength": 20},
                            "callToAction": {"type": "string"},
                        },
                    },
                }
            },
        }
    },
}
GATED = {**POST, "policies": {**POST["policies"], "requires_hitl_approval": True}}
UNSERVED = {**POST, "context": {}}


@pytest.fixture
def envelope(tmp_path: Path) -> Any:
    def write(value: Any) -> str:
        path = tmp_path / "envelope.json"
        path.write_text(json.dumps(value))
        return str(path)

    return write


def test_help_is_quick_and_needs_nothing(flex: Flex) -> None:
    """Nothing heavy is imported to print a page of help."""
    started = time.monotonic()
    ended = flex("--help")
    assert ended.code == 0
    assert time.monotonic() - started < 2
    assert all(noun in ended.out for noun in ("serve", "run", "runs", "prompts", "plan", "db", "capabilities"))
    names = "{'pydantic', 'sqlalchemy', 'starlette', 'httpx2', 'jsonschema'}"
    heavy = f"import sys, app.cli; print(*(sys.modules.keys() & {names}))"
    loaded = subprocess.run([FLEX[0], "-c", heavy], env=environment("x"), capture_output=True, text=True, check=True)
    assert loaded.stdout.strip() == ""


@pytest.mark.usefixtures("database_url")
def test_run_prints_the_answer_alone_and_the_timeline_beside_it(flex: Flex, envelope: Any) -> None:
    """F1, F7: an envelope in, the validated answer out; T1: the run is recorded."""
    ended = flex("run", envelope(POST))
    assert ended.code == 0, ended.err
    assert len(ended.json["variants"]) == 2
    assert "copy.template" in ended.err
    assert "complete in" in ended.err
    page = flex("runs", "list", "--json").json
    assert [item["status"] for item in page["items"]] == ["completed"]
    shown = flex("runs", "show", page["items"][0]["run_id"])
    assert (shown.code, json.loads(shown.out[shown.out.index("\n{") :])) == (0, ended.json)


def test_json_is_frames_and_nothing_else(flex: Flex) -> None:
    """For machines; the envelope may come from stdin."""
    ended = flex("run", "-", "--json", given=json.dumps(POST))
    frames = [json.loads(line) for line in ended.out.splitlines()]
    assert (ended.code, ended.err) == (0, "")
    assert [frame["id"] for frame in frames] == list(range(1, len(frames) + 1))
    assert (frames[0]["type"], frames[-1]["type"]) == ("start", "complete")


def test_the_same_key_is_the_same_run(flex: Flex, envelope: Any) -> None:
    """F2."""
    first, second = (flex("run", envelope(POST), "--key", "k1") for _ in range(2))
    assert first.out == second.out
    assert len(flex("runs", "list", "--json").json["items"]) == 1
    changed = flex("run", envelope({**POST, "objective": "Another"}), "--key", "k1")
    assert (changed.code, "idempotency_key_reused" in changed.err) == (2, True)


def test_no_plan_ends_with_what_to_do(flex: Flex, envelope: Any) -> None:
    """F4, R9: the missing facet by its name, and every way on."""
    for command in ("run", "plan"):
        ended = flex(command, envelope(UNSERVED))
        assert (ended.code, ended.out) == (1, "")
        assert all(part in ended.err for part in ("company_profile", "last_resort", "--capabilities"))


def test_plan_shows_the_graph_and_its_reasons(flex: Flex, envelope: Any) -> None:
    """F4: nothing is executed, nothing is stored."""
    ended = flex("plan", envelope(GATED))
    assert ended.code == 0, ended.err
    assert all(
        part in ended.out for part in ("copy.template", "because:", "goal /variants", "answer /variants", "estimate:")
    )
    assert flex("plan", envelope(GATED), "--json").json["plan"]["nodes"][0]["kind"]
    assert flex("runs", "list", "--json").json["items"] == []


@pytest.mark.parametrize(
    ("arguments", "part"),
    [
        (("run", "missing.json"), "missing.json cannot be read"),
        (("run", "-"), "stdin is not JSON"),
        (("capabilities", "--database-url", "mysql://x"), "FLEX_DATABASE_URL"),
        (("runs", "show", "run_none"), "run_not_found"),
        (("runs", "tail", "run_none"), "run_not_found"),
        (("runs", "cancel", "run_none"), "run_not_found"),
        (("runs", "pause", "run_none"), "run_not_found"),
        (("runs", "resume", "run_none"), "run_not_found"),
        (("prompts", "decide", "prm_none", "approve"), "prompt_not_found"),
        (("prompts", "decide", "prm_none"), "prompt_not_found"),
        (("prompts", "decide", "prm_none", "edit", "--answer-json", "{"), "--answer-json is not JSON"),
        (("prompts", "decide", "prm_none", "edit", "--answer", "a", "--answer-json", "1"), "Give the answer once"),
        (("prompts", "decide", "prm_none", "--answer-json", "1"), "An answer needs its action"),
        (("prompts", "list", "--view", "theirs"), "view"),
        (("runs", "list", "--status", "sleeping"), "status"),
        (("serve", "--host", "0.0.0.0"), "FLEX_INSECURE_BIND"),  # noqa: S104 - refused
        (("serve", "--capabilities", "missing.py"), "missing.py"),
        (("run",), "Missing argument"),
    ],
)
def test_what_cannot_be_done_is_said_in_a_sentence(flex: Flex, arguments: tuple[str, ...], part: str) -> None:
    """P3, F8: exit code 2 and no traceback."""
    ended = flex(*arguments, given="nonsense")
    assert (ended.code, ended.out) == (2, ""), ended.err
    assert part in ended.err


def test_a_capability_file_that_does_not_load_is_said_in_a_sentence(flex: Flex, tmp_path: Path) -> None:
    """F15."""
    (tmp_path / "broken.py").write_text("import nothing_there")
    for command in (("capabilities",), ("serve", "--port", "0")):
        ended = flex(*command, "--capabilities", "broken.py")
        assert (ended.code, "broken.py:1" in ended.err) == (2, True), ended.err


def test_a_database_that_does_not_answer_is_no_fault_of_the_caller(flex: Flex) -> None:
    """H7: an error, never an empty list; exit code 1."""
    away = {"FLEX_DATABASE_URL": "postgresql+asyncpg://u:p@127.0.0.1:9/x"}
    for command in (("prompts", "list"), ("db", "upgrade"), ("serve", "--port", "0")):
        ended = flex(*command, env=away)
        assert (ended.code, ended.out, "did not answer" in ended.err) == (1, "", True), ended.err


def test_an_envelope_is_refused_with_the_place_of_the_fault(flex: Flex, envelope: Any) -> None:
    """F1, F2."""
    ended = flex("run", envelope({**POST, "polices": {}}))
    assert ended.code == 2
    assert "/polices: Unknown; policies?" in ended.err
    assert flex("runs", "list", "--json").json["items"] == []


@pytest.mark.usefixtures("database_url")
def test_a_run_waits_for_a_decision_made_elsewhere_and_goes_on_with_the_next_process(flex: Flex, envelope: Any) -> None:
    """H1: three processes: one asks and leaves, one decides, one goes on. Exit code 3 in between."""
    waiting = flex("run", envelope(GATED), "--key", "k")
    assert (waiting.code, waiting.out) == (3, "")
    (prompt,) = flex("prompts", "list", "--json").json["items"]
    assert f"flex prompts decide {prompt['prompt_id']} approve" in waiting.err
    assert flex("prompts", "decide", prompt["prompt_id"]).code == 2  # nobody is at the terminal
    decided = flex("prompts", "decide", prompt["prompt_id"], "approve", "--comment", "good")
    assert decided.code == 0, decided.err
    again = flex("prompts", "decide", prompt["prompt_id"], "approve", "--json").json
    assert (again["decision"]["channel"], again["decision"]["comment"]) == ("cli", "good")
    ended = flex("run", envelope(GATED), "--key", "k")
    assert ended.code == 0, ended.err
    assert ended.json == prompt["proposed"]


def test_a_rejection_fails_the_run(flex: Flex, envelope: Any) -> None:
    """H4: never continues as an approval."""
    flex("run", envelope(GATED), "--key", "k")
    (prompt,) = flex("prompts", "list", "--json").json["items"]
    flex("prompts", "decide", prompt["prompt_id"], "reject", "--comment", "too loud")
    ended = flex("run", envelope(GATED), "--key", "k")
    assert (ended.code, ended.out) == (1, "")
    assert "too loud" in ended.err


@pytest.mark.usefixtures("database_url")
def test_against_a_service_everything_is_the_same(flex: Flex, envelope: Any, served: str) -> None:
    """House rule 2: the same answer through HTTP."""
    at = ("--url", served)
    assert flex("run", envelope(POST), *at).json["variants"]
    waiting = flex("run", envelope(GATED), *at)
    assert waiting.code == 3
    assert f"curl -X POST {served}/api/v1/prompts/" in waiting.err
    (prompt,) = flex("prompts", "list", "--json", *at).json["items"]
    edited = json.dumps(prompt["proposed"])
    refused = flex("prompts", "decide", prompt["prompt_id"], "edit", "--answer-json", '{"variants": []}', *at)
    assert (refused.code, "/answer/variants" in refused.err) == (2, True)
    assert flex("prompts", "decide", prompt["prompt_id"], "edit", "--answer-json", edited, *at).code == 0
    tail = flex("runs", "tail", prompt["run_id"], *at)
    assert (tail.code, tail.json) == (0, prompt["proposed"])
    assert flex("runs", "list", *at).out.count("completed") == 2
    assert "copy.template" in flex("capabilities", *at).out
    assert "copy.template" in flex("plan", envelope(POST), *at).out
    late = flex("runs", "cancel", prompt["run_id"], *at)
    assert (late.code, "invalid_run_state" in late.err) == (2, True)


@pytest.mark.usefixtures("database_url")
def test_a_decision_in_the_database_is_seen_by_the_running_service(flex: Flex, envelope: Any, served: str) -> None:
    """Design §1.1: a signal is a row; whoever carries out the run finds it."""
    flex("run", envelope(GATED), "--url", served)
    (prompt,) = flex("prompts", "list", "--json").json["items"]
    assert flex("prompts", "decide", prompt["prompt_id"], "approve").code == 0
    decided = time.monotonic()
    assert flex("runs", "tail", prompt["run_id"], "--url", served).code == 0
    # Far below a lease: the process that decided must not have taken the run with it.
    assert time.monotonic() - decided < 6


def test_a_cancelled_run_ends_with_its_own_code(flex: Flex, envelope: Any, served: str) -> None:
    """F7: cancelled is not failed."""
    flex("run", envelope(GATED), "--url", served)
    (prompt,) = flex("prompts", "list", "--json").json["items"]
    assert flex("runs", "cancel", prompt["run_id"], "--reason", "enough", "--url", served).code == 0
    tail = flex("runs", "tail", prompt["run_id"], "--url", served)
    assert (tail.code, "enough" in tail.err) == (4, True)


def test_a_run_is_held_and_goes_on(flex: Flex, envelope: Any, served: str) -> None:
    """F6: pause and resume say what the run waits for now; who resumes what is not paused is told so."""
    at = ("--url", served)
    flex("run", envelope(GATED), *at)
    (prompt,) = flex("prompts", "list", "--json").json["items"]
    paused = flex("runs", "pause", prompt["run_id"], "--reason", "lunch", *at)
    assert (paused.code, f"{prompt['run_id']}: waiting for hitl, paused" in paused.err) == (0, True)
    assert flex("runs", "resume", prompt["run_id"], "--json", *at).json["waiting_on"] == ["hitl"]
    again = flex("runs", "resume", prompt["run_id"], *at)
    assert (again.code, "invalid_run_state" in again.err) == (2, True)


def test_a_person_at_a_terminal_decides(envelope: Any, url: str, tmp_path: Path) -> None:
    """H2: the question, what is proposed, the decision and the answer, on one terminal."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*FLEX, "run", envelope(GATED)], stdin=slave, stdout=subprocess.PIPE, stderr=slave,
        env=environment(url, TERM="xterm", NO_COLOR="1"), cwd=tmp_path,
    )  # fmt: skip
    os.close(slave)
    said = b""
    while b"or later: " not in said:
        said += os.read(master, 4_096)
    os.write(master, b"approve\n")
    assert process.stdout is not None
    out = process.stdout.read()
    process.stdout.close()
    assert process.wait(30) == 0
    os.close(master)
    assert b"Approve this output?" in said
    assert len(json.loads(out)["variants"]) == 2


def test_an_interrupted_command_ends_with_130_and_its_run_goes_on_later(flex: Flex, envelope: Any, url: str) -> None:
    """Documented in docs/cli.md; nothing is lost."""
    process = subprocess.Popen(
        [*FLEX, "run", envelope(GATED), "--key", "k", "--wait"], stderr=subprocess.PIPE, env=environment(url), text=True
    )
    assert process.stderr is not None
    while "waiting for people" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(signal.SIGINT)
    rest = process.stderr.read()
    process.stderr.close()
    assert (process.wait(30), "Traceback" in rest) == (130, False), rest
    (prompt,) = flex("prompts", "list", "--json").json["items"]
    assert flex("prompts", "decide", prompt["prompt_id"], "approve").code == 0
    assert flex("run", envelope(GATED), "--key", "k").code == 0


@pytest.mark.usefixtures("database_url")
def test_upgrade_and_capabilities_work_on_any_database(flex: Flex) -> None:
    """P1: twice is once."""
    for _ in range(2):
        assert flex("db", "upgrade").code == 0
    items = flex("capabilities", "--json").json["items"]
    assert "copy.template" in {item["capability_id"] for item in items}
    table = flex("capabilities").out
    assert "no: " in table or all(item["active"] for item in items)
