"""One scenario: runs arrive, a fault strikes again and again, everything comes to rest, the auditor looks."""

import asyncio
import random
import time
from dataclasses import astuple, dataclass, field

from tests.chaos import history
from tests.chaos.arena import Arena
from tests.chaos.crowd import Crowd
from tests.chaos.faults.base import Fault, Shake
from tests.chaos.judged import Violation
from tests.chaos.load import Spec, mix
from tests.chaos.recovery import recoveries
from tests.chaos.rules import audited

SETTLE_SECONDS = 40.0
REST_SECONDS = 15.0
ROUND_SECONDS = 60.0
"""What a round may take longer than its runs need to arrive, before the scenario counts as broken."""


@dataclass(frozen=True)
class Plan:
    """How much: so many runs, from this seed; ``scale`` shortens the fault's seconds."""

    runs: int
    seed: int
    scale: float = 1.0


@dataclass
class Result:
    """What came of a scenario; times in ms unless they say seconds."""

    fault: str
    database: str
    runs: int
    seed: int
    lease_seconds: float
    seconds: float = 0.0
    injected: int = 0
    violations: list[Violation] = field(default_factory=list)
    recoveries: list[float] = field(default_factory=list)
    statuses: dict[str, int] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    writes: list[str] = field(default_factory=list, repr=False)
    """every change of a run's row, a line each"""


async def campaign(fault: Fault, arena: Arena, plan: Plan) -> Result:
    """Play the scenario in an open arena and audit it."""
    await arena.prepare()
    database = arena.wish.database
    prefix = f"{fault.name}-{plan.seed}-{time.time_ns()}"
    chance = random.Random(f"{fault.name}/{database}/{plan.seed}")
    specs = mix(plan.runs, chance, prefix)
    arena.marks.clear()
    arena.stalls.clear()
    began = time.monotonic()
    crowd = Crowd(arena.bases, chance, arena.ledger)
    shake = fault.make(arena, chance, plan.scale)
    rounds = -(-plan.runs // fault.per_round)
    async with asyncio.timeout(rounds * (fault.seconds[1] * plan.scale + ROUND_SECONDS) + SETTLE_SECONDS):
        await _play(fault, shake, crowd, specs, plan.scale)
    await arena.at_rest(REST_SECONDS)
    seen = await history.read(arena.url, arena.world.effects, prefix)
    seen.followed, seen.responses = crowd.followed, crowd.operators.responses
    seen.stalls = arena.stalls
    seen.pids = {pid: member.name for member in arena.members for pid in member.pids}
    result = Result(fault.name, database, plan.runs, plan.seed, arena.wish.lease_seconds)
    result.seconds, result.injected = time.monotonic() - began, shake.injected
    result.violations, result.recoveries = audited(seen), recoveries(seen, arena.marks)
    for run_id, run in seen.runs.items():
        if run_id not in seen.parents:
            result.statuses[run.status] = result.statuses.get(run.status, 0) + 1
    result.notes = [*shake.notes, *(f"{each.at:.0f} {each.process or 'all'} hit" for each in arena.marks)]
    result.writes = [" ".join(map(str, astuple(write))) for write in seen.writes]
    return result


async def _play(fault: Fault, shake: Shake, crowd: Crowd, specs: list[Spec], scale: float) -> None:
    crowd.operators.start()
    try:
        await shake.begin()
        try:
            for number, part in enumerate(_rounds(specs, fault.per_round)):
                if number:
                    await shake.between()
                share = len(part) / fault.per_round
                seconds = shake.chance.uniform(*fault.seconds) * scale * max(share, 0.3)
                await asyncio.gather(crowd.arrive(part, seconds), shake.strike(seconds))
            await crowd.settle(SETTLE_SECONDS)
        finally:
            await shake.end()
    finally:
        await crowd.operators.stop()


def _rounds(specs: list[Spec], size: int) -> list[list[Spec]]:
    return [specs[at : at + size] for at in range(0, len(specs), size)]
