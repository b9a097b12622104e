"""``make bench``: every case as its own process on a fresh database, repeated; tables in docs/benchmarks.md."""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from bench.report import EARLIER, write_report
from tests.postgres import PostgresServer, postgres_server

ROOT = Path(__file__).resolve().parent.parent
CASE_SECONDS = 180


@dataclass(frozen=True)
class Case:
    """A module, its arguments, and which database it gets: ``flex`` (migrated by flex) or ``plain``."""

    name: str
    module: str
    store: str
    options: tuple[str, ...] = ()
    root: Path = ROOT
    """the checkout that is measured"""


def cases() -> Iterator[Case]:
    """Yield everything that is measured."""
    for store in ("postgres", "sqlite"):
        for lanes in (1, 16, 64):
            for who, module in (("flex", "bench.ours"), ("langgraph", "bench.peer_langgraph")):
                if who == "flex" or store == "postgres" or lanes == 1:
                    yield Case(f"{who}/{store}/chain10/c{lanes}", module, store, ("--c", str(lanes)))
                    yield Case(f"{who}/{store}/fan/c{lanes}", module, store, ("--c", str(lanes), "--scenario", "fan"))
        for length in (100, 1_000, 10_000):
            yield Case(f"flex/{store}/chain{length}/c1", "bench.ours", store, ("--n", str(length)))
    for length in (100, 1_000):
        yield Case(f"langgraph/postgres/chain{length}/c1", "bench.peer_langgraph", "postgres", ("--n", str(length)))
    yield Case("burr/postgres/chain10/c1", "bench.peer_burr", "postgres")
    yield from _http_cases()
    for lanes in (1, 16, 64):
        yield Case(f"limit/postgres/commits/c{lanes}", "bench.limits", "postgres", ("--c", str(lanes)))
    yield Case("limit/sqlite/commits/c1", "bench.limits", "sqlite", ("--what", "sqlite"))


def _http_cases() -> Iterator[Case]:
    for store in ("postgres", "sqlite"):
        yield Case(f"flex/{store}/first_frame/c1", "bench.http", store)
        yield Case(f"flex/{store}/blocking/c50", "bench.blocking", store)
        for lanes in (1, 16, 64):
            options = ("--scenario", "answers", "--c", str(lanes))
            yield Case(f"flex/{store}/answers/c{lanes}", "bench.http", store, options)
        for count in (1, 100, 1_000):
            options = ("--scenario", "viewers", "--c", str(count))
            yield Case(f"flex/{store}/viewers/c{count}", "bench.http", store, options)


def beside(chosen: list[Case], earlier: Path | None) -> Iterator[list[Case]]:
    """Yield each case with, if another checkout is to be measured beside it, the same case there."""
    for case in chosen:
        there = earlier is not None and (earlier / Path(*case.module.split("."))).with_suffix(".py").exists()
        if earlier is not None and there and case.name.startswith("flex/"):
            name = f"{EARLIER}/{case.name.removeprefix('flex/')}"
            yield [case, Case(name, case.module, case.store, case.options, earlier)]
        else:
            yield [case]


def main() -> int:
    """Run what was asked for and write the report; 1 when a case failed."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default=".", help="a regular expression on case names")
    parser.add_argument(
        "--against", type=Path, help="a checkout of an earlier version, measured case by case beside it"
    )
    parser.add_argument("--list", action="store_true", help="name the cases and end")
    parser.add_argument("--out", default=str(ROOT / "docs" / "benchmarks.md"), help="the page to write; - for none")
    given = parser.parse_args()
    chosen = [case for case in cases() if re.search(given.only, case.name)]
    if given.list:
        print("\n".join(case.name for case in chosen))
        return 0
    earlier = None if given.against is None else given.against.resolve()
    lines, failed = measure(list(beside(chosen, earlier)), given.repeats)
    if given.out != "-":
        write_report(lines, given.repeats, Path(given.out))
    for name in failed:
        print(f"FAILED {name}")
    return 1 if failed else 0


def measure(chosen: list[list[Case]], repeats: int) -> tuple[list[dict[str, Any]], list[str]]:
    """Run the cases, the repeats outermost so that everybody meets the same weather; pairs take turns to be first."""
    lines: list[dict[str, Any]] = []
    failed: list[str] = []
    with postgres_server() as server, tempfile.TemporaryDirectory() as scratch:
        for repeat in range(repeats):
            ordered = [case for pair in chosen for case in (pair if repeat % 2 == 0 else reversed(pair))]
            for number, case in enumerate(ordered):
                began = time.monotonic()
                line = run(case, server, Path(scratch), f"b{repeat}_{number}")
                if line is None:
                    failed.append(case.name)
                    continue
                lines.append({"case": case.name, "repeat": repeat, **line})
                print(f"{case.name} {time.monotonic() - began:.1f}s {json.dumps(line)}", flush=True)
    return lines, failed


def run(case: Case, server: PostgresServer, scratch: Path, name: str) -> dict[str, Any] | None:
    """Run one case on a fresh database; None when it failed."""
    ours = case.name.startswith(("flex/", f"{EARLIER}/"))
    if case.store == "postgres":
        server.create_database(name)
        url = server.url(name) if ours else server.url(name).replace("+asyncpg", "")
    else:
        path = scratch / f"{name}.db"
        url = f"sqlite+aiosqlite:///{path}" if ours else str(path)
    command = [sys.executable, "-m", case.module, "--url", url, *case.options]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=CASE_SECONDS, cwd=case.root, check=False,
            env={**os.environ, "PYTHONPATH": str(case.root)},
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        print(f"{case.name}: no end after {CASE_SECONDS} s")
        return None
    found = [line for line in done.stdout.splitlines() if line.startswith("{")]
    if done.returncode != 0 or not found:
        print(f"{case.name}: exit {done.returncode}\n{(done.stderr or done.stdout)[-2000:]}")
        return None
    answer: dict[str, Any] = json.loads(found[-1])
    return answer


if __name__ == "__main__":
    raise SystemExit(main())
