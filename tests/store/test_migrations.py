"""Migrations add up to the tables, on both databases, from nothing and from anywhere (P1, wire §5a)."""

import asyncio
import re
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import sqlalchemy as sa
from alembic.config import Config
from alembic.script import ScriptDirectory
from sqlalchemy.schema import CreateIndex, CreateTable

from store import conversation_tables as _conversation_tables  # noqa: F401  # its tables are part of the metadata
from store import document_tables as _document_tables  # noqa: F401  # its tables are part of the metadata
from store import flow_tables as _flow_tables  # noqa: F401  # its tables are part of the metadata
from store import history_tables as _history_tables  # noqa: F401  # likewise
from store import memory_tables as _memory_tables  # noqa: F401  # its tables are part of the metadata
from store import template_tables as _template_tables  # noqa: F401  # likewise
from store.migrate import HERE, is_current, newest, upgrade
from store.statement import POSTGRESQL
from store.tables import metadata
from tests.postgres import PostgresServer

SHAPE = """
SELECT 'column', table_name, column_name, data_type, is_nullable, column_default FROM information_schema.columns
  WHERE table_schema = 'public' AND table_name <> 'alembic_version'
UNION ALL SELECT 'index', tablename, indexname, indexdef, '', '' FROM pg_indexes
  WHERE schemaname = 'public' AND tablename <> 'alembic_version'
UNION ALL SELECT 'constraint', conrelid::regclass::text, conname, pg_get_constraintdef(oid), '', '' FROM pg_constraint
  WHERE connamespace = 'public'::regnamespace AND conrelid <> 'alembic_version'::regclass
UNION ALL SELECT 'option', relname, array_to_string(reloptions, ','), '', '', '' FROM pg_class
  WHERE relnamespace = 'public'::regnamespace AND reloptions IS NOT NULL
ORDER BY 1, 2, 3"""


def ddl(dialect: sa.Dialect) -> list[str]:
    made: list[str] = []
    for table in metadata.sorted_tables:
        made.append(str(CreateTable(table).compile(dialect=dialect)))
        made += [
            str(CreateIndex(index).compile(dialect=dialect))
            for index in sorted(table.indexes, key=lambda i: str(i.name))
        ]
    return made


def sqlite_shape(path: Path) -> list[tuple[str, ...]]:
    """Return what the schema is: columns, indexes, constraints. An added column stands elsewhere in the text."""
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT type, name, sql FROM sqlite_master"
        " WHERE sql IS NOT NULL AND tbl_name <> 'alembic_version' ORDER BY 1, 2"
    ).fetchall()
    shape: list[tuple[str, ...]] = []
    for kind, name, text in rows:
        if kind != "table":
            shape.append((kind, name, " ".join(str(text).split())))
            continue
        columns = connection.execute(f"PRAGMA table_xinfo({name})").fetchall()
        shape += [("column", name, *map(str, column)) for column in columns]
        shape += [("constraint", name, part) for part in sorted(re.findall(r"CONSTRAINT.*", str(text)))]
        shape.append(("options", name, str(text).rpartition(")")[2].strip()))
    connection.close()
    return shape


def test_the_migrations_are_the_tables_on_sqlite(sqlite_template: Path, tmp_path: Path) -> None:
    straight = tmp_path / "straight.db"
    engine = sa.create_engine(f"sqlite:///{straight}")
    metadata.create_all(engine)
    engine.dispose()
    assert sqlite_shape(sqlite_template) == sqlite_shape(straight)
    assert len(sqlite_shape(straight)) > len(metadata.sorted_tables)


def test_the_migrations_are_the_tables_on_postgresql(postgres: PostgresServer, postgres_template: str) -> None:
    postgres.create_database("straight")
    postgres.sql("CREATE TABLE alembic_version (version_num int)", "straight")
    for statement in ddl(POSTGRESQL):
        postgres.sql(statement, "straight")
    migrated, straight = (postgres.sql(SHAPE, name).splitlines() for name in (postgres_template, "straight"))
    postgres.drop_database("straight")
    assert [line for line in migrated if "alembic" not in line] == [line for line in straight if "alembic" not in line]
    assert len(straight) > 100


def test_there_is_one_newest_migration() -> None:
    config = Config()
    config.set_main_option("script_location", str(HERE))
    config.set_main_option("path_separator", "os")
    assert len(ScriptDirectory.from_config(config).get_heads()) == 1


async def test_upgrading_works_while_a_loop_runs_and_twice(
    tmp_path: Path, postgres: PostgresServer, postgres_template: str
) -> None:
    postgres.create_database("fresh")
    for url in (f"sqlite+aiosqlite:///{tmp_path}/fresh.db", postgres.url("fresh")):
        assert not is_current(url)
        upgrade(url)
        assert is_current(url)
        upgrade(url)
        assert is_current(url)
    postgres.drop_database("fresh")


def test_processes_that_start_together_migrate_once(
    tmp_path: Path, postgres: PostgresServer, migrate: Callable[[str], None]
) -> None:
    """Each waits for the one before: a PostgreSQL advisory lock, SQLite's write lock."""
    postgres.create_database("together")
    for url in (f"sqlite+aiosqlite:///{tmp_path}/together.db", postgres.url("together")):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(migrate, [url] * 4))
        assert is_current(url)
    postgres.drop_database("together")


def test_upgrading_leaves_no_loop_behind(tmp_path: Path) -> None:
    upgrade(f"sqlite+aiosqlite:///{tmp_path}/a.db")
    assert asyncio.run(asyncio.sleep(0, "a loop of our own")) == "a loop of our own"


def test_newest_is_alembics_own_head() -> None:
    """The cheap look that spares a current service the import of alembic agrees with alembic."""
    config = Config()
    config.set_main_option("script_location", str(HERE))
    config.set_main_option("path_separator", "os")
    assert [newest()] == ScriptDirectory.from_config(config).get_heads()
