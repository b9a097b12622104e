"""Migrations: ``upgrade`` brings a database to the newest schema, ``is_current`` says whether it is there.

Both are plain functions and run in a thread of their own, so that they can also be called while a loop is running.
Alembic is imported only when there is something to migrate: a service that starts on a current database stays smaller.
"""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final, TypeVar

import asyncpg
import sqlalchemy as sa
from sqlalchemy.engine import make_url
from sqlalchemy.pool import NullPool

from contracts.errors import StoreUnavailable

T = TypeVar("T")
VERSION: Final = sa.table("alembic_version", sa.column("version_num", sa.String))
HERE: Final = Path(__file__).parent / "migrations"
LOCK: Final = 0x666C6578
"""PostgreSQL's advisory lock («flex»): processes that start together migrate one after the other."""


def upgrade(url: str) -> None:
    """Create or migrate the schema at ``url``; returns when it is the newest one. Raises ``StoreUnavailable``."""
    if not is_current(url):
        _in_a_thread(lambda: _run(url, _upgrade))


def is_current(url: str) -> bool:
    """Say whether the database has the newest schema, without changing it. Raises ``StoreUnavailable``."""
    if make_url(url).get_backend_name() == "sqlite":
        return _in_a_thread(lambda: _run(url, _is_current))
    return _in_a_thread(lambda: _answered(lambda: asyncio.run(_postgresql_is_current(url))))


def is_there(url: str) -> bool:
    """Say whether there is a database to look at: SQLite would make the file that a mistyped name names."""
    place = make_url(url)
    return place.get_backend_name() != "sqlite" or Path(place.database or "").is_file()


def _upgrade(connection: sa.Connection) -> None:
    if connection.dialect.name == "postgresql":
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(LOCK)))
    if _is_current(connection):
        return
    from alembic import command
    from alembic.config import Config

    config = Config()
    config.set_main_option("script_location", str(HERE).replace("%", "%%"))
    config.set_main_option("path_separator", "os")
    config.attributes["connection"] = connection
    command.upgrade(config, "head")


def _is_current(connection: sa.Connection) -> bool:
    """Compare the stored revision with the newest file's; a revision is named like its file (a test checks it)."""
    if not sa.inspect(connection).has_table(VERSION.name):
        return False
    return list(connection.scalars(sa.select(VERSION.c.version_num))) == [newest()]


def newest() -> str:
    """Return the newest revision: the number that its file's name begins with."""
    return max(path.name.partition("_")[0] for path in (HERE / "versions").glob("[0-9]*.py"))


def _in_a_thread(work: Callable[[], T]) -> T:
    with ThreadPoolExecutor(1, thread_name_prefix="migrate") as pool:
        return pool.submit(work).result()


def _run(url: str, work: Callable[[sa.Connection], T]) -> T:
    if make_url(url).get_backend_name() == "sqlite":
        return _answered(lambda: _run_sqlite(url, work))
    return _answered(lambda: asyncio.run(_run_postgresql(url, work)))


async def _postgresql_is_current(url: str) -> bool:
    """Ask the driver itself: SQLAlchemy's asyncio layer would cost ten megabytes for one query."""
    place = make_url(url).set(drivername="postgresql")
    connection = await asyncpg.connect(place.render_as_string(hide_password=False))
    try:
        rows = await connection.fetch(f"SELECT version_num FROM {VERSION.name}")
    except asyncpg.UndefinedTableError:
        return False
    finally:
        await connection.close()
    return [row[0] for row in rows] == [newest()]


def _answered(work: Callable[[], T]) -> T:
    try:
        return work()
    except (OSError, asyncpg.PostgresConnectionError, asyncpg.CannotConnectNowError, sa.exc.OperationalError) as error:
        raise StoreUnavailable(f"The database did not answer: {error}") from error


def _run_sqlite(url: str, work: Callable[[sa.Connection], T]) -> T:
    engine = sa.create_engine(make_url(url).set(drivername="sqlite"), poolclass=NullPool, connect_args={"timeout": 30})

    @sa.event.listens_for(engine, "connect")
    def _connected(connection: sqlite3.Connection, _record: Any) -> None:
        # The driver would commit before every DDL statement; a migration is one transaction.
        connection.isolation_level = None
        connection.execute("PRAGMA journal_mode=WAL").close()

    @sa.event.listens_for(engine, "begin")
    def _begins(connection: sa.Connection) -> None:
        # The write lock at once: processes that start together migrate one after the other.
        connection.exec_driver_sql("BEGIN IMMEDIATE")

    try:
        with engine.begin() as connection:
            return work(connection)
    finally:
        engine.dispose()


async def _run_postgresql(url: str, work: Callable[[sa.Connection], T]) -> T:
    from sqlalchemy.ext.asyncio import create_async_engine

    engine = create_async_engine(url, poolclass=NullPool)
    try:
        async with engine.begin() as connection:
            return await connection.run_sync(work)
    finally:
        await engine.dispose()
