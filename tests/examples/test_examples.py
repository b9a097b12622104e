"""Every example runs and ends as its README says (W8)."""

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from contracts.schema import compile_schema

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
FLEX = [sys.executable, "-c", "from app.cli import main; main()"]
SECONDS = 80


def environment(**more: str) -> dict[str, str]:
    ours = ("FLEX_", "COVERAGE_", "KEEP")
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "PYTHONPATH": str(ROOT), "NO_PROXY": "127.0.0.1", **more}


def started(*command: str, cwd: Path, env: dict[str, str]) -> subprocess.Popen[str]:
    return subprocess.Popen(
        command, cwd=cwd, env=env, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )


def flex(*arguments: str, url: str, expect: int = 0) -> str:
    done = subprocess.run(
        [*FLEX, *arguments, "--database-url", url],
        env=environment(), cwd=ROOT, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=SECONDS,
        check=False,
    )  # fmt: skip
    assert done.returncode == expect, done.stderr
    return done.stdout


def ran(*arguments: str, url: str, expect: int = 0) -> list[dict[str, Any]]:
    """The frames of `flex run --json`."""
    return [json.loads(line) for line in flex("run", *arguments, "--json", url=url, expect=expect).splitlines()]


def envelope(folder: str) -> Any:
    return json.loads((EXAMPLES / folder / "envelope.json").read_text(encoding="utf-8"))


def types(frames: list[dict[str, Any]]) -> list[str]:
    return [frame["type"] for frame in frames]


# --- what `make run` does ---


def test_make_run_ends_with_the_validated_output(tmp_path: Path) -> None:
    """F1, F7, H4: the frames go by, the prompt is decided on a second connection, the output satisfies the schema."""
    done = started(sys.executable, str(EXAMPLES / "run_main.py"), cwd=tmp_path, env=environment(TMPDIR=str(tmp_path)))
    out, _ = done.communicate(timeout=SECONDS)
    assert done.returncode == 0, out
    shown = re.findall(r"^ +(\d+)  (\w+)", out, re.MULTILINE)
    assert [int(number) for number, _ in shown] == list(range(1, 13))
    assert [kind for _, kind in shown] == [
        "start", "plan_requested", "plan_generated", "node_start", "node_complete", "node_start", "hitl_request",
        "run_waiting", "hitl_resolved", "run_resumed", "node_complete", "complete",
    ]  # fmt: skip
    answer = json.loads(re.findall(r"^\{.*?^\}", out, re.MULTILINE | re.DOTALL)[-1])
    assert compile_schema(envelope("linkedin")["output_contract"]["schema"]).is_valid(answer)
    assert "second connection" in out
    assert "exit code 0" in out
    assert "\x1b" not in out
    assert not list(tmp_path.iterdir())


def test_keep_leaves_the_service_until_it_is_interrupted(tmp_path: Path) -> None:
    """P5: KEEP=1 stays up, says where, and goes down in good order."""
    env = environment(TMPDIR=str(tmp_path), KEEP="1")
    # Whoever starts the tests in the background of a shell has Ctrl-C ignored, and so would this process.
    heeding = ("env", "--default-signal=INT")
    kept = started(*heeding, sys.executable, str(EXAMPLES / "run_main.py"), cwd=tmp_path, env=env)
    assert kept.stdout is not None
    said = ""
    for line in kept.stdout:
        said += line
        if "stays up at" in line:
            break
    kept.send_signal(signal.SIGINT)
    rest, _ = kept.communicate(timeout=SECONDS)
    assert kept.returncode == 130, said + rest
    assert "exit code 0" in rest
    assert "Traceback" not in rest
    assert not list(tmp_path.iterdir())


