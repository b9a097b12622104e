"""Fixtures every suite shares, and the rule that nothing is skipped where it counts.

Databases are real: SQLite in a temporary file, PostgreSQL in a private cluster that lives for the session.
`database_url` runs a test once on each.
"""

import itertools
import os
import shutil
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import cast

import pytest
import structlog

from tests.postgres import PostgresServer, postgres_server

BACKENDS = ("sqlite", "postgres")
TEMPLATE = "flex_template"


# Before logs are configured structlog shows tracebacks with every local variable, which takes seconds (app/logs.py).
structlog.configure(
    processors=[
        *structlog.get_config()["processors"][:-1],
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback),
    ]
)


# --- nothing is skipped ---


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add --no-skips; CI=true switches it on."""
    parser.addoption(
        "--no-skips",
        action="store_true",
        default=os.environ.get("CI", "") not in ("", "0", "false"),
        help="fail if a test was skipped (default where CI is set)",
    )


def _skipped(config: pytest.Config) -> int:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return 0 if reporter is None else len(reporter.stats.get("skipped", []))


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Turn a session that skipped something into a failed one."""
    if session.config.getoption("no_skips") and _skipped(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(trylast=True)
def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Say why such a session failed."""
    count = _skipped(config)
    if config.getoption("no_skips") and count:
        terminalreporter.write_line(f"FAILED: {count} skipped, and --no-skips (or CI) allows none", red=True)


# --- what is measured ---

UNMEASURED = ("chaos", "durability", "simulation")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Measure the coverage of each statement once: tracing more than doubles the time of a test.

    The second database runs the same statements outside the store, and what crashes runs those of everything else.
    """
    for item in items:
        suite = item.path.relative_to(Path(__file__).parent).parts[0]
        case = getattr(item, "callspec", None)
        again = case is not None and "postgres" in case.params.values() and suite != "store"
        if again or suite in UNMEASURED:
            item.add_marker(pytest.mark.no_cover)


# --- databases ---


@pytest.fixture(scope="session")
def migrate() -> Callable[[str], None]:
    """Bring the database at a URL to the newest schema."""
    return cast("Callable[[str], None]", import_module("store.migrate").upgrade)


@pytest.fixture(scope="session")
def postgres() -> Iterator[PostgresServer]:
    """The session's server. Do not stop it: a test that crashes servers starts one of its own (`postgres_server`)."""
    with postgres_server(in_memory=True) as server:
        yield server


@pytest.fixture(scope="session")
def postgres_template(postgres: PostgresServer, migrate: Callable[[str], None]) -> str:
    """A migrated database that others are copied from."""
    postgres.create_database(TEMPLATE)
    migrate(postgres.url(TEMPLATE))
    return TEMPLATE


@pytest.fixture
def postgres_database(postgres: PostgresServer, postgres_template: str) -> Iterator[Callable[[], str]]:
    """A function that makes a migrated database and returns its URL; what it made is dropped afterwards."""
    made: list[str] = []

    def make() -> str:
        name = f"test_{next(_numbers)}"
        postgres.create_database(name, postgres_template)
        made.append(name)
        return postgres.url(name)

    yield make
    for name in made:
        postgres.drop_database(name)


_numbers = itertools.count(1)


@pytest.fixture
def postgres_url(postgres_database: Callable[[], str]) -> str:
    """A migrated PostgreSQL database of this test's own."""
    return postgres_database()


@pytest.fixture(scope="session")
def sqlite_template(tmp_path_factory: pytest.TempPathFactory, migrate: Callable[[str], None]) -> Path:
    """A migrated SQLite file that others are copied from."""
    path = tmp_path_factory.mktemp("sqlite") / "template.db"
    migrate(f"sqlite+aiosqlite:///{path}")
    return path


@pytest.fixture
def sqlite_url(sqlite_template: Path, tmp_path: Path) -> str:
    """A migrated SQLite database of this test's own."""
    path = tmp_path / "flex.db"
    # A write-ahead log that was not folded in yet is part of the database.
    for suffix in ("", "-wal"):
        source = sqlite_template.with_name(sqlite_template.name + suffix)
        if source.exists():
            shutil.copyfile(source, path.with_name(path.name + suffix))
    return f"sqlite+aiosqlite:///{path}"


@pytest.fixture(params=BACKENDS)
def database_url(request: pytest.FixtureRequest) -> str:
    """A migrated database of this test's own, once per backend; PostgreSQL starts only if something asks for it."""
    return cast("str", request.getfixturevalue(f"{request.param}_url"))
