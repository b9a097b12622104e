"""The proxy cuts exactly where it says, seen from a client and from the table that the client wrote."""

import struct
from collections.abc import Coroutine, Iterator
from typing import Any

import asyncpg
import pytest

from tests.chaos.postgres_wire import SSL_REQUEST, Frontend
from tests.chaos.proxy import MOMENTS, Proxy
from tests.durability.waiting import until
from tests.postgres import PostgresServer

pytestmark = pytest.mark.chaos
GONE = (asyncpg.PostgresConnectionError, OSError)


@pytest.fixture(scope="module")
def numbers(own_server: PostgresServer) -> Iterator[str]:
    """A database with a table of numbers."""
    own_server.create_database("proxied")
    own_server.sql("CREATE TABLE numbers (number int PRIMARY KEY)", "proxied")
    yield "proxied"
    own_server.drop_database("proxied")


@pytest.fixture
def database(own_server: PostgresServer, numbers: str) -> str:
    """The same, and the table is empty."""
    own_server.sql("TRUNCATE numbers", numbers)
    return numbers


@pytest.fixture
def proxy(own_server: PostgresServer) -> Iterator[Proxy]:
    with Proxy(own_server.port, "seed") as found:
        yield found


async def through(proxy: Proxy, server: PostgresServer, database: str) -> asyncpg.Connection:
    return await asyncpg.connect(server.dsn(database).replace(f":{server.port}/", f":{proxy.port}/"), timeout=5)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("prepared", [True, False], ids=["one statement", "transaction"])
async def test_the_client_loses_its_connection_and_the_server_knows(
    own_server: PostgresServer,
    database: str,
    proxy: Proxy,
    monkeypatch: pytest.MonkeyPatch,
    moment: str,
    prepared: bool,
) -> None:
    """``before`` and ``inside`` leave nothing, ``after`` leaves all; the client is told nothing in any case."""
    monkeypatch.setattr(proxy, "moment", drawn(proxy, moment))
    client = await through(proxy, own_server, database)
    commit: Coroutine[Any, Any, Any]
    if prepared:
        commit = (await client.prepare("INSERT INTO numbers VALUES ($1)")).fetch(1)
    else:
        await client.execute("BEGIN")
        await client.execute("INSERT INTO numbers VALUES (1)")
        commit = client.execute("COMMIT")
    proxy.arm(1)
    with pytest.raises(GONE):
        await commit
    client.terminate()
    assert proxy.armed == 0

    def is_there() -> bool:
        return own_server.sql("SELECT number FROM numbers", database) == "1"

    if moment == "after":
        assert is_there()
    elif moment != "racing":  # then either may be
        assert not is_there()


def drawn(proxy: Proxy, moment: str) -> object:
    """In place of chance."""

    def choose() -> str | None:
        if proxy.armed == 0:
            return None
        proxy.arm(0)
        return moment

    return choose


async def test_what_is_not_cut_passes(own_server: PostgresServer, database: str, proxy: Proxy) -> None:
    client = await through(proxy, own_server, database)
    await client.execute("INSERT INTO numbers SELECT generate_series(1, 5000)")
    assert len(await client.fetch("SELECT number FROM numbers")) == 5_000
    await client.close()
    assert proxy.cuts.total() == 0


async def test_parted_means_late(own_server: PostgresServer, database: str, proxy: Proxy) -> None:
    """What was said while the two were parted arrives when they are joined."""
    client = await through(proxy, own_server, database)
    proxy.part(silently=True)
    with pytest.raises(TimeoutError):
        await client.execute("INSERT INTO numbers VALUES (1)", timeout=0.2)
    assert own_server.sql("SELECT count(*) FROM numbers", database) == "0"
    proxy.join()
    await until(lambda: own_server.sql("SELECT count(*) FROM numbers", database) == "1", 5, "the late number")
    client.terminate()


def test_the_startup_has_messages_of_its_own() -> None:
    """A request for encryption and the startup message carry no type; everything after them does, in any pieces."""
    talk = struct.pack("!ii", 8, SSL_REQUEST) + struct.pack("!ii", 9, 196_608) + b"\0"
    talk += b"Q\0\0\0\x0aBEGIN\0" + b"Q\0\0\0\x0bcommit\0"
    frontend = Frontend()
    messages = [message for at in range(len(talk)) for message in frontend.feed(talk[at : at + 1])]
    assert b"".join(message.data for message in messages) == talk
    assert [message.runs for message in messages] == ["", "", "BEGIN", "COMMIT"]
    assert [message.commits for message in messages] == [False, False, False, True]
    assert messages[-1].inside
