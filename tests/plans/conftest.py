"""A real service per test, over both databases, with the capabilities of these tests."""

from collections.abc import AsyncIterator

import pytest

from tests.plans.steering import served
from tests.spine.running import Service


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    """A served process of this test's own."""
    async with served(database_url) as running:
        yield running


@pytest.fixture
async def sqlite_service(sqlite_url: str) -> AsyncIterator[Service]:
    """The same on SQLite alone, for what the database has no part in."""
    async with served(sqlite_url) as running:
        yield running
