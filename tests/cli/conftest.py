"""The flex command as people start it: a process of its own, on this test's database, without settings of ours."""

import json
import os
import queue
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pytest

FLEX = [sys.executable, "-c", "from app.cli import main; main()"]
ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """What a command left behind."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Flex = Callable[..., Ended]


def environment(database_url: str, **more: str) -> dict[str, str]:
    # Coverage is measured on SQLite (tests/conftest.py).
    ours = ("FLEX_", "COLUMNS", *(("COVERAGE_",) if database_url.startswith("postgresql") else ()))
    kept = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    return {**kept, "PYTHONPATH": str(ROOT), "FLEX_DATABASE_URL": database_url, **more}


@pytest.fixture
def url(request: pytest.FixtureRequest) -> str:
    """SQLite, or each database in turn for a test that asks for ``database_url``."""
    return str(request.getfixturevalue("database_url" if "database_url" in request.fixturenames else "sqlite_url"))


@pytest.fixture
def flex(url: str, tmp_path: Path) -> Flex:
    """Run a command to its end; ``given`` goes to stdin."""

    def run(*arguments: str, given: str = "", env: Mapping[str, str] | None = None) -> Ended:
        done = subprocess.run(
            [*FLEX, *arguments],
            input=given,
            env=environment(url, **(env or {})),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        assert "Traceback" not in done.stderr, done.stderr
        return Ended(done.returncode, done.stdout, done.stderr)

    return run


def _read(stream: IO[str], lines: queue.Queue[str]) -> None:
    for line in stream:
        lines.put(line)


@pytest.fixture
def served(url: str, tmp_path: Path) -> Iterator[str]:
    """The address of a running service on this test's database."""
    process = subprocess.Popen(
        [*FLEX, "serve", "--port", "0"],
        env=environment(url, FLEX_LOG_FORMAT="json"),
        cwd=tmp_path,
        stderr=subprocess.PIPE,
        text=True,
    )
    lines: queue.Queue[str] = queue.Queue()
    stream = process.stderr
    assert stream is not None
    reader = threading.Thread(target=_read, args=(stream, lines), daemon=True)
    reader.start()
    try:
        while True:
            said = json.loads(lines.get(timeout=30))
            if said.get("event") == "serving":
                break
        yield said["address"]
    finally:
        process.terminate()
        process.wait(30)
        reader.join(5)
        stream.close()
    assert process.returncode == 0
