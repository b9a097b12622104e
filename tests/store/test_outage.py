"""PostgreSQL goes away: nothing is lost, nothing is doubled, and nobody waits for ever (P1, F10)."""

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import pytest

from contracts.errors import StoreUnavailable
from store import events, runs, workers
from store.connect import Database
from store.journal import Fenced, Journal
from store.rows import Written
from tests.postgres import PostgresServer, postgres_server
from tests.store.making import NOW, TENANT, Hands, birth, born, new_id, now_of, seqs, write

pytestmark = pytest.mark.chaos


class Wire:
    """A TCP proxy that can swallow the server's next answer and hang up: the commit happens, nobody hears of it."""

    def __init__(self) -> None:
        self.swallow = False
        self.port = 0
        self._server: asyncio.Server | None = None
        self._target = 0
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self, target: int) -> None:
        self._target = target
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0)
        self.port = self._server.sockets[0].getsockname()[1]

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        behind_reader, behind_writer = await asyncio.open_connection("127.0.0.1", self._target)
        for source, sink, answers in ((reader, behind_writer, False), (behind_reader, writer, True)):
            task = asyncio.create_task(self._pump(source, sink, answers))
            self._tasks.add(task)

    async def _pump(self, source: asyncio.StreamReader, sink: asyncio.StreamWriter, answers: bool) -> None:
        try:
            while data := await source.read(65_536):
                if answers and self.swallow:
                    self.swallow = False
                    break
                sink.write(data)
        except ConnectionError:
            return
        finally:
            sink.close()


class Cutting:
    """Crash points that swallow the answer to the next commit of this name."""

    def __init__(self, wire: Wire) -> None:
        self.wire, self.at = wire, ""

    def reach(self, point: str) -> None:
        if point == self.at:
            self.at, self.wire.swallow = "", True


@pytest.fixture(scope="module")
def own_server() -> Iterator[PostgresServer]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def own_url(own_server: PostgresServer, migrate: Callable[[str], None]) -> str:
    name = new_id("db")
    own_server.create_database(name)
    migrate(own_server.url(name))
    return own_server.url(name)


@pytest.fixture
async def own_database(own_url: str, clock: Hands) -> AsyncIterator[Database]:
    database = await Database.open(own_url, clock=clock)
    yield database
    await database.close()


async def ticks(number: int) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


@pytest.mark.parametrize("after", [1, 4, 16, 64])
async def test_nothing_is_lost_or_doubled_when_the_server_dies(
    own_server: PostgresServer, own_database: Database, after: int
) -> None:
    """Design §4: the journal keeps its batch and tries again; the fence keeps it from writing twice."""
    journal = Journal(own_database)
    await journal.start()

    async def live(run_id: str) -> None:
        await journal.birth(birth(run_id, key=run_id))
        for seq in range(2, 12):
            assert await journal.append(write(run_id, seq)) == Written(False, 0)
        await journal.append(write(run_id, 12, status="completed"))

    ids = [new_id() for _ in range(30)]
    lives = [asyncio.create_task(live(run_id)) for run_id in ids]
    for _ in range(2):
        await ticks(after)
        own_server.kill()
        own_server.start()
    await asyncio.gather(*lives)
    for run_id in ids:
        assert seqs(await events.events_after(own_database, TENANT, run_id, 0, 100)) == list(range(1, 14))
        assert (await now_of(own_database, run_id)).status == "completed"
    assert len((await runs.run_page(own_database, TENANT, limit=100)).rows) == 30
    await journal.close()


async def test_while_the_server_is_away_births_fail_and_writes_wait(
    own_server: PostgresServer, own_database: Database, clock: Hands
) -> None:
    journal = Journal(own_database)
    await journal.start()
    run_id = await born(journal)
    own_server.kill()
    with pytest.raises(StoreUnavailable):
        await workers.enlist(own_database, "a", NOW)
    with pytest.raises(StoreUnavailable):
        await runs.run_page(own_database, TENANT, limit=1)
    going_on = journal.append(write(run_id, 2))
    await ticks(5)
    # The journal is busy with the write, so this one is surely not on its way: it can be given up.
    late = journal.birth(birth(new_id()))
    clock.ms += 60_000
    with pytest.raises(StoreUnavailable):
        await late
    assert not going_on.done()
    own_server.start()
    assert await going_on == Written(False, 0)
    assert len((await runs.run_page(own_database, TENANT, limit=10)).rows) == 1
    await journal.close()


