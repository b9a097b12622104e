"""A whole service, as in the spine, with capabilities that look at documents."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.spine.running import ABILITIES, Service, serving

OWN = Path(__file__).with_name("abilities.py")


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[Service]:
    """A served process on each database."""
    async with serving(database_url, capabilities=(str(ABILITIES), str(OWN))) as running:
        yield running