def test_make_run_fails_when_there_is_no_complete_frame(tmp_path: Path) -> None:
    """F7: a prompt that wants more than a yes is not approved away; the exit code says that nothing completed."""
    env = environment(TMPDIR=str(tmp_path), FLEX_MODEL="none", FLEX_MODEL_BASE_URL="http://127.0.0.1:9/v1")
    done = started(sys.executable, str(EXAMPLES / "run_main.py"), cwd=tmp_path, env=env)
    out, _ = done.communicate(timeout=SECONDS)
    assert done.returncode == 1, out
    assert "edit, reject" in out
    assert "exit code 0" in out


# --- the folders ---


def test_linkedin_waits_for_its_sign_off(sqlite_url: str) -> None:
    """H1, H5: the output is valid before anybody is asked, and the run waits as a row."""
    frames = ran("examples/linkedin/envelope.json", url=sqlite_url, expect=3)
    prompt = next(frame["payload"]["prompt"] for frame in frames if frame["type"] == "hitl_request")
    contract = envelope("linkedin")["output_contract"]["schema"]
    assert compile_schema(contract).is_valid(prompt["proposed"])
    assert types(frames)[-1] == "run_waiting"


def test_linkedin_without_a_profile_has_no_plan(sqlite_url: str, tmp_path: Path) -> None:
    """F4: take the bundle away, as the README invites, and the refusal names what is missing."""
    posted = envelope("linkedin")
    posted["context"]["bundles"] = []
    path = tmp_path / "envelope.json"
    path.write_text(json.dumps(posted), encoding="utf-8")
    frames = ran(str(path), url=sqlite_url, expect=1)
    rejected = next(frame["payload"] for frame in frames if frame["type"] == "plan_rejected")
    assert [found["code"] for found in rejected["findings"]] == ["missing_facet"]
    assert "company_profile" in rejected["findings"][0]["message"]
    assert frames[-1]["payload"]["code"] == "no_plan"


@pytest.mark.parametrize("history", ["repository", "none"])
def test_release_notes_are_written_from_a_history(history: str, tmp_path: Path) -> None:
    """F4: three steps that nobody wrote; without a checkout the shipped log is used, and said so."""
    if history == "repository":
        git = ["git", "-c", "user.name=Shop", "-c", "user.email=shop@harbor-bakery.example", "-C", str(tmp_path)]
        subprocess.run([*git, "init", "--quiet"], check=True)
        subprocess.run([*git, "commit", "--quiet", "--allow-empty", "-m", "feat: take orders by phone"], check=True)
    run = [sys.executable, str(EXAMPLES / "release_notes" / "run.py"), "--repo", str(tmp_path), "--version", "2.1.0"]
    # A checkout around the temporary directory is not this test's history.
    env = environment(GIT_CEILING_DIRECTORIES=str(tmp_path.parent))
    done = subprocess.run([*run, "--json"], env=env, capture_output=True, text=True, timeout=SECONDS, check=False)
    assert done.returncode == 0, done.stderr
    notes = json.loads(done.stdout)
    titles = [section["title"] for section in notes["sections"]]
    assert notes["version"] == "2.1.0"
    if history == "repository":
        assert notes["sections"] == [{"title": "Features", "items": ["Take orders by phone"]}]
    else:
        assert "using sample.log instead" in done.stderr
        assert titles == ["Breaking changes", "Features", "Fixes", "Performance", "Documentation"]


def test_contacts_are_sorted_and_one_side_is_skipped(sqlite_url: str) -> None:
    """F6: a map over the rows, a branch on what was found; one side runs, though both read the same data."""
    frames = ran("examples/contacts/envelope.json", url=sqlite_url)
    output = frames[-1]["payload"]["output"]
    assert [contact["name"] for contact in output["contacts"]] == ["Harbor Bakery", "Quay Coffee", "Lighthouse Inn"]
    assert [len(row["problems"]) for row in output["rejected"]] == [1, 2]
    assert output["verdict"] == "2 of 5 rows need a second look."
    began = [frame["node_id"] for frame in frames if frame["type"] == "node_start"]
    skipped = [(frame["node_id"], frame["payload"]["reason"]) for frame in frames if frame["type"] == "node_skipped"]
    assert {f"clean[{row}]" for row in range(5)} | {f"check[{row}]" for row in range(5)} <= set(began)
    assert skipped == [("praise", "condition_false")]
    assert "praise" not in began
    assert types(frames)[:2] == ["start", "plan_generated"]


