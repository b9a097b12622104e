"""A seed is all there is to a simulation: the same one gives the same bytes, here and in any other process."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.simulation.runner import run_seeds, simulate
from tests.simulation.world import Scenario

ROOT = Path(__file__).parents[2]
SEEDS = (5, 23, 64, 98, 187)


def _lines(seed: int) -> list[str]:
    result, _ = simulate(Scenario.draw(seed))
    return [*result.trace, f"digest {result.digest}"]


def test_the_same_seed_twice_gives_the_same_bytes() -> None:
    """Also with other seeds in between: no simulation leaves anything behind for the next one."""
    first = {seed: _lines(seed) for seed in SEEDS}
    assert {seed: _lines(seed) for seed in reversed(SEEDS)} == first
    assert len({lines[-1] for lines in first.values()}) == len(SEEDS)


def test_another_process_replays_a_seed_to_the_byte() -> None:
    """Other hashes of strings and other addresses change nothing, so whoever is told a seed sees what happened."""
    seed = SEEDS[0]
    shown = _said_elsewhere("--trace", "--seed", str(seed))
    lines = _lines(seed)
    assert shown[1 : 1 + len(lines)] == lines


def test_another_process_leaves_the_same_rows() -> None:
    """The digest covers the trace and every row of every table."""
    here: dict[int, str] = {}
    run_seeds(range(1, 31), digested=here.__setitem__)
    assert _said_elsewhere("--seed", "1", "--count", "30", "--digests", "--processes", "1")[:30] == [
        f"{seed} {digest}" for seed, digest in here.items()
    ]


def _said_elsewhere(*arguments: str) -> list[str]:
    said = subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT, env={**os.environ, "PYTHONHASHSEED": "4711"}, capture_output=True, text=True, check=False, timeout=60,
    )  # fmt: skip
    assert not said.stderr
    return said.stdout.splitlines()
