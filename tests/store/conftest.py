"""A database and a journal per test."""

from collections.abc import AsyncIterator

import pytest

from store.connect import Database
from store.journal import Journal
from tests.store.making import Hands, Recorder


@pytest.fixture
def clock() -> Hands:
    return Hands()


@pytest.fixture
def crash() -> Recorder:
    return Recorder()


@pytest.fixture
async def database(database_url: str, clock: Hands, crash: Recorder) -> AsyncIterator[Database]:
    opened = await Database.open(database_url, clock=clock, crash=crash)
    yield opened
    await opened.close()


@pytest.fixture
async def journal(database: Database) -> AsyncIterator[Journal]:
    started = Journal(database)
    await started.start()
    yield started
    await started.close()
