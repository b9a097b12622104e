"""Whole processes under made-up harm, a few hundred seeds of it (F9, F10, F6, H1, H4, T4; design §1 and §4).

Every seed draws runs, people and faults of its own and is audited when all is quiet again. More of them:
``python -m tests.simulation --seed 1 --minutes 10``.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.simulation.runner import run_seeds

BATCH = 100


@pytest.mark.parametrize("first", range(1, 301, BATCH))
def test_every_seed_holds(first: int, record_property: Callable[[str, object], None]) -> None:
    """Nothing is lost, doubled, reordered or stuck, whatever dies, sleeps, races or is forgotten."""
    report = run_seeds(range(first, first + BATCH))
    record_property("seeds per minute", round(60 * report.seeds / report.seconds))
    assert not report.failed, f"python -m tests.simulation --trace --seed {next(iter(report.failed))}: {report.failed}"
