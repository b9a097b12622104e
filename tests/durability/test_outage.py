"""PostgreSQL goes away while runs are under way: every accepted run ends, nothing is doubled (P1, P5, F10)."""

import asyncio
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import httpx2
import pytest

from tests.durability.auditor import audit, stored
from tests.durability.people import Caller, approve
from tests.durability.plans import ask, call, chain
from tests.durability.service import Service, World
from tests.durability.waiting import until
from tests.postgres import PostgresServer, postgres_server

pytestmark = pytest.mark.chaos
NODES = (
    call("a"),
    call("b", "idempotent"),
    call("slow", "idempotent", gate="slow"),
    ask(),
    call("c"),
    call("d", "idempotent"),
)


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    """A server that these tests may stop."""
    with postgres_server(in_memory=True) as server:
        yield server


@pytest.fixture
def own_world(own_server: PostgresServer, migrate: Callable[[str], None], tmp_path: Path) -> World:
    name = tmp_path.name.replace("-", "_")
    own_server.create_database(name)
    migrate(own_server.url(name))
    return World(own_server.url(name), tmp_path)


async def problems(service: Service) -> list[str]:
    """What the service says against traffic."""
    async with httpx2.AsyncClient(base_url=service.base, timeout=5) as client:
        response = await client.get("/readyz")
    found: list[str] = response.json()["problems"]
    assert response.status_code == (503 if found else 200)
    return found


@pytest.mark.parametrize("how", ["short", "long"])
async def test_the_database_goes_away_under_load(own_server: PostgresServer, own_world: World, how: str) -> None:
    """A restart shorter than the lease takes no lease from anybody; a crash of any length loses and doubles nothing."""
    lease = {"short": "20", "long": "0.6"}[how]
    with Service(own_world, FLEX_LEASE_SECONDS=lease) as one, Service(own_world, FLEX_LEASE_SECONDS=lease) as other:
        one.launch()
        other.launch()
        await asyncio.gather(one.ready(), other.ready())
        bases = [one.base, other.base]
        callers = [Caller(bases[n % 2 :] + bases[: n % 2], chain(*NODES), f"key-{n}", approve) for n in range(12)]
        following = asyncio.gather(*(caller.follow() for caller in callers))
        await until(lambda: sum(caller.saw("node_start", "slow") for caller in callers) >= 8, 15, "runs under way")
        await outage(own_server, own_world, (one, other), how)
        await following
    for caller in callers:
        end = await stored(own_world.url, caller.run_id, own_world.effects)
        assert caller.faults == []
        assert caller.seen == end.log
        assert audit(end, seen=caller.seen, answers=caller.answers) == []
        assert end.status == "completed"


async def outage(server: PostgresServer, world: World, services: tuple[Service, Service], how: str) -> None:
    """Take the server away, see that readiness says so, open the gate meanwhile, and bring it back."""
    if how == "long":
        server.kill()
    else:
        server.stop("fast")
    for service in services:
        assert await problems(service) == ["database"]
    world.open_gate("slow")
    if how == "long":
        for service in services:
            await until(partial(has_lost_its_lease, service), 10, "a lease that ran out")
    server.start()
    for service in services:
        await until(partial(is_ready, service), 10, "ready again")
        if how == "short":
            assert "lease_lost" not in service.said(10_000)
            assert "worker_buried" not in service.said(10_000)


def has_lost_its_lease(service: Service) -> bool:
    return '"event":"lease_lost"' in service.said(10_000)


async def is_ready(service: Service) -> bool:
    return await problems(service) == []
