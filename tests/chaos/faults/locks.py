"""An outsider who holds locks."""

import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing

import asyncpg
from sqlalchemy.engine import make_url

from tests.durability.waiting import until

WAIT_SECONDS = 10.0


@asynccontextmanager
async def held(url: str) -> AsyncIterator[None]:
    """Hold the write lock of a SQLite file."""
    with closing(sqlite3.connect(make_url(url).database or "", timeout=0, isolation_level=None)) as outsider:
        await until(lambda: _begun(outsider), WAIT_SECONDS, "the write lock")
        yield
        outsider.execute("ROLLBACK")


def _begun(outsider: sqlite3.Connection) -> bool:
    try:
        outsider.execute("BEGIN IMMEDIATE")
    except sqlite3.OperationalError:
        return False
    return True


@asynccontextmanager
async def locked(url: str, statement: str) -> AsyncIterator[None]:
    """Hold what a statement locks on PostgreSQL."""
    outsider = await asyncpg.connect(make_url(url).set(drivername="postgresql").render_as_string(hide_password=False))
    try:
        transaction = outsider.transaction()
        await transaction.start()
        await outsider.execute(statement)
        yield
        await transaction.rollback()
    finally:
        await outsider.close()
