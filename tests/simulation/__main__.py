"""``python -m tests.simulation --seed S --count N [--minutes M]``: run seeds, print what fails and how fast it went.

Every core takes its share of the seeds; each seed is a world of its own. With ``--trace`` the whole trace of one seed
is printed. Exit code 1 when a seed failed.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from itertools import count as counting

from tests.simulation.runner import Report, run_seeds, simulate
from tests.simulation.world import Scenario


def _said(seed: int, faults: list[str]) -> None:
    sys.stdout.write(f"seed {seed}\n" + "".join(f"  {fault}\n" for fault in faults))
    sys.stdout.flush()


def _digest(seed: int, digest: str) -> None:
    sys.stdout.write(f"{seed} {digest}\n")


def _share(first: int, many: int | None, every: int, until: float | None, digests: bool) -> Report:
    """Run every ``every``-th seed from ``first`` on, among ``many`` (None: without end)."""
    seeds: Iterable[int] = counting(first, every) if many is None else range(first, first + many, every)
    return run_seeds(seeds, until=until, told=_said, digested=_digest if digests else None)


def _run(given: argparse.Namespace) -> Report:
    """Run the seeds in as many processes as the command line says."""
    many = given.count if given.count is not None or given.minutes is not None else 1
    processes = min(given.processes, many or given.processes)
    until = None if given.minutes is None else time.monotonic() + 60 * given.minutes
    total, began = Report(), time.monotonic()
    with ProcessPoolExecutor(processes) as pool:
        shares = [
            pool.submit(
                _share, given.seed + each, None if many is None else many - each, processes, until, given.digests
            )
            for each in range(processes)
        ]
        for share in shares:
            report = share.result()
            total.seeds += report.seeds
            total.virtual_seconds += report.virtual_seconds
            total.failed |= report.failed
    total.seconds = time.monotonic() - began
    return total


def main() -> int:
    """Run what the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--count", type=int, default=None)
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--trace", action="store_true", help="print the trace of --seed")
    parser.add_argument("--digests", action="store_true", help="print a hash of everything that every seed left")
    given = parser.parse_args()
    if given.trace:
        result, faults = simulate(Scenario.draw(given.seed))
        sys.stdout.write("\n".join([str(result.scenario), *result.trace, f"digest {result.digest}", ""]))
        _said(given.seed, faults)
        return 1 if faults else 0
    report = _run(given)
    pace = 60 * report.seeds / report.seconds if report.seconds else 0.0
    sys.stdout.write(
        f"{report.seeds} seeds in {report.seconds:.1f} s, {pace:,.0f} per minute, "
        f"{report.virtual_seconds / 3_600:.1f} virtual hours, {len(report.failed)} failed\n"
    )
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
