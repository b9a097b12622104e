"""A model that nobody here wrote, for agents that ask one."""

import itertools
from collections.abc import Iterator

import pytest

from tests.model.scripted import Script, model_server

_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def model_url() -> Iterator[str]:
    """The server, started when the first test asks for it."""
    with model_server() as url:
        yield url


@pytest.fixture
def script(model_url: str) -> Iterator[Script]:
    """A model of this test's own."""
    script = Script(model_url, f"agent-model-{next(_numbers)}")
    yield script
    script.close()
