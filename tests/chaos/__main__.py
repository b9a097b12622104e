"""Chaos from the command line: .venv/bin/python -m tests.chaos --fault NAME|all --runs N --seed S --database both.

Prints a line per scenario, the table at the end, and exits with 1 if any promise was broken. What was broken stands in
``.reports/chaos``, with the database, the logs and the ledger of that scenario.
"""

import argparse
import asyncio
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.chaos.arena import NAMES, Wish, arena
from tests.chaos.campaign import Plan, Result, campaign
from tests.chaos.faults import BY_NAME, FAULTS, Fault
from tests.chaos.judged import Violation
from tests.chaos.report import line, table, write
from tests.durability.service import ROOT

KEPT = ROOT / ".reports" / "chaos"


def arguments(given: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos", description="Break flex and see what it keeps.")
    parser.add_argument("--fault", default="all", choices=("all", *BY_NAME), help="which one (default: all)")
    parser.add_argument("--runs", type=int, default=1_000, help="runs per fault and database (default: 1000)")
    parser.add_argument(
        "--seed", type=int, default=1, help="the same seed gives the same load and choices (default: 1)"
    )
    parser.add_argument("--database", default="both", choices=("sqlite", "postgresql", "both"))
    parser.add_argument("--lease", type=float, default=2.0, help="seconds of the lease (default: 2)")
    parser.add_argument("--scale", type=float, default=1.0, help="shortens the seconds of faults; 1 for the report")
    parser.add_argument("--notes", action="store_true", help="say what was drawn, strike by strike")
    parser.add_argument("--keep", action="store_true", help="keep logs and ledger even if nothing was broken")
    parser.add_argument("--report", type=Path, help="Markdown file to write the table into, between its markers")
    return parser.parse_args(given)


def scenarios(given: argparse.Namespace) -> Iterator[tuple[Fault, str]]:
    """Every fault on every database that it exists on."""
    databases = ("sqlite", "postgresql") if given.database == "both" else (given.database,)
    chosen = FAULTS if given.fault == "all" else (BY_NAME[given.fault],)
    return ((fault, database) for fault in chosen for database in databases if database in fault.databases)


def played(fault: Fault, database: str, given: argparse.Namespace) -> Result:
    """Play; a scenario that broke down is one that failed, and the others are played all the same."""
    try:
        return play(fault, database, given)
    except (AssertionError, TimeoutError) as error:
        result = Result(fault.name, database, given.runs, given.seed, given.lease)
        result.violations.append(Violation("played", "", f"{type(error).__name__}: {error}"))
        sys.stderr.write(f"{result.violations[0].text}\n")
        return result


def play(fault: Fault, database: str, given: argparse.Namespace) -> Result:
    """Open an arena, play, and keep what is needed to understand a broken promise."""
    place = Path(tempfile.mkdtemp(prefix="flex-chaos-"))
    wish = Wish(database, given.lease, NAMES if fault.proxied else (), fault.on_small_disk)
    try:
        with arena(wish, place) as opened:
            result = asyncio.run(campaign(fault, opened, Plan(given.runs, given.seed, given.scale)))
            if result.violations or given.keep:
                keep(result, opened.world.place)
        return result
    finally:
        shutil.rmtree(place, ignore_errors=True)


def keep(result: Result, world: Path) -> None:
    """Copy the logs and the ledger, and list what was broken, what struck when, and who wrote which run."""
    kept = KEPT / f"{result.fault}-{result.database}-{result.seed}"
    shutil.rmtree(kept, ignore_errors=True)
    shutil.copytree(world, kept)
    text = "".join(f"{each.rule} {each.run_id}: {each.text}\n" for each in result.violations)
    (kept / "violations.txt").write_text(text, encoding="utf-8")
    (kept / "notes.txt").write_text("\n".join(result.notes), encoding="utf-8")
    (kept / "writes.txt").write_text("\n".join(result.writes), encoding="utf-8")
    sys.stderr.write(f"{text[:4_000]}kept in {kept}\n")


def main() -> int:
    """Play everything that was asked for."""
    given = arguments()
    results = []
    for fault, database in scenarios(given):
        results.append(played(fault, database, given))
        sys.stdout.write(line(results[-1]) + "\n")
        if given.notes:
            sys.stdout.write("".join(f"    {note}\n" for note in results[-1].notes))
        sys.stdout.flush()
        if given.report is not None:
            write(given.report, results)
    sys.stdout.write("\n" + table(results))
    return 1 if any(result.violations for result in results) else 0


if __name__ == "__main__":
    sys.exit(main())
