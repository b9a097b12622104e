"""A real service per test, over both databases, spoken to over HTTP."""

from collections.abc import AsyncIterator

import pytest

from tests.spine.running import Service, serving


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    """A served process of this test's own."""
    async with serving(database_url) as running:
        yield running
