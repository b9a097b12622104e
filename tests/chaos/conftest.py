"""One arena per database for all faults of this folder: everything that any of them needs is wired in."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chaos.arena import Arena, Wish, arena
from tests.postgres import PostgresServer, postgres_server

LEASE_SECONDS = 0.6


@pytest.fixture(scope="package")
def own_server() -> Iterator[PostgresServer]:
    """A server that may be stopped and crashed."""
    with postgres_server(in_memory=True) as server:
        yield server


def _arena(database: str, place: Path, server: PostgresServer | None) -> Iterator[Arena]:
    wish = Wish(database, LEASE_SECONDS, proxied=("two",), on_small_disk=True)
    with arena(wish, place, server) as opened:
        yield opened


@pytest.fixture(scope="package")
def sqlite_arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """Two processes on one SQLite file."""
    yield from _arena("sqlite", tmp_path_factory.mktemp("chaos"), None)


@pytest.fixture(scope="package")
def postgresql_arena(own_server: PostgresServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Arena]:
    """Two processes on PostgreSQL, the second one through a proxy."""
    yield from _arena("postgresql", tmp_path_factory.mktemp("chaos"), own_server)
