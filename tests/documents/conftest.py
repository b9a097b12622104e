"""A whole service, as in the spine."""

from collections.abc import AsyncIterator

import pytest

from tests.spine.running import Service, serving


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    """A served process on each database."""
    async with serving(database_url) as running:
        yield running
