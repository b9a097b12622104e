"""Units, readers and statements: commit, rollback, who may come between, and what an outage looks like."""

import asyncio
import importlib
import pkgutil
import sqlite3
from pathlib import Path

import pytest
import sqlalchemy as sa

import store
from contracts.errors import StoreUnavailable
from store import prompts, runs, watch, workers
from store.connect import Database
from store.journal import Journal
from store.migrate import upgrade
from store.statement import Statement, text
from store.tables import workers as workers_table
from store.unit import Refused
from tests.store.making import NOW, TENANT, Hands, Recorder, birth, born, new_id, now_of, prompt, write

ADD = Statement(sa.insert(workers_table).values(worker_id=text("worker_id"), beat=0, beat_at=NOW, info_json="{}"))


async def add(database: Database, *workers: str, fails: bool = False) -> None:
    async with database.unit() as unit:
        for worker in workers:
            await unit.execute(ADD, worker_id=worker)
        if fails:
            raise ZeroDivisionError


async def names(database: Database) -> list[str]:
    return sorted(beat.worker_id for beat in (await watch.look(database, "w", NOW, 1)).beats)


async def test_a_clean_exit_commits_and_an_exception_rolls_back(database: Database) -> None:
    async with database.unit() as unit:
        assert await unit.execute(ADD, worker_id="a") == 1
    with pytest.raises(ZeroDivisionError):
        await add(database, "b", fails=True)
    with pytest.raises(Refused):
        await add(database, "c", "a")
    async with database.unit() as unit:
        await unit.execute(ADD, worker_id="d")
    assert await names(database) == ["a", "d"]


async def test_many_units_at_once_all_commit(database: Database) -> None:
    """More than there are connections."""
    await asyncio.gather(*(workers.enlist(database, f"w{number:02}", NOW) for number in range(40)))
    assert await names(database) == [f"w{number:02}" for number in range(40)]


async def test_readers_see_what_is_committed(database: Database, journal: Journal) -> None:
    for _ in range(20):
        run_id = await born(journal)
        rows = await asyncio.gather(*(runs.run_row(database, TENANT, run_id) for _ in range(6)))
        assert {row and row.run_id for row in rows} == {run_id}


async def test_crash_points_of_a_named_unit(database: Database, crash: Recorder) -> None:
    for name in ("decide", "signal"):
        async with database.unit(name):
            pass
    with pytest.raises(ZeroDivisionError):
        async with database.unit("decide"):
            raise ZeroDivisionError
    decided = ["decide.begin", "decide.before_commit", "decide.after_commit"]
    assert crash.seen == [*decided, "signal.before_commit", "signal.after_commit", "decide.begin"]
    with pytest.raises(ValueError, match="no crash point"):
        database.unit("unheard-of")


@pytest.mark.parametrize("params", [{}, {"worker_id": "a", "more": 1}, {"worker": "a"}])
async def test_a_statement_takes_exactly_its_parameters(database: Database, params: dict[str, object]) -> None:
    with pytest.raises(TypeError, match="needed"):
        async with database.unit() as unit:
            await unit.execute(ADD, **params)


async def test_text_that_cannot_be_stored_is_refused(database: Database) -> None:
    with pytest.raises(Refused):
        async with database.unit() as unit:
            await unit.execute(ADD, worker_id="\ud800")
    assert await names(database) == []


@pytest.mark.parametrize(
    "url", ["sqlite:///x.db", "mysql://h/d", "sqlite+aiosqlite://", "sqlite+aiosqlite:///:memory:"]
)
async def test_other_urls_are_refused(url: str, clock: Hands) -> None:
    with pytest.raises(ValueError, match=r"database|readers"):
        await Database.open(url, clock=clock)