@pytest.fixture
async def wire(own_server: PostgresServer) -> AsyncIterator[Wire]:
    made = Wire()
    await made.start(own_server.port)
    yield made
    await made.close()


@pytest.fixture
async def cut(
    wire: Wire, own_server: PostgresServer, own_url: str, clock: Hands
) -> AsyncIterator[tuple[Cutting, Database, Journal]]:
    cutting = Cutting(wire)
    database = await Database.open(
        own_url.replace(f":{own_server.port}/", f":{wire.port}/"), clock=clock, crash=cutting
    )
    journal = Journal(database)
    await journal.start()
    yield cutting, database, journal
    await journal.close()
    await database.close()


@pytest.mark.parametrize(
    "more", [{}, {"status": "waiting", "release": True}, {"status": "failed"}, {"forgotten": ["a"]}]
)
async def test_a_write_whose_answer_is_lost_is_read_back(
    cut: tuple[Cutting, Database, Journal], more: dict[str, Any]
) -> None:
    """Design §4: `last_seq = new` under my epoch means committed."""
    cutting, database, journal = cut
    await journal.append(write(await born(journal), 2, **more))
    run_id = await born(journal)
    cutting.at = "journal.before_commit"
    written = await journal.append(write(run_id, 2, **more))
    assert cutting.at == ""
    assert written.released == ("status" in more)
    assert (await now_of(database, run_id)).last_seq == 3


@pytest.mark.parametrize("key", [None, "k"])
async def test_a_birth_whose_answer_is_lost_is_read_back(
    cut: tuple[Cutting, Database, Journal], clock: Hands, key: str | None
) -> None:
    cutting, database, journal = cut
    await born(journal, key=key and "warm")
    cutting.at = "accept.before_commit"
    run_id = new_id()
    accepted = journal.birth(birth(run_id, key=key))
    clock.ms += 60_000
    assert (await accepted).run_id == run_id
    assert not (await accepted).existing
    assert (await now_of(database, run_id)).last_seq == 2


@pytest.mark.parametrize("since", ["walked", "ended", "given to the same worker"])
async def test_a_birth_whose_answer_is_lost_is_not_taken_for_anothers_of_that_name(
    cut: tuple[Cutting, Database, Journal], own_url: str, clock: Hands, since: str
) -> None:
    """W6: two processes bear the run that a turn has named; only the one that has borne it may walk and show it."""
    cutting, database, journal = cut
    await born(journal, key="warm")
    other_database = await Database.open(own_url, clock=clock)
    other = Journal(other_database)
    await other.start()
    run_id = new_id()
    worker = "w1" if since == "given to the same worker" else "w2"
    assert not (await other.birth(birth(run_id, key="k", worker=worker))).existing
    if since == "ended":
        await other.append(write(run_id, 2, status="completed"))
    await other.close()
    await other_database.close()
    cutting.at = "accept.before_commit"
    assert (await journal.birth(birth(run_id, key="k", created_at=NOW + 1))).existing
    assert cutting.at == ""
    assert (await now_of(database, run_id)).worker == (None if since == "ended" else worker)


async def test_a_lease_lost_during_the_outage_fences(
    own_server: PostgresServer, own_url: str, own_database: Database
) -> None:
    """A zombie that comes back after another took its run writes nothing."""
    journal = Journal(own_database)
    await journal.start()
    run_id = await born(journal)
    own_server.kill()
    going_on = journal.append(write(run_id, 2))
    await ticks(3)
    own_server.start()
    own_server.sql("UPDATE runs SET worker = NULL, epoch = 2", own_url.rpartition("/")[2])
    with pytest.raises(Fenced):
        await going_on
    await journal.close()