def test_contacts_that_are_all_fine_take_the_other_side(sqlite_url: str, tmp_path: Path) -> None:
    """F6: the same plan, the other way."""
    posted = envelope("contacts")
    posted["inputs"]["csv_text"] = "name,email,phone,newsletter\nQuay Coffee,hello@quay-coffee.example,,no\n"
    path = tmp_path / "envelope.json"
    path.write_text(json.dumps(posted), encoding="utf-8")
    frames = ran(str(path), url=sqlite_url)
    assert frames[-1]["payload"]["output"]["verdict"] == "All 1 rows are fine."
    assert [frame["node_id"] for frame in frames if frame["type"] == "node_skipped"] == ["count"]


def test_the_contacts_of_the_envelope_are_those_of_the_file() -> None:
    text = (EXAMPLES / "contacts" / "contacts.csv").read_text(encoding="utf-8")
    assert envelope("contacts")["inputs"]["csv_text"] == text
    assert len(list(csv.reader(io.StringIO(text)))) == 6


def test_a_pocketflow_flow_is_planned_by_its_facet(sqlite_url: str) -> None:
    """R2: the flow is unmodified; nothing in the envelope names it."""
    files = ["examples/pocketflow/envelope.json", "--capabilities", "examples/pocketflow/capabilities.py"]
    frames = ran(*files, url=sqlite_url)
    report = frames[-1]["payload"]["output"]["reading"]
    assert (report["sentences"], report["verdict"]) == (3, "fair")
    assert "text.reading" not in json.dumps(envelope("pocketflow"))
    plain = (EXAMPLES / "pocketflow" / "flow.py").read_text(encoding="utf-8")
    assert not re.search(r"^(import|from) (capabilities|contracts|app)\b", plain, re.MULTILINE)


def test_a_form_is_filled_by_a_person(sqlite_url: str) -> None:
    """H2, H4: the form is the caller's schema, what breaks it is refused, and the answer is the run's output."""
    frames = ran("examples/intake_form/envelope.json", url=sqlite_url, expect=3)
    prompt = next(frame["payload"]["prompt"] for frame in frames if frame["type"] == "hitl_request")
    contract = envelope("intake_form")["output_contract"]["schema"]
    assert prompt["answer_schema"]["properties"] == contract["properties"]
    decide = ["prompts", "decide", prompt["prompt_id"], "answer"]
    flex(*decide, "--answer-json", '{"legal_name": "N"}', url=sqlite_url, expect=2)
    flex(*decide, "--answer", "examples/intake_form/answer.json", url=sqlite_url)
    answer = json.loads((EXAMPLES / "intake_form" / "answer.json").read_text(encoding="utf-8"))
    # Whatever carries out runs on this database next goes on with it.
    ran("examples/contacts/envelope.json", url=sqlite_url)
    ended = json.loads(flex("runs", "show", frames[0]["run_id"], "--json", url=sqlite_url))
    assert (ended["status"], ended["output"]) == ("completed", answer)


def test_a_form_that_nobody_may_fill_has_no_plan(sqlite_url: str, tmp_path: Path) -> None:
    """F4: without the policy the run ends with findings, goal by goal."""
    posted = envelope("intake_form")
    del posted["policies"]
    path = tmp_path / "envelope.json"
    path.write_text(json.dumps(posted), encoding="utf-8")
    frames = ran(str(path), url=sqlite_url, expect=1)
    assert (types(frames)[-1], frames[-1]["payload"]["code"]) == ("failed", "no_plan")
    said = json.dumps(frames[-1]["payload"]["errors"])
    assert all(goal in said for goal in ("legal_name", "delivers", "lead_days", "organic"))
