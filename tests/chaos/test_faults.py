"""Every fault, a few runs each: it strikes, and no promise is broken (F2, F7, F9, F10, H1, H4, P1, P5).

The same with thousands of runs: ``make chaos``.
"""

import pytest

from tests.chaos.arena import Arena
from tests.chaos.campaign import Plan, campaign
from tests.chaos.faults import FAULTS, NONE, Fault

pytestmark = pytest.mark.chaos
SEED = 3
SCALE = 0.2
RUNS = 16
CASES = [(fault, database) for fault in FAULTS if fault is not NONE for database in fault.databases]


@pytest.mark.parametrize(("fault", "database"), CASES, ids=lambda each: getattr(each, "name", each))
async def test_no_promise_is_broken(fault: Fault, database: str, request: pytest.FixtureRequest) -> None:
    """The auditor finds nothing wrong with any run that was under way when this fault struck."""
    arena: Arena = request.getfixturevalue(f"{database}_arena")
    result = await campaign(fault, arena, Plan(RUNS, SEED, SCALE))
    assert result.violations == [], arena.said()
    assert result.injected > 0, "the fault never struck"
    assert sum(result.statuses.values()) == RUNS
