"""Running seeds: one simulation each, audited; and what is said of those that fail."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from hashlib import sha256

from tests.simulation.auditor import audit
from tests.simulation.evidence import gather
from tests.simulation.world import Result, Scenario, World

COLLECT_EVERY = 25
"""How many simulations leave their garbage behind before it is taken away: looking for it all the time is dear."""


@dataclass
class Report:
    """What came of a number of seeds."""

    seeds: int = 0
    seconds: float = 0.0
    virtual_seconds: float = 0.0
    callbacks: int = 0
    failed: dict[int, list[str]] = field(default_factory=dict)


def simulate(scenario: Scenario) -> tuple[Result, list[str]]:
    """Run one simulation; return what is left of it and what is wrong with it."""
    world = World(scenario)
    try:
        result = world.run()
        evidence = gather(world.file, world.ledger.calls, world.outside, world.spoken)
        evidence.exact = not scenario.skewed
        evidence.calm = scenario.trouble == 0 and not scenario.far and scenario.rates.lost == 0
        result.digest = digest_of(world, result)
        return result, audit(evidence, result)
    finally:
        world.close()


def digest_of(world: World, result: Result) -> str:
    """Return a hash of everything that can be seen of a simulation: its trace, and every row it left."""
    digest = sha256("\n".join(result.trace).encode())
    tables = [name for (name,) in world.file.rows("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
    for table in tables:
        for row in world.file.rows(f"SELECT * FROM {table}"):
            digest.update(repr(row).encode())
    return digest.hexdigest()


def run_seeds(
    seeds: Iterable[int],
    *,
    until: float | None = None,
    told: Callable[[int, list[str]], None] | None = None,
    digested: Callable[[int, str], None] | None = None,
) -> Report:
    """Run seeds one after the other, until ``until`` (monotonic seconds) if that is given."""
    report, began = Report(), time.monotonic()
    gc.collect()
    gc.freeze()
    gc.disable()
    try:
        for seed in seeds:
            if report.seeds % COLLECT_EVERY == 0:
                gc.collect()
            if until is not None and time.monotonic() > until:
                break
            result, faults = simulate(Scenario.draw(seed))
            report.seeds += 1
            report.virtual_seconds += result.seconds
            report.callbacks += result.callbacks
            if digested is not None:
                digested(seed, result.digest)
            if faults:
                report.failed[seed] = faults
                if told is not None:
                    told(seed, faults)
    finally:
        gc.enable()
        gc.unfreeze()
    report.seconds = time.monotonic() - began
    return report
