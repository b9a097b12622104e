"""A served process whose model is scripted, on each database."""

import itertools
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from tests.durability.service import World
from tests.model.scripted import Script, model_server
from tests.spine.running import Service, serving

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def model_url() -> Iterator[str]:
    """The server, started when the first test asks for it."""
    with model_server() as url:
        yield url


@pytest.fixture
def script(model_url: str) -> Iterator[Script]:
    """A model of this test's own."""
    script = Script(model_url, f"chat-{next(_numbers)}")
    yield script
    script.close()


@pytest.fixture
async def service(database_url: str, script: Script) -> AsyncIterator[Service]:
    """A served process that may ask the model."""
    async with serving(database_url, **script.settings) as running:
        yield running


@pytest.fixture
def world(database_url: str, tmp_path: Path) -> World:
    """What outlives the processes of a test."""
    return World(database_url, tmp_path)