async def test_a_server_that_is_not_there_is_an_error(clock: Hands, tmp_path: Path) -> None:
    """H7: a storage failure is an error, never an empty list."""
    for url in ("postgresql+asyncpg://u:p@127.0.0.1:1/x", f"sqlite+aiosqlite:///{tmp_path}/no/such/directory/a.db"):
        with pytest.raises(StoreUnavailable):
            await Database.open(url, clock=clock)
        with pytest.raises(StoreUnavailable):
            upgrade(url)


# --- SQLite only -----------------------------------------------------------------------------------------------------


async def test_awaiting_something_else_inside_a_unit_is_found(sqlite_url: str, clock: Hands) -> None:
    """Design §4: nothing comes between BEGIN and COMMIT; a unit that suspends is a bug, and says so."""
    database = await Database.open(sqlite_url, clock=clock)
    async with database.unit():
        with pytest.raises(RuntimeError, match="only the unit may be awaited"):
            async with database.unit():
                pass
    await workers.enlist(database, "a", NOW)
    assert await names(database) == ["a"]
    await database.close()


async def test_another_process_that_writes_is_waited_for(sqlite_url: str, clock: Hands) -> None:
    """Design §4: the wait is outside of the transaction; other coroutines go on, and nothing is lost."""
    database = await Database.open(sqlite_url, clock=clock)
    journal = Journal(database)
    await journal.start()
    run_id = await born(journal)
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite+aiosqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    going_on, unit = journal.append(write(run_id, 2)), asyncio.create_task(workers.enlist(database, "a", NOW))
    assert (await runs.run_row(database, TENANT, run_id)) == await now_of(database, run_id)
    assert not going_on.done()
    assert not unit.done()
    other.execute("ROLLBACK")
    other.close()
    await asyncio.gather(going_on, unit)
    assert (await now_of(database, run_id)).last_seq == 3
    assert await names(database) == ["a", "w1"]
    await journal.close()
    await database.close()


async def test_a_lock_that_is_never_given_up_is_an_outage(sqlite_url: str, clock: Hands) -> None:
    """A unit and a birth give up after a bounded time; a write of a holder is kept."""
    database = await Database.open(sqlite_url, clock=clock)
    journal = Journal(database)
    await journal.start()
    run_id = await born(journal)
    other = sqlite3.connect(sqlite_url.removeprefix("sqlite+aiosqlite:///"), isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    unit = asyncio.create_task(workers.enlist(database, "a", NOW))
    going_on, accepted = journal.append(write(run_id, 2)), journal.birth(birth(new_id()))
    await runs.run_row(database, TENANT, run_id)
    clock.ms += 60_000
    for hopeless in (unit, accepted):
        with pytest.raises(StoreUnavailable):
            await hopeless
    assert not going_on.done()
    other.execute("ROLLBACK")
    other.close()
    assert (await going_on).released is False
    assert len((await runs.run_page(database, TENANT, limit=10)).rows) == 1
    await journal.close()
    await database.close()


async def test_only_the_prompt_rows_are_locked_by_deciding(database: Database, journal: Journal) -> None:
    """A decision under way does not stop the journal from going on with the run, nor its end."""
    run_id = await born(journal)
    asked = prompt(run_id)
    await journal.append(write(run_id, 2, prompts=[asked]))
    async with database.unit("decide") as unit:
        assert await prompts.lock(unit, TENANT, asked.prompt_id) is not None
        assert await prompts.settle(unit, TENANT, asked.prompt_id, "{}", NOW)
    assert (await journal.append(write(run_id, 3, status="failed"))).released
    settled = await prompts.get(database, TENANT, asked.prompt_id)
    assert settled is not None
    assert settled.status == "settled"


def test_every_statement_compiles_for_both_databases() -> None:
    """A statement is compiled when it is first used; one that cannot be must not wait for that."""
    found = 0
    for module in pkgutil.iter_modules(store.__path__):
        for value in vars(importlib.import_module(f"store.{module.name}")).values():
            if isinstance(value, Statement):
                found += 1
                assert value.sqlite.sql
                assert value.postgresql.sql
    assert found > 100
