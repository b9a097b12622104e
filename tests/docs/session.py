"""A reader at work: runs a page's blocks one after the other in one directory, as the page says.

The address of the service and of the database are those of the test; everything else is literally what the page has.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from tests.docs.pages import ROOT, Block

ADDRESS = "http://127.0.0.1:8000"
MODEL = "http://127.0.0.1:11434"
"""Where the pages say that a model is."""
POSTGRES = re.compile(r"postgresql\+asyncpg://[^\s'\"]+")
SERVE = re.compile(r"^(?:\w+=\S+ )*\.venv/bin/flex serve\b")
SECONDS = 60
FLEX = "from app.cli import main; main()"
PREAMBLE = """
set -euo pipefail
# The targets' own work is tested elsewhere; here it counts that they are there.
make() { command make -n "$@" > /dev/null; }
"""


@dataclass
class Session:
    """One page, one directory, at most one service."""

    directory: Path
    postgres_url: str
    model_url: str = MODEL
    address: str = ADDRESS
    service: subprocess.Popen[str] | None = None
    variables: dict[str, str] = field(default_factory=dict)

    def prepare(self) -> None:
        """Lay out what a clone has after `make run`."""
        (self.directory / "tests").mkdir()
        for name in ("examples", "Makefile", "pyproject.toml", "constraints.txt", "tests/model"):
            (self.directory / name).symlink_to(ROOT / name)
        commands = {"python": '"$@"', "flex": f'-c "{FLEX}" "$@"'}
        programs = self.directory / ".venv" / "bin"
        programs.mkdir(parents=True)
        for name, arguments in commands.items():
            path = programs / name
            path.write_text(f'#!/bin/sh\nexec "{sys.executable}" {arguments}\n', encoding="utf-8")
            path.chmod(0o755)

    @property
    def environment(self) -> Mapping[str, str]:
        """Return an environment without settings of ours."""
        ours = ("FLEX_", "COVERAGE_", "MAKE", "MFLAGS")
        kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
        return {**kept, "PYTHONPATH": str(ROOT), "FLEX_LOG_FORMAT": "json", **self.variables}

    def do(self, block: Block) -> None:
        """Save, check or run a block."""
        if block.name is not None:
            (self.directory / block.name).write_text(block.text + "\n", encoding="utf-8")
        elif block.language == "python":
            self._run([sys.executable, "-c", block.text.replace(ADDRESS, self.address)])
        elif block.language == "bash" and SERVE.match(block.text):
            self._serve(block.text)
        elif block.language == "bash":
            self._shell(block.text)

    def _shell(self, text: str) -> None:
        names = sorted(set(re.findall(r"^([A-Z][A-Z_]*)=", text, re.MULTILINE)))
        said = "".join(f'printf "%s=%s\\n" {name} "${name}" >> variables.txt\n' for name in names)
        self._run(["bash", "-c", PREAMBLE + text.replace(ADDRESS, self.address) + "\n" + said])
        written = self.directory / "variables.txt"
        if written.exists():
            self.variables |= dict(line.split("=", 1) for line in written.read_text(encoding="utf-8").splitlines())
        assert all(self.variables[name] for name in names), f"{names} were not found: {self.variables}"

    def _run(self, command: list[str]) -> None:
        done = subprocess.run(
            command, cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, f"ended with {done.returncode}:\n{done.stdout}\n{done.stderr}"

    def _serve(self, text: str) -> None:
        self.stop()
        text = text.replace(MODEL, self.model_url)
        command = f"exec env {POSTGRES.sub(self.postgres_url, text)} --port 0"
        self.service = subprocess.Popen(
            ["bash", "-c", command], cwd=self.directory, env=self.environment, stdin=subprocess.DEVNULL,
            stderr=subprocess.PIPE, text=True,
        )  # fmt: skip
        assert self.service.stderr is not None
        said = []
        for line in self.service.stderr:
            said.append(line)
            if line.startswith("{") and json.loads(line).get("event") == "serving":
                self.address = json.loads(line)["address"]
                return
        raise AssertionError(f"it did not serve:\n{''.join(said)}")

    def stop(self) -> None:
        """End the service, and see that it ends well."""
        service, self.service = self.service, None
        if service is not None:
            service.terminate()
            service.communicate(timeout=SECONDS)
            assert service.returncode == 0
