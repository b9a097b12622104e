"""Release notes from a real git history: read `git log`, let flex plan how, print the notes as Markdown.

    python examples/release_notes/run.py [--repo PATH] [--version 1.4.0] [--range v1.3.0..HEAD] [--url http://…]

Standard library only. Without --url, flex runs inside the `flex run` command; with it, the service there does the work.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SAMPLE = HERE / "sample.log"
COMMITS = 200
SECONDS = 60

CONTRACT = {
    "type": "object",
    "required": ["version", "summary", "sections"],
    "additionalProperties": False,
    "properties": {
        "version": {"type": "string"},
        "summary": {"type": "string"},
        "sections": {
            "type": "array",
            "items": {
                "type": "object",
                "required": ["title", "items"],
                "properties": {"title": {"type": "string"}, "items": {"type": "array", "items": {"type": "string"}}},
            },
        },
    },
}


def read_log(repo: Path, commits: str) -> str:
    """Return what git says of the history; the shipped sample, saying so, where there is none."""
    git = shutil.which("git")
    if git is None:
        return _sample("git is not installed")
    # The checkout may belong to another user than the one who reads it.
    asked = [git, "-c", f"safe.directory={repo}", "-C", str(repo), "log", "--no-color", f"-n{COMMITS}", commits, "--"]
    done = subprocess.run(asked, capture_output=True, text=True, errors="replace", timeout=SECONDS, check=False)
    if done.returncode or not done.stdout.strip():
        return _sample((done.stderr.strip() or "no commits").splitlines()[0])
    print(f"Reading the history of {repo}.", file=sys.stderr)
    return done.stdout


def _sample(why: str) -> str:
    print(f"No history to read here ({why}); using {SAMPLE.name} instead.", file=sys.stderr)
    return SAMPLE.read_text(encoding="utf-8")


def envelope(log: str, version: str) -> dict[str, Any]:
    """Return the envelope: what there is, and the shape that is wanted. How to get there is flex's business."""
    return {
        "objective": "Write the release notes of this version",
        "inputs": {"log_text": log, "version": version},
        "output_contract": {"mode": "json_schema", "schema": CONTRACT},
    }


def notes_of(posted: dict[str, Any], url: str | None) -> dict[str, Any]:
    """Have `flex run` carry the envelope out and return the validated answer; ends this program when it fails."""
    flex = shutil.which("flex", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")]))
    if flex is None:
        sys.exit("The flex command is not installed: see README.md.")
    with tempfile.TemporaryDirectory(prefix="flex-") as directory:
        where = ["--url", url] if url else ["--database-url", f"sqlite+aiosqlite:///{directory}/flex.db"]
        asked = [flex, "run", "-", *where]
        given = json.dumps(posted)
        done = subprocess.run(asked, input=given, stdout=subprocess.PIPE, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        sys.exit(done.returncode)
    notes: dict[str, Any] = json.loads(done.stdout)
    return notes


def markdown(notes: dict[str, Any]) -> str:
    """Return the notes as Markdown."""
    lines = [f"# {notes['version']}", "", notes["summary"]]
    for section in notes["sections"]:
        lines += ["", f"## {section['title']}", "", *(f"- {item}" for item in section["items"])]
    return "\n".join(lines)


def main() -> None:
    """Read the options, and print the notes."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repo", type=Path, default=HERE.parent.parent, help="a git checkout; this one without it")
    parser.add_argument("--range", default="HEAD", help="commits, as git log takes them")
    parser.add_argument("--version", default="Unreleased", help="what the notes are of")
    parser.add_argument("--url", help="a running flex service")
    parser.add_argument("--json", action="store_true", help="print the answer itself")
    options = parser.parse_args()
    if options.range.startswith("-"):
        parser.error("--range takes commits, not options of git")
    notes = notes_of(envelope(read_log(options.repo.resolve(), options.range), options.version), options.url)
    print(json.dumps(notes, indent=2, ensure_ascii=False) if options.json else markdown(notes))


if __name__ == "__main__":
    main()
