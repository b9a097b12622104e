"""A whole service whose capabilities remember."""

from collections.abc import AsyncIterator

import pytest

from tests.memory.running import remembering
from tests.spine.running import Service


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    """A served process on each database."""
    async with remembering(database_url) as running:
        yield running
